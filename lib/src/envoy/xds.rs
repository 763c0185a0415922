//! Where does a proxy's configuration come from?
//!
//! On demand: a decision asks for one listener, one virtual host, a few clusters. Invariant: an answer is the same
//! as the one found in the full enumeration of the proxy's configuration.

use std::net::IpAddr;
use std::sync::Arc;

use super::config::{Cluster, Listener, RouteConfiguration, VirtualHost};

/// The virtual host that a route configuration chooses for a host.
#[derive(Clone, Debug)]
pub struct VirtualHostChoice {
    /// The route configuration's fields; its `virtual_hosts` may be left empty when built on demand.
    pub route_configuration: Arc<RouteConfiguration>,
    /// The virtual host; `None` when no domain matches.
    pub virtual_host: Option<Arc<VirtualHost>>,
}

/// What one proxy was told.
pub trait Xds {
    /// The listener that takes a connection which arrives with this original destination.
    ///
    /// `capture` is the listener that iptables or the client's own `connect` leads to. For a captured outbound connection the answer
    /// is the listener it is handed on to, or `virtualOutbound` itself. `None`: nothing listens there.
    fn listener(&self, capture: Capture, destination: IpAddr, port: u16) -> Option<Arc<Listener>>;

    /// The virtual host that route configuration `name` chooses for `host` (as sent, with letter case and port).
    ///
    /// `None` when the proxy was never told of `name`.
    fn virtual_host(&self, name: &str, host: &str) -> Option<VirtualHostChoice>;

    /// The whole route configuration `name`.
    fn route_configuration(&self, name: &str) -> Option<Arc<RouteConfiguration>>;

    /// The cluster `name`, with its endpoints.
    fn cluster(&self, name: &str) -> Option<Arc<Cluster>>;
}

/// How a connection reaches a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capture {
    /// Redirected on its way out (15001).
    Outbound,
    /// Redirected on its way in (15006).
    Inbound,
    /// Connected to the proxy's own socket (gateways, explicit binds).
    Direct,
}
