//! VirtualService. istiod: `validation.go: ValidateVirtualService`, `virtualservice.go`.

use smol_str::SmolStr;

use super::report::{At, Report};
use super::selector::{Exported, exports};
use super::{gateway_semantics, names, unreachable};
use crate::host;
use crate::manifest::schema::istio::{
    Destination, L4MatchAttributes, Labels, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute,
    VirtualService,
};

mod actions;
mod http;

/// The gateway name that means all sidecars.
const MESH: &str = "mesh";

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, vs: &VirtualService) {
    let by_istiod = gateway_semantics(report.resource());
    if vs.hosts.is_empty() {
        delegate(report, spec, vs);
    }
    gateways(report, &spec.field("gateways"), &vs.gateways, by_istiod);
    let bound_to_gateways = !vs.gateways.is_empty() && is_gateway(vs);
    if !bound_to_gateways {
        claims_need_a_gateway(report, spec, vs);
    }
    hosts(report, spec, vs, bound_to_gateways);
    if vs.http.is_empty() && vs.tcp.is_empty() && vs.tls.is_empty() {
        report.refuse(spec, "http, tcp or tls must be provided in virtual service");
    }
    let at = spec.field("http");
    for (index, route) in vs.http.iter().enumerate() {
        http::route(report, &at.index(index), route, vs.hosts.is_empty(), by_istiod);
    }
    let at = spec.field("tls");
    for (index, route) in vs.tls.iter().enumerate() {
        tls_route(report, &at.index(index), route, vs, by_istiod);
    }
    let at = spec.field("tcp");
    for (index, route) in vs.tcp.iter().enumerate() {
        tcp_route(report, &at.index(index), route, by_istiod);
    }
    exports(report, spec, &vs.export_to, Exported::Other);
    unreachable::check(report, spec, vs);
}

/// What a VirtualService without hosts, which others delegate to, may not have.
fn delegate(report: &mut Report<'_>, spec: &At<'_>, vs: &VirtualService) {
    if !vs.gateways.is_empty() {
        report.refuse(&spec.field("gateways"), "delegate virtual service must have no gateways specified");
    }
    if !vs.tls.is_empty() {
        report.refuse(&spec.field("tls"), "delegate virtual service must have no tls route specified");
    }
    if !vs.tcp.is_empty() {
        report.refuse(&spec.field("tcp"), "delegate virtual service must have no tcp route specified");
    }
}

/// Whether it names gateways only, not the mesh.
fn is_gateway(vs: &VirtualService) -> bool {
    !vs.gateways.iter().any(|gateway| gateway == MESH)
}

fn claims_need_a_gateway(report: &mut Report<'_>, spec: &At<'_>, vs: &VirtualService) {
    let at = spec.field("http");
    for (i, route) in vs.http.iter().enumerate() {
        let at = at.index(i);
        let at = at.field("match");
        for (j, condition) in route.match_.iter().enumerate() {
            let at = at.index(j);
            for (field, headers) in
                [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)]
            {
                for name in headers.keys().filter(|name| names::is_claim(name)) {
                    report.refuse(
                        &at.field(field).key(name),
                        format!(
                            "JWT claim based routing (key: {name}) is only supported for gateway, found no gateways: [{}]",
                            vs.gateways.join(" ")
                        ),
                    );
                }
            }
        }
    }
}

fn hosts(report: &mut Report<'_>, spec: &At<'_>, vs: &VirtualService, bound_to_gateways: bool) {
    let at = spec.field("hosts");
    let sni = vs.tls.iter().any(|route| route.match_.iter().any(|m| !m.sni_hosts.is_empty()));
    let mut all_valid = true;
    for (index, name) in vs.hosts.iter().enumerate() {
        let outcome =
            if bound_to_gateways { names::gateway_host(sni, name) } else { names::wildcard_domain(name) };
        let reason = match outcome {
            Err(_) if names::is_ip(name) => continue,
            Err(reason) => reason,
            Ok(()) if !bound_to_gateways && name == "*" => {
                "wildcard host * is not allowed for virtual services bound to the mesh gateway".to_owned()
            }
            Ok(()) => continue,
        };
        report.refuse(&at.index(index), reason);
        all_valid = false;
    }
    if !all_valid {
        return;
    }
    for (first, second) in overlapping(&vs.hosts) {
        if let (Some(a), Some(b)) = (vs.hosts.get(first), vs.hosts.get(second)) {
            report.refuse(&at.index(second), format!("duplicate hosts in virtual service: {a} & {b}"));
        }
    }
}

/// Pairs of hosts of which one covers the other, by number; each host is the later one of a pair at most once.
fn overlapping(hosts: &[SmolStr]) -> Vec<(usize, usize)> {
    if hosts.len() < 2 {
        return Vec::new();
    }
    // Read from its end, a wildcard is a prefix of what it covers, so these stand behind it when sorted.
    let mut sorted: Vec<(Vec<u8>, bool, usize)> = hosts
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let suffix = host.strip_prefix('*').unwrap_or(host);
            (suffix.bytes().rev().collect(), !host::is_wildcard(host), index)
        })
        .collect();
    sorted.sort();
    let mut out = Vec::new();
    let mut wildcards: Vec<&(Vec<u8>, bool, usize)> = Vec::new();
    let mut previous: Option<&(Vec<u8>, bool, usize)> = None;
    for entry in &sorted {
        while wildcards.last().is_some_and(|(suffix, ..)| !entry.0.starts_with(suffix)) {
            wildcards.pop();
        }
        let equal = previous.filter(|(name, exact, _)| *exact && entry.1 && *name == entry.0);
        if let Some((.., other)) = wildcards.last().copied().or(equal) {
            out.push((entry.2.min(*other), entry.2.max(*other)));
        }
        if !entry.1 {
            wildcards.push(entry);
        }
        previous = Some(entry);
    }
    out.sort_by_key(|(first, second)| (*second, *first));
    out.dedup_by_key(|(_, second)| *second);
    out
}

/// A list of gateways. The first name without a namespace ends the check, as in Istio.
fn gateways(report: &mut Report<'_>, at: &At<'_>, gateways: &[SmolStr], by_istiod: bool) {
    for (index, gateway) in gateways.iter().enumerate() {
        let at = at.index(index);
        let Some((namespace, name)) = gateway.split_once('/') else {
            if let Some((name, rest)) = gateway.split_once('.') {
                let namespace = rest.split('.').next().unwrap_or(rest);
                report.warn(
                    &at,
                    format!(
                        "using legacy gatewayName format \"{gateway}\"; prefer the <namespace>/<name> format: \"{namespace}/{name}\""
                    ),
                );
            }
            report.check(&at, names::fqdn(gateway));
            return;
        };
        if namespace.is_empty() || name.is_empty() {
            report.refuse(&at, "config namespace and gateway name cannot be empty");
        }
        if !names::is_label(namespace) {
            report.refuse(&at, format!("invalid value for namespace: \"{namespace}\""));
        }
        if !names::is_label(name) && !by_istiod {
            report.refuse(&at, format!("invalid value for gateway name: \"{name}\""));
        }
    }
}

fn tls_route(report: &mut Report<'_>, at: &At<'_>, route: &TlsRoute, vs: &VirtualService, by_istiod: bool) {
    if route.match_.is_empty() {
        report.refuse(at, "TLS route must have at least one match condition");
    }
    let matches = at.field("match");
    for (index, condition) in route.match_.iter().enumerate() {
        tls_match(report, &matches.index(index), condition, vs);
    }
    if route.route.is_empty() {
        report.refuse(at, "TLS route is required");
    }
    destinations(report, &at.field("route"), &route.route, by_istiod);
}

fn tls_match(report: &mut Report<'_>, at: &At<'_>, condition: &TlsMatchAttributes, vs: &VirtualService) {
    if condition.sni_hosts.is_empty() {
        report.refuse(at, "TLS match must have at least one SNI host");
    }
    let hosts = at.field("sniHosts");
    for (index, name) in condition.sni_hosts.iter().enumerate() {
        sni_host(report, &hosts.index(index), name, vs);
    }
    subnets(report, &at.field("destinationSubnets"), &condition.destination_subnets);
    common_match(report, at, condition.port, &condition.source_labels, &condition.gateways);
}

fn sni_host(report: &mut Report<'_>, at: &At<'_>, name: &str, vs: &VirtualService) {
    let outcome = if is_gateway(vs) { names::gateway_host(true, name) } else { names::wildcard_domain(name) };
    if let Err(reason) = outcome {
        if names::is_ip(name) {
            report.warn(
                at,
                format!(
                    "using an IP address (\"{name}\") goes against SNI spec and most clients do not support this"
                ),
            );
        } else {
            report.refuse(at, reason);
        }
        return;
    }
    if !vs.hosts.iter().any(|host| host::subset_of(name, host)) {
        report.refuse(
            at,
            format!(
                "SNI host \"{name}\" is not a compatible subset of any of the virtual service hosts: [{}]",
                vs.hosts.join(", ")
            ),
        );
    }
}

fn tcp_route(report: &mut Report<'_>, at: &At<'_>, route: &TcpRoute, by_istiod: bool) {
    let matches = at.field("match");
    for (index, condition) in route.match_.iter().enumerate() {
        tcp_match(report, &matches.index(index), condition);
    }
    if route.route.is_empty() {
        report.refuse(at, "TCP route is required");
    }
    destinations(report, &at.field("route"), &route.route, by_istiod);
}

fn tcp_match(report: &mut Report<'_>, at: &At<'_>, condition: &L4MatchAttributes) {
    subnets(report, &at.field("destinationSubnets"), &condition.destination_subnets);
    common_match(report, at, condition.port, &condition.source_labels, &condition.gateways);
}

fn subnets(report: &mut Report<'_>, at: &At<'_>, subnets: &[SmolStr]) {
    for (index, subnet) in subnets.iter().enumerate() {
        report.check(&at.index(index), names::subnet(subnet));
    }
}

/// What matches of all protocols have.
fn common_match(report: &mut Report<'_>, at: &At<'_>, port: u32, labels: &Labels, bound: &[SmolStr]) {
    if port != 0 {
        report.check(&at.field("port"), names::port(port));
    }
    let source_labels = at.field("sourceLabels");
    tags(report, &source_labels, labels);
    gateways(report, &at.field("gateways"), bound, false);
}

/// Labels that Kubernetes accepts.
pub(super) fn tags(report: &mut Report<'_>, at: &At<'_>, labels: &Labels) {
    for (key, value) in labels {
        report.check(&at.key(key), names::tag(key, value));
    }
}

fn destinations(report: &mut Report<'_>, at: &At<'_>, routes: &[RouteDestination], by_istiod: bool) {
    for (index, route) in routes.iter().enumerate() {
        weighted(report, &at.index(index), route.destination.as_ref(), route.weight, by_istiod);
    }
    total_weight(report, at, routes.iter().map(|route| route.weight));
}

fn weighted(report: &mut Report<'_>, at: &At<'_>, to: Option<&Destination>, weight: i32, by_istiod: bool) {
    match to {
        None => report.refuse(at, "destination is required"),
        Some(to) if !by_istiod => destination(report, &at.field("destination"), to),
        Some(_) => {}
    }
    if weight < 0 {
        report.refuse(&at.field("weight"), format!("weight {weight} < 0"));
    }
}

fn total_weight(report: &mut Report<'_>, at: &At<'_>, weights: impl ExactSizeIterator<Item = i32>) {
    // The sum wraps around, as it does in Istio.
    if weights.len() > 1 && weights.fold(0_i32, i32::wrapping_add) == 0 {
        report.refuse(at, "total destination weight = 0");
    }
}

/// A destination. istiod: `validation.go: validateDestination`.
pub(super) fn destination(report: &mut Report<'_>, at: &At<'_>, to: &Destination) {
    let host = at.field("host");
    if to.host == "*" {
        report.refuse(&host, format!("invalid destination host {}", to.host));
    } else {
        report.check(&host, names::wildcard_domain(&to.host));
    }
    if !to.subset.is_empty() {
        report.check(&at.field("subset"), names::subset(&to.subset));
    }
    if let Some(port) = &to.port {
        report.check(&at.field("port"), names::port(port.number));
    }
}
