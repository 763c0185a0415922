//! Which routes does a sidecar have under a route configuration's name?
//!
//! `80` is shared by all HTTP services of a port, `host:80` belongs to one sniffed service. Invariant: the virtual host
//! for a host, built alone, equals the one in the whole configuration.
//! istiod: `httproute.go: buildSidecarOutboundHTTPRouteConfig, extractListenerPort, getVirtualHostsForSniffedServicePort`.

use std::sync::Arc;

use smol_str::SmolStr;

use super::catch_all;
use super::domains::Speaker;
use super::virtual_host::{self, PortContext, RouteSource, Skeleton};
use crate::envoy::config::{HeaderOperations, RequireTls, Route, RouteConfiguration, VirtualHost};
use crate::istiod::connection_manager::ListenerClass;
use crate::istiod::name::{MESH_GATEWAY, outbound_cluster};
use crate::istiod::proxy::Proxy;
use crate::istiod::route::redirect::ListenerScheme;
use crate::istiod::route::{self, MAX_DIRECT_RESPONSE_BODY, RouteOptions};
use crate::istiod::scope::EgressListener;
use crate::istiod::service::ScopedService;
use crate::mesh::Protocol;
use crate::origin::Origin;

/// The route configuration of the explicit HTTP proxy.
pub const HTTP_PROXY: SmolStr = SmolStr::new_static("http_proxy");

/// A route configuration's name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteName<'a> {
    /// All HTTP services of a port.
    Port(u16),
    /// One sniffed service.
    Sniffed {
        /// Its host.
        host: &'a str,
        /// Its port.
        port: u16,
    },
    /// A Unix domain socket, or the explicit HTTP proxy.
    All,
}

impl<'a> RouteName<'a> {
    /// Takes `name` apart; `None` when istiod would know no such configuration.
    pub fn parse(name: &'a str) -> Option<Self> {
        if name == HTTP_PROXY || name.starts_with("unix://") {
            return Some(Self::All);
        }
        // Everything up to the first colon is the host.
        match name.split_once(':') {
            Some((host, port)) => Some(Self::Sniffed { host, port: port.parse().ok()? }),
            None => Some(Self::Port(name.parse().ok()?)),
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Port(port) | Self::Sniffed { port, .. } => port,
            Self::All => 0,
        }
    }
}

/// The route configuration `name` without virtual hosts.
fn shell(name: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: name.into(),
        virtual_hosts: Vec::new(),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: Some(MAX_DIRECT_RESPONSE_BODY),
        headers: HeaderOperations::default(),
        refused: None,
        origin: Origin::default("Istio's route configuration of an outbound port"),
    }
}

/// The whole route configuration `name`.
pub fn build(proxy: &Proxy, name: &str) -> Option<RouteConfiguration> {
    let parsed = RouteName::parse(name)?;
    let mut out = shell(name);
    if let Some((number, egress)) = proxy.scope().egress_for(parsed.port(), name) {
        out.virtual_hosts = virtual_hosts(proxy, name, parsed, number, egress);
    }
    // A Sidecar may have no egress listener for the explicit proxy: everything is then unknown to it.
    if !matches!(parsed, RouteName::Sniffed { .. }) {
        out.virtual_hosts.push(Arc::new(catch_all::virtual_host(proxy)));
    }
    Some(out)
}

/// The virtual hosts that services and VirtualServices of an egress listener ask for, by name.
fn virtual_hosts(
    proxy: &Proxy,
    name: &str,
    parsed: RouteName<'_>,
    number: usize,
    egress: &EgressListener,
) -> Vec<Arc<VirtualHost>> {
    let port = effective_port(parsed, egress);
    with_context(proxy, number, egress, port, |context| {
        let mut skeletons = virtual_host::resolve(context, &context.everything());
        if let RouteName::Sniffed { host, .. } = parsed {
            skeletons
                .retain(|skeleton| skeleton.domains.iter().any(|domain| domain == name || domain == host));
            if let [only] = skeletons.as_mut_slice() {
                only.domains = vec![SmolStr::new_static("*")];
            }
        }
        if port == 0 {
            merge_ports(&mut skeletons);
        }
        skeletons.sort_by(|a, b| a.name.cmp(&b.name));
        skeletons.into_iter().map(|skeleton| materialise(proxy, number, egress, port, skeleton)).collect()
    })
}

/// The virtual host of configuration `name` for `host` (in lower case, without port).
pub fn virtual_host(
    proxy: &Proxy,
    name: &str,
    host: &str,
) -> Option<(RouteConfiguration, Option<Arc<VirtualHost>>)> {
    let parsed = RouteName::parse(name)?;
    if parsed == RouteName::All {
        // All ports of all services answer here: rare enough to be built as a whole.
        let mut whole = build(proxy, name)?;
        let chosen = choose(&whole, host);
        whole.virtual_hosts.clear();
        return Some((whole, chosen));
    }
    let Some((number, egress)) = proxy.scope().egress_for(parsed.port(), name) else {
        let sniffed = matches!(parsed, RouteName::Sniffed { .. });
        return Some((shell(name), (!sniffed).then(|| Arc::new(catch_all::virtual_host(proxy)))));
    };
    let port = effective_port(parsed, egress);
    if port == 0 {
        let mut whole = build(proxy, name)?;
        let chosen = choose(&whole, host);
        whole.virtual_hosts.clear();
        return Some((whole, chosen));
    }
    let skeleton = with_context(proxy, number, egress, port, |context| match parsed {
        RouteName::Sniffed { host, .. } => {
            let found = virtual_host::find(context, &host.to_lowercase())
                .filter(|found| found.domains.iter().any(|domain| domain == host || domain == name));
            found.map(|found| Skeleton { domains: vec![SmolStr::new_static("*")], ..found })
        }
        RouteName::Port(_) | RouteName::All => virtual_host::choose(context, host),
    });
    let chosen = match (skeleton, parsed) {
        (Some(skeleton), _) => Some(materialise(proxy, number, egress, port, skeleton)),
        (None, RouteName::Sniffed { .. }) => None,
        (None, RouteName::Port(_) | RouteName::All) => Some(Arc::new(catch_all::virtual_host(proxy))),
    };
    Some((shell(name), chosen))
}

/// Envoy's choice among the virtual hosts of a whole configuration.
fn choose(configuration: &RouteConfiguration, host: &str) -> Option<Arc<VirtualHost>> {
    let by_domain = |wanted: &str| {
        configuration
            .virtual_hosts
            .iter()
            .find(|host| host.domains.iter().any(|d| d.eq_ignore_ascii_case(wanted)))
    };
    by_domain(host)
        .or_else(|| {
            crate::mesh::host_index::suffixes(host)
                .skip(1)
                .filter(|suffix| !suffix.is_empty())
                .find_map(|suffix| by_domain(&format!("*{suffix}")))
        })
        .or_else(|| by_domain("*"))
        .cloned()
}

/// Port 0 where a Sidecar's port speaks the proxy protocol of HTTP: every port of every service answers.
fn effective_port(name: RouteName<'_>, egress: &EgressListener) -> u16 {
    match &egress.port {
        Some(port) if port.protocol == Protocol::HttpProxy => 0,
        _ => name.port(),
    }
}

/// Leaves only `host:port` domains on ports other than 80. istiod: `httproute.go: mergeAllVirtualHosts`.
fn merge_ports(skeletons: &mut Vec<Skeleton>) {
    for skeleton in skeletons.iter_mut().filter(|skeleton| skeleton.port != 80) {
        skeleton.domains.retain(|domain| domain.contains(':'));
    }
    skeletons.retain(|skeleton| !skeleton.domains.is_empty());
}

fn with_context<T>(
    proxy: &Proxy,
    number: usize,
    egress: &EgressListener,
    port: u16,
    f: impl FnOnce(&PortContext<'_>) -> T,
) -> T {
    f(&PortContext {
        egress,
        node: proxy.node(),
        dual_stack: proxy.mesh().features().dual_stack,
        speaker: Speaker::of(proxy),
        port,
        has_routes: &|virtual_service| !proxy.routes(number, virtual_service, port).is_empty(),
    })
}

/// The routes of a VirtualService on a port; [`Proxy::routes`] remembers them.
pub fn virtual_service_routes(
    proxy: &Proxy,
    egress: &EgressListener,
    number: u32,
    port: u16,
) -> Vec<Arc<Route>> {
    let Some(virtual_service) = egress.virtual_service(number) else { return Vec::new() };
    let headers = proxy.headers(ListenerClass::SidecarOutbound);
    let context = PortContext {
        egress,
        node: proxy.node(),
        dual_stack: proxy.mesh().features().dual_stack,
        speaker: Speaker::of(proxy),
        port,
        has_routes: &|_| true,
    };
    let lookup_service = |host: &str| {
        let service = egress.service(context.registry(host)?)?;
        let mut destination = service.destination();
        if port != 0 {
            // The registry of a port holds services trimmed to that port.
            destination.only_port = Some(port);
        }
        Some(destination)
    };
    let options = RouteOptions {
        proxy: proxy.node().identity(),
        listen_port: port,
        scheme: ListenerScheme::Http,
        http3_alt_svc: false,
        semantics: virtual_service.generator.into(),
        is_gateway: &|name| name == MESH_GATEWAY,
        lookup_service: &lookup_service,
        lookup_hash: &|destination| {
            proxy.scope().hash_for_destination(proxy.mesh(), proxy.node(), destination)
        },
        default_retries: proxy.default_retries(),
        append_x_forwarded_host: headers.x_forwarded_host,
        disable_shadow_host_suffix: proxy.mesh().features().disable_shadow_host_suffix,
    };
    route::build_http_routes(&route::config_info(virtual_service), &virtual_service.http, &options)
}

fn materialise(
    proxy: &Proxy,
    number: usize,
    egress: &EgressListener,
    port: u16,
    skeleton: Skeleton,
) -> Arc<VirtualHost> {
    let (routes, origin) = match skeleton.source {
        RouteSource::VirtualService(virtual_service) => {
            let origin = egress
                .virtual_service(virtual_service)
                .map_or(Origin::default("a VirtualService"), |virtual_service| {
                    virtual_service.origin("spec")
                });
            (proxy.routes(number, virtual_service, port).to_vec(), origin)
        }
        RouteSource::Service(service) => match egress.service(service) {
            Some(service) => (
                vec![Arc::new(service_route(proxy, &service, skeleton.port, port))],
                service.origin().clone(),
            ),
            None => (Vec::new(), Origin::default("a service")),
        },
    };
    let headers = proxy.headers(ListenerClass::SidecarOutbound);
    Arc::new(VirtualHost {
        name: skeleton.name,
        domains: skeleton.domains,
        routes,
        require_tls: RequireTls::None,
        include_request_attempt_count: headers.include_request_attempt_count,
        headers: HeaderOperations::default(),
        origin,
    })
}

/// The route of a service without VirtualService.
fn service_route(proxy: &Proxy, service: &ScopedService, port: u16, listen_port: u16) -> Route {
    let host: SmolStr =
        if listen_port == 0 { service.hostname().clone() } else { service.hostname().to_lowercase().into() };
    route::default_outbound_route(
        outbound_cluster(&host, port, ""),
        route::trace_operation(&host, port),
        proxy.default_retries(),
        proxy.scope().hash_for_service(proxy.mesh(), proxy.node(), &host, port),
        service.origin().clone(),
    )
}
