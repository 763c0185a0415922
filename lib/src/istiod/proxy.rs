//! What does one proxy know, and what was already built for it?
//!
//! The door of this room: every question about a proxy's configuration is asked here. Invariant: answers are pure
//! functions of the mesh and the node; what is remembered only saves work.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use smol_str::{SmolStr, ToSmolStr};

use super::attachment::Attached;
use super::cluster;
use super::connection_manager::{ListenerClass, PerClass, ProxyHeaders};
use super::connection_settings::{self, Sanitation};
use super::envoy_filter::Patches;
use super::gateway::GatewayConfig;
use super::inbound::{self, Inbound, ServiceTarget};
use super::memo::Memo;
use super::node::{InterceptionMode, IpMode, Node, NodeType};
use super::outbound::listener::{self, ListenerKey, ListenerProtocol};
use super::outbound::{catch_all, route_config};
use super::route;
use super::scope::{EgressListener, SidecarScope};
use super::service::ScopedService;
use super::tracing;
use crate::envoy::config::{
    Cluster, ConnectionLimits, FilterChain, Listener, ListenerAddress, NetworkFilter, Route,
    RouteConfiguration, RouteSpecifier, Tracing,
};
use crate::envoy::domain::strip_port;
use crate::envoy::refusal;
use crate::envoy::xds::{Capture, VirtualHostChoice, Xds};
use crate::manifest::schema::istio::{CaptureMode, HttpRetry, OutboundTrafficPolicyMode};
use crate::manifest::schema::mesh_config::{ConnectionSettings, ProxyConfig};
use crate::mesh::{Mesh, ServicePort};
use crate::origin::Origin;

/// The routes of a VirtualService on a port.
pub type Routes = Arc<[Arc<Route>]>;

/// One proxy of a mesh.
#[derive(Debug)]
pub struct Proxy {
    mesh: Arc<Mesh>,
    node: Node,
    domain: SmolStr,
    scope: OnceLock<SidecarScope>,
    fallthrough: OnceLock<Arc<FilterChain>>,
    attached: PerClass<Attached>,
    patches: PerClass<Patches>,
    tracing: PerClass<Option<Tracing>>,
    virtual_outbound: OnceLock<Option<Arc<Listener>>>,
    http_proxy: OnceLock<Option<Arc<Listener>>>,
    service_targets: OnceLock<Vec<ServiceTarget>>,
    inbound: OnceLock<Inbound>,
    gateway: OnceLock<GatewayConfig>,
    listeners: Memo<ListenerKey, Option<Arc<Listener>>>,
    captured: Memo<(IpAddr, u16), Option<Arc<Listener>>>,
    routes: Memo<(usize, u32, u16), Routes>,
    hosts: Memo<SmolStr, Arc<Memo<SmolStr, Option<VirtualHostChoice>>>>,
    route_configurations: Memo<SmolStr, Option<Arc<RouteConfiguration>>>,
    clusters: Memo<SmolStr, Option<Arc<Cluster>>>,
}

impl Proxy {
    /// A proxy that asks for its configuration.
    pub fn new(mesh: Arc<Mesh>, mut node: Node) -> Self {
        // Automatic addresses that a controller writes are for every proxy that asks for addresses at all.
        node.metadata.dns_auto_allocate |= mesh.features().ip_autoallocate;
        node.settle_locality();
        let domain = smol_str::format_smolstr!("{}.svc.{}", node.namespace, mesh.cluster_domain());
        Self {
            mesh,
            node,
            domain,
            scope: OnceLock::new(),
            fallthrough: OnceLock::new(),
            attached: PerClass::default(),
            patches: PerClass::default(),
            tracing: PerClass::default(),
            virtual_outbound: OnceLock::new(),
            http_proxy: OnceLock::new(),
            service_targets: OnceLock::new(),
            inbound: OnceLock::new(),
            gateway: OnceLock::new(),
            listeners: Memo::default(),
            captured: Memo::default(),
            routes: Memo::default(),
            hosts: Memo::default(),
            route_configurations: Memo::default(),
            clusters: Memo::default(),
        }
    }

    /// The mesh it is a part of.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// Who it is.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its domain, such as `default.svc.cluster.local`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What it sees.
    pub fn scope(&self) -> &SidecarScope {
        self.scope.get_or_init(|| SidecarScope::new(&self.mesh, &self.node))
    }

    /// The proxy configuration it starts with. istiod: `context.go: NodeMetadata.ProxyConfigOrDefault`.
    pub fn proxy_config(&self) -> &ProxyConfig {
        self.node.metadata.proxy_config.as_deref().unwrap_or(&self.mesh.config().default_config)
    }

    /// The services that its workload is an endpoint of.
    pub fn service_targets(&self) -> &[ServiceTarget] {
        self.service_targets.get_or_init(|| inbound::target::service_targets(&self.mesh, &self.node))
    }

    /// What it is told as a gateway.
    pub fn gateway(&self) -> &GatewayConfig {
        self.gateway.get_or_init(|| GatewayConfig::new(self))
    }

    /// What it is told about traffic to its workload.
    pub fn inbound(&self) -> &Inbound {
        self.inbound.get_or_init(|| Inbound::new(self))
    }

    /// The policies and extensions of its listeners of a class.
    pub fn attached(&self, class: ListenerClass) -> &Attached {
        self.attached.get_or_init(class, || Attached::new(self, class))
    }

    /// A listener of a class as EnvoyFilters leave it.
    pub fn patched(&self, class: ListenerClass, mut listener: Listener) -> Arc<Listener> {
        self.patches.get_or_init(class, || Patches::new(self, class)).apply(&mut listener);
        Arc::new(listener)
    }

    /// A cluster behind listeners of a class as EnvoyFilters leave it; `None` where one removes it.
    fn patched_cluster(&self, class: ListenerClass, mut cluster: Cluster) -> Option<Arc<Cluster>> {
        let patches = self.patches.get_or_init(class, || Patches::new(self, class));
        patches.apply_to_cluster(&mut cluster).then(|| Arc::new(cluster))
    }

    /// The headers that it sets on listeners of a class.
    pub fn headers(&self, class: ListenerClass) -> ProxyHeaders {
        ProxyHeaders::new(Some(self.proxy_config()), class)
    }

    /// What it does to paths and header names on arrival.
    pub fn sanitation(&self) -> Sanitation {
        let normalization = self.mesh.config().path_normalization;
        Sanitation::new(normalization, self.connection_settings(), self.node.node_type)
    }

    /// Limits of its clients' connections.
    pub fn connection_limits(&self) -> Option<Arc<ConnectionLimits>> {
        connection_settings::limits(self.connection_settings()?, self.node.node_type).map(Arc::new)
    }

    fn connection_settings(&self) -> Option<&ConnectionSettings> {
        let own = self.proxy_config().connection_settings.as_ref();
        own.or(self.mesh.config().default_config.connection_settings.as_ref())
    }

    /// Whether outbound listeners accept HTTP/1.0.
    pub fn accepts_http_10(&self) -> bool {
        self.mesh.features().http10 || self.node.metadata.http10
    }

    /// Tracing on its listeners of a class.
    pub fn tracing(&self, class: ListenerClass) -> Option<Tracing> {
        self.tracing.get_or_init(class, || tracing::tracing(self, class)).clone()
    }

    /// MeshConfig's retries.
    pub fn default_retries(&self) -> Option<(&HttpRetry, Origin)> {
        let retries = self.mesh.config().written.default_http_retry_policy.as_ref()?;
        Some((retries, Origin::default("MeshConfig defaultHttpRetryPolicy")))
    }

    /// Whether hosts that nothing describes are resolved by the proxy.
    pub fn resolves_unknown_hosts(&self) -> bool {
        self.scope().outbound_traffic_policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns
    }

    /// The port that iptables redirects outbound traffic to; `None` when sidecars have no listeners at all.
    pub fn listen_port(&self) -> Option<u16> {
        u16::try_from(self.mesh.config().proxy_listen_port).ok().filter(|port| *port > 0)
    }

    /// The port of the explicit HTTP proxy.
    pub fn http_proxy_port(&self) -> Option<u16> {
        self.node
            .metadata
            .http_proxy_port
            .or_else(|| u16::try_from(self.mesh.config().proxy_http_port).ok())
            .filter(|port| *port > 0)
    }

    /// Whether the listeners of an egress listener are real sockets.
    pub fn binds_to_port(&self, egress: &EgressListener) -> bool {
        self.node.metadata.interception_mode == InterceptionMode::None
            || egress.capture_mode == CaptureMode::None
            || egress.bind.starts_with("unix://")
    }

    /// Whether a listener may be made: not on the ports of Istio's own listeners. istiod: `context.go: CanBindToPort`.
    pub fn can_bind_to_port(&self, real: bool, bind: &str, port: &ServicePort) -> bool {
        let number = port.number;
        if real && (1..1024).contains(&number) && self.node.metadata.unprivileged {
            return false;
        }
        let reserved_address = if bind.is_empty() {
            ListenerProtocol::of(port.protocol) == Some(ListenerProtocol::Http)
        } else {
            bind.parse::<IpAddr>().is_ok_and(|ip| ip == self.node.ip_mode().wildcard())
        };
        if !reserved_address {
            return true;
        }
        let config = self.mesh.config();
        let virtual_ports = [config.proxy_listen_port, config.proxy_inbound_listen_port];
        let own = [self.node.metadata.envoy_status_port, self.node.metadata.envoy_prometheus_port];
        !own.contains(&number) && !virtual_ports.contains(&i32::from(number))
    }

    /// The addresses of a service port's endpoints, one list for each endpoint.
    pub fn endpoint_addresses(&self, service: &ScopedService, port: &ServicePort) -> Vec<Vec<SmolStr>> {
        cluster::endpoint::addresses(&self.mesh, service, port)
    }

    /// The default chain of listeners whose chains do not take everything.
    pub fn fallthrough_chain(&self) -> Arc<FilterChain> {
        self.fallthrough.get_or_init(|| Arc::new(catch_all::fallthrough_chain(self))).clone()
    }

    /// The routes of a VirtualService of an egress listener on a port.
    pub fn routes(&self, egress: usize, virtual_service: u32, port: u16) -> Routes {
        let key = (egress, virtual_service, port);
        if let Some(known) = self.routes.get(&key) {
            return known;
        }
        let routes = self.scope().egress.get(egress).map_or_else(Vec::new, |egress| {
            route_config::virtual_service_routes(self, egress, virtual_service, port)
        });
        self.routes.insert(key, routes.into())
    }

    fn outbound_listener(&self, key: &ListenerKey) -> Option<Arc<Listener>> {
        if let Some(known) = self.listeners.get(key) {
            return known;
        }
        let built = listener::build(self, key);
        let built = built.map(|listener| self.patched(ListenerClass::SidecarOutbound, listener));
        self.listeners.insert(key.clone(), built)
    }

    fn virtual_outbound(&self) -> Option<Arc<Listener>> {
        let patched = |listener| self.patched(ListenerClass::SidecarOutbound, listener);
        self.virtual_outbound.get_or_init(|| catch_all::virtual_outbound(self).map(patched)).clone()
    }

    fn http_proxy(&self) -> Option<Arc<Listener>> {
        let patched = |listener| self.patched(ListenerClass::SidecarOutbound, listener);
        self.http_proxy.get_or_init(|| catch_all::http_proxy_listener(self).map(patched)).clone()
    }

    /// The listener that a captured outbound connection is handed to.
    fn captured_outbound(&self, destination: IpAddr, port: u16) -> Option<Arc<Listener>> {
        let virtual_outbound = self.virtual_outbound()?;
        // Envoy hands a connection to any listener of its destination, real sockets included.
        self.outbound_at(destination, port)
            .or_else(|| self.inbound().direct(destination, port).cloned())
            .or(Some(virtual_outbound))
    }

    /// The listener that a connection to a real socket reaches.
    fn direct_outbound(&self, destination: IpAddr, port: u16) -> Option<Arc<Listener>> {
        self.outbound_at(destination, port).filter(|listener| listener.bind_to_port).or_else(|| {
            self.http_proxy().filter(|_| self.http_proxy_port() == Some(port) && destination.is_loopback())
        })
    }

    /// The outbound listener of an address: of its own, else the one for every address of its family. Envoy:
    /// `connection_handler_impl.cc: getBalancedHandlerByAddress`.
    fn outbound_at(&self, destination: IpAddr, port: u16) -> Option<Arc<Listener>> {
        let exact = ListenerKey::socket(destination, port);
        let main = self.node.ip_mode().wildcard();
        let mut found = self.outbound_listener(&exact);
        if found.is_none() && self.node.ip_mode() == IpMode::Dual {
            found = self.outbound_of_other_address(destination, port);
        }
        found.or_else(|| {
            let listener = self.outbound_listener(&ListenerKey::socket(main, port))?;
            let takes = |ip: &IpAddr| ip.is_unspecified() && ip.is_ipv6() == destination.is_ipv6();
            let takes_more =
                |address: &ListenerAddress| matches!(address, ListenerAddress::Socket(ip, _) if takes(ip));
            (takes(&main) || listener.additional_addresses.iter().any(takes_more)).then_some(listener)
        })
    }

    /// The listener that has an address beside that which it is known by.
    fn outbound_of_other_address(&self, destination: IpAddr, port: u16) -> Option<Arc<Listener>> {
        let services = self.mesh.service_index().at_address(&destination.to_smolstr());
        let services = services.iter().filter_map(|number| self.mesh.services().get(*number as usize));
        let addresses =
            services.flat_map(|service| service.all_addresses()).filter_map(|own| own.parse().ok());
        let wanted = ListenerAddress::Socket(destination, port);
        addresses
            .filter_map(|ip: IpAddr| self.outbound_listener(&ListenerKey::socket(ip, port)))
            .find(|listener| listener.additional_addresses.contains(&wanted))
    }

    /// All listeners, outbound ones first.
    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        if self.node.node_type == NodeType::Router {
            return self.gateway().listeners(self);
        }
        if self.node.node_type != NodeType::Sidecar || self.listen_port().is_none() {
            return Vec::new();
        }
        let mut out: Vec<Arc<Listener>> =
            listener::keys(self).iter().filter_map(|key| self.outbound_listener(key)).collect();
        out.extend(self.http_proxy());
        out.extend(self.virtual_outbound());
        out.extend(self.inbound().listeners.iter().cloned());
        out
    }

    /// All route configurations that its listeners name, in that order.
    pub fn route_configurations(&self) -> Vec<Arc<RouteConfiguration>> {
        let mut names: Vec<SmolStr> = Vec::new();
        for listener in self.listeners() {
            for chain in listener.filter_chains.iter().chain(&listener.default_filter_chain) {
                if let NetworkFilter::HttpConnectionManager(manager) = &chain.terminal
                    && let RouteSpecifier::Rds(name) = &manager.route_specifier
                    && !names.contains(name)
                {
                    names.push(name.clone());
                }
            }
        }
        names.iter().filter_map(|name| self.route_configuration(name)).collect()
    }

    /// All clusters.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        let mut seen = rustc_hash::FxHashSet::default();
        let names = match self.node.node_type {
            NodeType::Router => self.gateway().cluster_names(self),
            NodeType::Sidecar | NodeType::Waypoint => {
                let mut names = cluster::names(self);
                names.extend(inbound::cluster::names(self));
                names
            }
        };
        names
            .into_iter()
            .filter(|name| seen.insert(name.clone()))
            .filter_map(|name| self.cluster(&name))
            .collect()
    }
}

impl Proxy {
    /// Whether any rule of the mesh makes Envoy refuse the route configuration that it is a part of.
    fn may_be_refused(&self) -> bool {
        !route::refused_rules(&self.mesh).is_empty()
    }
}

impl Xds for Proxy {
    fn listener(&self, capture: Capture, destination: IpAddr, port: u16) -> Option<Arc<Listener>> {
        if self.node.node_type == NodeType::Router && capture == Capture::Direct {
            return self.gateway().listener(self, destination, port);
        }
        if self.node.node_type != NodeType::Sidecar || self.listen_port().is_none() {
            return None;
        }
        match capture {
            Capture::Outbound => {
                let build = || self.captured_outbound(destination, port);
                self.captured.get_or_insert_with((destination, port), build)
            }
            Capture::Direct => self
                .direct_outbound(destination, port)
                .or_else(|| self.inbound().direct(destination, port).cloned()),
            Capture::Inbound => self.inbound().virtual_inbound().cloned(),
        }
    }

    fn virtual_host(&self, name: &str, host: &str) -> Option<VirtualHostChoice> {
        let host = normalise_host(host);
        let build = || {
            let (configuration, virtual_host) = match self.node.node_type {
                NodeType::Sidecar => route_config::virtual_host(self, name, &host),
                NodeType::Router => self.gateway().virtual_host(self, name, &host),
                NodeType::Waypoint => None,
            }?;
            let refused = if self.may_be_refused() {
                self.route_configuration(name).and_then(|whole| whole.refused.clone())
            } else {
                None
            };
            let route_configuration = Arc::new(RouteConfiguration { refused, ..configuration });
            Some(VirtualHostChoice { route_configuration, virtual_host })
        };
        self.hosts.get_or_build(name, Arc::default).get_or_build(&*host, build)
    }

    fn route_configuration(&self, name: &str) -> Option<Arc<RouteConfiguration>> {
        self.route_configurations.get_or_build(name, || {
            let mut configuration = match self.node.node_type {
                NodeType::Sidecar => route_config::build(self, name),
                NodeType::Router => self.gateway().route_configuration(self, name),
                NodeType::Waypoint => None,
            }?;
            if self.may_be_refused() {
                configuration.refused = refusal::of_route_configuration(&configuration).map(Arc::new);
            }
            Some(Arc::new(configuration))
        })
    }

    fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.clusters.get_or_build(name, || {
            let inbound = || Some((ListenerClass::SidecarInbound, inbound::cluster::build(self, name)?));
            let (class, cluster) = match self.node.node_type {
                NodeType::Router => (ListenerClass::Gateway, self.gateway().cluster(self, name)?),
                NodeType::Sidecar | NodeType::Waypoint => cluster::build(self, name)
                    .map(|cluster| (ListenerClass::SidecarOutbound, cluster))
                    .or_else(inbound)?,
            };
            self.patched_cluster(class, cluster)
        })
    }
}

/// A host as virtual hosts are looked up: in lower case, without its port.
fn normalise_host(host: &str) -> Cow<'_, str> {
    let name = strip_port(host);
    if name.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        name.to_lowercase().into()
    } else {
        name.into()
    }
}
