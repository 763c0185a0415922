//! What the HTTP/1 codec takes and refuses. Measured with Envoy 1.40.

use super::*;
use crate::envoy::config::{
    EscapedSlashes, ForwardClientCertDetails, RouteSpecifier, ServerHeaderTransformation,
    SetCurrentClientCertDetails,
};
use crate::envoy::request::Body;
use crate::origin::Origin;

pub(in crate::envoy::http) fn options() -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: SmolStr::default(),
        route_specifier: RouteSpecifier::Rds("80".into()),
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        internal_addresses: Vec::new(),
        forward_client_cert_details: ForwardClientCertDetails::Sanitize,
        set_current_client_cert_details: SetCurrentClientCertDetails::default(),
        server_name: SmolStr::default(),
        server_header_transformation: ServerHeaderTransformation::Overwrite,
        generate_request_id: true,
        preserve_external_request_id: false,
        always_set_request_id_in_response: false,
        max_request_headers_kb: HttpConnectionManager::MAX_REQUEST_HEADERS_KB,
        normalize_path: true,
        merge_slashes: false,
        path_with_escaped_slashes_action: EscapedSlashes::KeepUnchanged,
        append_x_forwarded_port: false,
        tracing: None,
        suppress_envoy_headers: false,
        accept_http_10: false,
        headers_with_underscores_action: HeadersWithUnderscores::Allow,
        preserve_header_case: false,
        upgrade_types: Vec::new(),
        http_filters: Vec::new(),
        limits: None,
        patches: Vec::new(),
        origin: Origin::default("a test"),
    }
}

fn request(method: &str, path: &str, lines: &[(&str, &str)]) -> HttpRequest {
    HttpRequest {
        method: method.into(),
        path: path.into(),
        authority: "a.test".into(),
        scheme: None,
        headers: lines.iter().map(|(k, v)| (SmolStr::new(k), SmolStr::new(v))).collect(),
        no_host: false,
        body: Body::Declared,
    }
}

fn refusal(mut request: HttpRequest) -> Option<(u16, &'static str)> {
    read(&mut request, &options(), true, &mut Ledger::default())
        .err()
        .map(|refusal| (refusal.status, refusal.details))
}

/// Measured with Envoy 1.40, sent as raw bytes.
#[test]
fn improper_requests_get_the_answer_that_envoy_gives() {
    let long = "a".repeat(100_000);
    let many: Vec<(String, &str)> = (0..100).map(|i| (format!("x{i}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let bad = |details| Some((400, details));
    for (expected, sent) in [
        (None, request("MSEARCH", "/", &[])),
        (None, request("GET", " \t/a \t", &[])),
        (bad("http1.codec_error"), request("GET", " ", &[])),
        (bad("http1.codec_error"), request("GET", "/a b ", &[])),
        (bad("http1.codec_error"), request("GET", "/", &[("x-a ", "1")])),
        (bad("http1.codec_error"), request("M-SEARCH", "/", &[])),
        (bad("http1.codec_error"), request("get", "/", &[])),
        (bad("http1.codec_error"), request("GET", "nopath", &[])),
        (bad("http1.codec_error"), request("GET", "/é", &[])),
        (bad("http1.invalid_characters"), request("GET", "/a\u{1}b", &[])),
        (bad("http1.invalid_scheme"), request("GET", "ftp://b.test/", &[])),
        (Some((431, "http1.headers_too_large")), request("GET", "/", &[("x", &long)])),
        (Some((431, "http1.headers_too_large")), request("GET", &long, &[])),
        (Some((431, "http1.too_many_headers")), request("GET", "/", &many)),
        (bad("http1.codec_error"), request("GET", "/", &[&many[..], &[("é", "1")]].concat())),
        (
            Some((431, "http1.too_many_headers")),
            request("GET", "/", &[&many[..], &[("y", "1"), ("é", "1")]].concat()),
        ),
        (bad("http1.codec_error"), request("GET", "/", &[&[("é", "1")], &many[..]].concat())),
        (
            Some((431, "http1.too_many_headers")),
            request("GET", "/", &[&[("accept", "a"), ("via", "b")], &many[1..], &[("é", "1")]].concat()),
        ),
        (None, request("GET", "/", many.get(1..).unwrap_or_default())),
        (
            bad("http1.content_length_and_chunked_not_allowed"),
            request("POST", "/", &[("transfer-encoding", "chunked"), ("content-length", "3")]),
        ),
        (
            Some((501, "http1.invalid_transfer_encoding")),
            request("POST", "/", &[("transfer-encoding", "gzip")]),
        ),
        (bad("http1.codec_error"), request("POST", "/", &[("content-length", "x")])),
        (bad("http1.codec_error"), request("POST", "/", &[("content-length", "0"), ("content-length", "0")])),
        (bad("http1.invalid_characters"), request("GET", "/", &[("x", "a\u{1}b")])),
        (bad("http1.invalid_characters"), request("GET", "/", &[("x", "a\u{7f}b")])),
        (bad("http1.codec_error"), request("GET", "/", &[("x y", "1")])),
        (bad("http1.codec_error"), request("GET", "/", &[("", "1")])),
        (bad("http1.connection_header_rejected"), request("GET", "/", &[("connection", "x-forwarded-for")])),
    ] {
        let shown = format!("{} {:.20} {:.60?}", sent.method, sent.path, sent.headers);
        assert_eq!(refusal(sent), expected, "{shown}");
    }
    let forwarded = vec![("x-forwarded-for", "192.0.2.1"); 90];
    let few = many.get(..90).unwrap_or_default();
    assert_eq!(refusal(request("GET", "/", &[&forwarded[..], few].concat())), None);
    // What is looked at first, where two things are wrong.
    let (control, bad_name) = (("x", "a\u{1}b"), ("a b", "1"));
    let (encoding, nominated) = (("transfer-encoding", "x"), ("connection", ":path"));
    let length = ("content-length", "3");
    for (expected, sent) in [
        (bad("http1.codec_error"), request("get", "/", &[("x", &long)])),
        (bad("http1.invalid_characters"), request("get", "nopath", &[control, bad_name])),
        (bad("http1.codec_error"), request("GET", "/", &[&many[..], &[bad_name]].concat())),
        (Some((431, "http1.too_many_headers")), request("GET", "/", &[&many[..], &[encoding]].concat())),
        (Some((501, "http1.invalid_transfer_encoding")), request("GET", "*", &[nominated, encoding])),
        (bad("http1.connection_header_rejected"), request("GET", "*", &[nominated])),
        (bad("http1.invalid_url"), request("CONNECT", "/", &[nominated])),
        (None, request("GET", "/", &[("connection", "upgrade"), ("upgrade", "foo"), nominated])),
        (None, request("GET", "http://b.test", &[("connection", "host")])),
        (None, request("OPTIONS", "*a", &[])),
        (bad("http1.invalid_url"), request("GET", "http://a@b@c/", &[])),
        (bad("http1.invalid_url"), request("GET", "*", &[("connection", "host")])),
        (Some((400, "missing_host_header")), request("GET", "/", &[("connection", "host"), ("host", "a b")])),
        (bad("http1.invalid_url"), request("CONNECT", "/", &[])),
        (bad("http1.content_length_and_chunked_not_allowed"), request("GET", "/", &[length, encoding])),
        (bad("http1.body_disallowed"), request("CONNECT", "/", &[length, encoding])),
        (bad("http1.invalid_url"), request("CONNECT", "/", &[("content-length", "0")])),
        (
            Some((501, "http1.invalid_transfer_encoding")),
            request("CONNECT", "/", &[("transfer-encoding", "chunked")]),
        ),
        (bad("http1.codec_error"), request("GET", "/a\u{7f}", &[("x", &long)])),
        (bad("http1.codec_error"), request("GET", "/", &[("content-length", "18446744073709551616")])),
        (
            bad("http1.content_length_and_chunked_not_allowed"),
            request("GET", "/", &[("content-length", "0x5"), ("transfer-encoding", "chunked")]),
        ),
        (
            bad("http1.content_length_and_chunked_not_allowed"),
            request(
                "GET",
                "/",
                &[("content-length", "0x5"), ("content-length", ""), ("transfer-encoding", "chunked")],
            ),
        ),
        (
            bad("http1.codec_error"),
            request("GET", "/", &[length, ("content-length", "x"), ("transfer-encoding", "chunked")]),
        ),
        (
            bad("http1.codec_error"),
            request(
                "GET",
                "/",
                &[("content-length", "5,5"), ("content-length", ""), ("transfer-encoding", "chunked")],
            ),
        ),
        (Some((431, "http1.headers_too_large")), request("GET", "/a\u{1}", &[("x", &long)])),
        (Some((431, "http1.headers_too_large")), request("GET\u{1}", "/", &[("x", &long)])),
        (bad("http1.codec_error"), request("GET\u{1}X", "/", &[("x", &long)])),
        (bad("http1.invalid_characters"), request("GET\u{1}X", "/", &[])),
        (bad("http1.codec_error"), request("\u{1}GET", "/", &[])),
        (None, request("GET\t", "/", &[])),
    ] {
        let shown = format!("{} {} {:.60?}", sent.method, sent.path, sent.headers);
        assert_eq!(refusal(sent), expected, "{shown}");
    }
    let mut spaced = request("GET", "/", &[]);
    spaced.authority = "a b".into();
    assert_eq!(refusal(spaced), bad("http.invalid_authority"));
}

#[test]
fn bytes_that_do_not_begin_as_a_request_are_none() {
    let long = "a".repeat(64 * 1024);
    for (method, path, expected) in [
        ("FOO", "/", Beginning::Request),
        ("GET", "/a\u{1}", Beginning::Request),
        ("GET", "nopath", Beginning::Other),
        ("CONNECT", "#a", Beginning::Other),
        ("CONNECT", "nopath", Beginning::Request),
        ("GET", "http://b.test#a", Beginning::Other),
        ("GET", "http://a@@b/", Beginning::Other),
        ("GET", "*a", Beginning::Request),
        ("G\u{e9}T", "/", Beginning::Other),
        ("GET", "/a b", Beginning::Other),
        ("GET", &format!("/{long}"), Beginning::Endless),
        ("GET", &format!("://{long}"), Beginning::Endless),
        ("G\u{e9}T", &format!("/{long}"), Beginning::Other),
        ("G T", "/", Beginning::Other),
        ("G T", &format!("/{long}"), Beginning::Endless),
    ] {
        assert_eq!(beginning(&request(method, path, &[])), expected, "{method} {path:.20}");
    }
}

/// Measured with Envoy 1.40: 61440 bytes on the wire are read.
#[test]
fn the_limit_of_a_head_is_one_of_bytes_on_the_wire() {
    // `GET / HTTP/1.1`, `host: a.test`, `x: `, and the ends of lines.
    let around = 16 + 14 + 5 + 2;
    for (length, expected) in
        [(61_440 - around, None), (61_441 - around, Some((431, "http1.headers_too_large")))]
    {
        assert_eq!(refusal(request("GET", "/", &[("x", &"a".repeat(length))])), expected, "{length}");
    }
}

#[test]
fn lines_are_folded_and_hosts_joined() {
    let lines = [("x", "a"), ("  b", "1"), ("y", "c\rd"), ("Host", "b.test")];
    let mut request = request("GET", "/", &lines);
    read(&mut request, &options(), false, &mut Ledger::default()).unwrap();
    assert_eq!(request.authority, "a.test,b.test");
    let lines: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(lines, [("x", "a  b: 1"), ("y", "cd")]);
}

#[test]
fn the_first_proxy_is_not_asked_for_https_over_plaintext() {
    let asked = request("GET", "https://b.test/", &[]);
    let first = HttpConnectionManager { use_remote_address: true, ..options() };
    let refused = read(&mut asked.clone(), &first, false, &mut Ledger::default()).unwrap_err();
    assert_eq!((refused.status, refused.details), (403, "http1.https_url_on_plaintext_connection"));
    assert!(read(&mut asked.clone(), &first, true, &mut Ledger::default()).is_ok());
    assert!(read(&mut asked.clone(), &options(), false, &mut Ledger::default()).is_ok());
}

#[test]
fn an_absolute_target_replaces_the_host() {
    for (target, host, path) in [
        ("http://B.test/zz?q", "B.test", "/zz?q"),
        ("https://B.test", "B.test", "/"),
        ("http://B.test?q", "B.test", "?q"),
        ("http://u@b.test:1/", "b.test:1", "/"),
    ] {
        let mut request = request("GET", target, &[]);
        read(&mut request, &options(), true, &mut Ledger::default()).unwrap();
        assert_eq!((request.authority.as_str(), request.path.as_str()), (host, path));
    }
}

#[test]
fn nominated_headers_go_and_te_keeps_its_trailers() {
    let lines = [("connection", "x-a, te"), ("x-a", "1"), ("te", "trailers, deflate"), ("x-b", "2")];
    let mut request = request("GET", "/", &lines);
    read(&mut request, &options(), true, &mut Ledger::default()).unwrap();
    let names: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(names, [("connection", "x-a, te"), ("te", "trailers"), ("x-b", "2")]);
}

#[test]
fn what_is_dropped_on_arrival_is_in_the_ledger() {
    let mut ledger = Ledger::new(true);
    let options = HttpConnectionManager {
        headers_with_underscores_action: HeadersWithUnderscores::DropHeader,
        ..options()
    };
    let lines = [("x_y", "1"), (" goes on", "2"), ("x-a", "3"), ("connection", "x-a"), ("x-b", "4")];
    let mut sent = request("GET", "/", &lines);
    read(&mut sent, &options, true, &mut ledger).unwrap();
    let left: Vec<&str> = sent.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(left, ["connection", "x-b"]);
    let changes: Vec<String> = ledger
        .changes
        .iter()
        .map(|change| format!("{:?} {} {:?}", change.op, change.name, change.old))
        .collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[0].contains("x_y") && changes[0].contains("1 goes on: 2"), "{changes:?}");
    assert!(changes[1].contains("x-a"), "{changes:?}");
}
