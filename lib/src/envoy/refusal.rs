//! Which route configurations does Envoy refuse?
//!
//! Envoy checks a route configuration as a whole when it is told of it; one route that it cannot take, and the proxy goes on with what
//! it was told before. Measured with Envoy 1.40; `route_components.proto` for what a route has to have.

use smol_str::SmolStr;

use super::config::{
    Action, ClusterSpecifier, HeaderOperations, Refusal, Route, RouteAction, RouteConfiguration, VirtualHost,
};
use super::substitution;

/// What Envoy refuses of a route configuration; the first thing that is wrong.
pub(crate) fn of_route_configuration(configuration: &RouteConfiguration) -> Option<Refusal> {
    let of_host = |host: &VirtualHost| {
        of_operations(&host.headers).or_else(|| host.routes.iter().find_map(|route| of_route(route)))
    };
    of_operations(&configuration.headers)
        .or_else(|| configuration.virtual_hosts.iter().find_map(|host| of_host(host)))
}

/// Why a claim that is compared with nothing is refused.
pub(crate) const NO_COMPARISON: SmolStr =
    SmolStr::new_static("a comparison of the claim is missing (`match_pattern` is required)");

fn of_route(route: &Route) -> Option<Refusal> {
    // istiod compares the claims of tokens, and writes an empty comparison where none is asked for.
    if route.route_match.dynamic_metadata.iter().any(|claim| claim.matcher.is_none()) {
        return Some(Refusal { reason: NO_COMPARISON, origin: route.origin.clone() });
    }
    of_operations(&route.headers).or_else(|| match &route.action {
        Action::None => {
            let reason = SmolStr::new_static("a route has no action");
            Some(Refusal { reason, origin: route.origin.clone() })
        }
        Action::Route(action) => of_clusters(action),
        Action::Redirect(_) | Action::DirectResponse(_) => None,
    })
}

fn of_clusters(action: &RouteAction) -> Option<Refusal> {
    let ClusterSpecifier::WeightedClusters(list) = &action.cluster else { return None };
    list.iter().find_map(|entry| of_operations(&entry.headers))
}

/// What Envoy refuses of header operations.
pub(crate) fn of_operations(operations: &HeaderOperations) -> Option<Refusal> {
    operations.request_headers_to_add.iter().chain(&operations.response_headers_to_add).find_map(|addition| {
        // Most values are plain text.
        let reason = addition.value.contains('%').then(|| substitution::parse(&addition.value).err())??;
        Some(Refusal { reason, origin: addition.origin.clone() })
    })
}
