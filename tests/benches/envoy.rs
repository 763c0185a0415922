//! How many decisions does the model make while a real Envoy handles one request?
//!
//! Both have the same configuration, a sidecar of a mesh of 100 services, and two requests: one that the proxy answers by
//! itself, which is what Envoy does fastest, and one that it sends on. Envoy has one worker and as many requests at a time
//! as keep it busy; what counts is the time that its process worked. The ratios are printed at the end; without an Envoy
//! there is nothing to compare with.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dryroute::envoy::export::{Document, export};
use dryroute::envoy::{Capture, Connection, ConnectionOutcome, HttpOutcome, HttpRequest, NoRecord, decide};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute_tests::live::Binary;
use dryroute_tests::live::client::proxy_line;
use dryroute_tests::live::lab::plaintext;
use dryroute_tests::live::process::{Process, Scratch};
use dryroute_tests::live::stand_ins::StandIns;

/// Clients at a time, each with one request under way: enough to keep one worker of Envoy busy.
const CLIENTS: usize = 16;
/// How long each side is measured for the ratio.
const WHILE: Duration = Duration::from_secs(3);
const HOST: &str = "s50.default.svc.cluster.local";

/// What is asked for, and the path that asks: an answer of the proxy itself, and a request that it sends on.
const QUESTIONS: [(&str, &str); 2] = [("answered", "/ready"), ("forwarded", "/productpage?u=normal")];

fn mesh() -> Arc<Mesh> {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: s50}\nspec:\n  hosts: [s50]\n  http:\n\
         \x20 - match: [{uri: {prefix: /api}, headers: {x-user: {exact: jason}}}]\n    route: [{destination: {host: s50}}]\n\
         \x20 - match: [{uri: {exact: /ready}}]\n    directResponse: {status: 200, body: {string: ok}}\n\
         \x20 - route: [{destination: {host: s50}}]\n",
    );
    for i in 0..100 {
        writeln!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{clusterIP: 10.96.0.{i}, \
             selector: {{app: s{i}}}, ports: [{{name: http, port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\n\
             kind: EndpointSlice\nmetadata: {{name: s{i}, labels: {{kubernetes.io/service-name: s{i}}}}}\n\
             addressType: IPv4\nendpoints: [{{addresses: [10.1.0.{i}]}}]\nports: [{{name: http, port: 8080}}]"
        )
        .unwrap();
    }
    Arc::new(Mesh::new(Loader::new().text("mesh.yaml", text).load(), MeshOptions::default()))
}

fn question(path: &str) -> (Connection, HttpRequest) {
    let connection = plaintext("10.96.0.50".parse().unwrap(), 80, "10.1.0.1".parse().unwrap());
    let request = HttpRequest {
        method: "GET".into(),
        path: path.into(),
        authority: HOST.into(),
        scheme: None,
        headers: vec![("user-agent".into(), "curl/8.7.1".into()), ("accept".into(), "*/*".into())],
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    };
    (connection, request)
}

/// An upstream that answers every request with `ok`, as fast as it can.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut buffer = vec![0_u8; 1 << 16];
                // Envoy has one request at a time under way on a connection, and sends its head in one piece.
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
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

/// How often the model decides in a second.
fn decisions_per_second(mut decide: impl FnMut()) -> f64 {
    let mut count = 0_u32;
    let start = Instant::now();
    while start.elapsed() < WHILE {
        (0..1000).for_each(|_| decide());
        count += 1000;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// How many requests Envoy handles in a second of one core that is all its own.
fn requests_per_second(process: &Process, mut send: impl FnMut(usize)) -> f64 {
    let mut count = 0_u32;
    let start = Instant::now();
    let worked = process.worked();
    while start.elapsed() < WHILE {
        send(1000);
        count += 1000;
    }
    // What the clients and the upstream take of the machine is not Envoy's.
    let own = process.worked().zip(worked).map(|(after, before)| after.saturating_sub(before));
    f64::from(count) / own.unwrap_or_else(|| start.elapsed()).as_secs_f64()
}

fn versus(c: &mut Criterion) {
    let proxy = Proxy::new(mesh(), Node::sidecar("default", "client", vec!["10.1.0.1".parse().unwrap()]));
    let facts = proxy.stock_envoy_facts();
    let binary = Binary::find();
    let scratch = Scratch::new().unwrap();
    let process = binary.as_ref().map(|binary| {
        let at = upstream();
        let loopback = StandIns::at(|_, _| at);
        let bootstrap = export(&proxy.snapshot(), Document::Bootstrap, Some(&loopback)).document;
        Process::start(binary, &bootstrap, scratch.path()).unwrap()
    });
    let mut group = c.benchmark_group("versus");
    group.throughput(Throughput::Elements(1));
    let mut lines = Vec::new();
    for (name, path) in QUESTIONS {
        let (connection, request) = question(path);
        let once = || {
            let request = Some(black_box(&request));
            decide(&proxy, &facts, Capture::Outbound, &connection, request, &mut NoRecord)
        };
        let ConnectionOutcome::Http(http) = once().outcome else { panic!("no HTTP") };
        let answered = matches!(&http.branches[0].outcome, HttpOutcome::Reply(_));
        assert_eq!(answered, name == "answered");
        group.bench_function(format!("model/{name}"), |b| b.iter(|| black_box(once())));
        let Some(process) = &process else { continue };
        let to = process.listener("virtualOutbound").unwrap();
        let first = proxy_line(IpAddr::from([10, 1, 0, 1]), connection.destination, connection.port);
        let text =
            format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: curl/8.7.1\r\naccept: */*\r\n\r\n");
        let model = decisions_per_second(|| drop(black_box(once())));
        let envoy = requests_per_second(process, |count| load(to, &first, &text, count));
        lines.push(format!(
            "versus: {name}: {model:.0} decisions a second, {envoy:.0} requests a second of one core through Envoy: \
             {:.0} times",
            model / envoy
        ));
    }
    group.finish();
    for line in lines {
        println!("{line}");
    }
    if let Some(process) = process {
        process.quit();
    }
}

criterion_group!(benches, versus);
criterion_main!(benches);
