//! Which filter chains does a TCP or TLS port of a service get?
//!
//! Invariant: VirtualServices are tried in order without looking for the most specific one; the first rule that needs
//! nothing of the connection ends the list. istiod: `tls.go: buildSidecarOutboundTCPFilterChainOpts,
//! buildSidecarOutboundTLSFilterChainOpts, matchTCP, matchTLS`; `networkfilter.go: buildOutboundNetworkFilters`.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::domains::{self, PortSuffix, Speaker};
use super::tcp_policy::with_rule;
use crate::envoy::config::{ConfigInfo, TcpProxy, TcpTuning, TransportProtocol, WeightedTcpCluster};
use crate::istiod::name::{MESH_GATEWAY, outbound_cluster};
use crate::istiod::route::action::{DestinationService, destination_cluster};
use crate::istiod::route::{ProxyIdentity, config_info};
use crate::istiod::service::ScopedService;
use crate::manifest::schema::istio::{Labels, RouteDestination};
use crate::mesh::{DestinationRule, Protocol, Resolution, ServicePort, VirtualService, host};
use crate::origin::Origin;

/// A filter chain in the making.
#[derive(Clone, Debug)]
pub struct ChainOptions {
    /// SNI names; a `*` among them asks for nothing.
    pub sni_hosts: Vec<SmolStr>,
    /// Destination addresses and CIDRs, as written.
    pub destination_cidrs: Vec<SmolStr>,
    /// ALPN values.
    pub application_protocols: &'static [&'static str],
    /// Transport.
    pub transport: Option<TransportProtocol>,
    /// Who handles the bytes.
    pub terminal: Terminal,
    /// The VirtualService that istiod names for it.
    pub config: Option<ConfigInfo>,
    /// Who made it.
    pub origin: Origin,
}

/// Who handles the bytes of a chain.
#[derive(Clone, Debug)]
pub enum Terminal {
    /// An HTTP connection manager with the routes of this name, on behalf of a service.
    Http {
        /// The route configuration.
        rds: SmolStr,
        /// The host of the service that made the listener, where its names are resolved per request.
        dynamic_forward_proxy: Option<SmolStr>,
        /// The protocol of the port that made it.
        protocol: Protocol,
    },
    /// A TCP proxy.
    Tcp {
        /// The proxy.
        proxy: Arc<TcpProxy>,
    },
}

impl ChainOptions {
    /// Whether the chain takes every connection.
    pub fn is_match_all(&self) -> bool {
        (self.sni_hosts.is_empty() || self.sni_hosts.iter().any(|host| host == "*"))
            && self.application_protocols.is_empty()
            && self.transport.is_none()
            && self.destination_cidrs.is_empty()
    }

    fn tcp(destination_cidrs: Vec<SmolStr>, proxy: TcpProxy, origin: Origin) -> Self {
        Self {
            sni_hosts: Vec::new(),
            destination_cidrs,
            application_protocols: &[],
            transport: None,
            terminal: Terminal::Tcp { proxy: Arc::new(proxy) },
            config: None,
            origin,
        }
    }

    /// The same, with the VirtualService that it was made of.
    fn of(self, virtual_service: &VirtualService) -> Self {
        Self { config: Some(config_info(virtual_service)), ..self }
    }
}

/// What the chains of a port depend on.
#[derive(Clone)]
pub struct TcpOptions<'a> {
    /// The proxy.
    pub proxy: ProxyIdentity<'a>,
    /// Who asks, which decides how names are abbreviated.
    pub speaker: Speaker<'a>,
    /// The service.
    pub service: &'a ScopedService,
    /// The service's address for this proxy.
    pub address: &'a str,
    /// The port that is listened on; its number is 0 for a Unix domain socket.
    pub port: &'a ServicePort,
    /// Destination CIDRs of the service, if it has one or is headless.
    pub cidrs: Vec<SmolStr>,
    /// Whether those are addresses of single pods.
    pub pod_cidrs: bool,
    /// Whether the listener is bound to the wildcard address.
    pub wildcard_bind: bool,
    /// The wildcard address.
    pub wildcard: &'a str,
    /// VirtualServices with a host that covers the service's, in order.
    pub virtual_services: Vec<&'a VirtualService>,
    /// What is known of destinations.
    pub lookup: Lookup<'a>,
}

/// What is known of the host of a destination.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    /// The service behind it.
    pub service: &'a dyn Fn(&str) -> Option<DestinationService>,
    /// Its DestinationRule.
    pub rule: &'a dyn Fn(&str) -> Option<Arc<DestinationRule>>,
}

impl TcpOptions<'_> {
    /// Whether the port's protocol is read along. istiod: `networkfilter.go: buildNetworkFiltersStack`.
    fn mongo_proxy(&self) -> bool {
        self.port.protocol == Protocol::Mongo
    }
}

/// The chains of a TCP, TLS or sniffed port, without the HTTP chain.
pub fn filter_chains(options: &TcpOptions<'_>) -> Vec<ChainOptions> {
    if is_tls(options.port.protocol) { tls_chains(options) } else { tcp_chains(options) }
}

/// Whether SNI is looked at.
pub const fn is_tls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Tls | Protocol::Https)
}

fn tcp_chains(options: &TcpOptions<'_>) -> Vec<ChainOptions> {
    let mut out = Vec::new();
    let mut has_default = false;
    for virtual_service in &options.virtual_services {
        for rule in &virtual_service.tcp {
            let (tcp, origin) = (&rule.route, &rule.origin);
            if tcp.route.is_empty() {
                continue;
            }
            let chain = |cidrs| {
                let proxy = tcp_proxy(&tcp.route, virtual_service, origin, options);
                ChainOptions::tcp(cidrs, proxy, origin.clone())
            };
            if tcp.match_.is_empty() {
                out.push(chain(options.cidrs.clone()).of(virtual_service));
                return out;
            }
            let mut subnets = Vec::new();
            for condition in &tcp.match_ {
                let applies = applies(
                    options,
                    &condition.gateways,
                    &condition.source_labels,
                    condition.port,
                    &condition.source_namespace,
                );
                if !applies {
                    continue;
                }
                if condition.destination_subnets.is_empty() || options.port.number == 0 {
                    out.push(chain(options.cidrs.clone()).of(virtual_service));
                    return out;
                }
                subnets.extend(condition.destination_subnets.iter().cloned());
            }
            if !subnets.is_empty() {
                // Envoy refuses two chains with the same conditions, so the service's own chain is left out then.
                let mut sorted = (subnets.clone(), options.cidrs.clone());
                sorted.0.sort();
                sorted.1.sort();
                has_default |= sorted.0 == sorted.1;
                out.push(chain(subnets));
            }
        }
    }
    if !has_default {
        out.push(default_chain(options, Vec::new()));
    }
    out
}

fn tls_chains(options: &TcpOptions<'_>) -> Vec<ChainOptions> {
    let mut out = Vec::new();
    let mut handled: Vec<SmolStr> = Vec::new();
    // istiod keeps the subnets of one match for the matches after it.
    let mut cidrs = options.cidrs.clone();
    for virtual_service in &options.virtual_services {
        for rule in &virtual_service.tls {
            let (tls, origin) = (&rule.route, &rule.origin);
            if tls.route.is_empty() {
                continue;
            }
            for (i, condition) in tls.match_.iter().enumerate() {
                let applies = applies(
                    options,
                    &condition.gateways,
                    &condition.source_labels,
                    condition.port,
                    &condition.source_namespace,
                );
                if !applies {
                    continue;
                }
                if !condition.destination_subnets.is_empty() && options.port.number > 0 {
                    cidrs.clone_from(&condition.destination_subnets);
                }
                let key = format_smolstr!(
                    "{}|{}",
                    condition.sni_hosts.join(","),
                    condition.destination_subnets.join(",")
                );
                if handled.contains(&key) {
                    continue;
                }
                handled.push(key);
                let proxy = tcp_proxy(&tls.route, virtual_service, origin, options);
                let origin = origin.element("match", i);
                let mut chain = ChainOptions::tcp(cidrs.clone(), proxy, origin).of(virtual_service);
                chain.sni_hosts.clone_from(&condition.sni_hosts);
                out.push(chain);
            }
        }
    }
    if out.is_empty() {
        out.push(default_chain(options, default_sni_hosts(options)));
    }
    out
}

/// The SNI names of a service's own chain: its names, unless its address already tells it apart.
fn default_sni_hosts(options: &TcpOptions<'_>) -> Vec<SmolStr> {
    let service = options.service;
    if options.pod_cidrs {
        return Vec::new();
    }
    let is_cidr = options.address.contains('/');
    let address = if is_cidr { "" } else { options.address };
    let unaddressed = address == options.wildcard || (address == "0.0.0.0" && options.wildcard == "0.0.0.0");
    let dynamic = host::is_wildcard(service.hostname()) && service.resolution() == Resolution::DynamicDns;
    let ambiguous =
        !options.cidrs.is_empty() || address.is_empty() || (unaddressed && options.wildcard_bind) || dynamic;
    if !ambiguous {
        return Vec::new();
    }
    let mut out = vec![service.hostname().clone()];
    for alias in service.aliases() {
        out.push(alias.clone());
        domains::alternatives(alias, PortSuffix::None, options.speaker, &mut out);
    }
    out
}

/// The chain to the service itself.
fn default_chain(options: &TcpOptions<'_>, sni_hosts: Vec<SmolStr>) -> ChainOptions {
    let service = options.service;
    let port = service.only_port().unwrap_or(options.port.number);
    let cluster = outbound_cluster(service.hostname(), port, "");
    let origin = service.origin().clone();
    let sni_forward_proxy =
        host::is_wildcard(service.hostname()) && service.resolution() == Resolution::DynamicDns;
    let proxy = TcpProxy {
        stat_prefix: cluster.clone(),
        clusters: vec![WeightedTcpCluster { name: cluster, weight: 1, origin: origin.clone() }],
        mongo_proxy: options.mongo_proxy(),
        sni_forward_proxy: sni_forward_proxy.then_some(port),
        tunneling_config: None,
        tuning: TcpTuning::default(),
        origin: origin.clone(),
    };
    let rule = (options.lookup.rule)(service.hostname());
    let proxy = with_rule(proxy, rule.as_deref(), "");
    ChainOptions {
        sni_hosts,
        destination_cidrs: options.cidrs.clone(),
        application_protocols: &[],
        transport: None,
        terminal: Terminal::Tcp { proxy: Arc::new(proxy) },
        config: None,
        origin,
    }
}

/// The TCP proxy for the destinations of a rule.
fn tcp_proxy(
    destinations: &[RouteDestination],
    virtual_service: &VirtualService,
    origin: &Origin,
    options: &TcpOptions<'_>,
) -> TcpProxy {
    let stat_prefix = format_smolstr!("{}.{}", virtual_service.name, virtual_service.namespace);
    let port = options.port.number;
    let proxy = weighted_tcp_proxy(destinations, stat_prefix, port, &options.lookup, origin);
    TcpProxy { mongo_proxy: options.mongo_proxy(), ..proxy }
}

/// The TCP proxy for destinations with weights; shared with gateways.
pub fn weighted_tcp_proxy(
    destinations: &[RouteDestination],
    stat_prefix: SmolStr,
    port: u16,
    lookup: &Lookup<'_>,
    origin: &Origin,
) -> TcpProxy {
    let single = destinations.len() == 1;
    let mut clusters = Vec::new();
    for (i, route) in destinations.iter().enumerate() {
        let weight = if single { 1 } else { u32::try_from(route.weight).unwrap_or(0) };
        let Some(destination) = route.destination.as_ref().filter(|_| weight > 0) else { continue };
        let service = (lookup.service)(&destination.host);
        clusters.push(WeightedTcpCluster {
            name: destination_cluster(destination, service.as_ref(), port),
            weight,
            origin: origin.element("route", i),
        });
    }
    let stat_prefix = match clusters.as_slice() {
        [cluster] if single => cluster.name.clone(),
        _ => stat_prefix,
    };
    let first = destinations.first().and_then(|route| route.destination.as_ref());
    let rule = first.and_then(|destination| (lookup.rule)(&destination.host));
    let subset = first.filter(|_| single).map_or("", |destination| destination.subset.as_str());
    let proxy = TcpProxy {
        stat_prefix,
        clusters,
        mongo_proxy: false,
        sni_forward_proxy: None,
        tunneling_config: None,
        tuning: TcpTuning::default(),
        origin: origin.clone(),
    };
    with_rule(proxy, rule.as_deref(), subset)
}

/// Whether a match can apply to this proxy and port; all conditions have to hold.
fn applies(
    options: &TcpOptions<'_>,
    gateways: &[SmolStr],
    source_labels: &Labels,
    port: u32,
    source_namespace: &str,
) -> bool {
    (gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH_GATEWAY))
        && source_labels.iter().all(|(k, v)| options.proxy.labels.get(k) == Some(v))
        && (port == 0 || port == u32::from(options.port.number))
        && (source_namespace.is_empty() || source_namespace == options.proxy.namespace)
}
