//! Requests that nobody sends on purpose.
//!
//! What Envoy refuses, or takes although it looks wrong: each list is for one part of a request. Invariant: what is generated can be
//! written to an HTTP/1.1 connection as it is, one request with an end.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::request::GeneratedRequest;

/// Methods, most of them none.
pub fn methods() -> Vec<String> {
    let known = [
        "M-SEARCH",
        "MSEARCH",
        "get",
        "Get",
        "FOO",
        "PRI",
        "CONNECT",
        "TRACE",
        "QUERY",
        "G",
        "GET\u{1}",
        "G\u{e9}T",
        "G T",
        "GET\t",
        "GET ",
        "\u{1}GET",
        "\tGET",
        "GET\u{b}",
        "GET\u{1}X",
    ];
    let mut out: Vec<String> = known.iter().map(ToString::to_string).collect();
    out.push("A".repeat(70_000));
    out.push("GET ".repeat(20_000));
    out.push(format!("G\u{e9}{}", "A".repeat(70_000)));
    out
}

/// Request targets.
pub fn paths() -> Vec<String> {
    let known = [
        "*",
        "nopath",
        "//",
        "///a//b",
        "/..",
        "/../..",
        "/a/../../b",
        "/./.",
        "/%00",
        "/%2e%2E/a",
        "/%zz",
        "/%",
        "/a%2Fb",
        "/a\\b",
        "/?",
        "/#",
        "/a#b?c",
        "/a?b#c",
        "/a b",
        "/a\tb",
        "/a ",
        " /a\t ",
        "/a\u{1}",
        "/a\u{7f}",
        "/\u{e9}",
        "?a",
        "#a",
        "http://",
        "http:///a",
        "HTTP://b.test/x",
        "http://bookinfo.test",
        "http://b test/",
        "https://u@b.test:1/x",
        "ftp://b.test/",
        "://b.test/",
        "http:/b",
        "http://a|b/",
        "http://b.test#a",
        "http://b.test?a#b",
        "http://a@@b/",
        "http://a@b@c/",
        "http://?a",
        "*a",
        "*?a",
        "b.test:80",
        "/;/a;b/../c",
        "/a//../b",
        "/.../a",
        "/a/.",
        "/a/..",
        "/%2f",
        "/%5C",
        "/{}|^`<>\"",
        "/a?%00",
        "/a?\\..\\",
        "/a/..;/b",
        "/a/..;x=1;y/b",
        "/a/.;x/b",
        "/a/..;",
        "/..;%2fb",
        "/a/b..;/c",
        "/a/%2e%2e;/b",
        "/a/..%3b/b",
        "/a\\..;/b",
        "/a?/..;/b",
    ];
    let mut out: Vec<String> = known.iter().map(ToString::to_string).collect();
    out.push(format!("/{}", "a".repeat(50_000)));
    out.push(format!("/{}", "a".repeat(100_000)));
    out.push("/".repeat(50_000));
    for begin in ["://", "a", "/a b", "/\u{7f}", "/\u{e9}", "http://", "http://a b"] {
        out.push(format!("{begin}{}", "a".repeat(70_000)));
    }
    out.push("/..".repeat(20_000));
    out.push(format!("/a?{}", "p=1&".repeat(10_000)));
    out.push(format!("/a?{}", "&".repeat(20_000)));
    out.push(format!("/{}", "%61".repeat(15_000)));
    out
}

/// Hosts.
pub fn hosts() -> Vec<String> {
    let known = [
        "",
        "a b",
        "a:b",
        "a:99999",
        "reviews:",
        ":9080",
        "[::1]",
        "[::1]:9080",
        "[",
        "]",
        "a..b",
        "a,b",
        "\u{e9}",
        "%41",
        "a/b",
        "u@a",
        "a?b",
        "a#b",
        "a\\b",
        "a\tb",
        "a\u{1}b",
        "REVIEWS:9080",
        "reviews.",
        "*",
        "*.b",
        "a_b",
        "-",
        "reviews:09080",
        "<a>",
        "a|b",
        "a^b",
        "a\"b",
    ];
    let mut out: Vec<String> = known.iter().map(ToString::to_string).collect();
    out.push("a".repeat(50_000));
    out.push("a".repeat(70_000));
    out
}

/// Headers, as the lines of one request.
pub fn lines() -> Vec<Vec<(String, String)>> {
    let known: &[(&str, &str)] = &[
        ("", "a"),
        ("a b", "1"),
        (" a", "1"),
        ("a ", "1"),
        ("\u{e9}", "1"),
        ("a\u{1}", "1"),
        ("a(b", "1"),
        ("x_y", "1"),
        ("X-Upper", "1"),
        (":path", "/b"),
        ("host", "other"),
        ("x", ""),
        ("x", "\t a \t"),
        ("x", "a\u{1}b"),
        ("x", "a\u{7f}b"),
        ("x", "a\u{0}b"),
        ("x", "\u{e9}"),
        ("x", "a\rb"),
        ("content-length", ""),
        ("content-length", "+5"),
        ("content-length", "-1"),
        ("content-length", "5,5"),
        ("content-length", "0x5"),
        ("content-length", " 0 "),
        ("content-length", "00"),
        ("content-length", "18446744073709551616"),
        ("transfer-encoding", "Chunked"),
        ("transfer-encoding", "chunked, chunked"),
        ("transfer-encoding", "gzip, chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("connection", ""),
        ("connection", ",,,"),
        ("connection", "close, te"),
        ("connection", "a,b,c,d,e,f,g,h,i"),
        ("connection", "a,b,c,d,e,f,g,h,i,j"),
        ("connection", "host"),
        ("connection", ":path"),
        ("connection", "x-forwarded-proto"),
        ("te", "trailers"),
        ("te", "gzip"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("x-forwarded-for", ""),
        ("x-forwarded-for", "not an address"),
        ("x-forwarded-for", ",,,,"),
        ("x-forwarded-proto", ""),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-proto", "HTTPS"),
        ("x-request-id", ""),
        ("x-request-id", "not-a-uuid"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "1Y"),
        ("grpc-timeout", "99999999999H"),
        ("referer", "://"),
        ("referer", ""),
        ("referer", "mailto:x"),
        ("referer", "http://a#f"),
        ("referer", "http://a/#"),
        ("referer", "http://user@a/"),
        ("referer", "http://@a/"),
        ("referer", "http://a:99999/"),
        ("referer", "http://a_b/"),
        ("referer", "http://[::1]:80/|"),
        ("referer", "a+b://x"),
        ("referer", "/a|"),
        ("referer", "a/b:c?d"),
        ("referer", "?:"),
        ("referer", "/\u{e9}"),
        ("cookie", ""),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-internal", "true"),
        ("x-envoy-decorator-operation", ""),
        ("expect", "nonsense"),
        ("proxy-connection", "close"),
        ("keep-alive", "x"),
        ("trailer", "x"),
        ("via", ""),
        ("early-data", "1"),
    ];
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut out: Vec<Vec<(String, String)>> =
        known.iter().map(|(name, value)| vec![pair(name, value)]).collect();
    out.push(vec![pair("x", &"a".repeat(100_000))]);
    out.push(vec![pair(&"x".repeat(50_000), "1")]);
    out.push(vec![pair(&"x".repeat(70_000), "1")]);
    for count in [90, 97, 98, 99, 100, 1_000, 10_000] {
        out.push((0..count).map(|number| pair(&format!("x{number}"), "1")).collect());
    }
    out.push((0..90).map(|_| pair("cookie", "a=b")).collect());
    out.push((0..90).map(|_| pair("x-forwarded-for", "192.0.2.1")).collect());
    out.push((0..60).map(|_| pair("x", &"a".repeat(1_000))).collect());
    out.push(vec![pair("content-length", "0"), pair("content-length", "0")]);
    out.push(vec![pair("content-length", "0"), pair("transfer-encoding", "chunked")]);
    out.push(vec![pair("transfer-encoding", "chunked"), pair("transfer-encoding", "chunked")]);
    for encoding in ["chunked", "gzip", "gzip, chunked", ""] {
        for length in ["", "0x5", "5,5"] {
            out.push(vec![pair("content-length", length), pair("transfer-encoding", encoding)]);
        }
        out.push(vec![
            pair("content-length", "0"),
            pair("content-length", "0"),
            pair("transfer-encoding", encoding),
        ]);
    }
    out.push(vec![pair("connection", "upgrade"), pair("upgrade", "foo")]);
    out.push(vec![pair("connection", "close"), pair("connection", "keep-alive")]);
    out.push(vec![pair("host", "a"), pair("host", "b")]);
    out
}

/// What is out of place in one part of a request.
#[derive(Clone, Debug)]
enum Oddity {
    Method(String),
    Path(String),
    Host(String),
    Lines(Vec<(String, String)>),
}

fn oddity() -> impl Strategy<Value = Oddity> {
    prop_oneof![
        1 => select(methods()).prop_map(Oddity::Method),
        3 => select(paths()).prop_map(Oddity::Path),
        2 => select(hosts()).prop_map(Oddity::Host),
        4 => select(lines()).prop_map(Oddity::Lines),
    ]
}

/// A request with one or two absurd parts.
pub fn absurd(plain: impl Strategy<Value = GeneratedRequest>) -> impl Strategy<Value = GeneratedRequest> {
    (plain, vec(oddity(), 1..3)).prop_map(|(mut generated, oddities)| {
        let request = &mut generated.request;
        for oddity in oddities {
            match oddity {
                Oddity::Method(method) => request.method = method.into(),
                Oddity::Path(path) => request.path = path.into(),
                Oddity::Host(host) => request.authority = host.into(),
                Oddity::Lines(lines) => {
                    request
                        .headers
                        .extend(lines.into_iter().map(|(name, value)| (name.into(), value.into())));
                }
            }
        }
        generated
    })
}
