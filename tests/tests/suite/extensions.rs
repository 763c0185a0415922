//! What cannot be run makes an answer unknown, never a guess.

use std::sync::Arc;

use dryroute::envoy::{
    ApplicationProtocol, Capture, Connection, ConnectionOutcome, HttpOutcome, HttpRequest, NoRecord,
    Transport, decide,
};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};

const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n\
    spec: {hosts: [api.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}\n---\n";

/// Whether a request of a sidecar has an answer beside these resources.
fn is_known(resources: &str) -> bool {
    let connection = connection(80, ApplicationProtocol::Http11);
    let request = HttpRequest {
        method: "GET".into(),
        path: "/".into(),
        authority: "api.example".into(),
        scheme: None,
        headers: Vec::new(),
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    };
    let proxy = sidecar(resources);
    match decide(&proxy, &proxy.facts(), Capture::Outbound, &connection, Some(&request), &mut NoRecord)
        .outcome
    {
        ConnectionOutcome::Http(http) => {
            !http.branches.iter().any(|branch| matches!(branch.outcome, HttpOutcome::Unknown { .. }))
        }
        ConnectionOutcome::Unknown { .. } => false,
        other => panic!("{other:?}"),
    }
}

/// Whether bytes to a port that nothing describes have an answer beside these resources.
fn are_bytes_known(resources: &str) -> bool {
    let proxy = sidecar(resources);
    let connection = connection(5000, ApplicationProtocol::Tcp);
    let decision = decide(&proxy, &proxy.facts(), Capture::Outbound, &connection, None, &mut NoRecord);
    !matches!(decision.outcome, ConnectionOutcome::Unknown { .. })
}

fn sidecar(resources: &str) -> Proxy {
    let text = format!("{ENTRY}{resources}");
    let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), MeshOptions::default());
    Proxy::new(Arc::new(mesh), Node::sidecar("default", "sleep", vec!["10.0.0.1".parse().unwrap()]))
}

fn connection(port: u16, protocol: ApplicationProtocol) -> Connection {
    Connection {
        destination: "192.0.2.1".parse().unwrap(),
        port,
        source: "10.0.0.1".parse().unwrap(),
        transport: Transport::Plaintext,
        protocol,
        preface: dryroute::envoy::request::Preface::default(),
    }
}

fn envoy_filter(apply_to: &str, context: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f}}\n\
         spec: {{configPatches: [{{applyTo: {apply_to}, match: {{context: {context}}}, \
         patch: {{operation: INSERT_BEFORE, value: {{name: x}}}}}}]}}\n"
    )
}

fn wasm_plugin(spec: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: w}}\n\
         spec: {{url: 'oci://example/w'{spec}}}\n"
    )
}

#[test]
fn an_envoy_filter_makes_the_traffic_of_its_context_unknown() {
    let known = |context: &str| is_known(&envoy_filter("HTTP_FILTER", context));
    assert!(!known("SIDECAR_OUTBOUND"));
    assert!(!known("ANY"));
    assert!(known("SIDECAR_INBOUND"));
    assert!(known("GATEWAY"));
}

#[test]
fn bytes_are_unknown_only_where_a_patch_can_reach_them() {
    assert!(are_bytes_known(""));
    assert!(are_bytes_known(&envoy_filter("HTTP_FILTER", "SIDECAR_OUTBOUND")));
    assert!(!are_bytes_known(&envoy_filter("NETWORK_FILTER", "SIDECAR_OUTBOUND")));
}

#[test]
fn plugins_stand_in_the_way_of_what_their_workload_sends_too() {
    assert!(!is_known(&wasm_plugin("")));
    assert!(!is_known(&wasm_plugin(", match: [{mode: CLIENT}]")));
    assert!(is_known(&wasm_plugin(", match: [{mode: SERVER}]")));
    assert!(is_known(&wasm_plugin(", match: [{ports: [{number: 81}]}]")));
    assert!(!is_known(&wasm_plugin(", match: [{ports: [{number: 81}]}, {ports: [{number: 80}]}]")));
    assert!(is_known(&wasm_plugin(", selector: {matchLabels: {app: other}}")));
}

#[test]
fn traffic_extensions_are_plugins_and_scripts() {
    let extension = |spec: &str| {
        format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {{name: t}}\n\
             spec: {{{spec}}}\n"
        )
    };
    assert!(!is_known(&extension("lua: {inlineCode: x}")));
    assert!(is_known(&extension("lua: {inlineCode: x}, match: [{mode: SERVER}]")));
    assert!(!is_known(&extension("wasm: {url: 'oci://example/w'}")));
}
