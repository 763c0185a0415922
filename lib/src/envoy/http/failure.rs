//! What does the answer look like when every try to reach an upstream failed?
//!
//! Measured with Envoy 1.40: the headers of the request are those of the last try when the answer is made.

use std::borrow::Cow;

use smol_str::{SmolStr, ToSmolStr as _, format_smolstr};

use super::local_reply::{Answer, Circumstances, build};
use super::router::EXPECTED_TIMEOUT;
use super::upgrade;
use crate::envoy::decision::{HttpBranch, HttpDecision, HttpOutcome};
use crate::envoy::headers::{self, envoy, literal};
use crate::envoy::ledger::{GENERATED, Generated, HeaderValue, Ledger};
use crate::envoy::reply::{LocalReply, ResponseFlag};
use crate::envoy::request::HttpRequest;
use crate::envoy::upstream::FailureAnswer;
use crate::origin::Origin;

/// The answer of a proxy to a request whose upstream failed, as its client receives it.
pub fn failed(
    decision: &HttpDecision,
    branch: &HttpBranch,
    failure: &FailureAnswer,
    recorded: bool,
) -> LocalReply {
    let (cluster, origin) = match &branch.outcome {
        HttpOutcome::Forward(forward) => (Some(&forward.cluster), forward.origin.clone()),
        HttpOutcome::Reply(_) | HttpOutcome::Reset(_) | HttpOutcome::Unknown { .. } => {
            (None, Origin::default("the upstream failed"))
        }
    };
    let mut answer = Answer::new(503, failure.body.clone(), failure.details.clone(), origin);
    answer.flags = branch.fault_delay.iter().map(|_| ResponseFlag::DelayInjected).collect();
    answer.flags.extend(&failure.flags);
    answer.attempts = failure.attempts;
    // What follows an upgrade has no end.
    answer.close = upgrade::asked(&branch.request).is_some();
    let request = last_try(decision, branch, failure.attempts);
    build(
        answer,
        Circumstances {
            decision,
            request: &request,
            weighted: branch.weighted_cluster.as_ref(),
            cluster,
            found: true,
            cors_origin: branch.cors_origin.as_ref(),
            recorded,
        },
    )
}

/// The request as the last of several tries sends it: header operations are not applied again.
///
/// Envoy: `router.cc: Filter::doRetry`, `FilterUtility::setTimeoutHeaders`.
pub fn last_try<'a>(decision: &HttpDecision, branch: &'a HttpBranch, attempts: u32) -> Cow<'a, HttpRequest> {
    let request = Cow::Borrowed(&branch.request);
    let HttpOutcome::Forward(forward) = &branch.outcome else { return request };
    if attempts < 2 {
        return request;
    }
    let mut request = request.into_owned();
    let ledger = &mut Ledger::default();
    let hand = envoy!("router: another try");
    if decision.virtual_host.as_ref().is_some_and(|host| host.include_request_attempt_count) {
        let count = literal(attempts.to_smolstr());
        // The length that the codec writes for a request without a body stays behind all headers.
        let empty = |(name, value): &mut (SmolStr, SmolStr)| name == "content-length" && value == "0";
        let length = request.headers.pop_if(|line| !decision.downstream.body && empty(line));
        headers::set(&mut request.headers, ledger, "x-envoy-attempt-count", count, hand);
        request.headers.extend(length);
    }
    // What is left of the route's time.
    if !forward.timeout.is_zero() && headers::has(&request.headers, EXPECTED_TIMEOUT) {
        let left = HeaderValue::Generated(Generated::TimeLeft, SmolStr::new_static(GENERATED));
        headers::set(&mut request.headers, ledger, EXPECTED_TIMEOUT, left, hand);
        if (decision.downstream.grpc || decision.downstream.grpc_web.is_some())
            && headers::has(&request.headers, "grpc-timeout")
        {
            let left = HeaderValue::Generated(Generated::TimeLeft, format_smolstr!("{GENERATED}m"));
            headers::set(&mut request.headers, ledger, "grpc-timeout", left, hand);
        }
    }
    Cow::Owned(request)
}
