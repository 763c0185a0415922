//! Measured with Envoy 1.40, by a client that sends any field.

use super::*;
use crate::envoy::http::codec::tests::options;

fn request(method: &str, path: &str, lines: &[(&str, &str)]) -> HttpRequest {
    HttpRequest {
        method: method.into(),
        path: path.into(),
        authority: "b.test".into(),
        scheme: Some("http".into()),
        headers: lines.iter().map(|(k, v)| (SmolStr::new(k), SmolStr::new(v))).collect(),
        no_host: false,
        body: Body::Bytes(0),
    }
}

fn fault(mut request: HttpRequest) -> Option<Fault> {
    read(&mut request, &options(), &mut Ledger::default()).err()
}

#[test]
fn fields_that_http2_does_not_have_close_the_connection() {
    for (name, value, taken) in [
        ("x-a", "a\tb", true),
        ("x-a", "\u{e9}", true),
        ("x-a", " a ", true),
        ("x-a", "", true),
        ("x-a", "a\u{1}b", false),
        ("x-a", "a\rb", false),
        ("x-a", "a\u{7f}b", false),
        ("x_y", "1", true),
        ("x y", "1", false),
        ("X-A", "1", false),
        ("\u{e9}", "1", false),
        ("", "1", false),
        (":path", "1", false),
        ("te", "trailers", true),
        ("te", "Trailers", true),
        ("te", "trailers, gzip", false),
        ("te", "", false),
        ("connection", "", false),
        ("keep-alive", "x", false),
        ("proxy-connection", "x", false),
        ("transfer-encoding", "chunked", false),
        ("upgrade", "websocket", false),
        ("http2-settings", "x", true),
        ("host", "c.test", true),
        ("host", "", false),
        ("host", "u@b", false),
        ("content-length", "0", true),
        ("content-length", "", false),
        ("content-length", "x", false),
        ("content-length", "+3", false),
        ("content-length", "3,3", false),
        ("content-length", "18446744073709551616", false),
    ] {
        let expected = (!taken).then_some(Fault::Field);
        assert_eq!(fault(request("GET", "/w1", &[(name, value)])), expected, "{name}: {value:?}");
    }
    for name in ["host", "content-length"] {
        let lines = [(name, "0"), (name, "0")];
        assert_eq!(fault(request("GET", "/", &lines)), Some(Fault::Field), "{name}");
    }
}

#[test]
fn pseudo_headers_are_strict() {
    for (method, path, expected) in [
        ("g", "/", None),
        ("GE T", "/", Some(Fault::Field)),
        ("GE/T", "/", Some(Fault::Field)),
        ("", "/", Some(Fault::Field)),
        ("GET", "/\"<>\\^`{|}\u{e9}#", None),
        ("GET", "/a b", Some(Fault::Field)),
        ("GET", "/a\u{7f}", Some(Fault::Field)),
        ("GET", "", Some(Fault::Field)),
        ("GET", "*", Some(Fault::Messaging)),
        ("GET", "w1", Some(Fault::Messaging)),
        ("GET", "?", Some(Fault::Messaging)),
        ("OPTIONS", "*", None),
        ("OPTIONS", "*a", Some(Fault::Messaging)),
        ("CONNECT", "/", Some(Fault::Messaging)),
    ] {
        assert_eq!(fault(request(method, path, &[])), expected, "{method} {path}");
    }
    for (authority, taken) in
        [("[::1]", true), ("a%20b:x:y", true), ("a@b", false), ("a b", false), ("a/b", false), ("", false)]
    {
        let sent = HttpRequest { authority: authority.into(), ..request("GET", "/", &[]) };
        assert_eq!(fault(sent).is_none(), taken, "{authority}");
    }
    for (scheme, path, expected) in [
        ("h+t.p-1", "w1", None),
        ("HTTP", "w1", Some(Fault::Messaging)),
        ("1http", "/", Some(Fault::Field)),
        ("http:", "/", Some(Fault::Field)),
    ] {
        let sent = HttpRequest { scheme: Some(scheme.into()), ..request("GET", path, &[]) };
        assert_eq!(fault(sent), expected, "{scheme}");
    }
    let nobody = HttpRequest { no_host: true, authority: SmolStr::default(), ..request("GET", "/", &[]) };
    assert_eq!(fault(nobody), Some(Fault::Messaging));
    let tunnel = HttpRequest { scheme: None, ..request("CONNECT", "", &[]) };
    assert_eq!(fault(tunnel), None);
}

#[test]
fn a_body_has_to_be_as_long_as_it_says() {
    let length = [("content-length", "03")];
    let sent = |body| HttpRequest { body, ..request("POST", "/", &length) };
    assert_eq!(fault(sent(Body::Bytes(0))), Some(Fault::Messaging));
    for (body, mismatched) in
        [(Body::Bytes(3), false), (Body::Bytes(2), true), (Body::Declared, false), (Body::Stream, false)]
    {
        assert_eq!(fault(sent(body)), None);
        assert_eq!(is_mismatched(&sent(body)), mismatched, "{body:?}");
    }
}

#[test]
fn cookies_become_one_behind_all_other_fields() {
    let lines = [
        ("cookie", "a=1"),
        ("x-a", "1"),
        ("cookie", "b=2"),
        ("cookie", ""),
        ("cookie", "c"),
        ("accept", "x"),
    ];
    let mut sent = request("GET", "/", &[&lines[..], &[("host", "c.test"), ("accept", "y")]].concat());
    read(&mut sent, &options(), &mut Ledger::default()).unwrap();
    assert_eq!(sent.authority, "b.test");
    let left: Vec<(&str, &str)> = sent.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(left, [("x-a", "1"), ("accept", "x,y"), ("cookie", "a=1; b=2; ; c")]);
    let mut sent = request("GET", "/", &[("cookie", ""), ("cookie", "a")]);
    read(&mut sent, &options(), &mut Ledger::default()).unwrap();
    assert_eq!(sent.headers, [("cookie".into(), "a".into())]);
}

#[test]
fn limits_count_what_envoy_keeps() {
    let many: Vec<(String, &str)> = (0..100).map(|i| (format!("x-{i}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let (cookie, accept, host) = (("cookie", "a"), ("accept", "a"), ("host", "c.test"));
    for (more, most) in [
        (&[][..], 96),
        (&[accept][..], 95),
        (&[accept, accept], 95),
        (&[cookie], 95),
        (&[cookie, cookie], 94),
        (&[host], 95),
    ] {
        let sent = |count: usize| request("GET", "/w1", &[many.get(..count).unwrap(), more].concat());
        assert_eq!(fault(sent(most)), None, "{more:?}");
        assert_eq!(fault(sent(most + 1)), Some(Fault::TooMany), "{more:?}");
    }
    for (name, more, most) in [
        ("x-b", &[][..], 61_392),
        ("x-b", &[cookie], 61_391),
        ("x-b", &[host], 61_382),
        ("cookie", &[], 61_395),
        ("cookie", &[cookie], 61_392),
        ("accept", &[], 61_389),
        ("accept", &[accept, ("accept", "")], 61_387),
    ] {
        let sent = |length: usize| {
            let long = "a".repeat(length);
            request("GET", "/w1", &[&[(name, long.as_str())], more].concat())
        };
        assert_eq!(fault(sent(most)), None, "{name} {more:?}");
        assert_eq!(fault(sent(most + 1)), Some(Fault::TooLarge), "{name} {more:?}");
    }
}

#[test]
fn the_first_fault_counts() {
    let many: Vec<(String, &str)> = (0..98).map(|i| (format!("x-{i}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let bad = [("X-A", "1")];
    let behind = [&many[..], &bad].concat();
    assert_eq!(fault(request("GET", "/", &behind)), Some(Fault::TooMany));
    assert_eq!(fault(request("GET", "*", &many)), Some(Fault::TooMany));
    assert_eq!(fault(request("GET", "/", &[&bad[..], &many].concat())), Some(Fault::Field));
    let strict = HttpConnectionManager {
        headers_with_underscores_action: HeadersWithUnderscores::RejectRequest,
        ..options()
    };
    let refused =
        |lines: &[(&str, &str)]| read(&mut request("GET", "/", lines), &strict, &mut Ledger::default()).err();
    assert_eq!(refused(&[("x_y", "1"), ("X-A", "1")]), Some(Fault::Underscore));
    assert_eq!(refused(&[("x_y", "\u{1}")]), Some(Fault::Field));
    let dropping = HttpConnectionManager {
        headers_with_underscores_action: HeadersWithUnderscores::DropHeader,
        ..strict
    };
    let mut sent = request("GET", "/", &[("x_y", "1"), ("x-a", "2")]);
    read(&mut sent, &dropping, &mut Ledger::default()).unwrap();
    assert_eq!(sent.headers, [("x-a".into(), "2".into())]);
}
