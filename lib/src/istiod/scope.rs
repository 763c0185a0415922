//! What does a proxy see of the mesh?
//!
//! Which Sidecar applies, and what its egress listeners import: services, VirtualServices, DestinationRules. Invariant:
//! a scope is made without looking at any service, and every question about it costs what its answer is made of.
//! istiod: `pilot/pkg/model/sidecar.go`; `virtualservice.go: SelectVirtualServices`.

pub mod egress;
mod imports;

use std::sync::Arc;

use rustc_hash::FxHashSet;
use smol_str::SmolStr;

pub use self::egress::{EgressListener, PortKind};
use super::memo::Memo;
use super::node::{Node, NodeType};
use super::route::action::hash_policy;
use super::service::ScopedService;
use crate::envoy::config::HashPolicy;
use crate::manifest::schema::istio::{
    ConsistentHashLb, Destination, HttpRouteDestination, IstioEgressListener, OutboundTrafficPolicyMode,
    PortTrafficPolicy, Sidecar, TrafficPolicy,
};
use crate::mesh::virtual_service::http_destinations;
use crate::mesh::{Config, DestinationRule, Mesh, VirtualService, selects};
use crate::origin::Origin;

/// What happens to unknown destinations.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboundPolicy {
    /// The mode.
    pub mode: OutboundTrafficPolicyMode,
    /// Where unknown traffic goes in place of its destination.
    pub egress_proxy: Option<Destination>,
    /// Where it is written.
    pub origin: Origin,
}

/// What a proxy sees.
#[derive(Debug)]
pub struct SidecarScope {
    /// The Sidecar that applies, if a user wrote one.
    pub sidecar: Option<(Arc<Sidecar>, Origin)>,
    /// The namespace of the proxy.
    pub namespace: SmolStr,
    /// The egress listeners, in order; none for a gateway, which sees everything that is visible to its namespace.
    pub egress: Vec<EgressListener>,
    /// What happens to unknown destinations.
    pub outbound_traffic_policy: OutboundPolicy,
    /// What a gateway sees, and in which order.
    visible: EgressListener,
    mesh: Arc<Mesh>,
    services: Memo<SmolStr, Option<ScopedService>>,
}

impl SidecarScope {
    /// The scope of a proxy.
    pub fn new(mesh: &Arc<Mesh>, node: &Node) -> Self {
        match node.node_type {
            NodeType::Sidecar => Self::for_sidecar(mesh, node),
            NodeType::Router | NodeType::Waypoint => Self::for_gateway(mesh, node),
        }
    }

    fn for_sidecar(mesh: &Arc<Mesh>, node: &Node) -> Self {
        let chosen = sidecar_for(mesh, node);
        let egress = match &chosen {
            Some((sidecar, origin)) if !sidecar.egress.is_empty() => sidecar
                .egress
                .iter()
                .enumerate()
                .map(|(i, listener)| {
                    EgressListener::new(mesh, &node.namespace, listener, origin.element("spec.egress", i))
                })
                .collect(),
            _ => vec![everything(mesh, &node.namespace)],
        };
        let policy = chosen.as_ref().and_then(|(sidecar, origin)| {
            let policy = sidecar.outbound_traffic_policy.as_ref()?;
            Some(OutboundPolicy {
                mode: policy.mode,
                egress_proxy: policy.egress_proxy.clone(),
                origin: origin.part("spec.outboundTrafficPolicy"),
            })
        });
        let policy = policy.unwrap_or_else(|| OutboundPolicy {
            mode: mesh.config().outbound_traffic_policy.mode,
            egress_proxy: None,
            origin: Origin::default("MeshConfig outboundTrafficPolicy"),
        });
        Self::with(mesh, node, chosen, egress, policy)
    }

    /// A gateway sees everything that is visible to its namespace. istiod: `sidecar.go: DefaultSidecarScopeForGateway`.
    fn for_gateway(mesh: &Arc<Mesh>, node: &Node) -> Self {
        let policy = OutboundPolicy {
            mode: OutboundTrafficPolicyMode::RegistryOnly,
            egress_proxy: None,
            origin: Origin::default("gateways pass nothing on that they do not know"),
        };
        Self::with(mesh, node, None, Vec::new(), policy)
    }

    fn with(
        mesh: &Arc<Mesh>,
        node: &Node,
        sidecar: Option<(Arc<Sidecar>, Origin)>,
        egress: Vec<EgressListener>,
        outbound_traffic_policy: OutboundPolicy,
    ) -> Self {
        Self {
            sidecar,
            namespace: node.namespace.clone(),
            egress,
            outbound_traffic_policy,
            visible: everything(mesh, &node.namespace),
            mesh: Arc::clone(mesh),
            services: Memo::default(),
        }
    }

    /// All services that have clusters, in order: imports of all listeners and destinations of their VirtualServices.
    pub fn services(&self) -> Vec<ScopedService> {
        let mut seen: FxHashSet<SmolStr> = FxHashSet::default();
        let mut out = Vec::new();
        let mut add = |hostname: &SmolStr| {
            if seen.insert(hostname.clone()) {
                out.extend(self.service(hostname));
            }
        };
        if self.egress.is_empty() {
            let in_mesh = |number: u32| self.mesh.services().get(number as usize);
            let numbers = (0_u32..).zip(self.mesh.services()).map(|(number, _)| number).collect();
            let visible = self.visible.ordered(numbers).into_iter().filter_map(in_mesh);
            visible
                .filter(|service| service.export_to.is_visible_in(&self.namespace))
                .for_each(|service| add(&service.hostname));
        }
        for egress in &self.egress {
            for number in egress.services() {
                if let Some(service) = self.mesh.services().get(number as usize) {
                    add(&service.hostname);
                }
            }
            for number in egress.virtual_services() {
                let Some(virtual_service) = egress.virtual_service(number) else { continue };
                for destination in virtual_service.destinations() {
                    add(&destination.host);
                }
            }
        }
        out
    }

    /// The service of a host, as clusters see it. istiod: `sidecar.go: collectImportedServices`.
    pub fn service(&self, hostname: &str) -> Option<ScopedService> {
        if let Some(known) = self.services.get(hostname) {
            return known;
        }
        let mut found: Option<ScopedService> = None;
        if self.egress.is_empty() {
            let candidates = self.mesh.service_index().of_host(hostname).to_vec();
            for number in self.visible.ordered(candidates) {
                let Some(service) = self.mesh.services().get(number as usize) else { continue };
                if service.export_to.is_visible_in(&self.namespace) {
                    append(&mut found, ScopedService::new(Arc::clone(service)));
                }
            }
        }
        for egress in &self.egress {
            for number in egress.services_of(hostname) {
                if let Some(service) = egress.service(number) {
                    append(&mut found, service);
                }
            }
            for number in egress.virtual_services_sending_to(hostname) {
                let Some(ports) = egress
                    .virtual_service(number)
                    .and_then(|vs| ports_sent_to(vs, hostname, &self.namespace))
                else {
                    continue;
                };
                let Some(service) = egress.destination_service(hostname) else { break };
                let trimmed = match &egress.port {
                    Some(port) if egress.matches_port() => service.trimmed_to_port(port.number),
                    _ => service.trimmed_to_ports(&ports),
                };
                if let Some(service) = trimmed {
                    append(&mut found, service);
                }
            }
        }
        self.services.insert(hostname.into(), found)
    }

    /// The egress listener that answers for a route configuration. istiod: `sidecar.go: GetEgressListenerForRDS`.
    pub fn egress_for(&self, port: u16, bind: &str) -> Option<(usize, &EgressListener)> {
        self.egress.iter().enumerate().find(|(_, egress)| match &egress.port {
            None => true,
            Some(own) => own.number == port && (port != 0 || egress.bind == bind),
        })
    }

    /// The DestinationRule for a host, as merged and chosen by workload. istiod: `sidecar.go: SidecarScope.DestinationRule`.
    pub fn destination_rule(&self, mesh: &Mesh, node: &Node, hostname: &str) -> Option<Arc<DestinationRule>> {
        mesh.destination_rules().find(&self.namespace, &node.labels, self.service(hostname)?.service())
    }

    /// The consistent hash for a destination. istiod: `route.go: HashForHTTPDestination`.
    pub fn hash_for_destination(
        &self,
        mesh: &Mesh,
        node: &Node,
        destination: &HttpRouteDestination,
    ) -> Option<HashPolicy> {
        let destination = destination.destination.as_ref()?;
        let rule = self.destination_rule(mesh, node, &destination.host)?;
        let number = destination.port.as_ref().map(|port| port.number);
        let subset =
            rule.subset(&destination.subset).and_then(|subset| subset.subset.traffic_policy.as_ref());
        let whole = rule.traffic_policy.as_ref().map(|(policy, _)| policy);
        let hash = subset
            .and_then(|policy| hash_at_port(&policy.port_level_settings, number?))
            .or_else(|| subset.and_then(hash_of))
            .or_else(|| whole.and_then(|policy| hash_at_port(&policy.port_level_settings, number?)))
            .or_else(|| whole.and_then(hash_of));
        hash.and_then(hash_policy)
    }

    /// The consistent hash for a service without VirtualService. istiod: `route.go: hashForService`.
    pub fn hash_for_service(
        &self,
        mesh: &Mesh,
        node: &Node,
        hostname: &str,
        port: u16,
    ) -> Option<HashPolicy> {
        let rule = self.destination_rule(mesh, node, hostname)?;
        let (policy, _) = rule.traffic_policy.as_ref()?;
        let hash = hash_at_port(&policy.port_level_settings, u32::from(port)).or_else(|| hash_of(policy));
        hash.and_then(hash_policy)
    }
}

/// The listener that imports everything that is visible.
fn everything(mesh: &Arc<Mesh>, namespace: &SmolStr) -> EgressListener {
    let listener =
        IstioEgressListener { hosts: vec![SmolStr::new_static("*/*")], ..IstioEgressListener::default() };
    let origin = Origin::default("Istio's default Sidecar: everything that is visible");
    EgressListener::new(mesh, namespace, &listener, origin)
}

/// Takes a service, or merges it into the one of its host. istiod: `sidecar.go: appendSidecarServices`.
fn append(found: &mut Option<ScopedService>, incoming: ScopedService) {
    let Some(existing) = found else {
        *found = Some(incoming);
        return;
    };
    match (existing.is_kubernetes(), incoming.is_kubernetes()) {
        (true, false) => return,
        (false, true) => {
            *existing = incoming;
            return;
        }
        (true, true) | (false, false) => {}
    }
    if existing.ports() == incoming.ports() || !can_merge(existing, &incoming) {
        return;
    }
    let mut ports = existing.ports().to_vec();
    for port in incoming.ports() {
        if !ports.iter().any(|own| own.number == port.number) {
            ports.push(port.clone());
        }
    }
    *existing = existing.with_ports(ports);
}

fn hash_of(policy: &TrafficPolicy) -> Option<&ConsistentHashLb> {
    policy.load_balancer.as_ref()?.consistent_hash.as_ref()
}

fn hash_at_port(settings: &[PortTrafficPolicy], number: u32) -> Option<&ConsistentHashLb> {
    let setting =
        settings.iter().find(|setting| setting.port.as_ref().is_some_and(|port| port.number == number))?;
    setting.load_balancer.as_ref()?.consistent_hash.as_ref()
}

/// Whether two services of one host may share their ports. istiod: `sidecar.go: canMergeServices`.
fn can_merge(a: &ScopedService, b: &ScopedService) -> bool {
    let (a, b) = (a.service(), b.service());
    a.namespace == b.namespace
        && a.resolution == b.resolution
        && a.registry == b.registry
        && a.labels == b.labels
        && a.selector == b.selector
        && a.written_export_to == b.written_export_to
}

/// The ports of `hostname` (0 for all) that a VirtualService sends to; `None` when it does not for this namespace.
/// istiod: `push_context.go: virtualServiceDestinationsFilteredBySourceNamespace`.
fn ports_sent_to(virtual_service: &VirtualService, hostname: &str, namespace: &str) -> Option<Vec<u16>> {
    let mut ports: Vec<u16> = Vec::new();
    let mut add = |destination: &Destination| {
        if destination.host == hostname {
            let number = |port: u32| u16::try_from(port).unwrap_or(0);
            ports.push(destination.port.as_ref().map_or(0, |port| number(port.number)));
        }
    };
    for rule in &virtual_service.http {
        let mut named = rule.route.match_.iter().filter(|c| !c.source_namespace.is_empty()).peekable();
        if named.peek().is_none() || named.any(|condition| condition.source_namespace == namespace) {
            http_destinations(&rule.route).for_each(&mut add);
        }
    }
    let tcp = virtual_service.tcp.iter().flat_map(|rule| &rule.route.route);
    let tls = virtual_service.tls.iter().flat_map(|rule| &rule.route.route);
    tcp.chain(tls).filter_map(|route| route.destination.as_ref()).for_each(&mut add);
    (!ports.is_empty()).then_some(ports)
}

/// The Sidecar that applies to a workload. istiod: `push_context.go: initSidecarScopes`.
fn sidecar_for(mesh: &Mesh, node: &Node) -> Option<(Arc<Sidecar>, Origin)> {
    let sidecars = &mesh.policies().sidecars;
    let selector = |sidecar: &Config<Sidecar>| {
        sidecar
            .spec
            .workload_selector
            .as_ref()
            .map(|selector| selector.labels.clone())
            .filter(|l| !l.is_empty())
    };
    let own = || sidecars.in_namespace(&node.namespace);
    let for_all = |sidecar: &&Arc<Config<Sidecar>>| selector(sidecar).is_none();
    own()
        .find(|sidecar| selector(sidecar).is_some_and(|labels| selects(&labels, &node.labels)))
        .or_else(|| own().find(for_all))
        .or_else(|| sidecars.in_namespace(&mesh.config().root_namespace).find(for_all))
        .map(|sidecar| (Arc::clone(&sidecar.spec), sidecar.origin("")))
}
