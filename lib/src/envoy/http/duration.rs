//! How long may a stream last, when its client says so?
//!
//! Envoy: `conn_manager_impl.cc: ActiveStream::refreshDurationTimeout`, `grpc/common.cc: Common::getGrpcTimeout, toGrpcTimeout`. Measured with
//! Envoy 1.40: the limit holds for any request that has the header, and is rewritten for gRPC ones.

use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use super::local_reply::Answer;
use crate::envoy::config::{Action, RouteAction};
use crate::envoy::decision::HttpDecision;
use crate::envoy::headers::{self, Hand, Headers, literal};
use crate::envoy::ledger::{By, Ledger};
use crate::envoy::request::HttpRequest;

/// The header by which a client tells how long it waits.
pub(crate) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The largest number that the header has.
const MOST: u64 = 99_999_999;

/// Exit of the timer's own answer: `DEADLINE_EXCEEDED`.
const DEADLINE_EXCEEDED: u32 = 4;

/// Writes the limit that the route grants a gRPC client in the place of the one that it asked for.
pub(crate) fn tell(decision: &HttpDecision, request: &mut HttpRequest, ledger: &mut Ledger) {
    let Some((_, route)) = &decision.route else { return };
    let Action::Route(action) = &route.action else { return };
    let Some(limit) = limit(action, &request.headers).filter(|_| decision.downstream.grpc) else { return };
    let hand = Hand { by: By::Istio, origin: &action.timeout_origin };
    headers::set(&mut request.headers, ledger, GRPC_TIMEOUT, literal(format(limit)), hand);
}

/// The answer to a request whose time is over before anything is sent on; `None` where there is time.
pub(crate) fn exceeded(action: &RouteAction, request: &HttpRequest) -> Option<Answer> {
    limit(action, &request.headers).filter(Duration::is_zero)?;
    let body = SmolStr::new_static("downstream duration timeout");
    let details = SmolStr::new_static("max_duration_timeout");
    let mut answer = Answer::new(504, body, details, action.timeout_origin.clone());
    answer.grpc_status = Some(DEADLINE_EXCEEDED);
    answer.attempts = 1;
    Some(answer)
}

/// The limit that is asked for, as far as the route grants it; one of zero is over at once.
fn limit(action: &RouteAction, lines: &Headers) -> Option<Duration> {
    let most = action.max_stream_duration?.grpc_timeout_header_max;
    let asked = headers::get(lines, GRPC_TIMEOUT).and_then(|text| parse(text))?;
    Some(if most.is_zero() { asked } else { asked.min(most) })
}

/// A gRPC timeout: at most eight digits and a unit, rounded up to milliseconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: i64 = digits.trim_ascii().parse().ok()?;
    let count = u64::try_from(count).ok().filter(|count| *count <= MOST)?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_millis(count.div_ceil(1000)),
        "n" => Duration::from_millis(count.div_ceil(1_000_000)),
        _ => return None,
    })
}

/// A limit in the smallest unit that has room for it.
pub(crate) fn format(limit: Duration) -> SmolStr {
    let seconds = limit.as_secs();
    let units = [(limit.as_millis(), 'm'), (seconds.into(), 'S'), ((seconds / 60).into(), 'M')];
    match units.into_iter().find(|(count, _)| *count <= u128::from(MOST)) {
        Some((count, unit)) => format_smolstr!("{count}{unit}"),
        None => format_smolstr!("{}H", (seconds / 3600).min(MOST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_written_as_envoy_does() {
        for (text, written) in [
            ("1S", Some("1000m")),
            ("1H", Some("3600000m")),
            ("100u", Some("1m")),
            ("0n", Some("0m")),
            ("99999999m", Some("99999999m")),
            ("100000S", Some("100000S")),
            ("3000001M", Some("3000001M")),
            ("99999999H", Some("99999999H")),
            ("+1S", Some("1000m")),
            ("1 S", Some("1000m")),
            ("-1S", None),
            ("100000000m", None),
            ("S", None),
            ("1", None),
            ("bad", None),
            ("", None),
        ] {
            assert_eq!(parse(text).map(format).as_deref(), written, "{text}");
        }
    }
}
