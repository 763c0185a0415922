//! What happens when two services want the same listener?
//!
//! An entry collects the filter chains of one bind address and port, in the order of the services. Invariant: the
//! order of contributions decides; a later service never removes what an earlier one made, except that sniffing
//! replaces plain HTTP. istiod: `listener.go: buildSidecarOutboundListener, mergeTCPFilterChains,
//! isConflictWithWellKnownPort, conflictsWith`.

use ipnet::IpNet;
use smol_str::SmolStr;

use super::listener::ListenerProtocol;
use super::tcp::ChainOptions;
use crate::mesh::{Protocol, ServicePort};

/// A listener in the making.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The protocol it has become; [`Protocol::Unsupported`] when it is sniffed.
    pub protocol: Protocol,
    /// The port of the service that made it.
    pub port: ServicePort,
    /// The address it is bound to.
    pub bind: SmolStr,
    /// Further addresses (dual stack).
    pub extra_binds: Vec<SmolStr>,
    /// Whether a real socket is opened.
    pub bind_to_port: bool,
    /// The filter chains.
    pub chains: Vec<ChainOptions>,
}

/// How an incoming service meets the entry that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// There is none, or the incoming one replaces it.
    None,
    /// HTTP meets TCP.
    HttpOverTcp,
    /// TCP meets HTTP.
    TcpOverHttp,
    /// TCP meets TCP.
    TcpOverTcp,
    /// TCP meets a sniffed listener.
    TcpOverAuto,
    /// A sniffed port meets HTTP.
    AutoOverHttp,
    /// A sniffed port meets TCP.
    AutoOverTcp,
}

impl Conflict {
    /// How `incoming` meets `existing`; `None` when nothing is left to add.
    pub fn between(incoming: ListenerProtocol, existing: Protocol) -> Option<Self> {
        Some(match (incoming, ListenerProtocol::of(existing)) {
            (ListenerProtocol::Http, Some(ListenerProtocol::Tcp)) => Self::HttpOverTcp,
            (ListenerProtocol::Http, _) => return None,
            (ListenerProtocol::Tcp, Some(ListenerProtocol::Http)) => Self::TcpOverHttp,
            (ListenerProtocol::Tcp, Some(ListenerProtocol::Tcp)) => Self::TcpOverTcp,
            (ListenerProtocol::Tcp, _) => Self::TcpOverAuto,
            (ListenerProtocol::Auto, Some(ListenerProtocol::Http)) => Self::AutoOverHttp,
            (ListenerProtocol::Auto, Some(ListenerProtocol::Tcp)) => Self::AutoOverTcp,
            (ListenerProtocol::Auto, _) => Self::TcpOverAuto,
        })
    }
}

/// Whether the two cannot share a port: server-first protocols break when they are sniffed.
pub fn is_well_known_conflict(incoming: Protocol, existing: Protocol) -> bool {
    let server_first = |protocol| matches!(protocol, Protocol::Mongo | Protocol::Mysql);
    (server_first(incoming) || server_first(existing)) && incoming != existing
}

/// Appends `incoming` chains whose conditions no chain of `chains` has yet.
pub fn merge_filter_chains(chains: &mut Vec<ChainOptions>, incoming: Vec<ChainOptions>) {
    for chain in incoming {
        if !chains.iter().any(|existing| conflicts(existing, &chain)) {
            chains.push(chain);
        }
    }
}

/// Whether two chains have the same conditions: order, `*` and host bits of addresses do not count.
pub fn conflicts(a: &ChainOptions, b: &ChainOptions) -> bool {
    a.transport == b.transport
        && a.application_protocols == b.application_protocols
        && sni_set(&a.sni_hosts) == sni_set(&b.sni_hosts)
        && cidr_set(&a.destination_cidrs) == cidr_set(&b.destination_cidrs)
}

fn sni_set(hosts: &[SmolStr]) -> Vec<&SmolStr> {
    let mut set: Vec<_> = hosts.iter().filter(|host| host.as_str() != "*").collect();
    set.sort_unstable();
    set.dedup();
    set
}

fn cidr_set(cidrs: &[SmolStr]) -> Vec<IpNet> {
    let mut set: Vec<IpNet> = cidrs
        .iter()
        .filter_map(|cidr| parse_cidr(cidr))
        .filter(|net| net.addr().to_string() != "0.0.0.0")
        .map(|net| net.trunc())
        .collect();
    set.sort_unstable();
    set.dedup();
    set
}

/// Reads an address or a CIDR. istiod: `util.go: AddrStrToPrefix`.
pub fn parse_cidr(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}
