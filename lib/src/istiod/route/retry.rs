//! Which retry policy does a route get?
//!
//! Source: the VirtualService, else MeshConfig, else Istio's built-in policy. Invariant: `attempts` of zero or left
//! out turns retries off. istiod: `route/retry/retry.go: ConvertPolicy, ConvertInboundPolicy`.

use smol_str::SmolStr;

use crate::envoy::config::RetryPolicy;
use crate::manifest::schema::istio::HttpRetry;
use crate::origin::Origin;

/// Conditions of the built-in policy.
const DEFAULT_RETRY_ON: SmolStr =
    SmolStr::new_static("connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes");
/// Conditions of the built-in inbound policy.
const DEFAULT_INBOUND_RETRY_ON: SmolStr = SmolStr::new_static("reset-before-request");
/// The origin of the built-in policy.
const BUILT_IN: Origin =
    Origin::default("Istio's default retry policy: 2 retries of requests that reached no application");
/// The origin of the built-in inbound policy.
const BUILT_IN_INBOUND: Origin = Origin::default(
    "Istio's default inbound retry policy: 2 retries of requests reset before they were sent",
);

/// The policy for `retries` of a route; `consistent_hash` keeps retries on the same endpoint.
pub fn convert_policy(retries: Option<(&HttpRetry, Origin)>, consistent_hash: bool) -> Option<RetryPolicy> {
    let mut out = RetryPolicy {
        retry_on: DEFAULT_RETRY_ON,
        num_retries: 2,
        per_try_timeout: None,
        base_interval: None,
        retriable_status_codes: Vec::new(),
        previous_hosts: !consistent_hash,
        previous_priorities: false,
        host_selection_retry_max_attempts: 5,
        origin: BUILT_IN,
    };
    let Some((retries, origin)) = retries else { return Some(out) };
    out.num_retries = attempts(retries)?;
    out.origin = origin;
    apply_retry_on(&mut out, &retries.retry_on);
    out.per_try_timeout = retries.per_try_timeout.map(super::duration);
    out.base_interval = retries.backoff.map(super::duration);
    if let Some(previous_hosts) = retries.retry_ignore_previous_hosts {
        out.previous_hosts = previous_hosts;
    }
    out.previous_priorities = retries.retry_remote_localities == Some(true);
    Some(out)
}

/// The policy of an inbound route; only `attempts`, `retryOn` and `backoff` count.
pub fn convert_inbound_policy(retries: Option<(&HttpRetry, Origin)>) -> Option<RetryPolicy> {
    let mut out = RetryPolicy {
        retry_on: DEFAULT_INBOUND_RETRY_ON,
        num_retries: 2,
        per_try_timeout: None,
        base_interval: None,
        retriable_status_codes: Vec::new(),
        previous_hosts: false,
        previous_priorities: false,
        host_selection_retry_max_attempts: 1,
        origin: BUILT_IN_INBOUND,
    };
    let Some((retries, origin)) = retries else { return Some(out) };
    out.num_retries = attempts(retries)?;
    out.origin = origin;
    apply_retry_on(&mut out, &retries.retry_on);
    out.base_interval = retries.backoff.map(super::duration);
    Some(out)
}

fn attempts(retries: &HttpRetry) -> Option<u32> {
    u32::try_from(retries.attempts).ok().filter(|attempts| *attempts > 0)
}

/// Takes status codes out of the list of conditions. istiod: `retry.go: parseRetryOn`.
fn apply_retry_on(out: &mut RetryPolicy, retry_on: &str) {
    if retry_on.is_empty() {
        return;
    }
    let mut conditions = String::new();
    for part in retry_on.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<u16>() {
            Ok(code) if is_registered_status(code) => out.retriable_status_codes.push(code),
            _ => {
                if !conditions.is_empty() {
                    conditions.push(',');
                }
                conditions.push_str(part);
            }
        }
    }
    if !out.retriable_status_codes.is_empty() && !conditions.contains("retriable-status-codes") {
        conditions.push_str(",retriable-status-codes");
    }
    out.retry_on = conditions.into();
}

/// Whether Go's `http.StatusText` has a text for the code.
fn is_registered_status(code: u16) -> bool {
    http::StatusCode::from_u16(code).is_ok_and(|code| code.canonical_reason().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_without_attempts_are_off() {
        let retries = HttpRetry::default();
        assert_eq!(convert_policy(Some((&retries, BUILT_IN)), false), None);
    }

    #[test]
    fn status_codes_leave_the_list_of_conditions() {
        let retries = HttpRetry { attempts: 3, retry_on: "5xx, 503,999".into(), ..HttpRetry::default() };
        let policy = convert_policy(Some((&retries, BUILT_IN)), true).unwrap();
        assert_eq!(policy.retry_on, "5xx,999,retriable-status-codes");
        assert_eq!(policy.retriable_status_codes, [503]);
        assert!(!policy.previous_hosts);
    }
}
