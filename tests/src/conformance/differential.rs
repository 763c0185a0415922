//! Random meshes, compiled by real istiod and decided by a real Envoy.
//!
//! A case is one mesh and one proxy; every request is a check. `answer` puts dryroute's decision into the words of the
//! recording. Fields that hold headers and texts are compared only when asked for.

mod answer;

use std::collections::BTreeMap;
use std::sync::Arc;

use dryroute::istiod::{Node, NodeMetadata, NodeType, Proxy};
use dryroute::manifest::{Loader, parse_mesh_config};
use dryroute::mesh::{Mesh, MeshOptions};
use serde_json::{Map, Value};

use super::{Check, Mismatch, Options};

/// The fields that are compared only with `--headers`.
const HEADER_FIELDS: &[&str] = &["upstream_request", "response_headers", "location", "details", "body"];
/// Every field that an answer may have, apart from [`HEADER_FIELDS`].
const FIELDS: &[&str] = &[
    "outcome",
    "listener",
    "filter_chain",
    "route_config",
    "virtual_host",
    "route_index",
    "route",
    "cluster",
    "clusters",
    "cluster_tls",
    "delivered",
    "status",
    "flags",
    "tls_failure",
];

/// A mesh, a proxy, requests and what was measured.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Case {
    /// The number.
    pub id: String,
    /// Multi-document YAML.
    pub manifests: String,
    /// MeshConfig as YAML; may be empty.
    #[serde(default)]
    pub mesh_config: String,
    /// The proxy that is asked.
    pub proxy: ProxyRecord,
    /// Requests.
    pub requests: Vec<Request>,
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
    /// Address.
    pub ip: String,
    /// Service account, and the name of the proxy.
    pub service_account: String,
}

/// A request and what the real programs did with it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Request {
    /// What was sent.
    pub request: Sent,
    /// What was measured.
    pub expect: Map<String, Value>,
}

/// What was sent.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Sent {
    /// `outbound`, `inbound` or `gateway`.
    pub mode: String,
    /// Original destination, `address:port`.
    pub dst: String,
    /// Source address.
    pub source_ip: Option<String>,
    /// `plaintext`, `tls` or `mtls`.
    pub transport: String,
    /// SNI; may be empty.
    pub sni: String,
    /// ALPN values, comma separated.
    pub alpn: String,
    /// The URI name of the client's certificate.
    pub principal: Option<String>,
    /// `http/1.1` or `tcp`.
    pub protocol: String,
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Host.
    pub authority: String,
    /// Header lines.
    pub headers: Vec<(String, String)>,
}

impl Sent {
    fn describe(&self, index: usize) -> String {
        let tls = if self.sni.is_empty() { String::new() } else { format!(" sni={}", self.sni) };
        if self.protocol == "tcp" {
            return format!("#{index} {} {} {} tcp{tls}", self.mode, self.dst, self.transport);
        }
        let (method, host, path) = (&self.method, &self.authority, &self.path);
        format!("#{index} {} {} {} {method} {host}{path}{tls}", self.mode, self.dst, self.transport)
    }
}

/// The proxy of a case.
fn proxy(case: &Case) -> Proxy {
    let manifests = Loader::new().text("manifests.yaml", case.manifests.as_str()).load();
    let mesh_config = parse_mesh_config("mesh_config", &case.mesh_config).0;
    let mesh = Mesh::new(manifests, MeshOptions { mesh_config, ..MeshOptions::default() });
    let record = &case.proxy;
    let node = Node {
        node_type: if record.kind == "router" { NodeType::Router } else { NodeType::Sidecar },
        namespace: record.namespace.as_str().into(),
        name: record.service_account.as_str().into(),
        labels: record.labels.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        ips: record.ip.parse().into_iter().collect(),
        service_account: record.service_account.as_str().into(),
        metadata: NodeMetadata::default(),
        istio_version: dryroute::ISTIO_VERSION.into(),
    };
    Proxy::new(Arc::new(mesh), node)
}

/// Runs a case.
pub fn run(case: &Case, options: &Options, out: &mut Vec<Check>) {
    let mut built = None;
    for (index, request) in case.requests.iter().enumerate() {
        let name = request.request.describe(index);
        if !options.selects(&case.id, &name) {
            continue;
        }
        let proxy = built.get_or_insert_with(|| proxy(case));
        let got = answer::answer(proxy, &request.request);
        let has = |field: &str| request.expect.contains_key(field);
        let headers = HEADER_FIELDS.iter().filter(|field| {
            options.headers
                && match **field {
                    // Bytes that are no HTTP have no recorded headers, and the clusters of a weighted route no status.
                    "response_headers" | "location" | "body" if !has("response_headers") => false,
                    // A mirrored request reached the upstream twice, and was then not recorded.
                    "upstream_request" if !has("upstream_request") => {
                        request.expect.get("details").is_some_and(|details| details != "via_upstream")
                    }
                    _ => true,
                }
        });
        let fields = FIELDS.iter().chain(headers);
        let null = Value::Null;
        let mismatches = fields
            .filter_map(|field| {
                let (expected, got) =
                    (request.expect.get(*field).unwrap_or(&null), got.get(*field).unwrap_or(&null));
                (expected != got).then(|| Mismatch {
                    field: (*field).into(),
                    expected: expected.clone(),
                    got: got.clone(),
                })
            })
            .collect();
        out.push(Check { case: case.id.clone(), request: name, mismatches });
    }
}
