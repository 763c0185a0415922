//! A trace takes the endpoints that Envoy would, and says which and why.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Query, Step, StepKind, Trace, Tracer};

/// A pod on a node, which is in the zone of its name.
fn pod(name: &str, app: &str, ip: &str, zone: &str, ready: bool) -> String {
    let ready = if ready { "True" } else { "False" };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}, pod: {name}}}}}\n\
         spec: {{nodeName: node-{zone}, containers: [{{name: app}}, {{name: istio-proxy}}]}}\n\
         status: {{podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: '{ready}'}}]}}\n---\n"
    )
}

fn nodes(zones: &[&str]) -> String {
    let node = |zone: &&str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: node-{zone}, labels: \
             {{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}}}}}\n---\n"
        )
    };
    zones.iter().map(node).collect()
}

/// Two servers in the client's zone, one of them not ready, and one in the next.
fn pods() -> String {
    [
        pod("client", "client", "10.0.0.1", "a", true),
        pod("near", "web", "10.0.0.2", "a", true),
        pod("down", "web", "10.0.0.3", "a", false),
        pod("far", "web", "10.0.0.4", "b", true),
    ]
    .concat()
}

fn service(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n\
         spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80}}]{more}}}\n---\n"
    )
}

const OUTLIERS: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3}
";

fn trace(manifests: &str) -> Trace {
    let mesh = Mesh::new(Loader::new().text("m.yaml", manifests).load(), MeshOptions::default());
    let mut query = Query::get("http://web/").unwrap();
    query.from = Some("client".into());
    Tracer::new(Arc::new(mesh)).trace(&query).unwrap()
}

/// Where requests end and how many of a hundred do.
fn ends(trace: &Trace) -> Vec<(String, u32)> {
    let end = |id: &str| id.trim_start_matches("workload:default/").to_owned();
    let share = |probability: f64| (probability * 100.0).round() as u32;
    trace.outcomes.iter().map(|o| (end(o.path.last().unwrap()), share(o.probability))).collect()
}

fn priorities(trace: &Trace) -> Vec<&Step> {
    trace.hops.iter().flat_map(|hop| &hop.steps).filter(|step| step.kind == StepKind::Priority).collect()
}

#[test]
fn what_the_nearest_endpoints_cannot_take_spills_over_to_the_next() {
    let trace = trace(&[nodes(&["a", "b"]), pods(), service(""), OUTLIERS.to_owned()].concat());
    assert_eq!(ends(&trace), [("near".to_owned(), 70), ("far".to_owned(), 30)]);
    let total: f64 = trace.outcomes.iter().map(|outcome| outcome.probability).sum();
    assert!((total - 1.0).abs() < 1e-9);
    assert!(trace.assumptions.iter().all(|assumption| !assumption.text.contains("locality")));
    let notes: Vec<_> = priorities(&trace).iter().map(|step| step.note.clone().unwrap()).collect();
    assert!(
        notes.contains(&"r/a for a client in r/a; 70 % of requests; priority 0 has 1 of 2 ready".to_owned()),
        "{notes:?}"
    );
}

#[test]
fn without_a_reason_to_prefer_any_all_ready_endpoints_are_used() {
    let trace = trace(&[nodes(&["a", "b"]), pods(), service("")].concat());
    assert_eq!(ends(&trace), [("near".to_owned(), 50), ("far".to_owned(), 50)]);
    assert!(priorities(&trace).is_empty());
}

#[test]
fn the_rule_that_prefers_an_endpoint_is_named_with_its_line() {
    let text = [nodes(&["a", "b"]), pods(), service(",\n  trafficDistribution: PreferClose")].concat();
    let line = text.lines().position(|line| line.contains("trafficDistribution")).unwrap() + 1;
    let trace = trace(&text);
    let step = priorities(&trace)[0];
    assert_eq!(step.origin.location().unwrap().line as usize, line);
}

#[test]
fn where_a_pod_runs_whose_node_is_not_given_is_an_assumption_of_the_trace() {
    let trace = trace(&[nodes(&["a"]), pods(), service(""), OUTLIERS.to_owned()].concat());
    let named =
        |a: &&dryroute::trace::Assumption| a.text.starts_with("default/far is taken to run in no locality");
    let id = &trace.assumptions.iter().find(named).unwrap().id;
    assert!(trace.outcomes.iter().all(|outcome| outcome.assumptions.contains(id)));
}
