//! What is behind a cluster?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::http::AppliedPatch;
use super::metadata::ClusterMetadata;
use crate::origin::Origin;

/// How a cluster finds its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiscoveryType {
    /// From istiod.
    Eds,
    /// By DNS, all addresses.
    StrictDns,
    /// By DNS, one address.
    LogicalDns,
    /// The connection's original destination.
    OriginalDst,
    /// Fixed (`BlackHoleCluster`: none).
    Static,
    /// The request's host, by DNS.
    DynamicForwardProxy,
}

/// A cluster (`config.cluster.v3.Cluster`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Istio's name, such as `outbound|80||httpbin.org`.
    pub name: SmolStr,
    /// How it finds its endpoints.
    pub discovery_type: DiscoveryType,
    /// Endpoints by locality and priority; empty for original destination and forward proxies.
    pub load_assignment: Arc<LoadAssignment>,
    /// Load balancing policy as Envoy names it, such as `LEAST_REQUEST`.
    pub lb_policy: &'static str,
    /// TLS towards endpoints.
    pub transport: UpstreamTransport,
    /// What is sent to endpoints before everything else, TLS included; `None` where nothing is.
    pub proxy_protocol: Option<ProxyProtocolConfig>,
    /// HTTP version towards endpoints.
    pub protocol: UpstreamProtocol,
    /// Port that replaces the original destination's (ServiceEntry NONE with `targetPort`).
    pub original_dst_port_override: Option<u16>,
    /// Time limit for connecting.
    pub connect_timeout: Duration,
    /// Circuit breakers.
    pub circuit_breakers: CircuitBreakers,
    /// Source address that the proxy connects from (`127.0.0.6` for inbound passthrough).
    pub upstream_bind_config: Option<IpAddr>,
    /// When endpoints are taken out; `None` where outlier detection is off.
    pub outlier_detection: Option<OutlierDetection>,
    /// Whether a locality is chosen by its weight before one of its endpoints is (`locality_weighted_lb_config`).
    pub locality_weighted: bool,
    /// With fewer healthy endpoints than this, in percent, all are used; Envoy's 50 when it is not set.
    pub healthy_panic_threshold: Option<u32>,
    /// What it says of itself.
    pub metadata: ClusterMetadata,
    /// What changes no decision; `None` where nothing of it is set.
    pub tuning: Option<Arc<ClusterTuning>>,
    /// The patches of EnvoyFilters that changed it.
    pub patches: Vec<AppliedPatch>,
    /// The patch that changes it in a way that is not modelled, so that nobody knows what becomes of what is sent to it.
    pub opaque: Option<AppliedPatch>,
    /// The DestinationRules that hold for it, and the fields of them that shaped it; for display.
    pub applied: Vec<Origin>,
    /// Who made it.
    pub origin: Origin,
}

/// Settings of a cluster that decide nothing about a request: they are kept to be exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTuning {
    /// The least size of a hash ring.
    pub minimum_ring_size: Option<u64>,
    /// The size of a Maglev table.
    pub maglev_table_size: Option<u64>,
    /// How long a connection may be unused.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live.
    pub max_connection_duration: Option<Duration>,
    /// How many requests a connection serves.
    pub max_requests_per_connection: Option<u32>,
    /// Probes on idle connections.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How the share of new endpoints grows.
    pub slow_start: Option<SlowStart>,
    /// How many streams a connection of HTTP/2 has at most.
    pub max_concurrent_streams: Option<u32>,
    /// Pings on connections of HTTP/2.
    pub connection_keepalive: Option<ConnectionKeepalive>,
    /// How many requests may be tried again at once.
    pub retry_budget: Option<RetryBudget>,
    /// The statuses that count as failures of an endpoint; empty for all of 500 and above.
    pub outlier_error_codes: Vec<u32>,
    /// After which time without use an endpoint that a connection named is forgotten.
    pub cleanup_interval: Option<Duration>,
    /// Further addresses that the proxy connects from, of other families.
    pub extra_source_addresses: Vec<IpAddr>,
}

/// How the share of new endpoints grows (`config.cluster.v3.Cluster.SlowStartConfig`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SlowStart {
    /// How long it takes.
    pub window: Option<Duration>,
    /// The curve, and the least share in percent; `None` where Envoy's own hold.
    pub curve: Option<(f64, f64)>,
}

impl Eq for SlowStart {}

/// Pings on connections (`config.core.v3.KeepaliveSettings`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionKeepalive {
    /// How often.
    pub interval: Option<Duration>,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
}

/// How many requests may be tried again at once (`CircuitBreakers.Thresholds.RetryBudget`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetryBudget {
    /// Of a hundred that are under way.
    pub percent: f64,
    /// Over which time; `None` for those under way now.
    pub interval: Option<Duration>,
    /// So many in any case.
    pub min_retry_concurrency: u32,
}

impl Eq for RetryBudget {}

/// When endpoints are taken out (`config.cluster.v3.OutlierDetection`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutlierDetection {
    /// After how many 5xx answers in a row; 0 is never.
    pub consecutive_5xx: Option<u32>,
    /// After how many 502, 503 and 504 answers in a row; 0 is never.
    pub consecutive_gateway_failure: Option<u32>,
    /// Whether failures to connect count apart from answers.
    pub split_external_local_origin_errors: bool,
    /// After how many of these in a row.
    pub consecutive_local_origin_failure: Option<u32>,
    /// How often endpoints are looked at.
    pub interval: Option<Duration>,
    /// How long the first time is.
    pub base_ejection_time: Option<Duration>,
    /// How many of a hundred endpoints may be out.
    pub max_ejection_percent: Option<u32>,
}

/// Probes on idle connections (`config.core.v3.TcpKeepalive`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// How many.
    pub probes: Option<u32>,
    /// After which silence.
    pub time: Option<Duration>,
    /// How far apart.
    pub interval: Option<Duration>,
}

/// Limits; `u32::MAX` is Istio's "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CircuitBreakers {
    /// Connections.
    pub max_connections: u32,
    /// Waiting requests.
    pub max_pending_requests: u32,
    /// Running requests.
    pub max_requests: u32,
    /// Retries.
    pub max_retries: u32,
}

impl Default for CircuitBreakers {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            max_retries: u32::MAX,
        }
    }
}

/// HTTP version towards endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// As the client's.
    Downstream,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyProtocolVersion {
    /// A line of text.
    #[default]
    V1,
    /// Bytes.
    V2,
}

/// A header of the PROXY protocol (`config.core.v3.ProxyProtocolConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocolConfig {
    /// Its version.
    pub version: ProxyProtocolVersion,
    /// Where it is written.
    pub origin: Origin,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamTransport {
    /// None.
    Plaintext,
    /// TLS to every endpoint.
    Tls(Arc<UpstreamTlsContext>),
    /// TLS to endpoints that speak Istio's mutual TLS, plaintext to others (auto mTLS).
    Auto(Arc<UpstreamTlsContext>),
}

/// What kind of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamTlsMode {
    /// Server certificate only.
    Simple,
    /// Client certificate from files or secrets.
    Mutual,
    /// Istio's certificates.
    IstioMutual,
}

/// TLS settings towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTlsContext {
    /// Kind.
    pub mode: UpstreamTlsMode,
    /// SNI; empty when none is sent or it follows the host.
    pub sni: SmolStr,
    /// Whether the SNI follows the request's Host.
    pub auto_sni: bool,
    /// Whether the server certificate is checked against the SNI.
    pub auto_san_validation: bool,
    /// Names the server certificate has to have one of.
    pub subject_alt_names: Vec<SmolStr>,
    /// The certificate that is shown, by SDS resource name; empty when none is.
    pub certificate: SmolStr,
    /// The authority that has to have signed the server's certificate, by SDS resource name.
    pub authority: SmolStr,
    /// Whether any server certificate is accepted.
    pub insecure_skip_verify: bool,
    /// ALPN values offered.
    pub alpn_protocols: Vec<SmolStr>,
    /// Where it is written, or the default that gives it.
    pub origin: Origin,
}

/// Endpoints of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadAssignment {
    /// Groups of one locality and priority, in istiod's order.
    pub endpoints: Vec<LocalityEndpoints>,
    /// Why priorities and weights are as they are; `None` where localities play no part.
    pub preference: Option<Preference>,
    /// What the endpoints themselves rest on besides the input.
    pub assumption: Option<SmolStr>,
}

/// What decided about the priorities and weights of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// The rule, or the default.
    pub origin: Origin,
    /// Where the client runs, as `region/zone/subzone`; may be empty.
    pub client: SmolStr,
    /// What it rests on besides the input.
    pub assumption: Option<SmolStr>,
}

/// Endpoints of one locality and priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalityEndpoints {
    /// `region/zone/subzone`; may be empty.
    pub locality: SmolStr,
    /// 0 is used first.
    pub priority: u32,
    /// Weight of the group.
    pub load_balancing_weight: u32,
    /// Endpoints.
    pub lb_endpoints: Vec<LbEndpoint>,
}

/// An endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// IP address and port.
    Socket(IpAddr, u16),
    /// A name that Envoy resolves, and a port.
    Name(SmolStr, u16),
    /// A Unix domain socket.
    Pipe(SmolStr),
}

/// Whether an endpoint may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HealthStatus {
    /// Yes.
    Healthy,
    /// No, unless in panic mode.
    Unhealthy,
    /// Only by persistent sessions.
    Draining,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbEndpoint {
    /// Where.
    pub address: EndpointAddress,
    /// Whether it may be used.
    pub health_status: HealthStatus,
    /// Weight among its group.
    pub load_balancing_weight: u32,
    /// Whether it speaks Istio's mutual TLS (label `security.istio.io/tlsMode` and policy).
    pub istio_mutual: bool,
    /// What runs there, as `namespace/name`, where the input says; the room that made the configuration knows more.
    pub workload: SmolStr,
    /// Whether it is an assumption that this endpoint exists and is ready.
    pub assumed: bool,
    /// Whether it is an assumption that this endpoint is on the proxy's node, where only such endpoints are used.
    pub node_assumed: bool,
    /// Who made it.
    pub origin: Origin,
}
