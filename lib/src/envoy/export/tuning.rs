//! Settings of clusters that decide nothing about a request.
//!
//! istiod: `cluster_traffic_policy.go: applyConnectionPool, applyTCPKeepalive, applyOutlierDetection,
//! ApplyRingHashLoadBalancer`.

use std::time::Duration;

use serde_json::{Value, json};

use super::json::{Object, duration, wide};
use crate::envoy::config::{ClusterTuning, OutlierDetection};

/// The fields of the cluster itself.
pub(super) fn set(out: &mut Object, tuning: &ClusterTuning) {
    if let Some(size) = tuning.minimum_ring_size {
        out.set("ring_hash_lb_config", json!({"minimum_ring_size": wide(size)}));
    }
    if let Some(size) = tuning.maglev_table_size {
        out.set("maglev_lb_config", json!({"table_size": wide(size)}));
    }
    if let Some(probes) = tuning.tcp_keepalive {
        let seconds = |value: Option<Duration>| value.map(|value| value.as_secs());
        let mut keepalive = Object::new();
        keepalive.set_some("keepalive_probes", probes.probes);
        keepalive.set_some("keepalive_time", seconds(probes.time));
        keepalive.set_some("keepalive_interval", seconds(probes.interval));
        out.set("upstream_connection_options", json!({"tcp_keepalive": Value::from(keepalive)}));
    }
}

/// `config.core.v3.HttpProtocolOptions`.
pub(super) fn common_http(tuning: &ClusterTuning) -> Object {
    let mut out = Object::new();
    out.set_some("idle_timeout", tuning.idle_timeout.map(duration));
    out.set_some("max_connection_duration", tuning.max_connection_duration.map(duration));
    out.set_some("max_requests_per_connection", tuning.max_requests_per_connection);
    out
}

/// `config.cluster.v3.OutlierDetection`; endpoints are never taken out for their share of successes.
pub(super) fn outlier_detection(limits: OutlierDetection) -> Value {
    let all = |number: u32| if number > 0 { 100 } else { 0 };
    let mut out = Object::new();
    out.set_some("consecutive_5xx", limits.consecutive_5xx);
    out.set_some("interval", limits.interval.map(duration));
    out.set_some("base_ejection_time", limits.base_ejection_time.map(duration));
    out.set_some("max_ejection_percent", limits.max_ejection_percent);
    out.set_some("enforcing_consecutive_5xx", limits.consecutive_5xx.map(all));
    out.set("enforcing_success_rate", 0);
    out.set_some("consecutive_gateway_failure", limits.consecutive_gateway_failure);
    out.set_some("enforcing_consecutive_gateway_failure", limits.consecutive_gateway_failure.map(all));
    if limits.split_external_local_origin_errors {
        out.set("split_external_local_origin_errors", true);
        out.set_some("consecutive_local_origin_failure", limits.consecutive_local_origin_failure);
        out.set_some(
            "enforcing_consecutive_local_origin_failure",
            limits.consecutive_local_origin_failure.map(all),
        );
        out.set("enforcing_local_origin_success_rate", 0);
    }
    out.into()
}
