//! What do policies say that decides nothing about a request?
//!
//! istiod: `cluster_traffic_policy.go: applyConnectionPool, applyTCPKeepalive, applyOutlierDetection,
//! ApplyRingHashLoadBalancer`.

use std::sync::Arc;
use std::time::Duration;

use super::traffic_policy::ResolvedPolicy;
use crate::envoy::config::{
    ClusterTuning, ConnectionKeepalive, DiscoveryType, OutlierDetection, RetryBudget, SlowStart, TcpKeepalive,
};
use crate::manifest::schema::istio::{
    OutlierDetection as WrittenOutlierDetection, TcpKeepalive as WrittenKeepalive,
};
use crate::manifest::schema::scalar;
use crate::mesh::config::EffectiveConfig;

/// The size of a hash ring that istiod asks for where nothing is written.
const RING_SIZE: u64 = 1024;
/// How new endpoints warm up where nothing more is written.
const WARMUP_AGGRESSION: f64 = 1.0;
const WARMUP_MINIMUM: f64 = 10.0;
/// What may be tried again at once where nothing more is written.
const RETRY_BUDGET_PERCENT: f64 = 20.0;
const RETRY_BUDGET_CONCURRENCY: u32 = 3;

impl ResolvedPolicy {
    /// When endpoints are taken out; `None` where outlier detection is off.
    pub(in crate::istiod) fn outlier_limits(&self) -> Option<OutlierDetection> {
        self.outlier_detection.as_ref().map(|(written, _)| outlier_detection(written))
    }

    /// What decides nothing about a request; `None` where there is nothing of it.
    pub(in crate::istiod) fn tuning(
        &self,
        discovery_type: DiscoveryType,
        config: &EffectiveConfig,
    ) -> Option<Arc<ClusterTuning>> {
        let pool = self.connection_pool.as_ref().map(|(pool, _)| pool);
        let tcp = pool.and_then(|pool| pool.tcp.as_ref());
        let http = pool.and_then(|pool| pool.http.as_ref());
        let mut out = ClusterTuning {
            idle_timeout: http
                .and_then(|http| http.idle_timeout)
                .or_else(|| tcp.and_then(|tcp| tcp.idle_timeout))
                .map(scalar::Duration::to_std),
            max_connection_duration: duration(tcp.and_then(|tcp| tcp.max_connection_duration)),
            max_requests_per_connection: http.and_then(|http| positive(http.max_requests_per_connection)),
            tcp_keepalive: both_keepalives(
                config.written.tcp_keepalive.as_ref(),
                tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()),
            ),
            slow_start: self.slow_start(discovery_type),
            max_concurrent_streams: http.and_then(|http| positive(http.max_concurrent_streams)),
            connection_keepalive: http.and_then(|http| http.http2_keep_alive.as_ref()).map(|written| {
                ConnectionKeepalive {
                    interval: duration(written.interval),
                    timeout: duration(written.timeout),
                }
            }),
            retry_budget: self.retry_budget.as_ref().map(|(written, _)| RetryBudget {
                percent: written.percent.unwrap_or(RETRY_BUDGET_PERCENT),
                interval: duration(written.budget_interval),
                min_retry_concurrency: match written.min_retry_concurrency {
                    0 => RETRY_BUDGET_CONCURRENCY,
                    number => number,
                },
            }),
            outlier_error_codes: self
                .outlier_detection
                .as_ref()
                .map(|(written, _)| written.outlier_detection_http_error_codes.clone())
                .unwrap_or_default(),
            ..ClusterTuning::default()
        };
        self.hash_sizes(discovery_type, &mut out);
        (out != ClusterTuning::default()).then(|| Arc::new(out))
    }

    /// How the share of new endpoints grows; a hash leaves no room for it. istiod: `applyRoundRobinLoadBalancer,
    /// applyLeastRequestLoadBalancer, setWarmup`.
    fn slow_start(&self, discovery_type: DiscoveryType) -> Option<SlowStart> {
        let balancer = &self.load_balancer.as_ref()?.0;
        if !matches!(self.lb_policy(discovery_type), "ROUND_ROBIN" | "LEAST_REQUEST") {
            return None;
        }
        match (&balancer.warmup, balancer.warmup_duration_secs) {
            (Some(warmup), _) => Some(SlowStart {
                window: duration(warmup.duration),
                curve: Some((
                    warmup.aggression.unwrap_or(WARMUP_AGGRESSION),
                    warmup.minimum_percent.unwrap_or(WARMUP_MINIMUM),
                )),
            }),
            (None, Some(window)) => Some(SlowStart { window: Some(window.to_std()), curve: None }),
            (None, None) => None,
        }
    }

    fn hash_sizes(&self, discovery_type: DiscoveryType, out: &mut ClusterTuning) {
        let hash = self.load_balancer.as_ref().and_then(|(balancer, _)| balancer.consistent_hash.as_ref());
        let Some(hash) = hash.filter(|_| {
            !matches!(discovery_type, DiscoveryType::OriginalDst | DiscoveryType::DynamicForwardProxy)
        }) else {
            return;
        };
        match (&hash.maglev, &hash.ring_hash) {
            (Some(maglev), _) => out.maglev_table_size = Some(maglev.table_size).filter(|size| *size != 0),
            (None, Some(ring)) => {
                out.minimum_ring_size = Some(ring.minimum_ring_size).filter(|size| *size != 0);
            }
            (None, None) => {
                let written = hash.minimum_ring_size.filter(|size| *size != 0);
                out.minimum_ring_size = Some(written.unwrap_or(RING_SIZE));
            }
        }
    }
}

fn outlier_detection(written: &WrittenOutlierDetection) -> OutlierDetection {
    let split = written.split_external_local_origin_errors;
    OutlierDetection {
        consecutive_5xx: written.consecutive_5xx_errors,
        consecutive_gateway_failure: written.consecutive_gateway_errors,
        split_external_local_origin_errors: split,
        consecutive_local_origin_failure: written
            .consecutive_local_origin_failures
            .filter(|number| split && *number > 0),
        interval: duration(written.interval),
        base_ejection_time: duration(written.base_ejection_time),
        max_ejection_percent: positive(written.max_ejection_percent),
    }
}

/// What the mesh asks for, and where the rule says otherwise, what that asks for.
fn both_keepalives(mesh: Option<&WrittenKeepalive>, rule: Option<&WrittenKeepalive>) -> Option<TcpKeepalive> {
    let (mesh, rule) = (mesh.map(keepalive), rule.map(keepalive));
    if mesh.is_none() && rule.is_none() {
        return None;
    }
    let (mesh, rule) = (mesh.unwrap_or_default(), rule.unwrap_or_default());
    Some(TcpKeepalive {
        probes: rule.probes.or(mesh.probes),
        time: rule.time.or(mesh.time),
        interval: rule.interval.or(mesh.interval),
    })
}

fn keepalive(written: &WrittenKeepalive) -> TcpKeepalive {
    TcpKeepalive {
        probes: Some(written.probes).filter(|probes| *probes > 0),
        time: duration(written.time),
        interval: duration(written.interval),
    }
}

fn duration(written: Option<scalar::Duration>) -> Option<Duration> {
    written.map(scalar::Duration::to_std)
}

/// Only positive numbers count.
fn positive(written: i32) -> Option<u32> {
    u32::try_from(written).ok().filter(|number| *number > 0)
}
