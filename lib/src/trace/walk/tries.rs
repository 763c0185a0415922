//! How often does each proxy on a path try, and how long can that take?
//!
//! Invariant: a time is the longest there can be; where nothing limits it, or what lies behind is not known, there is none.

use std::time::Duration;

use smol_str::SmolStr;

use super::{Visit, Walk, request_lines};
use crate::envoy::decision::{Forward, HttpBranch};
use crate::envoy::{HttpOutcome, last_try};
use crate::trace::contract::{HeaderLines, Hop, Tries};

/// The branch that a hop's proxy takes, where it decides about requests.
pub(super) fn taken(visit: &Visit) -> Option<&HttpBranch> {
    let turn = visit.turn.as_ref()?;
    turn.decision.branches.get(turn.branch)
}

/// How a hop's proxy sends a request on, where it does.
pub(super) fn forwarded(visit: &Visit) -> Option<&Forward> {
    match &taken(visit)?.outcome {
        HttpOutcome::Forward(forward) => Some(forward),
        HttpOutcome::Reply(_) | HttpOutcome::Reset(_) | HttpOutcome::Unknown { .. } => None,
    }
}

impl Walk<'_> {
    /// The longest time until a hop's response is there, for each hop up to `last`, where the response is made in no time, if at all.
    pub(super) fn worst_cases(&self, last: usize, answered: bool) -> Vec<Option<Duration>> {
        let mut out = vec![None; self.path.len()];
        let mut answer = answered.then_some(Duration::ZERO);
        for (at, visit) in self.path.iter().enumerate().take(last + 1).rev() {
            if let Some(branch) = taken(visit) {
                if let HttpOutcome::Forward(forward) = &branch.outcome {
                    answer = forward.worst_case(answer);
                }
                // A route's time begins when the request reaches the router.
                if let Some((delay, _)) = &branch.fault_delay {
                    answer = answer.map(|answer| answer.saturating_add(*delay));
                }
            } else if visit.passes_bytes {
                // How long the bytes wait for a connection is not limited by what is known here.
                answer = None;
            }
            if let Some(place) = out.get_mut(at) {
                *place = answer;
            }
        }
        out
    }

    /// What there is to say about the tries of a hop.
    pub(super) fn tries(
        &self,
        visit: &Visit,
        made: Option<u32>,
        worst_case: Option<Duration>,
    ) -> Option<Tries> {
        let forward = forwarded(visit)?;
        let policy = forward.retry_policy.as_ref().filter(|policy| policy.num_retries > 0);
        let limit = |limit: Duration| Some(milliseconds(limit)).filter(|limit| *limit > 0);
        Some(Tries {
            made,
            most: policy.map_or(1, |policy| policy.num_retries.saturating_add(1)),
            retry_on: policy.map(|policy| policy.retry_on.clone()).unwrap_or_default(),
            back_off_ms: policy.map_or_else(Vec::new, |p| p.back_off_ends().map(milliseconds).collect()),
            other_hosts: policy
                .filter(|policy| policy.previous_hosts)
                .map(|policy| policy.host_selection_retry_max_attempts),
            origin: forward.retry_policy.as_ref().map(|policy| self.place(&policy.origin)),
            connect_timeout_ms: milliseconds(forward.found.connect_timeout),
            per_try_timeout_ms: limit(forward.per_try_timeout),
            timeout_ms: limit(forward.timeout),
            timeout_origin: self.place(&forward.timeout_origin),
            worst_case_ms: worst_case.map(milliseconds),
        })
    }

    /// Shows what the last of several tries of a hop sent, there and behind it.
    pub(super) fn show_last_try(&self, hops: &mut [Hop], at: usize, attempts: u32) {
        let Some(visit) = self.path.get(at) else { return };
        let (Some(turn), Some(branch)) = (&visit.turn, taken(visit)) else { return };
        let last = last_try(&turn.decision, branch, attempts);
        let lines = request_lines(Some(&last));
        let Some((hop, behind)) = hops.get_mut(at..).and_then(<[Hop]>::split_first_mut) else { return };
        for (name, value) in lines {
            let known = hop.request.left.iter_mut().find(|(own, old)| *own == name && *old != value);
            let Some((_, old)) = known else { continue };
            *old = value.clone();
            if let Some(change) = hop.request.changes.iter_mut().rev().find(|change| change.name == name) {
                change.new = Some(value.clone());
            }
            pass_on(behind, &name, &value);
        }
    }
}

/// Shows another value of a header at the hops that it passes, as far as it comes.
fn pass_on(hops: &mut [Hop], name: &SmolStr, value: &SmolStr) {
    let set = |lines: &mut HeaderLines| {
        for (_, old) in lines.iter_mut().filter(|(own, _)| own == name) {
            old.clone_from(value);
        }
    };
    for hop in hops {
        set(&mut hop.request.arrived);
        if let Some(change) = hop.request.changes.iter_mut().find(|change| change.name == *name) {
            if change.old.is_some() {
                change.old = Some(value.clone());
            }
            return;
        }
        set(&mut hop.request.left);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
