//! What becomes of a request that asks to upgrade the connection?
//!
//! An upgrade that the connection manager does not know is answered with 403; others are sent on, and the upstream's 101 opens the
//! connection. Measured with Envoy 1.40: another answer ends it, and the client does not get all of it. Invariant: an upgrade that was
//! not accepted closes the client's connection.

use smol_str::SmolStr;

use super::grpc_web;
use super::local_reply::{self, Answer};
use super::response::{self, Subject};
use super::sanitize;
use crate::envoy::decision::{HttpBranch, HttpDecision};
use crate::envoy::headers::{self, Headers};
use crate::envoy::ledger::Ledger;
use crate::envoy::reply::HttpResponse;
use crate::envoy::request::HttpRequest;
use crate::origin::Origin;

/// The details of a response to an upgrade that is no error and does not accept it.
const UNSUCCESSFUL: &str = "websocket_handshake_unsuccessful";

/// Accepting an upgrade.
const SWITCHING_PROTOCOLS: u16 = 101;

/// The answer to an upgrade that is not known.
pub(crate) fn rejected() -> Answer {
    Answer::new(
        403,
        SmolStr::default(),
        SmolStr::new_static("upgrade_failed"),
        Origin::default("HTTP connection manager: upgradeConfigs has websocket only"),
    )
}

/// The answer to an upgrade that is not accepted.
pub(crate) fn refused(decision: &HttpDecision, request: &HttpRequest, routed: bool) -> Option<Answer> {
    // Where no route takes it, that comes first.
    let asked = asked(request).filter(|_| routed)?;
    let accepted = &decision.http_connection_manager.upgrade_types;
    if accepted.iter().any(|kind| kind.eq_ignore_ascii_case(asked)) {
        return None;
    }
    Some(rejected().closing())
}

/// The protocol that a request asks to upgrade to.
pub(crate) fn asked(request: &HttpRequest) -> Option<&SmolStr> {
    headers::get(&request.headers, "upgrade").filter(|_| sanitize::is_upgrade(&request.headers))
}

/// The response that accepts a request's upgrade; `None` when it asks for none.
pub fn accepted(request: &HttpRequest) -> Option<HttpResponse> {
    let upgrade = asked(request)?.clone();
    let connection = (SmolStr::new_static("connection"), SmolStr::new_static("Upgrade"));
    let headers = vec![connection, (SmolStr::new_static("upgrade"), upgrade)];
    Some(HttpResponse { status: SWITCHING_PROTOCOLS, headers, body: SmolStr::default() })
}

/// The details that the log has of an upstream's response.
pub fn passing_details(branch: &HttpBranch, status: u16) -> &'static str {
    if is_unsuccessful(branch, status) { UNSUCCESSFUL } else { "via_upstream" }
}

/// Whether the proxy makes its own answer of a response to a websocket's handshake: errors are passed on.
///
/// Envoy: `http/utility.cc: Utility::isWebSocketUpgradeRequest`; other upgrades get what the upstream says.
pub(crate) fn is_unsuccessful(branch: &HttpBranch, status: u16) -> bool {
    asked(&branch.request).is_some_and(|kind| kind.eq_ignore_ascii_case("websocket"))
        && status != SWITCHING_PROTOCOLS
        && !(400..600).contains(&status)
}

/// Header operations first, then the upstream's headers, and nothing of a body.
pub(crate) fn unsuccessful(
    subject: &Subject<'_>,
    branch: &HttpBranch,
    upstream: &HttpResponse,
    ledger: &mut Ledger,
) -> HttpResponse {
    let mut lines = Headers::new();
    let subject = Subject { status: 0, details: UNSUCCESSFUL, ..*subject };
    subject.operations(&mut lines, ledger);
    lines.extend(upstream.headers.iter().cloned());
    lines.retain(|(name, _)| !["content-length", "transfer-encoding"].contains(&name.as_str()));
    headers::join_inline(&mut lines);
    let grpc = subject.decision.downstream.grpc;
    let status = if grpc { 200 } else { upstream.status };
    if grpc {
        local_reply::grpc(upstream.status, "", None, subject.decision, &mut lines, ledger);
    } else {
        lines.retain(|(name, _)| name != "content-type");
    }
    let (request, body) = (subject.request, &mut SmolStr::default());
    let message = grpc_web::Response { request, status, body, ends: true };
    response::encode_filters(subject.decision, branch.cors_origin.as_ref(), message, &mut lines, ledger);
    // Measured with Envoy 1.40: `keep-alive` stays.
    let gone = ["proxy-connection"];
    response::connection_manager_without(&gone, subject.decision, subject.request, &mut lines, ledger, true);
    response::codec(subject.decision, status, false, &mut lines, ledger);
    HttpResponse { status, headers: lines, body: SmolStr::default() }
}
