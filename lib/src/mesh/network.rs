//! Which gateways lead to endpoints of another network?
//!
//! Those that Services and Gateway API gateways with the label of a network stand for; istiod sends their addresses in place
//! of the endpoints'. Invariant: in istiod's order: by address, then port.
//! istiod: `kube/controller/network.go: getGatewayDetails, extractGatewaysInner, handleGatewayResource`; `model/network.go`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smol_str::{SmolStr, ToSmolStr};

use super::endpoint::{Address, Endpoint};
use super::gateway_api::{NETWORK_PORT, is_auto_passthrough};
use super::locality::NETWORK;
use super::watched::Watched;
use crate::manifest::schema::gateway_api::{GatewaySpec, Listener};
use crate::manifest::schema::kubernetes::ServiceSpec;
use crate::manifest::{ManifestSet, Resource, Spec, Status};
use crate::origin::Origin;

/// The port of a gateway between networks that names none.
const GATEWAY_PORT: u16 = 15443;

/// The gateways between networks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkGateways {
    by_network: BTreeMap<SmolStr, Vec<Endpoint>>,
    /// Gateways that are known by a name only: what it resolves to is not settled by the input.
    unresolved: Vec<(SmolStr, SmolStr)>,
    /// Whether the mesh networks of the ConfigMap `istio` name any, which is not translated.
    has_mesh_networks: bool,
}

impl NetworkGateways {
    pub(super) fn new(manifests: &ManifestSet, watched: &Watched) -> Self {
        let mut out = Self::default();
        for resource in watched.resources(manifests) {
            if let Spec::ConfigMap(map) = &resource.spec
                && resource.meta.name == "istio"
            {
                out.has_mesh_networks |=
                    map.data.get("meshNetworks").is_some_and(|text| names_networks(text));
            }
            let Some(network) = resource.meta.labels.get(&NETWORK).filter(|network| !network.is_empty())
            else {
                continue;
            };
            match &resource.spec {
                Spec::Service(spec) => out.add_service(resource, spec, network),
                Spec::KubernetesGateway(spec) => out.add_gateway(resource, spec, network),
                _ => {}
            }
        }
        for gateways in out.by_network.values_mut() {
            gateways.sort_by_cached_key(order);
            gateways.dedup_by(|a, b| a.address == b.address && a.port == b.port);
        }
        out
    }

    /// Whether there is any; without one istiod sends endpoints of all networks as they are.
    pub fn is_empty(&self) -> bool {
        self.by_network.is_empty()
    }

    /// The gateways to a network, as endpoints.
    pub fn to(&self, network: &str) -> &[Endpoint] {
        self.by_network.get(network).map_or(&[], Vec::as_slice)
    }

    /// The network and name of each gateway that is known by a name only, and left out.
    pub fn unresolved(&self) -> &[(SmolStr, SmolStr)] {
        &self.unresolved
    }

    /// Whether the mesh networks of the ConfigMap `istio` name any, which is not translated.
    pub fn has_mesh_networks(&self) -> bool {
        self.has_mesh_networks
    }

    /// What weights are multiplied by, so that they can be shared out: the least common multiple of the numbers of gateways.
    pub fn scale(&self) -> u32 {
        self.by_network.values().fold(1, |scale, gateways| lcm(scale, gateways.len() as u32))
    }

    fn add_service(&mut self, resource: &Resource, spec: &ServiceSpec, network: &SmolStr) {
        let written = resource.meta.labels.get(NETWORK_PORT).and_then(|port| port.parse().ok());
        let port: u16 = written.unwrap_or(GATEWAY_PORT);
        if !spec.ports.iter().any(|own| own.port == u32::from(port)) {
            return;
        }
        let balancer = match &resource.status {
            Status::Service(status) if spec.type_ == "LoadBalancer" => status.load_balancer.as_ref(),
            _ => None,
        };
        let ingress = balancer.into_iter().flat_map(|balancer| &balancer.ingress);
        let given = ingress.map(|at| if at.ip.is_empty() { &at.hostname } else { &at.ip });
        for address in given.chain(&spec.external_ips) {
            self.add(network, address, port, resource.origin("metadata.labels"));
        }
    }

    fn add_gateway(&mut self, resource: &Resource, spec: &GatewaySpec, network: &SmolStr) {
        let labels = &resource.meta.labels;
        let passes_through = |listener: &&Listener| {
            listener.tls.as_ref().is_some_and(|tls| is_auto_passthrough(labels, tls, listener.port))
        };
        let ports = spec.listeners.iter().filter(passes_through);
        let ports: Vec<u16> = ports.filter_map(|listener| u16::try_from(listener.port).ok()).collect();
        for address in &spec.addresses {
            for port in &ports {
                self.add(network, &address.value, *port, resource.origin("spec.addresses"));
            }
        }
    }

    fn add(&mut self, network: &SmolStr, address: &SmolStr, port: u16, origin: Origin) {
        let Ok(ip) = address.parse::<IpAddr>() else {
            if !address.is_empty() {
                self.unresolved.push((network.clone(), address.clone()));
            }
            return;
        };
        let gateway = Endpoint::of_network_gateway(ip, port, network.clone(), origin);
        self.by_network.entry(network.clone()).or_default().push(gateway);
    }
}

/// What gateways are sorted by. istiod: `model/network.go: SortGateways`.
pub(crate) fn order(gateway: &Endpoint) -> (SmolStr, u16) {
    let text = match &gateway.address {
        Address::Ip(ip) => ip.to_smolstr(),
        Address::Name(text) | Address::Pipe(text) => text.clone(),
    };
    (text, gateway.port)
}

/// Whether a text of mesh networks names any; one that cannot be read could.
fn names_networks(text: &str) -> bool {
    let Ok(read) = serde_yaml::from_str::<serde_yaml::Value>(text) else { return true };
    let networks = read.get("networks");
    networks.and_then(serde_yaml::Value::as_mapping).is_some_and(|networks| !networks.is_empty())
}

fn lcm(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b.max(1));
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b.max(1))
}
