//! What `discoverySelectors` leave out is unknown to istiod, and still there for the cluster's DNS and network.
//! istiod: `pkg/kube/namespace/filter.go`.

use std::sync::Arc;

use dryroute::manifest::{Loader, parse_mesh_config};
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Fidelity, Query, StepKind, Trace, Tracer};

const MESH: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled, mesh: 'yes'}}
---
apiVersion: v1
kind: Namespace
metadata: {name: legacy, labels: {team: old}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: app}, {name: istio-proxy}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: legacy}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: legacy, labels: {app: web}}
spec: {containers: [{name: app}]}
status: {podIP: 10.0.0.2}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: legacy}
spec:
  hosts: [web.legacy.svc.cluster.local]
  http: [{directResponse: {status: 418}}]
";

fn mesh(manifests: &str, selectors: &str) -> Arc<Mesh> {
    let text = format!("discoverySelectors: {selectors}");
    let options = MeshOptions { mesh_config: parse_mesh_config("mesh", &text).0, ..MeshOptions::default() };
    Arc::new(Mesh::new(Loader::new().text("m.yaml", manifests).load(), options))
}

fn trace(mesh: &Arc<Mesh>) -> Trace {
    let query = Query { from: Some("shop/client".into()), ..Query::get("http://web.legacy/").unwrap() };
    Tracer::new(mesh.clone()).trace(&query).unwrap()
}

fn chosen(trace: &Trace, kind: StepKind) -> Vec<&str> {
    let steps = trace.hops.iter().flat_map(|hop| &hop.steps).filter(|step| step.kind == kind);
    steps.map(|step| step.name.as_str()).collect()
}

#[test]
fn what_is_selected_by_one_selector_is_seen() {
    let mesh = mesh(
        MESH,
        "[{matchLabels: {mesh: 'yes'}}, {matchExpressions: [{key: team, operator: In, values: [old]}]}]",
    );
    assert_eq!(trace(&mesh).outcomes[0].verdict.status, Some(418));
}

#[test]
fn a_namespace_that_is_not_selected_is_reached_past_the_mesh() {
    let mesh = mesh(MESH, "[{matchLabels: {mesh: 'yes'}}]");
    assert!(!mesh.is_watched("legacy") && mesh.is_watched("shop"));
    assert_eq!(mesh.services().len(), 0, "istiod knows no Service");
    let trace = trace(&mesh);
    assert_eq!(chosen(&trace, StepKind::Cluster), ["PassthroughCluster"]);
    let reached = trace.hops.last().map(|hop| hop.id.as_str());
    assert_eq!((reached, trace.outcomes[0].fidelity), (Some("workload:legacy/web"), Fidelity::Assumed));
    let noted = mesh.diagnostics().find(|said| said.code.as_str() == "unwatched-namespace").unwrap();
    assert!(noted.message.contains("the namespace legacy"), "{}", noted.message);
    assert!(noted.labels[0].text.starts_with("the 3 resources"), "{}", noted.labels[0].text);
}

#[test]
fn a_selector_that_is_not_valid_switches_all_of_them_off() {
    let mesh = mesh(MESH, "[{matchLabels: {mesh: 'yes'}}, {matchExpressions: [{key: a, operator: Near}]}]");
    assert_eq!(trace(&mesh).outcomes[0].verdict.status, Some(418));
}

#[test]
fn a_namespace_without_written_labels_is_taken_to_be_selected_and_named() {
    let manifests = MESH.replace("metadata: {name: legacy, labels: {team: old}}", "metadata: {name: other}");
    let asked_by_label = mesh(&manifests, "[{matchLabels: {mesh: 'yes'}}]");
    let found = trace(&asked_by_label);
    assert_eq!(found.outcomes[0].verdict.status, Some(418));
    let texts: Vec<_> = found.assumptions.iter().map(|own| own.text.as_str()).collect();
    assert_eq!(texts, ["discoverySelectors select the namespace legacy, whose labels are not written"]);

    let asked_by_name = mesh(&manifests, "[{matchLabels: {kubernetes.io/metadata.name: shop}}]");
    assert!(asked_by_name.presumed_watched().is_empty());
    assert!(!asked_by_name.is_watched("legacy"), "its name is a label that it surely has");
}
