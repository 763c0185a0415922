//! What does a proxy's configuration look like to Envoy itself?
//!
//! The configuration types of this room as JSON of Envoy's v3 API: what a real Envoy reads. Invariant: nothing is decided
//! here; what the types do not say is not written, and what a stock Envoy cannot run (Istio's own filters) is left out and
//! named in [`Export::left_out`].

mod cluster;
mod dump;
mod http;
mod json;
mod listener;
pub mod loopback;
mod matching;
mod metadata;
mod rbac;
mod route;
mod tls;
mod tuning;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use smol_str::SmolStr;

use self::json::Object;
pub use self::loopback::{Certificates, Loopback, OneMachine};
use super::config::{Cluster, DiscoveryType, Listener, RouteConfiguration, UpstreamTransport};

/// Everything that one proxy was told.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The node's id, such as `sidecar~10.0.0.1~sleep.default~default.svc.cluster.local`.
    pub node_id: SmolStr,
    /// The service cluster that it reports, such as `sleep.default`.
    pub node_cluster: SmolStr,
    /// The address families that names are resolved to, such as `V4_ONLY`.
    pub dns_lookup_family: &'static str,
    /// How often names are resolved again.
    pub dns_refresh_rate: Duration,
    /// All listeners.
    pub listeners: Vec<Arc<Listener>>,
    /// All route configurations that listeners ask for by name.
    pub route_configurations: Vec<Arc<RouteConfiguration>>,
    /// All clusters.
    pub clusters: Vec<Arc<Cluster>>,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Document {
    /// A file for `envoy --config-path`: everything in place.
    Bootstrap,
    /// A discovery response with the listeners.
    Lds,
    /// A discovery response with the route configurations.
    Rds,
    /// A discovery response with the clusters.
    Cds,
    /// A discovery response with the endpoints of clusters that ask for them.
    Eds,
    /// What `/config_dump?include_eds` of the admin interface answers.
    ConfigDump,
}

/// A document, and what is not in it.
#[derive(Clone, Debug)]
pub struct Export {
    /// The document.
    pub document: Value,
    /// What was left out, each once, in the order it was met.
    pub left_out: Vec<String>,
}

/// Writes a proxy's configuration; with `loopback`, for one machine and stand-in upstreams.
pub fn export(snapshot: &Snapshot, document: Document, loopback: Option<&dyn Loopback>) -> Export {
    let writer = Writer { snapshot, loopback, left_out: RefCell::default() };
    let document = match document {
        Document::Bootstrap => writer.bootstrap(),
        Document::Lds => discovery_response(LISTENER, writer.listeners(Routes::ByName)),
        Document::Rds => discovery_response(ROUTE_CONFIGURATION, writer.route_configurations()),
        Document::Cds => discovery_response(CLUSTER, writer.clusters(Endpoints::ByName)),
        Document::Eds => discovery_response(ENDPOINTS, writer.load_assignments()),
        Document::ConfigDump => dump::config_dump(&writer),
    };
    Export { document, left_out: writer.left_out.into_inner() }
}

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTE_CONFIGURATION: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// The version that documents carry; there is only one of them.
const VERSION: &str = "1";

/// Whether listeners name their route configurations or hold them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Routes {
    ByName,
    InPlace,
}

/// Whether clusters name their endpoints or hold them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoints {
    ByName,
    InPlace,
}

/// Writes one proxy's configuration.
struct Writer<'a> {
    snapshot: &'a Snapshot,
    loopback: Option<&'a dyn Loopback>,
    left_out: RefCell<Vec<String>>,
}

impl Writer<'_> {
    /// Notes that something is not written.
    fn leave_out(&self, what: impl Into<String>) {
        let what = what.into();
        let mut list = self.left_out.borrow_mut();
        if !list.contains(&what) {
            list.push(what);
        }
    }

    fn listeners(&self, routes: Routes) -> Vec<Value> {
        self.snapshot.listeners.iter().filter_map(|l| listener::listener(self, l, routes)).collect()
    }

    fn route_configurations(&self) -> Vec<Value> {
        let taken = self.snapshot.route_configurations.iter().filter(|c| self.is_taken(c));
        taken.map(|c| route::route_configuration(self, c)).collect()
    }

    /// Whether Envoy takes a route configuration; one that it refuses is left out.
    fn is_taken(&self, configuration: &RouteConfiguration) -> bool {
        if let Some(refusal) = &configuration.refused {
            let RouteConfiguration { name, .. } = configuration;
            self.leave_out(format!("route configuration {name}: Envoy would refuse it: {}", refusal.reason));
        }
        configuration.refused.is_none()
    }

    fn clusters(&self, endpoints: Endpoints) -> Vec<Value> {
        self.snapshot.clusters.iter().map(|c| cluster::cluster(self, c, endpoints)).collect()
    }

    fn load_assignments(&self) -> Vec<Value> {
        let eds = |c: &&Arc<Cluster>| c.discovery_type == DiscoveryType::Eds;
        self.snapshot.clusters.iter().filter(eds).map(|c| cluster::load_assignment(self, c)).collect()
    }

    fn node(&self) -> Value {
        json!({"id": self.snapshot.node_id, "cluster": self.snapshot.node_cluster})
    }

    /// Whether certificates come from Istio's agent.
    fn needs_agent(&self) -> bool {
        let certificates = self.loopback.and_then(|loopback| loopback.certificates()).is_some();
        let downstream = self.snapshot.listeners.iter().any(|l| {
            l.filter_chains
                .iter()
                .chain(&l.default_filter_chain)
                .any(|chain| chain.transport_socket.is_some())
        });
        let upstream = self.snapshot.clusters.iter().any(|c| c.transport != UpstreamTransport::Plaintext);
        !certificates && (downstream || (upstream && self.loopback.is_none()))
    }

    fn bootstrap(&self) -> Value {
        let mut clusters = self.clusters(Endpoints::InPlace);
        if self.needs_agent() {
            clusters.push(agent_cluster());
        }
        let mut bootstrap = Object::new();
        bootstrap.set("node", self.node());
        bootstrap.set(
            "static_resources",
            json!({"listeners": self.listeners(Routes::InPlace), "clusters": clusters}),
        );
        bootstrap.set("layered_runtime", runtime());
        let admin = self.loopback.map_or(15000, Loopback::admin_port);
        bootstrap.set("admin", json!({"address": socket_address("127.0.0.1", admin)}));
        bootstrap.into()
    }
}

/// The runtime flags of Istio's bootstrap. istiod: `pkg/bootstrap/config.go: extractRuntimeFlags`.
fn runtime() -> Value {
    json!({"layers": [{"name": "global config", "static_layer": {
        "envoy.reloadable_features.http_reject_path_with_fragment": false,
        "re2.max_program_size.error_level": 32768,
    }}]})
}

/// The cluster of Istio's agent, which hands out certificates.
fn agent_cluster() -> Value {
    json!({
        "name": "sds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {"cluster_name": "sds-grpc", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
            "pipe": {"path": "./var/run/secrets/workload-spiffe-uds/socket"},
        }}}]}]},
    })
}

fn socket_address(address: impl Into<String>, port: u16) -> Value {
    json!({"socket_address": {"address": address.into(), "port_value": port}})
}

/// `value` with its type in front.
fn typed(type_url: &str, value: Value) -> Value {
    let mut out = Object::typed(type_url);
    if let Value::Object(fields) = value {
        out.extend(fields);
    }
    out.into()
}

fn discovery_response(type_url: &str, resources: Vec<Value>) -> Value {
    let resources: Vec<Value> = resources.into_iter().map(|r| typed(type_url, r)).collect();
    json!({"version_info": VERSION, "resources": resources, "type_url": type_url})
}
