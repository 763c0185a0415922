//! What does the gRPC-Web filter do to a request and its response?
//!
//! Envoy: `grpc_web/grpc_web_filter.cc: GrpcWebFilter::decodeHeaders, encodeHeaders, encodeData`. Invariant: what a browser's request is to
//! the filters in front of it, it is no more behind it: gRPC.

use smol_str::{SmolStr, ToSmolStr as _};

use super::local_reply;
use crate::envoy::decision::{GrpcWebEncoding, HttpDecision};
use crate::envoy::headers::{self, Headers, envoy, literal};
use crate::envoy::ledger::Ledger;
use crate::envoy::request::{Body, HttpRequest};

const PROTO: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";
const TEXT_PROTO: &str = "application/grpc-web-text+proto";

/// Whether a request is a browser's. Envoy: `GrpcWebFilter::isGrpcWebRequest`.
fn is_request(lines: &Headers) -> bool {
    let known = |kind: &SmolStr| ["application/grpc-web", PROTO, TEXT, TEXT_PROTO].contains(&kind.as_str());
    headers::get(lines, "content-type").is_some_and(known)
}

/// How a browser wants its answer; `None` where the request is no browser's.
pub(crate) fn asked(lines: &Headers) -> Option<GrpcWebEncoding> {
    let accept = headers::get(lines, "accept").map_or("", SmolStr::as_str);
    let text = [TEXT, TEXT_PROTO].contains(&accept);
    is_request(lines).then_some(if text { GrpcWebEncoding::Text } else { GrpcWebEncoding::Binary })
}

/// Makes gRPC of a browser's request.
pub(crate) fn decode(decision: &HttpDecision, request: &mut HttpRequest, ledger: &mut Ledger) {
    if !is_request(&request.headers) {
        return;
    }
    let hand = envoy!("gRPC-Web filter: what upstreams get is gRPC");
    let constant = |text| literal(SmolStr::new_static(text));
    headers::remove(&mut request.headers, ledger, "content-length", hand);
    if decision.downstream.body {
        request.body = Body::Stream;
    }
    headers::set(&mut request.headers, ledger, "content-type", constant("application/grpc"), hand);
    headers::set(&mut request.headers, ledger, "te", constant("trailers"), hand);
    if !headers::has(&request.headers, "grpc-accept-encoding") {
        headers::set(&mut request.headers, ledger, "grpc-accept-encoding", constant("identity"), hand);
    }
}

/// A response on its way through the filters.
pub(crate) struct Response<'a> {
    /// The request as it was when it was answered.
    pub(crate) request: &'a HttpRequest,
    /// Status.
    pub(crate) status: u16,
    /// Body.
    pub(crate) body: &'a mut SmolStr,
    /// Whether nothing follows the headers.
    pub(crate) ends: bool,
}

/// Makes a browser's response of one; what is no gRPC becomes the message of a gRPC status.
pub(crate) fn encode(
    decision: &HttpDecision,
    response: &mut Response<'_>,
    lines: &mut Headers,
    ledger: &mut Ledger,
) {
    // A request that was answered in front of the filter is still a browser's.
    let asked = decision.downstream.grpc_web.filter(|_| !is_request(&response.request.headers));
    let Some(encoding) = asked else { return };
    let is_grpc = if response.ends {
        headers::has(lines, "grpc-status")
    } else {
        let kind = headers::get(lines, "content-type").map_or("", SmolStr::as_str);
        response.status == 200 && (super::is_grpc(kind) || is_proto(kind))
    };
    let hand = envoy!("gRPC-Web filter: what clients get is gRPC-Web");
    headers::remove(lines, ledger, "content-length", hand);
    let kind = match encoding {
        GrpcWebEncoding::Text => TEXT_PROTO,
        GrpcWebEncoding::Binary => PROTO,
    };
    headers::set(lines, ledger, "content-type", literal(SmolStr::new_static(kind)), hand);
    // What is in a body of which only the length is known is not known either.
    if response.ends || is_grpc || response.body.is_empty() {
        return;
    }
    let message = literal(local_reply::percent_encode(response.body));
    headers::set(lines, ledger, "grpc-message", message, hand);
    let code = local_reply::to_grpc_status(response.status);
    headers::set(lines, ledger, "grpc-status", literal(code.to_smolstr()), hand);
    headers::set(lines, ledger, "content-length", literal(SmolStr::new_static("0")), hand);
    *response.body = SmolStr::default();
}

/// Envoy: `GrpcWebFilter::hasProtoEncodedGrpcWebContentType`.
fn is_proto(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim_end();
    kind.eq_ignore_ascii_case(PROTO) || kind.eq_ignore_ascii_case("application/grpc-web")
}
