//! What is a gateway told?
//!
//! The servers of all Gateways that choose the proxy, merged by port, with the routes of the VirtualServices that are
//! bound to them. Invariant: the merge is made once for a proxy; a port's listeners and one virtual host are built from
//! it alone, and equal those of the whole configuration. istiod: `networking/core/gateway.go`; `model/gateway.go`.

pub mod binding;
pub mod diagnostics;
pub mod listener;
pub mod merge;
pub mod near_miss;
pub mod route_config;
pub mod tls;

use std::net::IpAddr;
use std::sync::Arc;

use smol_str::SmolStr;

use self::merge::MergedGateway;
use self::route_config::RouteSkeleton;
use super::memo::Memo;
use super::proxy::{Proxy, Routes};
use crate::envoy::config::{Listener, ListenerAddress, RouteConfiguration, VirtualHost};

/// What a gateway proxy is told, built piece by piece.
#[derive(Debug)]
pub struct GatewayConfig {
    /// The merged servers.
    pub merged: MergedGateway,
    listeners: Memo<u16, Arc<[Arc<Listener>]>>,
    skeletons: Memo<SmolStr, Option<Arc<RouteSkeleton>>>,
    routes: Memo<(SmolStr, u32, u32), Routes>,
}

impl GatewayConfig {
    /// Merges the Gateways of a proxy.
    pub fn new(proxy: &Proxy) -> Self {
        Self {
            merged: MergedGateway::new(proxy.mesh(), proxy.node(), proxy.service_targets()),
            listeners: Memo::default(),
            skeletons: Memo::default(),
            routes: Memo::default(),
        }
    }

    /// The listeners on a port, one for each address.
    fn listeners_on(&self, proxy: &Proxy, port: u16) -> Arc<[Arc<Listener>]> {
        self.listeners.get_or_insert_with(port, || listener::build(proxy, &self.merged, port).into())
    }

    /// The listener that a connection reaches: the one of its address, else the one of all addresses.
    pub fn listener(&self, proxy: &Proxy, destination: IpAddr, port: u16) -> Option<Arc<Listener>> {
        let listeners = self.listeners_on(proxy, port);
        let bound_to = |address: IpAddr| {
            let wanted = ListenerAddress::Socket(address, port);
            listeners
                .iter()
                .find(|l| l.address == wanted || l.additional_addresses.contains(&wanted))
                .map(Arc::clone)
        };
        let wildcard = match destination {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        bound_to(destination).or_else(|| bound_to(wildcard))
    }

    /// All listeners, in the order of their servers.
    pub fn listeners(&self, proxy: &Proxy) -> Vec<Arc<Listener>> {
        let mut ports: Vec<u16> = Vec::new();
        for port in &self.merged.ports {
            if !ports.contains(&port.number) {
                ports.push(port.number);
            }
        }
        ports.iter().flat_map(|port| self.listeners_on(proxy, *port).to_vec()).collect()
    }

    fn skeleton(&self, proxy: &Proxy, name: &str) -> Option<Arc<RouteSkeleton>> {
        self.skeletons
            .get_or_insert_with(name.into(), || RouteSkeleton::new(proxy, &self.merged, name).map(Arc::new))
    }

    /// The whole route configuration `name`.
    pub fn route_configuration(&self, proxy: &Proxy, name: &str) -> Option<RouteConfiguration> {
        let skeleton = self.skeleton(proxy, name)?;
        let mut out = route_config::shell(name);
        out.virtual_hosts =
            skeleton.hosts.iter().map(|host| Arc::new(skeleton.materialise(proxy, self, host))).collect();
        Some(out)
    }

    /// The virtual host of route configuration `name` for `host` (in lower case, without port).
    pub fn virtual_host(
        &self,
        proxy: &Proxy,
        name: &str,
        host: &str,
    ) -> Option<(RouteConfiguration, Option<Arc<VirtualHost>>)> {
        let skeleton = self.skeleton(proxy, name)?;
        let chosen = skeleton.choose(host).map(|host| Arc::new(skeleton.materialise(proxy, self, host)));
        Some((route_config::shell(name), chosen))
    }

    /// The routes of a VirtualService for a server, by the route configuration's name and both numbers.
    fn routes(&self, key: (SmolStr, u32, u32), build: impl FnOnce() -> Routes) -> Routes {
        self.routes.get_or_insert_with(key, build)
    }
}
