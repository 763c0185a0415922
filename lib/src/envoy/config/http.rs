//! What does an HTTP connection manager do to each request?

use std::sync::Arc;
use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use super::route::RouteConfiguration;
use crate::origin::Origin;

/// Where routes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteSpecifier {
    /// By name, through [`Xds`](crate::envoy::Xds).
    Rds(SmolStr),
    /// In place (sidecar inbound).
    Inline(Arc<RouteConfiguration>),
}

/// What happens to escaped slashes in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EscapedSlashes {
    /// They stay.
    #[default]
    KeepUnchanged,
    /// They are decoded before routing.
    UnescapeAndForward,
    /// The client is redirected to the decoded path.
    UnescapeAndRedirect,
    /// 400.
    RejectRequest,
}

/// What happens to headers with an underscore in their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeadersWithUnderscores {
    /// They stay.
    #[default]
    Allow,
    /// The request is refused.
    RejectRequest,
    /// They are dropped as they are read.
    DropHeader,
}

/// What happens to `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ForwardClientCertDetails {
    /// Removed.
    #[default]
    Sanitize,
    /// Kept on mutual TLS.
    ForwardOnly,
    /// Appended to on mutual TLS.
    AppendForward,
    /// Replaced on mutual TLS.
    SanitizeSet,
    /// Always kept.
    AlwaysForwardOnly,
}

/// The parts of the client's certificate that go into `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SetCurrentClientCertDetails {
    /// `Subject=`.
    pub subject: bool,
    /// `Cert=`.
    pub cert: bool,
    /// `Chain=`.
    pub chain: bool,
    /// `DNS=`.
    pub dns: bool,
    /// `URI=`.
    pub uri: bool,
}

/// What happens to the `server` response header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServerHeaderTransformation {
    /// Always this proxy's name.
    #[default]
    Overwrite,
    /// This proxy's name if the upstream sent none.
    AppendIfAbsent,
    /// As the upstream sent it.
    PassThrough,
}

/// How requests are traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Percentage sampled at random, in hundredths of a percent.
    pub random_sampling: u32,
    /// The provider; `None` writes no trace headers.
    pub provider: Option<TracingProvider>,
    /// Whether it makes a span of its own for the upstream, as gateways do.
    pub spawn_upstream_span: bool,
    /// Whether context is not propagated to the upstream.
    pub disable_context_propagation: bool,
    /// Who made it.
    pub origin: Origin,
}

/// The format of trace headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TracingProvider {
    /// `x-b3-*`.
    Zipkin,
    /// `x-b3-*` and `traceparent`.
    ZipkinWithW3c,
    /// `traceparent` and `tracestate`.
    OpenTelemetry,
    /// `x-datadog-*`, `traceparent` and `tracestate`.
    Datadog,
    /// `sw8`, for sampled requests.
    SkyWalking,
    /// Something whose headers are not modelled.
    Other,
}

/// A patch of an EnvoyFilter, as far as it is modelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPatch {
    /// The EnvoyFilter, `namespace/name`.
    pub name: SmolStr,
    /// Whether it also has settings that no request's fate depends on, which are left out.
    pub partly: bool,
    /// The patch.
    pub origin: Origin,
}

impl AppliedPatch {
    /// Why nobody knows what becomes of what is sent to a cluster that the patch changes.
    pub(crate) fn unknown_cluster(&self) -> SmolStr {
        format_smolstr!("what EnvoyFilter {} changes in the cluster is not modelled", self.name)
    }
}

/// An HTTP connection manager (`HttpConnectionManager`), with the fields that istiod varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConnectionManager {
    /// The statistics prefix, as istiod writes it.
    pub stat_prefix: SmolStr,
    /// Where its routes are.
    pub route_specifier: RouteSpecifier,
    /// Whether the peer's address is the client's (gateways).
    pub use_remote_address: bool,
    /// How many proxies in front of this one are trusted.
    pub xff_num_trusted_hops: u32,
    /// Whether the peer's address is not appended to `x-forwarded-for` where it is the client's.
    pub skip_xff_append: bool,
    /// Whether the internal address ranges of meshNetworks are set; unset, no address is internal.
    pub internal_addresses: Vec<ipnet::IpNet>,
    /// What happens to `x-forwarded-client-cert`.
    pub forward_client_cert_details: ForwardClientCertDetails,
    /// Parts written into it.
    pub set_current_client_cert_details: SetCurrentClientCertDetails,
    /// The name in the `server` header; empty means Envoy's own `envoy`.
    pub server_name: SmolStr,
    /// What happens to `server`.
    pub server_header_transformation: ServerHeaderTransformation,
    /// Whether an `x-request-id` is made.
    pub generate_request_id: bool,
    /// Whether an `x-request-id` from outside is kept at the edge.
    pub preserve_external_request_id: bool,
    /// Whether responses bring the `x-request-id` of their request.
    pub always_set_request_id_in_response: bool,
    /// The largest head of a request that is read, in KiB.
    pub max_request_headers_kb: u32,
    /// Whether paths are normalised by RFC 3986.
    pub normalize_path: bool,
    /// Whether `//` becomes `/`.
    pub merge_slashes: bool,
    /// What happens to `%2F` and `%5C`.
    pub path_with_escaped_slashes_action: EscapedSlashes,
    /// Whether `x-forwarded-port` is appended.
    pub append_x_forwarded_port: bool,
    /// Tracing; `None` when it is off.
    pub tracing: Option<Tracing>,
    /// Whether the router leaves its `x-envoy-*` headers out.
    pub suppress_envoy_headers: bool,
    /// Whether HTTP/1.0 is accepted.
    pub accept_http_10: bool,
    /// What happens to headers with an underscore in their names.
    pub headers_with_underscores_action: HeadersWithUnderscores,
    /// Whether letter case of header names is preserved.
    pub preserve_header_case: bool,
    /// Upgrade types that are accepted, in lower case.
    pub upgrade_types: Vec<SmolStr>,
    /// The HTTP filters, in request order; the router is implied at the end.
    pub http_filters: Vec<HttpFilter>,
    /// Limits of its clients' connections that decide nothing about a request; `None` where there are none of its own.
    pub limits: Option<Arc<ConnectionLimits>>,
    /// The patches that changed it.
    pub patches: Vec<AppliedPatch>,
    /// Who made it.
    pub origin: Origin,
}

/// Limits of the connections of a connection manager's clients: they are kept to be exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How long a connection may be unused.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live.
    pub max_connection_duration: Option<Duration>,
    /// How long a request with its answer may take.
    pub max_stream_duration: Option<Duration>,
    /// How long nothing may happen to a request.
    pub stream_idle_timeout: Option<Duration>,
    /// How long a request may take to arrive.
    pub request_timeout: Option<Duration>,
    /// How long its headers may take to arrive.
    pub request_headers_timeout: Option<Duration>,
    /// How long a connection is left to its requests before it is closed.
    pub drain_timeout: Option<Duration>,
    /// How many requests there may be on a connection of HTTP/2.
    pub max_concurrent_streams: Option<u32>,
    /// How many bytes of a request may be on their way (HTTP/2).
    pub initial_stream_window_size: Option<u32>,
    /// How many bytes of a connection may be on their way (HTTP/2).
    pub initial_connection_window_size: Option<u32>,
    /// How many bytes of a connection are kept; of gateways' listeners only.
    pub per_connection_buffer_limit_bytes: Option<u32>,
}

impl HttpConnectionManager {
    /// The largest head of a request that Envoy reads unless it is told otherwise, in KiB.
    pub const MAX_REQUEST_HEADERS_KB: u32 = 60;
}

/// An HTTP filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpFilter {
    /// Fault injection, configured per route.
    Fault,
    /// CORS, configured per route.
    Cors,
    /// Dynamic forward proxy.
    DynamicForwardProxy(Option<SmolStr>),
    /// gRPC statistics and the like: no visible effect.
    NoEffect(SmolStr),
    /// Browsers' gRPC (gRPC-Web) made to gRPC, and back.
    GrpcWeb,
    /// Istio's metadata exchange.
    PeerMetadata,
    /// Role-based access control, by Istio's policies.
    Rbac(Arc<HttpRbac>),
    /// Token validation.
    JwtAuthn(Arc<JwtAuthentication>),
    /// A filter whose effect is not modelled (external authorization, Wasm, Lua, rate limits): what lies behind it is unknown.
    Opaque {
        /// The filter's name.
        name: SmolStr,
        /// Who made it.
        origin: Origin,
    },
}

/// An HTTP RBAC filter; its policies are translated from AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRbac {
    /// Whether a match denies (`DENY`) or a miss does (`ALLOW`).
    pub action: RbacAction,
    /// The policies, sorted by name as Envoy does; `None` where none is enforced.
    pub policies: Option<Vec<RbacPolicy>>,
    /// Policies that are only tried out: they decide nothing.
    pub shadow: Option<Vec<RbacPolicy>>,
}

/// A network RBAC filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRbac {
    /// Whether a match denies or a miss does.
    pub action: RbacAction,
    /// The policies, sorted by name; `None` where none is enforced.
    pub policies: Option<Vec<RbacPolicy>>,
    /// Policies that are only tried out: they decide nothing.
    pub shadow: Option<Vec<RbacPolicy>>,
}

/// What an RBAC filter does with a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RbacAction {
    /// Requests that match no policy are refused.
    Allow,
    /// Requests that match a policy are refused.
    Deny,
    /// Matches are only logged.
    Log,
}

/// One policy of an RBAC filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RbacPolicy {
    /// Istio's name, `ns[NS]-policy[NAME]-rule[I]`.
    pub name: SmolStr,
    /// Conditions on the request, as an expression tree.
    pub permission: RbacExpression,
    /// Conditions on the caller.
    pub principal: RbacExpression,
    /// Who made it.
    pub origin: Origin,
}

/// A condition of an RBAC policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RbacExpression {
    /// Always true.
    Any,
    /// All have to hold.
    And(Vec<RbacExpression>),
    /// One has to hold.
    Or(Vec<RbacExpression>),
    /// It must not hold.
    Not(Box<RbacExpression>),
    /// A header.
    Header(super::matching::HeaderMatcher),
    /// The path without query, normalised.
    UrlPath(super::matching::StringMatcher),
    /// The path, by URI template segments (`{*}` one segment, `{**}` any number).
    UriTemplate(SmolStr),
    /// The port the client connected to.
    DestinationPort(u16),
    /// The address the client connected to.
    DestinationIp(ipnet::IpNet),
    /// The peer's address (`direct_remote_ip`).
    DirectRemoteIp(ipnet::IpNet),
    /// The client's address as `x-forwarded-for` and trusted proxies give it (`remote_ip`).
    RemoteIp(ipnet::IpNet),
    /// The SNI.
    RequestedServerName(super::matching::StringMatcher),
    /// The peer's authenticated principal; `None` asks for any.
    Authenticated(Option<super::matching::StringMatcher>),
    /// Metadata, such as `request.auth.claims`.
    Metadata(super::matching::MetadataMatcher),
}

/// Token validation, translated from RequestAuthentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtAuthentication {
    /// The providers.
    pub providers: Vec<JwtProvider>,
}

/// One issuer and where its tokens and keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtProvider {
    /// Istio's name, `origins-0`.
    pub name: SmolStr,
    /// The issuer.
    pub issuer: SmolStr,
    /// Accepted audiences; empty accepts any.
    pub audiences: Vec<SmolStr>,
    /// Inline key set; `None` when keys are fetched at run time.
    pub jwks: Option<SmolStr>,
    /// Headers and their prefixes that carry tokens.
    pub from_headers: Vec<(SmolStr, SmolStr)>,
    /// Query parameters that carry tokens.
    pub from_params: Vec<SmolStr>,
    /// Cookies that carry tokens.
    pub from_cookies: Vec<SmolStr>,
    /// Header to put the payload into.
    pub forward_payload_header: SmolStr,
    /// Whether the token is passed on.
    pub forward: bool,
    /// Claims copied to headers: header, claim.
    pub claim_to_headers: Vec<(SmolStr, SmolStr)>,
    /// Who made it.
    pub origin: Origin,
}
