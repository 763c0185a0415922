//! Which services does a gateway get clusters for?
//!
//! All that are visible to it; with `PILOT_FILTER_GATEWAY_CLUSTER_CONFIG`, only those that the routes of its gateways
//! name. Services that only the proxy itself calls (tracing, authorization) are not looked for: no request goes there.
//! istiod: `push_context.go: GatewayServices, initVirtualServices, virtualServiceDestinations`.

use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use crate::istiod::proxy::Proxy;
use crate::mesh::VirtualService;

/// The hosts that a gateway gets clusters for; `None` means all that it sees.
pub fn filtered_hosts(proxy: &Proxy) -> Option<FxHashSet<SmolStr>> {
    let features = proxy.mesh().features();
    if !features.filter_gateway_cluster_config {
        return None;
    }
    let mut out = FxHashSet::default();
    for gateway in &proxy.gateway().merged.gateways {
        let namespace = features.scope_gateway_to_namespace.then_some(gateway.namespace.as_str());
        for virtual_service in proxy.mesh().virtual_services_of(&gateway.full_name) {
            out.extend(destinations(virtual_service, namespace));
        }
    }
    Some(out)
}

/// The hosts that a VirtualService sends to; rules for sources of other namespaces than `namespace` do not count.
fn destinations(virtual_service: &VirtualService, namespace: Option<&str>) -> Vec<SmolStr> {
    let mut out = Vec::new();
    for rule in &virtual_service.http {
        let http = &rule.route;
        let mut sources =
            http.match_.iter().map(|m| &m.source_namespace).filter(|ns| !ns.is_empty()).peekable();
        let elsewhere = namespace.is_some_and(|own| sources.peek().is_some() && sources.all(|ns| ns != own));
        if elsewhere {
            continue;
        }
        let routes = http.route.iter().filter_map(|route| route.destination.as_ref());
        let mirrors = http.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref());
        out.extend(routes.chain(&http.mirror).chain(mirrors).map(|destination| destination.host.clone()));
    }
    let tcp = virtual_service.tcp.iter().flat_map(|rule| &rule.route.route);
    let tls = virtual_service.tls.iter().flat_map(|rule| &rule.route.route);
    out.extend(tcp.chain(tls).filter_map(|route| Some(route.destination.as_ref()?.host.clone())));
    out
}
