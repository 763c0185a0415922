//! Telemetry, EnvoyFilter and ProxyConfig.

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::{LabelSelector, Labels, PolicyTargetReference, WorkloadSelector};
use crate::manifest::schema::scalar::{Duration, Ignored, Verbatim, proto_enum, schema};

schema! {
    /// Tracing, metrics and access logs.
    Telemetry {
        selector: Option<WorkloadSelector>, target_ref: Option<PolicyTargetReference>,
        target_refs: Vec<PolicyTargetReference>, tracing: Vec<TelemetryTracing>, metrics: Vec<TelemetryMetrics>,
        access_logging: Vec<TelemetryAccessLogging>,
    }
    /// Tracing.
    TelemetryTracing {
        #[serde(rename = "match")] match_: Option<TracingSelector>, providers: Vec<ProviderRef>,
        random_sampling_percentage: Option<f64>, disable_span_reporting: Option<bool>,
        disable_context_propagation: Option<bool>, custom_tags: IndexMap<SmolStr, CustomTag>,
        use_request_id_for_trace_sampling: Option<bool>, enable_istio_tags: Option<bool>,
    }
    /// Which side of a connection is meant.
    TracingSelector { mode: WorkloadMode }
    /// A provider of the mesh configuration.
    ProviderRef { name: SmolStr }
    /// A tag of a span: one of its members.
    CustomTag {
        literal: Option<LiteralTag>, environment: Option<NamedTag>, header: Option<NamedTag>, formatter: Option<LiteralTag>,
    }
    /// A tag's text.
    LiteralTag { value: SmolStr }
    /// An environment variable or header that a tag is taken from.
    NamedTag { name: SmolStr, default_value: SmolStr }
    /// Metrics.
    TelemetryMetrics {
        providers: Vec<ProviderRef>, overrides: Vec<MetricsOverrides>, reporting_interval: Option<Duration>,
    }
    /// Changes to metrics.
    MetricsOverrides {
        #[serde(rename = "match")] match_: Option<MetricSelector>, disabled: Option<bool>,
        tag_overrides: IndexMap<SmolStr, TagOverride>,
    }
    /// Which metrics are meant.
    MetricSelector { metric: Option<IstioMetric>, custom_metric: Option<SmolStr>, mode: WorkloadMode }
    /// A change to a tag.
    TagOverride { operation: TagOperation, value: SmolStr }
    /// Access logs.
    TelemetryAccessLogging {
        #[serde(rename = "match")] match_: Option<TracingSelector>, providers: Vec<ProviderRef>, disabled: Option<bool>,
        filter: Option<AccessLogFilter>,
    }
    /// Which requests are logged.
    AccessLogFilter { expression: SmolStr }

    /// Changes to Envoy's configuration; the ones that are not modelled make what lies behind them unknown.
    EnvoyFilter {
        workload_selector: Option<LabelSelector>, config_patches: Vec<EnvoyConfigPatch>, priority: i32,
        target_refs: Vec<PolicyTargetReference>,
    }
    /// A patch.
    EnvoyConfigPatch { apply_to: ApplyTo, #[serde(rename = "match")] match_: Option<EnvoyConfigMatch>, patch: Option<EnvoyPatch> }
    /// The change.
    EnvoyPatch { operation: PatchOperation, value: Option<Verbatim>, filter_class: FilterClass }
    /// What a patch is applied to.
    EnvoyConfigMatch {
        context: PatchContext, proxy: Option<ProxyMatch>, listener: Option<ListenerMatch>,
        route_configuration: Option<Ignored>, cluster: Option<ClusterMatch>, waypoint: Option<Ignored>,
    }
    /// Which proxies are meant.
    ProxyMatch { proxy_version: SmolStr, metadata: Labels }
    /// Which listeners are meant.
    ListenerMatch {
        port_number: u32, port_name: SmolStr, filter_chain: Option<ListenerFilterChainMatch>, listener_filter: SmolStr, name: SmolStr,
    }
    /// Which clusters are meant.
    ClusterMatch { port_number: u32, service: SmolStr, subset: SmolStr, name: SmolStr }
    /// Which filter chains are meant.
    ListenerFilterChainMatch {
        name: SmolStr, sni: SmolStr, transport_protocol: SmolStr, application_protocols: SmolStr,
        filter: Option<FilterMatch>, destination_port: u32, transport_socket: Option<Ignored>,
    }
    /// Which network filters are meant.
    FilterMatch { name: SmolStr, sub_filter: Option<SubFilterMatch> }
    /// Which HTTP filters are meant.
    SubFilterMatch { name: SmolStr }

    /// Proxy settings for selected workloads.
    ProxyConfig {
        selector: Option<WorkloadSelector>, concurrency: Option<i32>, environment_variables: Labels, image: Option<ProxyImage>,
    }
    /// A variant of the proxy's image.
    ProxyImage { image_type: SmolStr }
}

proto_enum! {
    /// A side of a connection.
    WorkloadMode { #[default] ClientAndServer = 0 "CLIENT_AND_SERVER", Client = 1 "CLIENT", Server = 2 "SERVER" }
}

proto_enum! {
    /// What happens to a tag.
    TagOperation { #[default] Upsert = 0 "UPSERT", Remove = 1 "REMOVE" }
}

proto_enum! {
    /// One of Istio's own metrics.
    IstioMetric {
        #[default] AllMetrics = 0 "ALL_METRICS", RequestCount = 1 "REQUEST_COUNT", RequestDuration = 2 "REQUEST_DURATION",
        RequestSize = 3 "REQUEST_SIZE", ResponseSize = 4 "RESPONSE_SIZE", TcpOpenedConnections = 5 "TCP_OPENED_CONNECTIONS",
        TcpClosedConnections = 6 "TCP_CLOSED_CONNECTIONS", TcpSentBytes = 7 "TCP_SENT_BYTES",
        TcpReceivedBytes = 8 "TCP_RECEIVED_BYTES", GrpcRequestMessages = 9 "GRPC_REQUEST_MESSAGES",
        GrpcResponseMessages = 10 "GRPC_RESPONSE_MESSAGES",
    }
}

proto_enum! {
    /// What kind of Envoy's configuration a patch changes.
    ApplyTo {
        #[default] Invalid = 0 "INVALID", Listener = 1 "LISTENER", FilterChain = 2 "FILTER_CHAIN",
        NetworkFilter = 3 "NETWORK_FILTER", HttpFilter = 4 "HTTP_FILTER", RouteConfiguration = 5 "ROUTE_CONFIGURATION",
        VirtualHost = 6 "VIRTUAL_HOST", HttpRoute = 7 "HTTP_ROUTE", Cluster = 8 "CLUSTER",
        ExtensionConfig = 9 "EXTENSION_CONFIG", Bootstrap = 10 "BOOTSTRAP", ListenerFilter = 11 "LISTENER_FILTER",
    }
}

proto_enum! {
    /// Which proxies and directions a patch is for.
    PatchContext {
        #[default] Any = 0 "ANY", SidecarInbound = 1 "SIDECAR_INBOUND", SidecarOutbound = 2 "SIDECAR_OUTBOUND",
        Gateway = 3 "GATEWAY", Waypoint = 4 "WAYPOINT",
    }
}

proto_enum! {
    /// How a patch changes what it is applied to.
    PatchOperation {
        #[default] Invalid = 0 "INVALID", Merge = 1 "MERGE", Add = 2 "ADD", Remove = 3 "REMOVE",
        InsertBefore = 4 "INSERT_BEFORE", InsertAfter = 5 "INSERT_AFTER", InsertFirst = 6 "INSERT_FIRST",
        Replace = 7 "REPLACE", MergeAndReplaceList = 8 "MERGE_AND_REPLACE_LIST",
    }
}

proto_enum! {
    /// Among which filters a filter is inserted.
    FilterClass { #[default] Unspecified = 0 "UNSPECIFIED", Authn = 1 "AUTHN", Authz = 2 "AUTHZ", Stats = 3 "STATS" }
}
