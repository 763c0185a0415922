//! Which filter chain takes a connection?
//!
//! Envoy: `filter_chain_manager_impl.cc`: each criterion narrows the choice, and there is no way back. Measured with
//! Envoy 1.40 (`envoy-semantics`, filter chains).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smol_str::{SmolStr, format_smolstr};

use super::config::{
    ConnectionSourceType, FilterChain, FilterChainMatch, Listener, ListenerFilters, TransportProtocol,
};
use super::recorder::{FailedCondition, NearMiss, NearMissKind};
use super::request::{ApplicationProtocol, Connection, Transport};

/// What the listener filters tell of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Detected<'a> {
    transport: TransportProtocol,
    server_name: &'a str,
    application_protocols: &'a [SmolStr],
}

impl<'a> Detected<'a> {
    fn new(filters: &ListenerFilters, connection: &'a Connection) -> Self {
        const HTTP10: &[SmolStr] = &[SmolStr::new_static("http/1.0")];
        const HTTP11: &[SmolStr] = &[SmolStr::new_static("http/1.1")];
        const H2C: &[SmolStr] = &[SmolStr::new_static("h2c")];
        let raw = |application_protocols| Self {
            transport: TransportProtocol::RawBuffer,
            server_name: "",
            application_protocols,
        };
        match &connection.transport {
            Transport::Tls { sni, alpn, .. } if filters.inspects_tls(connection.port) => {
                Self { transport: TransportProtocol::Tls, server_name: sni, application_protocols: alpn }
            }
            Transport::Tls { .. } => raw(&[]),
            Transport::Plaintext if filters.inspects_http(connection.port) => {
                raw(match connection.protocol {
                    ApplicationProtocol::Http10 => HTTP10,
                    ApplicationProtocol::Http11 => HTTP11,
                    ApplicationProtocol::Http2 => H2C,
                    ApplicationProtocol::Tcp => &[],
                })
            }
            Transport::Plaintext => raw(&[]),
        }
    }
}

/// What Envoy refuses a listener's chains for; the numbers are places among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// A server name with a `*` elsewhere than in a first label of its own.
    PartialWildcard {
        /// The chain.
        chain: usize,
        /// The name.
        name: SmolStr,
    },
    /// Two chains whose conditions overlap. What is wider or narrower is no overlap: the narrower wins.
    Overlap(usize, usize),
}

impl ChainFault {
    /// The reason in Envoy's words; measured with Envoy 1.40.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::PartialWildcard { .. } => "partial wildcards are not supported in \"server_names\"",
            Self::Overlap(..) => "multiple filter chains with overlapping matching rules are defined",
        }
    }
}

/// Whether a server name has a `*` elsewhere than in a first label of its own.
pub fn is_partial_wildcard(name: &str) -> bool {
    name.strip_prefix("*.").unwrap_or(name).contains('*')
}

/// What Envoy would refuse a listener with these chains for, if anything.
///
/// Envoy: `filter_chain_manager_impl.cc: addFilterChains`: each combination of conditions leads to one chain only.
pub fn chain_fault(chains: &[Arc<FilterChain>]) -> Option<ChainFault> {
    let mut seen: FxHashMap<Combination, usize> = FxHashMap::default();
    for (number, chain) in chains.iter().enumerate() {
        let partial = |name: &&SmolStr| is_partial_wildcard(name);
        if let Some(name) = chain.filter_chain_match.server_names.iter().find(partial) {
            return Some(ChainFault::PartialWildcard { chain: number, name: name.clone() });
        }
        for combination in combinations(&chain.filter_chain_match) {
            if let Some(first) = seen.insert(combination, number)
                && first != number
            {
                return Some(ChainFault::Overlap(first, number));
            }
        }
    }
    None
}

/// Why Envoy would refuse a listener with these chains, in its words.
pub fn refusal(chains: &[Arc<FilterChain>]) -> Option<SmolStr> {
    chain_fault(chains).map(|fault| SmolStr::new_static(fault.reason()))
}

/// One condition of each kind; `None` is the absence of one.
type Combination = (
    Option<u16>,
    Option<IpNet>,
    Option<SmolStr>,
    Option<TransportProtocol>,
    Option<SmolStr>,
    ConnectionSourceType,
    Option<IpNet>,
);

fn combinations(condition: &FilterChainMatch) -> Vec<Combination> {
    fn or_absent<T: Clone>(list: &[T]) -> Vec<Option<T>> {
        if list.is_empty() { vec![None] } else { list.iter().cloned().map(Some).collect() }
    }
    let nets = |list: &[IpNet]| -> Vec<Option<IpNet>> {
        or_absent(&list.iter().map(IpNet::trunc).collect::<Vec<_>>())
    };
    let names: Vec<SmolStr> = condition.server_names.iter().map(|name| name.to_lowercase().into()).collect();
    let mut out = Vec::new();
    for prefix in nets(&condition.prefix_ranges) {
        for name in or_absent(&names) {
            for protocol in or_absent(&condition.application_protocols) {
                for source in nets(&condition.source_prefix_ranges) {
                    out.push((
                        condition.destination_port,
                        prefix,
                        name.clone(),
                        condition.transport_protocol,
                        protocol.clone(),
                        condition.source_type,
                        source,
                    ));
                }
            }
        }
    }
    out
}

/// The chain that takes the connection; `None` closes it.
pub(crate) fn find<'a>(listener: &'a Listener, connection: &Connection) -> Option<&'a Arc<FilterChain>> {
    let detected = Detected::new(&listener.listener_filters, connection);
    specific(&listener.filter_chains, connection, &detected).or(listener.default_filter_chain.as_ref())
}

fn specific<'a>(
    chains: &'a [Arc<FilterChain>],
    connection: &Connection,
    detected: &Detected<'_>,
) -> Option<&'a Arc<FilterChain>> {
    let offered = detected.application_protocols;
    let local = connection.source == connection.destination || connection.source.is_loopback();
    // How well each criterion is met, in Envoy's order; `None` rules the chain out. Only a chain that meets the first
    // criterion best is asked about the second, so the best list wins, and must not be ruled out anywhere.
    let score = |m: &FilterChainMatch| {
        [
            match m.destination_port {
                None => Some(0),
                Some(port) => (port == connection.port).then_some(1),
            },
            longest(&m.prefix_ranges, connection.destination),
            server_name(&m.server_names, detected.server_name),
            match m.transport_protocol {
                None => Some(0),
                Some(transport) => (transport == detected.transport).then_some(1),
            },
            // The client's first protocol that any chain knows decides.
            if m.application_protocols.is_empty() {
                Some(0)
            } else {
                let known = |protocol: &SmolStr| m.application_protocols.contains(protocol);
                offered.iter().position(known).map(|place| offered.len() - place)
            },
            match m.source_type {
                ConnectionSourceType::Any => Some(0),
                ConnectionSourceType::SameIpOrLoopback => local.then_some(1),
                ConnectionSourceType::External => (!local).then_some(1),
            },
            longest(&m.source_prefix_ranges, connection.source),
        ]
    };
    // Of equals, the last one of this order is the first of the list.
    let scored = chains.iter().rev().map(|chain| (score(&chain.filter_chain_match), chain));
    let (best, chain) = scored.max_by_key(|(score, _)| *score)?;
    best.iter().all(Option::is_some).then_some(chain)
}

/// The length of the longest range that holds the address, plus one; an empty list holds every address, last.
fn longest(ranges: &[IpNet], address: IpAddr) -> Option<usize> {
    if ranges.is_empty() {
        return Some(1);
    }
    ranges
        .iter()
        .filter(|range| range.contains(&address))
        .map(|range| usize::from(range.prefix_len()) + 1)
        .max()
}

/// How well a list of server names fits: the whole name best, then the longest wildcard.
fn server_name(names: &[SmolStr], sent: &str) -> Option<usize> {
    if names.is_empty() {
        return Some(0);
    }
    if sent.is_empty() {
        return None;
    }
    names
        .iter()
        .filter_map(|name| match name.strip_prefix('*') {
            Some("") => Some(1),
            Some(suffix) => {
                let at = sent.len().checked_sub(suffix.len()).filter(|at| *at > 0)?;
                sent.get(at..)?.eq_ignore_ascii_case(suffix).then_some(1 + suffix.len())
            }
            None => name.eq_ignore_ascii_case(sent).then_some(usize::MAX),
        })
        .max()
}

/// The nearest chains, each with its first criterion that does not hold by itself: those for which most of what they ask
/// for, in Envoy's order, holds before it.
pub(crate) fn near_misses(listener: &Listener, connection: &Connection) -> Vec<NearMiss> {
    let detected = Detected::new(&listener.listener_filters, connection);
    let mut found: Vec<(usize, NearMiss)> = Vec::new();
    for (index, chain) in listener.filter_chains.iter().enumerate() {
        let m = &chain.filter_chain_match;
        let asked = [
            ("destination port", m.destination_port.is_some()),
            ("destination address", !m.prefix_ranges.is_empty()),
            ("server name", !m.server_names.is_empty()),
            ("transport protocol", m.transport_protocol.is_some()),
            ("application protocol", !m.application_protocols.is_empty()),
            ("source address", !m.source_prefix_ranges.is_empty()),
        ];
        let (condition, got, expected) = if m.destination_port.is_some_and(|port| port != connection.port) {
            ("destination port", show(m.destination_port.as_slice()), format_smolstr!("{}", connection.port))
        } else if longest(&m.prefix_ranges, connection.destination).is_none() {
            ("destination address", show(&m.prefix_ranges), format_smolstr!("{}", connection.destination))
        } else if server_name(&m.server_names, detected.server_name).is_none() {
            ("server name", show(&m.server_names), detected.server_name.into())
        } else if m.transport_protocol.is_some_and(|transport| transport != detected.transport) {
            let got = m.transport_protocol.map(transport_name).unwrap_or_default();
            ("transport protocol", got.into(), transport_name(detected.transport).into())
        } else if !m.application_protocols.is_empty()
            && !detected.application_protocols.iter().any(|p| m.application_protocols.contains(p))
        {
            ("application protocol", show(&m.application_protocols), show(detected.application_protocols))
        } else if longest(&m.source_prefix_ranges, connection.source).is_none() {
            ("source address", show(&m.source_prefix_ranges), format_smolstr!("{}", connection.source))
        } else {
            // It fits by itself: an earlier criterion preferred a chain that did not fit later.
            ("more specific filter chain", SmolStr::default(), SmolStr::default())
        };
        let held =
            asked.iter().take_while(|(name, _)| *name != condition).filter(|(_, asked)| *asked).count();
        let failed = FailedCondition {
            condition: SmolStr::new_static(condition),
            expected,
            got,
            origin: chain.origin.clone(),
        };
        let (name, origin) = (chain.name.clone(), chain.origin.clone());
        found.push((held, NearMiss { kind: NearMissKind::FilterChain, index, name, origin, failed }));
    }
    let nearest = found.iter().map(|(held, _)| *held).max().unwrap_or_default();
    found.into_iter().filter(|(held, _)| *held == nearest).map(|(_, miss)| miss).collect()
}

fn transport_name(transport: TransportProtocol) -> &'static str {
    match transport {
        TransportProtocol::RawBuffer => "raw_buffer",
        TransportProtocol::Tls => "tls",
        TransportProtocol::Quic => "quic",
    }
}

fn show<T: std::fmt::Display>(list: &[T]) -> SmolStr {
    let mut out = String::new();
    for item in list {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&item.to_string());
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_prefer_the_longest() {
        let name = |names: &[&str], sent: &str| {
            server_name(&names.iter().map(SmolStr::new).collect::<Vec<_>>(), sent)
        };
        assert!(name(&["a.example.com"], "A.Example.com") > name(&["*.example.com"], "a.example.com"));
        assert!(name(&["*.b.example.com"], "a.b.example.com") > name(&["*.example.com"], "a.b.example.com"));
        assert_eq!(name(&["*.example.com"], "example.com"), None);
        assert_eq!(name(&["a.example.com"], ""), None);
        assert_eq!(name(&[], "x"), Some(0));
    }

    #[test]
    fn ranges_prefer_the_longest() {
        let ranges: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()];
        assert_eq!(longest(&ranges, "127.0.0.1".parse().unwrap()), Some(33));
        assert_eq!(longest(&ranges, "127.0.0.2".parse().unwrap()), Some(9));
        assert_eq!(longest(&ranges, "10.0.0.1".parse().unwrap()), None);
    }
}
