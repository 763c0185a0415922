//! Which virtual host takes a request?
//!
//! Exact name, then the longest `*suffix`, then the longest `prefix*`, then `*`; letter case does not count.
//! Measured with Envoy 1.40 (envoy-semantics §4.1).

use std::sync::Arc;

use super::config::{RouteConfiguration, VirtualHost};

/// The virtual host for `host`, as sent.
pub fn find<'r>(config: &'r RouteConfiguration, host: &str) -> Option<&'r Arc<VirtualHost>> {
    let host = if config.ignore_port_in_host_matching { without_port(host) } else { host };
    let host = host.to_ascii_lowercase();
    let mut best: Option<(u32, &Arc<VirtualHost>)> = None;
    for virtual_host in &config.virtual_hosts {
        for domain in &virtual_host.domains {
            if let Some(rank) = rank(domain, &host)
                && best.is_none_or(|(b, _)| rank > b)
            {
                best = Some((rank, virtual_host));
            }
        }
    }
    best.map(|(_, v)| v)
}

/// How well a domain covers a host in lower case; higher is better.
pub fn rank(domain: &str, host: &str) -> Option<u32> {
    const SUFFIX: u32 = 2 << 24;
    const PREFIX: u32 = 1 << 24;
    if domain == "*" {
        return Some(0);
    }
    if let Some(suffix) = domain.strip_prefix('*') {
        return (host.len() > suffix.len() && ends_with(host, suffix))
            .then_some(SUFFIX + suffix.len() as u32);
    }
    if let Some(prefix) = domain.strip_suffix('*') {
        let starts = host.get(..prefix.len()).is_some_and(|h| h.eq_ignore_ascii_case(prefix));
        return (host.len() > prefix.len() && starts).then_some(PREFIX + prefix.len() as u32);
    }
    domain.eq_ignore_ascii_case(host).then_some(u32::MAX)
}

fn ends_with(host: &str, suffix: &str) -> bool {
    host.get(host.len() - suffix.len()..).is_some_and(|h| h.eq_ignore_ascii_case(suffix))
}

/// A host without its port; IPv6 addresses keep their brackets.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}
