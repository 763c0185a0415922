//! How fast does YAML text become a mesh, on one core and on two, and how fast do values?
//!
//! What becomes of the mesh afterwards is not measured.

// A bench may fail loudly, as a test may.
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute_tests::generator;

/// Services of the mesh that is made without text.
const SERVICES: usize = 100_000;

fn load(c: &mut Criterion) {
    let text: Arc<str> = generator::manifests(2000).into();
    let mut group = c.benchmark_group("load");
    group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(10);
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        group.bench_with_input(BenchmarkId::new("text to mesh, threads", threads), &text, |b, text| {
            b.iter_with_large_drop(|| {
                pool.install(|| {
                    let set = Loader::new().text("all.yaml", text.clone()).load();
                    black_box(Mesh::new(set, MeshOptions::default()))
                })
            });
        });
    }
    group.bench_with_input(BenchmarkId::new("text to manifests, threads", 1), &text, |b, text| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of threads");
        b.iter_with_large_drop(|| {
            pool.install(|| black_box(Loader::new().text("all.yaml", text.clone()).load()))
        });
    });
    group.finish();
}

/// Resources that never were text, as a program has them; and how much memory the mesh keeps.
fn build(c: &mut Criterion) {
    let before = resident();
    let mesh = Mesh::new(generator::set(SERVICES), MeshOptions::default());
    println!("build: a mesh of {SERVICES} services keeps {} MB", resident().saturating_sub(before) / 1000);
    drop(mesh);
    let mut group = c.benchmark_group("build");
    group.throughput(Throughput::Elements(SERVICES as u64)).sample_size(10);
    group.bench_function("values to mesh", |b| {
        b.iter_with_large_drop(|| black_box(Mesh::new(generator::set(SERVICES), MeshOptions::default())));
    });
    group.finish();
}

/// The memory of this process in kB; 0 where the system does not tell it in Linux' way.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

criterion_group!(benches, load, build);
criterion_main!(benches);
