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
pub mod services;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use self::merge::MergedGateway;
use self::route_config::RouteSkeleton;
use super::cluster;
use super::memo::Memo;
use super::name::SubsetKey;
use super::proxy::{Proxy, Routes};
use crate::envoy::config::{Cluster, Listener, ListenerAddress, RouteConfiguration, VirtualHost};

/// What a gateway proxy is told, built piece by piece.
#[derive(Debug)]
pub struct GatewayConfig {
    /// The merged servers.
    pub merged: MergedGateway,
    listeners: Memo<u16, Arc<[Arc<Listener>]>>,
    skeletons: Memo<SmolStr, Option<Arc<RouteSkeleton>>>,
    routes: Memo<(SmolStr, u32, u32), Routes>,
    filtered_hosts: OnceLock<Option<FxHashSet<SmolStr>>>,
}

impl GatewayConfig {
    /// Merges the Gateways of a proxy.
    pub fn new(proxy: &Proxy) -> Self {
        Self {
            merged: MergedGateway::new(proxy.mesh(), proxy.node(), proxy.service_targets()),
            listeners: Memo::default(),
            skeletons: Memo::default(),
            routes: Memo::default(),
            filtered_hosts: OnceLock::new(),
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

    /// The names of all clusters.
    pub fn cluster_names(&self, proxy: &Proxy) -> Vec<SmolStr> {
        let mut out = cluster::names(proxy);
        out.retain(|name| SubsetKey::parse(name).is_none_or(|key| self.has_clusters_of(proxy, key.host)));
        out.extend(cluster::sni_dnat::names(proxy));
        out
    }

    /// The cluster `name`.
    pub fn cluster(&self, proxy: &Proxy, name: &str) -> Option<Cluster> {
        match SubsetKey::parse(name) {
            Some(key) if !self.has_clusters_of(proxy, key.host) => None,
            Some(_) => cluster::build(proxy, name),
            None => cluster::build(proxy, name).or_else(|| cluster::sni_dnat::build(proxy, name)),
        }
    }

    /// Whether the proxy gets clusters for a service.
    fn has_clusters_of(&self, proxy: &Proxy, host: &str) -> bool {
        let hosts = self.filtered_hosts.get_or_init(|| services::filtered_hosts(proxy));
        hosts.as_ref().is_none_or(|hosts| hosts.contains(host))
    }

    /// The routes of a VirtualService for a server, by the route configuration's name and both numbers.
    fn routes(&self, key: (SmolStr, u32, u32), build: impl FnOnce() -> Routes) -> Routes {
        self.routes.get_or_insert_with(key, build)
    }
}
