//! Paths through two sidecars, as Istio's own integration test asserts them.

use std::sync::Arc;

use dryroute::envoy::{
    ApplicationProtocol, Capture, Connection, ConnectionOutcome, HttpOutcome, HttpRequest, NoRecord,
    ProxyFacts, Transport, decide,
};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::{Loader, parse_mesh_config};
use dryroute::mesh::{Mesh, MeshOptions};

const CLIENT: &str = "10.0.0.1";
const SERVER: &str = "10.0.0.2";

const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: app, namespace: default}
spec:
  clusterIP: 10.96.0.1
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: default, labels: {app: app}}
spec:
  containers: [{name: app, image: app}, {name: istio-proxy, image: proxyv2}]
status: {podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, namespace: default, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2], conditions: {ready: true}}]
ports: [{name: http, port: 8080, protocol: TCP}]
";

#[derive(serde::Deserialize)]
struct Group {
    name: String,
    normalization: String,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    r#in: String,
    out: Option<String>,
    status: Option<u16>,
}

fn proxies(normalization: &str) -> (Proxy, Proxy) {
    let text = format!("pathNormalization: {{normalization: {normalization}}}");
    let mesh_config = parse_mesh_config("mesh", &text).0;
    assert!(mesh_config.is_some(), "{normalization}");
    let manifests = Loader::new().text("app.yaml", MANIFESTS).load();
    let mesh = Arc::new(Mesh::new(manifests, MeshOptions { mesh_config, ..MeshOptions::default() }));
    let node = |name: &str, ip: &str| Node::sidecar("default", name, vec![ip.parse().unwrap()]);
    let mut server = node("app", SERVER);
    server.labels.insert("app".into(), "app".into());
    (Proxy::new(Arc::clone(&mesh), node("client", CLIENT)), Proxy::new(mesh, server))
}

/// The path that the proxy forwards, or its answer's status.
fn pass(proxy: &Proxy, capture: Capture, destination: (&str, u16), path: &str) -> Result<String, u16> {
    let connection = Connection {
        destination: destination.0.parse().unwrap(),
        port: destination.1,
        source: CLIENT.parse().unwrap(),
        transport: Transport::Plaintext,
        protocol: ApplicationProtocol::Http11,
        preface: dryroute::envoy::request::Preface::default(),
    };
    let request = HttpRequest {
        method: "GET".into(),
        path: path.into(),
        authority: "app".into(),
        scheme: None,
        headers: Vec::new(),
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    };
    // Istio's assertions are about a build from before Envoy's fix of CVE-2026-73551.
    let facts = ProxyFacts { strips_dot_parameters: false, ..proxy.facts() };
    let decision = decide(proxy, &facts, capture, &connection, Some(&request), &mut NoRecord);
    let ConnectionOutcome::Http(http) = decision.outcome else { panic!("{path}: {:?}", decision.outcome) };
    let [branch] = http.branches.as_slice() else { panic!("{path}: one branch is expected") };
    match &branch.outcome {
        HttpOutcome::Forward(_) => Ok(branch.request.path.to_string()),
        HttpOutcome::Reply(reply) => Err(reply.response.status),
        HttpOutcome::Reset(reset) => panic!("{path}: {}", reset.details),
        HttpOutcome::Unknown { reason, .. } => panic!("{path}: {reason}"),
    }
}

#[test]
fn paths_arrive_at_the_server_as_istio_asserts() {
    let Some(folder) = dryroute_tests::conformance("path-normalization") else { return };
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let groups: Vec<Group> = serde_json::from_str(&text).unwrap();
    let mut failures = Vec::new();
    let mut count = 0;
    for group in &groups {
        let (client, server) = proxies(&group.normalization);
        for case in &group.cases {
            count += 1;
            let got = pass(&client, Capture::Outbound, ("10.96.0.1", 80), &case.r#in)
                .and_then(|path| pass(&server, Capture::Inbound, (SERVER, 8080), &path));
            let expected = case.out.clone().ok_or(case.status.unwrap_or_default());
            if got != expected {
                failures.push(format!("{} {}: expected {expected:?}, got {got:?}", group.name, case.r#in));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count} differ: {failures:#?}", failures.len());
    assert!(count >= 345, "only {count} cases were read");
}
