//! What do the HTTP filters do with a request before the router has it?
//!
//! RBAC, fault injection, CORS, Istio's metadata exchange, in the connection manager's order. Envoy: `fault_filter.cc`, `cors_filter.cc`,
//! `rbac_filter.cc`. Measured with Envoy 1.40.

use std::sync::Arc;
use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use super::local_reply::{self, Answer, Circumstances};
use super::{Stream, grpc_web, response, router, upgrade};
use crate::envoy::config::{
    Action, Cluster, ClusterSpecifier, CorsPolicy, Fault, FaultAbort, HttpFilter, Refusal, TrafficDirection,
    WeightedCluster,
};
use crate::envoy::connection::note;
use crate::envoy::decision::{HttpBranch, HttpDecision, HttpOutcome, Mirror};
use crate::envoy::headers::{self, envoy, literal};
use crate::envoy::ledger::{GENERATED, Generated, HeaderValue, Ledger};
use crate::envoy::matching;
use crate::envoy::rbac::{self, Caller};
use crate::envoy::recorder::{Recorder, StepKind};
use crate::envoy::reply::ResponseFlag;
use crate::envoy::request::HttpRequest;
use crate::envoy::xds::Xds;
use crate::origin::Origin;

/// Millionths in one.
const MILLION: u32 = 1_000_000;

/// A request on its way through the filters.
#[derive(Clone)]
pub(crate) struct Flight {
    /// How likely it is.
    pub(crate) probability: f64,
    /// The request.
    pub(crate) request: HttpRequest,
    /// How its headers changed.
    pub(crate) ledger: Ledger,
    /// The weighted entry that was chosen.
    pub(crate) weighted: Option<WeightedCluster>,
    /// The cluster's name.
    pub(crate) cluster: Option<SmolStr>,
    /// The cluster, if it exists.
    pub(crate) found: Option<Arc<Cluster>>,
    /// A delay.
    pub(crate) delay: Option<(Duration, Origin)>,
    /// The request's origin if CORS allows it.
    pub(crate) cors_origin: Option<SmolStr>,
}

impl Flight {
    /// The branch in which this is the outcome.
    pub(crate) fn ends(self, outcome: HttpOutcome) -> HttpBranch {
        self.ends_with(outcome, Vec::new(), Vec::new())
    }

    /// The branch in which this is the outcome, with copies and cookies.
    pub(crate) fn ends_with(
        self,
        outcome: HttpOutcome,
        mirrors: Vec<Mirror>,
        set_cookies: Vec<SmolStr>,
    ) -> HttpBranch {
        HttpBranch {
            probability: self.probability,
            fault_delay: self.delay,
            outcome,
            request: self.request,
            changes: self.ledger.changes,
            mirrors,
            weighted_cluster: self.weighted,
            cors_origin: self.cors_origin,
            set_cookies,
        }
    }

    /// The branch in which the proxy answers.
    pub(crate) fn answered(self, decision: &HttpDecision, mut answer: Answer) -> HttpBranch {
        if self.delay.is_some() {
            answer.flags.insert(0, ResponseFlag::DelayInjected);
            // What follows an upgrade has no end.
            answer.close |= upgrade::asked(&self.request).is_some();
        } else {
            // The rest of the request has not been read. Envoy: `conn_manager_impl.cc: ActiveStream::encodeHeaders`.
            answer.close |= decision.downstream.body;
        }
        let reply = local_reply::build(
            answer,
            Circumstances {
                decision,
                request: &self.request,
                weighted: self.weighted.as_ref(),
                cluster: self.cluster.as_ref(),
                found: self.found.is_some(),
                cors_origin: self.cors_origin.as_ref(),
                recorded: self.ledger.is_on(),
            },
        );
        self.ends(HttpOutcome::Reply(Box::new(reply)))
    }
}

/// Sends a request through the filters and the router.
pub(crate) fn run<X: Xds + ?Sized, R: Recorder>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    request: HttpRequest,
    ledger: Ledger,
    recorder: &mut R,
) -> Vec<HttpBranch> {
    let mut out = Vec::with_capacity(1);
    let mut flights = choose(stream, decision, request, ledger, &mut out);
    // The filters see the same request on every branch, so their steps are noted once.
    if let Some(opaque) = security(stream, decision, &mut flights, &mut out, recorder) {
        out.extend(flights.into_iter().map(|flight| {
            let cluster = flight.cluster.clone();
            let (reason, origin) = opaque.clone();
            flight.ends(HttpOutcome::Unknown { reason, cluster, origin })
        }));
        return out;
    }
    for flight in flights {
        traffic(stream, decision, flight, &mut out);
    }
    out
}

/// Answers a request before any filter ran, with the header operations of the destination that the route has chosen.
pub(crate) fn skipped<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    request: HttpRequest,
    ledger: Ledger,
    answer: &Answer,
) -> Vec<HttpBranch> {
    let mut out = Vec::with_capacity(1);
    let tells = |cluster: &WeightedCluster| cluster.weight > 0 && cluster.headers.has_response();
    let flights = if weighted(decision).is_some_and(|clusters| clusters.iter().any(tells)) {
        choose(stream, decision, request, ledger, &mut out)
    } else {
        // Where the client cannot tell the destinations apart, they are one outcome.
        vec![undivided(stream, decision, request, ledger)]
    };
    out.extend(flights.into_iter().map(|flight| flight.answered(decision, answer.clone())));
    out
}

/// A request that is routed by what the proxy was told before.
pub(crate) fn unloaded<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    request: HttpRequest,
    ledger: Ledger,
    refusal: &Refusal,
) -> Vec<HttpBranch> {
    let Refusal { reason, origin } = refusal;
    let reason =
        format_smolstr!("Envoy refuses this route configuration and keeps what it had before: {reason}");
    let outcome = HttpOutcome::Unknown { reason, cluster: None, origin: origin.clone() };
    vec![undivided(stream, decision, request, ledger).ends(outcome)]
}

/// The clusters of which the route chooses one by chance.
fn weighted(decision: &HttpDecision) -> Option<&[WeightedCluster]> {
    let (_, route) = decision.route.as_ref()?;
    let Action::Route(action) = &route.action else { return None };
    match &action.cluster {
        ClusterSpecifier::WeightedClusters(clusters) => Some(clusters),
        ClusterSpecifier::Cluster(_) | ClusterSpecifier::ClusterHeader(_) => None,
    }
}

/// The flight of a request before anything is chosen by chance.
fn undivided<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    request: HttpRequest,
    ledger: Ledger,
) -> Flight {
    let cluster = decision.route.as_ref().and_then(|(_, route)| router::cluster_of(route, None, &request));
    let found = cluster.as_ref().and_then(|name| stream.xds.cluster(name));
    Flight {
        probability: 1.0,
        request,
        ledger,
        weighted: None,
        cluster,
        found,
        delay: None,
        cors_origin: None,
    }
}

/// One flight for each cluster that the route may choose; the choice is made with the route.
fn choose<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    request: HttpRequest,
    ledger: Ledger,
    out: &mut Vec<HttpBranch>,
) -> Vec<Flight> {
    let flight = undivided(stream, decision, request, ledger);
    let (Some((_, route)), Some(clusters)) = (&decision.route, weighted(decision)) else {
        return vec![flight];
    };
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if total == 0 {
        out.push(flight.ends(HttpOutcome::Unknown {
            reason: SmolStr::new_static("Envoy refuses a route whose weights sum up to 0"),
            cluster: None,
            origin: route.origin.clone(),
        }));
        return Vec::new();
    }
    clusters
        .iter()
        .filter(|cluster| cluster.weight > 0)
        .map(|cluster| Flight {
            probability: f64::from(cluster.weight) / total as f64,
            cluster: Some(cluster.name.clone()),
            found: stream.xds.cluster(&cluster.name),
            weighted: Some(cluster.clone()),
            ..flight.clone()
        })
        .collect()
}

/// Filters in front of fault injection that look at the request alone; a filter that is not modelled ends the walk.
fn security<X: Xds + ?Sized, R: Recorder>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    flights: &mut Vec<Flight>,
    out: &mut Vec<HttpBranch>,
    recorder: &mut R,
) -> Option<(SmolStr, Origin)> {
    for filter in &decision.http_connection_manager.http_filters {
        match filter {
            HttpFilter::Rbac(filter) => {
                let Some(policies) = &filter.policies else { continue };
                let request = flights.first().map(|flight| &flight.request)?;
                let caller = Caller {
                    request: Some(request),
                    destination: stream.connection.destination,
                    port: stream.connection.port,
                    direct_remote: stream.connection.source,
                    remote: decision.downstream.remote_address,
                    server_name: stream.server_name,
                    peer: decision.downstream.peer.as_ref(),
                    metadata: &stream.metadata,
                };
                match rbac::check(filter.action, policies, &caller) {
                    Ok(Some(policy)) => {
                        note(recorder, StepKind::Authorization, &policy.name, &policy.origin);
                    }
                    Ok(None) => {}
                    Err(denied) => {
                        let origin = denied.origin.unwrap_or_else(|| {
                            Origin::default("AuthorizationPolicy: no ALLOW policy matches")
                        });
                        for flight in flights.drain(..) {
                            let body = SmolStr::new_static("RBAC: access denied");
                            let answer = Answer::new(403, body, denied.details.clone(), origin.clone());
                            out.push(flight.answered(decision, answer));
                        }
                        return None;
                    }
                }
            }
            HttpFilter::JwtAuthn(authentication) => {
                let origin = authentication.providers.first().map(|provider| provider.origin.clone());
                return Some((
                    SmolStr::new_static("token validation is not modelled"),
                    origin.unwrap_or_else(|| decision.http_connection_manager.origin.clone()),
                ));
            }
            HttpFilter::Opaque { name, origin } => {
                return Some((format_smolstr!("the HTTP filter {name} is not modelled"), origin.clone()));
            }
            HttpFilter::PeerMetadata => {
                for flight in flights.iter_mut() {
                    peer_metadata(stream, decision, flight);
                }
            }
            HttpFilter::GrpcWeb => {
                for Flight { request, ledger, .. } in flights.iter_mut() {
                    grpc_web::decode(decision, request, ledger);
                }
            }
            HttpFilter::Fault
            | HttpFilter::Cors
            | HttpFilter::DynamicForwardProxy(_)
            | HttpFilter::NoEffect(_) => {}
        }
    }
    None
}

/// Istio's metadata exchange: a proxy describes itself to the next one, which keeps it from the workload.
fn peer_metadata<X: ?Sized>(stream: &Stream<'_, X>, decision: &HttpDecision, flight: &mut Flight) {
    if !decision.downstream.exchanges_metadata {
        return;
    }
    let hand = envoy!("istio.metadata_exchange");
    let (lines, ledger) = (&mut flight.request.headers, &mut flight.ledger);
    match decision.traffic_direction {
        TrafficDirection::Outbound => {
            let id = literal(stream.facts.node_id.clone());
            headers::set(lines, ledger, "x-envoy-peer-metadata-id", id, hand);
            let metadata = HeaderValue::Generated(Generated::PeerMetadata, SmolStr::new_static(GENERATED));
            headers::set(lines, ledger, "x-envoy-peer-metadata", metadata, hand);
        }
        TrafficDirection::Inbound => {
            for name in ["x-envoy-peer-metadata-id", "x-envoy-peer-metadata"] {
                headers::remove(lines, ledger, name, hand);
            }
        }
    }
}

/// Fault injection, CORS and the router.
fn traffic<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    flight: Flight,
    out: &mut Vec<HttpBranch>,
) {
    let filters = &decision.http_connection_manager.http_filters;
    let fault = decision.route.as_ref().and_then(|(_, route)| route.fault.as_ref());
    match fault {
        Some(fault) if filters.contains(&HttpFilter::Fault) => {
            for flight in inject(decision, flight, fault, out) {
                out.push(unharmed(stream, decision, flight));
            }
        }
        _ => out.push(unharmed(stream, decision, flight)),
    }
}

/// CORS and the router.
fn unharmed<X: Xds + ?Sized>(
    stream: &Stream<'_, X>,
    decision: &HttpDecision,
    mut flight: Flight,
) -> HttpBranch {
    if decision.http_connection_manager.http_filters.contains(&HttpFilter::Cors)
        && let Some(policy) = response::cors_policy(decision)
    {
        match cors(decision, policy, flight) {
            Ok(passed) => flight = passed,
            Err(answered) => return *answered,
        }
    }
    router::run(stream, decision, flight)
}

/// Delays, then aborts; what is left goes on.
fn inject(decision: &HttpDecision, flight: Flight, fault: &Fault, out: &mut Vec<HttpBranch>) -> Vec<Flight> {
    let mut flights = match &fault.delay {
        Some((delay, part, origin)) => {
            let (hit, missed) = split(flight, *part);
            let delayed = hit.map(|hit| Flight { delay: Some((*delay, origin.clone())), ..hit });
            delayed.into_iter().chain(missed).collect()
        }
        None => vec![flight],
    };
    let Some((abort, part, origin)) = &fault.abort else { return flights };
    let mut left = Vec::new();
    for flight in flights.drain(..) {
        let (hit, missed) = split(flight, *part);
        left.extend(missed);
        if let Some(hit) = hit {
            let (status, grpc_status) = match abort {
                FaultAbort::HttpStatus(status) => (*status, None),
                FaultAbort::GrpcStatus(status) => (200, Some(*status)),
            };
            let body = SmolStr::new_static("fault filter abort");
            let details = SmolStr::new_static("fault_filter_abort");
            let mut answer =
                Answer::new(status, body, details, origin.clone()).flag(ResponseFlag::FaultInjected);
            answer.grpc_status = grpc_status;
            out.push(hit.answered(decision, answer));
        }
    }
    left
}

/// The part of a flight that is hit, and the part that is not.
fn split(flight: Flight, part: u32) -> (Option<Flight>, Option<Flight>) {
    if part == 0 {
        return (None, Some(flight));
    }
    if part >= MILLION {
        return (Some(flight), None);
    }
    let chance = f64::from(part) / f64::from(MILLION);
    let missed = Flight { probability: flight.probability * (1.0 - chance), ..flight.clone() };
    let hit = Flight { probability: flight.probability * chance, ..flight };
    (Some(hit), Some(missed))
}

/// Notes an allowed origin, or answers a preflight. Envoy: `cors_filter.cc: CorsFilter::decodeHeaders`.
fn cors(decision: &HttpDecision, policy: &CorsPolicy, mut flight: Flight) -> Result<Flight, Box<HttpBranch>> {
    let Some(origin) = headers::get(&flight.request.headers, "origin").filter(|origin| !origin.is_empty())
    else {
        return Ok(flight);
    };
    let allowed = policy.allow_origin_string_match.iter().any(|matcher| allows(matcher, origin));
    let preflight = flight.request.method == "OPTIONS"
        && headers::get(&flight.request.headers, "access-control-request-method")
            .is_some_and(|method| !method.is_empty());
    if allowed {
        flight.cors_origin = Some(origin.clone());
    }
    if !preflight || (!allowed && policy.forward_not_matching_preflights) {
        return Ok(flight);
    }
    Err(Box::new(preflight_reply(decision, policy, flight)))
}

fn allows(matcher: &crate::envoy::config::StringMatcher, origin: &str) -> bool {
    matches!(matcher, crate::envoy::config::StringMatcher::Exact(any) if any == "*")
        || matching::string(matcher, origin)
}

/// The answer to a preflight; its headers are written by the filter itself, in its order.
fn preflight_reply(decision: &HttpDecision, policy: &CorsPolicy, flight: Flight) -> HttpBranch {
    let mut answer =
        Answer::new(200, SmolStr::default(), SmolStr::new_static("cors_response"), policy.origin.clone());
    answer.operations = false;
    // Measured with Envoy 1.40: a client with the content type of gRPC gets the same answer.
    answer.converted = false;
    if let Some(origin) = &flight.cors_origin {
        answer.first.push(("access-control-allow-origin", literal(origin.clone())));
    }
    if policy.allow_credentials == Some(true) {
        let yes = literal(SmolStr::new_static("true"));
        answer.first.push(("access-control-allow-credentials", yes));
    }
    for (name, value) in [
        ("access-control-allow-methods", &policy.allow_methods),
        ("access-control-allow-headers", &policy.allow_headers),
        ("access-control-max-age", &policy.max_age),
    ] {
        if !value.is_empty() {
            answer.first.push((name, literal(value.clone())));
        }
    }
    flight.answered(decision, answer)
}
