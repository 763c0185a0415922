//! What istiod and Envoy leave to luck is named.

use std::sync::Arc;

use dryroute::diagnostic::{Code, Diagnostic, Place};
use dryroute::istiod::{Node, Proxy, diagnostics};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};

fn mesh(text: String) -> Arc<Mesh> {
    Arc::new(Mesh::new(Loader::new().text("mesh.yaml", text).load(), MeshOptions::default()))
}

fn entry(name: &str, namespace: &str, created: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}{created}}}\n\
         spec: {{hosts: [api.example], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}\n---\n"
    )
}

fn of_code(found: &[Diagnostic], code: Code) -> Vec<&Diagnostic> {
    found.iter().filter(|d| d.code == code).collect()
}

fn arrival(mesh: &Mesh) -> Vec<Diagnostic> {
    of_code(&mesh.diagnostics().cloned().collect::<Vec<_>>(), Code::ArrivalOrder)
        .into_iter()
        .cloned()
        .collect()
}

#[test]
fn two_entries_of_one_age_and_host_are_named_and_the_first_by_name_is_taken() {
    let mesh = mesh(entry("b", "default", "") + &entry("a", "default", ""));
    let found = arrival(&mesh);
    assert_eq!(found.len(), 1, "{found:?}");
    let Place::Origin(first) = &found[0].labels[0].at else { panic!("{found:?}") };
    assert_eq!(mesh.manifests().describe(first.resource().unwrap()), "ServiceEntry default/a");
    assert_eq!(first, &mesh.services()[0].origin, "the answer is the one that is named");
}

#[test]
fn entries_that_istiod_can_tell_apart_are_not_named() {
    for (a, b) in [
        (entry("a", "default", ""), entry("b", "shop", "")),
        (entry("a", "default", ""), entry("b", "default", ", creationTimestamp: '2025-01-01T00:00:00Z'")),
    ] {
        assert_eq!(arrival(&mesh(a + &b)), []);
    }
}

/// A mesh whose sidecar has a `tls` rule with these matches.
fn with_tls_matches(matches: [&str; 2]) -> Arc<Mesh> {
    let [first, second] = matches;
    mesh(format!(
        "\
apiVersion: v1
kind: Pod
metadata: {{name: sleep, namespace: default}}
spec: {{containers: [{{name: app, image: app}}, {{name: istio-proxy, image: proxyv2}}]}}
status: {{podIP: 10.0.0.9}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a}}
spec:
  hosts: ['*.example']
  ports: [{{number: 443, name: tls, protocol: TLS}}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: vs}}
spec:
  hosts: ['*.example']
  tls:
  - match: [{{{first}}}]
    route: [{{destination: {{host: '*.example'}}}}]
  - match: [{{{second}}}]
    route: [{{destination: {{host: '*.example'}}}}]
"
    ))
}

fn is_refused(matches: [&str; 2]) -> bool {
    let mesh = with_tls_matches(matches);
    assert_eq!(mesh.diagnostics().filter(|d| d.code == Code::RejectedByIstio).count(), 0);
    let named = of_code(&diagnostics::of_mesh(&mesh), Code::RefusedByEnvoy).len();
    let proxy = Proxy::new(mesh, Node::sidecar("default", "sleep", vec!["10.0.0.9".parse().unwrap()]));
    let refused = proxy.listeners().iter().filter(|listener| listener.refused.is_some()).count();
    assert_eq!(named, refused);
    assert!(refused <= 1, "there is one such listener");
    refused > 0
}

#[test]
fn a_listener_of_a_sidecar_that_envoy_would_refuse_is_named() {
    // The second match takes over the subnets of the first, so both chains ask for the same.
    assert!(is_refused([
        "sniHosts: [api.example], destinationSubnets: [10.0.0.0/8]",
        "sniHosts: [api.example]"
    ]));
    // One name in both is enough.
    assert!(is_refused(["sniHosts: [api.example, www.example]", "sniHosts: [www.example]"]));
    // The narrower name wins.
    assert!(!is_refused(["sniHosts: [api.example]", "sniHosts: ['*.example']"]));
}
