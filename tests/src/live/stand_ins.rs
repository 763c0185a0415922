//! A proxy with stand-ins behind it.

use std::net::SocketAddr;

use dryroute::envoy::config::{Cluster, EndpointAddress, Listener};
use dryroute::envoy::export::{Certificates, Loopback};

use super::lab::certificates;

/// Sockets that the system chooses, and stand-ins that are spoken to in plaintext.
#[derive(Debug)]
pub struct StandIns<F> {
    place: F,
    log: Option<String>,
    certificates: Certificates,
}

impl<F: Fn(&Cluster, Option<&EndpointAddress>) -> SocketAddr> StandIns<F> {
    /// Where the stand-in of a cluster's endpoint is, or of the original destination.
    pub fn at(place: F) -> Self {
        Self { place, log: None, certificates: certificates() }
    }

    /// The same with an access log.
    #[must_use]
    pub fn log(mut self, file: &std::path::Path) -> Self {
        self.log = Some(file.display().to_string());
        self
    }
}

impl<F: Fn(&Cluster, Option<&EndpointAddress>) -> SocketAddr> Loopback for StandIns<F> {
    fn listener(&self, _: &Listener) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn endpoint(&self, cluster: &Cluster, endpoint: &EndpointAddress) -> Option<SocketAddr> {
        Some((self.place)(cluster, Some(endpoint)))
    }

    fn original_destination(&self, cluster: &Cluster) -> Option<SocketAddr> {
        Some((self.place)(cluster, None))
    }

    fn certificates(&self) -> Option<&Certificates> {
        Some(&self.certificates)
    }

    fn keeps_tls(&self, _: &Cluster) -> bool {
        false
    }

    fn access_log(&self) -> Option<&str> {
        self.log.as_deref()
    }
}
