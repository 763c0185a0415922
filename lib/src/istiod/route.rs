//! Which routes does a VirtualService become for one proxy and port?
//!
//! Shared by sidecars and gateways. Invariant: routes keep the order of rules and of their matches, conditions on the
//! proxy itself are decided here, and nothing follows a route that matches everything.
//! istiod: `pilot/pkg/networking/core/route/route.go: BuildHTTPRoutesForVirtualService, TranslateRoute`.

pub mod action;
pub mod cors;
pub mod fault;
pub mod headers;
pub mod matching;
pub mod redirect;
mod refusal;
pub mod retry;

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use self::action::DestinationService;
use self::headers::Sides;
use self::redirect::ListenerScheme;
pub use self::refusal::refused_rules;
use crate::envoy::config::{
    Action, AppendAction, ClusterSpecifier, ConfigInfo, ConfigKind, HashPolicy, HeaderOperations,
    HeaderValueOption, MaxStreamDuration, PathSpecifier, Route, RouteAction, RouteMatch,
};
use crate::istiod::name::SubsetKey;
use crate::manifest::schema;
use crate::manifest::schema::istio::{HttpMatchRequest, HttpRetry, HttpRouteDestination};
use crate::mesh::{Generator, HttpRule, VirtualService};
use crate::origin::Origin;

/// The name of a route that Istio makes for a service without VirtualService.
pub const DEFAULT_ROUTE_NAME: SmolStr = SmolStr::new_static("default");
/// Istio's limit for the body of a direct response, in bytes.
pub const MAX_DIRECT_RESPONSE_BODY: u32 = 1024 * 1024;

/// Whose rules a VirtualService follows: generated ones differ in prefixes and missing backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// Written as a VirtualService.
    #[default]
    Istio,
    /// Made from a Kubernetes Ingress.
    Ingress,
    /// Made from a Gateway API route.
    GatewayApi,
}

impl From<Generator> for Semantics {
    fn from(generator: Generator) -> Self {
        match generator {
            Generator::User => Self::Istio,
            Generator::Ingress => Self::Ingress,
            Generator::GatewayApi => Self::GatewayApi,
        }
    }
}

impl Semantics {
    /// Whether a prefix matches whole segments only.
    pub const fn separates_segments(self) -> bool {
        matches!(self, Self::Ingress | Self::GatewayApi)
    }
}

/// What a match can ask of the proxy itself.
#[derive(Clone, Copy, Debug)]
pub struct ProxyIdentity<'a> {
    /// The workload's labels.
    pub labels: &'a IndexMap<SmolStr, SmolStr>,
    /// The workload's namespace.
    pub namespace: &'a str,
}

/// What a translation depends on besides the rules.
#[derive(Clone)]
pub struct RouteOptions<'a> {
    /// The proxy.
    pub proxy: ProxyIdentity<'a>,
    /// The port that requests arrive at: the service's port on a sidecar, the server's on a gateway.
    pub listen_port: u16,
    /// Whether the listener terminates TLS, which redirects depend on.
    pub scheme: ListenerScheme,
    /// Whether `alt-svc` announces HTTP/3.
    pub http3_alt_svc: bool,
    /// Whose rules the VirtualService follows.
    pub semantics: Semantics,
    /// Whether the rules are translated for this gateway name (`mesh` for sidecars).
    pub is_gateway: &'a dyn Fn(&str) -> bool,
    /// The service behind a destination host, as far as this proxy knows it on this listener.
    pub lookup_service: &'a dyn Fn(&str) -> Option<DestinationService>,
    /// The consistent hash that a destination's DestinationRule asks for.
    pub lookup_hash: &'a dyn Fn(&HttpRouteDestination) -> Option<HashPolicy>,
    /// MeshConfig's retries.
    pub default_retries: Option<(&'a HttpRetry, Origin)>,
    /// Whether a rewritten host is appended to `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
    /// Whether mirrored requests keep their host.
    pub disable_shadow_host_suffix: bool,
}

/// How istiod names a VirtualService as the one that a route was made of.
pub fn config_info(virtual_service: &VirtualService) -> ConfigInfo {
    ConfigInfo {
        kind: ConfigKind::VirtualService,
        namespace: virtual_service.namespace.clone(),
        name: virtual_service.name.clone(),
    }
}

/// The routes of the VirtualService `of`; none when no rule applies to this proxy and port.
pub fn build_http_routes<'a>(
    of: &ConfigInfo,
    rules: impl IntoIterator<Item = &'a HttpRule>,
    options: &RouteOptions<'_>,
) -> Vec<Arc<Route>> {
    let mut out = Vec::new();
    for rule in rules {
        if rule.route.match_.is_empty() {
            out.extend(translate_route(of, rule, None, options).map(Arc::new));
            break;
        }
        for (i, condition) in rule.route.match_.iter().enumerate() {
            let at = rule.match_origins.get(i).cloned().unwrap_or_else(|| rule.origin.element("match", i));
            let Some(route) = translate_route(of, rule, Some((condition, at)), options) else { continue };
            let catch_all = matching::is_catch_all(&route.route_match);
            out.push(Arc::new(route));
            if catch_all {
                return out;
            }
        }
    }
    out
}

/// Whether [`build_http_routes`] gives any route, without building it.
pub fn has_routes<'a>(rules: impl IntoIterator<Item = &'a HttpRule>, options: &RouteOptions<'_>) -> bool {
    rules.into_iter().any(|rule| {
        rule.route.match_.is_empty() || rule.route.match_.iter().any(|condition| applies(condition, options))
    })
}

/// Whether a match can apply to this proxy and port.
fn applies(condition: &HttpMatchRequest, options: &RouteOptions<'_>) -> bool {
    (condition.port == 0 || condition.port == u32::from(options.listen_port))
        && matching::source_match(condition, &options.proxy, options.is_gateway)
}

/// Translates one rule with one of its matches; `None` when the match cannot apply to this proxy and port.
pub fn translate_route(
    of: &ConfigInfo,
    rule: &HttpRule,
    condition: Option<(&HttpMatchRequest, Origin)>,
    options: &RouteOptions<'_>,
) -> Option<Route> {
    let HttpRule { route, origin, .. } = rule;
    let place = |field: &str| rule.place(field);
    if condition.as_ref().is_some_and(|(condition, _)| !applies(condition, options)) {
        return None;
    }
    let mut route_name = route.name.clone();
    let (route_match, route_origin) = match condition {
        Some((condition, at)) => {
            if !condition.name.is_empty() {
                route_name = format_smolstr!("{route_name}.{}", condition.name);
            }
            (matching::translate_route_match(condition, options.semantics, &at), at)
        }
        None => (matching::match_all(), origin.clone()),
    };
    let mut headers = HeaderOperations::default();
    let mut authority = None;
    if let Some(block) = &route.headers {
        let sides = Sides { request: place("headers.request"), response: place("headers.response") };
        let translated = headers::translate_headers_operations(block, &sides);
        headers = translated.operations;
        authority = translated.authority;
    }
    let action = if let Some(redirect) = &route.redirect {
        redirect::translate_redirect(redirect, options.listen_port, options.scheme, place("redirect"))
    } else if let Some(response) = &route.direct_response {
        redirect::translate_direct_response(response, place("directResponse"))
    } else {
        Action::Route(Box::new(action::translate_route_action(
            rule,
            &route_match,
            authority,
            &mut headers,
            options,
        )))
    };
    let decorator = Some(route_operation(&route_match, &action, &of.name, options.listen_port));
    if options.http3_alt_svc {
        headers.response_headers_to_add.push(http3_alt_svc(options.listen_port));
    }
    Some(Route {
        name: route_name,
        route_match,
        action,
        headers,
        decorator,
        fault: route.fault.as_ref().and_then(|fault| fault::translate_fault(fault, &place("fault"))),
        cors: route.cors_policy.as_ref().map(|cors| cors::translate_cors_policy(cors, place("corsPolicy"))),
        config: Some(of.clone()),
        origin: route_origin,
    })
}

/// The route of a service without VirtualService. istiod: `route.go: BuildDefaultHTTPOutboundRoute`.
pub fn default_outbound_route(
    cluster: SmolStr,
    operation: SmolStr,
    default_retries: Option<(&HttpRetry, Origin)>,
    hash: Option<HashPolicy>,
    origin: Origin,
) -> Route {
    let mut route = default_route(cluster, operation, origin);
    if let Action::Route(action) = &mut route.action {
        action.retry_policy = retry::convert_policy(default_retries, false);
        action.hash_policy.extend(hash);
    }
    route
}

/// The route of a sidecar's inbound port; gRPC ports are not retried. istiod: `route.go: BuildDefaultHTTPInboundRoute`.
pub fn default_inbound_route(
    cluster: SmolStr,
    operation: SmolStr,
    retries: InboundRetries<'_>,
    origin: Origin,
) -> Route {
    let mut route = default_route(cluster, operation, origin);
    if let Action::Route(action) = &mut route.action {
        // What a gRPC client asks for limits the stream, not the upstream's answer.
        action.max_grpc_timeout = None;
        action.max_stream_duration = Some(MaxStreamDuration {
            max_stream_duration: Duration::ZERO,
            grpc_timeout_header_max: Duration::ZERO,
        });
        if let InboundRetries::Policy(policy) = retries {
            action.retry_policy = retry::convert_inbound_policy(policy);
        }
    }
    route
}

/// The retries of an inbound route.
#[derive(Clone, Debug)]
pub enum InboundRetries<'a> {
    /// None: the port speaks gRPC.
    Off,
    /// MeshConfig's, or Istio's own.
    Policy(Option<(&'a HttpRetry, Origin)>),
}

fn default_route(cluster: SmolStr, operation: SmolStr, origin: Origin) -> Route {
    Route {
        name: DEFAULT_ROUTE_NAME,
        route_match: matching::match_all(),
        action: Action::Route(Box::new(plain_action(cluster))),
        headers: HeaderOperations::default(),
        decorator: Some(operation),
        fault: None,
        cors: None,
        config: None,
        origin,
    }
}

/// An action that only names its cluster: no time limit, no retries.
pub fn plain_action(cluster: SmolStr) -> RouteAction {
    RouteAction {
        cluster: ClusterSpecifier::Cluster(cluster),
        cluster_not_found_response_code: 503,
        prefix_rewrite: None,
        regex_rewrite: None,
        host_rewrite: crate::envoy::config::HostRewrite::None,
        append_x_forwarded_host: false,
        timeout: Duration::ZERO,
        max_grpc_timeout: Some(Duration::ZERO),
        max_stream_duration: None,
        retry_policy: None,
        request_mirror_policies: Vec::new(),
        hash_policy: Vec::new(),
        rewrite_origin: None,
        timeout_origin: Origin::default("Istio's default: no timeout"),
    }
}

/// The operation of a service's default route, as trace decorators name it.
pub fn trace_operation(host: &str, port: u16) -> SmolStr {
    format_smolstr!("{host}:{port}/*")
}

/// The operation that the decorator of a VirtualService's route names. istiod: `route.go: GetRouteOperation`.
fn route_operation(condition: &RouteMatch, action: &Action, name: &str, port: u16) -> SmolStr {
    let path = match &condition.path {
        PathSpecifier::Prefix(prefix) => format_smolstr!("{prefix}*"),
        PathSpecifier::Path(path) => path.clone(),
        PathSpecifier::SafeRegex(regex) => regex.pattern().into(),
        PathSpecifier::PathSeparatedPrefix(_) => SmolStr::new_static("/*"),
    };
    if let Action::Route(action) = action
        && let ClusterSpecifier::Cluster(cluster) = &action.cluster
        && let Some(key) = SubsetKey::parse(cluster)
    {
        return format_smolstr!("{}:{}{path}", key.host, key.port);
    }
    format_smolstr!("{name}:{port}{path}")
}

fn http3_alt_svc(port: u16) -> HeaderValueOption {
    HeaderValueOption {
        name: SmolStr::new_static("alt-svc"),
        value: format_smolstr!("h3=\":{port}\"; ma=86400"),
        append_action: AppendAction::AppendIfExistsOrAdd,
        origin: Origin::default("Istio announces HTTP/3 beside TLS"),
    }
}

/// A proto duration as Envoy's; negative ones count as zero.
fn duration(duration: schema::Duration) -> std::time::Duration {
    duration.to_std()
}
