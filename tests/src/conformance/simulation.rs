//! Istio's own traffic simulation: meshes, calls, and the whole compiled configuration.
//!
//! A case is one mesh and one proxy. Every call is a check, and so is the configuration (`xds`).

use std::collections::BTreeMap;
use std::sync::Arc;

use dryroute::istiod::{Node, NodeMetadata, NodeType, Proxy};
use dryroute::manifest::schema::mesh_config::MeshConfig;
use dryroute::manifest::{Admission, Loader, parse_mesh_config};
use dryroute::mesh::{Features, Mesh, MeshOptions};
use serde_json::{Value, json};

use super::simulator::{self, Answer, Call};
use super::{Check, Mismatch, Options, summary};

/// A mesh, a proxy, calls and answers.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Case {
    /// The number.
    pub id: String,
    /// Istio's test.
    pub test: String,
    /// Multi-document YAML.
    pub manifests: String,
    /// MeshConfig as YAML; may be empty.
    #[serde(default)]
    pub mesh_config: String,
    /// Switches that differ from their defaults.
    #[serde(default)]
    pub features: BTreeMap<String, Value>,
    /// The proxy that is asked.
    pub proxy: ProxyRecord,
    /// The calls.
    pub requests: Vec<Request>,
    /// The configuration.
    pub xds: Value,
}

/// A proxy.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct ProxyRecord {
    /// `sidecar` or `router`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Addresses.
    #[serde(default)]
    pub ips: Vec<String>,
    /// Node metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
    /// Version.
    #[serde(default)]
    pub istio_version: String,
}

/// A call and its answer.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Request {
    /// A name.
    pub name: String,
    /// The call.
    pub call: Call,
    /// The answer.
    pub expect: Answer,
}

/// Go's names of switches, where the suite uses them, as environment variables.
const SWITCHES: [(&str, &str); 2] = [
    ("EnableTLSOnSidecarIngress", "ENABLE_TLS_ON_SIDECAR_INGRESS"),
    ("EnableHeadlessFilterChainListener", "PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER"),
];

/// The proxy that a case asks.
///
/// # Panics
///
/// The case names a switch that dryroute does not have.
pub fn proxy(case: &Case) -> Proxy {
    let mut features = Features::default();
    for (name, value) in &case.features {
        let variable =
            SWITCHES.iter().find(|(go, _)| go == name).map_or(name.as_str(), |(_, variable)| variable);
        assert!(features.set(variable, &value.to_string()), "{}: no switch {name}", case.id);
    }
    let mesh_config = if case.mesh_config.trim().is_empty() {
        Some(MeshConfig::default())
    } else {
        parse_mesh_config("mesh_config", &case.mesh_config).0
    };
    // The suite hands istiod its resources past the webhook.
    let manifests =
        Loader::new().admission(Admission::Admitted).text("manifests.yaml", case.manifests.as_str()).load();
    let options = MeshOptions {
        mesh_config,
        // Short names are completed with the namespace only.
        resource_domain: "".into(),
        features,
        // Istio's fake registry invents no addresses.
        assume_addresses: false,
        // Its Gateway API resources never pass an API server.
        gateway_api_defaults: false,
        ..MeshOptions::default()
    };
    let record = &case.proxy;
    let text = |key: &str| record.metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let metadata = NodeMetadata {
        cluster_id: text("CLUSTER_ID").into(),
        namespace: text("NAMESPACE").into(),
        dns_capture: text("DNS_CAPTURE") == "true",
        dns_auto_allocate: text("DNS_AUTO_ALLOCATE") == "true",
        envoy_status_port: 0,
        envoy_prometheus_port: 0,
        ..NodeMetadata::default()
    };
    let node = Node {
        node_type: if record.kind == "router" { NodeType::Router } else { NodeType::Sidecar },
        namespace: record.namespace.as_str().into(),
        name: "proxy".into(),
        labels: record.labels.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        ips: record.ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        service_account: "default".into(),
        metadata,
        istio_version: record.istio_version.as_str().into(),
    };
    Proxy::new(Arc::new(Mesh::new(manifests, options)), node)
}

/// Runs a case.
pub fn run(case: &Case, options: &Options, out: &mut Vec<Check>) {
    let name = format!("{} {}", case.id, case.test);
    let proxy = proxy(case);
    for request in &case.requests {
        if !options.selects(&name, &request.name) {
            continue;
        }
        let got = simulator::run(&proxy, &request.call);
        let fields = |answer: &Answer| {
            let Value::Object(map) = json!(answer) else { return serde_json::Map::new() };
            map
        };
        let (expected, got) = (fields(&request.expect), fields(&got));
        let mismatches = expected
            .iter()
            .filter_map(|(field, expected)| {
                let got = got.get(field).cloned().unwrap_or_default();
                (got != *expected).then(|| Mismatch { field: field.clone(), expected: expected.clone(), got })
            })
            .collect();
        out.push(Check { case: name.clone(), request: request.name.clone(), mismatches });
    }
    if options.selects(&name, "xds") {
        let mismatches = summary::compare(&case.xds, &summary::summarise(&proxy));
        out.push(Check { case: name, request: "xds".into(), mismatches });
    }
}
