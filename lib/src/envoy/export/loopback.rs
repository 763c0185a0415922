//! Where does everything lie when a proxy runs on one machine?
//!
//! Real sockets are opened on 127.0.0.1 and speak the PROXY protocol in place of `SO_ORIGINAL_DST`: a client opens its
//! connection with `PROXY TCP4 <source> <destination> <source port> <port>` and Envoy hands it to the listener of that
//! destination, as iptables would have it. Endpoints are stand-ins. Everything else is as istiod says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::config::{Cluster, EndpointAddress, Listener};

/// Files of certificates that take the place of Istio's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// This proxy's certificate chain, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub private_key: String,
    /// The authority that signs the certificates of its peers, PEM.
    pub authority: String,
}

/// Where everything lies on one machine.
pub trait Loopback {
    /// The real socket of a listener; asked only for listeners that open one.
    fn listener(&self, listener: &Listener) -> SocketAddr;

    /// The stand-in of an endpoint; `None` leaves the endpoint out.
    fn endpoint(&self, cluster: &Cluster, endpoint: &EndpointAddress) -> Option<SocketAddr>;

    /// The stand-in of whatever lies at the original destination; `None` keeps the original destination.
    fn original_destination(&self, cluster: &Cluster) -> Option<SocketAddr>;

    /// Certificates of this proxy; without them endpoints are spoken to in plaintext, and TLS of clients needs an agent.
    fn certificates(&self) -> Option<&Certificates> {
        None
    }

    /// Whether `cluster` speaks its TLS to its stand-ins; only asked when there are certificates.
    fn keeps_tls(&self, _cluster: &Cluster) -> bool {
        true
    }

    /// The file of an access log.
    fn access_log(&self) -> Option<&str> {
        None
    }

    /// The port of the admin interface; 0 lets the system choose.
    fn admin_port(&self) -> u16 {
        0
    }
}

/// One machine, with one stand-in for every endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneMachine {
    /// Added to the ports of real sockets that only root may open.
    pub privileged_offset: u16,
    /// The stand-in.
    pub upstream: SocketAddr,
    /// The port of the admin interface.
    pub admin_port: u16,
}

impl Default for OneMachine {
    fn default() -> Self {
        Self {
            privileged_offset: 10000,
            upstream: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18080),
            admin_port: 15000,
        }
    }
}

impl Loopback for OneMachine {
    fn listener(&self, listener: &Listener) -> SocketAddr {
        let port = match listener.address {
            super::super::config::ListenerAddress::Socket(_, port) => port,
            super::super::config::ListenerAddress::Pipe(_) => 0,
        };
        let port = if (1..1024).contains(&port) { port.saturating_add(self.privileged_offset) } else { port };
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }

    fn endpoint(&self, _: &Cluster, _: &EndpointAddress) -> Option<SocketAddr> {
        Some(self.upstream)
    }

    fn original_destination(&self, _: &Cluster) -> Option<SocketAddr> {
        Some(self.upstream)
    }

    fn admin_port(&self) -> u16 {
        self.admin_port
    }
}
