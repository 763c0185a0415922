//! VirtualService (networking/v1alpha3/virtual_service.proto).

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::{Labels, Percent, PortSelector, StringMatch};
use crate::manifest::schema::scalar::{Duration, oneof, proto_enum, schema};

schema! {
    /// Routes for hosts.
    VirtualService {
        hosts: Vec<SmolStr>, gateways: Vec<SmolStr>, http: Vec<HttpRoute>, tls: Vec<TlsRoute>, tcp: Vec<TcpRoute>,
        export_to: Vec<SmolStr>,
    }
    /// An HTTP rule.
    HttpRoute {
        name: SmolStr, #[serde(rename = "match")] match_: Vec<HttpMatchRequest>, route: Vec<HttpRouteDestination>,
        redirect: Option<HttpRedirect>, direct_response: Option<HttpDirectResponse>, delegate: Option<Delegate>,
        rewrite: Option<HttpRewrite>, timeout: Option<Duration>, retries: Option<HttpRetry>,
        fault: Option<HttpFaultInjection>, mirror: Option<Destination>, mirrors: Vec<HttpMirrorPolicy>,
        #[serde(alias = "mirror_percent")] mirror_percent: Option<u32>, mirror_percentage: Option<Percent>,
        cors_policy: Option<CorsPolicy>, headers: Option<Headers>,
    }
    /// The conditions of an HTTP rule.
    HttpMatchRequest {
        name: SmolStr, uri: Option<StringMatch>, scheme: Option<StringMatch>, method: Option<StringMatch>,
        authority: Option<StringMatch>, headers: IndexMap<SmolStr, Option<StringMatch>>, port: u32, source_labels: Labels,
        gateways: Vec<SmolStr>, query_params: IndexMap<SmolStr, Option<StringMatch>>, ignore_uri_case: bool,
        without_headers: IndexMap<SmolStr, Option<StringMatch>>, source_namespace: SmolStr, stat_prefix: SmolStr,
    }
    /// A destination of an HTTP rule and its weight.
    HttpRouteDestination { destination: Option<Destination>, weight: i32, headers: Option<Headers> }
    /// A service, one of its subsets, and a port.
    Destination { host: SmolStr, subset: SmolStr, port: Option<PortSelector> }
    /// Another VirtualService that continues a rule.
    Delegate { name: SmolStr, namespace: SmolStr }
    /// Header operations for requests and responses.
    Headers { request: Option<HeaderOperations>, response: Option<HeaderOperations> }
    /// Header operations.
    HeaderOperations { set: IndexMap<SmolStr, SmolStr>, add: IndexMap<SmolStr, SmolStr>, remove: Vec<SmolStr> }
    /// A TLS rule.
    TlsRoute { #[serde(rename = "match")] match_: Vec<TlsMatchAttributes>, route: Vec<RouteDestination> }
    /// The conditions of a TLS rule.
    TlsMatchAttributes {
        sni_hosts: Vec<SmolStr>, destination_subnets: Vec<SmolStr>, port: u32, source_labels: Labels,
        gateways: Vec<SmolStr>, source_namespace: SmolStr,
    }
    /// A TCP rule.
    TcpRoute { #[serde(rename = "match")] match_: Vec<L4MatchAttributes>, route: Vec<RouteDestination> }
    /// The conditions of a TCP rule.
    L4MatchAttributes {
        destination_subnets: Vec<SmolStr>, port: u32, source_labels: Labels, gateways: Vec<SmolStr>,
        source_namespace: SmolStr, source_subnet: SmolStr,
    }
    /// A destination of a TCP or TLS rule and its weight.
    RouteDestination { destination: Option<Destination>, weight: i32 }
    /// A redirect.
    HttpRedirect {
        uri: SmolStr, authority: SmolStr, port: Option<u32>, derive_port: Option<RedirectPortSelection>,
        scheme: SmolStr, redirect_code: u32, prefix_rewrite: SmolStr,
    }
    /// An answer by the proxy.
    HttpDirectResponse { status: u32, body: Option<HttpBody> }
    /// Rewrites of path and host.
    HttpRewrite { uri: SmolStr, authority: SmolStr, uri_regex_rewrite: Option<RegexRewrite> }
    /// A substitution.
    RegexRewrite { #[serde(rename = "match")] match_: SmolStr, rewrite: SmolStr }
    /// Retries.
    HttpRetry {
        attempts: i32, per_try_timeout: Option<Duration>, retry_on: SmolStr, retry_remote_localities: Option<bool>,
        retry_ignore_previous_hosts: Option<bool>, backoff: Option<Duration>,
    }
    /// A CORS policy.
    CorsPolicy {
        allow_origin: Vec<SmolStr>, allow_origins: Vec<StringMatch>, allow_methods: Vec<SmolStr>,
        allow_headers: Vec<SmolStr>, expose_headers: Vec<SmolStr>, max_age: Option<Duration>,
        allow_credentials: Option<bool>, unmatched_preflights: UnmatchedPreflights,
    }
    /// Faults.
    HttpFaultInjection { delay: Option<FaultDelay>, abort: Option<FaultAbort> }
    /// A delay.
    FaultDelay {
        percent: i32, fixed_delay: Option<Duration>, exponential_delay: Option<Duration>, percentage: Option<Percent>,
    }
    /// An abort.
    FaultAbort {
        http_status: Option<i32>, grpc_status: Option<SmolStr>, http2_error: Option<SmolStr>, percentage: Option<Percent>,
    }
    /// A mirror.
    HttpMirrorPolicy { destination: Option<Destination>, percentage: Option<Percent> }
}

oneof! {
    /// The body of a direct response.
    HttpBody { String(SmolStr) = "string", Bytes(SmolStr) = "bytes" }
}

proto_enum! {
    /// Where a redirect takes its port from.
    RedirectPortSelection { #[default] FromProtocolDefault = 0 "FROM_PROTOCOL_DEFAULT", FromRequestPort = 1 "FROM_REQUEST_PORT" }
}

proto_enum! {
    /// What happens to preflights of origins that are not allowed.
    UnmatchedPreflights { #[default] Unspecified = 0 "UNSPECIFIED", Forward = 1 "FORWARD", Ignore = 2 "IGNORE" }
}
