//! Which Service does an address lead to?
//!
//! The addresses of Services inside of the cluster, and those by which they are known outside: `externalIPs`, and what their
//! load balancers have. A client in the cluster that dials one of these is taken to the Service by its own node.
//! kubernetes: `pkg/proxy/iptables/proxier.go: syncProxyRules` (cluster, external and load balancer addresses, ipMode VIP).

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smol_str::{SmolStr, ToSmolStr};

use crate::manifest::schema::kubernetes::{LoadBalancerStatus, ServiceSpec};
use crate::manifest::{Resource, Spec, Status};
use crate::mesh::{Mesh, Service};

/// The Services of a mesh by their addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    cluster: FxHashMap<IpAddr, Arc<Service>>,
    /// Addresses in their plain form, and names in lower case.
    outside: FxHashMap<SmolStr, Vec<Known>>,
}

/// A Service that is known by an address or name outside of the cluster.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The Service.
    pub(super) service: Arc<Service>,
    /// How.
    pub(super) by: KnownBy,
}

/// How a Service is known outside of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownBy {
    /// One of `externalIPs`.
    ExternalIp,
    /// An address of its load balancer, which each node knows.
    LoadBalancer {
        /// Whether only some sources may use it.
        restricted: bool,
    },
    /// A name or address of its load balancer that only leads back from outside of the cluster.
    BehindLoadBalancer {
        /// Whether only some sources may use it.
        restricted: bool,
    },
    /// The address that it asks its load balancer to have.
    Requested,
}

impl Addresses {
    /// The addresses of a mesh's Services.
    pub(super) fn new(mesh: &Mesh) -> Self {
        let mut out = Self::default();
        for service in mesh.cluster_services() {
            for ip in service.cluster_vips.iter().filter_map(|vip| vip.parse::<IpAddr>().ok()) {
                out.cluster.entry(ip).or_insert_with(|| service.clone());
            }
            for (name, by) in outside_names(mesh, service) {
                let known = out.outside.entry(plain(&name)).or_default();
                if known.iter().all(|known| !Arc::ptr_eq(&known.service, service)) {
                    known.push(Known { service: service.clone(), by });
                }
            }
        }
        out
    }

    /// The Service at a cluster address.
    pub(super) fn in_cluster(&self, address: IpAddr) -> Option<&Service> {
        self.cluster.get(&address).map(AsRef::as_ref)
    }

    /// The Services that an address or name leads to from outside of the cluster; several may share one by their ports.
    pub(super) fn outside(&self, name: &str) -> &[Known] {
        self.outside.get(&plain(name)).map_or(&[], Vec::as_slice)
    }
}

impl Known {
    /// What has to hold for a client to get there by that name.
    pub(super) fn assumption(&self, asked: &str, from_inside: bool) -> Option<String> {
        let name = format!("{}/{}", self.service.namespace, self.service.name);
        match self.by {
            KnownBy::ExternalIp => None,
            KnownBy::LoadBalancer { restricted: true } => {
                Some(format!("loadBalancerSourceRanges of the Service {name} let the client in"))
            }
            KnownBy::BehindLoadBalancer { restricted: true } => Some(format!(
                "{asked} leads to the Service {name}, whose loadBalancerSourceRanges let the client in"
            )),
            KnownBy::BehindLoadBalancer { restricted: false } if from_inside => {
                Some(format!("{asked} leads back to the Service {name} from inside of the cluster"))
            }
            KnownBy::LoadBalancer { restricted: false }
            | KnownBy::BehindLoadBalancer { restricted: false } => None,
            KnownBy::Requested => Some(format!(
                "the load balancer of the Service {name} has the address that it asks for: {asked}"
            )),
        }
    }
}

/// The one of several that has a port, else the first.
pub(super) fn with_port(known: &[Known], port: u16) -> Option<&Known> {
    known.iter().find(|known| known.service.port(port).is_some()).or_else(|| known.first())
}

/// The names and addresses that a Service has outside of the cluster.
fn outside_names(mesh: &Mesh, service: &Service) -> Vec<(SmolStr, KnownBy)> {
    let resource = service.origin.resource().and_then(|id| mesh.manifests().get(id));
    let Some(Resource { spec: Spec::Service(spec), status, .. }) = resource else { return Vec::new() };
    let external = spec.external_ips.iter().map(|ip| (ip.clone(), KnownBy::ExternalIp));
    let mut out: Vec<_> = external.collect();
    if let Status::Service(status) = status {
        out.extend(status.load_balancer.iter().flat_map(|status| of_load_balancer(spec, status)));
    }
    if spec.type_ == "LoadBalancer" {
        out.push((spec.load_balancer_ip.clone(), KnownBy::Requested));
    }
    out.retain(|(name, _)| !name.is_empty());
    out
}

fn of_load_balancer(spec: &ServiceSpec, status: &LoadBalancerStatus) -> Vec<(SmolStr, KnownBy)> {
    let restricted = spec.load_balancer_source_ranges.is_some();
    let mut out = Vec::new();
    for ingress in &status.ingress {
        let by = match ingress.ip_mode.as_str() {
            // The balancer sends packets on with its own address: nodes leave it alone.
            "Proxy" => KnownBy::BehindLoadBalancer { restricted },
            _ => KnownBy::LoadBalancer { restricted },
        };
        out.push((ingress.ip.clone(), by));
        out.push((ingress.hostname.clone(), KnownBy::BehindLoadBalancer { restricted }));
    }
    out
}

fn plain(name: &str) -> SmolStr {
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.to_smolstr(),
        Err(_) => name.trim_end_matches('.').to_ascii_lowercase().into(),
    }
}
