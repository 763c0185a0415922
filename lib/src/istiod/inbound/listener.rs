//! Which inbound listeners does a sidecar have, and which filter chains?
//!
//! Invariant: `virtualInbound` takes every captured port; a port with chains of its own never falls back to the
//! others. istiod: `listener_inbound.go: buildInboundListeners, inboundChainForOpts, buildInboundPassthroughChains,
//! populateListenerFilters, buildSidecarInboundHTTPOpts`; `authentication.go: ForPassthrough`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::chain_config::{self, ChainConfig};
use super::filter_chain::{self, ChainMatch, ChainProtocol};
use super::{ServiceTarget, VIRTUAL_INBOUND};
use crate::envoy::config::{
    ClientCertificate, DownstreamTlsContext, FilterChain, FilterChainMatch, FilterDisabled, HeaderOperations,
    HttpConnectionManager, Listener, ListenerAddress, ListenerFilters, NetworkFilter, RequireTls,
    RouteConfiguration, RouteSpecifier, SetCurrentClientCertDetails, StringSan, TcpProxy, TcpTuning,
    TrafficDirection, TransportProtocol, VirtualHost, WeightedTcpCluster,
};
use crate::envoy::refusal;
use crate::istiod::attachment::Attached;
use crate::istiod::connection_manager::{self, ConnectionManagerOptions, ListenerClass, ProxyHeaders};
use crate::istiod::credential::{MESH_AUTHORITY, WORKLOAD_CERTIFICATE};
use crate::istiod::downstream_tls;
use crate::istiod::name::BLACK_HOLE_CLUSTER;
use crate::istiod::node::InterceptionMode;
use crate::istiod::outbound::listener::ListenerProtocol;
use crate::istiod::peer_authentication::{MergedPeerAuthentication, MtlsMode};
use crate::istiod::proxy::Proxy;
use crate::istiod::route::{InboundRetries, default_inbound_route, trace_operation};
use crate::mesh::Protocol;
use crate::origin::Origin;

const BLACKHOLE_CHAIN: SmolStr = SmolStr::new_static("virtualInbound-blackhole");
const CATCH_ALL_HTTP_CHAIN: SmolStr = SmolStr::new_static("virtualInbound-catchall-http");
/// The prefix of the virtual hosts' names.
const VIRTUAL_HOST_PREFIX: &str = "inbound|http|";

/// All inbound listeners.
pub fn build(
    proxy: &Proxy,
    targets: &[ServiceTarget],
    policy: &MergedPeerAuthentication,
    configs: &[ChainConfig],
) -> Vec<Listener> {
    let context = Context {
        proxy,
        policy,
        headers: proxy.headers(ListenerClass::SidecarInbound),
        attached: proxy.attached(ListenerClass::SidecarInbound),
        trust_domains: trust_domains(proxy),
    };
    let mut captured = Vec::new();
    let mut custom = Vec::new();
    for config in configs {
        let chains = context.chains(config);
        if config.bind_to_port {
            let addresses: Vec<&SmolStr> = [&config.bind].into_iter().chain(&config.extra_binds).collect();
            let name = super::listener_name(config);
            custom.extend(context.listener(
                name,
                &addresses,
                config.target_port,
                true,
                chains,
                config.origin.clone(),
            ));
        } else {
            captured.extend(chains);
        }
    }
    let mut out = Vec::new();
    if proxy.node().metadata.interception_mode != InterceptionMode::None {
        out.extend(context.virtual_inbound(targets, captured));
    }
    out.extend(custom);
    out
}

/// What every chain of a proxy shares.
struct Context<'a> {
    proxy: &'a Proxy,
    policy: &'a MergedPeerAuthentication,
    headers: ProxyHeaders,
    attached: &'a Attached,
    trust_domains: Vec<StringSan>,
}

impl Context<'_> {
    fn virtual_inbound(
        &self,
        targets: &[ServiceTarget],
        captured: Vec<Arc<FilterChain>>,
    ) -> Option<Listener> {
        let port = u16::try_from(self.proxy.mesh().config().proxy_inbound_listen_port).unwrap_or(0);
        let mut chains = vec![Arc::new(blackhole(port))];
        chains.extend(self.chains(&ChainConfig::passthrough(0)));
        for port in self.ports_without_target(targets) {
            chains.extend(self.chains(&ChainConfig::passthrough(port)));
        }
        chains.extend(captured);
        let wildcards = chain_config::wildcards(self.proxy.node());
        let addresses: Vec<&SmolStr> = wildcards.iter().collect();
        let origin = Origin::default("Istio's virtualInbound listener");
        self.listener(VIRTUAL_INBOUND, &addresses, port, false, chains, origin)
    }

    /// Ports with a TLS mode of their own that neither a service nor the Sidecar names, in order.
    fn ports_without_target(&self, targets: &[ServiceTarget]) -> Vec<u16> {
        let mut ingress = chain_config::ingress(self.proxy).peekable();
        let known: Vec<u32> = if ingress.peek().is_some() {
            ingress.filter_map(|(listener, _)| Some(listener.port.as_ref()?.number)).collect()
        } else {
            targets.iter().map(|target| u32::from(target.target_port)).collect()
        };
        let mut out: Vec<u16> =
            self.policy.per_port.keys().copied().filter(|port| !known.contains(&u32::from(*port))).collect();
        out.sort_unstable();
        out
    }

    fn listener(
        &self,
        name: SmolStr,
        addresses: &[&SmolStr],
        port: u16,
        bind_to_port: bool,
        filter_chains: Vec<Arc<FilterChain>>,
        origin: Origin,
    ) -> Option<Listener> {
        let address = |bind: &SmolStr| match bind.strip_prefix("unix://") {
            Some(path) => Some(ListenerAddress::Pipe(path.into())),
            None => Some(ListenerAddress::Socket(bind.parse::<IpAddr>().ok()?, port)),
        };
        let mut addresses = addresses.iter().filter_map(|bind| address(bind));
        let main = addresses.next()?;
        let additional_addresses =
            if self.proxy.mesh().features().dual_stack { addresses.collect() } else { Vec::new() };
        let mut listener_filters = inspectors(&filter_chains);
        listener_filters.original_dst = !bind_to_port;
        listener_filters.original_src =
            !bind_to_port && self.proxy.node().metadata.interception_mode == InterceptionMode::Tproxy;
        Some(Listener {
            name,
            address: main,
            additional_addresses,
            bind_to_port: true,
            use_original_dst: false,
            traffic_direction: TrafficDirection::Inbound,
            listener_filters,
            continue_on_listener_filters_timeout: true,
            listener_filters_timeout: Some(self.proxy.protocol_detection_timeout()),
            per_connection_buffer_limit_bytes: None,
            transparent: !bind_to_port
                && self.proxy.node().metadata.interception_mode == InterceptionMode::Tproxy,
            refused: refusal(&filter_chains),
            filter_chains,
            default_filter_chain: None,
            origin,
        })
    }

    /// The chains of a port.
    fn chains(&self, config: &ChainConfig) -> Vec<Arc<FilterChain>> {
        let (mode, policy_origin) = self.policy.for_port(config.target_port);
        let mut protocol = config.protocol;
        if let Some((settings, origin)) = config.tls.as_ref().filter(|_| mode == MtlsMode::Disable) {
            protocol = chain_config::after_tls_termination(protocol);
            let context = downstream_tls::context(self.proxy, settings, origin.clone());
            return filter_chain::user_tls(listener_protocol(protocol))
                .map(|condition| Arc::new(self.chain(config, protocol, condition, Some(context))))
                .into_iter()
                .collect();
        }
        let http10 = self.proxy.mesh().features().http10;
        filter_chain::chain_matches(mode, listener_protocol(protocol), http10)
            .into_iter()
            .map(|condition| {
                let tls =
                    condition.tls.then(|| self.mesh_tls_context(condition.protocol, policy_origin.clone()));
                Arc::new(self.chain(config, protocol, condition, tls))
            })
            .collect()
    }

    fn chain(
        &self,
        config: &ChainConfig,
        protocol: Protocol,
        condition: ChainMatch,
        transport_socket: Option<DownstreamTlsContext>,
    ) -> FilterChain {
        let name = match condition.protocol {
            _ if !config.passthrough => super::listener_name(config),
            ChainProtocol::Http => CATCH_ALL_HTTP_CHAIN,
            ChainProtocol::Tcp => VIRTUAL_INBOUND,
        };
        let (access_filters, terminal) = match condition.protocol {
            ChainProtocol::Http => {
                let manager = self.connection_manager(config, protocol);
                (
                    self.attached.network_extensions(config.target_port),
                    NetworkFilter::HttpConnectionManager(Arc::new(manager)),
                )
            }
            ChainProtocol::Tcp => (
                self.attached.access_filters(config.port),
                NetworkFilter::TcpProxy(Arc::new(tcp_proxy(config))),
            ),
        };
        FilterChain {
            name,
            filter_chain_match: FilterChainMatch {
                destination_port: Some(config.target_port).filter(|port| *port > 0),
                transport_protocol: Some(condition.transport_protocol),
                application_protocols: condition.protocols(),
                ..FilterChainMatch::default()
            },
            transport_socket,
            access_filters,
            terminal,
            config: None,
            origin: config.origin.clone(),
        }
    }

    /// Istio's own mutual TLS. istiod: `authn/utils.go: BuildInboundTLS`.
    fn mesh_tls_context(&self, protocol: ChainProtocol, origin: Origin) -> DownstreamTlsContext {
        let exchange = protocol == ChainProtocol::Tcp && self.proxy.mesh().features().metadata_exchange;
        let mut alpn_protocols = downstream_tls::ALPN_HTTP.to_vec();
        if exchange {
            alpn_protocols.insert(0, SmolStr::new_static("istio-peer-exchange"));
        }
        DownstreamTlsContext {
            client_certificate: ClientCertificate::Required,
            istio_mutual: true,
            alpn_protocols,
            secret_name: WORKLOAD_CERTIFICATE,
            more_secret_names: Vec::new(),
            authority: MESH_AUTHORITY,
            match_subject_alt_names: self.trust_domains.clone(),
            secret_exists: Some(true),
            tls_params: Some(downstream_tls::mesh_parameters(self.proxy)),
            origin,
        }
    }

    fn connection_manager(&self, config: &ChainConfig, protocol: Protocol) -> HttpConnectionManager {
        let stat_prefix = if config.passthrough {
            format_smolstr!("{};", config.cluster)
        } else {
            format_smolstr!("inbound_{};", super::listener_name(config))
        };
        let mut out = connection_manager::build(ConnectionManagerOptions {
            class: ListenerClass::SidecarInbound,
            route_specifier: RouteSpecifier::Inline(Arc::new(self.route_configuration(config, protocol))),
            stat_prefix,
            headers: &self.headers,
            sanitation: self.proxy.sanitation(),
            limits: self.proxy.connection_limits(),
            accept_http_10: self.proxy.accepts_http_10(),
            tracing: self.proxy.tracing(ListenerClass::SidecarInbound),
            security_filters: self.attached.http_filters(config.target_port),
            dynamic_forward_proxies: Vec::new(),
            origin: config.origin.clone(),
        });
        out.forward_client_cert_details = self.headers.forwarded_client_cert;
        out.set_current_client_cert_details = self.client_cert_details();
        connection_manager::speak_grpc_web(&mut out, protocol);
        out
    }

    /// The parts of the client's certificate that are passed on: a part that the mesh configuration does not mention
    /// keeps Istio's default.
    fn client_cert_details(&self) -> SetCurrentClientCertDetails {
        let config = self.proxy.proxy_config();
        let written = config.proxy_headers.as_ref().and_then(|h| h.set_current_client_cert_details.as_ref());
        let part = |value: Option<Option<bool>>, default: bool| value.flatten().unwrap_or(default);
        SetCurrentClientCertDetails {
            subject: part(written.map(|details| details.subject), true),
            uri: part(written.map(|details| details.uri), true),
            dns: part(written.map(|details| details.dns), true),
            cert: part(written.map(|details| details.cert), false),
            chain: part(written.map(|details| details.chain), false),
        }
    }

    /// The one route of a port. istiod: `httproute.go: buildSidecarInboundHTTPRouteConfig`.
    fn route_configuration(&self, config: &ChainConfig, protocol: Protocol) -> RouteConfiguration {
        let mesh_retries = self.proxy.mesh().config().written.default_inbound_http_retry_policy.as_ref();
        let retries = if matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb) {
            InboundRetries::Off
        } else {
            let origin = Origin::default("MeshConfig defaultInboundHttpRetryPolicy");
            InboundRetries::Policy(mesh_retries.map(|retries| (retries, origin)))
        };
        let route = default_inbound_route(
            config.cluster.clone(),
            trace_operation(&config.hostname, config.port),
            retries,
            config.origin.clone(),
        );
        let host = VirtualHost {
            name: format_smolstr!("{VIRTUAL_HOST_PREFIX}{}", config.port),
            domains: vec![SmolStr::new_static("*")],
            routes: vec![Arc::new(route)],
            require_tls: RequireTls::None,
            include_request_attempt_count: false,
            headers: HeaderOperations::default(),
            origin: config.origin.clone(),
        };
        RouteConfiguration {
            name: config.cluster.clone(),
            virtual_hosts: vec![Arc::new(host)],
            ignore_port_in_host_matching: false,
            max_direct_response_body_size_bytes: None,
            headers: HeaderOperations::default(),
            refused: None,
            origin: config.origin.clone(),
        }
    }
}

/// What kind of chains a protocol asks for; UDP ports get those of TCP.
fn listener_protocol(protocol: Protocol) -> ListenerProtocol {
    ListenerProtocol::of(protocol).unwrap_or(ListenerProtocol::Tcp)
}

/// Peers of these trust domains are accepted. istiod: `authn/util.go: TrustDomainsForValidation`.
fn trust_domains(proxy: &Proxy) -> Vec<StringSan> {
    let config = proxy.mesh().config();
    let mut names: Vec<&SmolStr> = Vec::new();
    for name in [&config.trust_domain]
        .into_iter()
        .chain(config.written.trust_domain_aliases.iter().flatten())
        .chain(config.written.ca_certificates.iter().flat_map(|certificate| &certificate.trust_domains))
    {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().map(|name| StringSan(format_smolstr!("spiffe://{name}/*"))).collect()
}

fn tcp_proxy(config: &ChainConfig) -> TcpProxy {
    TcpProxy {
        stat_prefix: config.cluster.clone(),
        clusters: vec![WeightedTcpCluster {
            name: config.cluster.clone(),
            weight: 1,
            origin: config.origin.clone(),
        }],
        mongo_proxy: config.protocol == Protocol::Mongo,
        sni_forward_proxy: None,
        tunneling_config: None,
        tuning: TcpTuning::default(),
        origin: config.origin.clone(),
    }
}

/// The chain that keeps connections to the listener's own port from going round in a circle.
fn blackhole(port: u16) -> FilterChain {
    let origin = Origin::default("Istio's loop protection of virtualInbound");
    let proxy = TcpProxy {
        stat_prefix: BLACK_HOLE_CLUSTER,
        clusters: vec![WeightedTcpCluster { name: BLACK_HOLE_CLUSTER, weight: 1, origin: origin.clone() }],
        mongo_proxy: false,
        sni_forward_proxy: None,
        tunneling_config: None,
        tuning: TcpTuning::default(),
        origin: origin.clone(),
    };
    FilterChain {
        name: BLACKHOLE_CHAIN,
        filter_chain_match: FilterChainMatch { destination_port: Some(port), ..FilterChainMatch::default() },
        transport_socket: None,
        access_filters: Vec::new(),
        terminal: NetworkFilter::TcpProxy(Arc::new(proxy)),
        config: None,
        origin,
    }
}

/// The inspectors that the chains need, port by port.
fn inspectors(chains: &[Arc<FilterChain>]) -> ListenerFilters {
    /// Which inspectors the chains of a port need; port 0 stands for chains of every port.
    #[derive(Clone, Copy, Default)]
    struct Needs {
        tls: bool,
        http: bool,
    }
    let mut needs: BTreeMap<u16, Needs> = BTreeMap::new();
    for chain in chains {
        let condition = &chain.filter_chain_match;
        let port = needs.entry(condition.destination_port.unwrap_or(0)).or_default();
        port.tls |= condition.transport_protocol == Some(TransportProtocol::Tls);
        port.http |= condition
            .application_protocols
            .iter()
            .any(|protocol| protocol == "http/1.1" || protocol == "h2c");
    }
    let ports = |wanted: &dyn Fn(&Needs) -> bool| -> Arc<[u16]> {
        needs.iter().filter(|(_, port)| wanted(port)).map(|(port, _)| *port).collect()
    };
    let disabled_on = |ports: Arc<[u16]>| {
        if ports.is_empty() { FilterDisabled::Never } else { FilterDisabled::On(ports) }
    };
    let tls_inspector_disabled = if needs.get(&0).is_some_and(|all| all.tls) {
        disabled_on(ports(&|port| !port.tls))
    } else {
        FilterDisabled::Except(ports(&|port| port.tls))
    };
    let tls_inspector = needs.values().any(|port| port.tls);
    let http_inspector = needs.values().any(|port| port.http);
    ListenerFilters {
        tls_inspector,
        tls_inspector_disabled: if tls_inspector { tls_inspector_disabled } else { FilterDisabled::Never },
        http_inspector,
        http_inspector_disabled: if http_inspector {
            disabled_on(ports(&|port| !port.http))
        } else {
            FilterDisabled::Never
        },
        ..ListenerFilters::default()
    }
}
