//! Which virtual hosts does a gateway have under a route configuration's name?
//!
//! One for each host that a server and a VirtualService have in common, with the routes of all such VirtualServices one
//! after the other; hosts with equal routes share one. Invariant: the skeleton holds names and sources only, and the
//! routes of a virtual host are translated when it is asked for. istiod: `gateway.go: buildGatewayHTTPRouteConfig,
//! collapseDuplicateRoutes, buildNameToServiceMapForHTTPRoutes`; `route.go: SortVHostRoutes`.

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use smol_str::{SmolStr, format_smolstr};

use super::GatewayConfig;
use super::binding::{common_hosts, virtual_services_for_gateway};
use super::merge::{MergedGateway, MergedServer};
use crate::envoy::config::{HeaderOperations, RequireTls, Route, RouteConfiguration, VirtualHost};
use crate::istiod::connection_manager::ListenerClass;
use crate::istiod::outbound::domains;
use crate::istiod::proxy::{Proxy, Routes};
use crate::istiod::route::action::DestinationService;
use crate::istiod::route::matching::is_catch_all;
use crate::istiod::route::redirect::ListenerScheme;
use crate::istiod::route::{self, MAX_DIRECT_RESPONSE_BODY, RouteOptions};
use crate::istiod::service::ScopedService;
use crate::mesh::host_index::suffixes;
use crate::mesh::{Registry, VirtualService, host};
use crate::origin::Origin;

/// The routes of one VirtualService, translated for one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The VirtualService, by its place in [`RouteSkeleton::virtual_services`].
    pub virtual_service: u32,
    /// The server, by its number in [`MergedGateway::servers`]: the first of its Gateway that the VirtualService meets.
    pub server: u32,
}

/// A virtual host without its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSkeleton {
    /// Istio's name, `host:port`.
    pub name: SmolStr,
    /// The domains.
    pub domains: Vec<SmolStr>,
    /// Where its routes come from, in order.
    pub sources: Vec<Source>,
    /// Whether plaintext is redirected.
    pub require_tls: RequireTls,
    /// The server that made it.
    pub origin: Origin,
}

/// A route configuration without its routes.
#[derive(Debug)]
pub struct RouteSkeleton {
    name: SmolStr,
    /// The VirtualServices that it has routes of.
    pub virtual_services: Vec<Arc<VirtualService>>,
    /// The virtual hosts, by name.
    pub hosts: Vec<HostSkeleton>,
    by_domain: FxHashMap<SmolStr, usize>,
}

/// The route configuration `name` without virtual hosts.
pub fn shell(name: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: name.into(),
        virtual_hosts: Vec::new(),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: Some(MAX_DIRECT_RESPONSE_BODY),
        headers: HeaderOperations::default(),
        refused: None,
        origin: Origin::default("Istio's route configuration of a gateway's servers"),
    }
}

impl RouteSkeleton {
    /// The virtual hosts under `name`; `None` when no server has it.
    pub fn new(proxy: &Proxy, merged: &MergedGateway, name: &str) -> Option<Self> {
        let numbers = merged.by_route.get(name)?;
        let mut virtual_services: Vec<Arc<VirtualService>> = Vec::new();
        // By host name, in the order in which they are made.
        let mut hosts: IndexMap<SmolStr, HostSkeleton> = IndexMap::new();
        // Of each Gateway, its VirtualServices, and the server that each is translated for.
        let mut gateways: FxHashMap<SmolStr, Vec<(u32, Option<u32>)>> = FxHashMap::default();
        for &number in numbers {
            let Some(merged) = merged.server(number) else { continue };
            let server = &merged.server;
            let redirects = server.redirects_to_https();
            let bound = gateways.entry(merged.gateway.full_name.clone()).or_insert_with(|| {
                let all = virtual_services_for_gateway(
                    proxy.mesh(),
                    &proxy.node().namespace,
                    &merged.gateway.full_name,
                );
                all.into_iter()
                    .map(|virtual_service| {
                        let at = u32::try_from(virtual_services.len()).unwrap_or(u32::MAX);
                        virtual_services.push(Arc::clone(virtual_service));
                        (at, None)
                    })
                    .collect()
            });
            for (at, translated_for) in bound {
                let Some(virtual_service) = virtual_services.get(*at as usize) else { continue };
                let common = common_hosts(server, virtual_service);
                if common.is_empty() {
                    continue;
                }
                let first = match translated_for {
                    Some(first) => *first,
                    None => {
                        if !has_routes(proxy, merged, virtual_service) {
                            continue;
                        }
                        *translated_for.insert(number)
                    }
                };
                let source = Source { virtual_service: *at, server: first };
                for host in common {
                    let skeleton = hosts.entry(host).or_insert_with_key(|host| HostSkeleton {
                        name: domains::with_port(host, server.number),
                        domains: vec![host.clone()],
                        sources: Vec::new(),
                        require_tls: RequireTls::None,
                        origin: virtual_service.origin("spec.hosts"),
                    });
                    skeleton.sources.push(source);
                    if redirects {
                        skeleton.require_tls = RequireTls::All;
                    }
                }
            }
            if redirects {
                for host in &server.hosts {
                    let host = SmolStr::from(host.to_lowercase());
                    let skeleton = hosts.entry(host).or_insert_with_key(|host| HostSkeleton {
                        name: domains::with_port(host, server.number),
                        // A namespace in front of the host stays, and no request has such a host.
                        domains: vec![host.clone()],
                        sources: Vec::new(),
                        require_tls: RequireTls::All,
                        origin: server.origin.part("tls.httpsRedirect"),
                    });
                    skeleton.require_tls = RequireTls::All;
                }
            }
        }
        let mut hosts: Vec<HostSkeleton> = if hosts.is_empty() {
            vec![black_hole(merged.server(*numbers.first()?)?)]
        } else if proxy.mesh().features().route_collapse {
            collapse(hosts)
        } else {
            hosts.into_values().collect()
        };
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        let by_domain = hosts
            .iter()
            .enumerate()
            .flat_map(|(i, host)| host.domains.iter().map(move |domain| (domain.clone(), i)))
            .collect();
        Some(Self { name: name.into(), virtual_services, hosts, by_domain })
    }

    /// Envoy's choice for a host (in lower case, without port): exact, else by the longest wildcard.
    pub fn choose(&self, host: &str) -> Option<&HostSkeleton> {
        let by_domain = |domain: &str| self.by_domain.get(domain).and_then(|i| self.hosts.get(*i));
        by_domain(host)
            .or_else(|| {
                suffixes(host)
                    .skip(1)
                    .filter(|suffix| !suffix.is_empty())
                    .find_map(|suffix| by_domain(&format_smolstr!("*{suffix}")))
            })
            .or_else(|| by_domain("*"))
    }

    /// The virtual host with its routes.
    pub fn materialise(&self, proxy: &Proxy, config: &GatewayConfig, host: &HostSkeleton) -> VirtualHost {
        let mut routes: Vec<Arc<Route>> = Vec::new();
        for source in &host.sources {
            let key = (self.name.clone(), source.virtual_service, source.server);
            routes.extend(
                config.routes(key, || self.translate(proxy, &config.merged, *source)).iter().cloned(),
            );
        }
        // What matches everything goes last; the order is kept otherwise.
        let (catch_all, mut sorted): (Vec<_>, Vec<_>) =
            routes.into_iter().partition(|route| is_catch_all(&route.route_match));
        sorted.extend(catch_all);
        VirtualHost {
            name: host.name.clone(),
            domains: host.domains.clone(),
            routes: sorted,
            require_tls: host.require_tls,
            // What nobody routes for reaches no upstream that could be told.
            include_request_attempt_count: (!host.sources.is_empty() || host.require_tls == RequireTls::All)
                && proxy.headers(ListenerClass::Gateway).include_request_attempt_count,
            headers: HeaderOperations::default(),
            origin: host.origin.clone(),
        }
    }

    fn translate(&self, proxy: &Proxy, merged: &MergedGateway, source: Source) -> Routes {
        let virtual_service = self.virtual_services.get(source.virtual_service as usize);
        let (Some(virtual_service), Some(server)) = (virtual_service, merged.server(source.server)) else {
            return Routes::default();
        };
        let http3 = merged.http3_routes.contains(&self.name);
        with_options(proxy, server, virtual_service, http3, |options| {
            route::build_http_routes(&route::config_info(virtual_service), &virtual_service.http, options)
                .into()
        })
    }
}

/// The virtual host of servers that no VirtualService has routes for: every request is answered with 404.
fn black_hole(server: &MergedServer) -> HostSkeleton {
    HostSkeleton {
        name: domains::with_port("blackhole", server.server.number),
        domains: vec![SmolStr::new_static("*")],
        sources: Vec::new(),
        require_tls: RequireTls::None,
        origin: server.server.origin.clone(),
    }
}

/// Joins hosts with equal routes; the first of them, in Istio's order of hosts, gives its name.
fn collapse(mut hosts: IndexMap<SmolStr, HostSkeleton>) -> Vec<HostSkeleton> {
    let mut names: Vec<SmolStr> = hosts.keys().cloned().collect();
    host::sort_names(&mut names);
    let mut out: Vec<HostSkeleton> = Vec::with_capacity(names.len());
    let mut known: FxHashMap<Vec<Source>, usize> = FxHashMap::default();
    for name in names {
        let Some(skeleton) = hosts.swap_remove(&name) else { continue };
        let first = known.get(&skeleton.sources).copied().and_then(|at| out.get_mut(at));
        match first.filter(|first| first.require_tls == skeleton.require_tls) {
            Some(first) => first.domains.extend(skeleton.domains),
            None => {
                known.insert(skeleton.sources.clone(), out.len());
                out.push(skeleton);
            }
        }
    }
    out
}

/// Whether a VirtualService has any route for a server.
fn has_routes(proxy: &Proxy, server: &MergedServer, virtual_service: &VirtualService) -> bool {
    with_options(proxy, server, virtual_service, false, |options| {
        route::has_routes(&virtual_service.http, options)
    })
}

/// Calls `f` with what the translation for a server depends on.
fn with_options<T>(
    proxy: &Proxy,
    server: &MergedServer,
    virtual_service: &VirtualService,
    http3_alt_svc: bool,
    f: impl FnOnce(&RouteOptions<'_>) -> T,
) -> T {
    let headers = proxy.headers(ListenerClass::Gateway);
    let gateway = &server.gateway.full_name;
    f(&RouteOptions {
        proxy: proxy.node().identity(),
        listen_port: server.server.number,
        scheme: if server.server.tls.is_some() { ListenerScheme::Https } else { ListenerScheme::Http },
        http3_alt_svc,
        semantics: virtual_service.generator.into(),
        is_gateway: &|name| name == gateway,
        lookup_service: &|host| lookup_service(proxy, &virtual_service.namespace, host),
        lookup_hash: &|destination| {
            proxy.scope().hash_for_destination(proxy.mesh(), proxy.node(), destination)
        },
        default_retries: proxy.default_retries(),
        append_x_forwarded_host: headers.x_forwarded_host,
        disable_shadow_host_suffix: proxy.mesh().features().disable_shadow_host_suffix,
    })
}

/// The service behind a destination: of the VirtualService's namespace if the proxy sees it, else the one that it sees.
fn lookup_service(proxy: &Proxy, namespace: &str, host: &str) -> Option<DestinationService> {
    let own = || proxy.mesh().services_of(host).filter(|service| service.namespace == namespace);
    let preferred = own().find(|service| service.registry == Registry::Kubernetes).or_else(|| own().next());
    match preferred.filter(|service| service.export_to.is_visible_in(&proxy.node().namespace)) {
        Some(service) => Some(ScopedService::new(Arc::clone(service)).destination()),
        None => proxy.scope().service(host).map(|service| service.destination()),
    }
}
