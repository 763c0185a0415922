//! What does an HTTP connection manager do with a request?
//!
//! The codec's checks, path normalization, headers, virtual host and route; then the filters and the router. Envoy: `conn_manager_impl.cc:
//! ActiveStream::decodeHeaders`, in its order. Invariant: the probabilities of a decision's branches sum to 1.

mod class;
mod codec;
mod duration;
mod failure;
mod filter;
mod formatter;
mod grpc_web;
mod http2;
mod local_reply;
mod operations;
mod redirect;
mod referer;
mod response;
mod rewrite;
pub(crate) mod routed;
mod router;
mod sanitize;
mod tracing;
mod upgrade;

use std::sync::Arc;

use smol_str::SmolStr;

pub(crate) use codec::{Beginning, beginning};
pub use failure::{failed, last_try};
pub use response::{passing_flags, respond};
pub(crate) use upgrade::is_unsuccessful;
pub use upgrade::{accepted as accepted_upgrade, passing_details};

use self::codec::Refusal;
use self::local_reply::Answer;
use super::config::{
    HttpConnectionManager, HttpFilter, RequireTls, Route, RouteConfiguration, RouteSpecifier,
    TrafficDirection, VirtualHost,
};
use super::connection::{Arrival, note};
use super::decision::{Downstream, HttpBranch, HttpDecision, HttpOutcome, ProxyFacts, Reset};
use super::headers::{self, Hand, envoy, literal};
use super::ledger::{By, Ledger};
use super::matching::{self, Metadata, Subject};
use super::path::{self, Normalized};
use super::recorder::{Recorder, StepKind};
use super::reply::ResponseFlag;
use super::request::{ApplicationProtocol, Body, Connection, HttpRequest};
use super::tls::Session;
use super::xds::Xds;
use super::{domain, recorder};
use crate::origin::Origin;

/// What the connection manager does; `request` is `None` when the bytes are no HTTP.
pub(crate) fn decide<X: Xds + ?Sized, R: Recorder>(
    arrival: &Arrival<'_, X>,
    manager: &Arc<HttpConnectionManager>,
    session: Option<Session<'_>>,
    request: Option<&HttpRequest>,
    recorder: &mut R,
) -> HttpDecision {
    let mut decision = HttpDecision {
        route_configuration: match &manager.route_specifier {
            RouteSpecifier::Rds(name) => name.clone(),
            RouteSpecifier::Inline(configuration) => configuration.name.clone(),
        },
        route_configuration_found: None,
        virtual_host: None,
        route: None,
        http_connection_manager: Arc::clone(manager),
        traffic_direction: arrival.listener.traffic_direction,
        downstream: downstream(arrival, manager, session, request),
        branches: Vec::new(),
    };
    let http2 = arrival.connection.protocol == ApplicationProtocol::Http2;
    let mut stream = Stream {
        xds: arrival.xds,
        facts: arrival.facts,
        connection: arrival.connection,
        destination_restored: arrival.destination_restored(),
        server_name: arrival.server_name(),
        metadata: Metadata::new(),
        tls_redirect: false,
        internal: false,
    };
    let mut ledger = Ledger::new(recorder.enabled());
    let mut request = request.map(own);
    if let Some(request) = &mut request {
        if http2 {
            if let Err(fault) = http2::read(request, manager, &mut ledger) {
                decision.branches = vec![reset(request.clone(), fault.into())];
                return decision;
            }
        } else {
            // HTTP/1 has no other end of a body than the one that the headers tell.
            let chunked = headers::has(&request.headers, "transfer-encoding");
            request.body = if chunked { Body::Stream } else { Body::Declared };
        }
    }
    let mismatched = http2 && request.as_ref().is_some_and(http2::is_mismatched);
    let refused = stream.prepare(&mut decision, request.as_mut(), &mut ledger).err();
    let request = request.unwrap_or_else(nothing);
    // An early answer looks for a route as well, with the headers that were sent. Measured with Envoy 1.40.
    if refused.as_ref().is_none_or(|answer| answer.routed) {
        stream.route(&mut decision, &request, recorder);
    }
    // The redirect to TLS is a route of its own. Envoy: `conn_manager_impl.cc: ActiveStream::decodeHeaders`.
    let routed = decision.route.is_some() || stream.tls_redirect;
    let unloaded = decision.route_configuration_found.as_ref().and_then(|found| found.refused.clone());
    if let Some(refusal) = unloaded.filter(|_| refused.is_none()) {
        decision.branches = filter::unloaded(&stream, &decision, request, ledger, &refusal);
        return decision;
    }
    let refused = refused.or_else(|| upgrade::refused(&decision, &request, routed).map(Box::new));
    decision.branches = match refused {
        Some(answer) => filter::skipped(&stream, &decision, request, ledger, &answer),
        None => {
            let mut request = request;
            duration::tell(&decision, &mut request, &mut ledger);
            decorate(&mut decision, &mut request, &mut ledger);
            filter::run(&stream, &decision, request, ledger, recorder)
        }
    };
    if mismatched {
        decision.branches.iter_mut().for_each(interrupt);
    }
    decision
}

/// A request that is not read to its end.
fn reset(request: HttpRequest, reset: Reset) -> HttpBranch {
    HttpBranch {
        probability: 1.0,
        fault_delay: None,
        outcome: HttpOutcome::Reset(reset),
        request,
        changes: Vec::new(),
        mirrors: Vec::new(),
        weighted_cluster: None,
        cors_origin: None,
        set_cookies: Vec::new(),
    }
}

/// Ends a branch by a fault in the body. Measured with Envoy 1.40: an answer that was made before is logged, and does not arrive.
fn interrupt(branch: &mut HttpBranch) {
    let mut reset = http2::mismatch();
    match &branch.outcome {
        HttpOutcome::Forward(_) => {}
        HttpOutcome::Reply(reply) => {
            reset.status = reply.response.status;
            reset.flags.clone_from(&reply.flags);
            reset.details = reply.details.clone();
        }
        HttpOutcome::Reset(_) | HttpOutcome::Unknown { .. } => return,
    }
    branch.outcome = HttpOutcome::Reset(reset);
}

/// What the walk knows besides the decision so far.
pub(crate) struct Stream<'a, X: ?Sized> {
    /// What the proxy was told.
    xds: &'a X,
    /// The proxy.
    facts: &'a ProxyFacts,
    /// The connection.
    connection: &'a Connection,
    /// Whether the connection has an original destination.
    destination_restored: bool,
    /// The server name that the TLS inspector saw.
    server_name: &'a str,
    /// What filters left for each other.
    metadata: Metadata,
    /// Whether the virtual host insists on TLS and the request came without.
    tls_redirect: bool,
    /// Whether the client is an internal one.
    internal: bool,
}

/// The proxy's own copy of a request, with room for the lines that it adds.
fn own(request: &HttpRequest) -> HttpRequest {
    /// More than istiod's configuration adds to most requests.
    const ROOM: usize = 12;
    let mut headers = Vec::with_capacity(request.headers.len() + ROOM);
    headers.extend_from_slice(&request.headers);
    let HttpRequest { method, path, authority, scheme, body, .. } = request;
    HttpRequest {
        method: method.clone(),
        path: path.clone(),
        authority: authority.clone(),
        scheme: scheme.clone(),
        headers,
        no_host: request.no_host,
        body: *body,
    }
}

/// The stand-in for bytes that are no request.
fn nothing() -> HttpRequest {
    HttpRequest {
        method: SmolStr::default(),
        path: SmolStr::default(),
        authority: SmolStr::default(),
        scheme: None,
        headers: Vec::new(),
        no_host: false,
        body: Body::Declared,
    }
}

fn downstream<X: Xds + ?Sized>(
    arrival: &Arrival<'_, X>,
    manager: &HttpConnectionManager,
    session: Option<Session<'_>>,
    request: Option<&HttpRequest>,
) -> Downstream {
    let connection = arrival.connection;
    let lines = request.map_or(&[][..], |request| &request.headers);
    let exchanges_metadata =
        arrival.facts.peer_metadata && manager.http_filters.contains(&HttpFilter::PeerMetadata);
    Downstream {
        remote_address: connection.source,
        direct_remote_address: connection.source,
        local_address: connection.destination,
        local_port: connection.port,
        tls: session.is_some(),
        peer: session.and_then(|session| session.peer).cloned(),
        sni: arrival.server_name().into(),
        filter_chain: arrival.chain.name.clone(),
        protocol: match connection.protocol {
            ApplicationProtocol::Http10 => "HTTP/1.0",
            ApplicationProtocol::Http2 => "HTTP/2",
            ApplicationProtocol::Http11 | ApplicationProtocol::Tcp => "HTTP/1.1",
        },
        // The codec knows.
        grpc: false,
        accepted: false,
        grpc_web: None,
        head: request.is_some_and(|request| request.method == "HEAD"),
        body: request.is_some_and(|request| {
            let http2 = connection.protocol == ApplicationProtocol::Http2;
            match request.body {
                Body::Bytes(bytes) if http2 => bytes > 0,
                Body::Stream if http2 => true,
                Body::Bytes(_) | Body::Stream | Body::Declared => {
                    headers::has(lines, "transfer-encoding")
                        || headers::get(lines, "content-length")
                            .is_some_and(|length| length.trim().parse::<u64>() != Ok(0))
                }
            }
        }),
        close: connection.protocol == ApplicationProtocol::Http10,
        decorator: None,
        peer_metadata: (
            headers::has(lines, "x-envoy-peer-metadata"),
            headers::has(lines, "x-envoy-peer-metadata-id"),
        ),
        exchanges_metadata,
    }
}

/// Whether the client wants the connection closed afterwards. Envoy: `http/header_utility.cc: HeaderUtility::shouldCloseConnection`.
fn asks_to_close(lines: &[(SmolStr, SmolStr)]) -> bool {
    let close = |value: &SmolStr| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"));
    ["connection", "proxy-connection"]
        .into_iter()
        .any(|name| lines.iter().filter(|(key, _)| key == name).any(|(_, value)| close(value)))
}

/// Whether a content type is gRPC's. Envoy: `grpc/common.cc: Common::hasGrpcContentType`.
fn is_grpc(content_type: &str) -> bool {
    content_type.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

impl<X: Xds + ?Sized> Stream<'_, X> {
    /// The codec, path normalization and the connection manager's own headers.
    ///
    /// # Errors
    ///
    /// The proxy answers before it looks for a route.
    fn prepare(
        &mut self,
        decision: &mut HttpDecision,
        request: Option<&mut HttpRequest>,
        ledger: &mut Ledger,
    ) -> Result<(), Box<Answer>> {
        let manager = Arc::clone(&decision.http_connection_manager);
        let refusal = |refusal: Refusal| {
            let mut answer = Answer::new(
                refusal.status,
                SmolStr::new_static(refusal.body),
                SmolStr::new_static(refusal.details),
                Origin::default("HTTP codec: what is no proper request"),
            );
            if !refusal.protocol_error {
                return Box::new(answer.closing());
            }
            // The codec answers in plain text, whatever the client speaks. Measured with Envoy 1.40.
            answer.converted = false;
            Box::new(answer.unrouted().flag(ResponseFlag::DownstreamProtocolError))
        };
        let Some(request) = request else { return Err(refusal(Refusal::GARBAGE)) };
        if self.connection.protocol == ApplicationProtocol::Http10 && !manager.accept_http_10 {
            return Err(refusal(Refusal::LOW_VERSION));
        }
        let http2 = self.connection.protocol == ApplicationProtocol::Http2;
        let read =
            if http2 { Ok(()) } else { codec::read(request, &manager, decision.downstream.tls, ledger) };
        // A line that goes on belongs to the one before it, so only now is known what was said.
        let content_type = headers::joined(&request.headers, "content-type");
        decision.downstream.grpc = content_type.is_some_and(|value| is_grpc(&value));
        decision.downstream.close |= asks_to_close(&request.headers);
        decision.downstream.grpc_web =
            grpc_web::asked(&request.headers).filter(|_| manager.http_filters.contains(&HttpFilter::GrpcWeb));
        read.map_err(refusal)?;
        // What follows an upgrade counts as a body. Envoy: `http1/codec_impl.cc: handling_upgrade_`.
        decision.downstream.body |= upgrade::asked(request).is_some();
        let answer = |status, details| {
            let origin = Origin::default("HTTP connection manager: path normalization");
            Box::new(Answer::new(status, SmolStr::default(), SmolStr::new_static(details), origin).closing())
        };
        if request.method == "CONNECT" {
            // Such a request has no path, so no route takes it. Measured with Envoy 1.40.
            let details = SmolStr::new_static("route_not_found");
            let answer = Answer::new(404, SmolStr::default(), details, manager.origin.clone());
            return Err(Box::new(answer.flag(ResponseFlag::NoRouteFound).unrouted()));
        }
        if !request.path.starts_with('/') {
            let mut answer = answer(404, "absolute_path_rejected");
            answer.close = false;
            return Err(answer);
        }
        let typed = headers::get(&request.headers, "content-type").is_some_and(|value| !value.is_empty());
        if request.method == "QUERY" && !typed {
            // Measured with Envoy 1.40, guard `reject_query_method_without_content_type`: RFC 10008 asks for it.
            return Err(answer(400, "query_missing_content_type"));
        }
        let hand = Hand { by: By::Istio, origin: &manager.origin };
        match path::normalize(&request.path, &manager, self.facts.strips_dot_parameters) {
            Normalized::Reject => return Err(answer(400, "path_normalization_failed")),
            // gRPC clients follow no redirect. Envoy: `conn_manager_impl.cc: ActiveStream::decodeHeaders`.
            Normalized::Redirect(_) if decision.downstream.grpc => {
                return Err(answer(400, "path_normalization_failed"));
            }
            Normalized::Redirect(path) => {
                let mut answer = answer(307, "path_normalization_failed");
                answer.close = false;
                answer.first.push(("location", literal(SmolStr::new(path))));
                return Err(answer);
            }
            Normalized::Continue(path) if path == request.path.as_str() => {}
            Normalized::Continue(path) => {
                let path = SmolStr::new(path);
                headers::note_pseudo(ledger, ":path", &request.path, &path, hand);
                request.path = path;
            }
        }
        let peer = sanitize::Peer {
            address: self.connection.source,
            local: (self.connection.destination, self.connection.port),
            tls: decision.downstream.tls,
            certificate: decision.downstream.peer.as_ref(),
        };
        let (client, internal) = sanitize::request(request, ledger, &manager, self.facts, peer);
        decision.downstream.remote_address = client;
        decision.downstream.accepted = true;
        self.internal = internal;
        if !http2 || request.scheme.is_none() {
            request.scheme = Some(scheme(request, decision.downstream.tls));
        }
        Ok(())
    }

    /// Chooses virtual host and route.
    fn route<R: Recorder>(&mut self, decision: &mut HttpDecision, request: &HttpRequest, recorder: &mut R) {
        let manager = Arc::clone(&decision.http_connection_manager);
        match &manager.route_specifier {
            specifier if request.no_host => {
                let configuration = self.whole(specifier);
                let only = configuration.as_ref().and_then(|found| domain::only(&found.virtual_hosts));
                decision.virtual_host = only.cloned();
                decision.route_configuration_found = configuration;
            }
            RouteSpecifier::Inline(configuration) => {
                let ignore_port = configuration.ignore_port_in_host_matching;
                let host = domain::find(&configuration.virtual_hosts, &request.authority, ignore_port);
                decision.virtual_host = host.cloned();
                decision.route_configuration_found = Some(Arc::clone(configuration));
            }
            RouteSpecifier::Rds(name) => {
                if let Some(choice) = self.xds.virtual_host(name, &request.authority) {
                    decision.virtual_host = choice.virtual_host;
                    decision.route_configuration_found = Some(choice.route_configuration);
                }
            }
        }
        if let Some(configuration) = &decision.route_configuration_found {
            note(recorder, StepKind::RouteConfig, &configuration.name, &configuration.origin);
        }
        let Some(host) = &decision.virtual_host else {
            if recorder.enabled() {
                self.near_misses(decision, request, recorder);
            }
            return;
        };
        note(recorder, StepKind::VirtualHost, &host.name, &host.origin);
        let subject = Subject { request, metadata: &self.metadata };
        match choose(host, subject) {
            Choice::Unforwarded => return,
            Choice::TlsRedirect => {
                self.tls_redirect = true;
                return;
            }
            Choice::NoRoute => {}
            Choice::Route(index, route) => decision.route = Some((index, route)),
        }
        match &decision.route {
            Some((_, route)) => note(recorder, StepKind::Route, &route.name, &route.origin),
            None if recorder.enabled() => {
                for miss in matching::near_misses(&host.routes, subject) {
                    recorder.near_miss(miss);
                }
            }
            None => {}
        }
    }

    /// A route configuration with all its virtual hosts.
    fn whole(&self, specifier: &RouteSpecifier) -> Option<Arc<RouteConfiguration>> {
        match specifier {
            RouteSpecifier::Inline(configuration) => Some(Arc::clone(configuration)),
            RouteSpecifier::Rds(name) => self.xds.route_configuration(name),
        }
    }

    /// Virtual hosts that could have been meant.
    fn near_misses<R: Recorder>(&self, decision: &HttpDecision, request: &HttpRequest, recorder: &mut R) {
        let configuration = self.whole(&decision.http_connection_manager.route_specifier);
        let hosts = configuration.as_ref().map_or(&[][..], |configuration| &configuration.virtual_hosts);
        let misses: Vec<recorder::NearMiss> = domain::near_misses(hosts, &request.authority);
        for miss in misses {
            recorder.near_miss(miss);
        }
    }
}

/// What a virtual host chooses for a request.
pub(crate) enum Choice {
    /// Nothing: nobody said which protocol the client used.
    Unforwarded,
    /// A redirect to https.
    TlsRedirect,
    /// Nothing: no route matches.
    NoRoute,
    /// A route and its place.
    Route(usize, Arc<Route>),
}

/// Chooses the route of a virtual host.
///
/// Envoy: `config_impl.cc: VirtualHostImpl::getRouteFromEntries`, which reads the forwarded protocol, not the scheme.
pub(crate) fn choose(host: &VirtualHost, subject: Subject<'_>) -> Choice {
    let lines = &subject.request.headers;
    let protocol = headers::get(lines, "x-forwarded-proto").map_or("", SmolStr::as_str);
    if protocol.is_empty() {
        return Choice::Unforwarded;
    }
    let redirected = match host.require_tls {
        RequireTls::None => false,
        RequireTls::ExternalOnly => headers::get(lines, "x-envoy-internal").is_none_or(|v| v != "true"),
        RequireTls::All => true,
    };
    if redirected && protocol != "https" {
        return Choice::TlsRedirect;
    }
    let mut routes = host.routes.iter().enumerate();
    match routes.find(|(_, route)| matching::route(&route.route_match, subject).is_ok()) {
        Some((index, route)) => Choice::Route(index, Arc::clone(route)),
        None => Choice::NoRoute,
    }
}

/// `:scheme` of a request that brings none. Envoy: `http/utility.cc: getScheme`.
fn scheme(request: &HttpRequest, tls: bool) -> SmolStr {
    let forwarded = headers::get(&request.headers, "x-forwarded-proto").map_or("", SmolStr::as_str);
    let secure = match forwarded {
        _ if forwarded.eq_ignore_ascii_case("https") => true,
        _ if forwarded.eq_ignore_ascii_case("http") => false,
        _ => tls,
    };
    SmolStr::new_static(if secure { "https" } else { "http" })
}

/// Tells the upstream, or later the client, the route's operation.
///
/// Envoy: `conn_manager_impl.cc: ActiveStream::traceRequest`.
fn decorate(decision: &mut HttpDecision, request: &mut HttpRequest, ledger: &mut Ledger) {
    const NAME: &str = "x-envoy-decorator-operation";
    if decision.http_connection_manager.tracing.is_none() {
        return;
    }
    let decorated = decision.route.as_ref().and_then(|(_, route)| {
        let operation = route.decorator.clone().filter(|operation| !operation.is_empty())?;
        Some((operation, &route.origin))
    });
    match decision.traffic_direction {
        TrafficDirection::Outbound => {
            if let Some((operation, origin)) = decorated {
                let hand = Hand { by: By::Istio, origin };
                headers::set(&mut request.headers, ledger, NAME, literal(operation), hand);
            }
        }
        TrafficDirection::Inbound => {
            let told = headers::get(&request.headers, NAME).is_some_and(|value| !value.is_empty());
            decision.downstream.decorator = decorated.map(|(operation, _)| operation).filter(|_| !told);
            let hand = envoy!("HTTP connection manager: the client's operation is for this proxy");
            headers::remove(&mut request.headers, ledger, NAME, hand);
        }
    }
}
