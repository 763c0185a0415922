//! What can the mesh configuration say? Source: istio/api mesh/v1alpha1 config.proto and proxy.proto (1.32 line).

use smol_str::SmolStr;

use super::istio::{
    ClientTlsSettings, ConnectionPoolSettings, H2UpgradePolicy, HttpRetry, Labels,
    LocalityLoadBalancerSetting, OutboundTrafficPolicyMode, OutlierDetection, TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
};
use super::kubernetes::Selector;
use super::scalar::{Duration, Ignored, proto_enum, schema};

schema! {
    /// The mesh configuration. Messages are optional: absent ones keep Istio's defaults.
    MeshConfig {
        proxy_listen_port: Option<i32>, proxy_inbound_listen_port: Option<i32>, proxy_http_port: Option<i32>,
        connect_timeout: Option<Duration>, protocol_detection_timeout: Option<Duration>, tcp_keepalive: Option<TcpKeepalive>,
        ingress_class: Option<SmolStr>, ingress_service: Option<SmolStr>, ingress_controller_mode: Option<IngressControllerMode>,
        ingress_selector: Option<SmolStr>, enable_tracing: Option<bool>, access_log_file: Option<Ignored>,
        access_log_format: Option<Ignored>, access_log_encoding: Option<Ignored>, enable_envoy_access_log_service: Option<Ignored>,
        disable_envoy_listener_log: Option<Ignored>, default_config: Option<ProxyConfig>,
        outbound_traffic_policy: Option<OutboundTrafficPolicy>, inbound_traffic_policy: Option<InboundTrafficPolicy>,
        config_sources: Option<Ignored>, enable_auto_mtls: Option<bool>, trust_domain: Option<SmolStr>,
        trust_domain_aliases: Option<Vec<SmolStr>>, ca_certificates: Vec<CertificateData>,
        default_service_export_to: Option<Vec<SmolStr>>, default_virtual_service_export_to: Option<Vec<SmolStr>>,
        default_destination_rule_export_to: Option<Vec<SmolStr>>, root_namespace: Option<SmolStr>,
        locality_lb_setting: Option<LocalityLoadBalancerSetting>, zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
        dns_refresh_rate: Option<Duration>, h2_upgrade_policy: Option<H2UpgradePolicy>,
        inbound_cluster_stat_name: Option<Ignored>, outbound_cluster_stat_name: Option<Ignored>, cert_provisioning: Option<Ignored>,
        enable_prometheus_merge: Option<Ignored>, extension_providers: Vec<ExtensionProvider>, default_providers: Option<DefaultProviders>,
        discovery_selectors: Option<Vec<Selector>>, path_normalization: Option<PathNormalization>,
        default_http_retry_policy: Option<HttpRetry>, default_inbound_http_retry_policy: Option<HttpRetry>,
        default_traffic_policy: Option<DefaultTrafficPolicy>,
        #[serde(rename = "meshMTLS")] mesh_mtls: Option<MeshMtls>, #[serde(rename = "tlsDefaults")] tls_defaults: Option<Ignored>,
        service_settings: Vec<ServiceSettings>, certificates: Option<Ignored>, verify_certificate_at_client: Option<Ignored>,
        service_scope_configs: Option<Ignored>, thrift_config: Option<Ignored>, mixer_check_server: Option<Ignored>,
        service_entry_visibility: Option<ServiceEntryVisibility>, ca: Option<Ignored>, default_dns_lookup_family: Option<Ignored>,
    }
    /// TLS between workloads.
    MeshMtls { min_protocol_version: MeshTlsProtocol, cipher_suites: Vec<SmolStr>, ecdh_curves: Option<Ignored> }
    /// What happens to unknown destinations.
    OutboundTrafficPolicy { mode: OutboundTrafficPolicyMode, tls: Option<ClientTlsSettings> }
    /// Where inbound traffic goes.
    InboundTrafficPolicy { mode: InboundTrafficPolicyMode }
    /// Path normalization.
    PathNormalization { normalization: NormalizationType }
    /// Policies that DestinationRules override.
    DefaultTrafficPolicy { connection_pool: Option<ConnectionPoolSettings>, outlier_detection: Option<OutlierDetection> }
    /// Settings for services.
    ServiceSettings { settings: Option<ServiceSetting>, hosts: Vec<SmolStr> }
    /// A setting.
    ServiceSetting { cluster_local: bool }
    /// Which namespaces see ServiceEntries.
    ServiceEntryVisibility { default_visibility: Visibility, policies: Vec<ServiceEntryVisibilityPolicy>, apply_to_sidecars: bool }
    /// Visibility of the ServiceEntries of some namespaces.
    ServiceEntryVisibilityPolicy { visibility: Visibility, matching_rules: Vec<ServiceEntryVisibilityRule> }
    /// What a policy for ServiceEntries asks of their namespace.
    ServiceEntryVisibilityRule { namespace_selector: Option<Selector> }
    /// Providers used when a Telemetry resource names none.
    DefaultProviders { tracing: Vec<SmolStr>, metrics: Option<Ignored>, access_logging: Option<Ignored> }
    /// A provider; only what traces depend on is typed.
    ExtensionProvider {
        name: SmolStr, envoy_ext_authz_http: Option<Ignored>, envoy_ext_authz_grpc: Option<Ignored>, zipkin: Option<ZipkinProvider>,
        lightstep: Option<Ignored>, datadog: Option<TracingBackend>, stackdriver: Option<Ignored>, opencensus: Option<Ignored>,
        skywalking: Option<TracingBackend>, opentelemetry: Option<OpenTelemetryProvider>, prometheus: Option<Ignored>, envoy_file_access_log: Option<Ignored>,
        envoy_http_als: Option<Ignored>, envoy_tcp_als: Option<Ignored>, envoy_otel_als: Option<Ignored>, sds: Option<Ignored>,
    }
    /// A root certificate of workloads.
    CertificateData {
        pem: Option<Ignored>, spiffe_bundle_url: Option<Ignored>, cert_signers: Option<Ignored>, trust_domains: Vec<SmolStr>,
    }
    /// A Zipkin provider.
    ZipkinProvider {
        service: SmolStr, port: u32, max_tag_length: Option<Ignored>, enable64bit_trace_id: bool, path: SmolStr,
        trace_context_option: SmolStr, timeout: Option<Ignored>, headers: Option<Ignored>,
    }
    /// Where spans of a Datadog or SkyWalking provider go.
    TracingBackend { service: SmolStr, port: u32, max_tag_length: Option<Ignored>, access_token: Option<Ignored> }
    /// An OpenTelemetry provider.
    OpenTelemetryProvider {
        service: SmolStr, port: u32, max_tag_length: Option<Ignored>, http: Option<Ignored>, grpc: Option<Ignored>,
        resource_detectors: Option<Ignored>, dynatrace_sampler: Option<Ignored>, service_attribute_enrichment: Option<Ignored>,
    }
    /// Tracing without a Telemetry resource.
    ProxyTracing {
        zipkin: Option<ZipkinCollector>, lightstep: Option<Ignored>, datadog: Option<Ignored>, stackdriver: Option<Ignored>,
        open_census_agent: Option<Ignored>, custom_tags: Option<Ignored>, max_path_tag_length: Option<Ignored>, sampling: f64,
        tls_settings: Option<Ignored>, enable_istio_tags: Option<Ignored>,
    }
    /// Where a Zipkin collector is.
    ZipkinCollector { address: SmolStr }
    /// Proxy configuration (`defaultConfig` and the annotation `proxy.istio.io/config`).
    ProxyConfig {
        proxy_metadata: Labels, interception_mode: Option<InterceptionMode>, gateway_topology: Option<Topology>,
        proxy_headers: Option<ProxyHeaders>, tracing: Option<ProxyTracing>, connection_settings: Option<ConnectionSettings>, concurrency: Option<Ignored>,
        config_path: Option<Ignored>, binary_path: Option<Ignored>, service_cluster: Option<Ignored>,
        tracing_service_name: Option<Ignored>, drain_duration: Option<Ignored>, parent_shutdown_duration: Option<Ignored>,
        discovery_address: Option<Ignored>, discovery_refresh_delay: Option<Ignored>, zipkin_address: Option<Ignored>,
        statsd_udp_address: Option<Ignored>, envoy_metrics_service_address: Option<Ignored>, proxy_admin_port: Option<Ignored>,
        availability_zone: Option<Ignored>, control_plane_auth_policy: Option<Ignored>, custom_config_file: Option<Ignored>,
        stat_name_length: Option<Ignored>, proxy_bootstrap_template_path: Option<Ignored>, envoy_access_log_service: Option<Ignored>,
        envoy_metrics_service: Option<Ignored>, status_port: Option<u32>, runtime_values: Labels, extra_stat_tags: Option<Ignored>,
        termination_drain_duration: Option<Ignored>, mesh_id: Option<SmolStr>, readiness_probe: Option<Ignored>, proxy_stats_matcher: Option<Ignored>,
        hold_application_until_proxy_starts: Option<Ignored>, ca_certificates_pem: Option<Ignored>, image: Option<Ignored>,
        private_key_provider: Option<Ignored>, sds: Option<Ignored>, stats_eviction_interval: Option<Ignored>, file_flush_interval: Option<Ignored>,
        file_flush_min_size_kb: Option<Ignored>, stats_compression: Option<Ignored>,
    }
    /// Limits of client connections.
    ConnectionSettings {
        profile: ConnectionProfile, http_headers_with_underscores_action: HeadersWithUnderscoresAction,
        http_merge_slashes: Option<bool>, http_path_with_escaped_slashes_action: PathWithEscapedSlashesAction,
        listener_per_connection_buffer_limit_bytes: Option<i32>, cluster_per_connection_buffer_limit_bytes: Option<Ignored>,
        http_idle_timeout: Option<Duration>, http_max_connection_duration: Option<Duration>, http_drain_timeout: Option<Duration>,
        http_request_timeout: Option<Duration>, http_request_headers_timeout: Option<Duration>, http_stream_idle_timeout: Option<Duration>,
        http_max_stream_duration: Option<Duration>, http_max_concurrent_streams: Option<i32>,
        http2_initial_stream_window_size: Option<i32>, http2_initial_connection_window_size: Option<i32>,
    }
    /// What is in front of a gateway.
    Topology {
        num_trusted_proxies: u32, forward_client_cert_details: ForwardClientCertDetails, proxy_protocol: Option<ProxyProtocolConfiguration>,
    }
    /// PROXY protocol towards a gateway.
    ProxyProtocolConfiguration {}
    /// Headers that proxies set.
    ProxyHeaders {
        forwarded_client_cert: ForwardClientCertDetails, set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
        request_id: Option<Switch>, server: Option<ServerHeader>, attempt_count: Option<Switch>, envoy_debug_headers: Option<Switch>,
        metadata_exchange_headers: Option<MetadataExchangeHeaders>, x_forwarded_host: Option<Enabled>, x_forwarded_port: Option<Enabled>,
        preserve_http1_header_case: Option<bool>,
    }
    /// Parts of the client certificate.
    SetCurrentClientCertDetails { subject: Option<bool>, cert: Option<bool>, chain: Option<bool>, dns: Option<bool>, uri: Option<bool> }
    /// Something that can be turned off.
    Switch { disabled: Option<bool> }
    /// Something that can be turned on.
    Enabled { enabled: Option<bool> }
    /// The `server` header.
    ServerHeader { disabled: Option<bool>, value: SmolStr }
    /// Istio's own headers between proxies.
    MetadataExchangeHeaders { mode: MetadataExchangeMode }
}

proto_enum! {
    /// The oldest version of TLS between workloads.
    MeshTlsProtocol { #[default] TlsAuto = 0 "TLS_AUTO", TlsV12 = 3 "TLSV1_2", TlsV13 = 4 "TLSV1_3" }
}

proto_enum! {
    /// Which Ingress resources istiod takes.
    IngressControllerMode { #[default] Unspecified = 0 "UNSPECIFIED", Off = 1 "OFF", Default = 2 "DEFAULT", Strict = 3 "STRICT" }
}
proto_enum! {
    /// Where inbound traffic goes.
    InboundTrafficPolicyMode { #[default] Passthrough = 0 "PASSTHROUGH", Localhost = 1 "LOCALHOST" }
}
proto_enum! {
    /// Path normalization.
    NormalizationType {
        #[default] Default = 0 "DEFAULT", None = 1 "NONE", Base = 2 "BASE", MergeSlashes = 3 "MERGE_SLASHES",
        DecodeAndMergeSlashes = 4 "DECODE_AND_MERGE_SLASHES",
    }
}
proto_enum! {
    /// Whose connections the settings are for.
    ConnectionProfile { #[default] Sidecar = 0 "SIDECAR", Edge = 1 "EDGE" }
}
proto_enum! {
    /// What happens to headers with an underscore in their name.
    HeadersWithUnderscoresAction {
        #[default] Unspecified = 0 "HEADERS_WITH_UNDERSCORES_UNSPECIFIED", Allow = 1 "HEADERS_WITH_UNDERSCORES_ALLOW",
        RejectRequest = 2 "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST", DropHeader = 3 "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
    }
}
proto_enum! {
    /// What happens to escaped slashes in a path.
    PathWithEscapedSlashesAction {
        #[default] Unspecified = 0 "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED", KeepUnchanged = 1 "KEEP_UNCHANGED",
        RejectRequest = 2 "REJECT_REQUEST", UnescapeAndRedirect = 3 "UNESCAPE_AND_REDIRECT",
        UnescapeAndForward = 4 "UNESCAPE_AND_FORWARD",
    }
}
proto_enum! {
    /// Visibility of ServiceEntries.
    Visibility { #[default] Unspecified = 0 "VISIBILITY_UNSPECIFIED", None = 1 "NONE", Namespace = 2 "NAMESPACE", Public = 3 "PUBLIC" }
}
proto_enum! {
    /// How connections are intercepted.
    InterceptionMode { #[default] Redirect = 0 "REDIRECT", Tproxy = 1 "TPROXY", None = 2 "NONE" }
}
proto_enum! {
    /// What happens to `x-forwarded-client-cert`.
    ForwardClientCertDetails {
        #[default] Undefined = 0 "UNDEFINED", Sanitize = 1 "SANITIZE", ForwardOnly = 2 "FORWARD_ONLY",
        AppendForward = 3 "APPEND_FORWARD", SanitizeSet = 4 "SANITIZE_SET", AlwaysForwardOnly = 5 "ALWAYS_FORWARD_ONLY",
    }
}
proto_enum! {
    /// Where Istio's own headers are sent.
    MetadataExchangeMode { #[default] Undefined = 0 "UNDEFINED", InMesh = 1 "IN_MESH" }
}
