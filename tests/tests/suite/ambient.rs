//! Pods in ambient mode: what their ztunnels do is not modelled, and never passed over.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Fidelity, HopKind, Query, Trace, Tracer, VerdictKind};

/// A workload with a Service of its name; `labels` are its pods'.
fn app(name: &str, namespace: &str, labels: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}{labels}}}}}, \
         spec: {{{spec}containers: [{{name: app}}]}}}}}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80}}]}}\n"
    )
}

fn namespace(name: &str, labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

const AMBIENT: &str = "istio.io/dataplane-mode: ambient";

fn trace(manifests: &[String], from: &str, url: &str) -> Trace {
    let loader = Loader::new().text("mesh.yaml", manifests.concat());
    let mut query = Query::get(url).unwrap();
    query.from = Some(from.into());
    Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default()))).trace(&query).unwrap()
}

fn is_unknown_at(trace: &Trace, hop: &str) -> bool {
    let [one] = trace.outcomes.as_slice() else { panic!("{:?}", trace.outcomes) };
    one.verdict.kind == VerdictKind::Unknown
        && one.fidelity == Fidelity::Opaque
        && one.path.last().unwrap() == hop
        && trace.hops.last().unwrap().kind == HopKind::Ztunnel
}

#[test]
fn what_leaves_or_reaches_a_pod_of_an_ambient_namespace_is_unknown() {
    let manifests = [
        namespace("calm", AMBIENT),
        namespace("side", "istio-injection: enabled"),
        namespace("bare", ""),
        app("web", "calm", "", ""),
        app("web", "side", "", ""),
        app("web", "bare", "", ""),
    ];
    let out = trace(&manifests, "calm/web", "http://web.bare/");
    assert!(is_unknown_at(&out, "ztunnel:calm/web"), "{:?}", out.outcomes);
    let note = out.diagnostics.first().unwrap();
    assert!(note.message.contains("Namespace calm"), "{}", note.message);
    assert_eq!(note.origin.location().unwrap().line, 4, "{:?}", note.origin);
    for from in ["side/web", "bare/web"] {
        let into = trace(&manifests, from, "http://web.calm/");
        assert!(is_unknown_at(&into, "ztunnel:calm/web"), "{from}: {:?}", into.outcomes);
    }
    let beside = trace(&manifests, "side/web", "http://web.bare/");
    assert_eq!(beside.outcomes.first().unwrap().verdict.kind, VerdictKind::Delivered);
}

#[test]
fn a_pods_own_label_its_sidecar_and_its_nodes_network_decide_before_its_namespace() {
    let manifests = [
        namespace("calm", AMBIENT),
        namespace("both", &format!("{AMBIENT}, istio-injection: enabled")),
        namespace("bare", ""),
        app("in", "bare", &format!(", {AMBIENT}"), ""),
        app("out", "calm", ", istio.io/dataplane-mode: none", ""),
        app("host", "calm", "", "hostNetwork: true, "),
        app("side", "both", "", ""),
        app("web", "bare", "", ""),
        app("in", "nowhere", &format!(", {AMBIENT}"), ""),
    ];
    for (from, is_ambient) in [
        ("bare/in", true),
        ("nowhere/in", true),
        ("calm/out", false),
        ("calm/host", false),
        ("both/side", false),
    ] {
        let kind = trace(&manifests, from, "http://web.bare/").outcomes.first().unwrap().verdict.kind;
        assert_eq!(kind == VerdictKind::Unknown, is_ambient, "{from}");
    }
}

#[test]
fn a_host_that_only_a_serviceentry_has_may_be_known_to_a_ztunnel() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ledger, namespace: calm}\n\
                 spec: {hosts: [ledger], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, \
                 endpoints: [{address: 192.0.2.1}]}\n";
    let manifests = [namespace("calm", AMBIENT), app("web", "calm", "", ""), entry.to_owned()];
    let kind = |url| trace(&manifests, "calm/web", url).outcomes.first().unwrap().verdict.kind;
    assert_eq!(kind("http://ledger/"), VerdictKind::Unknown);
    assert_eq!(kind("http://leger/"), VerdictKind::Unresolved);
}
