//! Requests that nobody sends on purpose.
//!
//! Each has one thing that is out of place, so that what answers it is known; some have two, so that it is seen which comes first.

use dryroute::envoy::HttpRequest;
use smol_str::SmolStr;

/// A path that a route takes.
const PATH: &str = "/productpage";

/// A request and what is absurd about it.
pub type Absurd = (String, HttpRequest);

fn request(method: &str, path: &str, authority: &str, headers: &[(&str, &str)]) -> HttpRequest {
    HttpRequest {
        method: method.into(),
        path: path.into(),
        authority: authority.into(),
        scheme: None,
        headers: headers.iter().map(|(name, value)| (SmolStr::new(name), SmolStr::new(value))).collect(),
    }
}

fn methods() -> Vec<String> {
    let known = [
        "M-SEARCH", "MSEARCH", "get", "Get", "FOO", "PRI", "CONNECT", "TRACE", "G", "GET\u{1}", "G\u{e9}T",
        "G T",
    ];
    let mut out: Vec<String> = known.iter().map(ToString::to_string).collect();
    out.push("A".repeat(70_000));
    out
}

fn paths() -> Vec<String> {
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
    ];
    let mut out: Vec<String> = known.iter().map(ToString::to_string).collect();
    out.push(format!("/{}", "a".repeat(50_000)));
    out.push(format!("/{}", "a".repeat(100_000)));
    out.push("/".repeat(50_000));
    out.push("/..".repeat(20_000));
    out.push(format!("/a?{}", "p=1&".repeat(10_000)));
    out.push(format!("/a?{}", "&".repeat(20_000)));
    out.push(format!("/{}", "%61".repeat(15_000)));
    out
}

fn hosts() -> Vec<String> {
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

fn lines() -> Vec<Vec<(String, String)>> {
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
    out.push(vec![pair("connection", "upgrade"), pair("upgrade", "foo")]);
    out.push(vec![pair("connection", "close"), pair("connection", "keep-alive")]);
    out.push(vec![pair("host", "a"), pair("host", "b")]);
    out
}

/// A text as an error shows it.
fn short(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

/// All of them, for a host that the proxy knows.
pub fn requests(host: &str) -> Vec<Absurd> {
    let mut out: Vec<Absurd> = Vec::new();
    for method in methods() {
        out.push((format!("method {}", short(&method)), request(&method, "/", host, &[])));
        // What is wrong with the method comes first, or last.
        out.push((format!("method {} and host", short(&method)), request(&method, "/a\u{1}", "a b", &[])));
    }
    let many: Vec<(String, &str)> = (0..200).map(|number| (format!("x{number}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let long = "a".repeat(100_000);
    let control = [("x", "a\u{1}b")];
    for (name, lines) in [
        ("many lines", &many[..]),
        ("a long line", &[("x", long.as_str())]),
        ("a control character", &control),
    ] {
        out.push((format!("method get and {name}"), request("get", "/", host, lines)));
        out.push((format!("no path and {name}"), request("GET", "nopath", host, lines)));
        out.push((
            format!("a bad name and {name}"),
            request("GET", "/", host, &[lines, &[("a b", "1")]].concat()),
        ));
        out.push((
            format!("a bad length and {name}"),
            request("GET", "/", host, &[lines, &[("content-length", "x")]].concat()),
        ));
        out.push((
            format!("a bad encoding and {name}"),
            request("GET", "/", host, &[lines, &[("transfer-encoding", "x")]].concat()),
        ));
    }
    // The last length that is read, and the first that is not.
    for length in 61_300..61_420 {
        out.push((format!("{length} characters"), request("GET", PATH, host, &[("x", &"a".repeat(length))])));
    }
    for path in paths() {
        for method in ["GET", "OPTIONS"] {
            out.push((format!("{method} path {}", short(&path)), request(method, &path, host, &[])));
        }
    }
    for absurd in hosts() {
        out.push((format!("host {}", short(&absurd)), request("GET", PATH, &absurd, &[])));
        out.push((format!("host {} and path", short(&absurd)), request("GET", "/a%00b", &absurd, &[])));
    }
    for lines in lines() {
        let shown = short(
            &lines.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", "),
        );
        let lines: Vec<(&str, &str)> =
            lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for method in ["GET", "HEAD"] {
            let name = format!("{method} {} lines, the first {shown}", lines.len());
            out.push((name, request(method, PATH, host, &lines)));
        }
        let name = format!("{} lines, the first {shown}, and host", lines.len());
        out.push((name, request("GET", PATH, "a b", &lines)));
    }
    out
}
