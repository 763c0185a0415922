//! Which virtual host is a request for?
//!
//! Envoy: `config_impl.cc: RouteMatcher::findVirtualHost`: the exact name, then the longest `*suffix`, then the longest
//! `prefix*`, then `*`. Letter case never counts. Measured with Envoy 1.40.

use std::sync::Arc;

use smol_str::{SmolStr, StrExt as _};

use super::config::VirtualHost;
use super::recorder::{FailedCondition, NearMiss, NearMissKind};

/// The host without its port: what follows the last colon behind an address in brackets, whatever it is.
///
/// Envoy: `header_utility.cc: HeaderUtility::getPortStart`.
pub fn strip_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // An IPv6 address in brackets has colons of its own.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

/// How well a domain fits; a larger one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Any,
    Prefix(usize),
    Suffix(usize),
    Exact,
}

fn fit(domain: &str, host: &str) -> Option<Fit> {
    if domain == "*" {
        return Some(Fit::Any);
    }
    if let Some(suffix) = domain.strip_prefix('*') {
        // A wildcard stands for at least one character.
        return (host.len() > suffix.len() && ends_with(host, suffix)).then_some(Fit::Suffix(suffix.len()));
    }
    if let Some(prefix) = domain.strip_suffix('*') {
        let start = host.get(..prefix.len())?;
        return (host.len() > prefix.len() && start.eq_ignore_ascii_case(prefix))
            .then_some(Fit::Prefix(prefix.len()));
    }
    domain.eq_ignore_ascii_case(host).then_some(Fit::Exact)
}

fn ends_with(host: &str, suffix: &str) -> bool {
    host.len()
        .checked_sub(suffix.len())
        .and_then(|at| host.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// The virtual host that is for all requests, even for those that name no host.
pub(crate) fn only(virtual_hosts: &[Arc<VirtualHost>]) -> Option<&Arc<VirtualHost>> {
    let [only] = virtual_hosts else { return None };
    (only.domains.as_slice() == ["*"]).then_some(only)
}

/// The virtual host for `host`, as sent.
pub fn find<'a>(
    virtual_hosts: &'a [Arc<VirtualHost>],
    host: &str,
    ignore_port: bool,
) -> Option<&'a Arc<VirtualHost>> {
    let only = only(virtual_hosts);
    if only.is_some() {
        return only;
    }
    let host = if ignore_port { strip_port(host) } else { host };
    let mut best: Option<(Fit, &Arc<VirtualHost>)> = None;
    for virtual_host in virtual_hosts {
        for domain in &virtual_host.domains {
            match fit(domain, host) {
                Some(Fit::Exact) => return Some(virtual_host),
                Some(fit) if best.is_none_or(|(other, _)| fit > other) => best = Some((fit, virtual_host)),
                _ => {}
            }
        }
    }
    best.map(|(_, virtual_host)| virtual_host)
}

/// The virtual hosts whose domains are closest to a host that none of them takes, closest first.
pub(crate) fn near_misses(virtual_hosts: &[Arc<VirtualHost>], host: &str) -> Vec<NearMiss> {
    const SHOWN: usize = 3;
    let sought = strip_port(host).to_lowercase_smolstr();
    let mut close: Vec<(usize, usize, &SmolStr)> = Vec::new();
    for (index, virtual_host) in virtual_hosts.iter().enumerate() {
        let nearest = virtual_host
            .domains
            .iter()
            .filter(|domain| *domain != "*")
            .map(|domain| (distance(domain, &sought), domain))
            .min_by_key(|(distance, _)| *distance);
        if let Some((distance, domain)) = nearest
            && distance <= sought.len() / 2
        {
            close.push((distance, index, domain));
        }
    }
    close.sort_by_key(|(distance, index, _)| (*distance, *index));
    close
        .into_iter()
        .take(SHOWN)
        .filter_map(|(_, index, domain)| {
            let virtual_host = virtual_hosts.get(index)?;
            Some(NearMiss {
                kind: NearMissKind::VirtualHost,
                index,
                name: virtual_host.name.clone(),
                origin: virtual_host.origin.clone(),
                failed: FailedCondition {
                    condition: SmolStr::new_static("domain"),
                    expected: host.into(),
                    got: domain.clone(),
                    origin: virtual_host.origin.clone(),
                },
            })
        })
        .collect()
}

/// How many letters have to be changed to make `b` of `a` (Levenshtein); long names are compared by their length only.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 256;
    if a.len().max(b.len()) > LONGEST {
        return a.len().max(b.len());
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, &above) in b.chars().zip(row.iter().skip(1)) {
            let cost = diagonal + usize::from(x != y);
            left = cost.min(left + 1).min(above + 1);
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::{HeaderOperations, RequireTls};
    use crate::origin::Origin;

    fn host(domains: &[&str]) -> Arc<VirtualHost> {
        Arc::new(VirtualHost {
            name: domains.first().map(SmolStr::new).unwrap_or_default(),
            domains: domains.iter().map(SmolStr::new).collect(),
            routes: Vec::new(),
            require_tls: RequireTls::None,
            include_request_attempt_count: true,
            headers: HeaderOperations::default(),
            origin: Origin::default("test"),
        })
    }

    #[test]
    fn exact_then_longest_suffix_then_longest_prefix_then_any() {
        let hosts: Vec<_> = ["*", "a.*", "*.example.com", "*-x.example.com", "a.b.example.com", "[::1]"]
            .map(|d| host(&[d]))
            .into();
        for (sent, expected) in [
            ("A.B.Example.COM", "a.b.example.com"),
            ("a.b.example.com:8080", "a.b.example.com"),
            ("[::1]:99", "[::1]"),
            ("[::1]", "[::1]"),
            ("example.com", "*"),
            (".example.com", "*"),
            ("x.y.example.com", "*.example.com"),
            ("q-x.example.com", "*-x.example.com"),
            ("a.example.com", "*.example.com"),
            ("a.test", "a.*"),
            ("u@a.b.example.com", "*.example.com"),
            ("a.b.example.com.", "a.*"),
            ("", "*"),
        ] {
            assert_eq!(find(&hosts, sent, true).map(|h| h.name.as_str()), Some(expected), "{sent}");
        }
    }

    #[test]
    fn a_port_counts_unless_it_is_ignored() {
        let hosts = [host(&["a.test"])];
        assert!(find(&hosts, "a.test:80", false).is_none());
        for sent in ["a.test:80", "a.test:", "a.test:x", "a.test:80,b.test"] {
            assert!(find(&hosts, sent, true).is_some(), "{sent}");
        }
        assert_eq!(["[::1]:80", "[::1]", "::1"].map(strip_port), ["[::1]", "[::1]", ":"]);
    }

    #[test]
    fn close_names_come_first() {
        let hosts = [host(&["other.example"]), host(&["httpbin.org"]), host(&["httbin.org"])];
        let names: Vec<_> = near_misses(&hosts, "htpbin.org").into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["httpbin.org", "httbin.org"]);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
