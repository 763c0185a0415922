//! Settings of clusters that decide nothing about a request.
//!
//! istiod: `cluster_traffic_policy.go: applyConnectionPool, applyTCPKeepalive, applyOutlierDetection,
//! ApplyRingHashLoadBalancer`.

use std::time::Duration;

use serde_json::{Value, json};

use super::json::{Object, duration, number, percent, wide};
use crate::envoy::config::{ClusterTuning, OutlierDetection, RetryBudget, SlowStart};

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
    if let Some(start) = tuning.slow_start {
        let config = json!({"slow_start_config": Value::from(slow_start(start))});
        // istiod names no algorithm where it is Envoy's own.
        let least = out.get_mut("lb_policy").is_some_and(|policy| policy == "LEAST_REQUEST");
        out.set(if least { "least_request_lb_config" } else { "round_robin_lb_config" }, config);
    }
    out.set_some("cleanup_interval", tuning.cleanup_interval.map(duration));
}

/// `config.cluster.v3.Cluster.SlowStartConfig`; the key of the runtime is istiod's own. istiod: `setWarmup`.
fn slow_start(start: SlowStart) -> Object {
    let mut out = Object::new();
    out.set_some("slow_start_window", start.window.map(duration));
    if let Some((aggression, minimum)) = start.curve {
        out.set("aggression", json!({"default_value": number(aggression), "runtime_key": "("}));
        out.set("min_weight_percent", percent(minimum));
    }
    out
}

/// `config.core.v3.Http2ProtocolOptions`.
pub(super) fn http2(tuning: &ClusterTuning) -> Object {
    let mut out = Object::new();
    out.set_some("max_concurrent_streams", tuning.max_concurrent_streams);
    if let Some(pings) = tuning.connection_keepalive {
        let mut keepalive = Object::new();
        keepalive.set_some("interval", pings.interval.map(duration));
        keepalive.set_some("timeout", pings.timeout.map(duration));
        out.set("connection_keepalive", keepalive);
    }
    out
}

/// `CircuitBreakers.Thresholds.RetryBudget`.
pub(super) fn retry_budget(budget: RetryBudget) -> Value {
    let mut out = Object::new();
    out.set("budget_percent", percent(budget.percent));
    out.set_some("budget_interval", budget.interval.map(duration));
    out.set("min_retry_concurrency", budget.min_retry_concurrency);
    out.into()
}

/// Which statuses count as failures of an endpoint. istiod: `applyOutlierDetectionErrorCodes`.
pub(super) fn error_matcher(codes: &[u32]) -> Value {
    let one = |code: &u32| {
        let header = json!({"name": ":status", "string_match": {"exact": code.to_string()}});
        json!({"http_response_headers_match": {"headers": [header]}})
    };
    match codes {
        [only] => one(only),
        several => json!({"or_match": {"rules": several.iter().map(one).collect::<Vec<Value>>()}}),
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
