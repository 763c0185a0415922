//! How fast does YAML text become a mesh, on one core and on two? What becomes of the mesh afterwards is not measured.

// A bench may fail loudly, as a test may.
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};

fn load(c: &mut Criterion) {
    let text: Arc<str> = dryroute_tests::generator::manifests(2000).into();
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

criterion_group!(benches, load);
criterion_main!(benches);
