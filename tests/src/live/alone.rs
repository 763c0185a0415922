//! A proxy with nothing behind it.

use std::net::SocketAddr;

use dryroute::envoy::config::{Cluster, EndpointAddress, Listener};
use dryroute::envoy::export::{Certificates, Loopback};

/// Sockets that the system chooses, and no endpoints; certificates in files, or nobody to ask for them.
#[derive(Clone, Debug)]
pub struct Alone(pub Option<Certificates>);

impl Loopback for Alone {
    fn listener(&self, _: &Listener) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn endpoint(&self, _: &Cluster, _: &EndpointAddress) -> Option<SocketAddr> {
        None
    }

    fn original_destination(&self, _: &Cluster) -> Option<SocketAddr> {
        None
    }

    fn certificates(&self) -> Option<&Certificates> {
        self.0.as_ref()
    }
}
