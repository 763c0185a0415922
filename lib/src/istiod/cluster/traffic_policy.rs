//! Which policies hold for one port and subset?
//!
//! Invariant: a port-level entry inherits nothing from the level above it; a subset overrides block by block, unless
//! it has an entry for the port, which replaces all four blocks. istiod: `util.go: GetPortLevelTrafficPolicy,
//! MergeSubsetTrafficPolicy`; `cluster_traffic_policy.go`.

use std::time::Duration;

use crate::envoy::config::{
    CircuitBreakers, DiscoveryType, ProxyProtocolConfig, ProxyProtocolVersion, UpstreamProtocol,
};
use crate::istiod::node::NodeType;
use crate::manifest::schema::istio::{
    ClientTlsSettings, ConnectionPoolSettings, H2UpgradePolicy, LoadBalancerSettings, OutlierDetection,
    ProxyProtocol, ProxyProtocolVersion as Version, RetryBudget, SimpleLb, TrafficPolicy,
};
use crate::mesh::config::EffectiveConfig;
use crate::mesh::destination_rule::PlacedSubset;
use crate::mesh::{DestinationRule, Mesh, Protocol, Service};
use crate::origin::Origin;

/// A block and where it is written.
pub type Placed<T> = (T, Origin);

/// The policies of one cluster.
#[derive(Clone, Debug, Default)]
pub struct ResolvedPolicy {
    /// Connection pools.
    pub connection_pool: Option<Placed<ConnectionPoolSettings>>,
    /// Load balancing.
    pub load_balancer: Option<Placed<LoadBalancerSettings>>,
    /// Outlier detection.
    pub outlier_detection: Option<Placed<OutlierDetection>>,
    /// TLS.
    pub tls: Option<Placed<ClientTlsSettings>>,
    /// The PROXY protocol; a port has none of its own, and with settings of its own none at all.
    pub proxy_protocol: Option<Placed<ProxyProtocol>>,
    /// Retries at once; as with the PROXY protocol, ports have none of their own.
    pub retry_budget: Option<Placed<RetryBudget>>,
    /// Where the blocks are written.
    pub applied: Vec<Origin>,
}

/// Whether Envoy is told about a service's endpoints that are not ready. istiod: `service.go: SupportsUnhealthyEndpoints,
/// ForcesSupportUnhealthyEndpoints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendsUnhealthy {
    /// No.
    No,
    /// Yes, but for rules that want a part of the endpoints to be healthy.
    ByDefault,
    /// Yes: the service prefers near endpoints, and Envoy has to know when they fail.
    Always,
}

impl SendsUnhealthy {
    /// What holds for a service.
    pub fn of(mesh: &Mesh, service: &Service) -> Self {
        if service.traffic_distribution.is_some() || mesh.features().always_send_unhealthy_endpoints {
            Self::Always
        } else if mesh.features().send_unhealthy_endpoints {
            Self::ByDefault
        } else {
            Self::No
        }
    }
}

/// Whether a port has an entry of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Port,
    Whole,
}

impl ResolvedPolicy {
    /// What a rule alone says about a port and subset; endpoints know nothing of MeshConfig's policy.
    /// istiod: `endpoint_builder.go: getSubsetTrafficPolicy`.
    pub fn of_rule(rule: &DestinationRule, subset: &str, port: u16) -> Self {
        let whole = Self::of_whole_rule(Some(rule), port);
        match rule.subset(subset) {
            Some(subset) => whole.with_subset(subset, port),
            None => whole,
        }
    }

    fn of_whole_rule(rule: Option<&DestinationRule>, port: u16) -> Self {
        let Some(rule) = rule else { return Self::default() };
        let policy = rule.traffic_policy.as_ref();
        let mut out = policy.map(|(policy, origin)| at_port(policy, origin, port).0).unwrap_or_default();
        if let (Some((_, origin)), Some(backend)) = (&mut out.tls, rule.backend_tls_at(port)) {
            *origin = backend.clone();
        }
        out
    }

    /// The policies of a service's port, without subset.
    pub fn of_service(rule: Option<&DestinationRule>, port: u16, config: &EffectiveConfig) -> Self {
        let mut out = Self::of_whole_rule(rule, port);
        if let Some(default) = &config.written.default_traffic_policy {
            let origin = || Origin::default("MeshConfig defaultTrafficPolicy");
            if out.connection_pool.is_none() {
                out.connection_pool = default.connection_pool.clone().map(|pool| (pool, origin()));
            }
            if out.outlier_detection.is_none() {
                out.outlier_detection = default.outlier_detection.clone().map(|outlier| (outlier, origin()));
            }
        }
        out.note();
        out
    }

    /// The policies of a subset of the same port.
    #[must_use]
    pub fn with_subset(mut self, subset: &PlacedSubset, port: u16) -> Self {
        let Some(policy) = &subset.subset.traffic_policy else { return self };
        let (own, level) = at_port(policy, &subset.origin.part("trafficPolicy"), port);
        let replace = level == Level::Port;
        if replace || own.connection_pool.is_some() {
            self.connection_pool = own.connection_pool;
        }
        if replace || own.load_balancer.is_some() {
            self.load_balancer = own.load_balancer;
        }
        if replace || own.outlier_detection.is_some() {
            self.outlier_detection = own.outlier_detection;
        }
        if replace || own.tls.is_some() {
            self.tls = own.tls;
        }
        if own.proxy_protocol.is_some() {
            self.proxy_protocol = own.proxy_protocol;
        }
        if own.retry_budget.is_some() {
            self.retry_budget = own.retry_budget;
        }
        self.note();
        self
    }

    fn note(&mut self) {
        self.applied = [
            self.connection_pool.as_ref().map(|block| &block.1),
            self.load_balancer.as_ref().map(|block| &block.1),
            self.outlier_detection.as_ref().map(|block| &block.1),
            self.tls.as_ref().map(|block| &block.1),
            self.proxy_protocol.as_ref().map(|block| &block.1),
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    }

    /// What endpoints are told before everything else. istiod: `applyUpstreamProxyProtocol`.
    pub fn proxy_protocol(&self) -> Option<ProxyProtocolConfig> {
        let (settings, origin) = self.proxy_protocol.as_ref()?;
        let version = match settings.version {
            Version::V1 => ProxyProtocolVersion::V1,
            Version::V2 => ProxyProtocolVersion::V2,
        };
        Some(ProxyProtocolConfig { version, origin: origin.clone() })
    }

    /// Whether connections go where the application wanted them to.
    pub fn is_passthrough(&self) -> bool {
        self.load_balancer.as_ref().and_then(|(lb, _)| lb.simple) == Some(SimpleLb::Passthrough)
    }

    /// Envoy's name for the load balancing. istiod: `applyLoadBalancer`.
    pub fn lb_policy(&self, discovery_type: DiscoveryType) -> &'static str {
        if matches!(discovery_type, DiscoveryType::OriginalDst | DiscoveryType::DynamicForwardProxy) {
            return "CLUSTER_PROVIDED";
        }
        let Some((lb, _)) = &self.load_balancer else { return "LEAST_REQUEST" };
        if let Some(hash) = &lb.consistent_hash {
            return if hash.maglev.is_some() { "MAGLEV" } else { "RING_HASH" };
        }
        match lb.simple.unwrap_or_default() {
            SimpleLb::Random => "RANDOM",
            SimpleLb::RoundRobin => "ROUND_ROBIN",
            SimpleLb::Passthrough => "CLUSTER_PROVIDED",
            SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest => "LEAST_REQUEST",
        }
    }

    /// The part of healthy endpoints, in percent, below which all are used. istiod: `applyOutlierDetection,
    /// applyLoadBalancer`.
    pub fn healthy_panic_threshold(&self, sends: SendsUnhealthy) -> Option<u32> {
        let least =
            self.outlier_detection.as_ref().and_then(|(it, _)| u32::try_from(it.min_health_percent).ok());
        match (least, sends) {
            (Some(least), SendsUnhealthy::No | SendsUnhealthy::ByDefault) => Some(least),
            (Some(_), SendsUnhealthy::Always) => Some(0),
            (None, SendsUnhealthy::No) => None,
            (None, SendsUnhealthy::ByDefault | SendsUnhealthy::Always) => Some(0),
        }
    }

    /// Whether endpoints that are not ready are left out. istiod: `endpoint_builder.go: supportsUnhealthyEndpoints`.
    pub fn leaves_out_unhealthy(&self, sends: SendsUnhealthy) -> bool {
        let wants_health = self.outlier_detection.as_ref().is_some_and(|(it, _)| it.min_health_percent > 0);
        match sends {
            SendsUnhealthy::Always => false,
            SendsUnhealthy::ByDefault => wants_health,
            SendsUnhealthy::No => true,
        }
    }

    /// The time limit for connecting.
    pub fn connect_timeout(&self, config: &EffectiveConfig) -> Duration {
        let own = self.connection_pool.as_ref().and_then(|(pool, _)| pool.tcp.as_ref()?.connect_timeout);
        own.unwrap_or(config.connect_timeout).to_std()
    }

    /// The limits; only positive numbers count.
    pub fn circuit_breakers(&self) -> CircuitBreakers {
        let mut out = CircuitBreakers::default();
        let Some((pool, _)) = &self.connection_pool else { return out };
        let limit = |value: i32, into: &mut u32| {
            if let Ok(value) = u32::try_from(value)
                && value > 0
            {
                *into = value;
            }
        };
        if let Some(http) = &pool.http {
            limit(http.http2_max_requests, &mut out.max_requests);
            limit(http.http1_max_pending_requests, &mut out.max_pending_requests);
            limit(http.max_retries, &mut out.max_retries);
        }
        if let Some(tcp) = &pool.tcp {
            limit(tcp.max_connections, &mut out.max_connections);
        }
        out
    }

    /// The HTTP version towards endpoints. istiod: `setUpstreamProtocol, shouldH2Upgrade, applyConnectionPool`.
    ///
    /// Gateways offer h2 to every client, so they do not take the client's version for ports without a protocol.
    pub fn upstream_protocol(
        &self,
        protocol: Protocol,
        node_type: NodeType,
        config: &EffectiveConfig,
    ) -> UpstreamProtocol {
        let http = self.connection_pool.as_ref().and_then(|(pool, _)| pool.http.as_ref());
        if http.is_some_and(|http| http.use_client_protocol) {
            return UpstreamProtocol::Downstream;
        }
        if protocol.is_http2() {
            return UpstreamProtocol::Http2;
        }
        if protocol == Protocol::Unsupported && node_type != NodeType::Router {
            return UpstreamProtocol::Downstream;
        }
        let upgrade = match http.map(|http| http.h2_upgrade_policy).unwrap_or_default() {
            H2UpgradePolicy::Upgrade => true,
            H2UpgradePolicy::DoNotUpgrade => false,
            H2UpgradePolicy::Default => {
                protocol.is_http() && config.written.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade)
            }
        };
        if upgrade { UpstreamProtocol::Http2 } else { UpstreamProtocol::Http1 }
    }
}

/// The blocks of a policy for a port: its own entry, else the policy itself.
fn at_port(policy: &TrafficPolicy, origin: &Origin, port: u16) -> (ResolvedPolicy, Level) {
    let entry = policy
        .port_level_settings
        .iter()
        .position(|entry| entry.port.as_ref().is_some_and(|own| own.number == u32::from(port)));
    if let Some((at, entry)) = entry.and_then(|at| Some((at, policy.port_level_settings.get(at)?))) {
        let origin = origin.element("portLevelSettings", at);
        let blocks = ResolvedPolicy {
            connection_pool: entry
                .connection_pool
                .clone()
                .map(|block| (block, origin.part("connectionPool"))),
            load_balancer: entry.load_balancer.clone().map(|block| (block, origin.part("loadBalancer"))),
            outlier_detection: entry
                .outlier_detection
                .clone()
                .map(|block| (block, origin.part("outlierDetection"))),
            tls: entry.tls.clone().map(|block| (block, origin.part("tls"))),
            proxy_protocol: None,
            retry_budget: None,
            applied: Vec::new(),
        };
        return (blocks, Level::Port);
    }
    let blocks = ResolvedPolicy {
        connection_pool: policy.connection_pool.clone().map(|block| (block, origin.part("connectionPool"))),
        load_balancer: policy.load_balancer.clone().map(|block| (block, origin.part("loadBalancer"))),
        outlier_detection: policy
            .outlier_detection
            .clone()
            .map(|block| (block, origin.part("outlierDetection"))),
        tls: policy.tls.clone().map(|block| (block, origin.part("tls"))),
        proxy_protocol: policy.proxy_protocol.clone().map(|block| (block, origin.part("proxyProtocol"))),
        retry_budget: policy.retry_budget.clone().map(|block| (block, origin.part("retryBudget"))),
        applied: Vec::new(),
    };
    (blocks, Level::Whole)
}
