//! What does a decision cost, and does it depend on the size of the mesh?
//!
//! One warm proxy, one plain outbound request; meshes of 10², 10³ and 10⁴ services.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dryroute::envoy::{
    ApplicationProtocol, Capture, Connection, HttpRequest, NoRecord, Record, Transport, decide,
};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};

/// Services with an endpoint each, and routes of their own for every tenth.
fn manifests(services: usize) -> String {
    let mut out = String::new();
    for i in 0..services {
        let (a, b) = (i / 250, i % 250);
        writeln!(
            out,
            "---
apiVersion: v1
kind: Service
metadata: {{name: s{i}, namespace: ns{n}}}
spec: {{clusterIP: 10.96.{a}.{b}, selector: {{app: s{i}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{i}-1, namespace: ns{n}, labels: {{kubernetes.io/service-name: s{i}}}}}
addressType: IPv4
endpoints: [{{addresses: [10.1.{a}.{b}], conditions: {{ready: true}}}}]
ports: [{{name: http, port: 8080, protocol: TCP}}]",
            n = i % 10,
        )
        .unwrap();
        if i % 10 == 0 {
            writeln!(
                out,
                "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s{i}, namespace: ns{n}}}
spec:
  hosts: [s{i}]
  http:
  - match: [{{uri: {{prefix: /api}}, headers: {{x-user: {{exact: jason}}}}}}]
    route: [{{destination: {{host: s{i}}}}}]
    timeout: 2s
  - route: [{{destination: {{host: s{i}}}}}]",
                n = i % 10,
            )
            .unwrap();
        }
    }
    out
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
        authority: "s50.ns0.svc.cluster.local".into(),
        scheme: None,
        headers: vec![("user-agent".into(), "curl/8.7.1".into()), ("accept".into(), "*/*".into())],
    };
    (connection, request)
}

fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    for services in [100, 1_000, 10_000] {
        let set = Loader::new().text("mesh.yaml", manifests(services)).load();
        let mesh = Arc::new(Mesh::new(set, MeshOptions::default()));
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
