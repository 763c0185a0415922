//! What becomes of requests over HTTP/2, and of streams whose time is limited. Measured with Envoy 1.40.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{HttpVersion, Query, Trace, Tracer, VerdictKind};
use dryroute_tests::CLIENT;

/// A server with sidecar; the client reaches it over HTTP/2, as the port says.
const SERVER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: srv, namespace: shop, labels: {app: srv}}
spec:
  containers: [{name: app, ports: [{containerPort: 8000}]}, {name: istio-proxy, image: proxy}]
status: {podIP: 10.0.0.9, phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: srv, namespace: shop}
spec:
  clusterIP: 10.96.0.9
  selector: {app: srv}
  ports:
  - {name: http2, port: 80, targetPort: 8000}
  - {name: http, port: 81, targetPort: 8001}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: srv, namespace: shop}
spec:
  hosts: [srv]
  http:
  - match: [{headers: {cookie: {exact: 'a=1; b=2'}}}]
    headers: {request: {set: {x-joined: 'yes'}}}
    route: [{destination: {host: srv}}]
  - match: [{uri: {prefix: /d}}]
    directResponse: {status: 200, body: {string: hello}}
  - route: [{destination: {host: srv}}]
";

fn tracer() -> Tracer {
    let set = Loader::new().text("client.yaml", CLIENT).text("server.yaml", SERVER).load();
    Tracer::new(Arc::new(Mesh::new(set, MeshOptions::default())))
}

fn query(url: &str, headers: &[&str]) -> Query {
    let mut query = Query::parse("GET", url).unwrap();
    query.from = Some("shop/client".into());
    for header in headers {
        query.add_header(header).unwrap();
    }
    query
}

fn http2(headers: &[&str]) -> Query {
    Query { http_version: HttpVersion::Http2, ..query("http://srv.shop/a", headers) }
}

/// Kind, status, flags and details of the verdict.
fn verdict(trace: &Trace) -> (VerdictKind, Option<u16>, String, &str) {
    let [outcome] = trace.outcomes.as_slice() else { panic!("{:?}", trace.outcomes) };
    let verdict = &outcome.verdict;
    (verdict.kind, verdict.status, verdict.flags.join(","), &verdict.details)
}

/// The values of a header that leaves a hop.
fn left(trace: &Trace, hop: usize, name: &str) -> Vec<String> {
    let lines = trace.hops[hop].request.left.iter();
    lines.filter(|(key, _)| key == name).map(|(_, value)| value.to_string()).collect()
}

#[test]
fn cookies_are_one_line_before_a_route_is_looked_for() {
    let trace = tracer().trace(&http2(&["cookie: a=1", "cookie: b=2"])).unwrap();
    assert_eq!(left(&trace, 0, "cookie"), ["a=1", "b=2"]);
    assert_eq!(left(&trace, 1, "cookie"), ["a=1; b=2"]);
    assert_eq!(left(&trace, 1, "x-joined"), ["yes"]);
    // HTTP/1 does not join them; the next proxy, which is reached over HTTP/2, does.
    let trace = tracer().trace(&query("http://srv.shop/a", &["cookie: a=1", "cookie: b=2"])).unwrap();
    assert_eq!(left(&trace, 1, "cookie"), ["a=1", "b=2"]);
    assert_eq!(left(&trace, 2, "cookie"), ["a=1; b=2"]);
}

#[test]
fn what_curl_does_not_send_over_http2_does_not_leave_the_client() {
    let headers =
        ["connection: close, x-a", "keep-alive: 1", "upgrade: websocket", "te: gzip", "proxy-connection: a"];
    let trace = tracer().trace(&http2(&headers)).unwrap();
    for header in headers {
        let name = header.split(':').next().unwrap();
        assert_eq!(left(&trace, 0, name), [""; 0], "{name}");
    }
    assert_eq!(verdict(&trace).0, VerdictKind::Delivered);
    let trace = tracer().trace(&http2(&["te: gzip, Trailers;q=1"])).unwrap();
    assert_eq!(left(&trace, 0, "te"), ["trailers"]);
}

#[test]
fn an_improper_request_ends_the_connection_or_its_stream() {
    let reset = |flags: &str, details| (VerdictKind::Reset, None, flags.to_owned(), details);
    let target = |target: &str| Query { request_target: Some(target.into()), ..http2(&[]) };
    let many: Vec<String> = (0..100).map(|number| format!("x-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let big = format!("x-big: {}", "a".repeat(70_000));
    for (expected, query) in [
        (reset("DPE", "http2.violation.of.messaging.rule"), target("*")),
        (reset("DPE", "http2.violation.of.messaging.rule"), target("w1")),
        (reset("DPE", "http2.invalid.header.field"), target("/w1 x")),
        (reset("DPE", "http2.invalid.header.field"), http2(&["host: u@srv.shop"])),
        (reset("DPE", "http2.invalid.header.field"), http2(&["host;"])),
        (reset("DPE", "http2.violation.of.messaging.rule"), http2(&["content-length: 5"])),
        (reset("DR", "http2.too_many_headers"), http2(&many)),
        (reset("DR", "http2.header_list_size_too_large"), http2(&[&big])),
    ] {
        let trace = tracer().trace(&query).unwrap();
        assert_eq!(verdict(&trace), expected, "{query:?}");
    }
}

#[test]
fn a_body_of_another_length_than_declared_resets_the_stream_whatever_is_answered() {
    let sent = |url: &str, length: &str| Query {
        url: url.into(),
        body_bytes: Some(3),
        http_version: HttpVersion::Http2,
        ..query(url, &[length])
    };
    let trace = tracer().trace(&sent("http://srv.shop/a", "content-length: 5")).unwrap();
    assert_eq!(verdict(&trace), (VerdictKind::Reset, None, "DPE".to_owned(), "http2.remote_reset"));
    let trace = tracer().trace(&sent("http://srv.shop/d", "content-length: 5")).unwrap();
    assert_eq!(verdict(&trace), (VerdictKind::Reset, None, String::new(), "direct_response"));
    let trace = tracer().trace(&sent("http://srv.shop/a", "content-length: 3")).unwrap();
    assert_eq!(verdict(&trace).0, VerdictKind::Delivered);
    // Without a length, the body is sent on in chunks where the next one speaks HTTP/1.
    let trace = tracer().trace(&sent("http://srv.shop:81/a", "content-length:")).unwrap();
    assert_eq!(left(&trace, 2, "transfer-encoding"), ["chunked"]);
}

#[test]
fn the_proxy_in_front_answers_where_a_later_one_resets_the_stream() {
    let many: Vec<String> = (0..90).map(|number| format!("x-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let trace = tracer().trace(&query("http://srv.shop/a", &many)).unwrap();
    let details = "upstream_reset_before_response_started{remote_reset}";
    assert_eq!(verdict(&trace), (VerdictKind::Answered, Some(503), "UR".to_owned(), details));
    let log = trace.hops[2].log.as_ref().unwrap();
    assert_eq!((log.status, log.details.as_str()), (Some(0), "http2.too_many_headers"));
    let trace = tracer().trace(&query("http://srv.shop/a", &["te: gzip"])).unwrap();
    assert_eq!(verdict(&trace).0, VerdictKind::Delivered, "the first proxy takes it out");
}

#[test]
fn the_time_that_a_client_asks_for_by_grpc_timeout_limits_the_stream_at_the_server() {
    let asked = |lines: &[&str]| tracer().trace(&query("http://srv.shop:81/a", lines)).unwrap();
    let grpc = "content-type: application/grpc";
    assert_eq!(left(&asked(&[grpc, "grpc-timeout: 1S"]), 2, "grpc-timeout"), ["1000m"]);
    assert_eq!(left(&asked(&["grpc-timeout: 1S"]), 2, "grpc-timeout"), ["1S"]);
    let trace = asked(&["grpc-timeout: 0S"]);
    let (kind, status) = (VerdictKind::Answered, Some(504));
    assert_eq!(verdict(&trace), (kind, status, String::new(), "max_duration_timeout"));
    let trace = asked(&[grpc, "grpc-timeout: 0S"]);
    assert_eq!(verdict(&trace), (kind, Some(200), String::new(), "max_duration_timeout"));
    assert!(trace.hops[2].response.left.contains(&("grpc-status".into(), "4".into())));
}

/// A gateway whose server speaks gRPC-Web.
const BROWSERS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-ingress}
---
apiVersion: v1
kind: Service
metadata: {name: gw, namespace: istio-ingress}
spec:
  clusterIP: 10.96.0.30
  selector: {istio: gw}
  ports: [{name: grpc-web, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata:
  name: gw
  namespace: istio-ingress
  labels: {istio: gw}
  annotations: {inject.istio.io/templates: gateway}
spec: {containers: [{name: istio-proxy, image: auto}]}
status: {podIP: 10.244.0.5, phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: istio-ingress}
spec:
  selector: {istio: gw}
  servers: [{port: {number: 80, name: grpc-web, protocol: GRPC-Web}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: istio-ingress}
spec:
  hosts: [b.test]
  gateways: [gw]
  http:
  - match: [{uri: {prefix: /d}}]
    directResponse: {status: 503, body: {string: 'no 100%'}}
  - match: [{uri: {prefix: /e}}]
    directResponse: {status: 503}
  - route: [{destination: {host: srv.shop.svc.cluster.local, port: {number: 81}}}]
";

#[test]
fn browsers_speak_grpc_at_a_port_of_grpc_web() {
    let set = Loader::new()
        .text("client.yaml", CLIENT)
        .text("server.yaml", SERVER)
        .text("browsers.yaml", BROWSERS)
        .load();
    let tracer = Tracer::new(Arc::new(Mesh::new(set, MeshOptions::default())));
    let ask = |path: &str, lines: &[&str]| {
        let mut query = Query::parse("POST", &format!("http://b.test{path}")).unwrap();
        query.from = Some("outside".into());
        query.to_gateway = Some("istio-ingress/gw".parse().unwrap());
        query.body_bytes = Some(4);
        for line in lines {
            query.add_header(line).unwrap();
        }
        tracer.trace(&query).unwrap()
    };
    let answer = |trace: &Trace, name: &str| -> Vec<String> {
        let lines = trace.hops[1].response.left.iter();
        lines.filter(|(key, _)| key == name).map(|(_, value)| value.to_string()).collect()
    };
    let web = "content-type: application/grpc-web-text";
    let trace = ask("/", &[web]);
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-accept-encoding", "identity"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(left(&trace, 1, name), [value], "{name}");
    }
    assert_eq!(left(&trace, 1, "content-length"), [""; 0]);
    // What is no gRPC becomes the message of a status; the status of HTTP stays.
    let trace = ask("/d", &[web]);
    assert_eq!(answer(&trace, ":status"), ["503"]);
    for (name, value) in [
        ("content-type", "application/grpc-web+proto"),
        ("grpc-message", "no 100%25"),
        ("grpc-status", "14"),
        ("content-length", "0"),
    ] {
        assert_eq!(answer(&trace, name), [value], "{name}");
    }
    let trace = ask("/e", &[web, "accept: application/grpc-web-text"]);
    assert_eq!(answer(&trace, "content-type"), ["application/grpc-web-text+proto"]);
    assert_eq!(answer(&trace, "grpc-status"), [""; 0]);
    // Other types are none of the filter's business.
    let trace = ask("/d", &["content-type: application/grpc-web+json"]);
    assert_eq!(answer(&trace, "content-type"), ["text/plain"]);
}
