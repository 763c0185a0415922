//! Which clusters does a rule send requests to, and what happens to them on the way?
//!
//! Invariant: a single destination ignores its weight and appends its header operations to the route's; of several,
//! those of weight zero are left out. istiod: `route.go: applyHTTPRouteDestination, processDestination,
//! processWeightedDestination, GetDestinationCluster`.

use smol_str::{SmolStr, format_smolstr};

use super::headers::{Sides, extend, translate_headers_operations};
use super::retry::convert_policy;
use super::{RouteOptions, Semantics, duration, fault};
use crate::envoy::config::{
    ClusterSpecifier, HashPolicy, HeaderOperations, HostRewrite, PathSpecifier, RegexRewrite,
    RequestMirrorPolicy, RouteAction, RouteMatch, WeightedCluster,
};
use crate::istiod::name::outbound_cluster;
use crate::manifest::schema::istio::{ConsistentHashLb, Destination, HttpRouteDestination, Percent};
use crate::mesh::HttpRule;
use crate::origin::Origin;

/// Istio's timeout when a rule has none: no limit.
const NO_TIMEOUT: Origin = Origin::default("Istio's default: no timeout");
/// The cluster of a destination without host (an invalid Gateway API backend).
const UNKNOWN_SERVICE: SmolStr = SmolStr::new_static("UnknownService");

/// What a route has to know about a destination's service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationService {
    /// The service's port, if it has exactly one.
    pub only_port: Option<u16>,
    /// The concrete host behind an ExternalName.
    pub external_name: Option<SmolStr>,
}

/// The cluster for a destination of a route on `port`.
///
/// A port that is not written is the service's only port, else the listener's.
pub fn destination_cluster(
    destination: &Destination,
    service: Option<&DestinationService>,
    port: u16,
) -> SmolStr {
    if destination.host.is_empty() {
        return UNKNOWN_SERVICE;
    }
    let host = service.and_then(|service| service.external_name.as_ref()).unwrap_or(&destination.host);
    let port = match &destination.port {
        Some(port) => u16::try_from(port.number).unwrap_or(0),
        None => service.and_then(|service| service.only_port).unwrap_or(port),
    };
    outbound_cluster(host, port, &destination.subset)
}

/// Translates the destinations of `rule`; header operations of a single destination go to `headers`.
pub fn translate_route_action(
    rule: &HttpRule,
    condition: &RouteMatch,
    mut authority: Option<(SmolStr, Origin)>,
    headers: &mut HeaderOperations,
    options: &RouteOptions<'_>,
) -> RouteAction {
    let HttpRule { route, .. } = rule;
    let place = |field: &str| rule.place(field);
    let sides = |i: usize| Sides {
        request: place(&format_smolstr!("route[{i}].headers.request")),
        response: place(&format_smolstr!("route[{i}].headers.response")),
    };
    let (timeout, timeout_origin) = match route.timeout {
        Some(timeout) => (duration(timeout), place("timeout")),
        None => (std::time::Duration::ZERO, NO_TIMEOUT),
    };
    let mut action = RouteAction {
        cluster: ClusterSpecifier::WeightedClusters(Vec::new()),
        cluster_not_found_response_code: if options.semantics == Semantics::GatewayApi { 500 } else { 503 },
        prefix_rewrite: None,
        regex_rewrite: None,
        host_rewrite: HostRewrite::None,
        append_x_forwarded_host: false,
        timeout,
        max_grpc_timeout: Some(timeout),
        max_stream_duration: None,
        retry_policy: None,
        request_mirror_policies: Vec::new(),
        hash_policy: Vec::new(),
        rewrite_origin: None,
        timeout_origin,
    };
    if let Some(rewrite) = &route.rewrite {
        action.append_x_forwarded_host = options.append_x_forwarded_host;
        if let Some(regex) = &rewrite.uri_regex_rewrite {
            action.regex_rewrite = Some(RegexRewrite::new(regex.match_.clone(), regex.rewrite.clone()));
            action.rewrite_origin = Some(place("rewrite.uriRegexRewrite"));
        } else if !rewrite.uri.is_empty() {
            if options.semantics == Semantics::GatewayApi && rewrite.uri == "/" {
                action.regex_rewrite = Some(remove_prefix(condition));
            } else {
                action.prefix_rewrite = Some(rewrite.uri.clone());
            }
            action.rewrite_origin = Some(place("rewrite.uri"));
        }
        if !rewrite.authority.is_empty() {
            authority = Some((rewrite.authority.clone(), place("rewrite.authority")));
        }
    }
    if let Some((authority, at)) = authority {
        action.host_rewrite = HostRewrite::Literal(authority);
        action.rewrite_origin.get_or_insert(at);
    }
    action.request_mirror_policies = mirrors(rule, options);

    let mut consistent_hash = false;
    if let [destination] = route.route.as_slice() {
        action.cluster = ClusterSpecifier::Cluster(cluster_of(destination, options));
        if let Some(block) = &destination.headers {
            let translated = translate_headers_operations(block, &sides(0));
            extend(headers, translated.operations);
            // The rule's own authority wins, as it would with several destinations.
            if let (Some((authority, at)), HostRewrite::None) = (translated.authority, &action.host_rewrite) {
                action.host_rewrite = HostRewrite::Literal(authority);
                action.rewrite_origin.get_or_insert(at);
            }
        }
        let hash = (options.lookup_hash)(destination);
        consistent_hash = hash.is_some();
        action.hash_policy.extend(hash);
    } else {
        let mut clusters = Vec::new();
        for (i, destination) in route.route.iter().enumerate() {
            let Some(weight) = u32::try_from(destination.weight).ok().filter(|weight| *weight > 0) else {
                continue;
            };
            let mut cluster = WeightedCluster {
                name: cluster_of(destination, options),
                weight,
                headers: HeaderOperations::default(),
                host_rewrite_literal: None,
                origin: place(&format_smolstr!("route[{i}]")),
            };
            if let Some(block) = &destination.headers {
                let translated = translate_headers_operations(block, &sides(i));
                cluster.headers = translated.operations;
                cluster.host_rewrite_literal = translated.authority.map(|(authority, _)| authority);
            }
            action.hash_policy.extend((options.lookup_hash)(destination));
            clusters.push(cluster);
        }
        action.cluster = ClusterSpecifier::WeightedClusters(clusters);
    }
    let retries = route.retries.as_ref().map(|retries| (retries, place("retries")));
    let retries = retries.or_else(|| options.default_retries.clone());
    action.retry_policy = convert_policy(retries, consistent_hash);
    action
}

/// What is hashed for a `consistentHash` block. istiod: `route.go: ConsistentHashToHashPolicy`.
pub fn hash_policy(hash: &ConsistentHashLb) -> Option<HashPolicy> {
    if let Some(name) = &hash.http_header_name {
        return Some(HashPolicy::Header(name.clone()));
    }
    if let Some(cookie) = &hash.http_cookie {
        return Some(HashPolicy::Cookie {
            name: cookie.name.clone(),
            path: cookie.path.clone(),
            ttl: cookie.ttl.map(duration),
        });
    }
    if hash.use_source_ip.is_some() {
        return Some(HashPolicy::SourceIp);
    }
    hash.http_query_parameter_name.clone().map(HashPolicy::QueryParameter)
}

fn cluster_of(destination: &HttpRouteDestination, options: &RouteOptions<'_>) -> SmolStr {
    destination.destination.as_ref().map_or(UNKNOWN_SERVICE, |destination| cluster_for(destination, options))
}

fn cluster_for(destination: &Destination, options: &RouteOptions<'_>) -> SmolStr {
    let service = (options.lookup_service)(&destination.host);
    destination_cluster(destination, service.as_ref(), options.listen_port)
}

/// Translates `mirror` and `mirrors`; a share of zero leaves a mirror out. istiod: `route.go: MirrorPercent`.
fn mirrors(rule: &HttpRule, options: &RouteOptions<'_>) -> Vec<RequestMirrorPolicy> {
    let HttpRule { route, .. } = rule;
    const ALL: u32 = 1_000_000;
    let mut out = Vec::new();
    let mut push = |destination: &Destination, fraction: Option<u32>, origin: Origin| {
        if let Some(runtime_fraction) = fraction {
            out.push(RequestMirrorPolicy {
                cluster: cluster_for(destination, options),
                runtime_fraction,
                disable_shadow_host_suffix_append: options.disable_shadow_host_suffix,
                origin,
            });
        }
    };
    let share = |percent: &Percent| (percent.value > 0.0).then(|| fault::millionths(percent));
    if let Some(destination) = &route.mirror {
        let fraction = match (&route.mirror_percentage, route.mirror_percent) {
            (Some(percent), _) => share(percent),
            (None, Some(percent)) => (percent > 0).then(|| percent.saturating_mul(ALL / 100)),
            (None, None) => Some(ALL),
        };
        push(destination, fraction, rule.place("mirror"));
    }
    for (i, mirror) in route.mirrors.iter().enumerate() {
        if let Some(destination) = &mirror.destination {
            let fraction = mirror.percentage.as_ref().map_or(Some(ALL), share);
            push(destination, fraction, rule.place(&format_smolstr!("mirrors[{i}]")));
        }
    }
    out
}

/// The rewrite of a Gateway API prefix to `/`: the prefix goes, one slash stays.
fn remove_prefix(condition: &RouteMatch) -> RegexRewrite {
    let prefix = match &condition.path {
        PathSpecifier::PathSeparatedPrefix(prefix) => prefix.as_str(),
        _ => "",
    };
    RegexRewrite::new(format_smolstr!("^{}(/?)(.*)", regex::escape(prefix)), r"/\2")
}
