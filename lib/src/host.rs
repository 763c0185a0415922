//! When does one host name cover another, and which of several is meant?
//!
//! Names are compared byte for byte; `*` may stand only at the start. Source: istiod's `pkg/config/host` and
//! `pilot/pkg/model/config.go`, measured over 118 cases.

pub(crate) mod near;

use std::net::IpAddr;

use smol_str::{SmolStr, format_smolstr};

/// Whether the name starts with `*`.
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether some host belongs to both names.
pub fn matches(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(x), Some(y)) if a.len() < b.len() => y.ends_with(x),
        (Some(x), Some(y)) => x.ends_with(y),
        (Some(x), None) => b.ends_with(x),
        (None, Some(y)) => a.ends_with(y),
        (None, None) => a == b,
    }
}

/// Whether every host of `a` belongs to `b` too.
pub fn subset_of(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(x), Some(y)) => a.len() >= b.len() && x.ends_with(y),
        (Some(_), None) => false,
        (None, Some(y)) => a.ends_with(y),
        (None, None) => a == b,
    }
}

/// The hosts that two lists have in common: of each pair that overlaps, the narrower.
pub fn intersection<'h>(a: &[&'h str], b: &[&'h str]) -> Vec<&'h str> {
    let mut out: Vec<&str> = Vec::new();
    for x in a {
        for y in b {
            let narrower = if subset_of(x, y) {
                x
            } else if subset_of(y, x) {
                y
            } else {
                continue;
            };
            if !out.contains(narrower) {
                out.push(narrower);
            }
        }
    }
    out
}

/// The hosts of a `namespace/host` list that hold for `namespace`, without their prefixes.
pub fn names_for_namespace<'h>(hosts: impl IntoIterator<Item = &'h str>, namespace: &str) -> Vec<&'h str> {
    hosts
        .into_iter()
        .filter_map(|h| match h.split_once('/') {
            Some((prefix, host)) => (prefix == namespace || prefix == "*").then_some(host),
            None => Some(h),
        })
        .collect()
}

/// Whether `a` comes before `b` in Istio's order: exact before wildcard, longer before shorter, then by letters.
pub fn more_specific(a: &str, b: &str) -> bool {
    match (is_wildcard(a), is_wildcard(b)) {
        (false, true) if !b.is_empty() => true,
        (true, false) => b.is_empty(),
        _ => match a.len().cmp(&b.len()) {
            std::cmp::Ordering::Equal => a <= b,
            order => order.is_gt(),
        },
    }
}

/// Sorts hosts by Istio's order, most specific first.
pub fn sort(hosts: &mut [&str]) {
    hosts.sort_by(|a, b| order(a, b));
}

/// Sorts hosts by Istio's order, most specific first.
pub fn sort_names(hosts: &mut [SmolStr]) {
    hosts.sort_by(|a, b| order(a, b));
}

fn order(a: &str, b: &str) -> std::cmp::Ordering {
    is_wildcard(a).cmp(&is_wildcard(b)).then_with(|| b.len().cmp(&a.len())).then_with(|| a.cmp(b))
}

/// The host of `hosts`, in Istio's order, that is used for `needle`.
pub fn most_specific<'h>(hosts: &[&'h str], needle: &str) -> Option<&'h str> {
    hosts
        .iter()
        .find(|h| **h == needle)
        .or_else(|| hosts.iter().find(|h| is_wildcard(h) && subset_of(needle, h)))
        .copied()
}

/// Completes the host that a resource in `namespace` writes: only names without a dot are completed.
pub fn resolve_short_name(host: &str, namespace: &str, domain: &str) -> SmolStr {
    if host == "*" || host.is_empty() || host.contains('.') || host.parse::<IpAddr>().is_ok() {
        return host.into();
    }
    match (namespace.is_empty(), domain.is_empty()) {
        (false, false) => format_smolstr!("{host}.{namespace}.svc.{domain}"),
        (false, true) => format_smolstr!("{host}.{namespace}"),
        (true, false) => format_smolstr!("{host}.svc.{domain}"),
        (true, true) => host.into(),
    }
}

/// Completes a gateway name that a resource in `namespace` writes, to `namespace/name`.
pub fn resolve_gateway_name(gateway: &str, namespace: &str) -> SmolStr {
    match gateway.split_once('/') {
        Some((".", name)) => format_smolstr!("{namespace}/{name}"),
        Some(_) => gateway.into(),
        None => match gateway.split_once('.') {
            Some((name, rest)) => {
                let owner = rest.split('.').next().unwrap_or(rest);
                format_smolstr!("{owner}/{name}")
            }
            None => format_smolstr!("{namespace}/{gateway}"),
        },
    }
}
