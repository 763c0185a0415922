//! Which endpoints does a cluster have?
//!
//! Joined by port, chosen by the subset's labels, and ranked by [`locality`]. Invariant: endpoints are grouped by
//! locality, in its order by name. istiod: `endpoint_builder.go: BuildClusterLoadAssignment, FromServiceEndpoints, filterIstioEndpoint`;
//! `mtls_checker.go`.

use std::collections::BTreeMap;

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::Target;
use super::locality::{self, Given, Group, Labelled, Preferred};
use super::traffic_policy::{ResolvedPolicy, SendsUnhealthy};
use crate::envoy::config::{EndpointAddress, HealthStatus, LbEndpoint, LoadAssignment};
use crate::istiod::peer_authentication::{MtlsMode, compose};
use crate::istiod::proxy::Proxy;
use crate::istiod::service::ScopedService;
use crate::manifest::schema::istio::{TlsMode, TrafficPolicy};
use crate::mesh::{Address, DestinationRule, Endpoint, Health, Mesh, Service, ServicePort, network};

/// The addresses of a port's endpoints, one list for each.
pub fn addresses(mesh: &Mesh, service: &ScopedService, port: &ServicePort) -> Vec<Vec<SmolStr>> {
    mesh.endpoints(service.hostname(), service.namespace())
        .iter()
        .filter(|endpoint| endpoint.is_of_port(port))
        .map(|endpoint| {
            vec![match &endpoint.address {
                Address::Ip(ip) => ip.to_smolstr(),
                Address::Name(name) => name.clone(),
                Address::Pipe(path) => format_smolstr!("unix://{path}"),
            }]
        })
        .collect()
}

/// Whether every endpoint of a port speaks Istio's mutual TLS, and there is one.
pub fn all_speak_mutual_tls(proxy: &Proxy, service: &ScopedService, port: &ServicePort) -> bool {
    let mut endpoints = proxy
        .mesh()
        .endpoints(service.hostname(), service.namespace())
        .iter()
        .filter(|endpoint| endpoint.is_of_port(port))
        .peekable();
    endpoints.peek().is_some() && endpoints.all(|endpoint| endpoint.istio_mutual)
}

/// The identities that the endpoints of a service may show: of all endpoints, and what the youngest of the services of that
/// host names besides. istiod: `push_context.go: initServiceRegistry, addServiceAccounts`.
pub fn service_accounts(proxy: &Proxy, target: &Target<'_>) -> Vec<SmolStr> {
    let mesh = proxy.mesh();
    let service = target.service;
    let trust_domain = &mesh.config().trust_domain;
    let mut out: Vec<SmolStr> = mesh
        .endpoints(service.hostname(), service.namespace())
        .iter()
        .filter(|endpoint| !endpoint.service_account.is_empty())
        .map(|endpoint| {
            format_smolstr!(
                "spiffe://{trust_domain}/ns/{}/sa/{}",
                endpoint.namespace,
                endpoint.service_account
            )
        })
        .chain(youngest(mesh, service.service()).subject_alt_names.iter().cloned())
        .collect();
    expand_trust_domains(&mut out, mesh.config().written.trust_domain_aliases.as_deref().unwrap_or_default());
    out.sort();
    out.dedup();
    out
}

/// The last of the services of a host in a namespace.
fn youngest<'m>(mesh: &'m Mesh, service: &'m Service) -> &'m Service {
    let of_host = mesh.service_index().of_host(&service.hostname).iter().rev();
    let mut services = of_host.filter_map(|&number| mesh.services().get(number as usize));
    services.find(|own| own.namespace == service.namespace).map_or(service, |own| own)
}

/// Adds each identity under the other names of the trust domain. istiod: `pkg/spiffe/spiffe.go:
/// ExpandWithTrustDomains`.
fn expand_trust_domains(identities: &mut Vec<SmolStr>, aliases: &[SmolStr]) {
    for index in 0..identities.len() {
        let path = identities.get(index).and_then(|id| id.strip_prefix("spiffe://")?.split_once('/'));
        let path = path.map(|(_, path)| SmolStr::new(path));
        // Whatever is not `ns/NAMESPACE/sa/ACCOUNT` is taken as it is.
        let is_identity =
            |path: &SmolStr| matches!(path.split('/').collect::<Vec<_>>()[..], ["ns", _, "sa", _]);
        if let Some(path) = path.filter(is_identity) {
            identities.extend(aliases.iter().map(|domain| format_smolstr!("spiffe://{domain}/{path}")));
        }
    }
}

/// Endpoints as istiod sends them: addresses only, no names.
pub fn eds_endpoints(proxy: &Proxy, target: &Target<'_>) -> LoadAssignment {
    let rule = of_rule(target);
    let addresses = sent(proxy, target, &rule, |endpoint, port| endpoint.port_name == port.name)
        .filter(|e| !matches!(e.address, Address::Name(_)));
    let found = across_networks(proxy, by_locality(proxy, target, addresses));
    let preferred = Preferred::of(proxy, target.service.service(), rule.load_balancer.as_ref());
    let outlier_detection = rule.outlier_detection.is_some();
    let given = Given { outlier_detection, labelled: Labelled::All };
    locality::assign(proxy, preferred.as_ref(), given, found)
}

/// Puts gateways in the place of endpoints of networks that the proxy is not in; without any, nothing changes. What does not
/// speak mutual TLS cannot be told apart there, and is left out. istiod: `ep_filters.go: EndpointsByNetworkFilter`.
fn across_networks<'m>(proxy: &'m Proxy, mut groups: Vec<Group<'m>>) -> Vec<Group<'m>> {
    let gateways = proxy.mesh().network_gateways();
    if gateways.is_empty() {
        return groups;
    }
    let node = proxy.node();
    let own = &node.metadata.network;
    let scale = gateways.scale();
    let one_family = node.supports_ipv4() != node.supports_ipv6();
    let is_reachable = |gateway: &&Endpoint| match gateway.address {
        Address::Ip(ip) => !one_family || ip.is_ipv6() == node.supports_ipv6(),
        Address::Name(_) | Address::Pipe(_) => false,
    };
    for group in &mut groups {
        let mut shares: BTreeMap<(&SmolStr, usize), u32> = BTreeMap::new();
        let mut kept = Vec::new();
        for (endpoint, mut sent) in std::mem::take(&mut group.members) {
            sent.load_balancing_weight = sent.load_balancing_weight.saturating_mul(scale);
            let there = gateways.to(&endpoint.network);
            // A proxy that names no network is in none that has gateways.
            if there.is_empty() || *own == endpoint.network {
                kept.push((endpoint, sent));
                continue;
            }
            let count = there.iter().filter(is_reachable).count() as u32;
            if count == 0 || !sent.istio_mutual {
                continue;
            }
            for (place, _) in there.iter().enumerate().filter(|(_, gateway)| is_reachable(gateway)) {
                *shares.entry((&endpoint.network, place)).or_default() += sent.load_balancing_weight / count;
            }
        }
        let mut passed: Vec<(&Endpoint, u32)> = shares
            .into_iter()
            .filter_map(|((network, place), weight)| Some((gateways.to(network).get(place)?, weight.max(1))))
            .collect();
        passed.sort_by_cached_key(|(gateway, _)| network::order(gateway));
        for (gateway, weight) in passed {
            let mut sent = lb_endpoint(proxy.mesh(), gateway, None);
            sent.istio_mutual = true;
            sent.load_balancing_weight = weight;
            kept.push((gateway, sent));
        }
        group.weight = locality::weight(&kept);
        group.members = kept;
    }
    groups
}

/// Whether there is an endpoint to put into the cluster itself.
pub fn has_dns_endpoints(proxy: &Proxy, target: &Target<'_>) -> bool {
    sent(proxy, target, &of_rule(target), Endpoint::is_of_port).next().is_some()
}

/// Endpoints as they stand in the cluster itself, for Envoy to resolve; the cluster's `policy` ranks them.
/// istiod: `cluster.go: buildOutboundClusters`; only the whole service's cluster knows its endpoints' labels.
pub fn dns_endpoints(proxy: &Proxy, target: &Target<'_>, policy: &ResolvedPolicy) -> LoadAssignment {
    let found = by_locality(proxy, target, sent(proxy, target, &of_rule(target), Endpoint::is_of_port));
    let preferred = Preferred::of(proxy, target.service.service(), policy.load_balancer.as_ref());
    let given = Given {
        outlier_detection: policy.outlier_detection.is_some(),
        labelled: if target.subset.is_empty() { Labelled::OneLocality } else { Labelled::None },
    };
    locality::assign(proxy, preferred.as_ref(), given, found)
}

fn of_rule(target: &Target<'_>) -> ResolvedPolicy {
    let rule = target.rule.map(|rule| ResolvedPolicy::of_rule(rule, target.subset, target.port.number));
    rule.unwrap_or_default()
}

/// The endpoints of a target that the proxy is told, of those that `joins` counts to its port.
fn sent<'m>(
    proxy: &'m Proxy,
    target: &Target<'_>,
    rule: &ResolvedPolicy,
    joins: impl Fn(&Endpoint, &ServicePort) -> bool + 'm,
) -> impl Iterator<Item = &'m Endpoint> {
    let mesh = proxy.mesh();
    let service = target.service.service();
    let subset = target.rule.and_then(|rule| rule.subset(target.subset)).map(|subset| &subset.subset.labels);
    let without_unhealthy = rule.leaves_out_unhealthy(SendsUnhealthy::of(mesh, service));
    mesh.endpoints(&service.hostname, &service.namespace).iter().filter(move |endpoint| {
        joins(endpoint, target.port)
            && subset.is_none_or(|labels| endpoint.has_labels(labels))
            && !matches!(endpoint.health, Health::Draining | Health::Terminating)
            && !(without_unhealthy && endpoint.health == Health::Unhealthy)
            && (!service.node_local || on_node(proxy, endpoint).unwrap_or(true))
    })
}

/// Whether an endpoint is on the proxy's node; `None` where nobody says on which node one of them runs, which istiod takes for the
/// same one.
fn on_node(proxy: &Proxy, endpoint: &Endpoint) -> Option<bool> {
    let node_name = &proxy.node().metadata.node_name;
    let known = (!endpoint.node_name.is_empty() || endpoint.without_node) && !node_name.is_empty();
    known.then(|| endpoint.node_name == *node_name)
}

/// Endpoints of a target as Envoy gets them, by locality.
fn by_locality<'m>(
    proxy: &'m Proxy,
    target: &Target<'_>,
    endpoints: impl Iterator<Item = &'m Endpoint>,
) -> Vec<Group<'m>> {
    let mesh = proxy.mesh();
    let node_local = target.service.service().node_local;
    let mode = target.rule.and_then(|rule| tls_mode(rule, target.subset, target.port.number));
    let mut groups: BTreeMap<&SmolStr, Vec<(&Endpoint, LbEndpoint)>> = BTreeMap::new();
    for endpoint in endpoints {
        let mut sent = lb_endpoint(mesh, endpoint, mode);
        sent.node_assumed = node_local && on_node(proxy, endpoint).is_none();
        groups.entry(&endpoint.locality).or_default().push((endpoint, sent));
    }
    groups
        .into_iter()
        .map(|(locality, members)| Group {
            locality: locality.clone(),
            priority: 0,
            weight: locality::weight(&members),
            members,
        })
        .collect()
}

fn lb_endpoint(mesh: &Mesh, endpoint: &Endpoint, mode: Option<TlsMode>) -> LbEndpoint {
    LbEndpoint {
        address: match &endpoint.address {
            Address::Ip(ip) => EndpointAddress::Socket(*ip, endpoint.port),
            Address::Name(name) => EndpointAddress::Name(name.clone(), endpoint.port),
            Address::Pipe(path) => EndpointAddress::Pipe(path.clone()),
        },
        health_status: match endpoint.health {
            Health::Healthy => HealthStatus::Healthy,
            Health::Unhealthy => HealthStatus::Unhealthy,
            Health::Draining | Health::Terminating => HealthStatus::Draining,
        },
        load_balancing_weight: endpoint.weight,
        istio_mutual: speaks_mutual_tls(mesh, endpoint, mode),
        workload: endpoint
            .workload
            .and_then(|at| mesh.workloads().get(at as usize))
            .map(crate::mesh::Workload::full_name)
            .unwrap_or_default(),
        assumed: endpoint.assumed,
        node_assumed: false,
        origin: endpoint.origin.clone(),
    }
}

/// Whether an endpoint is known for mutual TLS: it has to speak it, whatever a rule asks for. istiod: `mtls_checker.go:
/// checkMtlsEnabled`; `endpoint_builder.go: buildEnvoyLbEndpoint`.
fn speaks_mutual_tls(mesh: &Mesh, endpoint: &Endpoint, mode: Option<TlsMode>) -> bool {
    let asked_for = || match mode {
        Some(mode) => mode == TlsMode::IstioMutual,
        None => {
            let mode = compose(mesh, &endpoint.namespace, |wanted| endpoint.has_labels(wanted));
            mode.for_port(endpoint.port).0 != MtlsMode::Disable
        }
    };
    endpoint.istio_mutual && asked_for()
}

/// The mode that a DestinationRule asks for at an endpoint, with inheritance. istiod: `tlsModeForDestinationRule`.
fn tls_mode(rule: &DestinationRule, subset: &str, port: u16) -> Option<TlsMode> {
    let of = |policy: &TrafficPolicy| {
        let at_port = policy
            .port_level_settings
            .iter()
            .find(|s| s.tls.is_some() && s.port.as_ref().is_some_and(|own| own.number == u32::from(port)));
        at_port.and_then(|s| s.tls.as_ref()).or(policy.tls.as_ref()).map(|tls| tls.mode)
    };
    let whole = rule.traffic_policy.as_ref().and_then(|(policy, _)| of(policy));
    if subset.is_empty() {
        return whole;
    }
    let subset = rule.subset(subset)?;
    subset.subset.traffic_policy.as_ref().and_then(of).or(whole)
}
