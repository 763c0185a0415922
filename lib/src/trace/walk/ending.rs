//! How does a way end, and what does the client see of it?

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::{Ending, Visit, Walk, response_lines, tries};
use crate::envoy::config::RetryPolicy;
use crate::envoy::upstream::{self, FailureAnswer};
use crate::envoy::{
    self, HttpResponse, LocalReply, ResponseFlag, accepted_upgrade, passing_details, passing_flags, respond,
};
use crate::trace::contract::{AccessLog, Fidelity, Hop, Outcome, Verdict, VerdictKind};

/// Why a connection fails, for the proxy that made it.
#[derive(Clone, Debug)]
enum Cause {
    /// It cannot be made, or ends before there is a response.
    Connection(upstream::Failure),
    /// There is nothing to connect to.
    NoEndpoint,
}

/// A response that starts its way back.
struct Returned<'a> {
    /// The hop.
    at: usize,
    response: &'a HttpResponse,
    /// The proxy's own answer, where the hop's proxy made it.
    reply: Option<&'a LocalReply>,
    /// How many tries the proxy had made.
    attempts: u32,
}

/// A connection that fails.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    cause: Cause,
    flags: Vec<ResponseFlag>,
    details: SmolStr,
    reason: String,
    /// Whether it is one of the bytes that a connection carries: whoever passes them on sees nothing amiss.
    within: bool,
}

impl Failure {
    fn new(cause: Cause, reason: String) -> Self {
        Self { cause, flags: Vec::new(), details: SmolStr::default(), reason, within: false }
    }

    /// The other side does not speak the TLS within the connection's own. Measured with Envoy 1.40.
    pub(super) fn within(reason: String) -> Self {
        Self { within: true, ..Self::plaintext_server(reason) }
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
        Self::new(Cause::Connection(upstream::Failure::ConnectionTimeout), reason)
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
        self.answered_at(at, reply, 0, None);
    }

    fn answered_at(&mut self, at: usize, reply: &LocalReply, attempts: u32, reason: Option<String>) {
        let entrance = self.path.iter().take(at).rposition(|visit| visit.begins_tunnel);
        if let Some(entrance) = entrance {
            self.tunnel_refused(entrance, at, reply);
            return;
        }
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
        self.end(verdict, Some(Returned { at, response: &reply.response, reply: Some(reply), attempts }));
    }

    /// The request that was to carry bytes is answered by a proxy: whoever sent it closes the connection.
    ///
    /// Envoy: `tcp_proxy/upstream.cc: HttpUpstream::ResponseDecoder::decodeHeaders`. Measured with Envoy 1.40.
    fn tunnel_refused(&mut self, entrance: usize, at: usize, reply: &LocalReply) {
        let status = reply.response.status;
        let by = self.id(at);
        if (200..300).contains(&status) {
            self.unknown(format!("{by} answers the request that carries the bytes itself, with {status}"));
            return;
        }
        if let Some(visit) = self.path.get_mut(at).filter(|_| self.explain) {
            let (flags, details) = (texts(&reply.flags), reply.details.clone());
            visit.hop.log = Some(AccessLog { status: Some(status), flags, details });
        }
        let failure = upstream::Failure::RemoteConnectionFailure(format_smolstr!("tunnel_response:{status}"));
        let reason =
            format!("{by} answers the request that carries the bytes with {status} {}", reply.details);
        self.failed_from(entrance, &Failure::at_proxy(failure, reason));
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
        let sent = self.path.iter().rev().find_map(tries::taken);
        let accepted = sent.and_then(|branch| accepted_upgrade(&branch.request));
        if accepted.is_some() {
            self.rest_on(format!("{} accepts the upgrade of the connection", verdict.by));
        }
        let response = accepted.unwrap_or_else(|| HttpResponse {
            status: 200,
            headers: Vec::new(),
            body: SmolStr::default(),
        });
        let returned = Returned { at, response: &response, reply: None, attempts: 0 };
        self.end(verdict, http.then_some(returned));
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
        self.failed_from(self.path.len().saturating_sub(1), failure);
    }

    /// The same for a connection that failed at, or behind, another hop.
    fn failed_from(&mut self, last: usize, failure: &Failure) {
        let mut cause = failure.cause.clone();
        let mut flags = texts(&failure.flags);
        for at in (0..=last).rev() {
            let Some(visit) = self.path.get(at) else { return };
            if let Some(turn) = visit.turn.clone() {
                let Some(branch) = turn.decision.branches.get(turn.branch) else { return };
                let retries = tries::forwarded(visit).and_then(|forward| forward.retry_policy.as_ref());
                let answer = cause.answer(retries);
                let reply = envoy::failed(&turn.decision, branch, &answer, self.explain);
                self.answered_at(at, &reply, answer.attempts, Some(failure.reason.clone()));
                return;
            }
            if visit.passes_bytes {
                let ended = matches!(cause, Cause::Connection(upstream::Failure::ConnectionTermination));
                if (!ended || at < last) && !failure.within && flags.is_empty() {
                    let tried =
                        [ResponseFlag::UpstreamConnectionFailure, ResponseFlag::UpstreamRetryLimitExceeded];
                    flags = texts(&tried);
                }
                if self.explain
                    && let Some(visit) = self.path.get_mut(at)
                {
                    let flags = flags.clone();
                    visit.hop.log = Some(AccessLog { status: Some(0), flags, details: SmolStr::default() });
                }
                // A TCP proxy had taken the connection before it closes it.
                if !failure.within {
                    cause = Cause::Connection(upstream::Failure::ConnectionTermination);
                }
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
    fn end(&mut self, verdict: Verdict, response: Option<Returned<'_>>) {
        if !self.keeps() {
            self.stop();
            return;
        }
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
        let answered = response.as_ref().is_some_and(|response| response.reply.is_some());
        let last = response.as_ref().map_or(self.path.len(), |response| response.at);
        let worst_cases = self.worst_cases(last, answered);
        let worst_case = self.path.iter().position(|visit| visit.turn.is_some());
        let worst_case = worst_case.and_then(|at| worst_cases.get(at).copied().flatten());
        let mut hops = Vec::new();
        if self.explain {
            hops = self.path.iter().map(|visit| visit.hop.clone()).collect();
            let made = self.answer(&mut hops, response, verdict.status.is_some());
            for (((hop, visit), made), worst_case) in
                hops.iter_mut().zip(&self.path).zip(made).zip(worst_cases)
            {
                hop.tries = self.tries(visit, made, worst_case);
            }
        }
        let ending = Ending {
            outcome: Outcome {
                probability: self.probability,
                path: self.path.iter().map(|visit| visit.hop.id.clone()).collect(),
                verdict,
                fidelity,
                assumptions,
                worst_case_ms: worst_case.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
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

    /// Shows the response on its way back; the tries that were made at each hop, where the response is known.
    fn answer(&self, hops: &mut [Hop], returned: Option<Returned<'_>>, known: bool) -> Vec<Option<u32>> {
        let mut made = vec![None; hops.len()];
        let Some(Returned { at: start, response, reply, attempts }) = returned else { return made };
        let mut current = response.clone();
        let visits = self.path.iter().zip(hops.iter_mut()).zip(&mut made);
        for (at, ((visit, hop), made)) in visits.enumerate().take(start + 1).rev() {
            let mut tried = attempts;
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
            } else {
                hop.response.arrived = response_lines(&current, known);
                (current, tried) = self.passed_back(visit, hop, current, known);
                if at > 0 {
                    hop.response.left = response_lines(&current, known);
                }
            }
            *made = known.then_some(tried);
        }
        for (at, tried) in made.iter().enumerate().filter_map(|(at, tried)| Some((at, (*tried)?))) {
            if tried > 1 {
                self.show_last_try(hops, at, tried);
            }
        }
        made
    }

    /// A response passes a hop, after so many tries.
    fn passed_back(
        &self,
        visit: &Visit,
        hop: &mut Hop,
        response: HttpResponse,
        known: bool,
    ) -> (HttpResponse, u32) {
        let (Some(turn), Some(branch)) = (&visit.turn, tries::taken(visit)) else { return (response, 0) };
        let tried = branch.tried(&response);
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
            flags: texts(&passing_flags(branch, tried)),
            details: SmolStr::new_static(passing_details(branch, response.status)),
        });
        (left, tried.attempts)
    }
}

fn texts(flags: &[ResponseFlag]) -> Vec<SmolStr> {
    flags.iter().map(|flag| flag.as_str().to_smolstr()).collect()
}
