//! Which way does a request take, hop by hop?
//!
//! A walk is a depth-first tour of the ways a request can go: each proxy's decision may fork, each fork is followed with its
//! probability. What a hop decided is noted on the way; the response pass runs back over the same hops.
//! Invariant: a walk ends. A proxy that sees the same request a third time is a loop, and only so many ways are followed.

mod assemble;
mod budget;
mod client;
mod ending;
mod forward;
mod proxy;
mod tries;
mod untranslated;

use std::net::IpAddr;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::contract::{
    Assumption, ChangeOp, Fidelity, HeaderLines, Hop, HopKind, LedgerChange, Leg, LegTransport,
    MessageLedger, NearMiss, Note, Outcome, Place, Step, StepKind, Trace,
};
use super::error::TraceError;
use super::query::{Choice, Query};
use super::tracer::{Member, Tracer};
use crate::envoy::config::TunnelingConfig;
use crate::envoy::ledger::{HeaderChange, Op};
use crate::envoy::request::{ApplicationProtocol, Connection, HttpRequest, Preface, Transport};
use crate::envoy::{HttpDecision, HttpResponse};
use crate::mesh::{Mesh, Workload};
use crate::origin::Origin;

/// The most hops that a path may have, whatever else differs between them.
const MOST_HOPS: usize = 32;

/// Walks and tells everything.
pub(super) fn explained(tracer: &Tracer, query: &Query) -> Result<Trace, TraceError> {
    let mut walk = Walk::new(tracer, query, true);
    let source = walk.start()?;
    walk.end_remainder();
    Ok(walk.trace(source))
}

/// Walks and tells how it ends.
pub(super) fn decided(tracer: &Tracer, query: &Query) -> Result<Vec<Outcome>, TraceError> {
    let mut walk = Walk::new(tracer, query, false);
    walk.start()?;
    walk.end_remainder();
    Ok(walk.outcomes())
}

/// A walk in progress.
struct Walk<'t> {
    tracer: &'t Tracer,
    mesh: &'t Arc<Mesh>,
    query: &'t Query,
    /// Whether steps, ledgers and near misses are kept.
    explain: bool,
    assumptions: Vec<Assumption>,
    /// The hops from the client to here.
    path: Vec<Visit>,
    /// How likely the request comes here.
    probability: f64,
    /// Where copies that were made on this path ended.
    mirrors: Vec<SmolStr>,
    /// How many copies this is a copy of.
    copies: usize,
    endings: Vec<Ending>,
    copied: Vec<Ending>,
    /// How many hops this way may still keep.
    budget: usize,
    /// How many hops copies may still keep.
    copies_budget: usize,
    /// What is not followed.
    remainder: Option<budget::Remainder>,
    /// Whether there are copies that are not followed.
    lost_copies: bool,
    near_misses: Vec<NearMiss>,
    notes: Vec<Note>,
    /// The state of the draw by seed.
    draw: u64,
}

/// A hop on the path.
#[derive(Clone)]
struct Visit {
    hop: Hop,
    /// How the response is treated; `None` where bytes are passed on, or nothing is.
    turn: Option<Turn>,
    /// Whether a TCP proxy passes bytes on here.
    passes_bytes: bool,
    /// Whether it does so in a request, which has to be accepted.
    begins_tunnel: bool,
    /// What would make a later visit a repetition.
    mark: Mark,
    /// The way here.
    leg: Option<Leg>,
    fidelity: Fidelity,
    assumed: Vec<SmolStr>,
    /// The workload, by its place in the mesh.
    workload: Option<usize>,
}

/// How a response is treated on its way back.
#[derive(Clone)]
struct Turn {
    decision: Arc<HttpDecision>,
    branch: usize,
}

/// What makes a visit a repetition of another.
#[derive(Clone, PartialEq, Eq)]
struct Mark {
    kind: HopKind,
    workload: Option<usize>,
    address: IpAddr,
    port: u16,
    method: SmolStr,
    authority: SmolStr,
    path: SmolStr,
}

/// One way the request ended.
struct Ending {
    outcome: Outcome,
    hops: Vec<Hop>,
    legs: Vec<Leg>,
}

/// A connection on its way to the next hop.
#[derive(Clone)]
struct Flight {
    address: IpAddr,
    port: u16,
    source: IpAddr,
    /// TLS around the bytes, the outermost last.
    layers: Vec<Transport>,
    /// Why the last proxy that began TLS did so.
    tls_origin: Option<Origin>,
    /// What the innermost bytes are.
    protocol: ApplicationProtocol,
    /// The request, where the innermost bytes are HTTP.
    message: Option<HttpRequest>,
    /// What the place is called where the address says nothing.
    name: SmolStr,
    /// What comes before everything else, TLS included.
    preface: Preface,
    /// The rule that wants a header of the PROXY protocol there.
    announced_by: Option<Origin>,
    /// The rule that sent such a header which a proxy has passed on as any other bytes.
    unread: Option<Origin>,
    /// The request that carries what the client sent, where a proxy put it into one.
    tunnel: Option<Arc<TunnelingConfig>>,
}

impl Flight {
    /// The connection as the next hop sees it, and the request if it can be read there.
    fn connection(&self) -> (Connection, Option<&HttpRequest>) {
        let (transport, opaque) = match self.layers.as_slice() {
            [] => (Transport::Plaintext, false),
            [one] => (one.clone(), false),
            [.., outermost] => (outermost.clone(), true),
        };
        let connection = Connection {
            destination: self.address,
            port: self.port,
            source: self.source,
            transport,
            protocol: if opaque { ApplicationProtocol::Tcp } else { self.protocol },
            preface: self.preface,
        };
        (connection, self.message.as_ref().filter(|_| !opaque))
    }

    /// The ALPN values that the outermost TLS offers.
    fn alpn(&self) -> Vec<SmolStr> {
        match self.layers.last() {
            None | Some(Transport::Plaintext) => Vec::new(),
            Some(Transport::Tls { alpn, .. }) => alpn.clone(),
        }
    }

    /// How the leg is protected, and the server name.
    fn protection(&self) -> (LegTransport, SmolStr) {
        match self.layers.last() {
            None | Some(Transport::Plaintext) => (LegTransport::Plaintext, SmolStr::default()),
            Some(Transport::Tls { sni, mesh_certificate: true, .. }) => (LegTransport::Mtls, sni.clone()),
            Some(Transport::Tls { sni, .. }) => (LegTransport::Tls, sni.clone()),
        }
    }
}

impl<'t> Walk<'t> {
    fn new(tracer: &'t Tracer, query: &'t Query, explain: bool) -> Self {
        Self {
            tracer,
            mesh: tracer.mesh(),
            query,
            explain,
            assumptions: Vec::new(),
            path: Vec::new(),
            probability: 1.0,
            mirrors: Vec::new(),
            copies: 0,
            endings: Vec::new(),
            copied: Vec::new(),
            budget: budget::MOST_KEPT,
            copies_budget: budget::MOST_KEPT,
            remainder: None,
            lost_copies: false,
            near_misses: Vec::new(),
            notes: Vec::new(),
            draw: match query.choice {
                Choice::Seed(seed) => seed,
                Choice::All | Choice::Nth(_) => 0,
            },
        }
    }

    fn place(&self, origin: &Origin) -> Place {
        Place::new(origin.clone(), self.mesh.clone())
    }

    /// Names an assumption.
    fn assume(&mut self, text: String) -> SmolStr {
        if let Some(known) = self.assumptions.iter().find(|known| known.text == text) {
            return known.id.clone();
        }
        let id = format_smolstr!("A{}", self.assumptions.len() + 1);
        self.assumptions.push(Assumption { id: id.clone(), text });
        id
    }

    /// Lets the last hop rest on an assumption.
    fn rest_on(&mut self, text: String) {
        let id = self.assume(text);
        self.rest_on_ids(vec![id]);
    }

    /// Lets the last hop rest on assumptions, if there are any.
    fn rest_on_ids(&mut self, ids: Vec<SmolStr>) {
        if let Some(visit) = self.path.last_mut().filter(|_| !ids.is_empty()) {
            visit.fidelity = visit.fidelity.max(Fidelity::Assumed);
            visit.assumed.extend(ids);
        }
    }

    /// Lets the last hop rest on what is assumed about the proxy of a workload.
    fn rest_on_proxy(&mut self, workload: &Workload) {
        if workload.proxy_assumed {
            let namespace = &workload.namespace;
            self.rest_on(format!("namespace {namespace} asks for injection; its Namespace is not given"));
        }
        for refused in &workload.refused {
            let name = workload.full_name();
            self.rest_on(format!("{name} runs, though Istio's injector refuses {}", refused.name));
        }
    }

    /// Notes a step of the last hop.
    fn step(&mut self, kind: StepKind, name: &SmolStr, origin: &Origin, note: Option<String>) {
        self.step_with(kind, name, origin, note, Fidelity::Exact, Vec::new());
    }

    /// Notes a step of the last hop that rests on an assumption.
    fn assumed_step(
        &mut self,
        kind: StepKind,
        name: &SmolStr,
        origin: &Origin,
        note: Option<String>,
        assumption: Option<String>,
    ) {
        let assumed: Vec<SmolStr> = assumption.into_iter().map(|text| self.assume(text)).collect();
        let fidelity = if assumed.is_empty() { Fidelity::Exact } else { Fidelity::Assumed };
        self.step_with(kind, name, origin, note, fidelity, assumed);
    }

    fn step_with(
        &mut self,
        kind: StepKind,
        name: &SmolStr,
        origin: &Origin,
        note: Option<String>,
        mut fidelity: Fidelity,
        mut assumptions: Vec<SmolStr>,
    ) {
        // What lies behind an opaque step is unknown anyway.
        if fidelity != Fidelity::Opaque {
            let untranslated = self.assume_untranslated(origin);
            if !untranslated.is_empty() {
                fidelity = fidelity.max(Fidelity::Assumed);
                assumptions.extend(untranslated);
            }
        }
        let step = self.explain.then(|| Step {
            kind,
            name: name.clone(),
            origin: self.place(origin),
            fidelity,
            note,
            assumptions: assumptions.clone(),
        });
        let Some(visit) = self.path.last_mut() else { return };
        visit.fidelity = visit.fidelity.max(fidelity);
        visit.assumed.extend(assumptions);
        visit.hop.steps.extend(step);
    }

    /// Adds a hop to the path.
    fn enter(&mut self, kind: HopKind, name: &str, workload: Option<usize>, flight: &Flight) {
        let prefix = match kind {
            HopKind::Client => "",
            HopKind::SidecarOutbound => "sidecar:",
            HopKind::SidecarInbound => "inbound:",
            HopKind::Gateway => "gateway:",
            HopKind::Waypoint => "waypoint:",
            HopKind::Ztunnel => "ztunnel:",
            HopKind::Workload => "workload:",
            HopKind::External => "external:",
        };
        let plain = format_smolstr!("{prefix}{name}");
        let mut id = plain.clone();
        let mut visit = 1;
        while self.path.iter().any(|earlier| earlier.hop.id == id) {
            visit += 1;
            id = format_smolstr!("{plain}#{visit}");
        }
        let is_proxy = matches!(
            kind,
            HopKind::SidecarOutbound | HopKind::SidecarInbound | HopKind::Gateway | HopKind::Waypoint
        );
        let leg = self.path.last().filter(|_| self.explain).map(|from| {
            let (transport, sni) = flight.protection();
            Leg {
                from: from.hop.id.clone(),
                to: id.clone(),
                address: socket(flight.address, flight.port),
                transport,
                sni,
                alpn: flight.alpn(),
                protocol: match flight.protocol {
                    ApplicationProtocol::Http10 => "http/1.0",
                    ApplicationProtocol::Http11 => "http/1.1",
                    ApplicationProtocol::Http2 => "h2",
                    ApplicationProtocol::Tcp => "tcp",
                },
                probability: self.probability,
                mirror: self.copies > 0,
            }
        });
        let request = if self.explain { request_lines(flight.connection().1) } else { HeaderLines::new() };
        self.path.push(Visit {
            hop: Hop {
                id,
                kind,
                proxy: is_proxy.then(|| name.into()),
                steps: Vec::new(),
                request: MessageLedger { left: request.clone(), arrived: request, changes: Vec::new() },
                response: MessageLedger::default(),
                tries: None,
                log: None,
            },
            turn: None,
            passes_bytes: false,
            begins_tunnel: false,
            mark: mark(kind, workload, flight),
            leg,
            fidelity: Fidelity::Exact,
            assumed: Vec::new(),
            workload,
        });
        if is_proxy {
            let ids = self.assume_untranslated_mesh_config();
            self.rest_on_ids(ids);
        }
    }

    /// Whether a hop would see the same request a third time.
    fn repeats(&self, kind: HopKind, workload: Option<usize>, flight: &Flight) -> bool {
        let mark = mark(kind, workload, flight);
        self.path.len() >= MOST_HOPS || self.path.iter().filter(|visit| visit.mark == mark).count() >= 2
    }

    /// The ways to follow at a fork, with their probabilities given the fork.
    fn choose(&mut self, shares: &[f64]) -> Vec<(usize, f64)> {
        let total: f64 = shares.iter().sum();
        if shares.len() <= 1 || total <= 0.0 {
            return shares.iter().enumerate().take(1).map(|(i, _)| (i, 1.0)).collect();
        }
        match self.query.choice {
            Choice::All => shares
                .iter()
                .enumerate()
                .filter(|(_, share)| **share > 0.0)
                .map(|(i, share)| (i, share / total))
                .collect(),
            Choice::Nth(n) => vec![(n.min(shares.len() - 1), 1.0)],
            Choice::Seed(_) => {
                // SplitMix64: the same seed draws the same way everywhere.
                self.draw = self.draw.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut bits = self.draw;
                bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                bits ^= bits >> 31;
                let mut left = (bits >> 11) as f64 / (1_u64 << 53) as f64 * total;
                let mut chosen = 0;
                for (i, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
                    chosen = i;
                    left -= share;
                    if left < 0.0 {
                        break;
                    }
                }
                vec![(chosen, 1.0)]
            }
        }
    }

    /// Follows the ways of a fork; what one way changes about the last hop and the path is undone before the next.
    fn fork(&mut self, shares: &[f64], mut follow: impl FnMut(&mut Self, usize)) {
        let ways = self.choose(shares);
        let depth = self.path.len();
        let last = (ways.len() > 1).then(|| self.path.last().cloned()).flatten();
        let (probability, mirrors) = (self.probability, self.mirrors.len());
        let followed = self.affordable(ways.len());
        let mut left = self.budget;
        for (number, (way, share)) in ways.iter().take(followed).enumerate() {
            self.probability = probability * share;
            let own = left / (followed - number);
            self.budget = own;
            follow(self, *way);
            left -= own - self.budget;
            self.path.truncate(depth);
            self.mirrors.truncate(mirrors);
            if let (Some(last), Some(place)) = (&last, self.path.last_mut()) {
                place.clone_from(last);
            }
        }
        self.budget = left;
        let rest: f64 = ways.iter().skip(followed).map(|(_, share)| share).sum();
        if followed < ways.len() {
            self.probability = probability * rest;
            self.stop();
        }
        self.probability = probability;
    }

    fn member(&self, workload: usize) -> Option<Arc<Member>> {
        self.tracer.member(workload)
    }

    fn changes(&self, changes: &[HeaderChange]) -> Vec<LedgerChange> {
        if !self.explain {
            return Vec::new();
        }
        let change = |change: &HeaderChange| LedgerChange {
            op: match change.op {
                Op::Add => ChangeOp::Add,
                Op::Set => ChangeOp::Set,
                Op::Append => ChangeOp::Append,
                Op::Remove => ChangeOp::Remove,
            },
            name: change.name.clone(),
            old: change.old.as_ref().map(|value| value.as_str().into()),
            new: change.new.as_ref().map(|value| value.as_str().into()),
            by: match change.by {
                crate::envoy::ledger::By::Envoy => "envoy",
                crate::envoy::ledger::By::Istio => "istio",
            },
            origin: self.place(&change.origin),
        };
        changes.iter().map(change).collect()
    }
}

fn mark(kind: HopKind, workload: Option<usize>, flight: &Flight) -> Mark {
    let request = flight.message.as_ref();
    let part = |get: fn(&HttpRequest) -> &SmolStr| request.map(get).cloned().unwrap_or_default();
    Mark {
        kind,
        workload,
        address: flight.address,
        port: flight.port,
        method: part(|r| &r.method),
        authority: part(|r| &r.authority),
        path: part(|r| &r.path),
    }
}

/// `address:port`, with brackets around an address of IPv6.
fn socket(address: IpAddr, port: u16) -> SmolStr {
    match address {
        IpAddr::V4(ip) => format_smolstr!("{ip}:{port}"),
        IpAddr::V6(ip) => format_smolstr!("[{ip}]:{port}"),
    }
}

/// A request's lines as the ledger shows them.
fn request_lines(request: Option<&HttpRequest>) -> HeaderLines {
    let Some(request) = request else { return HeaderLines::new() };
    let mut lines = HeaderLines::with_capacity(request.headers.len() + 3);
    lines.push((SmolStr::new_static(":method"), request.method.clone()));
    lines.push((SmolStr::new_static(":path"), request.path.clone()));
    if !request.no_host {
        lines.push((SmolStr::new_static("host"), request.authority.clone()));
    }
    lines.extend(request.headers.iter().cloned());
    lines
}

/// A response's lines as the ledger shows them; an application's own status is not known.
fn response_lines(response: &HttpResponse, known: bool) -> HeaderLines {
    let mut lines = HeaderLines::with_capacity(response.headers.len() + 1);
    if known {
        lines.push((SmolStr::new_static(":status"), format_smolstr!("{}", response.status)));
    }
    lines.extend(response.headers.iter().cloned());
    lines
}
