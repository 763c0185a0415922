//! The Gateway API's kinds. Source: kubernetes-sigs/gateway-api, bundle v1.6.

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::kubernetes::Selector;
use super::scalar::{Duration, Ignored, schema};

schema! {
    /// A class of gateways.
    GatewayClassSpec { controller_name: SmolStr, parameters_ref: Option<Ignored>, description: Option<Ignored> }
    /// A gateway.
    GatewaySpec {
        gateway_class_name: SmolStr, listeners: Vec<Listener>, addresses: Vec<GatewayAddress>, infrastructure: Option<Infrastructure>,
        allowed_listeners: Option<AllowedListeners>, tls: Option<GatewayTls>, default_scope: Option<Ignored>, backend_tls: Option<Ignored>,
    }
    /// Further listeners of a gateway.
    ListenerSetSpec { parent_ref: Option<ParentReference>, listeners: Vec<Listener> }
    /// Labels and annotations of what a gateway creates.
    Infrastructure { labels: IndexMap<SmolStr, SmolStr>, annotations: IndexMap<SmolStr, SmolStr>, parameters_ref: Option<Ignored> }
    /// Which ListenerSets may attach.
    AllowedListeners { namespaces: Option<RouteNamespaces> }
    /// TLS of all listeners.
    GatewayTls { backend: Option<Ignored>, frontend: Option<FrontendTls> }
    /// TLS towards clients.
    FrontendTls { default: Option<FrontendTlsConfig>, per_port: Vec<FrontendTlsPort> }
    /// TLS towards clients of one port.
    FrontendTlsPort { port: u32, tls: Option<FrontendTlsConfig> }
    /// Validation of client certificates.
    FrontendTlsConfig { validation: Option<FrontendValidation> }
    /// Certificates of authorities.
    FrontendValidation { ca_certificate_refs: Vec<ObjectReference>, mode: Option<SmolStr> }
    /// An address.
    GatewayAddress { #[serde(rename = "type")] type_: Option<SmolStr>, value: SmolStr }
    /// A listener.
    Listener {
        name: SmolStr, hostname: Option<SmolStr>, port: u32, protocol: SmolStr, tls: Option<ListenerTls>,
        allowed_routes: Option<AllowedRoutes>,
    }
    /// TLS of a listener.
    ListenerTls {
        mode: Option<SmolStr>, certificate_refs: Vec<ObjectReference>, options: IndexMap<SmolStr, SmolStr>,
        frontend_validation: Option<Ignored>,
    }
    /// Which routes may attach.
    AllowedRoutes { namespaces: Option<RouteNamespaces>, kinds: Vec<RouteGroupKind> }
    /// Namespaces of routes.
    RouteNamespaces { from: Option<SmolStr>, selector: Option<Selector> }
    /// A kind of routes.
    RouteGroupKind { group: Option<SmolStr>, kind: SmolStr }
    /// A reference to an object.
    ObjectReference { group: Option<SmolStr>, kind: Option<SmolStr>, name: SmolStr, namespace: Option<SmolStr> }
    /// A reference to a parent.
    ParentReference {
        group: Option<SmolStr>, kind: Option<SmolStr>, namespace: Option<SmolStr>, name: SmolStr, section_name: Option<SmolStr>,
        port: Option<u32>,
    }

    /// Routes for HTTP.
    HttpRouteSpec { parent_refs: Vec<ParentReference>, hostnames: Vec<SmolStr>, rules: Option<Vec<HttpRouteRule>>, use_default_gateways: Option<Ignored> }
    /// A rule.
    HttpRouteRule {
        name: Option<SmolStr>, matches: Option<Vec<HttpRouteMatch>>, filters: Vec<HttpRouteFilter>, backend_refs: Vec<HttpBackendRef>,
        timeouts: Option<HttpRouteTimeouts>, retry: Option<HttpRouteRetry>, session_persistence: Option<Ignored>,
    }
    /// The conditions of a rule.
    HttpRouteMatch {
        path: Option<HttpPathMatch>, headers: Vec<ValueMatch>, query_params: Vec<ValueMatch>, method: Option<SmolStr>,
    }
    /// A path.
    HttpPathMatch { #[serde(rename = "type")] type_: Option<SmolStr>, value: Option<SmolStr> }
    /// A header or query parameter.
    ValueMatch { #[serde(rename = "type")] type_: Option<SmolStr>, name: SmolStr, value: SmolStr }
    /// A filter.
    HttpRouteFilter {
        #[serde(rename = "type")] type_: SmolStr, request_header_modifier: Option<HeaderFilter>, response_header_modifier: Option<HeaderFilter>,
        request_mirror: Option<RequestMirrorFilter>, request_redirect: Option<RequestRedirectFilter>, url_rewrite: Option<UrlRewriteFilter>,
        cors: Option<CorsFilter>, extension_ref: Option<Ignored>, external_auth: Option<Ignored>,
    }
    /// Header operations.
    HeaderFilter { set: Vec<HeaderValue>, add: Vec<HeaderValue>, remove: Vec<SmolStr> }
    /// A header and its value.
    HeaderValue { name: SmolStr, value: SmolStr }
    /// A mirror.
    RequestMirrorFilter { backend_ref: Option<BackendRef>, percent: Option<i32>, fraction: Option<Fraction> }
    /// A fraction.
    Fraction { numerator: i32, denominator: Option<i32> }
    /// A redirect.
    RequestRedirectFilter {
        scheme: Option<SmolStr>, hostname: Option<SmolStr>, path: Option<PathModifier>, port: Option<u32>, status_code: Option<u32>,
    }
    /// A rewrite.
    UrlRewriteFilter { hostname: Option<SmolStr>, path: Option<PathModifier> }
    /// A change of the path.
    PathModifier { #[serde(rename = "type")] type_: SmolStr, replace_full_path: Option<SmolStr>, replace_prefix_match: Option<SmolStr> }
    /// A CORS policy.
    CorsFilter {
        allow_origins: Vec<SmolStr>, allow_credentials: Option<bool>, allow_methods: Vec<SmolStr>, allow_headers: Vec<SmolStr>,
        expose_headers: Vec<SmolStr>, max_age: Option<i32>,
    }
    /// A backend of an HTTP rule.
    HttpBackendRef {
        group: Option<SmolStr>, kind: Option<SmolStr>, name: SmolStr, namespace: Option<SmolStr>, port: Option<u32>,
        weight: Option<i32>, filters: Vec<HttpRouteFilter>,
    }
    /// A backend.
    BackendRef {
        group: Option<SmolStr>, kind: Option<SmolStr>, name: SmolStr, namespace: Option<SmolStr>, port: Option<u32>,
        weight: Option<i32>,
    }
    /// Timeouts.
    HttpRouteTimeouts { request: Option<Duration>, backend_request: Option<Duration> }
    /// Retries.
    HttpRouteRetry { codes: Vec<u32>, attempts: Option<i32>, backoff: Option<Duration> }

    /// Routes for gRPC.
    GrpcRouteSpec { parent_refs: Vec<ParentReference>, hostnames: Vec<SmolStr>, rules: Vec<GrpcRouteRule>, use_default_gateways: Option<Ignored> }
    /// A rule.
    GrpcRouteRule {
        name: Option<SmolStr>, matches: Vec<GrpcRouteMatch>, filters: Vec<HttpRouteFilter>, backend_refs: Vec<HttpBackendRef>,
        session_persistence: Option<Ignored>,
    }
    /// The conditions of a rule.
    GrpcRouteMatch { method: Option<GrpcMethodMatch>, headers: Vec<ValueMatch> }
    /// A gRPC service and method.
    GrpcMethodMatch { #[serde(rename = "type")] type_: Option<SmolStr>, service: Option<SmolStr>, method: Option<SmolStr> }

    /// Routes for TLS.
    TlsRouteSpec { parent_refs: Vec<ParentReference>, hostnames: Vec<SmolStr>, rules: Vec<L4RouteRule>, use_default_gateways: Option<Ignored> }
    /// Routes for TCP; also UDP.
    TcpRouteSpec { parent_refs: Vec<ParentReference>, rules: Vec<L4RouteRule>, use_default_gateways: Option<Ignored> }
    /// A rule.
    L4RouteRule { name: Option<SmolStr>, backend_refs: Vec<BackendRef> }

    /// What other namespaces may refer to.
    ReferenceGrantSpec { from: Vec<ReferenceGrantFrom>, to: Vec<ReferenceGrantTo> }
    /// Who may refer.
    ReferenceGrantFrom { group: SmolStr, kind: SmolStr, namespace: SmolStr }
    /// To what.
    ReferenceGrantTo { group: SmolStr, kind: SmolStr, name: Option<SmolStr> }

    /// TLS towards backends.
    BackendTlsPolicySpec { target_refs: Vec<LocalPolicyTarget>, validation: Option<BackendTlsValidation>, options: IndexMap<SmolStr, SmolStr> }
    /// A target.
    LocalPolicyTarget { group: SmolStr, kind: SmolStr, name: SmolStr, section_name: Option<SmolStr> }
    /// How a backend's certificate is checked.
    BackendTlsValidation {
        ca_certificate_refs: Vec<ObjectReference>, well_known_ca_certificates: Option<SmolStr>, hostname: SmolStr,
        subject_alt_names: Vec<SubjectAltName>,
    }
    /// A subject alternative name.
    SubjectAltName { #[serde(rename = "type")] type_: SmolStr, hostname: SmolStr, uri: SmolStr }
}
