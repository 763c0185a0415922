//! Connections that are refused, against a real Envoy: how often it tries, and what it answers.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;

use dryroute::envoy::export::{Document, export};
use dryroute::envoy::upstream::CONNECTION_REFUSED;
use dryroute::envoy::{
    Capture, ConnectionOutcome, HttpOutcome, HttpRequest, NoRecord, ProxyFacts, decide, failed,
};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute_tests::CLIENT;
use dryroute_tests::live::lab::plaintext;
use dryroute_tests::live::process::{Process, Scratch};
use dryroute_tests::live::stand_ins::StandIns;
use dryroute_tests::live::{Binary, client, log};

const CLOSED: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: closed, namespace: shop}
spec:
  hosts: [closed.test]
  addresses: [10.97.0.1]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.9.9}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: closed, namespace: shop}
spec:
  hosts: [closed.test]
  http:
  - match: [{uri: {prefix: /none}}]
    retries: {attempts: 0}
    route: &route
    - destination: {host: closed.test}
      headers: {response: {set: {x-count: '%REQ(x-envoy-attempt-count)% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %RESPONSE_FLAGS%'}}}
  - match: [{uri: {prefix: /reset}}]
    retries: {attempts: 4, retryOn: reset, backoff: 1ms}
    route: *route
  - match: [{uri: {prefix: /other}}]
    retries: {attempts: 2, retryOn: 'unavailable,503'}
    route: *route
  - match: [{uri: {prefix: /late}}]
    timeout: 10s
    retries: {attempts: 1, retryOn: connect-failure, perTryTimeout: 2s}
    fault: {delay: {fixedDelay: 0.01s, percentage: {value: 100}}}
    route: *route
  - route: *route
";

fn request(path: &str, grpc: bool) -> HttpRequest {
    let grpc = grpc.then(|| ("content-type".into(), "application/grpc".into()));
    HttpRequest {
        method: "GET".into(),
        path: path.into(),
        authority: "closed.test".into(),
        scheme: None,
        headers: grpc.into_iter().collect(),
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    }
}

#[test]
fn refused_connections_are_tried_as_often_as_envoy_tries_and_answered_alike() {
    let Some(envoy) = Binary::find() else { return };
    let mesh = Mesh::new(
        Loader::new().text("client.yaml", CLIENT).text("closed.yaml", CLOSED).load(),
        MeshOptions::default(),
    );
    let mesh = Arc::new(mesh);
    let node = mesh.workloads().iter().find_map(|workload| Node::of(&mesh, workload)).unwrap();
    let proxy = Proxy::new(Arc::clone(&mesh), node);
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("access.log");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap();
    let closed = StandIns::at(|_, _| port).log(&file);
    let bootstrap = export(&proxy.snapshot(), Document::Bootstrap, Some(&closed)).document;
    let process = Process::start(&envoy, &bootstrap, scratch.path()).unwrap();
    let socket = process.listener("virtualOutbound").unwrap();
    let facts = ProxyFacts { address: IpAddr::V4(Ipv4Addr::LOCALHOST), ..proxy.stock_envoy_facts() };
    let (source, destination) = ("10.0.0.1".parse().unwrap(), "10.97.0.1".parse().unwrap());
    let connection = plaintext(destination, 80, source);
    let mut expected = Vec::new();
    for (path, grpc) in [
        ("/", false),
        ("/", true),
        ("/none", false),
        ("/none", true),
        ("/reset", false),
        ("/other", false),
        ("/late", false),
        ("/late", true),
    ] {
        let request = request(path, grpc);
        let decision = decide(&proxy, &facts, Capture::Outbound, &connection, Some(&request), &mut NoRecord);
        let ConnectionOutcome::Http(http) = decision.outcome else {
            panic!("{path}: {:?}", decision.outcome)
        };
        let [branch] = http.branches.as_slice() else { panic!("{path}: {:?}", http.branches) };
        let HttpOutcome::Forward(forward) = &branch.outcome else { panic!("{path}: {:?}", branch.outcome) };
        let answer = CONNECTION_REFUSED.answer(forward.retry_policy.as_ref());
        let reply = failed(&http, branch, &answer, false);

        let lines = request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("GET {path} HTTP/1.1\r\nhost: closed.test\r\n{}\r\n", lines.collect::<String>());
        let bytes = client::proxy_line(source, destination, 80) + &head;
        let (caller, seen) = client::exchange(socket, bytes.as_bytes(), false).unwrap();
        let shown = |name: &str, value: &str| {
            let value = if name == "date" { "<generated>" } else { value };
            format!("{name}: {value}")
        };
        let model: Vec<String> = reply.response.headers.iter().map(|(n, v)| shown(n, v)).collect();
        let real: Vec<String> = seen.headers.iter().map(|(n, v)| shown(n, v)).collect();
        assert_eq!(model, real, "{path} {grpc}");
        assert_eq!(reply.response.body.as_bytes(), seen.body, "{path} {grpc}");
        assert_eq!(reply.response.status, seen.status, "{path} {grpc}");
        let flags: Vec<&str> = reply.flags.iter().map(|flag| flag.as_str()).collect();
        expected.push((caller.port, flags.join(","), reply.details.to_string()));
    }
    process.quit();
    let lines = log::read(&file);
    for (port, flags, details) in expected {
        let line = lines.iter().find(|line| line.port() == Some(port) && !line.status.is_empty()).unwrap();
        assert_eq!((&line.flags, &line.details), (&flags, &details));
    }
}
