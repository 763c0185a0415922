//! What happens to traffic that nothing in the mesh describes?
//!
//! Source: `outboundTrafficPolicy` of the Sidecar, else of MeshConfig. istiod: `listener_builder.go:
//! buildOutboundCatchAllNetworkFilterChains`; `httproute.go: buildCatchAllVirtualHost`.

use std::sync::Arc;
use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use crate::envoy::config::{
    Action, DirectResponseAction, FilterChain, FilterChainMatch, HeaderOperations, HttpConnectionManager,
    Listener, ListenerAddress, ListenerFilters, NetworkFilter, RequireTls, Route, RouteConfiguration,
    RouteSpecifier, TcpProxy, TcpTuning, TrafficDirection, VirtualHost, WeightedTcpCluster,
};
use crate::istiod::connection_manager::{self, ConnectionManagerOptions, ListenerClass};
use crate::istiod::name::{ALLOW_ANY_DYNAMIC_DNS_CLUSTER, BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER};
use crate::istiod::proxy::Proxy;
use crate::istiod::route::action::destination_cluster;
use crate::istiod::route::{MAX_DIRECT_RESPONSE_BODY, matching, plain_action};
use crate::istiod::scope::OutboundPolicy;
use crate::istiod::{InterceptionMode, IpMode};
use crate::manifest::schema::istio::OutboundTrafficPolicyMode;
use crate::origin::Origin;

/// The listener that iptables redirects outbound traffic to.
pub const VIRTUAL_OUTBOUND: SmolStr = SmolStr::new_static("virtualOutbound");
/// The default chain of listeners that match HTTP only.
const PASSTHROUGH_FILTER_CHAIN: SmolStr = SmolStr::new_static("PassthroughFilterChain");
/// What made the chains that belong to no resource.
const VIRTUAL_OUTBOUND_ORIGIN: Origin = Origin::default("Istio's virtualOutbound listener");

/// The cluster for unknown traffic that is not HTTP.
pub fn egress_cluster(policy: &OutboundPolicy) -> SmolStr {
    match policy.mode {
        OutboundTrafficPolicyMode::RegistryOnly => BLACK_HOLE_CLUSTER,
        OutboundTrafficPolicyMode::AllowAny | OutboundTrafficPolicyMode::AllowAnyDynamicDns => policy
            .egress_proxy
            .as_ref()
            .map_or(PASSTHROUGH_CLUSTER, |destination| destination_cluster(destination, None, 0)),
    }
}

/// A chain that hands every byte to one cluster.
pub fn tcp_chain(name: SmolStr, cluster: SmolStr, origin: Origin) -> FilterChain {
    let proxy = TcpProxy {
        stat_prefix: cluster.clone(),
        clusters: vec![WeightedTcpCluster { name: cluster, weight: 1, origin: origin.clone() }],
        mongo_proxy: false,
        sni_forward_proxy: None,
        tunneling_config: None,
        tuning: TcpTuning::default(),
        origin: origin.clone(),
    };
    FilterChain {
        name,
        filter_chain_match: FilterChainMatch::default(),
        transport_socket: None,
        access_filters: Vec::new(),
        terminal: NetworkFilter::TcpProxy(Arc::new(proxy)),
        config: None,
        origin,
    }
}

/// The default chain of a listener whose chains do not take everything.
pub fn fallthrough_chain(proxy: &Proxy) -> FilterChain {
    passthrough_chain(proxy, PASSTHROUGH_FILTER_CHAIN)
}

/// The chain of bytes that nothing describes.
fn passthrough_chain(proxy: &Proxy, name: SmolStr) -> FilterChain {
    let policy = &proxy.scope().outbound_traffic_policy;
    tcp_chain(name, egress_cluster(policy), policy.origin.clone())
}

/// The listener that every captured connection reaches first; `None` when nothing is captured.
pub fn virtual_outbound(proxy: &Proxy) -> Option<Listener> {
    if proxy.node().metadata.interception_mode == InterceptionMode::None {
        return None;
    }
    let policy = &proxy.scope().outbound_traffic_policy;
    let port = proxy.listen_port()?;
    let mut blackhole = tcp_chain(
        SmolStr::new_static("virtualOutbound-blackhole"),
        BLACK_HOLE_CLUSTER,
        VIRTUAL_OUTBOUND_ORIGIN,
    );
    blackhole.filter_chain_match.destination_port = Some(port);
    let mut filter_chains = vec![Arc::new(blackhole)];
    let dynamic = policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns;
    if dynamic {
        filter_chains.push(Arc::new(dynamic_dns_chain(proxy)));
    }
    let catch_all = SmolStr::new_static("virtualOutbound-catchall-tcp");
    filter_chains.push(Arc::new(passthrough_chain(proxy, catch_all)));
    let mode = proxy.node().ip_mode();
    let mut additional_addresses = Vec::new();
    if mode == IpMode::Dual && proxy.mesh().features().dual_stack {
        additional_addresses.push(ListenerAddress::Socket(std::net::Ipv6Addr::UNSPECIFIED.into(), port));
    }
    Some(Listener {
        name: VIRTUAL_OUTBOUND,
        address: ListenerAddress::Socket(mode.wildcard(), port),
        additional_addresses,
        bind_to_port: true,
        use_original_dst: true,
        traffic_direction: TrafficDirection::Outbound,
        listener_filters: ListenerFilters { http_inspector: dynamic, ..ListenerFilters::default() },
        continue_on_listener_filters_timeout: false,
        listener_filters_timeout: None,
        per_connection_buffer_limit_bytes: None,
        transparent: proxy.node().metadata.interception_mode == InterceptionMode::Tproxy,
        filter_chains,
        default_filter_chain: None,
        refused: None,
        origin: VIRTUAL_OUTBOUND_ORIGIN,
    })
}

/// The chain that resolves the host of unknown HTTP requests.
fn dynamic_dns_chain(proxy: &Proxy) -> FilterChain {
    let route_configuration = RouteConfiguration {
        name: SmolStr::new_static("allow_any_dynamic_dns"),
        virtual_hosts: vec![Arc::new(virtual_host(proxy))],
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: Some(MAX_DIRECT_RESPONSE_BODY),
        headers: HeaderOperations::default(),
        refused: None,
        origin: proxy.scope().outbound_traffic_policy.origin.clone(),
    };
    let mut manager: HttpConnectionManager = connection_manager::build(ConnectionManagerOptions {
        class: ListenerClass::SidecarOutbound,
        route_specifier: RouteSpecifier::Inline(Arc::new(route_configuration)),
        stat_prefix: SmolStr::new_static("outbound_virtualOutbound_allow_any_dynamic_dns;"),
        headers: &proxy.headers(ListenerClass::SidecarOutbound),
        sanitation: proxy.sanitation(),
        limits: proxy.connection_limits(),
        accept_http_10: proxy.accepts_http_10(),
        tracing: proxy.tracing(ListenerClass::SidecarOutbound),
        security_filters: proxy.attached(ListenerClass::SidecarOutbound).http_filters(0),
        dynamic_forward_proxies: vec![None],
        origin: proxy.scope().outbound_traffic_policy.origin.clone(),
    });
    manager.use_remote_address = proxy.mesh().features().sidecar_use_remote_address;
    let mut protocols = vec![SmolStr::new_static("http/1.1"), SmolStr::new_static("h2c")];
    if proxy.mesh().features().http10 {
        protocols.insert(0, SmolStr::new_static("http/1.0"));
    }
    FilterChain {
        name: SmolStr::new_static("virtualOutbound-catchall-tcp-http"),
        filter_chain_match: FilterChainMatch {
            application_protocols: protocols,
            ..FilterChainMatch::default()
        },
        transport_socket: None,
        access_filters: Vec::new(),
        terminal: NetworkFilter::HttpConnectionManager(Arc::new(manager)),
        config: None,
        origin: proxy.scope().outbound_traffic_policy.origin.clone(),
    }
}

/// The virtual host for hosts that nothing describes.
pub fn virtual_host(proxy: &Proxy) -> VirtualHost {
    let policy = &proxy.scope().outbound_traffic_policy;
    let headers = proxy.headers(ListenerClass::SidecarOutbound);
    let to = |cluster: SmolStr| {
        let mut action = plain_action(cluster);
        action.append_x_forwarded_host = headers.x_forwarded_host;
        Action::Route(Box::new(action))
    };
    let (name, action) = match policy.mode {
        OutboundTrafficPolicyMode::AllowAnyDynamicDns => {
            ("allow_any_dynamic_dns", to(ALLOW_ANY_DYNAMIC_DNS_CLUSTER))
        }
        OutboundTrafficPolicyMode::AllowAny => ("allow_any", to(egress_cluster(policy))),
        OutboundTrafficPolicyMode::RegistryOnly => (
            "block_all",
            Action::DirectResponse(DirectResponseAction {
                status: 502,
                body: SmolStr::default(),
                origin: policy.origin.clone(),
            }),
        ),
    };
    let name = SmolStr::new_static(name);
    let route = Route {
        name: name.clone(),
        route_match: matching::match_all(),
        action,
        headers: HeaderOperations::default(),
        decorator: None,
        fault: None,
        cors: None,
        config: None,
        origin: policy.origin.clone(),
    };
    VirtualHost {
        name,
        domains: vec![SmolStr::new_static("*")],
        routes: vec![Arc::new(route)],
        require_tls: RequireTls::None,
        include_request_attempt_count: headers.include_request_attempt_count,
        headers: HeaderOperations::default(),
        origin: policy.origin.clone(),
    }
}

/// The listener that applications use as an explicit HTTP proxy, where MeshConfig asks for one.
pub fn http_proxy_listener(proxy: &Proxy) -> Option<Listener> {
    let port = proxy.http_proxy_port()?;
    let origin = Origin::default("MeshConfig proxyHttpPort");
    let address = proxy.node().ip_mode().localhost();
    let additional = proxy.node().ip_mode().extra_localhost().into_iter();
    let additional = additional.map(|address| ListenerAddress::Socket(address, port));
    let name = format_smolstr!("{address}_{port}");
    let manager = connection_manager::build(ConnectionManagerOptions {
        class: ListenerClass::SidecarOutbound,
        route_specifier: RouteSpecifier::Rds(super::route_config::HTTP_PROXY),
        stat_prefix: format_smolstr!("outbound_{name};"),
        headers: &proxy.headers(ListenerClass::SidecarOutbound),
        sanitation: proxy.sanitation(),
        limits: proxy.connection_limits(),
        accept_http_10: proxy.accepts_http_10(),
        tracing: proxy.tracing(ListenerClass::SidecarOutbound),
        security_filters: proxy.attached(ListenerClass::SidecarOutbound).http_filters(port),
        dynamic_forward_proxies: proxy.resolves_unknown_hosts().then_some(None).into_iter().collect(),
        origin: origin.clone(),
    });
    let chain = FilterChain {
        name: SmolStr::default(),
        filter_chain_match: FilterChainMatch::default(),
        transport_socket: None,
        access_filters: proxy.attached(ListenerClass::SidecarOutbound).network_extensions(port),
        terminal: NetworkFilter::HttpConnectionManager(Arc::new(manager)),
        config: None,
        origin: origin.clone(),
    };
    Some(Listener {
        name,
        address: ListenerAddress::Socket(address, port),
        additional_addresses: additional.collect(),
        bind_to_port: true,
        use_original_dst: false,
        traffic_direction: TrafficDirection::Outbound,
        listener_filters: ListenerFilters::default(),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(Duration::ZERO),
        per_connection_buffer_limit_bytes: None,
        transparent: false,
        filter_chains: vec![Arc::new(chain)],
        default_filter_chain: None,
        refused: None,
        origin,
    })
}
