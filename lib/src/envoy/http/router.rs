//! Where does the router send a request, and as what?
//!
//! Envoy: `router.cc: Filter::decodeHeaders`, in its order: cluster, timeout and attempt headers, header operations, host and path.
//! Measured with Envoy 1.40.

use std::time::Duration;

use smol_str::{SmolStr, ToSmolStr as _, format_smolstr};

use super::duration::{self, GRPC_TIMEOUT};
use super::filter::Flight;
use super::local_reply::Answer;
use super::{Stream, codec, formatter, operations, redirect, response, rewrite, sanitize, tracing};
use crate::envoy::cluster;
use crate::envoy::config::{
    Action, Cluster, ClusterSpecifier, HashPolicy, HostRewrite, Route, RouteAction, UpstreamProtocol,
    WeightedCluster,
};
use crate::envoy::decision::{Forward, HttpBranch, HttpDecision, HttpOutcome, Mirror};
use crate::envoy::headers::{self, Hand, Headers, envoy, literal};
use crate::envoy::ledger::{By, GENERATED, Ledger};
use crate::envoy::matching;
use crate::envoy::reply::ResponseFlag;
use crate::envoy::request::HttpRequest;
use crate::envoy::retry::Asked;
use crate::envoy::xds::Xds;
use crate::origin::Origin;

/// The header that tells an upstream how long it has, in milliseconds.
pub(crate) const EXPECTED_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";

/// The cluster that a route names for a request; `None` when it names none.
pub(crate) fn cluster_of(
    route: &Route,
    weighted: Option<&WeightedCluster>,
    request: &HttpRequest,
) -> Option<SmolStr> {
    let Action::Route(action) = &route.action else { return None };
    match &action.cluster {
        ClusterSpecifier::Cluster(name) => Some(name.clone()),
        ClusterSpecifier::WeightedClusters(_) => weighted.map(|weighted| weighted.name.clone()),
        ClusterSpecifier::ClusterHeader(name) => matching::values(name, request).next().cloned(),
    }
}

/// Answers a request or sends it on.
pub(crate) fn run<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    flight: Flight,
) -> HttpBranch {
    if stream.tls_redirect {
        return tls_redirect(decision, flight);
    }
    let Some((_, route)) = &decision.route else {
        let origin = match (&decision.virtual_host, &decision.route_configuration_found) {
            (Some(host), _) => host.origin.clone(),
            (None, Some(configuration)) => configuration.origin.clone(),
            (None, None) => decision.http_connection_manager.origin.clone(),
        };
        let details = SmolStr::new_static("route_not_found");
        let mut answer = Answer::new(404, SmolStr::default(), details, origin);
        answer.operations = false;
        return flight.answered(decision, answer.flag(ResponseFlag::NoRouteFound));
    };
    let direct = SmolStr::new_static("direct_response");
    match &route.action {
        Action::Redirect(action) => {
            let location = redirect::location(action, &route.route_match, &flight.request);
            let mut answer =
                Answer::new(action.response_code, SmolStr::default(), direct, action.origin.clone());
            answer.first.push(("location", literal(location)));
            answer.direct = true;
            flight.answered(decision, answer)
        }
        Action::DirectResponse(action) => {
            let mut answer = Answer::new(action.status, action.body.clone(), direct, action.origin.clone());
            // What was created or moved is said to be where it was asked for. Envoy: `router.cc: Filter::decodeHeaders`, `add_location`.
            if action.status == 201 || (300..400).contains(&action.status) {
                answer.first.push(("location", literal(redirect::address(&flight.request))));
            }
            answer.direct = true;
            flight.answered(decision, answer)
        }
        Action::None => flight.ends(HttpOutcome::Unknown {
            reason: SmolStr::new_static("Envoy refuses a route without an action"),
            cluster: None,
            origin: route.origin.clone(),
        }),
        Action::Route(action) => forward(stream, decision, route, action, flight),
    }
}

/// Envoy: `config_impl.cc: SslRedirectRoute`.
fn tls_redirect(decision: &HttpDecision, flight: Flight) -> HttpBranch {
    let location = format_smolstr!("https://{}{}", flight.request.authority, flight.request.path);
    let origin = decision
        .virtual_host
        .as_ref()
        .map_or_else(|| decision.http_connection_manager.origin.clone(), |host| host.origin.clone());
    let details = SmolStr::new_static("direct_response");
    let mut answer = Answer::new(301, SmolStr::default(), details, origin);
    answer.operations = false;
    answer.first.push(("location", literal(location)));
    flight.answered(decision, answer)
}

fn forward<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    route: &Route,
    action: &RouteAction,
    mut flight: Flight,
) -> HttpBranch {
    let name = flight.cluster.clone().unwrap_or_default();
    let origin = match &flight.weighted {
        Some(weighted) => weighted.origin.clone(),
        None => route.origin.clone(),
    };
    let Some(found) = flight.found.clone() else {
        let details = SmolStr::new_static("cluster_not_found");
        let status = action.cluster_not_found_response_code;
        let answer = Answer::new(status, SmolStr::default(), details, origin);
        return flight.answered(decision, answer.flag(ResponseFlag::NoClusterFound));
    };
    if let Some(patch) = &found.opaque {
        let (reason, origin) = (patch.unknown_cluster(), patch.origin.clone());
        return flight.ends(HttpOutcome::Unknown { reason, cluster: Some(name), origin });
    }
    let retry_policy = if stream.internal {
        asked_retries(&mut flight).of(action.retry_policy.as_ref())
    } else {
        action.retry_policy.clone()
    };
    let (timeout, per_try_timeout) =
        timeout(decision, action, &mut flight.request, &mut flight.ledger, stream.internal);
    if decision.virtual_host.as_ref().is_some_and(|host| host.include_request_attempt_count) {
        let value = literal(SmolStr::new_static("1"));
        let hand = envoy!("router: includeRequestAttemptCount, one more with each try");
        headers::set(&mut flight.request.headers, &mut flight.ledger, "x-envoy-attempt-count", value, hand);
    }
    finalize(decision, route, action, &mut flight, &name);
    // An endpoint is looked for when the request is ready to go. Envoy: `router.cc: Filter::decodeHeaders`.
    if !cluster::has_host(&found, stream.destination_restored) {
        let body = SmolStr::new_static("no healthy upstream");
        let mut answer = Answer::new(503, body, SmolStr::new_static("no_healthy_upstream"), origin);
        answer.attempts = 1;
        return flight.answered(decision, answer.flag(ResponseFlag::NoHealthyUpstream));
    }
    if let Some(answer) = duration::exceeded(action, &flight.request) {
        return flight.answered(decision, answer);
    }
    let mirrors = mirrors(stream, decision, action, timeout, &flight.request);
    let set_cookies = cookies(action, &found, &flight.request);
    tracing::inject(&decision.http_connection_manager, &mut flight.request.headers, &mut flight.ledger);
    {
        let Flight { request, ledger, .. } = &mut flight;
        frame(decision, &found, request, ledger);
    }
    let forward = Forward {
        cluster: name,
        found,
        timeout,
        timeout_origin: action.timeout_origin.clone(),
        retry_policy,
        per_try_timeout,
        auto_host_rewrite: action.host_rewrite == HostRewrite::Auto,
        origin,
    };
    flight.ends_with(HttpOutcome::Forward(forward), mirrors, set_cookies)
}

/// Takes what an internal client asks for about retries out of its request.
fn asked_retries(flight: &mut Flight) -> Asked {
    // Only internal clients' headers have come this far.
    let hand = envoy!("router: this header is for this proxy");
    let mut take = |name: &str| {
        let lines = &mut flight.request.headers;
        let value = headers::get(lines, name).cloned();
        headers::remove(lines, &mut flight.ledger, name, hand);
        value
    };
    for name in ["x-envoy-hedge-on-per-try-timeout", "x-envoy-retriable-header-names"] {
        take(name);
    }
    let codes = take("x-envoy-retriable-status-codes").unwrap_or_default();
    Asked {
        retry_on: [take("x-envoy-retry-on"), take("x-envoy-retry-grpc-on")].into_iter().flatten().collect(),
        max_retries: take("x-envoy-max-retries").and_then(|number| number.parse().ok()),
        retriable_status_codes: codes.split(',').filter_map(|code| code.trim().parse().ok()).collect(),
    }
}

/// The time limits of the whole and of a try, and the headers that tell the upstream.
///
/// Envoy: `router.cc: FilterUtility::finalTimeout, setTimeoutHeaders`.
fn timeout(
    decision: &HttpDecision,
    action: &RouteAction,
    request: &mut HttpRequest,
    ledger: &mut Ledger,
    internal: bool,
) -> (Duration, Duration) {
    // A filter may have made it gRPC.
    let grpc = decision.downstream.grpc || decision.downstream.grpc_web.is_some();
    let mut limit = match action.max_grpc_timeout {
        // The limit is the stream's. Envoy: `router.cc: RouteEntry::usingNewTimeouts`.
        _ if action.max_stream_duration.is_some() => Duration::ZERO,
        Some(most) if grpc => {
            let asked = headers::get(&request.headers, GRPC_TIMEOUT).and_then(|text| duration::parse(text));
            let asked = asked.unwrap_or_default();
            if !most.is_zero() && (asked.is_zero() || asked > most) { most } else { asked }
        }
        _ => action.timeout,
    };
    let policy = action.retry_policy.as_ref();
    let mut per_try = policy.and_then(|policy| policy.per_try_timeout).unwrap_or_default();
    if internal {
        // Only internal clients' headers have come this far.
        let hand = envoy!("router: this header is for this proxy");
        let mut take = |name: &str| {
            let value = headers::get(&request.headers, name).and_then(|text| text.parse().ok());
            headers::remove(&mut request.headers, ledger, name, hand);
            value.map(Duration::from_millis)
        };
        limit = take("x-envoy-upstream-rq-timeout-ms").unwrap_or(limit);
        per_try = take("x-envoy-upstream-rq-per-try-timeout-ms").unwrap_or(per_try);
        headers::remove(&mut request.headers, ledger, "x-envoy-upstream-rq-timeout-alt-response", hand);
    }
    if per_try >= limit && !limit.is_zero() {
        per_try = Duration::ZERO;
    }
    let expected = if per_try.is_zero() { limit } else { per_try };
    tell_timeout(decision, action, expected, &mut request.headers, ledger);
    let told = action.max_grpc_timeout.is_some() && action.max_stream_duration.is_none();
    if !expected.is_zero() && grpc && told {
        let hand = Hand { by: By::Istio, origin: &action.timeout_origin };
        let value = literal(duration::format(expected));
        headers::set(&mut request.headers, ledger, GRPC_TIMEOUT, value, hand);
    }
    (limit, per_try)
}

/// Tells the upstream how long it has, unless that is without end.
fn tell_timeout(
    decision: &HttpDecision,
    action: &RouteAction,
    limit: Duration,
    lines: &mut Headers,
    ledger: &mut Ledger,
) {
    if limit.is_zero() || decision.http_connection_manager.suppress_envoy_headers {
        return;
    }
    let hand = Hand { by: By::Istio, origin: &action.timeout_origin };
    headers::set(lines, ledger, EXPECTED_TIMEOUT, literal(limit.as_millis().to_smolstr()), hand);
}

/// Header operations from the most specific level to the least, then host and path.
///
/// Envoy: `config_impl.cc: RouteEntryImplBase::finalizeRequestHeaders`.
pub(crate) fn finalize(
    decision: &HttpDecision,
    route: &Route,
    action: &RouteAction,
    flight: &mut Flight,
    cluster: &str,
) {
    let Flight { request, ledger, weighted, delay, .. } = flight;
    for (place, level) in response::levels(decision, weighted.as_ref()).into_iter().enumerate() {
        if let Some(level) = level {
            let HttpRequest { method, path, authority, scheme, headers: lines, no_host, body } = request;
            operations::request(level, lines, ledger, |lines, text| {
                if !text.contains('%') {
                    return literal(text.clone());
                }
                let now = HttpRequest {
                    method: method.clone(),
                    path: path.clone(),
                    authority: authority.clone(),
                    scheme: scheme.clone(),
                    headers: lines.clone(),
                    no_host: *no_host,
                    body: *body,
                };
                let values = formatter::Values {
                    request: &now,
                    response: None,
                    downstream: &decision.downstream,
                    route: Some(route),
                    cluster,
                    attempts: 1,
                    traced: tracing::makes_spans(&decision.http_connection_manager),
                    flags: if delay.is_some() { &[ResponseFlag::DelayInjected] } else { &[] },
                };
                formatter::format(text, &values)
            });
        }
        if place == 0
            && let Some(weighted) = weighted.as_ref()
            && let Some(host) = weighted.host_rewrite_literal.as_ref().filter(|host| !host.is_empty())
        {
            let hand = Hand { by: By::Istio, origin: &weighted.origin };
            headers::note_pseudo(ledger, "host", &request.authority, host, hand);
            request.authority = host.clone();
        }
    }
    let debug = !decision.http_connection_manager.suppress_envoy_headers;
    let origin: &Origin = action.rewrite_origin.as_ref().unwrap_or(&route.origin);
    rewrite::host(request, ledger, action, debug, origin);
    rewrite::path(request, ledger, &route.route_match, action, debug, origin);
}

/// Copies of a request. Envoy: `router.cc: Filter::maybeDoShadowing`, `shadow_writer_impl.cc`.
fn mirrors<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    action: &RouteAction,
    timeout: Duration,
    request: &HttpRequest,
) -> Vec<Mirror> {
    action
        .request_mirror_policies
        .iter()
        .filter(|policy| policy.runtime_fraction > 0)
        .map(|policy| {
            let mut copy = request.clone();
            let mut ledger = Ledger::default();
            let lines = &mut copy.headers;
            let hand = Hand { by: By::Istio, origin: &policy.origin };
            let yes = literal(SmolStr::new_static("true"));
            headers::set(lines, &mut ledger, "x-envoy-internal", yes, hand);
            let own = literal(stream.facts.address.to_smolstr());
            headers::append(lines, &mut ledger, &SmolStr::new_static("x-forwarded-for"), own, hand);
            if !policy.disable_shadow_host_suffix_append {
                copy.authority = shadow_host(&copy.authority);
            }
            // A copy is tried once, within the time of the whole.
            tell_timeout(decision, action, timeout, &mut copy.headers, &mut ledger);
            let found = stream.xds.cluster(&policy.cluster);
            if let Some(found) = &found {
                frame(decision, found, &mut copy, &mut ledger);
            }
            Mirror {
                probability: f64::from(policy.runtime_fraction.min(1_000_000)) / 1_000_000.0,
                cluster: policy.cluster.clone(),
                found,
                request: copy,
                origin: policy.origin.clone(),
            }
        })
        .collect()
}

/// The host with `-shadow` in front of its port.
fn shadow_host(host: &str) -> SmolStr {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => {
            format_smolstr!("{name}-shadow:{port}")
        }
        _ => format_smolstr!("{host}-shadow"),
    }
}

/// Cookies that the client gets so that it reaches the same endpoint again.
///
/// Envoy: `hash_policy.cc: CookieHashMethod`, `http/utility.cc: Utility::makeSetCookieValue`. Only a load balancer that
/// hashes asks for them: measured with Envoy 1.40, a cluster of original destinations gives none.
fn cookies(action: &RouteAction, found: &Cluster, request: &HttpRequest) -> Vec<SmolStr> {
    let mut out = Vec::new();
    if !matches!(found.lb_policy, "RING_HASH" | "MAGLEV") {
        return out;
    }
    for policy in &action.hash_policy {
        let HashPolicy::Cookie { name, path, ttl: Some(ttl) } = policy else { continue };
        let sent = request
            .headers
            .iter()
            .filter(|(key, _)| key == "cookie")
            .flat_map(|(_, value)| value.split(';'))
            .any(|pair| pair.split_once('=').is_some_and(|(key, _)| key.trim() == name));
        if sent {
            continue;
        }
        let age = if ttl.as_secs() > 0 { format!("; Max-Age={}", ttl.as_secs()) } else { String::new() };
        let path = if path.is_empty() { String::new() } else { format!("; Path={path}") };
        out.push(format_smolstr!("{name}=\"{GENERATED}\"{age}{path}; HttpOnly"));
    }
    out
}

/// Whether requests to a cluster are HTTP/2.
pub(crate) fn is_http2(decision: &HttpDecision, found: &Cluster) -> bool {
    match found.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Downstream => decision.downstream.protocol == "HTTP/2",
    }
}

/// What the codec adds towards an HTTP/1 upstream. Envoy: `http1/codec_impl.cc: StreamEncoderImpl::encodeHeadersBase`.
fn frame(decision: &HttpDecision, found: &Cluster, request: &mut HttpRequest, ledger: &mut Ledger) {
    let http2 = is_http2(decision, found);
    let lines = &mut request.headers;
    if http2 || headers::has(lines, "content-length") || sanitize::is_upgrade(lines) {
        return;
    }
    let hand = envoy!("HTTP/1 codec: framing of the request");
    // A body whose length nobody tells, or told until an operation took it away, goes in chunks.
    if decision.downstream.body {
        let value = literal(SmolStr::new_static("chunked"));
        headers::set(lines, ledger, "transfer-encoding", value, hand);
    } else if !codec::is_bodiless(&request.method) {
        headers::set(lines, ledger, "content-length", literal(SmolStr::new_static("0")), hand);
    }
}
