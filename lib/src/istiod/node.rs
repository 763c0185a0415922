//! Who is asking?
//!
//! What istiod learns about a proxy from its bootstrap: type, workload, addresses and metadata.
//! istiod: `pilot/pkg/model/context.go: Proxy, NodeMetadata`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::route::ProxyIdentity;
use crate::manifest::schema::mesh_config::ProxyConfig;
use crate::mesh::locality;

/// What kind of proxy it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NodeType {
    /// Beside an application.
    #[default]
    Sidecar,
    /// A gateway.
    Router,
    /// A waypoint of ambient mode.
    Waypoint,
}

/// How a sidecar comes by its workload's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InterceptionMode {
    /// iptables `REDIRECT`.
    #[default]
    Redirect,
    /// iptables `TPROXY`.
    Tproxy,
    /// Not at all: every listener is a real socket.
    None,
}

/// What a proxy's bootstrap says besides its identity.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeMetadata {
    /// The cluster it runs in; empty when its bootstrap names none, and then no cluster-specific address is known.
    pub cluster_id: SmolStr,
    /// The network it runs in; may be empty.
    pub network: SmolStr,
    /// The namespace that `sourceNamespace` is compared with; empty means the proxy's own.
    pub namespace: SmolStr,
    /// How traffic is captured.
    pub interception_mode: InterceptionMode,
    /// Whether the agent answers DNS.
    pub dns_capture: bool,
    /// Whether automatic addresses are used (an older switch).
    pub dns_auto_allocate: bool,
    /// Whether the proxy cannot bind ports below 1024.
    pub unprivileged: bool,
    /// Whether HTTP/1.0 is accepted on outbound listeners.
    pub http10: bool,
    /// The port of the explicit HTTP proxy, in place of MeshConfig's.
    pub http_proxy_port: Option<u16>,
    /// The port of the health listener.
    pub envoy_status_port: u16,
    /// The port of the metrics listener.
    pub envoy_prometheus_port: u16,
    /// Region, zone and subzone; may be empty.
    pub locality: SmolStr,
    /// Whether nothing says where it runs, so that no locality is assumed.
    pub locality_assumed: bool,
    /// Whether the proxy knows the others of its workload, so that Envoy shares requests by zone.
    pub self_discovery: bool,
    /// The node that the workload runs on; may be empty.
    pub node_name: SmolStr,
    /// The proxy configuration it starts with; `None` means MeshConfig's `defaultConfig`.
    pub proxy_config: Option<Arc<ProxyConfig>>,
}

impl Default for NodeMetadata {
    fn default() -> Self {
        Self {
            cluster_id: SmolStr::new_static("Kubernetes"),
            network: SmolStr::default(),
            namespace: SmolStr::default(),
            interception_mode: InterceptionMode::Redirect,
            dns_capture: false,
            dns_auto_allocate: false,
            unprivileged: false,
            http10: false,
            http_proxy_port: None,
            envoy_status_port: 15021,
            envoy_prometheus_port: 15090,
            locality: SmolStr::default(),
            locality_assumed: false,
            self_discovery: false,
            node_name: SmolStr::default(),
            proxy_config: None,
        }
    }
}

/// A proxy, as istiod knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What kind it is.
    pub node_type: NodeType,
    /// The workload's namespace.
    pub namespace: SmolStr,
    /// The workload's name, such as a pod's.
    pub name: SmolStr,
    /// The workload's labels.
    pub labels: IndexMap<SmolStr, SmolStr>,
    /// The workload's addresses; the first is the main one.
    pub ips: Vec<IpAddr>,
    /// The workload's service account.
    pub service_account: SmolStr,
    /// The rest.
    pub metadata: NodeMetadata,
    /// The proxy's Istio version; may be empty.
    pub istio_version: SmolStr,
}

/// The address families of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpMode {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

impl IpMode {
    /// The address that stands for every address; of two, the main one.
    pub const fn wildcard(self) -> IpAddr {
        match self {
            Self::V4 | Self::Dual => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// The address that stands for every address of the other family, where there are two.
    pub const fn extra_wildcard(self) -> Option<IpAddr> {
        match self {
            Self::V4 | Self::V6 => None,
            Self::Dual => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        }
    }

    /// The loopback address of the other family, where there are two.
    pub const fn extra_localhost(self) -> Option<IpAddr> {
        match self {
            Self::V4 | Self::V6 => None,
            Self::Dual => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        }
    }

    /// The loopback address; of two, the main one.
    pub const fn localhost(self) -> IpAddr {
        match self {
            Self::V4 | Self::Dual => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

impl Node {
    /// A sidecar of a workload, with the metadata that Istio's injection writes.
    pub fn sidecar(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>, ips: Vec<IpAddr>) -> Self {
        Self {
            node_type: NodeType::Sidecar,
            namespace: namespace.into(),
            name: name.into(),
            labels: IndexMap::new(),
            ips,
            service_account: SmolStr::new_static("default"),
            metadata: NodeMetadata::default(),
            istio_version: SmolStr::default(),
        }
    }

    /// The namespace that `sourceNamespace` is compared with.
    pub fn metadata_namespace(&self) -> &SmolStr {
        if self.metadata.namespace.is_empty() { &self.namespace } else { &self.metadata.namespace }
    }

    /// What matches of routes can ask of this proxy.
    pub fn identity(&self) -> ProxyIdentity<'_> {
        ProxyIdentity { labels: &self.labels, namespace: self.metadata_namespace() }
    }

    /// Settles where it runs, and labels it so: labels for its parts win over one for the whole, and both over what the
    /// bootstrap says. istiod: `ads.go: setTopologyLabels, localityFromProxyLabels`.
    pub(super) fn settle_locality(&mut self) {
        let parts = [locality::REGION, locality::ZONE, locality::SUBZONE].map(|name| self.labels.get(&name));
        if parts.iter().any(Option::is_some) {
            let [region, zone, subzone] = parts.map(|part| part.map_or("", SmolStr::as_str));
            self.metadata.locality = format_smolstr!("{region}/{zone}/{subzone}");
        } else {
            // As written: here, dots do not stand for slashes.
            let written = ["topology.istio.io/locality", "istio-locality"];
            if let Some(label) =
                written.iter().find_map(|name| self.labels.get(*name)).filter(|l| !l.is_empty())
            {
                self.metadata.locality = label.clone();
            }
        }
        let place = &self.metadata;
        locality::augment(
            &mut self.labels,
            &place.locality,
            &place.cluster_id,
            &place.node_name,
            &place.network,
        );
    }

    /// Whether it has an IPv4 address.
    pub fn supports_ipv4(&self) -> bool {
        self.ips.iter().any(IpAddr::is_ipv4)
    }

    /// Whether it has an IPv6 address.
    pub fn supports_ipv6(&self) -> bool {
        self.ips.iter().any(IpAddr::is_ipv6)
    }

    /// Its address families; a proxy without addresses counts as IPv4.
    pub fn ip_mode(&self) -> IpMode {
        match (self.supports_ipv4(), self.supports_ipv6()) {
            (true, true) => IpMode::Dual,
            (false, true) => IpMode::V6,
            (true | false, false) => IpMode::V4,
        }
    }
}
