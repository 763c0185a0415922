//! What does an answer of the proxy itself look like?
//!
//! Envoy: `http/utility.cc: Utility::prepareLocalReply`, `filter_manager.cc: sendLocalReply`. Measured with Envoy 1.40 (`envoy-semantics`, local
//! reply format): gRPC clients get 200 and `grpc-status`, header operations of the route come first.

use smol_str::{SmolStr, ToSmolStr as _};

use super::grpc_web;
use super::response::{self, Subject};
use crate::envoy::config::{Action, WeightedCluster};
use crate::envoy::decision::HttpDecision;
use crate::envoy::headers::{self, Hand, Headers, envoy, literal};
use crate::envoy::ledger::{By, HeaderValue, Ledger};
use crate::envoy::reply::{HttpResponse, LocalReply, ResponseFlag};
use crate::envoy::request::HttpRequest;
use crate::origin::Origin;

/// What a proxy wants to answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: u16,
    /// Body; may be empty.
    pub(crate) body: SmolStr,
    /// Flags.
    pub(crate) flags: Vec<ResponseFlag>,
    /// Details.
    pub(crate) details: SmolStr,
    /// `location` and the like, in front of the route's operations.
    pub(crate) first: Vec<(&'static str, HeaderValue)>,
    /// `grpc-status` when it is not derived from the status.
    pub(crate) grpc_status: Option<u32>,
    /// Whether the route's header operations are applied.
    pub(crate) operations: bool,
    /// Whether it is what the route itself is for: a redirect or a direct response.
    pub(crate) direct: bool,
    /// Whether gRPC clients get it as gRPC; what a filter encodes itself stays as it is.
    pub(crate) converted: bool,
    /// Whether the connection is closed afterwards.
    pub(crate) close: bool,
    /// Whether the headers were read, so that a route is looked up for the answer.
    pub(crate) routed: bool,
    /// How many tries were made to reach an upstream.
    pub(crate) attempts: u32,
    /// What made the proxy answer.
    pub(crate) origin: Origin,
}

impl Answer {
    /// An answer with the route's header operations.
    pub(crate) fn new(status: u16, body: SmolStr, details: SmolStr, origin: Origin) -> Self {
        Self {
            status,
            body,
            flags: Vec::new(),
            details,
            first: Vec::new(),
            grpc_status: None,
            operations: true,
            direct: false,
            converted: true,
            close: false,
            routed: true,
            attempts: 0,
            origin,
        }
    }

    /// Adds a flag.
    pub(crate) fn flag(mut self, flag: ResponseFlag) -> Self {
        self.flags.push(flag);
        self
    }

    /// An answer while the request is still being read, after which the connection is closed.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// An answer of the codec, which knows of no routes.
    pub(crate) fn unrouted(mut self) -> Self {
        self.operations = false;
        self.routed = false;
        self.closing()
    }
}

/// The circumstances of an answer.
#[derive(Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    /// What was decided for the request.
    pub(crate) decision: &'a HttpDecision,
    /// The request.
    pub(crate) request: &'a HttpRequest,
    /// The weighted entry that was chosen.
    pub(crate) weighted: Option<&'a WeightedCluster>,
    /// The cluster that was to be used.
    pub(crate) cluster: Option<&'a SmolStr>,
    /// Whether that exists.
    pub(crate) found: bool,
    /// The request's origin if CORS allowed it.
    pub(crate) cors_origin: Option<&'a SmolStr>,
    /// Whether the ledger is kept.
    pub(crate) recorded: bool,
}

/// The answer as the client receives it.
pub(crate) fn build(mut answer: Answer, circumstances: Circumstances<'_>) -> LocalReply {
    let Circumstances { decision, request, weighted, cluster, found, cors_origin, recorded } = circumstances;
    let mut ledger = Ledger::new(recorded);
    let mut lines = Headers::new();
    let origin = answer.origin.clone();
    let hand = Hand { by: By::Istio, origin: &origin };
    for (name, value) in std::mem::take(&mut answer.first) {
        headers::set(&mut lines, &mut ledger, name, value, hand);
    }
    // Only a route to a cluster has operations for the answers of others. Measured with Envoy 1.40.
    let route = decision.route.as_ref().map(|(_, route)| &route.action);
    let routes = answer.direct || route.is_some_and(|action| matches!(action, Action::Route(_)));
    if answer.operations && routes {
        // Neither the status nor a cluster that does not exist is known. Envoy: `filter_manager.cc: prepareLocalReplyViaFilterChain`.
        let subject = Subject {
            decision,
            request,
            weighted,
            status: 0,
            flags: &answer.flags,
            details: &answer.details,
            upstream: None,
            cluster: cluster.filter(|_| found).map(SmolStr::as_str).unwrap_or_default(),
            attempts: answer.attempts,
        };
        subject.operations(&mut lines, &mut ledger);
    }
    let framing = envoy!("local reply: its body");
    let as_grpc = decision.downstream.grpc && answer.converted;
    let status = if as_grpc {
        grpc(answer.status, &answer.body, answer.grpc_status, decision, &mut lines, &mut ledger);
        200
    } else {
        if answer.body.is_empty() {
            headers::remove(&mut lines, &mut ledger, "content-length", framing);
            headers::remove(&mut lines, &mut ledger, "content-type", framing);
        } else {
            let length = literal(answer.body.len().to_smolstr());
            headers::set(&mut lines, &mut ledger, "content-length", length, framing);
            if !headers::has(&lines, "content-type") {
                let value = literal(SmolStr::new_static("text/plain"));
                headers::set(&mut lines, &mut ledger, "content-type", value, framing);
            }
        }
        answer.status
    };
    let ends = answer.body.is_empty() || as_grpc || decision.downstream.head;
    let message = grpc_web::Response { request, status, body: &mut answer.body, ends };
    response::encode_filters(decision, cors_origin, message, &mut lines, &mut ledger);
    // A 400 counts as a broken message, whoever sends it. Envoy: `conn_manager_impl.cc: ActiveStream::onLocalReply`.
    let close = decision.downstream.protocol != "HTTP/2" && (answer.close || answer.status == 400);
    response::connection_manager(decision, request, &mut lines, &mut ledger, close);
    let has_body = !answer.body.is_empty() && !as_grpc;
    response::codec(decision, status, has_body, &mut lines, &mut ledger);
    // A client takes none after such a status, whatever is sent.
    let bodiless = decision.downstream.head || as_grpc || status == 304;
    let body = if bodiless { SmolStr::default() } else { answer.body };
    LocalReply {
        response: HttpResponse { status, headers: lines, body },
        flags: answer.flags,
        details: answer.details,
        cluster: cluster.cloned(),
        changes: ledger.changes,
        origin: answer.origin,
    }
}

/// The trailers-only answer that a gRPC client gets.
pub(crate) fn grpc(
    status: u16,
    body: &str,
    grpc_status: Option<u32>,
    decision: &HttpDecision,
    lines: &mut Headers,
    ledger: &mut Ledger,
) {
    let hand = envoy!("local reply: gRPC clients get 200 and grpc-status");
    let value = literal(SmolStr::new_static("application/grpc"));
    headers::set(lines, ledger, "content-type", value, hand);
    if headers::get(lines, "grpc-status").is_none_or(SmolStr::is_empty) {
        let code = grpc_status.unwrap_or_else(|| to_grpc_status(status));
        headers::set(lines, ledger, "grpc-status", literal(code.to_smolstr()), hand);
    }
    if !body.is_empty() && !decision.downstream.head {
        headers::set(lines, ledger, "grpc-message", literal(percent_encode(body)), hand);
    }
    headers::remove(lines, ledger, "content-length", hand);
}

/// Envoy: `grpc/status.cc: Utility::httpToGrpcStatus`.
pub(crate) fn to_grpc_status(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Envoy: `http/utility.cc: Utility::PercentEncoding::encode`: what is no visible ASCII, and the percent sign.
pub(crate) fn percent_encode(text: &str) -> SmolStr {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..0x7f).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
            continue;
        }
        out.push('%');
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0')));
        }
    }
    out.into()
}
