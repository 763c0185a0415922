//! How does a way end, and what does the client see of it?

use smol_str::{SmolStr, ToSmolStr};

use super::{Ending, Visit, Walk, response_lines};
use crate::envoy::config::RetryPolicy;
use crate::envoy::upstream::{self, FailureAnswer};
use crate::envoy::{self, HttpOutcome, HttpResponse, LocalReply, ResponseFlag, respond};
use crate::trace::contract::{AccessLog, Fidelity, Hop, Outcome, Verdict, VerdictKind};

/// Why a connection fails, for the proxy that made it.
#[derive(Clone, Debug)]
enum Cause {
    /// It cannot be made, or ends before there is a response.
    Connection(upstream::Failure),
    /// Nothing answers.
    Timeout,
    /// There is nothing to connect to.
    NoEndpoint,
}

/// A connection that fails.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    cause: Cause,
    flags: Vec<ResponseFlag>,
    details: SmolStr,
    reason: String,
}

impl Failure {
    fn new(cause: Cause, reason: String) -> Self {
        Self { cause, flags: Vec::new(), details: SmolStr::default(), reason }
    }

    /// What a proxy makes of a connection to another proxy.
    pub(super) fn at_proxy(failure: upstream::Failure, reason: String) -> Self {
        Self::new(Cause::Connection(failure), reason)
    }

    /// Nothing listens.
    pub(super) fn refused(reason: String) -> Self {
        Self::new(Cause::Connection(upstream::CONNECTION_REFUSED), reason)
    }

    /// Nothing answers.
    pub(super) fn timeout(reason: String) -> Self {
        Self::new(Cause::Timeout, reason)
    }

    /// It is closed after it was made.
    pub(super) fn terminated(reason: String) -> Self {
        Self::new(Cause::Connection(upstream::Failure::ConnectionTermination), reason)
    }

    /// The other side does not speak TLS.
    pub(super) fn plaintext_server(reason: String) -> Self {
        Self::new(Cause::Connection(upstream::Failure::plaintext_server()), reason)
    }

    /// There is nothing to connect to.
    pub(super) fn no_endpoint(reason: String) -> Self {
        let mut failure = Self::new(Cause::NoEndpoint, reason);
        failure.flags.push(ResponseFlag::NoHealthyUpstream);
        failure
    }

    /// What the hop that closes the connection logs.
    pub(super) fn logged(mut self, flags: &[ResponseFlag], details: &str) -> Self {
        self.flags = flags.to_vec();
        self.details = details.into();
        self
    }
}

impl Cause {
    /// What an HTTP proxy answers. Measured with Envoy 1.40 (`envoy-semantics`, local replies).
    fn answer(&self, policy: Option<&RetryPolicy>) -> FailureAnswer {
        match self {
            Self::Connection(failure) => failure.answer(policy),
            Self::Timeout => FailureAnswer {
                flags: vec![ResponseFlag::UpstreamConnectionFailure],
                details: SmolStr::new_static("upstream_reset_before_response_started{connection_timeout}"),
                body: SmolStr::new_static(
                    "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
                ),
                attempts: 1,
            },
            Self::NoEndpoint => FailureAnswer {
                flags: vec![ResponseFlag::NoHealthyUpstream],
                details: SmolStr::new_static("no_healthy_upstream"),
                body: SmolStr::new_static("no healthy upstream"),
                attempts: 1,
            },
        }
    }
}

impl Walk<'_> {
    /// Writes what the last hop logs.
    pub(super) fn log(&mut self, status: Option<u16>, flags: &[ResponseFlag], details: &str) {
        if let Some(visit) = self.path.last_mut().filter(|_| self.explain) {
            visit.hop.log = Some(AccessLog { status, flags: texts(flags), details: details.into() });
        }
    }

    /// The last hop's proxy answers.
    pub(super) fn answered(&mut self, reply: &LocalReply) {
        let at = self.path.len().saturating_sub(1);
        self.answered_at(at, reply, None);
    }

    fn answered_at(&mut self, at: usize, reply: &LocalReply, reason: Option<String>) {
        let location = reply.location().map(SmolStr::from);
        let redirect = location.is_some() && (300..400).contains(&reply.response.status);
        let verdict = Verdict {
            kind: if redirect { VerdictKind::Redirected } else { VerdictKind::Answered },
            status: Some(reply.response.status),
            flags: texts(&reply.flags),
            details: reply.details.clone(),
            by: self.id(at),
            location: location.filter(|_| redirect),
            reason,
        };
        self.end(verdict, Some((at, &reply.response, Some(reply))));
    }

    /// The request reaches an application, or leaves the cluster.
    pub(super) fn delivered(&mut self) {
        let at = self.path.len().saturating_sub(1);
        let verdict = Verdict {
            kind: VerdictKind::Delivered,
            status: None,
            flags: Vec::new(),
            details: SmolStr::default(),
            by: self.id(at),
            location: None,
            reason: None,
        };
        let http = self.path.iter().any(|visit| visit.turn.is_some());
        let response = HttpResponse { status: 200, headers: Vec::new(), body: SmolStr::default() };
        self.end(verdict, http.then_some((at, &response, None)));
    }

    /// The client finds no address.
    pub(super) fn unresolved(&mut self, reason: String) {
        self.ended(VerdictKind::Unresolved, Some(reason));
    }

    /// The request comes back to where it was.
    pub(super) fn looped(&mut self) {
        let reason = "the same request comes to the same proxy again and again".to_owned();
        self.ended(VerdictKind::Loop, Some(reason));
    }

    /// The input does not settle it.
    pub(super) fn unknown(&mut self, reason: String) {
        if let Some(visit) = self.path.last_mut() {
            visit.fidelity = Fidelity::Opaque;
        }
        self.ended(VerdictKind::Unknown, Some(reason));
    }

    fn ended(&mut self, kind: VerdictKind, reason: Option<String>) {
        let verdict = Verdict {
            kind,
            status: None,
            flags: Vec::new(),
            details: SmolStr::default(),
            by: self.id(self.path.len().saturating_sub(1)),
            location: None,
            reason,
        };
        self.end(verdict, None);
    }

    /// A connection fails at, or behind, the last hop: the nearest HTTP proxy answers, others only close.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let last = self.path.len().saturating_sub(1);
        let mut cause = failure.cause.clone();
        let mut flags = texts(&failure.flags);
        for at in (0..=last).rev() {
            let Some(visit) = self.path.get(at) else { return };
            if let Some(turn) = visit.turn.clone() {
                let Some(branch) = turn.decision.branches.get(turn.branch) else { return };
                let retries = match &branch.outcome {
                    HttpOutcome::Forward(forward) => forward.retry_policy.as_ref(),
                    HttpOutcome::Reply(_) | HttpOutcome::Unknown { .. } => None,
                };
                let reply = envoy::failed(&turn.decision, branch, &cause.answer(retries), self.explain);
                self.answered_at(at, &reply, Some(failure.reason.clone()));
                return;
            }
            if visit.passes_bytes {
                if !matches!(cause, Cause::Connection(upstream::Failure::ConnectionTermination)) || at < last
                {
                    let tried =
                        [ResponseFlag::UpstreamConnectionFailure, ResponseFlag::UpstreamRetryLimitExceeded];
                    if flags.is_empty() {
                        flags = texts(&tried);
                    }
                }
                if self.explain
                    && let Some(visit) = self.path.get_mut(at)
                {
                    let flags = flags.clone();
                    visit.hop.log = Some(AccessLog { status: Some(0), flags, details: SmolStr::default() });
                }
                // A TCP proxy had taken the connection before it closes it.
                cause = Cause::Connection(upstream::Failure::ConnectionTermination);
            }
        }
        let verdict = Verdict {
            kind: VerdictKind::Reset,
            status: None,
            flags,
            details: failure.details.clone(),
            by: self.id(last),
            location: None,
            reason: Some(failure.reason.clone()),
        };
        self.end(verdict, None);
    }

    fn id(&self, at: usize) -> SmolStr {
        self.path.get(at).map(|visit| visit.hop.id.clone()).unwrap_or_default()
    }

    /// Ends this way: `response` starts its way back at a hop, made by that hop's proxy or by what is there.
    fn end(&mut self, verdict: Verdict, response: Option<(usize, &HttpResponse, Option<&LocalReply>)>) {
        let mut fidelity = Fidelity::Exact;
        let mut assumptions: Vec<SmolStr> = Vec::new();
        for visit in &self.path {
            fidelity = fidelity.max(visit.fidelity);
            for id in &visit.assumed {
                if !assumptions.contains(id) {
                    assumptions.push(id.clone());
                }
            }
        }
        let hops = if self.explain { self.answer(response, &verdict) } else { Vec::new() };
        let ending = Ending {
            outcome: Outcome {
                probability: self.probability,
                path: self.path.iter().map(|visit| visit.hop.id.clone()).collect(),
                verdict,
                fidelity,
                assumptions,
                mirrors: self.mirrors.clone(),
                hops: Vec::new(),
            },
            hops,
            legs: self.path.iter().filter_map(|visit| visit.leg.clone()).collect(),
        };
        if self.copies > 0 {
            self.copied.push(ending);
        } else {
            self.endings.push(ending);
        }
    }

    /// The hops of the path with the response on its way back.
    fn answer(
        &self,
        response: Option<(usize, &HttpResponse, Option<&LocalReply>)>,
        verdict: &Verdict,
    ) -> Vec<Hop> {
        let mut hops: Vec<Hop> = self.path.iter().map(|visit| visit.hop.clone()).collect();
        let Some((start, first, reply)) = response else { return hops };
        let known = verdict.status.is_some();
        let mut current = first.clone();
        for (at, (visit, hop)) in self.path.iter().zip(&mut hops).enumerate().take(start + 1).rev() {
            if at == start {
                hop.response.left = response_lines(&current, known);
                if let Some(reply) = reply {
                    hop.response.changes = self.changes(&reply.changes);
                    hop.log = Some(AccessLog {
                        status: Some(reply.response.status),
                        flags: texts(&reply.flags),
                        details: reply.details.clone(),
                    });
                }
                continue;
            }
            hop.response.arrived = response_lines(&current, known);
            current = self.passed_back(visit, hop, current, known);
            if at > 0 {
                hop.response.left = response_lines(&current, known);
            }
        }
        hops
    }

    /// A response passes a hop.
    fn passed_back(&self, visit: &Visit, hop: &mut Hop, response: HttpResponse, known: bool) -> HttpResponse {
        let Some(turn) = &visit.turn else { return response };
        let Some(branch) = turn.decision.branches.get(turn.branch) else { return response };
        let (mut left, mut changes) = respond(&turn.decision, branch, &response);
        if !known {
            // How long an application's answer is, is not known, so neither is its framing.
            let framing = |name: &SmolStr| name == "content-length" || name == "transfer-encoding";
            left.headers.retain(|(name, _)| !framing(name));
            changes.retain(|change| !framing(&change.name));
        }
        hop.response.changes = self.changes(&changes);
        hop.log = Some(AccessLog {
            status: known.then_some(left.status),
            flags: if branch.fault_delay.is_some() {
                texts(&[ResponseFlag::DelayInjected])
            } else {
                Vec::new()
            },
            details: SmolStr::new_static("via_upstream"),
        });
        left
    }
}

fn texts(flags: &[ResponseFlag]) -> Vec<SmolStr> {
    flags.iter().map(|flag| flag.as_str().to_smolstr()).collect()
}
