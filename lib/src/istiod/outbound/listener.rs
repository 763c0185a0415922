//! Which listener takes a connection to an address and port?
//!
//! Every service port contributes to one listener key (bind address and port). A listener is built from its own
//! contributions only, which the indexes of the mesh name. Invariant: the order of
//! contributions of a key is the order in which istiod walks egress listeners, services and ports.
//! istiod: `listener.go: buildSidecarOutboundListeners, buildSidecarOutboundListener, buildListenerFromEntry`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexSet;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::conflict::{Conflict, Entry, is_well_known_conflict, merge_filter_chains, parse_cidr};
use super::domains::Speaker;
use super::tcp::{self, ChainOptions, Lookup, TcpOptions, Terminal};
use crate::envoy::config::{
    FilterChain, FilterChainMatch, Listener, ListenerAddress, ListenerFilters, NetworkFilter, RouteSpecifier,
    TrafficDirection, TransportProtocol,
};
use crate::envoy::refusal;
use crate::istiod::IpMode;
use crate::istiod::connection_manager::{self, ConnectionManagerOptions, ListenerClass};
use crate::istiod::proxy::Proxy;
use crate::istiod::scope::{EgressListener, PortKind};
use crate::istiod::service::ScopedService;
use crate::mesh::{Protocol, Resolution, ServicePort, UNSPECIFIED, host};
use crate::origin::Origin;

/// ALPN values by which the HTTP inspector's finding is matched.
const PLAINTEXT_HTTP: &[&str] = &["http/1.1", "h2c"];
/// The same where HTTP/1.0 is served.
const PLAINTEXT_HTTP_10: &[&str] = &["http/1.0", "http/1.1", "h2c"];

/// What kind of listener a protocol asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerProtocol {
    /// HTTP.
    Http,
    /// Bytes.
    Tcp,
    /// Found out from the first bytes.
    Auto,
}

impl ListenerProtocol {
    /// The kind for a protocol; `None` for UDP. istiod: `networking.go: ModelProtocolToListenerProtocol`.
    pub const fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb | Protocol::HttpProxy => {
                Some(Self::Http)
            }
            Protocol::Tcp
            | Protocol::Tls
            | Protocol::Https
            | Protocol::Mongo
            | Protocol::Redis
            | Protocol::Mysql
            | Protocol::Hbone => Some(Self::Tcp),
            Protocol::Unsupported => Some(Self::Auto),
            Protocol::Udp => None,
        }
    }
}

/// A bind address and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// An IP address as text, or `unix://…`.
    pub bind: SmolStr,
    /// The port; 0 for a Unix domain socket.
    pub port: u16,
}

impl ListenerKey {
    /// The key of an IP address and port.
    pub fn socket(address: IpAddr, port: u16) -> Self {
        Self { bind: format_smolstr!("{address}"), port }
    }
}

/// A service port that takes part in a listener.
#[derive(Clone, Debug)]
struct Contribution<'a> {
    egress: &'a EgressListener,
    service: ScopedService,
    port: ServicePort,
    bind: Bind,
    cidrs: Vec<SmolStr>,
    pod_cidrs: bool,
}

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bind {
    /// Main address.
    primary: SmolStr,
    /// Further addresses.
    extra: Vec<SmolStr>,
    /// Whether a real socket is opened.
    to_port: bool,
}

/// Builds the listener of a key; `None` when nothing asks for it.
pub fn build(proxy: &Proxy, key: &ListenerKey) -> Option<Listener> {
    let mut entry: Option<Entry> = None;
    for contribution in contributions(proxy, key) {
        contribution.apply(proxy, &mut entry);
    }
    entry.map(|entry| build_listener(proxy, entry))
}

/// The keys of all listeners, in the order in which istiod meets them; looks at every service.
pub fn keys(proxy: &Proxy) -> Vec<ListenerKey> {
    let mut out = IndexSet::new();
    for egress in &proxy.scope().egress {
        let numbers = egress.services();
        for service in numbers.iter().filter_map(|number| egress.service(*number)) {
            for candidate in asked_for(proxy, egress, &service, None) {
                out.insert(candidate.key());
            }
        }
    }
    out.into_iter().collect()
}

/// The service ports that take part in the listener of a key, in istiod's order.
fn contributions<'a>(proxy: &'a Proxy, key: &ListenerKey) -> Vec<Contribution<'a>> {
    let mut out: Vec<Contribution<'a>> = Vec::new();
    for egress in &proxy.scope().egress {
        // Keys of earlier egress listeners are the user's own choice of services: nothing is added to them.
        if egress.port.is_none() && !out.is_empty() {
            continue;
        }
        for number in candidates(proxy, egress, key) {
            let Some(service) = egress.service(number) else { continue };
            for candidate in asked_for(proxy, egress, &service, Some(key.port)) {
                // Only the first HTTP service of a listener changes it: all others are found by their virtual hosts.
                let repeated = candidate.is_shared() && out.iter().any(Contribution::is_http);
                if candidate.key() == *key && !repeated {
                    out.push(candidate);
                }
            }
        }
    }
    out
}

/// The services that could take part in the listener of a key, in istiod's order.
fn candidates(proxy: &Proxy, egress: &EgressListener, key: &ListenerKey) -> Vec<u32> {
    let base = Bind::of(proxy, egress);
    let wildcard = format_smolstr!("{}", proxy.node().ip_mode().wildcard());
    if egress.port.as_ref().is_some_and(|own| own.number != key.port) {
        return Vec::new();
    }
    if !base.primary.is_empty() && base.primary != key.bind {
        return Vec::new();
    }
    let protocol = egress.port.as_ref().map(|port| port.protocol);
    if protocol.is_some() && !egress.matches_port() {
        return egress.services();
    }
    let mut out = match protocol.map(ListenerProtocol::of) {
        // The user's port decides what is spoken, whatever the services say.
        Some(_) => {
            let mut all = egress.on_port(key.port, PortKind::Other);
            let first =
                if protocol.is_some_and(Protocol::is_http) { PortKind::FirstHttp } else { PortKind::Http };
            all.extend(egress.on_port(key.port, first));
            all
        }
        None if !base.primary.is_empty() => {
            let mut all = egress.on_port(key.port, PortKind::Other);
            all.extend(egress.on_port(key.port, PortKind::FirstHttp));
            all
        }
        None if key.bind == wildcard => {
            let mut all = egress.on_port(key.port, PortKind::Unaddressed);
            all.extend(egress.on_port(key.port, PortKind::FirstHttp));
            all
        }
        None => egress.services_at(&key.bind),
    };
    if let Ok(ip) = key.bind.parse() {
        out.extend_from_slice(proxy.mesh().service_index().with_pod(ip));
    }
    egress.ordered(out)
}

/// What a service asks for on behalf of an egress listener, on one port or on all.
fn asked_for<'a>(
    proxy: &Proxy,
    egress: &'a EgressListener,
    service: &ScopedService,
    number: Option<u16>,
) -> Vec<Contribution<'a>> {
    let base = Bind::of(proxy, egress);
    let mut out = Vec::new();
    let mut add = |port: &ServicePort, bind: Bind, pods: Option<Vec<SmolStr>>| {
        if ListenerProtocol::of(port.protocol).is_some() && service.resolution() != Resolution::Alias {
            out.push(Contribution::new(proxy, egress, service, port, bind, pods));
        }
    };
    if let Some(port) = &egress.port {
        if proxy.can_bind_to_port(base.to_port, &base.primary, port) {
            add(port, base, None);
        }
        return out;
    }
    let node = proxy.node();
    let headless = base.primary.is_empty()
        && service.resolution() == Resolution::Passthrough
        && service.address(node) == UNSPECIFIED;
    for port in service.ports().iter().filter(|port| number.is_none_or(|number| port.number == number)) {
        if !proxy.can_bind_to_port(base.to_port, &base.primary, port) {
            continue;
        }
        let kind = ListenerProtocol::of(port.protocol);
        if headless && matches!(kind, Some(ListenerProtocol::Tcp | ListenerProtocol::Auto)) {
            for (bind, pods) in pod_targets(proxy, service, port, &base) {
                add(port, bind, pods);
            }
        } else {
            add(port, base.clone(), None);
        }
    }
    out
}

impl Bind {
    /// Binds to every address of the proxy's families, whether or not istiod's dual stack is on. istiod:
    /// `listener_address.go: getWildcardsAndLocalHost`.
    fn set_wildcard(&mut self, mode: IpMode) {
        self.primary = mode.wildcard().to_smolstr();
        self.extra = mode.extra_wildcard().map(|ip| ip.to_smolstr()).into_iter().collect();
    }

    /// Where the listeners of an egress listener are bound; an empty address leaves it to the services.
    fn of(proxy: &Proxy, egress: &EgressListener) -> Self {
        let to_port = proxy.binds_to_port(egress);
        let mode = proxy.node().ip_mode();
        if !egress.bind.is_empty() {
            Self { primary: egress.bind.clone(), extra: Vec::new(), to_port }
        } else if to_port {
            let extra = mode.extra_localhost().map(|ip| ip.to_smolstr());
            Self { primary: mode.localhost().to_smolstr(), extra: extra.into_iter().collect(), to_port }
        } else {
            Self { primary: SmolStr::default(), extra: Vec::new(), to_port }
        }
    }
}

/// The listeners of a headless service: one for each pod's address.
fn pod_targets(
    proxy: &Proxy,
    service: &ScopedService,
    port: &ServicePort,
    base: &Bind,
) -> Vec<(Bind, Option<Vec<SmolStr>>)> {
    let pods = proxy.endpoint_addresses(service, port);
    if !service.is_kubernetes() && pods.is_empty() && service.service().selector.is_empty() {
        return vec![(base.clone(), None)];
    }
    let own = proxy.node().ips.first().map(|ip| format_smolstr!("{ip}"));
    let single = proxy.mesh().features().headless_filter_chain_listener
        && ListenerProtocol::of(port.protocol) == Some(ListenerProtocol::Tcp);
    pods.into_iter()
        .filter(|pod| pod.iter().all(|address| address.parse::<IpAddr>().is_ok()))
        .filter(|pod| pod.first().cloned() != own)
        .map(|pod| {
            let mut bind = base.clone();
            if single {
                bind.set_wildcard(proxy.node().ip_mode());
                return (bind, Some(pod));
            }
            let mut addresses = pod.into_iter();
            bind.primary = addresses.next().unwrap_or_default();
            bind.extra = addresses.collect();
            (bind, None)
        })
        .collect()
}

impl<'a> Contribution<'a> {
    /// A service port, with the address it is listened for at.
    fn new(
        proxy: &Proxy,
        egress: &'a EgressListener,
        service: &ScopedService,
        port: &ServicePort,
        mut bind: Bind,
        pods: Option<Vec<SmolStr>>,
    ) -> Self {
        let node = proxy.node();
        let mode = node.ip_mode();
        let mut cidrs = Vec::new();
        if bind.primary.is_empty() {
            if ListenerProtocol::of(port.protocol) == Some(ListenerProtocol::Http) {
                bind.set_wildcard(mode);
            } else {
                let address = address_of(proxy, service);
                let mut extra: Vec<SmolStr> =
                    service.addresses(node, proxy.mesh().features().dual_stack).into_iter().skip(1).collect();
                if !service.is_kubernetes() && address == UNSPECIFIED {
                    extra.extend(mode.extra_wildcard().map(|ip| ip.to_smolstr()));
                }
                if address.contains('/') {
                    bind.set_wildcard(mode);
                    cidrs.push(address);
                    cidrs.extend(extra);
                } else {
                    bind.primary = address;
                    bind.extra = extra;
                }
            }
        }
        let pod_cidrs = pods.is_some();
        cidrs.extend(pods.unwrap_or_default());
        Self { egress, service: service.clone(), port: port.clone(), bind, cidrs, pod_cidrs }
    }

    fn key(&self) -> ListenerKey {
        ListenerKey { bind: self.bind.primary.clone(), port: self.port.number }
    }

    fn is_http(&self) -> bool {
        ListenerProtocol::of(self.port.protocol) == Some(ListenerProtocol::Http)
    }

    /// Whether all services of this kind share one connection manager.
    fn is_shared(&self) -> bool {
        self.is_http() && self.port.protocol != Protocol::HttpProxy
    }

    /// Adds this port's chains to the entry. istiod: `listener.go: buildSidecarOutboundListener`.
    fn apply(&self, proxy: &Proxy, entry: &mut Option<Entry>) {
        let (egress, service) = (self.egress, &self.service);
        let Some(kind) = ListenerProtocol::of(self.port.protocol) else { return };
        let wildcard = format_smolstr!("{}", proxy.node().ip_mode().wildcard());
        let on_wildcard = self.bind.primary == wildcard;
        let mut protocol = self.port.protocol;
        let existing = entry.as_ref().map(|entry| entry.protocol);
        if protocol == Protocol::HttpProxy {
            *entry = Some(self.entry(protocol, vec![self.http_chain(service, kind, on_wildcard)]));
            return;
        }
        let conflict = match existing {
            None => Conflict::None,
            Some(existing) => match Conflict::between(kind, existing) {
                Some(conflict) => conflict,
                None => return,
            },
        };
        if existing.is_some_and(|existing| is_well_known_conflict(self.port.protocol, existing)) {
            return;
        }
        let sniffed = |mut chain: ChainOptions| {
            chain.application_protocols =
                if proxy.mesh().features().http10 { PLAINTEXT_HTTP_10 } else { PLAINTEXT_HTTP };
            chain.transport = Some(TransportProtocol::RawBuffer);
            chain
        };
        let chains = match kind {
            ListenerProtocol::Http => {
                let mut chain = self.http_chain(service, kind, on_wildcard);
                if on_wildcard {
                    // Whatever is not HTTP goes to the listener's default chain, so the listener is a sniffed one.
                    chain = sniffed(chain);
                    protocol = Protocol::Unsupported;
                }
                vec![chain]
            }
            ListenerProtocol::Tcp => self.tcp_chains(proxy, egress, service, &wildcard),
            ListenerProtocol::Auto => {
                let mut chains = self.tcp_chains(proxy, egress, service, &wildcard);
                if conflict != Conflict::TcpOverAuto {
                    chains.push(sniffed(self.http_chain(service, kind, on_wildcard)));
                }
                chains
            }
        };
        match (conflict, entry.as_mut()) {
            (Conflict::None | Conflict::AutoOverHttp, _) | (_, None) => {
                *entry = Some(self.entry(protocol, chains));
            }
            (Conflict::HttpOverTcp | Conflict::TcpOverHttp | Conflict::AutoOverTcp, Some(existing)) => {
                merge_filter_chains(&mut existing.chains, chains);
                existing.protocol = Protocol::Unsupported;
            }
            (Conflict::TcpOverTcp | Conflict::TcpOverAuto, Some(existing)) => {
                merge_filter_chains(&mut existing.chains, chains);
            }
        }
    }

    fn entry(&self, protocol: Protocol, chains: Vec<ChainOptions>) -> Entry {
        Entry {
            protocol,
            port: self.port.clone(),
            bind: self.bind.primary.clone(),
            extra_binds: self.bind.extra.clone(),
            bind_to_port: self.bind.to_port,
            chains,
        }
    }

    /// The HTTP chain. istiod: `listener.go: buildSidecarOutboundHTTPListenerOpts`.
    fn http_chain(&self, service: &ScopedService, kind: ListenerProtocol, on_wildcard: bool) -> ChainOptions {
        let rds = if self.port.number == 0 {
            self.bind.primary.clone()
        } else if kind == ListenerProtocol::Auto && !on_wildcard {
            format_smolstr!("{}:{}", service.hostname(), self.port.number)
        } else {
            format_smolstr!("{}", self.port.number)
        };
        ChainOptions {
            sni_hosts: Vec::new(),
            destination_cidrs: Vec::new(),
            application_protocols: &[],
            transport: None,
            terminal: Terminal::Http {
                rds,
                dynamic_forward_proxy: (host::is_wildcard(service.hostname())
                    && service.resolution() == Resolution::DynamicDns)
                    .then(|| service.hostname().clone()),
                protocol: self.port.protocol,
            },
            config: None,
            origin: service.origin().clone(),
        }
    }

    fn tcp_chains(
        &self,
        proxy: &Proxy,
        egress: &EgressListener,
        service: &ScopedService,
        wildcard: &SmolStr,
    ) -> Vec<ChainOptions> {
        let node = proxy.node();
        let address = address_of(proxy, service);
        tcp::filter_chains(&TcpOptions {
            proxy: node.identity(),
            speaker: Speaker::of(proxy),
            service,
            address: &address,
            port: &self.port,
            cidrs: self.cidrs.clone(),
            pod_cidrs: self.pod_cidrs,
            wildcard_bind: self.bind.primary == *wildcard,
            wildcard,
            virtual_services: egress.virtual_services_for(service.hostname()),
            lookup: Lookup {
                service: &|host| proxy.scope().service(host).map(|service| service.destination()),
                rule: &|host| proxy.scope().destination_rule(proxy.mesh(), proxy.node(), host),
            },
        })
    }
}

/// The main address of a service; one without address listens at the wildcard address of the proxy's family.
fn address_of(proxy: &Proxy, service: &ScopedService) -> SmolStr {
    let node = proxy.node();
    let address = service.address(node);
    if !service.is_kubernetes() && node.ip_mode() == IpMode::V6 && address == UNSPECIFIED {
        return SmolStr::new_static("::");
    }
    address
}

/// The listener of a finished entry. istiod: `listener.go: buildListenerFromEntry`.
pub fn build_listener(proxy: &Proxy, entry: Entry) -> Listener {
    let name = listener_name(&entry.bind, entry.port.number);
    let stat_prefix = format_smolstr!("outbound_{name};");
    let attached = proxy.attached(ListenerClass::SidecarOutbound);
    let mut filters = ListenerFilters::default();
    let mut filter_chains: Vec<Arc<FilterChain>> = Vec::new();
    let mut default_filter_chain = None;
    let origin = entry
        .chains
        .first()
        .map_or(Origin::default("Istio's outbound listeners"), |chain| chain.origin.clone());
    for options in &entry.chains {
        filters.tls_inspector |= !options.sni_hosts.is_empty();
        filters.tls_inspector |=
            matches!(&options.terminal, Terminal::Tcp { proxy } if proxy.sni_forward_proxy.is_some());
        filters.http_inspector |= !options.application_protocols.is_empty();
        let chain = Arc::new(FilterChain {
            name: SmolStr::default(),
            filter_chain_match: chain_match(options),
            transport_socket: None,
            access_filters: match options.terminal {
                Terminal::Tcp { .. } => attached.access_filters(entry.port.number),
                Terminal::Http { .. } => attached.network_extensions(entry.port.number),
            },
            terminal: terminal(proxy, options, entry.port.number, &stat_prefix),
            config: options.config.clone(),
            origin: options.origin.clone(),
        });
        if options.is_match_all() {
            default_filter_chain = Some(chain);
        } else {
            filter_chains.push(chain);
        }
    }
    if filter_chains.is_empty() {
        filter_chains.extend(default_filter_chain.take());
    } else if default_filter_chain.is_none() {
        default_filter_chain = Some(proxy.fallthrough_chain());
    }
    let refused = refusal(&filter_chains);
    let inspects_http = filters.http_inspector;
    Listener {
        name,
        address: listener_address(&entry.bind, entry.port.number),
        additional_addresses: entry
            .extra_binds
            .iter()
            .map(|bind| listener_address(bind, entry.port.number))
            .collect(),
        bind_to_port: entry.bind_to_port,
        use_original_dst: false,
        traffic_direction: TrafficDirection::Outbound,
        listener_filters: filters,
        continue_on_listener_filters_timeout: true,
        // istiod: `listener.go: buildListenerFromEntry`.
        listener_filters_timeout: Some(if inspects_http {
            proxy.protocol_detection_timeout()
        } else {
            Duration::ZERO
        }),
        per_connection_buffer_limit_bytes: None,
        transparent: false,
        filter_chains,
        default_filter_chain,
        refused,
        origin,
    }
}

fn terminal(proxy: &Proxy, options: &ChainOptions, port: u16, stat_prefix: &SmolStr) -> NetworkFilter {
    match &options.terminal {
        Terminal::Tcp { proxy, .. } => NetworkFilter::TcpProxy(Arc::clone(proxy)),
        Terminal::Http { rds, dynamic_forward_proxy, protocol } => {
            let headers = proxy.headers(ListenerClass::SidecarOutbound);
            let mut manager = connection_manager::build(ConnectionManagerOptions {
                class: ListenerClass::SidecarOutbound,
                route_specifier: RouteSpecifier::Rds(rds.clone()),
                stat_prefix: stat_prefix.clone(),
                headers: &headers,
                sanitation: proxy.sanitation(),
                limits: proxy.connection_limits(),
                accept_http_10: proxy.accepts_http_10(),
                tracing: proxy.tracing(ListenerClass::SidecarOutbound),
                security_filters: proxy.attached(ListenerClass::SidecarOutbound).http_filters(port),
                dynamic_forward_proxies: dynamic_forward_proxy
                    .iter()
                    .cloned()
                    .map(Some)
                    .chain(proxy.resolves_unknown_hosts().then_some(None))
                    .collect(),
                origin: options.origin.clone(),
            });
            manager.use_remote_address = proxy.mesh().features().sidecar_use_remote_address;
            connection_manager::speak_grpc_web(&mut manager, *protocol);
            NetworkFilter::HttpConnectionManager(Arc::new(manager))
        }
    }
}

/// The conditions of a chain. istiod: `listener.go: toFilterChainMatch`.
fn chain_match(options: &ChainOptions) -> FilterChainMatch {
    if options.is_match_all() {
        return FilterChainMatch::default();
    }
    let mut server_names = Vec::new();
    if !options.sni_hosts.iter().any(|host| host == "*") {
        server_names.clone_from(&options.sni_hosts);
        server_names.sort();
    }
    let mut cidrs = options.destination_cidrs.clone();
    cidrs.sort();
    FilterChainMatch {
        prefix_ranges: cidrs
            .iter()
            .filter_map(|cidr| parse_cidr(cidr))
            .filter(|net| !(net.addr().is_ipv4() && net.addr().is_unspecified()))
            .collect(),
        server_names,
        transport_protocol: options.transport,
        application_protocols: options
            .application_protocols
            .iter()
            .copied()
            .map(SmolStr::new_static)
            .collect(),
        ..FilterChainMatch::default()
    }
}

/// Istio's name of a listener, such as `0.0.0.0_80`.
pub fn listener_name(bind: &str, port: u16) -> SmolStr {
    format_smolstr!("{bind}_{port}")
}

/// The address that text and port stand for.
pub fn listener_address(bind: &str, port: u16) -> ListenerAddress {
    match (bind.strip_prefix("unix://"), bind.parse::<IpAddr>()) {
        (Some(path), _) => ListenerAddress::Pipe(path.into()),
        (None, Ok(address)) => ListenerAddress::Socket(address, port),
        (None, Err(_)) => ListenerAddress::Pipe(bind.into()),
    }
}
