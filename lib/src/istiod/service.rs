//! Which part of a service does one listener see, and at which addresses?
//!
//! A Sidecar can import a service for one port only, or without some of its aliases. Invariant: the service of the
//! mesh is shared; only what was trimmed is stored here.
//! istiod: `pilot/pkg/model/service.go: GetAddressForProxy, GetAllAddressesForProxy`; `sidecar.go: matchingService`.

use std::net::IpAddr;
use std::sync::Arc;

use smol_str::SmolStr;

use super::node::{IpMode, Node, NodeType};
use super::route::action::DestinationService;
use crate::mesh::{Registry, Resolution, Service, ServicePort, UNSPECIFIED};
use crate::origin::Origin;

/// A service as one egress listener imports it.
#[derive(Clone, Debug)]
pub struct ScopedService {
    service: Arc<Service>,
    /// The ports that are left; `None` for all.
    ports: Option<Arc<[ServicePort]>>,
    /// The aliases that are left; `None` for all.
    aliases: Option<Arc<[SmolStr]>>,
}

impl ScopedService {
    /// The whole of a service.
    pub fn new(service: Arc<Service>) -> Self {
        Self { service, ports: None, aliases: None }
    }

    /// The same service with other ports.
    #[must_use]
    pub fn with_ports(&self, ports: Vec<ServicePort>) -> Self {
        Self { ports: Some(ports.into()), ..self.clone() }
    }

    /// The same service with other aliases.
    #[must_use]
    pub fn with_aliases(&self, aliases: Vec<SmolStr>) -> Self {
        Self { aliases: Some(aliases.into()), ..self.clone() }
    }

    /// The same service with one port only; `None` when it has no such port.
    /// istiod: `sidecar.go: serviceMatchingListenerPort`.
    pub fn trimmed_to_port(&self, number: u16) -> Option<Self> {
        let port = self.port(number)?;
        Some(if self.ports().len() == 1 { self.clone() } else { self.with_ports(vec![port.clone()]) })
    }

    /// The same service with these ports only (0 stands for all); `None` when it has none of them.
    /// istiod: `sidecar.go: serviceMatchingVirtualServicePorts`.
    pub fn trimmed_to_ports(&self, numbers: &[u16]) -> Option<Self> {
        if numbers.is_empty() || numbers.contains(&0) {
            return Some(self.clone());
        }
        let ports: Vec<ServicePort> =
            self.ports().iter().filter(|port| numbers.contains(&port.number)).cloned().collect();
        if ports.len() == self.ports().len() {
            return Some(self.clone());
        }
        (!ports.is_empty()).then(|| self.with_ports(ports))
    }

    /// The service of the mesh.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The host.
    pub fn hostname(&self) -> &SmolStr {
        &self.service.hostname
    }

    /// The namespace.
    pub fn namespace(&self) -> &SmolStr {
        &self.service.namespace
    }

    /// How endpoints are found.
    pub fn resolution(&self) -> Resolution {
        self.service.resolution
    }

    /// Whether it is a Kubernetes Service.
    pub fn is_kubernetes(&self) -> bool {
        self.service.registry == Registry::Kubernetes
    }

    /// Whether it is a headless Kubernetes Service.
    pub fn is_headless(&self) -> bool {
        self.service.is_headless()
    }

    /// The ports.
    pub fn ports(&self) -> &[ServicePort] {
        self.ports.as_deref().unwrap_or(&self.service.ports)
    }

    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports().iter().find(|port| port.number == number)
    }

    /// The only port's number, if there is only one.
    pub fn only_port(&self) -> Option<u16> {
        match self.ports() {
            [port] => Some(port.number),
            _ => None,
        }
    }

    /// Hosts of ExternalName services that lead here.
    pub fn aliases(&self) -> &[SmolStr] {
        self.aliases.as_deref().unwrap_or(&self.service.aliases)
    }

    /// Who made it.
    pub fn origin(&self) -> &Origin {
        &self.service.origin
    }

    /// What routes to this service depend on.
    pub fn destination(&self) -> DestinationService {
        DestinationService { only_port: self.only_port(), external_name: self.service.external_name.clone() }
    }

    /// The main address for a proxy: an IP address, a CIDR, or `0.0.0.0` when there is none.
    pub fn address(&self, node: &Node) -> SmolStr {
        let service = &self.service;
        if !node.metadata.cluster_id.is_empty()
            && let Some(address) = service.cluster_vips.iter().find(|address| in_family(address, node))
        {
            return address.clone();
        }
        if uses_auto_allocated(node) && service.default_address == UNSPECIFIED {
            let (v4, v6) = (&service.auto_allocated_ipv4, &service.auto_allocated_ipv6);
            if node.supports_ipv4() && !v4.is_empty() {
                return v4.clone();
            }
            if node.supports_ipv6() && !v6.is_empty() {
                return v6.clone();
            }
        }
        service.default_address.clone()
    }

    /// All addresses for a proxy, the main one first; those of one family only, unless istiod's dual stack is on and the
    /// proxy has both.
    pub fn addresses(&self, node: &Node, dual_stack: bool) -> Vec<SmolStr> {
        let service = &self.service;
        let mut all: Vec<SmolStr> = Vec::new();
        if !node.metadata.cluster_id.is_empty() {
            all.extend(service.cluster_vips.iter().cloned());
        }
        if all.is_empty() && uses_auto_allocated(node) {
            all.extend(
                [&service.auto_allocated_ipv4, &service.auto_allocated_ipv6]
                    .into_iter()
                    .filter(|address| !address.is_empty())
                    .cloned(),
            );
        }
        if !(dual_stack && node.ip_mode() == IpMode::Dual) {
            retain_family(&mut all, node);
        }
        if all.is_empty() && !service.default_address.is_empty() {
            let foreign = !service.cluster_vips.is_empty() && !in_family(&service.default_address, node);
            if !foreign {
                all.push(service.default_address.clone());
            }
        }
        all
    }
}

/// Keeps what the proxy can use, of the first one's family where it can use both. istiod: `util/network/ip.go:
/// FilterAddressesByIPFamily`.
fn retain_family(addresses: &mut Vec<SmolStr>, node: &Node) {
    let first = addresses.first().and_then(|address| ip_of(address)).map(|ip| ip.is_ipv6());
    addresses.retain(|address| in_family(address, node));
    if node.ip_mode() == IpMode::Dual
        && let Some(v6) = first
    {
        addresses.retain(|address| ip_of(address).is_some_and(|ip| ip.is_ipv6() == v6));
    }
}

/// The address, or that of the range.
fn ip_of(address: &str) -> Option<IpAddr> {
    address.split('/').next()?.parse().ok()
}

/// Whether the proxy can use the address. istiod: `netutil.FilterAddressesByIPFamily`.
fn in_family(address: &str, node: &Node) -> bool {
    match ip_of(address) {
        Some(IpAddr::V4(_)) => node.supports_ipv4() || !node.supports_ipv6(),
        Some(IpAddr::V6(_)) => node.supports_ipv6(),
        None => false,
    }
}

/// Whether automatic addresses reach this proxy. istiod: `service.go: nodeUsesAutoallocatedIPs`.
fn uses_auto_allocated(node: &Node) -> bool {
    node.metadata.dns_auto_allocate && (node.metadata.dns_capture || node.node_type == NodeType::Waypoint)
}
