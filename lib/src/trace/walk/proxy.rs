//! What does a proxy on the way do?

use std::sync::Arc;

use smol_str::SmolStr;

use super::ending::Failure;
use super::{Flight, Turn, Walk, request_lines};
use crate::diagnostic::Code;
use crate::envoy::decision::{Forward, TcpDecision};
use crate::envoy::recorder::{self, NoRecord, Record, StepKind as Recorded};
use crate::envoy::request::ApplicationProtocol;
use crate::envoy::xds::Capture;
use crate::envoy::{
    ConnectionOutcome, Decision, Ends, HttpDecision, HttpOutcome, Reset, Transport, decide, upstream,
};
use crate::origin::Origin;
use crate::trace::contract::{Failed, Fidelity, HopKind, NearMiss, Note, StepKind};
use crate::trace::near_miss;
use crate::trace::tracer::Member;

impl Walk<'_> {
    /// A connection arrives at the proxy of a workload.
    pub(super) fn at_proxy(&mut self, kind: HopKind, workload: usize, capture: Capture, flight: Flight) {
        let (Some(found), Some(member)) = (self.mesh.workloads().get(workload), self.member(workload)) else {
            return;
        };
        let repeats = self.repeats(kind, Some(workload), &flight);
        self.enter(kind, &found.full_name(), Some(workload), &flight);
        if repeats {
            self.looped();
            return;
        }
        let (connection, request) = flight.connection();
        let mut record = Record::default();
        let decision = if self.explain {
            decide(&member.proxy, &member.facts, capture, &connection, request, &mut record)
        } else {
            decide(&member.proxy, &member.facts, capture, &connection, request, &mut NoRecord)
        };
        self.recorded(record);
        self.carry_out(decision, &member, &connection.transport, flight);
    }

    /// A connection arrives at, or leaves, a workload in ambient mode: its node's ztunnel takes it.
    pub(super) fn at_ztunnel(&mut self, workload: usize, flight: &Flight) {
        let Some(found) = self.mesh.workloads().get(workload) else { return };
        let Some(origin) = &found.ambient else { return };
        self.enter(HopKind::Ztunnel, &found.full_name(), Some(workload), flight);
        let reason =
            format!("{} is in ambient mode; what ztunnel makes of it is not modelled", found.full_name());
        self.opaque_step(StepKind::Capture, Code::NotModelled, "ztunnel", origin, &reason);
        self.unknown(reason);
    }

    /// Notes what the recorder heard.
    fn recorded(&mut self, record: Record) {
        for step in record.steps {
            let kind = match step.kind {
                Recorded::Listener => StepKind::Listener,
                Recorded::FilterChain => StepKind::FilterChain,
                Recorded::Authentication => StepKind::Authentication,
                Recorded::Patch => StepKind::Patch,
                Recorded::Authorization => StepKind::Authorization,
                Recorded::RouteConfig => StepKind::RouteConfig,
                Recorded::VirtualHost => StepKind::VirtualHost,
                Recorded::Route => StepKind::Route,
            };
            self.step(kind, &step.name, &step.origin, None);
        }
        for miss in record.near_misses {
            self.route_near_miss(miss);
        }
    }

    /// The input does not settle what comes next, because of something that is written.
    fn undecided(&mut self, kind: StepKind, code: Code, reason: &str, origin: &Origin) {
        self.opaque_step(kind, code, reason, origin, reason);
        self.unknown(reason.to_owned());
    }

    /// Notes a step behind which nothing is known, and who takes part there.
    fn opaque_step(&mut self, kind: StepKind, code: Code, name: &str, origin: &Origin, reason: &str) {
        let note = Some("what lies behind it is not known".to_owned());
        self.step_with(kind, &SmolStr::from(name), origin, note, Fidelity::Opaque, Vec::new());
        let place = self.place(origin);
        if self.explain && origin.resource().is_some() && self.notes.iter().all(|note| note.origin != place) {
            self.notes.push(Note {
                code: code.as_str(),
                severity: code.severity(),
                message: format!("{place} takes part: {reason}"),
                origin: place,
                help: None,
                takes_part: true,
            });
        }
    }

    /// Keeps a part of the configuration that could have been meant; defaults are nobody's intention.
    fn route_near_miss(&mut self, miss: recorder::NearMiss) {
        let origin = if miss.failed.origin.resource().is_some() { &miss.failed.origin } else { &miss.origin };
        let Origin::Field { resource, path } = origin else { return };
        let Some(hop) = self.path.last().map(|visit| visit.hop.id.clone()) else { return };
        let found = NearMiss {
            resource: self.mesh.manifests().describe(*resource).into(),
            field: path.clone(),
            hop,
            origin: self.place(origin),
            failed: Failed {
                condition: miss.failed.condition,
                expected: miss.failed.expected,
                got: miss.failed.got,
            },
            rule: None,
            repair: None,
            help: None,
        };
        if !self.near_misses.contains(&found) {
            self.near_misses.push(found);
        }
    }

    /// Names the certificate that ends a client's TLS where the input does not show that there is one.
    fn rest_on_certificate(&mut self, decision: &Decision, sent: &Transport) {
        let chain = decision.filter_chain.as_ref();
        let Some(context) = chain.and_then(|chain| chain.transport_socket.as_ref()) else { return };
        if context.secret_exists.is_none() && matches!(sent, Transport::Tls { .. }) {
            self.rest_on(format!("there is a certificate {}, which no manifest shows", context.secret_name));
        }
    }

    fn carry_out(&mut self, decision: Decision, member: &Member, sent: &Transport, mut flight: Flight) {
        let failure = upstream::Failure::at(sent, &decision);
        self.rest_on_certificate(&decision, sent);
        if decision.filter_chain.as_ref().is_some_and(|chain| chain.transport_socket.is_some()) {
            flight.layers.pop();
        }
        let reads =
            decision.listener.as_ref().is_some_and(|listener| listener.listener_filters.proxy_protocol);
        let unread = flight.announced_by.clone().filter(|_| !reads);
        let failed = |reason: String| {
            let failure = failure.clone().unwrap_or(upstream::Failure::ConnectionTermination);
            Failure::at_proxy(failure, reason)
        };
        match decision.outcome {
            ConnectionOutcome::NoListener => {
                self.near_misses_of_gateway(&flight);
                let place = super::socket(flight.address, flight.port);
                self.failed(&failed(format!("nothing listens on {place}")));
            }
            ConnectionOutcome::Closed { flags, details, origin } => {
                self.near_misses_of_gateway(&flight);
                self.log(Some(0), &flags, &details);
                self.failed(&failed(closing(&origin, &details)).logged(&flags, &details));
            }
            ConnectionOutcome::TlsError { failure, origin } => {
                let note = Some("the TLS handshake fails".to_owned());
                self.step(StepKind::Authentication, &failure, &origin, note);
                self.log(Some(0), &[], &failure);
                let reason = format!("the TLS handshake fails: {failure}");
                self.failed(&failed(reason).logged(&[], &failure));
            }
            ConnectionOutcome::Refused { reason } => {
                self.unknown(format!("Envoy refuses this listener and keeps what it had before: {reason}"));
            }
            ConnectionOutcome::Unknown { reason, origin } => {
                self.undecided(StepKind::Authorization, Code::NotModelled, &reason, &origin);
            }
            ConnectionOutcome::Tcp(tcp) => {
                if let Some(origin) = unread {
                    if matches!(flight.layers.last(), Some(Transport::Tls { mesh_certificate: true, .. })) {
                        let reason = "what comes before TLS is not read here, so nobody ends the TLS";
                        self.failed(&Failure::plaintext_server(reason.to_owned()));
                        return;
                    }
                    flight = Flight {
                        layers: Vec::new(),
                        protocol: ApplicationProtocol::Tcp,
                        message: None,
                        unread: Some(origin),
                        ..flight
                    };
                }
                self.pass_bytes(&tcp, member, &flight);
            }
            ConnectionOutcome::Http(_)
                if unread.is_some() && flight.protocol == ApplicationProtocol::Http2 =>
            {
                let reason = "what comes before HTTP/2 is read as a request of HTTP/1, and answered so";
                self.unknown(reason.to_owned());
            }
            ConnectionOutcome::Http(_) if failure.is_some() => {
                self.failed(&failed("the port speaks plaintext, the client TLS".to_owned()));
            }
            ConnectionOutcome::Http(http) => self.pass_request(Arc::from(http), member, &flight),
        }
    }

    fn pass_bytes(&mut self, tcp: &TcpDecision, member: &Member, flight: &Flight) {
        let shares: Vec<f64> = tcp.branches.iter().map(|branch| branch.probability).collect();
        self.fork(&shares, |walk, way| {
            let Some(branch) = tcp.branches.get(way) else { return };
            walk.step(StepKind::Cluster, &branch.cluster, &branch.origin, None);
            if let Some(visit) = walk.path.last_mut() {
                visit.passes_bytes = true;
            }
            match &branch.found {
                Some(cluster) if branch.flags.is_empty() => {
                    walk.log(None, &[], "");
                    match &tcp.tunnel {
                        None => walk.forward(cluster, member, flight.clone(), false),
                        Some(tunnel) => walk.forward_in_tunnel(tunnel, cluster, member, flight),
                    }
                }
                _ => {
                    walk.log(Some(0), &branch.flags, "");
                    let reason = match &branch.found {
                        None => format!("there is no cluster {}", branch.cluster),
                        Some(_) => format!("{} has no endpoint to connect to", branch.cluster),
                    };
                    walk.failed(&Failure::terminated(reason).logged(&branch.flags, ""));
                }
            }
        });
    }

    fn pass_request(&mut self, decision: Arc<HttpDecision>, member: &Member, flight: &Flight) {
        let shares: Vec<f64> = decision.branches.iter().map(|branch| branch.probability).collect();
        self.fork(&shares, |walk, way| {
            let Some(branch) = decision.branches.get(way) else { return };
            if walk.explain {
                let changes = walk.changes(&branch.changes);
                if let Some(visit) = walk.path.last_mut() {
                    visit.hop.request.left = request_lines(Some(&branch.request));
                    visit.hop.request.changes = changes;
                }
            }
            if let Some((delay, origin)) = &branch.fault_delay {
                let name = smol_str::format_smolstr!("delay {delay:?}");
                walk.step(StepKind::Fault, &name, origin, None);
            }
            // What does not get an answer here is a connection that fails, for whoever made it.
            let answers = !matches!(branch.outcome, HttpOutcome::Reset(_));
            if let Some(visit) = walk.path.last_mut().filter(|_| answers) {
                visit.turn = Some(Turn { decision: decision.clone(), branch: way });
            }
            match &branch.outcome {
                HttpOutcome::Reply(reply) => {
                    if let Some(cluster) = &reply.cluster {
                        walk.step(StepKind::Cluster, cluster, &reply.origin, None);
                    }
                    if reply.details == "route_not_found" {
                        walk.near_misses_of_gateway(flight);
                    }
                    walk.answered(reply);
                }
                HttpOutcome::Reset(reset) => walk.reset(reset),
                HttpOutcome::Unknown { reason, cluster, origin } => {
                    if let Some(cluster) = cluster {
                        walk.step(StepKind::Cluster, cluster, origin, None);
                    }
                    let table = decision.route_configuration_found.as_ref();
                    let (kind, code) = if table.is_some_and(|table| table.refused.is_some()) {
                        (StepKind::RouteConfig, Code::RefusedByEnvoy)
                    } else {
                        (StepKind::Authorization, Code::NotModelled)
                    };
                    walk.undecided(kind, code, reason, origin);
                }
                HttpOutcome::Forward(forward) => {
                    walk.copies_of(branch, member, flight);
                    walk.step(StepKind::Cluster, &forward.cluster, &forward.origin, None);
                    walk.send(forward, branch.request.clone(), member, flight);
                }
            }
        });
    }

    /// A proxy ends the request, or the connection that it came by.
    fn reset(&mut self, reset: &Reset) {
        let Reset { ends, status, flags, details, origin } = reset;
        self.log(Some(*status), flags, details);
        let (failure, what) = match ends {
            Ends::Connection => (upstream::Failure::ConnectionTermination, "the connection is closed"),
            Ends::Stream => (upstream::Failure::StreamReset, "the stream is reset"),
        };
        let reason = match origin {
            Origin::Default(rule) => format!("{what}: {rule}"),
            Origin::Field { .. } => format!("{what}: {details}"),
        };
        self.failed(&Failure::at_proxy(failure, reason).logged(flags, details));
    }

    fn send(
        &mut self,
        forward: &Forward,
        request: crate::envoy::HttpRequest,
        member: &Member,
        flight: &Flight,
    ) {
        let mut next = flight.clone();
        next.message = Some(request);
        self.forward(&forward.found, member, next, forward.auto_host_rewrite);
    }

    /// Follows the copies of a request, apart from the request itself.
    fn copies_of(&mut self, branch: &crate::envoy::HttpBranch, member: &Member, flight: &Flight) {
        let is_first = self.copies == 0;
        let sent: Vec<_> =
            branch.mirrors.iter().filter_map(|mirror| Some((mirror, mirror.found.as_ref()?))).collect();
        for (number, (mirror, cluster)) in sent.iter().enumerate() {
            let Some(share) = self.share_of_copy(sent.len() - number) else {
                self.lost_copies = true;
                break;
            };
            let budget = std::mem::replace(&mut self.budget, share);
            let depth = self.path.len();
            let last = self.path.last().cloned();
            let (probability, before) = (self.probability, self.copied.len());
            self.probability *= mirror.probability;
            self.copies += 1;
            let mut next = flight.clone();
            next.message = Some(mirror.request.clone());
            self.forward(cluster, member, next, false);
            self.copies -= 1;
            self.probability = probability;
            self.path.truncate(depth);
            if let (Some(last), Some(place)) = (last, self.path.last_mut()) {
                *place = last;
            }
            let used = share.saturating_sub(self.budget);
            if is_first {
                self.copies_budget = self.copies_budget.saturating_sub(used);
                self.budget = budget;
            } else {
                self.budget = budget.saturating_sub(used);
            }
            // A copy that never leaves this proxy ends up nowhere.
            let left = self.copied.iter().skip(before).filter(|copy| copy.outcome.path.len() > depth);
            let ends: Vec<SmolStr> = left.filter_map(|copy| copy.outcome.path.last().cloned()).collect();
            for end in ends {
                if !self.mirrors.contains(&end) {
                    self.mirrors.push(end);
                }
            }
        }
        if is_first && std::mem::take(&mut self.lost_copies) {
            let hop = self.path.last().map(|visit| visit.hop.id.clone()).unwrap_or_default();
            self.rest_on(format!(
                "there are more copies of what {hop} sends than can be followed, and the others change nothing"
            ));
        }
    }

    fn near_misses_of_gateway(&mut self, flight: &Flight) {
        if !self.explain || self.copies > 0 {
            return;
        }
        let Some(visit) = self.path.last().filter(|visit| visit.hop.kind == HopKind::Gateway) else { return };
        let hop = visit.hop.id.clone();
        let Some(member) = visit.workload.and_then(|index| self.member(index)) else { return };
        let host = near_miss::asked_host(&flight.connection().0.transport, flight.message.as_ref());
        for miss in near_miss::at_gateway(&member.proxy, &host, flight.port, &hop) {
            if !self.near_misses.contains(&miss) {
                self.near_misses.push(miss);
            }
        }
    }
}

fn closing(origin: &Origin, details: &str) -> String {
    match (details, origin) {
        ("filter_chain_not_found", _) => "no filter chain takes the connection".to_owned(),
        (_, Origin::Default(rule)) => format!("the connection is closed: {rule}"),
        (details, Origin::Field { .. }) => format!("the connection is closed: {details}"),
    }
}
