//! What does the answer look like when every try to reach an upstream failed?

use super::local_reply::{Answer, Circumstances, build};
use crate::envoy::decision::{HttpBranch, HttpDecision, HttpOutcome};
use crate::envoy::reply::LocalReply;
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
        HttpOutcome::Reply(_) | HttpOutcome::Unknown { .. } => (None, Origin::default("the upstream failed")),
    };
    let mut answer = Answer::new(503, failure.body.clone(), failure.details.clone(), origin);
    answer.flags.clone_from(&failure.flags);
    build(
        answer,
        Circumstances {
            decision,
            request: &branch.request,
            weighted: branch.weighted_cluster.as_ref(),
            cluster,
            cors_origin: branch.cors_origin.as_ref(),
            recorded,
        },
    )
}
