//! DestinationRule (networking/v1alpha3/destination_rule.proto).

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::{Labels, PortSelector, WorkloadSelector};
use crate::manifest::schema::scalar::{Duration, Ignored, proto_enum, schema};

schema! {
    /// Policies for traffic to a host.
    DestinationRule {
        host: SmolStr, traffic_policy: Option<TrafficPolicy>, subsets: Vec<Subset>, export_to: Vec<SmolStr>,
        workload_selector: Option<WorkloadSelector>,
    }
    /// A named part of a host's endpoints.
    Subset { name: SmolStr, labels: Labels, traffic_policy: Option<TrafficPolicy> }
    /// Policies.
    TrafficPolicy {
        load_balancer: Option<LoadBalancerSettings>, connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>, tls: Option<ClientTlsSettings>,
        port_level_settings: Vec<PortTrafficPolicy>, tunnel: Option<TunnelSettings>,
        proxy_protocol: Option<ProxyProtocol>, retry_budget: Option<RetryBudget>,
    }
    /// Policies for one port; nothing is inherited from the level above.
    PortTrafficPolicy {
        port: Option<PortSelector>, load_balancer: Option<LoadBalancerSettings>,
        connection_pool: Option<ConnectionPoolSettings>, outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTlsSettings>,
    }
    /// A tunnel for TCP.
    TunnelSettings { protocol: SmolStr, target_host: SmolStr, target_port: u32 }
    /// PROXY protocol towards endpoints.
    ProxyProtocol { version: ProxyProtocolVersion }
    /// How many requests may be tried again at once.
    RetryBudget { percent: Option<f64>, budget_interval: Option<Duration>, min_retry_concurrency: u32 }
    /// Load balancing.
    LoadBalancerSettings {
        simple: Option<SimpleLb>, consistent_hash: Option<ConsistentHashLb>,
        locality_lb_setting: Option<LocalityLoadBalancerSetting>, warmup_duration_secs: Option<Duration>,
        warmup: Option<WarmupConfiguration>, zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
        backend_utilization: Option<Ignored>,
    }
    /// Consistent hashing.
    ConsistentHashLb {
        http_header_name: Option<SmolStr>, http_cookie: Option<HttpCookie>, use_source_ip: Option<bool>,
        http_query_parameter_name: Option<SmolStr>, ring_hash: Option<RingHash>, maglev: Option<Maglev>,
        minimum_ring_size: Option<u64>,
    }
    /// Consistent hashing on a ring.
    RingHash { minimum_ring_size: u64 }
    /// Consistent hashing by a table.
    Maglev { table_size: u64 }
    /// A cookie for consistent hashing.
    HttpCookie { name: SmolStr, path: SmolStr, ttl: Option<Duration>, attributes: Vec<HttpCookieAttribute> }
    /// An attribute of a cookie.
    HttpCookieAttribute { name: SmolStr, value: SmolStr }
    /// How a new endpoint's share of requests grows.
    WarmupConfiguration { duration: Option<Duration>, minimum_percent: Option<f64>, aggression: Option<f64> }
    /// Connection pools.
    ConnectionPoolSettings { tcp: Option<TcpSettings>, http: Option<HttpSettings> }
    /// TCP connection pool.
    TcpSettings {
        max_connections: i32, connect_timeout: Option<Duration>, tcp_keepalive: Option<TcpKeepalive>,
        max_connection_duration: Option<Duration>, idle_timeout: Option<Duration>,
    }
    /// HTTP connection pool.
    HttpSettings {
        http1_max_pending_requests: i32, http2_max_requests: i32, max_requests_per_connection: i32, max_retries: i32,
        idle_timeout: Option<Duration>, h2_upgrade_policy: H2UpgradePolicy, use_client_protocol: bool,
        max_concurrent_streams: i32, http2_keep_alive: Option<KeepAlive>,
    }
    /// Pings on HTTP/2 connections.
    KeepAlive { interval: Option<Duration>, timeout: Option<Duration> }
    /// Probes on TCP connections.
    TcpKeepalive { probes: u32, time: Option<Duration>, interval: Option<Duration> }
    /// Outlier detection.
    OutlierDetection {
        consecutive_errors: i32, split_external_local_origin_errors: bool,
        consecutive_local_origin_failures: Option<u32>, consecutive_gateway_errors: Option<u32>,
        #[serde(rename = "consecutive5xxErrors")] consecutive_5xx_errors: Option<u32>, interval: Option<Duration>,
        base_ejection_time: Option<Duration>, max_ejection_percent: i32, min_health_percent: i32,
        outlier_detection_http_error_codes: Vec<u32>,
    }
    /// TLS towards endpoints.
    ClientTlsSettings {
        mode: TlsMode, client_certificate: SmolStr, private_key: SmolStr, ca_certificates: SmolStr,
        credential_name: SmolStr, subject_alt_names: Vec<SmolStr>, sni: SmolStr, insecure_skip_verify: Option<bool>,
        ca_crl: SmolStr,
    }
    /// Preferences by locality.
    LocalityLoadBalancerSetting {
        distribute: Vec<Distribute>, failover: Vec<Failover>, failover_priority: Vec<SmolStr>, enabled: Option<bool>,
    }
    /// Preferences by zone.
    ZoneAwareLoadBalancerSetting {
        failover: Vec<Failover>, failover_priority: Vec<SmolStr>, enabled: Option<bool>, min_cluster_size: Option<u64>,
    }
    /// Weights from one locality to others.
    Distribute { from: SmolStr, to: IndexMap<SmolStr, u32> }
    /// The region to fail over to.
    Failover { from: SmolStr, to: SmolStr }
}

proto_enum! {
    /// PROXY protocol version.
    ProxyProtocolVersion { #[default] V1 = 0 "V1", V2 = 1 "V2" }
}

proto_enum! {
    /// A load balancing algorithm.
    SimpleLb {
        #[default] Unspecified = 0 "UNSPECIFIED", LeastConn = 1 "LEAST_CONN", Random = 2 "RANDOM",
        Passthrough = 3 "PASSTHROUGH", RoundRobin = 4 "ROUND_ROBIN", LeastRequest = 5 "LEAST_REQUEST",
    }
}

proto_enum! {
    /// Whether connections are upgraded to HTTP/2.
    H2UpgradePolicy { #[default] Default = 0 "DEFAULT", DoNotUpgrade = 1 "DO_NOT_UPGRADE", Upgrade = 2 "UPGRADE" }
}

proto_enum! {
    /// TLS mode towards endpoints.
    TlsMode { #[default] Disable = 0 "DISABLE", Simple = 1 "SIMPLE", Mutual = 2 "MUTUAL", IstioMutual = 3 "ISTIO_MUTUAL" }
}
