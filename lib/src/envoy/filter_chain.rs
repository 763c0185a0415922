//! Which filter chain takes a connection?
//!
//! Each criterion narrows the candidates and there is no way back. Measured with Envoy 1.40 (envoy-semantics §9.1).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smol_str::SmolStr;

use super::config::{ConnectionSourceType, FilterChain, Listener, TransportProtocol};
use super::request::{ApplicationProtocol, Connection, Transport};

/// What the inspectors in front of the chains found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Transport protocol.
    pub transport: TransportProtocol,
    /// Server name in lower case; empty when there is none.
    pub server_name: SmolStr,
    /// Application protocols.
    pub application_protocols: Vec<SmolStr>,
}

/// What the listener's inspectors find out about a connection.
pub fn inspect(listener: &Listener, connection: &Connection) -> Inspected {
    let filters = listener.listener_filters;
    if let Transport::Tls { sni, alpn, .. } = &connection.transport
        && filters.tls_inspector
    {
        return Inspected {
            transport: TransportProtocol::Tls,
            server_name: sni.to_ascii_lowercase().into(),
            application_protocols: alpn.clone(),
        };
    }
    let plaintext = connection.transport == Transport::Plaintext;
    let application_protocols = match connection.protocol {
        _ if !plaintext || !filters.http_inspector => Vec::new(),
        ApplicationProtocol::Http10 => vec![SmolStr::new_static("http/1.0")],
        ApplicationProtocol::Http11 => vec![SmolStr::new_static("http/1.1")],
        ApplicationProtocol::Http2 => vec![SmolStr::new_static("h2c")],
        ApplicationProtocol::Tcp => Vec::new(),
    };
    Inspected {
        transport: TransportProtocol::RawBuffer,
        server_name: SmolStr::default(),
        application_protocols,
    }
}

/// The chain that takes the connection, or the listener's default chain.
pub fn find<'l>(
    listener: &'l Listener,
    connection: &Connection,
    inspected: &Inspected,
) -> Option<&'l Arc<FilterChain>> {
    narrow(listener, connection, inspected).or(listener.default_filter_chain.as_ref())
}

fn narrow<'l>(
    listener: &'l Listener,
    connection: &Connection,
    inspected: &Inspected,
) -> Option<&'l Arc<FilterChain>> {
    let mut left: Vec<&Arc<FilterChain>> = listener.filter_chains.iter().collect();
    // Destination port: an exact port before chains without one.
    keep_best(&mut left, |c| match c.filter_chain_match.destination_port {
        Some(port) => (port == connection.port).then_some(1),
        None => Some(0),
    });
    keep_best(&mut left, |c| longest(&c.filter_chain_match.prefix_ranges, connection.destination));
    keep_best(&mut left, |c| server_name(&c.filter_chain_match.server_names, &inspected.server_name));
    keep_best(&mut left, |c| match c.filter_chain_match.transport_protocol {
        Some(protocol) => (protocol == inspected.transport).then_some(1),
        None => Some(0),
    });
    application_protocol(&mut left, &inspected.application_protocols);
    let same = connection.source.is_loopback() || connection.source == connection.destination;
    keep_best(&mut left, |c| match c.filter_chain_match.source_type {
        ConnectionSourceType::Any => Some(0),
        ConnectionSourceType::SameIpOrLoopback => same.then_some(1),
        ConnectionSourceType::External => (!same).then_some(1),
    });
    keep_best(&mut left, |c| longest(&c.filter_chain_match.source_prefix_ranges, connection.source));
    left.into_iter().next()
}

/// Keeps the candidates of the highest rank; `None` drops a candidate.
fn keep_best<'l>(left: &mut Vec<&'l Arc<FilterChain>>, rank: impl Fn(&'l FilterChain) -> Option<u32>) {
    let best = left.iter().filter_map(|c| rank(c)).max();
    left.retain(|c| best.is_some() && rank(c) == best);
}

fn longest(ranges: &[IpNet], ip: IpAddr) -> Option<u32> {
    if ranges.is_empty() {
        return Some(0);
    }
    ranges.iter().filter(|r| r.contains(&ip)).map(|r| u32::from(r.prefix_len()) + 1).max()
}

fn server_name(names: &[SmolStr], sni: &str) -> Option<u32> {
    if names.is_empty() {
        return Some(0);
    }
    names
        .iter()
        .filter_map(|name| match name.strip_prefix('*') {
            Some(suffix) => {
                (sni.len() > suffix.len() && sni.ends_with(suffix)).then_some(suffix.len() as u32 + 1)
            }
            None => (name == sni && !sni.is_empty()).then_some(u32::MAX),
        })
        .max()
}

/// The first offered protocol that some chain names decides; else chains that name none.
fn application_protocol(left: &mut Vec<&Arc<FilterChain>>, offered: &[SmolStr]) {
    for protocol in offered {
        if left.iter().any(|c| c.filter_chain_match.application_protocols.contains(protocol)) {
            left.retain(|c| c.filter_chain_match.application_protocols.contains(protocol));
            return;
        }
    }
    left.retain(|c| c.filter_chain_match.application_protocols.is_empty());
}
