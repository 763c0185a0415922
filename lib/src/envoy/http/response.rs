//! Which response headers does a proxy set and remove?
//!
//! Envoy: `router.cc: Filter::onUpstreamHeaders`, then the filters in reverse, then `conn_manager_impl.cc:
//! ActiveStream::encodeHeaders`. Measured with Envoy 1.40 (`envoy-semantics`, response headers).

use smol_str::{SmolStr, ToSmolStr as _};

use super::{failure, formatter, grpc_web, operations, router, sanitize, tracing, upgrade};
use crate::envoy::config::{
    Action, CorsPolicy, HeaderOperations, HttpFilter, ServerHeaderTransformation, TrafficDirection,
    UpstreamTransport, WeightedCluster,
};
use crate::envoy::decision::{HttpBranch, HttpDecision, HttpOutcome};
use crate::envoy::headers::{self, Hand, Headers, envoy, literal};
use crate::envoy::ledger::{By, GENERATED, Generated, HeaderChange, HeaderValue, Ledger};
use crate::envoy::reply::{HttpResponse, ResponseFlag};
use crate::envoy::request::HttpRequest;
use crate::envoy::retry::Tried;

/// The response of an upstream as the client of this proxy receives it, and how its headers changed.
pub fn respond(
    decision: &HttpDecision,
    branch: &HttpBranch,
    upstream: &HttpResponse,
) -> (HttpResponse, Vec<HeaderChange>) {
    let mut ledger = Ledger::new(true);
    let mut response = upstream.clone();
    let lines = &mut response.headers;
    headers::join_inline(lines);
    let upgrades = upgrade::asked(&branch.request).is_some();
    if !decision.http_connection_manager.suppress_envoy_headers && !upgrades && response.status != 101 {
        let value = HeaderValue::Generated(Generated::ServiceTime, SmolStr::new_static(GENERATED));
        let hand = envoy!("router: time until the upstream's response headers");
        headers::set(lines, &mut ledger, "x-envoy-upstream-service-time", value, hand);
    }
    let cluster = match &branch.outcome {
        HttpOutcome::Forward(forward) => forward.cluster.as_str(),
        HttpOutcome::Reply(_) | HttpOutcome::Reset(_) | HttpOutcome::Unknown { .. } => "",
    };
    let tried = branch.tried(upstream);
    let hashed = route_origin(decision);
    // Each try chooses an endpoint anew, and gives the client a cookie for it. Measured with Envoy 1.40.
    for _ in 0..tried.attempts {
        for cookie in &branch.set_cookies {
            let value = HeaderValue::Generated(Generated::Cookie, cookie.clone());
            let name = SmolStr::new_static("set-cookie");
            headers::append(lines, &mut ledger, &name, value, Hand { by: By::Istio, origin: hashed });
        }
    }
    let flags = passing_flags(branch, tried);
    let request = failure::last_try(decision, branch, tried.attempts);
    let subject = Subject {
        decision,
        request: &request,
        weighted: branch.weighted_cluster.as_ref(),
        status: response.status,
        flags: &flags,
        details: "via_upstream",
        upstream: Some(connection(decision, branch)),
        cluster,
        attempts: tried.attempts,
    };
    if upgrade::is_unsuccessful(branch, response.status) {
        let response = upgrade::unsuccessful(&subject, branch, upstream, &mut ledger);
        return (response, ledger.changes);
    }
    subject.operations(lines, &mut ledger);
    let message = grpc_web::Response {
        request: &request,
        status: response.status,
        body: &mut response.body,
        ends: !upstream_has_body(upstream),
    };
    encode_filters(decision, branch.cors_origin.as_ref(), message, lines, &mut ledger);
    let refused = upgrades && !sanitize::is_upgrade(lines);
    connection_manager(decision, &request, lines, &mut ledger, refused);
    codec(decision, response.status, upstream_has_body(upstream), lines, &mut ledger);
    (response, ledger.changes)
}

/// The connection that a response came on.
fn connection(decision: &HttpDecision, branch: &HttpBranch) -> formatter::Upstream {
    let HttpOutcome::Forward(forward) = &branch.outcome else {
        return formatter::Upstream { tls: false, protocol: "HTTP/1.1" };
    };
    let tls = forward.found.transport != UpstreamTransport::Plaintext;
    let protocol = if router::is_http2(decision, &forward.found) { "HTTP/2" } else { "HTTP/1.1" };
    formatter::Upstream { tls, protocol }
}

/// What the log says of a request whose response an upstream gave.
pub fn passing_flags(branch: &HttpBranch, tried: Tried) -> Vec<ResponseFlag> {
    let delayed = branch.fault_delay.as_ref().map(|_| ResponseFlag::DelayInjected);
    let exceeded = tried.exceeded.then_some(ResponseFlag::UpstreamRetryLimitExceeded);
    delayed.into_iter().chain(exceeded).collect()
}

/// Whether the upstream's response has a body, as far as its headers tell.
fn upstream_has_body(upstream: &HttpResponse) -> bool {
    !upstream.body.is_empty()
        || headers::has(&upstream.headers, "transfer-encoding")
        || headers::get(&upstream.headers, "content-length").is_some_and(|length| length != "0")
}

fn route_origin(decision: &HttpDecision) -> &crate::origin::Origin {
    decision.route.as_ref().map_or(&decision.http_connection_manager.origin, |(_, route)| &route.origin)
}

/// A response and what its header operations can ask for.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// What was decided for the request.
    pub(crate) decision: &'a HttpDecision,
    /// The request as it left, or as it was answered.
    pub(crate) request: &'a HttpRequest,
    /// The weighted entry that was chosen.
    pub(crate) weighted: Option<&'a WeightedCluster>,
    /// Status.
    pub(crate) status: u16,
    /// Flags.
    pub(crate) flags: &'a [ResponseFlag],
    /// Details.
    pub(crate) details: &'a str,
    /// The upstream that sent it; `None` when the proxy answers by itself.
    pub(crate) upstream: Option<formatter::Upstream>,
    /// The cluster's name.
    pub(crate) cluster: &'a str,
    /// How many tries were made.
    pub(crate) attempts: u32,
}

impl Subject<'_> {
    /// Applies the header operations of all levels.
    pub(crate) fn operations(&self, lines: &mut Headers, ledger: &mut Ledger) {
        for level in levels(self.decision, self.weighted).into_iter().flatten() {
            operations::response(level, lines, ledger, |lines, text| {
                let values = formatter::Values {
                    request: self.request,
                    response: Some(formatter::Response {
                        status: self.status,
                        headers: lines,
                        details: self.details,
                        upstream: self.upstream,
                    }),
                    downstream: &self.decision.downstream,
                    route: self.decision.route.as_ref().map(|(_, route)| &**route),
                    cluster: self.cluster,
                    attempts: self.attempts,
                    traced: tracing::makes_spans(&self.decision.http_connection_manager),
                    flags: self.flags,
                };
                formatter::format(text, &values)
            });
        }
    }
}

/// The levels of header operations, most specific first: weighted cluster, route, virtual host, route configuration.
pub(crate) fn levels<'a>(
    decision: &'a HttpDecision,
    weighted: Option<&'a WeightedCluster>,
) -> [Option<&'a HeaderOperations>; 4] {
    [
        weighted.map(|weighted| &weighted.headers),
        decision.route.as_ref().map(|(_, route)| &route.headers),
        decision.virtual_host.as_ref().map(|host| &host.headers),
        decision.route_configuration_found.as_ref().map(|configuration| &configuration.headers),
    ]
}

/// What filters do to responses, last filter first.
pub(crate) fn encode_filters(
    decision: &HttpDecision,
    cors_origin: Option<&SmolStr>,
    mut message: grpc_web::Response<'_>,
    lines: &mut Headers,
    ledger: &mut Ledger,
) {
    for filter in decision.http_connection_manager.http_filters.iter().rev() {
        match filter {
            HttpFilter::Cors => {
                if let (Some(origin), Some(policy)) = (cors_origin, cors_policy(decision)) {
                    cors(policy, origin, lines, ledger);
                }
            }
            HttpFilter::GrpcWeb => grpc_web::encode(decision, &mut message, lines, ledger),
            HttpFilter::PeerMetadata => peer_metadata(decision, lines, ledger),
            _ => {}
        }
    }
}

/// The CORS policy of the route, if it is one that the filter looks at.
pub(crate) fn cors_policy(decision: &HttpDecision) -> Option<&CorsPolicy> {
    let (_, route) = decision.route.as_ref()?;
    // Redirects and direct responses have no route entry, which is where the filter looks.
    if matches!(route.action, Action::Route(_)) { route.cors.as_ref() } else { None }
}

/// Envoy: `cors_filter.cc: CorsFilter::encodeHeaders`.
fn cors(policy: &CorsPolicy, origin: &SmolStr, lines: &mut Headers, ledger: &mut Ledger) {
    let hand = Hand { by: By::Istio, origin: &policy.origin };
    headers::set(lines, ledger, "access-control-allow-origin", literal(origin.clone()), hand);
    if policy.allow_credentials == Some(true) {
        let value = literal(SmolStr::new_static("true"));
        headers::set(lines, ledger, "access-control-allow-credentials", value, hand);
    }
    if !policy.expose_headers.is_empty() {
        let value = literal(policy.expose_headers.clone());
        headers::set(lines, ledger, "access-control-expose-headers", value, hand);
    }
}

/// Istio's metadata exchange: an inbound proxy describes itself to peers that did; others keep it to themselves.
///
/// Envoy: `contrib/istio/filters/http/peer_metadata`.
fn peer_metadata(decision: &HttpDecision, lines: &mut Headers, ledger: &mut Ledger) {
    const NAMES: [&str; 2] = ["x-envoy-peer-metadata-id", "x-envoy-peer-metadata"];
    if !decision.downstream.exchanges_metadata {
        return;
    }
    let hand = envoy!("istio.metadata_exchange");
    match decision.traffic_direction {
        TrafficDirection::Inbound => {
            let (metadata, id) = decision.downstream.peer_metadata;
            for (name, asked) in NAMES.into_iter().zip([id, metadata]) {
                if asked {
                    let value =
                        HeaderValue::Generated(Generated::PeerMetadata, SmolStr::new_static(GENERATED));
                    headers::set(lines, ledger, name, value, hand);
                }
            }
        }
        TrafficDirection::Outbound => {
            for name in NAMES {
                headers::remove(lines, ledger, name, hand);
            }
        }
    }
}

/// Headers that are for one hop only, besides those of an upgrade.
pub(crate) const HOP_BY_HOP: &[&str] = &["transfer-encoding", "keep-alive", "proxy-connection"];

/// What the connection manager does to every response.
pub(crate) fn connection_manager(
    decision: &HttpDecision,
    request: &HttpRequest,
    lines: &mut Headers,
    ledger: &mut Ledger,
    close: bool,
) {
    connection_manager_without(HOP_BY_HOP, decision, request, lines, ledger, close);
}

/// What the connection manager does to a response of which it takes these headers.
pub(crate) fn connection_manager_without(
    names: &[&str],
    decision: &HttpDecision,
    request: &HttpRequest,
    lines: &mut Headers,
    ledger: &mut Ledger,
    close: bool,
) {
    let options = &decision.http_connection_manager;
    if !headers::has(lines, "date") {
        let value = HeaderValue::Generated(Generated::Date, SmolStr::new_static(GENERATED));
        headers::set(lines, ledger, "date", value, envoy!("HTTP connection manager: date, if there is none"));
    }
    let name = if options.server_name.is_empty() {
        SmolStr::new_static("envoy")
    } else {
        options.server_name.clone()
    };
    let write = match options.server_header_transformation {
        ServerHeaderTransformation::Overwrite => true,
        ServerHeaderTransformation::AppendIfAbsent => !headers::has(lines, "server"),
        ServerHeaderTransformation::PassThrough => false,
    };
    if write {
        let hand = envoy!("HTTP connection manager: serverName");
        headers::set(lines, ledger, "server", literal(name), hand);
    }
    let hop = envoy!("HTTP connection manager: this header is for one hop only");
    if !sanitize::is_upgrade(lines) {
        headers::remove(lines, ledger, "connection", hop);
        headers::remove(lines, ledger, "upgrade", hop);
    }
    for name in names {
        headers::remove(lines, ledger, name, hop);
    }
    if options.always_set_request_id_in_response
        && let Some(id) = headers::get(&request.headers, "x-request-id")
    {
        let hand = Hand { by: By::Istio, origin: &options.origin };
        let value = if id == GENERATED {
            HeaderValue::Generated(Generated::RequestId, id.clone())
        } else {
            literal(id.clone())
        };
        headers::set(lines, ledger, "x-request-id", value, hand);
    }
    // What follows an upgrade is no HTTP. Envoy: `conn_manager_impl.cc: ActiveStream::encodeHeaders`.
    if (close || decision.downstream.close) && !sanitize::is_upgrade(lines) {
        let hand = envoy!("HTTP connection manager: the connection is closed after this response");
        headers::set(lines, ledger, "connection", literal(SmolStr::new_static("close")), hand);
    }
    if options.tracing.is_none() {
        return;
    }
    match decision.traffic_direction {
        TrafficDirection::Inbound => {
            if let Some(operation) = &decision.downstream.decorator {
                let hand = Hand { by: By::Istio, origin: route_origin(decision) };
                headers::set(lines, ledger, "x-envoy-decorator-operation", literal(operation.clone()), hand);
            }
        }
        TrafficDirection::Outbound => {
            let hand = envoy!("HTTP connection manager: the decorator's operation is for this proxy");
            headers::remove(lines, ledger, "x-envoy-decorator-operation", hand);
        }
    }
}

/// What the codec adds so that the client knows where the response ends.
///
/// Envoy: `http1/codec_impl.cc: StreamEncoderImpl::encodeHeadersBase`.
pub(crate) fn codec(
    decision: &HttpDecision,
    status: u16,
    has_body: bool,
    lines: &mut Headers,
    ledger: &mut Ledger,
) {
    if decision.downstream.protocol == "HTTP/2" || headers::has(lines, "content-length") {
        return;
    }
    let hand = envoy!("HTTP/1 codec: framing of the response");
    if status < 200 || status == 304 {
        return;
    }
    if !has_body && !decision.downstream.head {
        if status != 204 {
            headers::set(lines, ledger, "content-length", literal(0.to_smolstr()), hand);
        }
    } else if status != 204 {
        headers::set(lines, ledger, "transfer-encoding", literal(SmolStr::new_static("chunked")), hand);
    }
}
