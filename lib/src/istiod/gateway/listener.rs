//! Which listeners does a gateway open on a port, with which filter chains?
//!
//! Plain HTTP servers share one chain; every server that ends TLS has its own, told apart by SNI; servers that pass TLS
//! through have one for each match of a `tls` rule. Invariant: a server without a route for its connections has no
//! chain, and a listener without chains does not exist. istiod: `gateway.go: buildGatewayListeners,
//! buildGatewayTCPBasedFilterChains, createGatewayTCPFilterChainOpts, buildGatewayNetworkFiltersFromTCPRoutes,
//! buildGatewayNetworkFiltersFromTLSRoutes, builtAutoPassthroughFilterChains, buildGatewayConnectionManager`.

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use smol_str::{SmolStr, format_smolstr};

use super::binding::{applies, overlaps, virtual_services_for_gateway};
use super::merge::{MergedGateway, MergedServer, ServerPort};
use crate::envoy::config::{
    DownstreamTlsContext, FilterChain, FilterChainMatch, ForwardClientCertDetails, Listener, ListenerFilters,
    NetworkFilter, RouteSpecifier, SetCurrentClientCertDetails, TcpProxy, TrafficDirection,
    WeightedTcpCluster,
};
use crate::envoy::refusal;
use crate::istiod::IpMode;
use crate::istiod::connection_manager::{self, ConnectionManagerOptions, ListenerClass, forward_client_cert};
use crate::istiod::downstream_tls;
use crate::istiod::name::outbound_sni;
use crate::istiod::outbound::listener::{listener_address, listener_name};
use crate::istiod::outbound::tcp::{Lookup, weighted_tcp_proxy};
use crate::istiod::outbound::tcp_policy;
use crate::istiod::proxy::Proxy;
use crate::manifest::schema::istio::{RouteDestination, ServerTlsMode};
use crate::mesh::gateway::Server;
use crate::mesh::{Protocol, VirtualService, host};
use crate::origin::Origin;

/// ALPN values of Istio's mutual TLS.
const ISTIO_MTLS_ALPNS: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// ALPN values of servers of bytes that use Istio's mutual TLS. istiod: `util.go: ALPNDownstreamWithMxc`.
const ALPN_MESH: [SmolStr; 3] =
    [SmolStr::new_static("istio-peer-exchange"), SmolStr::new_static("h2"), SmolStr::new_static("http/1.1")];

/// A filter chain in the making.
struct Chain {
    sni_hosts: Vec<SmolStr>,
    application_protocols: &'static [&'static str],
    tls: Option<DownstreamTlsContext>,
    terminal: NetworkFilter,
    /// Whether no policy is asked: Istio's mutual TLS goes on to the workload, which asks its own.
    unguarded: bool,
    origin: Origin,
}

/// SNI hosts of `tls` rules on a port, with the address of the server that has them.
type KnownHosts = FxHashMap<SmolStr, SmolStr>;

/// The listeners on a port, one for each address.
pub fn build(proxy: &Proxy, merged: &MergedGateway, number: u16) -> Vec<Arc<Listener>> {
    let wildcard = smol_str::ToSmolStr::to_smolstr(&proxy.node().ip_mode().wildcard());
    let mut known = KnownHosts::default();
    let mut by_bind: IndexMap<SmolStr, Vec<Chain>> = IndexMap::new();
    for port in merged.ports.iter().filter(|port| port.number == number) {
        let bind = if port.bind.is_empty() { &wildcard } else { &port.bind };
        let chains = chains(proxy, merged, port, &mut known);
        by_bind.entry(bind.clone()).or_default().extend(chains);
    }
    by_bind
        .into_iter()
        .filter(|(_, chains)| !chains.is_empty())
        .map(|(bind, chains)| listener(proxy, &bind, bind == wildcard, number, chains))
        .map(|listener| proxy.patched(ListenerClass::Gateway, listener))
        .collect()
}

fn listener(proxy: &Proxy, bind: &SmolStr, wildcard: bool, number: u16, chains: Vec<Chain>) -> Listener {
    let attached = proxy.attached(ListenerClass::Gateway);
    let filters = ListenerFilters {
        tls_inspector: chains.iter().any(|chain| !chain.sni_hosts.is_empty() || chain.tls.is_some()),
        proxy_protocol: topology(proxy).is_some_and(|topology| topology.proxy_protocol.is_some()),
        ..ListenerFilters::default()
    };
    let origin = chains.first().map_or(Origin::default("a gateway's listener"), |chain| chain.origin.clone());
    let filter_chains: Vec<Arc<FilterChain>> = chains
        .into_iter()
        .map(|chain| {
            let access_filters = match &chain.terminal {
                _ if chain.unguarded => Vec::new(),
                NetworkFilter::HttpConnectionManager(_) => attached.network_extensions(number),
                NetworkFilter::TcpProxy(_) => attached.access_filters(number),
            };
            Arc::new(FilterChain {
                name: SmolStr::default(),
                filter_chain_match: chain_match(&chain),
                transport_socket: chain.tls,
                access_filters,
                terminal: chain.terminal,
                config: None,
                origin: chain.origin,
            })
        })
        .collect();
    let both = proxy.mesh().features().dual_stack && wildcard && proxy.node().ip_mode() == IpMode::Dual;
    Listener {
        name: listener_name(bind, number),
        address: listener_address(bind, number),
        additional_addresses: both.then(|| listener_address("::", number)).into_iter().collect(),
        bind_to_port: true,
        use_original_dst: false,
        traffic_direction: TrafficDirection::Outbound,
        listener_filters: filters,
        // Envoy's default: a connection that says nothing is closed.
        continue_on_listener_filters_timeout: false,
        listener_filters_timeout: None,
        per_connection_buffer_limit_bytes: proxy
            .connection_limits()
            .and_then(|limits| limits.per_connection_buffer_limit_bytes),
        transparent: false,
        refused: refusal(&filter_chains),
        filter_chains,
        default_filter_chain: None,
        origin,
    }
}

/// The conditions of a chain; `*` among its hosts asks for nothing. istiod: `listener.go: toFilterChainMatch`.
fn chain_match(chain: &Chain) -> FilterChainMatch {
    let mut server_names = Vec::new();
    if !chain.sni_hosts.iter().any(|host| host == "*") {
        server_names.clone_from(&chain.sni_hosts);
        server_names.sort();
    }
    FilterChainMatch {
        server_names,
        application_protocols: chain.application_protocols.iter().copied().map(SmolStr::new_static).collect(),
        ..FilterChainMatch::default()
    }
}

fn chains(proxy: &Proxy, merged: &MergedGateway, port: &ServerPort, known: &mut KnownHosts) -> Vec<Chain> {
    if port.protocol.is_http() {
        let origin = merged
            .servers_of(port)
            .next()
            .map_or(Origin::default("a gateway's servers"), |merged| merged.server.origin.clone());
        let stat_prefix = stat_prefix(proxy, port);
        return vec![Chain {
            sni_hosts: Vec::new(),
            application_protocols: &[],
            tls: None,
            terminal: http(proxy, port.route_name.clone(), stat_prefix, port.protocol, origin.clone()),
            unguarded: false,
            origin,
        }];
    }
    let mut out = Vec::new();
    for merged in merged.servers_of(port) {
        let server = &merged.server;
        if server.terminates_https() {
            let stat_prefix =
                if server.name.is_empty() { stat_prefix(proxy, port) } else { server.name.clone() };
            let route_name = merged.route_name.clone();
            out.push(Chain {
                sni_hosts: server.sni_hosts(),
                application_protocols: &[],
                tls: tls(proxy, server),
                terminal: http(proxy, route_name, stat_prefix, Protocol::Https, server.origin.clone()),
                unguarded: false,
                origin: server.origin.clone(),
            });
        } else if !server.is_passthrough() {
            if let Some((terminal, origin)) = tcp_route(proxy, merged) {
                let ends_tls = server.tls.is_some();
                out.push(Chain {
                    sni_hosts: if ends_tls { server.sni_hosts() } else { Vec::new() },
                    application_protocols: &[],
                    tls: tls(proxy, server),
                    terminal,
                    unguarded: false,
                    origin,
                });
            }
        } else if server.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough) {
            out.extend(auto_passthrough(proxy, server));
        } else {
            out.extend(tls_routes(proxy, merged, known));
        }
    }
    out
}

/// The TLS that ends at a server, if any.
fn tls(proxy: &Proxy, server: &Server) -> Option<DownstreamTlsContext> {
    let settings = server.tls.as_ref().filter(|_| !server.is_passthrough())?;
    let mut context = downstream_tls::context(proxy, settings, server.origin.part("tls"));
    if context.istio_mutual && !server.is_http() {
        context.alpn_protocols = ALPN_MESH.to_vec();
    }
    Some(context)
}

fn stat_prefix(proxy: &Proxy, port: &ServerPort) -> SmolStr {
    let wildcard = smol_str::ToSmolStr::to_smolstr(&proxy.node().ip_mode().wildcard());
    let bind = if port.bind.is_empty() { &wildcard } else { &port.bind };
    format_smolstr!("outbound_{};", listener_name(bind, port.number))
}

fn topology(proxy: &Proxy) -> Option<&crate::manifest::schema::mesh_config::Topology> {
    proxy.proxy_config().gateway_topology.as_ref()
}

/// The connection manager of a gateway.
fn http(
    proxy: &Proxy,
    route_name: SmolStr,
    stat_prefix: SmolStr,
    protocol: Protocol,
    origin: Origin,
) -> NetworkFilter {
    let headers = proxy.headers(ListenerClass::Gateway);
    let mut manager = connection_manager::build(ConnectionManagerOptions {
        class: ListenerClass::Gateway,
        route_specifier: RouteSpecifier::Rds(route_name),
        stat_prefix,
        headers: &headers,
        sanitation: proxy.sanitation(),
        limits: proxy.connection_limits(),
        accept_http_10: proxy.accepts_http_10(),
        tracing: proxy.tracing(ListenerClass::Gateway),
        // istiod tells no port here, so extensions for some ports are for none of a gateway's HTTP servers.
        security_filters: proxy.attached(ListenerClass::Gateway).http_filters(0),
        dynamic_forward_proxies: Vec::new(),
        origin,
    });
    manager.use_remote_address = true;
    let topology = topology(proxy);
    manager.xff_num_trusted_hops = topology.map_or(0, |topology| topology.num_trusted_proxies);
    manager.forward_client_cert_details = topology
        .and_then(|topology| forward_client_cert(topology.forward_client_cert_details))
        .unwrap_or(ForwardClientCertDetails::SanitizeSet);
    if matches!(
        manager.forward_client_cert_details,
        ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet
    ) {
        manager.set_current_client_cert_details =
            SetCurrentClientCertDetails { subject: true, cert: true, chain: false, dns: true, uri: true };
    }
    connection_manager::speak_grpc_web(&mut manager, protocol);
    NetworkFilter::HttpConnectionManager(Arc::new(manager))
}

/// Where a server's connections go: the first rule of the first VirtualService that has one for it.
fn tcp_route(proxy: &Proxy, merged: &MergedServer) -> Option<(NetworkFilter, Origin)> {
    let (server, gateway) = (&merged.server, &merged.gateway.full_name);
    let bound = virtual_services_for_gateway(proxy.mesh(), &proxy.node().namespace, gateway);
    for virtual_service in bound.into_iter().filter(|virtual_service| overlaps(server, virtual_service)) {
        for rule in &virtual_service.tcp {
            let matches = rule.route.match_.is_empty()
                || rule.route.match_.iter().any(|m| applies(server, gateway, m.port, &m.gateways));
            if matches && !rule.route.route.is_empty() {
                let terminal = tcp(proxy, server, virtual_service, &rule.route.route, &rule.origin);
                return Some((terminal, rule.origin.clone()));
            }
        }
        if !virtual_service.from_tls_route {
            continue;
        }
        // The rules of a TLSRoute are `tls` rules also where TLS ends.
        for rule in &virtual_service.tls {
            if rule.route.match_.iter().any(|m| applies(server, gateway, m.port, &m.gateways)) {
                let terminal = tcp(proxy, server, virtual_service, &rule.route.route, &rule.origin);
                return Some((terminal, rule.origin.clone()));
            }
        }
    }
    None
}

/// One chain for each match of a `tls` rule that holds for a server.
fn tls_routes(proxy: &Proxy, merged: &MergedServer, known: &mut KnownHosts) -> Vec<Chain> {
    let (server, gateway) = (&merged.server, &merged.gateway.full_name);
    let mut out = Vec::new();
    let bound = virtual_services_for_gateway(proxy.mesh(), &proxy.node().namespace, gateway);
    for virtual_service in bound.into_iter().filter(|virtual_service| overlaps(server, virtual_service)) {
        for rule in virtual_service.tls.iter().filter(|rule| !rule.route.route.is_empty()) {
            for (i, condition) in rule.route.match_.iter().enumerate() {
                if !applies(server, gateway, condition.port, &condition.gateways) {
                    continue;
                }
                let hosts = &condition.sni_hosts;
                if hosts.iter().any(|host| known.get(host) == Some(&server.bind)) {
                    continue;
                }
                known.extend(hosts.iter().map(|host| (host.clone(), server.bind.clone())));
                out.push(Chain {
                    sni_hosts: hosts.clone(),
                    application_protocols: &[],
                    tls: None,
                    terminal: tcp(proxy, server, virtual_service, &rule.route.route, &rule.origin),
                    unguarded: false,
                    origin: rule.origin.element("match", i),
                });
            }
        }
    }
    out
}

fn tcp(
    proxy: &Proxy,
    server: &Server,
    virtual_service: &VirtualService,
    destinations: &[RouteDestination],
    origin: &Origin,
) -> NetworkFilter {
    let tcp = weighted_tcp_proxy(
        destinations,
        format_smolstr!("{}.{}", virtual_service.name, virtual_service.namespace),
        server.number,
        &Lookup {
            service: &|host| proxy.scope().service(host).map(|service| service.destination()),
            rule: &|host| proxy.scope().destination_rule(proxy.mesh(), proxy.node(), host),
        },
        origin,
    );
    let mongo_proxy = server.protocol == Protocol::Mongo;
    NetworkFilter::TcpProxy(Arc::new(TcpProxy { mongo_proxy, ..tcp }))
}

/// One chain for each cluster that an SNI of Istio's mutual TLS can name.
fn auto_passthrough(proxy: &Proxy, server: &Server) -> Vec<Chain> {
    let hosts = server.sni_hosts();
    let mut out = Vec::new();
    for service in proxy.scope().services().iter().filter(|service| !service.service().mesh_external) {
        if !hosts.iter().any(|host| host::subset_of(service.hostname(), host)) {
            continue;
        }
        let rule = proxy.scope().destination_rule(proxy.mesh(), proxy.node(), service.hostname());
        let subsets = rule.as_ref().map_or(&[][..], |rule| &rule.subsets[..]);
        for port in service.ports().iter().filter(|port| port.protocol != Protocol::Udp) {
            let names = std::iter::once("").chain(subsets.iter().map(|subset| subset.subset.name.as_str()));
            for subset in names {
                let cluster = outbound_sni(service.hostname(), port.number, subset);
                let origin = server.origin.part("tls.mode");
                let tcp = TcpProxy {
                    stat_prefix: cluster.clone(),
                    clusters: vec![WeightedTcpCluster {
                        name: cluster.clone(),
                        weight: 1,
                        origin: service.origin().clone(),
                    }],
                    mongo_proxy: port.protocol == Protocol::Mongo,
                    sni_forward_proxy: None,
                    tunneling_config: None,
                    tuning: rule.as_deref().map(|rule| tcp_policy::tuning(rule, subset)).unwrap_or_default(),
                    origin: origin.clone(),
                };
                out.push(Chain {
                    sni_hosts: vec![cluster],
                    application_protocols: &ISTIO_MTLS_ALPNS,
                    tls: None,
                    terminal: NetworkFilter::TcpProxy(Arc::new(tcp)),
                    unguarded: true,
                    origin,
                });
            }
        }
    }
    out
}
