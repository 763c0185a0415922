//! What is a sidecar told about traffic to its workload?
//!
//! The ports of the services that select the workload (or those of its Sidecar's `ingress`), each with the filter
//! chains that its protocol and its PeerAuthentication ask for, and chains for every other port. Invariant: all of it
//! depends on the workload, its own services and its policies only, so it is built once for a proxy, as a whole.
//! istiod: `listener_inbound.go`; `cluster.go: buildInboundClusters`.

pub mod chain_config;
pub mod cluster;
pub mod filter_chain;
pub mod listener;
pub mod target;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use smol_str::SmolStr;

pub use target::ServiceTarget;

use self::chain_config::ChainConfig;
use super::connection_manager::ListenerClass;
use super::peer_authentication::{self, MergedPeerAuthentication};
use super::proxy::Proxy;
use crate::envoy::config::{Listener, ListenerAddress};
use crate::mesh::selects;

/// The listener that iptables redirects inbound traffic to.
pub const VIRTUAL_INBOUND: SmolStr = SmolStr::new_static("virtualInbound");

/// Everything about traffic to one workload.
#[derive(Debug)]
pub struct Inbound {
    /// The TLS that the workload accepts.
    pub peer_authentication: MergedPeerAuthentication,
    /// `virtualInbound` first, where traffic is captured; then the real sockets that a Sidecar asks for.
    pub listeners: Vec<Arc<Listener>>,
}

impl Inbound {
    /// What a proxy is told.
    pub fn new(proxy: &Proxy) -> Self {
        let node = proxy.node();
        let targets = proxy.service_targets();
        let peer_authentication = peer_authentication::compose(proxy.mesh(), &node.namespace, |wanted| {
            selects(wanted, &node.labels)
        });
        let chains = chain_config::chain_configs(proxy, targets);
        let listeners = listener::build(proxy, targets, &peer_authentication, &chains);
        let patched = |listener| proxy.patched(ListenerClass::SidecarInbound, listener);
        Self { peer_authentication, listeners: listeners.into_iter().map(patched).collect() }
    }

    /// The listener that captured traffic reaches.
    pub fn virtual_inbound(&self) -> Option<&Arc<Listener>> {
        self.listeners.first().filter(|listener| listener.name == VIRTUAL_INBOUND)
    }

    /// The listener with a socket of its own at an address and port.
    pub fn direct(&self, destination: IpAddr, port: u16) -> Option<&Arc<Listener>> {
        let bound_to = |listener: &Listener, wanted: IpAddr| {
            [&listener.address]
                .into_iter()
                .chain(&listener.additional_addresses)
                .any(|address| *address == ListenerAddress::Socket(wanted, port))
        };
        let wildcard = match destination {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        let of = |address| self.listeners.iter().find(|listener| bound_to(listener, address));
        of(destination).or_else(|| of(wildcard)).filter(|listener| listener.bind_to_port)
    }
}

/// The parts of an inbound listener's name. istiod: `listener.go: getListenerName`.
fn listener_name(config: &ChainConfig) -> SmolStr {
    smol_str::format_smolstr!("{}_{}", config.bind, config.target_port)
}
