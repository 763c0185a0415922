//! Under which Host values is a service known to one proxy?
//!
//! Invariant: [`candidates`] names every host whose domains could contain a given domain; what it names too many is
//! sorted out by building the domains themselves.
//! istiod: `httproute.go: generateVirtualHostDomains, GenerateAltVirtualHosts`.

use std::net::IpAddr;

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use crate::istiod::proxy::Proxy;

/// Whether a port is appended to each domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSuffix {
    /// The request's port is ignored when a virtual host is chosen.
    None,
    /// Both forms are listed (HTTP proxy and Unix domain socket listeners).
    Also(u16),
}

/// The domains of a service, and which of them are other forms of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains {
    /// All of them, in istiod's order.
    pub all: Vec<SmolStr>,
    /// Those that abbreviate a name: another service of exactly that name keeps it.
    pub alternatives: Vec<SmolStr>,
}

/// What the domains of a service are made from.
#[derive(Clone, Copy, Debug)]
pub struct DomainSource<'a> {
    /// The service's host.
    pub hostname: &'a str,
    /// Hosts of ExternalName services that lead to it.
    pub aliases: &'a [SmolStr],
    /// Its addresses for this proxy, CIDRs included.
    pub addresses: &'a [SmolStr],
    /// Whether it is a headless Kubernetes service, whose pods have names of their own.
    pub headless: bool,
}

/// Who abbreviates names, and whether absolute ones count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker<'a> {
    /// The proxy's domain, such as `default.svc.cluster.local`.
    pub domain: &'a str,
    /// Whether names with a dot at their end are listed (`PILOT_ENABLE_ABSOLUTE_FQDN_VHOST_DOMAIN`).
    pub absolute: bool,
}

impl<'a> Speaker<'a> {
    /// A proxy.
    pub fn of(proxy: &'a Proxy) -> Self {
        Self { domain: proxy.domain(), absolute: proxy.mesh().features().absolute_fqdn_vhost_domain }
    }
}

/// The domains of a service for a proxy.
pub fn generate(source: DomainSource<'_>, suffix: PortSuffix, speaker: Speaker<'_>) -> Domains {
    let mut out = Domains::default();
    for host in std::iter::once(source.hostname).chain(source.aliases.iter().map(SmolStr::as_str)) {
        let start = out.alternatives.len();
        alternatives(host, suffix, speaker, &mut out.alternatives);
        push(&mut out.all, host, suffix);
        out.all.extend(out.alternatives.iter().skip(start).cloned());
    }
    if source.headless {
        for i in 0..out.all.len() {
            let wildcard = out.all.get(i).map(|domain| format_smolstr!("*.{domain}"));
            out.all.extend(wildcard);
        }
    }
    for address in
        source.addresses.iter().filter(|address| address.as_str() != "0.0.0.0" && !address.is_empty())
    {
        push(&mut out.all, address, suffix);
    }
    out
}

/// The domain of a host that no service backs.
pub fn plain(host: &str) -> SmolStr {
    bracketed(host)
}

/// `host:port`, with brackets round an IPv6 address.
pub fn with_port(host: &str, port: u16) -> SmolStr {
    if host.contains(':') || host.contains('%') {
        format_smolstr!("[{host}]:{port}")
    } else {
        format_smolstr!("{host}:{port}")
    }
}

/// Hosts whose services could list `domain` (in lower case, without port), other than by address.
pub fn candidates(domain: &str, proxy_domain: &str) -> Vec<SmolStr> {
    let mut out = Vec::new();
    let mut add = |host: SmolStr| {
        if !host.is_empty() && !out.contains(&host) {
            out.push(host);
        }
    };
    let mut forms = vec![domain];
    forms.extend(domain.strip_prefix("*."));
    for form in forms {
        add(form.into());
        if let Some(host) = form.strip_suffix('.') {
            add(host.into());
        }
        let Some((namespace, cluster_domain)) = proxy_domain.split_once(".svc.") else { continue };
        let base = form.strip_suffix(".svc").unwrap_or(form);
        add(format_smolstr!("{base}.svc.{cluster_domain}"));
        if !form.contains('.') {
            add(format_smolstr!("{form}.{namespace}.svc.{cluster_domain}"));
        }
    }
    out
}

fn push(out: &mut Vec<SmolStr>, host: &str, suffix: PortSuffix) {
    out.push(bracketed(host));
    if let PortSuffix::Also(port) = suffix {
        out.push(with_port(host, port));
    }
}

fn bracketed(host: &str) -> SmolStr {
    if host.contains(':') { format_smolstr!("[{host}]") } else { host.to_smolstr() }
}

/// Other forms of `host`. istiod: `httproute.go: GenerateAltVirtualHosts`.
pub fn alternatives(host: &str, suffix: PortSuffix, speaker: Speaker<'_>, out: &mut Vec<SmolStr>) {
    let proxy_domain = speaker.domain;
    if speaker.absolute {
        let absolute = format_smolstr!("{host}.");
        if host.parse::<IpAddr>().is_err() {
            out.push(absolute.clone());
        }
        if let PortSuffix::Also(port) = suffix {
            out.push(with_port(&absolute, port));
        }
    }
    let mut add = |form: &str| push(out, form, suffix);
    if let Some((namespace, cluster_domain)) = proxy_domain.split_once(".svc.") {
        let in_cluster = host.strip_suffix(cluster_domain).is_some_and(|rest| rest.ends_with(".svc."));
        if !in_cluster {
            return;
        }
        let Some((short, _)) = host.split_once(".svc.") else { return };
        let Some((name, rest)) = host.split_once('.') else { return };
        // A name without namespace has no other forms.
        if short.is_empty() || rest.is_empty() || !short.contains('.') {
            return;
        }
        let full = format_smolstr!("{short}.svc");
        if short.split_once('.').is_some_and(|(_, ns)| ns == namespace) {
            add(name);
            add(&full);
            add(short);
        } else {
            add(short);
            add(&full);
        }
        return;
    }
    let (unique, shared) = unique_and_shared(host, proxy_domain);
    let Some(first_shared) = shared.first() else { return };
    let unique_host = unique.join(".");
    add(&unique_host);
    if unique.len() == 2 {
        add(&format!("{unique_host}.{first_shared}"));
    }
}

/// Splits a host into what it has for itself and what it shares with the proxy's domain.
fn unique_and_shared<'a>(host: &'a str, proxy_domain: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut parts: Vec<&str> = host.split('.').collect();
    let mine: Vec<&str> = proxy_domain.split('.').collect();
    let shared = parts.iter().rev().zip(mine.iter().rev()).take_while(|(a, b)| a == b).count();
    let tail = parts.split_off(parts.len().saturating_sub(shared));
    (parts, tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str, headless: bool, addresses: &[&str], proxy_domain: &str) -> Vec<SmolStr> {
        let addresses: Vec<SmolStr> = addresses.iter().map(SmolStr::new).collect();
        let source = DomainSource { hostname: host, aliases: &[], addresses: &addresses, headless };
        generate(source, PortSuffix::None, Speaker { domain: proxy_domain, absolute: true }).all
    }

    #[test]
    fn names_with_a_dot_at_their_end_can_be_left_out() {
        let source =
            DomainSource { hostname: "a.b.svc.cluster.local", aliases: &[], addresses: &[], headless: false };
        let speaker = Speaker { domain: "c.svc.cluster.local", absolute: false };
        let all = generate(source, PortSuffix::Also(80), speaker).all;
        assert_eq!(
            all,
            ["a.b.svc.cluster.local", "a.b.svc.cluster.local:80", "a.b", "a.b:80", "a.b.svc", "a.b.svc:80"]
        );
    }

    #[test]
    fn services_of_the_own_namespace_have_their_bare_name() {
        assert_eq!(
            of("known.default.svc.cluster.local", false, &["2.0.0.1"], "default.svc.cluster.local"),
            [
                "known.default.svc.cluster.local",
                "known.default.svc.cluster.local.",
                "known",
                "known.default.svc",
                "known.default",
                "2.0.0.1"
            ]
        );
    }

    #[test]
    fn services_of_other_namespaces_keep_their_namespace() {
        assert_eq!(
            of("echo.default.svc.cluster.local", false, &["0.0.0.0"], "mesh.svc.cluster.local"),
            [
                "echo.default.svc.cluster.local",
                "echo.default.svc.cluster.local.",
                "echo.default",
                "echo.default.svc"
            ]
        );
    }

    #[test]
    fn hosts_outside_the_cluster_are_not_abbreviated() {
        assert_eq!(
            of("httpbin.org", false, &["fd00::1"], "default.svc.cluster.local"),
            ["httpbin.org", "httpbin.org.", "[fd00::1]"]
        );
    }

    #[test]
    fn every_domain_has_its_host_among_the_candidates() {
        let proxy_domain = "default.svc.cluster.local";
        for host in ["a.default.svc.cluster.local", "a.b.svc.cluster.local", "x.org", "*.x.org"] {
            for domain in of(host, true, &[], proxy_domain) {
                assert!(candidates(&domain, proxy_domain).iter().any(|c| c == host), "{domain} of {host}");
            }
        }
    }
}
