//! What cannot be run makes an answer unknown, never a guess.

use std::sync::Arc;

use dryroute::envoy::{
    ApplicationProtocol, Capture, Connection, ConnectionOutcome, HttpOutcome, HttpRequest, NoRecord,
    Transport, decide,
};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};

/// Whether a request of a sidecar with an EnvoyFilter of this context has an answer.
fn is_known(context: &str) -> bool {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\n\
         spec: {{hosts: [api.example], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}\n---\n\
         apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f}}\n\
         spec: {{configPatches: [{{applyTo: HTTP_FILTER, match: {{context: {context}}}, \
         patch: {{operation: INSERT_BEFORE, value: {{name: x}}}}}}]}}\n"
    );
    let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), MeshOptions::default());
    let proxy =
        Proxy::new(Arc::new(mesh), Node::sidecar("default", "sleep", vec!["10.0.0.1".parse().unwrap()]));
    let connection = Connection {
        destination: "192.0.2.1".parse().unwrap(),
        port: 80,
        source: "10.0.0.1".parse().unwrap(),
        transport: Transport::Plaintext,
        protocol: ApplicationProtocol::Http11,
    };
    let request = HttpRequest {
        method: "GET".into(),
        path: "/".into(),
        authority: "api.example".into(),
        scheme: None,
        headers: Vec::new(),
    };
    let decision =
        decide(&proxy, &proxy.facts(), Capture::Outbound, &connection, Some(&request), &mut NoRecord);
    match decision.outcome {
        ConnectionOutcome::Http(http) => {
            !http.branches.iter().any(|branch| matches!(branch.outcome, HttpOutcome::Unknown { .. }))
        }
        ConnectionOutcome::Unknown { .. } => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_envoy_filter_makes_the_traffic_of_its_context_unknown() {
    assert!(!is_known("SIDECAR_OUTBOUND"));
    assert!(!is_known("ANY"));
    assert!(is_known("SIDECAR_INBOUND"));
    assert!(is_known("GATEWAY"));
}
