//! How many decisions does the model make while a real Envoy answers one request?
//!
//! Both have the same configuration: a sidecar of a mesh of 100 services, and a route that the proxy answers by itself, which
//! is what Envoy does fastest. Envoy has one worker and as many requests at a time as keep it busy. The ratio is printed
//! at the end; without an Envoy there is nothing to compare with.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dryroute::envoy::export::{Document, export};
use dryroute::envoy::{
    ApplicationProtocol, Capture, Connection, ConnectionOutcome, HttpOutcome, HttpRequest, NoRecord,
    Transport, decide,
};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute_tests::live::Binary;
use dryroute_tests::live::alone::Alone;
use dryroute_tests::live::client::proxy_line;
use dryroute_tests::live::lab::certificates;
use dryroute_tests::live::process::{Process, Scratch};

/// Clients at a time, each with one request under way: enough to keep one worker of Envoy busy.
const CLIENTS: usize = 16;
/// How long each side is measured for the ratio.
const WHILE: Duration = Duration::from_secs(3);
const HOST: &str = "s50.default.svc.cluster.local";

fn mesh() -> Arc<Mesh> {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: s50}\nspec:\n  hosts: [s50]\n  http:\n\
         \x20 - match: [{uri: {prefix: /api}, headers: {x-user: {exact: jason}}}]\n    route: [{destination: {host: s50}}]\n\
         \x20 - match: [{uri: {prefix: /}}]\n    directResponse: {status: 200, body: {string: ok}}\n",
    );
    for i in 0..100 {
        writeln!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{clusterIP: 10.96.0.{i}, \
             selector: {{app: s{i}}}, ports: [{{name: http, port: 80}}]}}"
        )
        .unwrap();
    }
    Arc::new(Mesh::new(Loader::new().text("mesh.yaml", text).load(), MeshOptions::default()))
}

fn question() -> (Connection, HttpRequest) {
    let connection = Connection {
        destination: "10.96.0.50".parse().unwrap(),
        port: 80,
        source: "10.1.0.1".parse().unwrap(),
        transport: Transport::Plaintext,
        protocol: ApplicationProtocol::Http11,
    };
    let request = HttpRequest {
        method: "GET".into(),
        path: "/productpage?u=normal".into(),
        authority: HOST.into(),
        scheme: None,
        headers: vec![("user-agent".into(), "curl/8.7.1".into()), ("accept".into(), "*/*".into())],
    };
    (connection, request)
}

/// Sends `count` requests over one connection.
fn send(to: SocketAddr, first: &str, request: &str, count: usize) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    let mut buffer = vec![0_u8; 1 << 16];
    let mut answer = Vec::new();
    for _ in 0..count {
        stream.write_all(request.as_bytes()).unwrap();
        answer.clear();
        // An answer ends in the body `ok`, behind an empty line.
        while !answer.ends_with(b"\r\n\r\nok") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "Envoy closed the connection");
            answer.extend_from_slice(&buffer[..read]);
        }
    }
}

/// Sends `count` requests over several connections.
fn load(to: SocketAddr, first: &str, request: &str, count: usize) {
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| send(to, first, request, count.div_ceil(CLIENTS)));
        }
    });
}

/// How often something is done in a second; `step` does it as often as it is told.
fn per_second(mut step: impl FnMut(usize)) -> f64 {
    let mut count = 0_u32;
    let start = Instant::now();
    while start.elapsed() < WHILE {
        step(1000);
        count += 1000;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

fn versus(c: &mut Criterion) {
    let proxy = Proxy::new(mesh(), Node::sidecar("default", "client", vec!["10.1.0.1".parse().unwrap()]));
    let facts = proxy.stock_envoy_facts();
    let (connection, request) = question();
    let once = || {
        let request = Some(black_box(&request));
        decide(&proxy, &facts, Capture::Outbound, &connection, request, &mut NoRecord)
    };
    let ConnectionOutcome::Http(http) = once().outcome else { panic!("no HTTP") };
    assert!(matches!(&http.branches[0].outcome, HttpOutcome::Reply(reply) if reply.response.status == 200));

    let mut group = c.benchmark_group("versus");
    group.throughput(Throughput::Elements(1));
    group.bench_function("model", |b| b.iter(|| black_box(once())));
    let Some(binary) = Binary::find() else { return };
    let scratch = Scratch::new().unwrap();
    let alone = Alone(Some(certificates()));
    let bootstrap = export(&proxy.snapshot(), Document::Bootstrap, Some(&alone)).document;
    let process = Process::start(&binary, &bootstrap, scratch.path()).unwrap();
    let to = process.listener("virtualOutbound").unwrap();
    let first = proxy_line(IpAddr::from([10, 1, 0, 1]), connection.destination, connection.port);
    let text = format!(
        "GET /productpage?u=normal HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: curl/8.7.1\r\naccept: */*\r\n\r\n"
    );
    group.sample_size(10);
    group.bench_function("envoy", |b| {
        b.iter_custom(|count| {
            let start = Instant::now();
            load(to, &first, &text, usize::try_from(count).unwrap());
            start.elapsed()
        });
    });
    group.finish();
    let model = per_second(|count| (0..count).for_each(|_| drop(black_box(once()))));
    let envoy = per_second(|count| load(to, &first, &text, count));
    println!(
        "versus: {model:.0} decisions a second, {envoy:.0} requests a second through one Envoy: {:.0} times",
        model / envoy
    );
    process.quit();
}

criterion_group!(benches, versus);
criterion_main!(benches);
