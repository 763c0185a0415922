//! What is everything that a proxy is told?
//!
//! The enumeration of a proxy's configuration, for whoever writes it down. Invariant: it holds what the answers on
//! demand hold, built by the same code.

use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use super::node::{IpMode, Node, NodeType};
use super::proxy::Proxy;
use crate::envoy::ProxyFacts;
use crate::envoy::export::Snapshot;
use crate::manifest::schema;

impl Proxy {
    /// Everything it is told.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            node_id: self.node_id(),
            dns_lookup_family: self.dns_lookup_family(),
            dns_refresh_rate: self.dns_refresh_rate(),
            node_cluster: format_smolstr!("{}.{}", self.node().service_account, self.node().namespace),
            listeners: self.listeners(),
            route_configurations: self.route_configurations(),
            clusters: self.clusters(),
        }
    }

    /// The families that it resolves names to. istiod: `networking/util/util.go: SelectDNSLookupFamily`.
    pub fn dns_lookup_family(&self) -> &'static str {
        match self.node().ip_mode() {
            IpMode::V6 => "V6_ONLY",
            IpMode::Dual if self.mesh().features().dual_stack => "ALL",
            IpMode::V4 | IpMode::Dual => "V4_ONLY",
        }
    }

    /// How often it resolves names again; Istio's default is a minute.
    pub fn dns_refresh_rate(&self) -> Duration {
        let written = self.mesh().config().written.dns_refresh_rate;
        written.map_or(Duration::from_secs(60), schema::Duration::to_std)
    }

    /// How long its listeners wait to find out what a connection is; Istio's default is for as long as it takes.
    pub fn protocol_detection_timeout(&self) -> Duration {
        let written = self.mesh().config().written.protocol_detection_timeout;
        written.map_or(Duration::ZERO, schema::Duration::to_std)
    }

    /// Its node id, such as `sidecar~10.0.0.1~sleep.default~default.svc.cluster.local`.
    ///
    /// istiod: `model/context.go: ServiceNode`.
    pub fn node_id(&self) -> SmolStr {
        let kind = match self.node().node_type {
            NodeType::Sidecar => "sidecar",
            NodeType::Router => "router",
            NodeType::Waypoint => "waypoint",
        };
        let Node { name, namespace, ips, .. } = self.node();
        let ip = ips.first().map_or_else(String::new, ToString::to_string);
        format_smolstr!("{kind}~{ip}~{name}.{namespace}~{}", self.domain())
    }

    /// What the data plane's header rules need to know about it.
    pub fn facts(&self) -> ProxyFacts {
        let node = self.node();
        let trust_domain = &self.mesh().config().trust_domain;
        ProxyFacts {
            address: node.ips.first().copied().unwrap_or_else(|| node.ip_mode().localhost()),
            identity: format_smolstr!(
                "spiffe://{trust_domain}/ns/{}/sa/{}",
                node.namespace,
                node.service_account
            ),
            node_id: self.node_id(),
            // Istio's own build of Envoy has it.
            peer_metadata: true,
            strips_dot_parameters: true,
        }
    }

    /// The same when a stock Envoy, which lacks Istio's own filters, runs its configuration.
    pub fn stock_envoy_facts(&self) -> ProxyFacts {
        ProxyFacts { peer_metadata: false, ..self.facts() }
    }
}
