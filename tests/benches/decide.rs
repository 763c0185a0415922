//! What does a decision cost, and does it depend on the size of the mesh?
//!
//! One warm proxy, one plain outbound request; meshes of 10² to 10⁵ services.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dryroute::envoy::{Capture, Connection, HttpRequest, NoRecord, Record, decide};
use dryroute::istiod::{Node, Proxy};
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute_tests::generator;
use dryroute_tests::live::lab::plaintext;

fn question() -> (Connection, HttpRequest) {
    let connection = plaintext("10.96.0.50".parse().unwrap(), 80, "10.1.0.1".parse().unwrap());
    let request = HttpRequest {
        method: "GET".into(),
        path: "/productpage?u=normal".into(),
        authority: "s50.ns0.svc.cluster.local".into(),
        scheme: None,
        headers: vec![("user-agent".into(), "curl/8.7.1".into()), ("accept".into(), "*/*".into())],
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    };
    (connection, request)
}

fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    for services in [100, 1_000, 10_000, 100_000] {
        let mesh = Arc::new(Mesh::new(generator::set(services), MeshOptions::default()));
        let proxy = Proxy::new(mesh, Node::sidecar("ns1", "client", vec!["10.1.0.1".parse().unwrap()]));
        let facts = proxy.facts();
        let (connection, request) = question();
        group.bench_function(BenchmarkId::new("cheap", services), |b| {
            b.iter(|| {
                decide(
                    &proxy,
                    &facts,
                    Capture::Outbound,
                    black_box(&connection),
                    Some(black_box(&request)),
                    &mut NoRecord,
                )
            });
        });
        group.bench_function(BenchmarkId::new("recorded", services), |b| {
            b.iter(|| {
                let mut record = Record::default();
                let decision = decide(
                    &proxy,
                    &facts,
                    Capture::Outbound,
                    black_box(&connection),
                    Some(black_box(&request)),
                    &mut record,
                );
                (decision, record)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
