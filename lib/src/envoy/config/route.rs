//! Which route takes a request, and what does it do?

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::matching::{
    HeaderMatcher, MetadataMatcher, QueryParameterMatcher, RegexRewrite, SafeRegex, StringMatcher,
};
use super::metadata::ConfigInfo;
use crate::origin::Origin;

/// A route configuration (`config.route.v3.RouteConfiguration`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfiguration {
    /// Istio's name, such as `80` or `http.8080`.
    pub name: SmolStr,
    /// The virtual hosts, in istiod's order.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Whether a port in the Host header is ignored when a virtual host is chosen.
    pub ignore_port_in_host_matching: bool,
    /// Limit of direct response bodies in bytes; `None` is Envoy's 4096.
    pub max_direct_response_body_size_bytes: Option<u32>,
    /// Header operations for all routes.
    pub headers: HeaderOperations,
    /// What Envoy refuses of it, if it does: requests are then routed by what the proxy was told before.
    pub refused: Option<Arc<Refusal>>,
    /// Who made it.
    pub origin: Origin,
}

/// Something that Envoy refuses, with all that it is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: SmolStr,
    /// Where that is written.
    pub origin: Origin,
}

/// When a virtual host insists on TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RequireTls {
    /// Never.
    #[default]
    None,
    /// Plaintext requests of clients outside are redirected to https.
    ExternalOnly,
    /// Plaintext requests are redirected to https.
    All,
}

/// A virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualHost {
    /// Istio's name, such as `httpbin.org:80`.
    pub name: SmolStr,
    /// Domains, in istiod's order.
    pub domains: Vec<SmolStr>,
    /// Routes, in order; the first that matches decides.
    pub routes: Vec<Arc<Route>>,
    /// Whether plaintext is redirected.
    pub require_tls: RequireTls,
    /// Whether `x-envoy-attempt-count` is set on requests.
    pub include_request_attempt_count: bool,
    /// Header operations for all its routes.
    pub headers: HeaderOperations,
    /// Who made it.
    pub origin: Origin,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Istio's name for it, such as `default`, `allow_any` or a VirtualService's `http.name`; often empty.
    pub name: SmolStr,
    /// Its conditions.
    pub route_match: RouteMatch,
    /// What it does.
    pub action: Action,
    /// Header operations of the route itself.
    pub headers: HeaderOperations,
    /// `x-envoy-decorator-operation`; `None` when the route has no decorator.
    pub decorator: Option<SmolStr>,
    /// Fault injection.
    pub fault: Option<Fault>,
    /// CORS.
    pub cors: Option<CorsPolicy>,
    /// The VirtualService that it was made of, under the name that istiod gives it.
    pub config: Option<ConfigInfo>,
    /// Who made it.
    pub origin: Origin,
}

/// How a route compares the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSpecifier {
    /// Text at its beginning.
    Prefix(SmolStr),
    /// The whole path without query.
    Path(SmolStr),
    /// The whole path without query, by regular expression.
    SafeRegex(SafeRegex),
    /// Whole segments at its beginning, without a `/` at its end.
    PathSeparatedPrefix(SmolStr),
}

/// The conditions of a route; all have to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    /// The path.
    pub path: PathSpecifier,
    /// Whether letter case counts in `path` (never with a regular expression).
    pub case_sensitive: bool,
    /// Headers.
    pub headers: Vec<HeaderMatcher>,
    /// Query parameters.
    pub query_parameters: Vec<QueryParameterMatcher>,
    /// Dynamic metadata.
    pub dynamic_metadata: Vec<MetadataMatcher>,
    /// Where each condition is written, in the order path, headers, query parameters, metadata; may be shorter.
    pub origins: Vec<Origin>,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends the request to a cluster.
    Route(Box<RouteAction>),
    /// Answers with a redirect.
    Redirect(Box<RedirectAction>),
    /// Answers itself.
    DirectResponse(DirectResponseAction),
    /// Nothing: Envoy would refuse such a route.
    None,
}

/// The clusters of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterSpecifier {
    /// One cluster.
    Cluster(SmolStr),
    /// Several, chosen at random by weight.
    WeightedClusters(Vec<WeightedCluster>),
    /// The cluster that a request header names.
    ClusterHeader(SmolStr),
}

/// One of several clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedCluster {
    /// The cluster.
    pub name: SmolStr,
    /// Its weight; the chance is its part of the sum.
    pub weight: u32,
    /// Header operations of this destination.
    pub headers: HeaderOperations,
    /// Host rewrite of this destination.
    pub host_rewrite_literal: Option<SmolStr>,
    /// Who made it.
    pub origin: Origin,
}

/// How long a stream may last as a whole (`RouteAction.MaxStreamDuration`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxStreamDuration {
    /// The limit of any stream; zero is none.
    pub max_stream_duration: Duration,
    /// The longest limit that a client may ask for by `grpc-timeout`; zero is any.
    pub grpc_timeout_header_max: Duration,
}

/// Sends the request on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAction {
    /// Where to.
    pub cluster: ClusterSpecifier,
    /// Status when the cluster does not exist: 503, or 500 for Gateway API routes.
    pub cluster_not_found_response_code: u16,
    /// Replaces the matched part of the path.
    pub prefix_rewrite: Option<SmolStr>,
    /// Replaces what a regular expression finds in the path.
    pub regex_rewrite: Option<RegexRewrite>,
    /// Replaces the Host header.
    pub host_rewrite: HostRewrite,
    /// Whether the replaced host is appended to `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
    /// Time limit; zero is none.
    pub timeout: Duration,
    /// Limit taken from `grpc-timeout`; `None` when not set.
    pub max_grpc_timeout: Option<Duration>,
    /// Limits of the whole stream; `None` when not set.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// Retries; `None` when there are none.
    pub retry_policy: Option<RetryPolicy>,
    /// Copies of the request.
    pub request_mirror_policies: Vec<RequestMirrorPolicy>,
    /// Consistent hashing.
    pub hash_policy: Vec<HashPolicy>,
    /// Where `prefix_rewrite`, `regex_rewrite` or `host_rewrite` is written.
    pub rewrite_origin: Option<Origin>,
    /// Where the timeout is written, or the default that gives it.
    pub timeout_origin: Origin,
}

/// A rewrite of the Host header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// None.
    #[default]
    None,
    /// To this text.
    Literal(SmolStr),
    /// To the host name of the chosen endpoint.
    Auto,
    /// To the value of a request header.
    Header(SmolStr),
    /// By a regular expression over the path.
    PathRegex(RegexRewrite),
}

/// A copy of the request to another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMirrorPolicy {
    /// The cluster.
    pub cluster: SmolStr,
    /// Part of requests copied, in millionths.
    pub runtime_fraction: u32,
    /// Whether `-shadow` is not appended to the host.
    pub disable_shadow_host_suffix_append: bool,
    /// Who made it.
    pub origin: Origin,
}

/// A retry policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Conditions, comma separated as istiod writes them.
    pub retry_on: SmolStr,
    /// How many retries at most.
    pub num_retries: u32,
    /// Limit for each try.
    pub per_try_timeout: Option<Duration>,
    /// Back-off before the first retry; `None` is Envoy's 25 ms.
    pub base_interval: Option<Duration>,
    /// Status codes that are retried.
    pub retriable_status_codes: Vec<u16>,
    /// Whether hosts that were tried are avoided.
    pub previous_hosts: bool,
    /// Whether tries after the first go to the endpoints of another priority, where there is one.
    pub previous_priorities: bool,
    /// How often another host is looked for.
    pub host_selection_retry_max_attempts: u32,
    /// Who made it.
    pub origin: Origin,
}

/// What is hashed to choose an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashPolicy {
    /// A header.
    Header(SmolStr),
    /// A cookie; made by the proxy when absent and a lifetime is given.
    Cookie {
        /// Its name.
        name: SmolStr,
        /// Its path.
        path: SmolStr,
        /// Its lifetime; zero makes a session cookie, `None` makes none.
        ttl: Option<Duration>,
    },
    /// The client's address.
    SourceIp,
    /// A query parameter.
    QueryParameter(SmolStr),
}

/// Answers with a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectAction {
    /// New host, maybe with a port.
    pub host_redirect: Option<SmolStr>,
    /// New port; `None` keeps it.
    pub port_redirect: Option<u16>,
    /// New scheme.
    pub scheme_redirect: Option<SmolStr>,
    /// Whether only the scheme changes to https.
    pub https_redirect: bool,
    /// New path.
    pub path: PathRedirect,
    /// Whether the query is dropped.
    pub strip_query: bool,
    /// 301, 302, 303, 307 or 308.
    pub response_code: u16,
    /// Where it is written.
    pub origin: Origin,
}

/// The path of a redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRedirect {
    /// As requested.
    #[default]
    Keep,
    /// Another path.
    Path(SmolStr),
    /// The matched prefix replaced.
    PrefixRewrite(SmolStr),
    /// By regular expression.
    RegexRewrite(RegexRewrite),
}

/// Answers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponseAction {
    /// Status.
    pub status: u16,
    /// Body; may be empty.
    pub body: SmolStr,
    /// Where it is written.
    pub origin: Origin,
}

/// Whether an added header replaces, joins or yields to one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendAction {
    /// Adds a line.
    AppendIfExistsOrAdd,
    /// Adds only if there is none.
    AddIfAbsent,
    /// Replaces all lines.
    OverwriteIfExistsOrAdd,
    /// Replaces only if there is one.
    OverwriteIfExists,
}

/// A header that is added or set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValueOption {
    /// The name, as written.
    pub name: SmolStr,
    /// The value, with `%…%` formatters.
    pub value: SmolStr,
    /// How.
    pub append_action: AppendAction,
    /// Where it is written.
    pub origin: Origin,
}

/// A header that is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRemoval {
    /// The name.
    pub name: SmolStr,
    /// Where it is written.
    pub origin: Origin,
}

/// Header operations of one level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOperations {
    /// Added to or set on requests, in order.
    pub request_headers_to_add: Vec<HeaderValueOption>,
    /// Removed from requests.
    pub request_headers_to_remove: Vec<HeaderRemoval>,
    /// Added to or set on responses, in order.
    pub response_headers_to_add: Vec<HeaderValueOption>,
    /// Removed from responses.
    pub response_headers_to_remove: Vec<HeaderRemoval>,
}

impl HeaderOperations {
    /// Whether it changes responses.
    pub fn has_response(&self) -> bool {
        !self.response_headers_to_add.is_empty() || !self.response_headers_to_remove.is_empty()
    }
}

/// Fault injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A delay and the part of requests it hits, in millionths.
    pub delay: Option<(Duration, u32, Origin)>,
    /// An abort and the part of requests it hits, in millionths.
    pub abort: Option<(FaultAbort, u32, Origin)>,
}

/// How a request is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultAbort {
    /// With an HTTP status.
    HttpStatus(u16),
    /// With a gRPC status.
    GrpcStatus(u32),
}

/// A CORS policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    /// Allowed origins.
    pub allow_origin_string_match: Vec<StringMatcher>,
    /// `access-control-allow-methods`; empty is none.
    pub allow_methods: SmolStr,
    /// `access-control-allow-headers`; empty is none.
    pub allow_headers: SmolStr,
    /// `access-control-expose-headers`; empty is none.
    pub expose_headers: SmolStr,
    /// `access-control-max-age`; empty is none.
    pub max_age: SmolStr,
    /// `access-control-allow-credentials: true`.
    pub allow_credentials: Option<bool>,
    /// Whether preflights of other origins are passed on.
    pub forward_not_matching_preflights: bool,
    /// Where it is written.
    pub origin: Origin,
}
