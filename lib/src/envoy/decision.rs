//! What does one proxy do with one connection and request?
//!
//! A decision walks from the listener to the endpoint. Every way the request can go is a branch with
//! a probability; the probabilities of a decision sum to 1.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::config::{
    Cluster, FilterChain, HttpConnectionManager, Listener, RetryPolicy, Route, RouteConfiguration,
    TrafficDirection, TunnelingConfig, UpstreamProtocol, VirtualHost, WeightedCluster,
};
use super::ledger::HeaderChange;
use super::reply::{LocalReply, ResponseFlag};
use super::request::{ApplicationProtocol, Body, HttpRequest};
use crate::origin::Origin;

/// What header rules need to know about the proxy itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyFacts {
    /// Its own address.
    pub address: IpAddr,
    /// The URI name of its mesh certificate, such as `spiffe://cluster.local/ns/default/sa/sleep`.
    pub identity: SmolStr,
    /// Its node id, such as `sidecar~10.0.0.1~sleep.default~default.svc.cluster.local`.
    pub node_id: SmolStr,
    /// Whether Istio's metadata exchange is compiled in (it is not in a stock Envoy).
    pub peer_metadata: bool,
    /// Whether parameters are taken off dot segments (`/..;x`) before these are resolved: Envoy's guard
    /// `strip_dotdot_segments_with_parameters`, on in Envoy 1.40.0, and unknown to builds before its fix of CVE-2026-73551.
    pub strips_dot_parameters: bool,
}

/// What a proxy does with a connection.
#[derive(Clone, Debug)]
#[must_use]
pub struct Decision {
    /// The listener that takes it.
    pub listener: Option<Arc<Listener>>,
    /// The filter chain that takes it.
    pub filter_chain: Option<Arc<FilterChain>>,
    /// What becomes of it.
    pub outcome: ConnectionOutcome,
}

/// What becomes of a connection.
#[derive(Clone, Debug)]
pub enum ConnectionOutcome {
    /// Nothing listens: connection refused.
    NoListener,
    /// Closed without an answer.
    Closed {
        /// Response flags of the log.
        flags: Vec<ResponseFlag>,
        /// Details of the log; may be empty.
        details: SmolStr,
        /// What closed it.
        origin: Origin,
    },
    /// The proxy terminates TLS, and the handshake fails.
    TlsError {
        /// BoringSSL's word, such as `PEER_DID_NOT_RETURN_A_CERTIFICATE`.
        failure: SmolStr,
        /// The TLS settings.
        origin: Origin,
    },
    /// Envoy would refuse the listener, so what it does depends on what it was told before.
    Refused {
        /// Why.
        reason: SmolStr,
    },
    /// The inputs do not settle it.
    Unknown {
        /// Why.
        reason: SmolStr,
        /// Where that is written.
        origin: Origin,
    },
    /// A TCP proxy takes it.
    Tcp(TcpDecision),
    /// An HTTP connection manager takes it.
    Http(Box<HttpDecision>),
}

/// What a TCP proxy does.
#[derive(Clone, Debug)]
pub struct TcpDecision {
    /// The clusters it may choose.
    pub branches: Vec<TcpBranch>,
    /// The request that carries the bytes; `None` where they are passed on as they are.
    pub tunnel: Option<TunnelingConfig>,
}

impl TunnelingConfig {
    /// The method of the request that carries the bytes.
    pub const fn method(&self) -> &'static str {
        if self.use_post { "POST" } else { "CONNECT" }
    }

    /// The version of HTTP that the tunnel speaks to a cluster's endpoints: HTTP/2 wherever the cluster can.
    ///
    /// Envoy: `tcp/generic/config.cc: GenericConnPoolFactory::createGenericConnPool`. Measured with Envoy 1.40.
    pub fn protocol(&self, cluster: &Cluster) -> ApplicationProtocol {
        match cluster.protocol {
            UpstreamProtocol::Http1 => ApplicationProtocol::Http11,
            UpstreamProtocol::Http2 | UpstreamProtocol::Downstream => ApplicationProtocol::Http2,
        }
    }

    /// The request. Envoy: `tcp_proxy/upstream.cc: HttpUpstream::setRequestEncoder`. Measured with Envoy 1.40.
    pub fn request(&self, protocol: ApplicationProtocol) -> HttpRequest {
        let http2 = protocol == ApplicationProtocol::Http2;
        let chunked = (SmolStr::new_static("transfer-encoding"), SmolStr::new_static("chunked"));
        HttpRequest {
            method: SmolStr::new_static(self.method()),
            path: match (self.use_post, http2) {
                (true, _) => SmolStr::new_static("/"),
                (false, true) => SmolStr::default(),
                (false, false) => self.hostname.clone(),
            },
            authority: self.hostname.clone(),
            scheme: (self.use_post && http2).then_some(SmolStr::new_static("http")),
            headers: if self.use_post && !http2 { vec![chunked] } else { Vec::new() },
            no_host: false,
            body: Body::Stream,
        }
    }
}

/// One cluster that a TCP proxy may choose.
#[derive(Clone, Debug)]
pub struct TcpBranch {
    /// How likely.
    pub probability: f64,
    /// The cluster.
    pub cluster: SmolStr,
    /// The cluster, if it exists.
    pub found: Option<Arc<Cluster>>,
    /// `NC` or `UH` when the connection is closed; empty when it is passed on.
    pub flags: Vec<ResponseFlag>,
    /// Who made it.
    pub origin: Origin,
}

/// What an HTTP connection manager does with a request.
#[derive(Clone, Debug)]
pub struct HttpDecision {
    /// The route configuration's name.
    pub route_configuration: SmolStr,
    /// The route configuration's own fields; `None` when the proxy was not told of it.
    pub route_configuration_found: Option<Arc<RouteConfiguration>>,
    /// The virtual host.
    pub virtual_host: Option<Arc<VirtualHost>>,
    /// The route, and its place in the virtual host.
    pub route: Option<(usize, Arc<Route>)>,
    /// The connection manager.
    pub http_connection_manager: Arc<HttpConnectionManager>,
    /// Which way the listener's traffic flows.
    pub traffic_direction: TrafficDirection,
    /// The request as it arrived, after path normalization.
    pub downstream: Downstream,
    /// What may happen.
    pub branches: Vec<HttpBranch>,
}

/// What the response pass needs to know of the way in.
#[derive(Clone, Debug, PartialEq)]
pub struct Downstream {
    /// The client's address, as the proxy trusts `x-forwarded-for` to tell it.
    pub remote_address: IpAddr,
    /// The address of the connection's other end.
    pub direct_remote_address: IpAddr,
    /// The address the client connected to.
    pub local_address: IpAddr,
    /// The port the client connected to.
    pub local_port: u16,
    /// Whether the connection was TLS that this proxy terminated.
    pub tls: bool,
    /// The URI name of the client's certificate.
    pub peer: Option<SmolStr>,
    /// The server name the client sent.
    pub sni: SmolStr,
    /// The name of the filter chain; may be empty.
    pub filter_chain: SmolStr,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Whether the request was a gRPC one (`content-type: application/grpc…`).
    pub grpc: bool,
    /// Whether the request got past the checks that come before its headers are looked at.
    pub accepted: bool,
    /// How a browser wants its answer (`content-type: application/grpc-web…`) from a proxy that makes gRPC of its request.
    pub grpc_web: Option<GrpcWebEncoding>,
    /// Whether the request was `HEAD`.
    pub head: bool,
    /// Whether a body follows the request's headers.
    pub body: bool,
    /// Whether the client asked to close the connection.
    pub close: bool,
    /// Operation that an inbound proxy tells its client in the response.
    pub decorator: Option<SmolStr>,
    /// Whether the request carried the client's `x-envoy-peer-metadata`, `x-envoy-peer-metadata-id`.
    pub peer_metadata: (bool, bool),
    /// Whether this proxy describes itself to its peers.
    pub exchanges_metadata: bool,
}

/// How messages of gRPC-Web are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrpcWebEncoding {
    /// As bytes.
    Binary,
    /// In base64.
    Text,
}

/// One thing that may happen to a request.
#[derive(Clone, Debug)]
pub struct HttpBranch {
    /// How likely; the branches of a decision sum to 1.
    pub probability: f64,
    /// A delay injected on purpose.
    pub fault_delay: Option<(Duration, Origin)>,
    /// What happens.
    pub outcome: HttpOutcome,
    /// The request as it leaves; for an answer of the proxy, as it was when it was answered.
    pub request: HttpRequest,
    /// How the request's headers changed; empty when nothing is recorded.
    pub changes: Vec<HeaderChange>,
    /// Copies.
    pub mirrors: Vec<Mirror>,
    /// The entry of a weighted route that was chosen.
    pub weighted_cluster: Option<WeightedCluster>,
    /// The request's origin if CORS allows it.
    pub cors_origin: Option<SmolStr>,
    /// Cookies that the router gives the client for consistent hashing.
    pub set_cookies: Vec<SmolStr>,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum HttpOutcome {
    /// It is sent to a cluster that exists and may have an endpoint.
    Forward(Forward),
    /// The proxy answers by itself.
    Reply(Box<LocalReply>),
    /// The client gets no answer: its connection is closed, or its stream is reset.
    Reset(Reset),
    /// The inputs do not settle it.
    Unknown {
        /// Why.
        reason: SmolStr,
        /// The cluster the route names, for display.
        cluster: Option<SmolStr>,
        /// Where that is written.
        origin: Origin,
    },
}

/// How a request ends that gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// What ends with it.
    pub ends: Ends,
    /// The status that the log has.
    pub status: u16,
    /// Response flags.
    pub flags: Vec<ResponseFlag>,
    /// `response_code_details`.
    pub details: SmolStr,
    /// The rule.
    pub origin: Origin,
}

/// What ends with a request that gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ends {
    /// The client's connection.
    Connection,
    /// The request's stream; the connection goes on.
    Stream,
}

/// How a request is sent on.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The cluster's name.
    pub cluster: SmolStr,
    /// The cluster.
    pub found: Arc<Cluster>,
    /// Time limit for the whole request; zero is none.
    pub timeout: Duration,
    /// Where that is written, or the default that gives it.
    pub timeout_origin: Origin,
    /// Retries.
    pub retry_policy: Option<RetryPolicy>,
    /// Time limit for each try, where it is below the one of the whole; zero is none.
    pub per_try_timeout: Duration,
    /// Whether the host becomes the endpoint's name once it is chosen.
    pub auto_host_rewrite: bool,
    /// Who chose the cluster: the route, or the weighted entry.
    pub origin: Origin,
}

/// A copy of a request.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// How likely, given its branch.
    pub probability: f64,
    /// The cluster's name.
    pub cluster: SmolStr,
    /// The cluster, if it exists; a copy to a missing one is dropped.
    pub found: Option<Arc<Cluster>>,
    /// The copy.
    pub request: HttpRequest,
    /// Who made it.
    pub origin: Origin,
}
