//! The JSON of traces, as it is promised to programs that read it.

use std::path::PathBuf;
use std::sync::Arc;

use dryroute::manifest::{Loader, is_manifest};
use dryroute::mesh::{Mesh, MeshOptions, WorkloadNameError};
use dryroute::scenario::Scenario;
use dryroute::trace::{Choice, Query, TraceError, Tracer};

fn scenario(name: &str) -> (Scenario, Tracer) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut loader = Loader::new();
    for file in files.iter().filter(|file| is_manifest(file) && !file.ends_with("scenario.yaml")) {
        let shown = file.file_name().unwrap().to_string_lossy().into_owned();
        loader = loader.text(shown, std::fs::read_to_string(file).unwrap());
    }
    let text = std::fs::read_to_string(folder.join("scenario.yaml")).unwrap();
    let mesh = Mesh::new(loader.load(), MeshOptions::default());
    (Scenario::parse(&text).unwrap(), Tracer::new(Arc::new(mesh)))
}

fn json(name: &str, request: &str) -> serde_json::Value {
    let (scenario, tracer) = scenario(name);
    let request = scenario.requests.iter().find(|own| own.name == request).unwrap();
    serde_json::to_value(tracer.trace(&request.query().unwrap()).unwrap()).unwrap()
}

#[test]
fn the_lab_from_the_application() {
    insta::assert_json_snapshot!(json("egress-gateway", "from the application container"));
}

#[test]
fn the_lab_from_the_proxys_own_container() {
    insta::assert_json_snapshot!(json("egress-gateway", "from the istio-proxy container"));
}

#[test]
fn a_canary_with_copies() {
    insta::assert_json_snapshot!(json("canary", "everybody"));
}

#[test]
fn tls_that_ends_at_the_ingress_gateway() {
    insta::assert_json_snapshot!(json("ingress-tls", "https is delivered"));
}

#[test]
fn the_cheap_decision_is_the_explained_one_without_its_reasons() {
    for name in ["egress-gateway", "egress-gateway-fixed", "canary", "registry-only", "ingress-tls"] {
        let (scenario, tracer) = scenario(name);
        for request in &scenario.requests {
            let query = request.query().unwrap();
            let mut explained = tracer.trace(&query).unwrap().outcomes;
            for outcome in &mut explained {
                outcome.hops.clear();
            }
            assert_eq!(explained, tracer.decide(&query).unwrap(), "{name}: {}", request.name);
        }
    }
}

#[test]
fn a_seed_draws_one_way_and_draws_it_again() {
    let (scenario, tracer) = scenario("canary");
    let mut query = scenario.requests[0].query().unwrap();
    let mut second = 0;
    for seed in 0..200 {
        query.choice = Choice::Seed(seed);
        let once = tracer.trace(&query).unwrap();
        assert_eq!(once.outcomes.len(), 1);
        assert_eq!(once, tracer.trace(&query).unwrap());
        second += usize::from(once.outcomes[0].path.iter().any(|id| id.ends_with("reviews-v2")));
    }
    assert!((5..=45).contains(&second), "{second} of 200 for a weight of a tenth");
}

#[test]
fn a_client_that_does_not_exist_is_an_error_with_candidates() {
    let (_, tracer) = scenario("canary");
    let mut query = Query::get("http://reviews:9080/").unwrap();
    query.from = Some("default/slep".into());
    let error = tracer.trace(&query).unwrap_err();
    assert!(matches!(error, TraceError::Source(WorkloadNameError::Unknown { .. })));
    assert!(error.candidates().iter().any(|name| name == "default/sleep"), "{error:?}");
}

#[test]
fn the_graph_has_a_node_for_each_hop_and_an_edge_for_each_leg() {
    let (scenario, tracer) = scenario("canary");
    let trace = tracer.trace(&scenario.requests[0].query().unwrap()).unwrap();
    let graph = trace.graph();
    assert_eq!(graph.node_count(), trace.hops.len());
    assert_eq!(graph.edge_count(), trace.legs.len());
    assert!(trace.legs.iter().any(|leg| leg.mirror));
}
