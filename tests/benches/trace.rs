//! How long does a trace take, and does it depend on how many services there are?
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Query, Tracer};

/// The repaired lab, among `services` others with a pod each.
fn tracer(services: usize) -> Tracer {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios/egress-gateway-fixed");
    let mut loader = Loader::new();
    for file in ["gateway.yaml", "platform.yaml", "service-entry.yaml", "virtual-service.yaml"] {
        loader = loader.file(folder.join(file)).unwrap();
    }
    let mut text = String::new();
    for i in 0..services {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}, namespace: n{}}}\n\
             spec: {{selector: {{app: s{i}}}, ports: [{{name: http, port: 80}}]}}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: s{i}, namespace: n{}, labels: {{app: s{i}}}}}\n\
             spec: {{containers: [{{name: app, image: app}}]}}\n\
             status: {{phase: Running, podIP: 10.{}.{}.{}, conditions: [{{type: Ready, status: 'True'}}]}}\n",
            i % 50,
            i % 50,
            1 + i / 60_000,
            i / 250 % 250,
            i % 250,
        );
    }
    Tracer::new(Arc::new(Mesh::new(loader.text("others.yaml", text).load(), MeshOptions::default())))
}

fn bench(c: &mut Criterion) {
    let mut query = Query::get("http://httpbin.org/get").unwrap();
    query.from = Some("default/sleep".into());
    let mut group = c.benchmark_group("trace");
    for services in [100, 1_000, 10_000, 100_000] {
        let tracer = tracer(services);
        group.bench_with_input(BenchmarkId::new("explained", services), &tracer, |b, tracer| {
            b.iter(|| black_box(tracer.trace(&query).unwrap()));
        });
        group.bench_with_input(BenchmarkId::new("decided", services), &tracer, |b, tracer| {
            b.iter(|| black_box(tracer.decide(&query).unwrap()));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
