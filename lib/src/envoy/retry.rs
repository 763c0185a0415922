//! Which tries does a router make for a request, and how long can they take?
//!
//! Envoy: `retry_state_impl.cc: RetryStateImpl`, `backoff_strategy.cc: JitteredExponentialBackOffStrategy`. Measured with Envoy 1.40.
//! Invariant: a wait is known by its upper end only; nothing random is made up.

use std::time::Duration;

use smol_str::SmolStr;

use super::config::RetryPolicy;
use super::decision::{Forward, HttpBranch, HttpOutcome};
use super::headers;
use super::http::is_unsuccessful;
use super::reply::HttpResponse;
use crate::origin::Origin;

/// The first wait where the policy gives none: `upstream.base_retry_backoff_ms`.
const BASE_INTERVAL: Duration = Duration::from_millis(25);
/// How many times the first wait the longest is, as `max_interval` is never set.
const MAX_INTERVALS: u32 = 10;
/// How many different waits there can be: each is twice the one before, up to [`MAX_INTERVALS`] times the first.
const WAITS: u32 = 5;

/// What an internal client asks for by headers. Measured with Envoy 1.40.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
    pub(crate) retry_on: Vec<SmolStr>,
    /// `x-envoy-max-retries`.
    pub(crate) max_retries: Option<u32>,
    /// `x-envoy-retriable-status-codes`.
    pub(crate) retriable_status_codes: Vec<u16>,
}

impl Asked {
    /// The route's policy with what is asked for: conditions add up, the number replaces the route's.
    ///
    /// Envoy: `retry_state_impl.cc: RetryStateImpl::create`.
    pub(crate) fn of(self, policy: Option<&RetryPolicy>) -> Option<RetryPolicy> {
        if policy.is_none() && self.retry_on.is_empty() {
            return None;
        }
        let mut out = policy.cloned().unwrap_or_else(|| RetryPolicy {
            retry_on: SmolStr::default(),
            num_retries: 1,
            per_try_timeout: None,
            base_interval: None,
            retriable_status_codes: Vec::new(),
            previous_hosts: false,
            previous_priorities: false,
            host_selection_retry_max_attempts: 1,
            origin: Origin::default("router: an internal client asks for retries"),
        });
        let conditions =
            std::iter::once(out.retry_on.as_str()).chain(self.retry_on.iter().map(SmolStr::as_str));
        let conditions: Vec<&str> = conditions.filter(|conditions| !conditions.is_empty()).collect();
        out.retry_on = conditions.join(",").into();
        out.num_retries = self.max_retries.unwrap_or(out.num_retries);
        out.retriable_status_codes.extend(self.retriable_status_codes);
        Some(out)
    }
}

impl RetryPolicy {
    /// Whether one of these conditions is listed.
    fn lists(&self, conditions: &[&str]) -> bool {
        self.retry_on.split(',').any(|condition| conditions.contains(&condition.trim()))
    }

    /// Whether a connection that fails is tried again. Measured with Envoy 1.40: one that times out is, too.
    pub fn retries_connection_failure(&self) -> bool {
        self.lists(&["5xx", "gateway-error", "reset", "connect-failure", "reset-before-request"])
    }

    /// Whether a request whose connection is closed before a response is tried again.
    pub fn retries_termination(&self) -> bool {
        self.lists(&["5xx", "gateway-error", "reset"])
    }

    /// Whether a response is thrown away and the request tried again.
    ///
    /// Envoy: `retry_state_impl.cc: RetryStateImpl::wouldRetryFromHeaders`.
    pub fn retries_response(&self, response: &HttpResponse) -> bool {
        if headers::has(&response.headers, "x-envoy-ratelimited") {
            return self.lists(&["envoy-ratelimited"]);
        }
        let by_status = match response.status {
            502..=504 if self.lists(&["gateway-error"]) => true,
            500..600 if self.lists(&["5xx"]) => true,
            409 if self.lists(&["retriable-4xx"]) => true,
            status => {
                self.lists(&["retriable-status-codes"]) && self.retriable_status_codes.contains(&status)
            }
        };
        by_status
            || match headers::get(&response.headers, "grpc-status").map_or("", SmolStr::as_str) {
                "1" => self.lists(&["cancelled"]),
                "4" => self.lists(&["deadline-exceeded"]),
                "8" => self.lists(&["resource-exhausted"]),
                "13" => self.lists(&["internal"]),
                "14" => self.lists(&["unavailable"]),
                _ => false,
            }
    }

    /// Whether a try can be made after an earlier one got as far as the upstream.
    fn retries_requests(&self) -> bool {
        let connecting = ["connect-failure", "reset-before-request", ""];
        self.retry_on.split(',').any(|condition| match condition.trim() {
            "retriable-status-codes" => !self.retriable_status_codes.is_empty(),
            condition => !connecting.contains(&condition),
        })
    }

    /// The end of the range that the wait before a retry is drawn from, the first retry being 1; the range begins with zero, and its end
    /// is not in it.
    pub fn back_off(&self, retry: u32) -> Duration {
        let whole = |interval: Duration| Duration::from_millis(interval.as_millis() as u64);
        let base = whole(self.base_interval.unwrap_or(BASE_INTERVAL)).max(Duration::from_millis(1));
        let doubled = 1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        base.saturating_mul(doubled.min(MAX_INTERVALS))
    }

    /// The ends of the ranges of the waits, as long as they differ: all further ones are as the last.
    pub fn back_off_ends(&self) -> impl Iterator<Item = Duration> {
        (1..=self.num_retries.min(WAITS)).map(|retry| self.back_off(retry))
    }

    /// The ends of the ranges of all waits together.
    fn back_offs(&self) -> Duration {
        let further = self.back_off(WAITS).saturating_mul(self.num_retries.saturating_sub(WAITS));
        self.back_off_ends().sum::<Duration>().saturating_add(further)
    }
}

/// What an attempt count that is drawn from a response says: how many tries there were, and whether more would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// How many tries were made.
    pub attempts: u32,
    /// Whether another one would have been made, had there been any left.
    pub exceeded: bool,
}

impl Tried {
    /// The first try was the last.
    pub const ONCE: Self = Self { attempts: 1, exceeded: false };
}

impl HttpBranch {
    /// The tries until this response reaches the client, when the upstream gives it each time.
    ///
    /// Measured with Envoy 1.40: what does not accept an upgrade, and is no error, is not tried again.
    pub fn tried(&self, response: &HttpResponse) -> Tried {
        match &self.outcome {
            HttpOutcome::Forward(forward) if !is_unsuccessful(self, response.status) => {
                forward.tried(response)
            }
            _ => Tried::ONCE,
        }
    }
}

impl Forward {
    fn tried(&self, response: &HttpResponse) -> Tried {
        match self.retry_policy.as_ref().filter(|policy| policy.retries_response(response)) {
            Some(policy) => Tried { attempts: policy.num_retries.saturating_add(1), exceeded: true },
            None => Tried::ONCE,
        }
    }

    /// The longest time from the request until the response's headers; `None` when nothing limits it.
    ///
    /// `answer` is how long the upstream takes once it is connected, if that is known. The limit of a try does not run before its
    /// connection is there: measured with Envoy 1.40. The route's limit runs through all tries and waits.
    pub fn worst_case(&self, answer: Option<Duration>) -> Option<Duration> {
        let per_try = Some(self.per_try_timeout).filter(|limit| !limit.is_zero());
        let response = match (per_try, answer) {
            (Some(limit), Some(answer)) => Some(limit.min(answer)),
            (limit, answer) => limit.or(answer),
        };
        let connect = self.found.connect_timeout;
        let last = response.map(|response| connect.saturating_add(response));
        let tries = match self.retry_policy.as_ref().filter(|policy| policy.num_retries > 0) {
            None => last,
            Some(policy) => {
                let each = if policy.retries_requests() { last } else { Some(connect) };
                last.zip(each).map(|(last, each)| {
                    each.saturating_mul(policy.num_retries)
                        .saturating_add(policy.back_offs())
                        .saturating_add(last)
                })
            }
        };
        let limit = Some(self.timeout).filter(|limit| !limit.is_zero());
        match (limit, tries) {
            (Some(limit), Some(tries)) => Some(limit.min(tries)),
            (limit, tries) => limit.or(tries),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(retry_on: &str, num_retries: u32) -> RetryPolicy {
        RetryPolicy {
            retry_on: retry_on.into(),
            num_retries,
            per_try_timeout: None,
            base_interval: None,
            retriable_status_codes: vec![418],
            previous_hosts: true,
            previous_priorities: false,
            host_selection_retry_max_attempts: 5,
            origin: Origin::default("a test"),
        }
    }

    fn response(status: u16, header: Option<(&str, &str)>) -> HttpResponse {
        let headers = header.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        HttpResponse { status, headers, body: SmolStr::default() }
    }

    #[test]
    fn an_internal_client_adds_conditions_and_sets_the_number() {
        let route = policy("connect-failure", 2);
        let asked = |retry_on: &[&str], max_retries| Asked {
            retry_on: retry_on.iter().map(SmolStr::new).collect(),
            max_retries,
            retriable_status_codes: vec![503],
        };
        let both = asked(&["5xx", "cancelled"], None).of(Some(&route)).unwrap();
        assert_eq!((both.retry_on.as_str(), both.num_retries), ("connect-failure,5xx,cancelled", 2));
        assert_eq!(both.retriable_status_codes, [418, 503]);
        let alone = asked(&["5xx"], None).of(None).unwrap();
        assert_eq!((alone.retry_on.as_str(), alone.num_retries), ("5xx", 1));
        assert_eq!(asked(&[], Some(3)).of(Some(&route)).unwrap().num_retries, 3);
        assert_eq!(asked(&[], Some(3)).of(None), None);
    }

    #[test]
    fn waits_double_up_to_ten_times_the_first() {
        let policy = policy("5xx", 6);
        let waits: Vec<u128> = (1..=6).map(|retry| policy.back_off(retry).as_millis()).collect();
        assert_eq!(waits, [25, 50, 100, 200, 250, 250]);
        assert_eq!(policy.back_offs(), Duration::from_millis(875));
        let short = RetryPolicy { base_interval: Some(Duration::from_micros(100)), ..policy };
        assert_eq!(short.back_off(1), Duration::from_millis(1));
        let many = RetryPolicy { num_retries: u32::MAX, ..short };
        assert_eq!(many.back_offs(), Duration::from_millis(15) + Duration::from_millis(10) * (u32::MAX - 4));
    }

    #[test]
    fn responses_are_thrown_away_for_their_status_or_that_of_grpc() {
        for (retry_on, response, expected) in [
            ("5xx", response(500, None), true),
            ("gateway-error", response(500, None), false),
            ("gateway-error", response(504, None), true),
            ("retriable-4xx", response(409, None), true),
            ("connect-failure,unavailable", response(503, None), false),
            ("connect-failure, unavailable", response(200, Some(("grpc-status", "14"))), true),
            ("cancelled", response(200, Some(("grpc-status", "2"))), false),
            ("retriable-status-codes", response(418, None), true),
            ("connect-failure", response(418, None), false),
            ("5xx", response(503, Some(("x-envoy-ratelimited", "true"))), false),
            ("5xx,envoy-ratelimited", response(429, Some(("x-envoy-ratelimited", "true"))), true),
        ] {
            assert_eq!(policy(retry_on, 1).retries_response(&response), expected, "{retry_on} {response:?}");
        }
    }
}
