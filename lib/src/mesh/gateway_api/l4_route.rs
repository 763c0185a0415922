//! Which rules do TCPRoutes and TLSRoutes become?
//!
//! Each parent and host has a VirtualService of its own; a route whose rules istiod refuses leaves one without rules.
//! istiod: `pilot/pkg/config/kube/gateway/route_collections.go: TCPRouteCollection, TLSRouteCollection`; `conversion.go:
//! augmentTCPPortMatch, augmentTLSPortMatch, compatibleRoutesForHost, constrainTLSRoutesToListenerHost`.

use smol_str::{SmolStr, format_smolstr};

use super::super::{Rule, VirtualService, host};
use super::backend::{Referrer, weight_sum};
use super::parent::{Attachment, Listener, attachments};
use super::reference::RouteKind;
use super::{Findings, GENERATED, Refusal, Source, Surroundings};
use crate::manifest::schema::gateway_api::L4RouteRule;
use crate::manifest::schema::istio::{L4MatchAttributes, TcpRoute, TlsMatchAttributes, TlsRoute};

/// The SNI of a TLSRoute without hostnames.
const ANY: SmolStr = SmolStr::new_static("*");

/// The VirtualServices of all TCPRoutes.
pub(super) fn tcp(
    listeners: &[Listener],
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Vec<VirtualService> {
    let mut out = Vec::new();
    for route in around.policies.tcp_routes.iter() {
        let source = Source::new(RouteKind::Tcp, route, &route.spec.parent_refs, &[]);
        let mut count = 0;
        for attachment in attachments(source.attached(), listeners, around, findings) {
            let referrer = source.referrer(around, !attachment.kind.is_mesh());
            let mut rules = or_none(tcp_rules(&source, &route.spec.rules, referrer), &source, findings);
            if attachment.kind.is_mesh()
                && let Some(port) = attachment.reference.port
            {
                for rule in &mut rules {
                    if rule.route.match_.is_empty() {
                        rule.route.match_.push(L4MatchAttributes::default());
                    }
                    rule.route.match_.iter_mut().for_each(|condition| condition.port = port);
                }
            }
            for host in attachment.hosts(source.namespace, source.hostnames, around) {
                let name = format_smolstr!("{}~tcp~{count}~{GENERATED}", source.name);
                let mut made = source.virtual_service(name, host, attachment.gateway.clone(), around);
                made.tcp.clone_from(&rules);
                out.push(made);
                count += 1;
            }
        }
    }
    out
}

fn tcp_rules(
    source: &Source<'_>,
    rules: &[L4RouteRule],
    referrer: Referrer<'_>,
) -> Result<Vec<Rule<TcpRoute>>, Refusal> {
    let rules = rules.iter().enumerate().map(|(n, rule)| {
        let route = TcpRoute { match_: Vec::new(), route: referrer.connections(&rule.backend_refs)? };
        Ok(Rule { route, origin: source.origin(format_smolstr!("spec.rules[{n}]")) })
    });
    rules.collect()
}

/// The VirtualServices of all TLSRoutes.
pub(super) fn tls(
    listeners: &[Listener],
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Vec<VirtualService> {
    let mut out = Vec::new();
    for route in around.policies.tls_routes.iter() {
        let spec = &route.spec;
        let source = Source::new(RouteKind::Tls, route, &spec.parent_refs, &spec.hostnames);
        let mut count = 0;
        for attachment in attachments(source.attached(), listeners, around, findings) {
            let in_mesh = attachment.kind.is_mesh();
            let referrer = source.referrer(around, !in_mesh);
            let mut rules = or_none(tls_rules(&source, &spec.rules, referrer), &source, findings);
            let mut hosts = attachment.hosts(source.namespace, source.hostnames, around);
            if in_mesh {
                for rule in &mut rules {
                    bind_to_service(rule, &attachment, &hosts);
                }
            } else if !attachment.hostname.is_empty() {
                hosts = within(&hosts, &attachment.hostname);
                rules.retain_mut(|rule| bind_to_listener(rule, &attachment.hostname));
            }
            for host in hosts {
                let name = format_smolstr!("{}~tls~{count}~{GENERATED}", source.name);
                let mut own = rules.clone();
                if in_mesh {
                    for rule in &mut own {
                        keep_names_of(rule, &host);
                    }
                }
                let mut made = source.virtual_service(name, host, attachment.gateway.clone(), around);
                made.tls = own;
                made.from_tls_route = true;
                out.push(made);
                count += 1;
            }
        }
    }
    out
}

fn tls_rules(
    source: &Source<'_>,
    rules: &[L4RouteRule],
    referrer: Referrer<'_>,
) -> Result<Vec<Rule<TlsRoute>>, Refusal> {
    let rules = rules.iter().enumerate().map(|(n, rule)| {
        let mut route = TlsRoute { match_: Vec::new(), route: referrer.connections(&rule.backend_refs)? };
        // A rule that leads nowhere has no match either. istiod: `conversion.go: convertTLSRoute`.
        if weight_sum(&rule.backend_refs) != 0 {
            let sni_hosts = if source.hostnames.is_empty() { vec![ANY] } else { source.hostnames.to_vec() };
            route.match_.push(TlsMatchAttributes { sni_hosts, ..TlsMatchAttributes::default() });
        }
        Ok(Rule { route, origin: source.origin(format_smolstr!("spec.rules[{n}]")) })
    });
    rules.collect()
}

/// In the mesh, a route without hostnames is for the names of its parent.
fn bind_to_service(rule: &mut Rule<TlsRoute>, attachment: &Attachment<'_>, hosts: &[SmolStr]) {
    if let [condition] = rule.route.match_.as_mut_slice()
        && condition.sni_hosts == [ANY]
    {
        condition.sni_hosts = hosts.to_vec();
    }
    if let Some(port) = attachment.reference.port {
        rule.route.match_.iter_mut().for_each(|condition| condition.port = port);
    }
}

/// Of several names, those that the host of the VirtualService covers.
fn keep_names_of(rule: &mut Rule<TlsRoute>, name: &str) {
    if let [condition] = rule.route.match_.as_mut_slice()
        && condition.sni_hosts.len() > 1
    {
        condition.sni_hosts.retain(|sni| host::matches(name, sni));
    }
}

/// Narrows a rule's names to a listener's; `false` where nothing is left of them.
fn bind_to_listener(rule: &mut Rule<TlsRoute>, hostname: &SmolStr) -> bool {
    for condition in &mut rule.route.match_ {
        condition.sni_hosts = within(&condition.sni_hosts, hostname);
    }
    rule.route.match_.is_empty() || rule.route.match_.iter().any(|m| !m.sni_hosts.is_empty())
}

/// What a list of hosts and a listener's hostname have in common.
fn within(hosts: &[SmolStr], hostname: &SmolStr) -> Vec<SmolStr> {
    let hosts: Vec<&str> = hosts.iter().map(SmolStr::as_str).collect();
    host::intersection(&hosts, &[hostname]).into_iter().map(SmolStr::new).collect()
}

fn or_none<T>(
    rules: Result<Vec<Rule<T>>, Refusal>,
    source: &Source<'_>,
    findings: &mut Findings,
) -> Vec<Rule<T>> {
    rules.unwrap_or_else(|refusal| {
        findings.refused.push((source.origin(""), refusal));
        Vec::new()
    })
}
