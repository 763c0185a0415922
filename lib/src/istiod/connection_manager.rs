//! How does a proxy treat the HTTP requests of a listener?
//!
//! Shared by sidecars and gateways. Source of every switch: MeshConfig and the proxy's own configuration.
//! istiod: `listener_builder.go: buildHTTPConnectionManager`; `proxy_headers.go: GetProxyHeadersFromProxyConfig`.

use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

use super::connection_settings::Sanitation;
use crate::envoy::config::{
    ConnectionLimits, ForwardClientCertDetails, HeadersWithUnderscores, HttpConnectionManager, HttpFilter,
    RouteSpecifier, ServerHeaderTransformation, SetCurrentClientCertDetails, Tracing,
};
use crate::manifest::schema::mesh_config::{
    self, HeadersWithUnderscoresAction, MetadataExchangeMode, ProxyConfig,
};
use crate::origin::Origin;
use crate::protocol::Protocol;

/// Which listeners a connection manager belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerClass {
    /// Traffic to the sidecar's workload.
    SidecarInbound,
    /// Traffic from it.
    SidecarOutbound,
    /// A gateway's.
    Gateway,
}

/// Something that a proxy's listeners of a class share, made once.
#[derive(Debug)]
pub(super) struct PerClass<T> {
    inbound: OnceLock<T>,
    outbound: OnceLock<T>,
    gateway: OnceLock<T>,
}

impl<T> Default for PerClass<T> {
    fn default() -> Self {
        Self { inbound: OnceLock::new(), outbound: OnceLock::new(), gateway: OnceLock::new() }
    }
}

impl<T> PerClass<T> {
    /// What the listeners of `class` share.
    pub(super) fn get_or_init(&self, class: ListenerClass, make: impl FnOnce() -> T) -> &T {
        let known = match class {
            ListenerClass::SidecarInbound => &self.inbound,
            ListenerClass::SidecarOutbound => &self.outbound,
            ListenerClass::Gateway => &self.gateway,
        };
        known.get_or_init(make)
    }
}

/// The headers that a proxy sets, as its configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeaders {
    /// The name in the `server` header; empty means Envoy's own.
    pub server_name: SmolStr,
    /// What happens to `server`.
    pub server_header_transformation: ServerHeaderTransformation,
    /// What happens to `x-forwarded-client-cert`.
    pub forwarded_client_cert: ForwardClientCertDetails,
    /// Parts written into it, where the configuration lists them.
    pub set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
    /// Whether `x-envoy-attempt-count` is set.
    pub include_request_attempt_count: bool,
    /// Whether `x-request-id` is made.
    pub generate_request_id: bool,
    /// Whether the `x-envoy-*` headers are left out.
    pub suppress_debug_headers: bool,
    /// Whether Istio's own headers stay inside the mesh.
    pub skip_istio_mx_headers: bool,
    /// Whether a rewritten host is appended to `x-forwarded-host`.
    pub x_forwarded_host: bool,
    /// Whether `x-forwarded-port` is appended.
    pub x_forwarded_port: bool,
    /// Whether letter case of HTTP/1 header names is preserved.
    pub preserve_http1_header_case: bool,
}

impl ProxyHeaders {
    /// The headers for listeners of a class.
    pub fn new(config: Option<&ProxyConfig>, class: ListenerClass) -> Self {
        // Outbound listeners answer as `envoy`, all others as `istio-envoy`.
        let server_name = if class == ListenerClass::SidecarOutbound { "" } else { "istio-envoy" };
        let mut out = Self {
            server_name: SmolStr::new_static(server_name),
            server_header_transformation: ServerHeaderTransformation::Overwrite,
            forwarded_client_cert: ForwardClientCertDetails::AppendForward,
            set_current_client_cert_details: None,
            include_request_attempt_count: true,
            generate_request_id: true,
            suppress_debug_headers: false,
            skip_istio_mx_headers: false,
            x_forwarded_host: false,
            x_forwarded_port: false,
            preserve_http1_header_case: false,
        };
        let Some(headers) = config.and_then(|config| config.proxy_headers.as_ref()) else { return out };
        let off =
            |switch: &Option<mesh_config::Switch>| switch.as_ref().and_then(|s| s.disabled).unwrap_or(false);
        let on =
            |switch: &Option<mesh_config::Enabled>| switch.as_ref().and_then(|s| s.enabled).unwrap_or(false);
        out.include_request_attempt_count = !off(&headers.attempt_count);
        out.generate_request_id = !off(&headers.request_id);
        out.suppress_debug_headers = off(&headers.envoy_debug_headers);
        out.x_forwarded_host = on(&headers.x_forwarded_host);
        out.x_forwarded_port = on(&headers.x_forwarded_port);
        out.preserve_http1_header_case = headers.preserve_http1_header_case.unwrap_or(false);
        if let Some(details) = forward_client_cert(headers.forwarded_client_cert) {
            out.forwarded_client_cert = details;
        }
        if let Some(server) = &headers.server {
            if server.disabled.unwrap_or(false) {
                out.server_name = SmolStr::default();
                out.server_header_transformation = ServerHeaderTransformation::PassThrough;
            } else if !server.value.is_empty() {
                out.server_name = server.value.clone();
            }
        }
        if let Some(exchange) = &headers.metadata_exchange_headers {
            out.skip_istio_mx_headers = exchange.mode == MetadataExchangeMode::InMesh;
        }
        out.set_current_client_cert_details =
            headers.set_current_client_cert_details.as_ref().map(|details| SetCurrentClientCertDetails {
                subject: details.subject.unwrap_or(false),
                cert: details.cert.unwrap_or(false),
                chain: details.chain.unwrap_or(false),
                dns: details.dns.unwrap_or(false),
                uri: details.uri.unwrap_or(false),
            });
        out
    }
}

/// The Envoy setting that a mesh configuration's names; `None` when it names none.
pub fn forward_client_cert(
    details: mesh_config::ForwardClientCertDetails,
) -> Option<ForwardClientCertDetails> {
    use mesh_config::ForwardClientCertDetails as Mesh;
    Some(match details {
        Mesh::Undefined => return None,
        Mesh::Sanitize => ForwardClientCertDetails::Sanitize,
        Mesh::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        Mesh::AppendForward => ForwardClientCertDetails::AppendForward,
        Mesh::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        Mesh::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    })
}

/// What a connection manager depends on.
#[derive(Clone, Debug)]
pub struct ConnectionManagerOptions<'a> {
    /// Which listeners it belongs to.
    pub class: ListenerClass,
    /// Where its routes are.
    pub route_specifier: RouteSpecifier,
    /// The statistics prefix.
    pub stat_prefix: SmolStr,
    /// The headers that the proxy sets.
    pub headers: &'a ProxyHeaders,
    /// What happens to paths and header names.
    pub sanitation: Sanitation,
    /// Limits of clients' connections.
    pub limits: Option<Arc<ConnectionLimits>>,
    /// Whether HTTP/1.0 is accepted.
    pub accept_http_10: bool,
    /// Tracing.
    pub tracing: Option<Tracing>,
    /// Filters in front of fault injection: authentication, authorization.
    pub security_filters: Vec<HttpFilter>,
    /// The hosts whose names are resolved per request; `None` among them for those of hosts that nobody knows.
    pub dynamic_forward_proxies: Vec<Option<SmolStr>>,
    /// Who made it.
    pub origin: Origin,
}

/// Lets browsers speak gRPC at a port that says so. istiod: `listener_builder.go: buildHTTPConnectionManager`.
pub fn speak_grpc_web(manager: &mut HttpConnectionManager, protocol: Protocol) {
    if protocol == Protocol::GrpcWeb {
        let filters = &mut manager.http_filters;
        let statistics = |filter: &HttpFilter| *filter == HttpFilter::NoEffect(GRPC_STATS);
        let place = filters.iter().position(statistics).unwrap_or(filters.len());
        filters.insert(place, HttpFilter::GrpcWeb);
    }
}

/// The filter behind those of security.
const GRPC_STATS: SmolStr = SmolStr::new_static("envoy.filters.http.grpc_stats");

/// The connection manager; client addresses and certificates are the caller's to set.
pub fn build(options: ConnectionManagerOptions<'_>) -> HttpConnectionManager {
    let headers = options.headers;
    let sanitation = options.sanitation;
    let mut http_filters = vec![HttpFilter::PeerMetadata];
    http_filters.extend(options.security_filters);
    http_filters.push(HttpFilter::NoEffect(GRPC_STATS));
    if options.class != ListenerClass::SidecarInbound {
        http_filters.push(HttpFilter::NoEffect(SmolStr::new_static("istio.alpn")));
    }
    http_filters.extend([HttpFilter::Fault, HttpFilter::Cors]);
    http_filters.extend(options.dynamic_forward_proxies.into_iter().map(HttpFilter::DynamicForwardProxy));
    HttpConnectionManager {
        stat_prefix: options.stat_prefix,
        route_specifier: options.route_specifier,
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        internal_addresses: Vec::new(),
        forward_client_cert_details: ForwardClientCertDetails::Sanitize,
        set_current_client_cert_details: SetCurrentClientCertDetails::default(),
        server_name: headers.server_name.clone(),
        server_header_transformation: headers.server_header_transformation,
        generate_request_id: headers.generate_request_id,
        preserve_external_request_id: false,
        always_set_request_id_in_response: false,
        max_request_headers_kb: HttpConnectionManager::MAX_REQUEST_HEADERS_KB,
        normalize_path: sanitation.normalize_path,
        merge_slashes: sanitation.merge_slashes,
        path_with_escaped_slashes_action: sanitation.escaped_slashes,
        append_x_forwarded_port: headers.x_forwarded_port,
        tracing: options.tracing,
        suppress_envoy_headers: headers.suppress_debug_headers,
        accept_http_10: options.accept_http_10,
        headers_with_underscores_action: match sanitation.underscores {
            HeadersWithUnderscoresAction::RejectRequest => HeadersWithUnderscores::RejectRequest,
            HeadersWithUnderscoresAction::DropHeader => HeadersWithUnderscores::DropHeader,
            HeadersWithUnderscoresAction::Unspecified | HeadersWithUnderscoresAction::Allow => {
                HeadersWithUnderscores::Allow
            }
        },
        preserve_header_case: headers.preserve_http1_header_case,
        upgrade_types: vec![SmolStr::new_static("websocket")],
        http_filters,
        limits: options.limits,
        patches: Vec::new(),
        origin: options.origin,
    }
}
