//! What becomes of a connection?
//!
//! Listener, filter chain, TLS, RBAC network filters, and then a TCP proxy or an HTTP connection manager. Measured with
//! Envoy 1.40. Invariant: one walk; a recorder listens to it and changes nothing.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::config::{AccessFilter, FilterChain, Listener, NetworkFilter};
use super::decision::{ConnectionOutcome, Decision, ProxyFacts};
use super::http::{self, Beginning};
use super::matching::Metadata;
use super::rbac::{self, Caller};
use super::recorder::{Recorder, Step, StepKind};
use super::reply::ResponseFlag;
use super::request::{ApplicationProtocol, Connection, HttpRequest, Preface, Transport};
use super::tls::{self, Session};
use super::xds::{Capture, Xds};
use super::{filter_chain, tcp_proxy};
use crate::origin::Origin;

/// What a proxy does with a connection and its first request.
///
/// `request` is needed when the bytes are HTTP; a connection whose bytes are not may go without.
pub fn decide<X: Xds + ?Sized, R: Recorder>(
    xds: &X,
    facts: &ProxyFacts,
    capture: Capture,
    connection: &Connection,
    request: Option<&HttpRequest>,
    recorder: &mut R,
) -> Decision {
    let Some(listener) = xds.listener(capture, connection.destination, connection.port) else {
        return Decision { listener: None, filter_chain: None, outcome: ConnectionOutcome::NoListener };
    };
    note(recorder, StepKind::Listener, &listener.name, &listener.origin);
    if let Some(reason) = &listener.refused {
        let outcome = ConnectionOutcome::Refused { reason: reason.clone() };
        return Decision { listener: Some(listener), filter_chain: None, outcome };
    }
    let told;
    let connection = match (listener.listener_filters.proxy_protocol, connection.preface) {
        (true, Preface::Nothing) => {
            let origin = Origin::default("the listener wants a header of the PROXY protocol first");
            let outcome =
                ConnectionOutcome::Closed { flags: Vec::new(), details: SmolStr::default(), origin };
            return Decision { listener: Some(listener), filter_chain: None, outcome };
        }
        (true, Preface::ProxyProtocol { source }) => {
            told = Connection { source, ..connection.clone() };
            &told
        }
        // Nobody takes the header off: no inspector finds TLS or a request behind it.
        (false, Preface::ProxyProtocol { .. }) => {
            told = Connection {
                transport: Transport::Plaintext,
                protocol: ApplicationProtocol::Tcp,
                ..connection.clone()
            };
            &told
        }
        (_, Preface::AsExpected) | (false, Preface::Nothing) => connection,
    };
    let unreadable;
    let connection = match inspected(&listener, connection, request) {
        Beginning::Request => connection,
        Beginning::Other => {
            unreadable = Connection { protocol: ApplicationProtocol::Tcp, ..connection.clone() };
            &unreadable
        }
        Beginning::Endless => {
            let origin = listener.origin.clone();
            let outcome =
                ConnectionOutcome::Closed { flags: Vec::new(), details: SmolStr::default(), origin };
            return Decision { listener: Some(listener), filter_chain: None, outcome };
        }
    };
    let Some(chain) = filter_chain::find(&listener, connection).cloned() else {
        if recorder.enabled() {
            for miss in filter_chain::near_misses(&listener, connection) {
                recorder.near_miss(miss);
            }
        }
        let outcome = ConnectionOutcome::Closed {
            flags: vec![ResponseFlag::NoRouteFound],
            details: SmolStr::new_static("filter_chain_not_found"),
            origin: listener.origin.clone(),
        };
        return Decision { listener: Some(listener), filter_chain: None, outcome };
    };
    note(recorder, StepKind::FilterChain, &chain.name, &chain.origin);
    let arrival = Arrival { xds, facts, capture, connection, listener: &listener, chain: &chain };
    let outcome = arrival.handle(request, recorder);
    Decision { listener: Some(listener), filter_chain: Some(chain), outcome }
}

/// What the HTTP inspector makes of a connection's bytes; a request where it does not look.
fn inspected(listener: &Listener, connection: &Connection, request: Option<&HttpRequest>) -> Beginning {
    let inspects = connection.transport == Transport::Plaintext
        && matches!(connection.protocol, ApplicationProtocol::Http10 | ApplicationProtocol::Http11)
        && listener.listener_filters.inspects_http(connection.port);
    request.filter(|_| inspects).map_or(Beginning::Request, http::beginning)
}

/// Notes a step.
pub(crate) fn note<R: Recorder>(recorder: &mut R, kind: StepKind, name: &SmolStr, origin: &Origin) {
    if recorder.enabled() {
        recorder.step(Step { kind, name: name.clone(), origin: origin.clone() });
    }
}

/// A connection that a filter chain has taken.
pub(crate) struct Arrival<'a, X: ?Sized> {
    /// What the proxy was told.
    pub(crate) xds: &'a X,
    /// The proxy.
    pub(crate) facts: &'a ProxyFacts,
    /// How the connection reached it.
    pub(crate) capture: Capture,
    /// The connection.
    pub(crate) connection: &'a Connection,
    /// The listener.
    pub(crate) listener: &'a Arc<Listener>,
    /// The filter chain.
    pub(crate) chain: &'a Arc<FilterChain>,
}

impl<X: Xds + ?Sized> Arrival<'_, X> {
    /// Whether the connection's original destination was restored: it was redirected, not made to the proxy's own socket.
    pub(crate) fn destination_restored(&self) -> bool {
        self.capture != Capture::Direct
    }

    /// The server name that the TLS inspector saw.
    pub(crate) fn server_name(&self) -> &str {
        match &self.connection.transport {
            Transport::Tls { sni, .. }
                if self.listener.listener_filters.inspects_tls(self.connection.port) =>
            {
                sni
            }
            _ => "",
        }
    }

    fn handle<R: Recorder>(&self, request: Option<&HttpRequest>, recorder: &mut R) -> ConnectionOutcome {
        let session = match &self.chain.transport_socket {
            None => None,
            Some(context) => match tls::terminate(context, self.connection) {
                Ok(session) => {
                    note(recorder, StepKind::Authentication, &context.secret_name, &context.origin);
                    Some(session)
                }
                Err(failure) => {
                    return ConnectionOutcome::TlsError {
                        failure: SmolStr::new_static(failure),
                        origin: context.origin.clone(),
                    };
                }
            },
        };
        if let Some(closed) = self.access(session, recorder) {
            return closed;
        }
        match &self.chain.terminal {
            NetworkFilter::TcpProxy(proxy) => tcp_proxy::decide(self.xds, proxy, self.destination_restored()),
            NetworkFilter::HttpConnectionManager(manager) => {
                for patch in &manager.patches {
                    note(recorder, StepKind::Patch, &patch.name, &patch.origin);
                }
                // TLS that nobody terminates is no HTTP, whatever is inside.
                let readable = session.is_some() || self.connection.transport == Transport::Plaintext;
                let readable = readable && self.connection.protocol != ApplicationProtocol::Tcp;
                let request = request.filter(|_| readable);
                let decision = http::decide(self, manager, session, request, recorder);
                ConnectionOutcome::Http(Box::new(decision))
            }
        }
    }

    /// What a network filter in front of the last one does to the connection, if it does not pass it on.
    ///
    /// Envoy: `rbac_filter.cc: RoleBasedAccessControlFilter::onData`.
    fn access<R: Recorder>(
        &self,
        session: Option<Session<'_>>,
        recorder: &mut R,
    ) -> Option<ConnectionOutcome> {
        let metadata = Metadata::new();
        let caller = Caller {
            request: None,
            destination: self.connection.destination,
            port: self.connection.port,
            direct_remote: self.connection.source,
            remote: self.connection.source,
            server_name: self.server_name(),
            peer: session.and_then(|session| session.peer),
            metadata: &metadata,
        };
        for filter in &self.chain.access_filters {
            let filter = match filter {
                AccessFilter::Rbac(filter) => filter,
                AccessFilter::Opaque { name, origin } => {
                    return Some(ConnectionOutcome::Unknown {
                        reason: format_smolstr!("the network filter {name} is not modelled"),
                        origin: origin.clone(),
                    });
                }
            };
            let Some(policies) = &filter.policies else { continue };
            match rbac::check(filter.action, policies, &caller) {
                Ok(Some(policy)) => note(recorder, StepKind::Authorization, &policy.name, &policy.origin),
                Ok(None) => {}
                Err(denied) => {
                    return Some(ConnectionOutcome::Closed {
                        flags: Vec::new(),
                        details: denied.details,
                        origin: denied.origin.unwrap_or_else(|| self.chain.origin.clone()),
                    });
                }
            }
        }
        None
    }
}
