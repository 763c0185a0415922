//! What does a proxy see of the mesh?
//!
//! Which Sidecar applies, and what its egress listeners import: services, VirtualServices, DestinationRules. Invariant:
//! once a scope exists, every question about it costs the length of a name, never the number of services.
//! istiod: `pilot/pkg/model/sidecar.go`; `virtualservice.go: SelectVirtualServices`.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::SmolStr;

use super::hosts::HostIndex;
use super::name::MESH_GATEWAY;
use super::node::{Node, NodeType};
use super::route::action::hash_policy;
use super::service::ScopedService;
use crate::envoy::config::HashPolicy;
use crate::manifest::schema::istio::{
    CaptureMode, ConsistentHashLb, Destination, HttpRouteDestination, IstioEgressListener,
    OutboundTrafficPolicyMode, PortTrafficPolicy, Sidecar, TrafficPolicy,
};
use crate::mesh::{
    Config, DestinationRule, Generator, Mesh, Protocol, Registry, Service, ServicePort, VirtualService, host,
    selects,
};
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

/// One egress listener and what it imports.
#[derive(Debug)]
pub struct EgressListener {
    /// The user's own port; `None` for the listener that stands for all ports.
    pub port: Option<ServicePort>,
    /// The user's own bind address; may be empty.
    pub bind: SmolStr,
    /// Whether it is a real socket.
    pub capture_mode: CaptureMode,
    /// Imported services, in order.
    pub services: Vec<ScopedService>,
    /// Imported VirtualServices, in order of precedence.
    pub virtual_services: Vec<Arc<VirtualService>>,
    /// Where it is written.
    pub origin: Origin,
    by_host: FxHashMap<SmolStr, Vec<u32>>,
    by_alias: FxHashMap<SmolStr, Vec<u32>>,
    by_address: FxHashMap<SmolStr, Vec<u32>>,
    odd: Vec<u32>,
    wildcard_services: Vec<u32>,
    /// Host names read backwards, sorted, for questions about what they end with.
    backwards: Vec<(String, u32)>,
    /// VirtualServices by host, in lower case.
    by_vs_host: FxHashMap<SmolStr, Vec<u32>>,
    /// VirtualServices by host, as written.
    vs_hosts: HostIndex,
}

/// What a proxy sees.
#[derive(Debug)]
pub struct SidecarScope {
    /// The Sidecar that applies, if a user wrote one.
    pub sidecar: Option<(Arc<Sidecar>, Origin)>,
    /// The namespace of the proxy.
    pub namespace: SmolStr,
    /// The egress listeners, in order.
    pub egress: Vec<EgressListener>,
    /// What happens to unknown destinations.
    pub outbound_traffic_policy: OutboundPolicy,
    /// All services that have clusters: imports of all listeners and destinations of their VirtualServices.
    services: Vec<ScopedService>,
    by_hostname: FxHashMap<SmolStr, usize>,
}

/// The hosts that an egress listener names for one namespace.
#[derive(Clone, Debug, Default)]
struct HostClassification {
    exact: FxHashSet<SmolStr>,
    all: Vec<SmolStr>,
    excluded: Vec<SmolStr>,
}

impl HostClassification {
    fn excludes(&self, name: &str) -> bool {
        self.excluded.iter().any(|excluded| host::subset_of(name, excluded))
    }

    /// Whether a service of this name is imported.
    fn matches(&self, name: &str) -> bool {
        self.exact.contains(name) || self.all.iter().any(|imported| host::subset_of(name, imported))
    }

    /// Whether a VirtualService with this host is imported: the names may cover each other either way.
    fn matches_virtual_service(&self, name: &str, generator: Generator) -> bool {
        self.exact.contains(name)
            || self.all.iter().any(|imported| {
                if !host::is_wildcard(name) && !host::is_wildcard(imported) {
                    false
                } else if generator == Generator::GatewayApi {
                    host::subset_of(name, imported)
                } else {
                    host::matches(name, imported)
                }
            })
    }
}

impl SidecarScope {
    /// The scope of a proxy.
    pub fn new(mesh: &Mesh, node: &Node) -> Self {
        match node.node_type {
            NodeType::Sidecar => Self::for_sidecar(mesh, node),
            NodeType::Router | NodeType::Waypoint => Self::for_gateway(mesh, node),
        }
    }

    fn for_sidecar(mesh: &Mesh, node: &Node) -> Self {
        let chosen = sidecar_for(mesh, node);
        let everything =
            IstioEgressListener { hosts: vec![SmolStr::new_static("*/*")], ..IstioEgressListener::default() };
        let visible = visible_services(mesh, &node.namespace);
        let egress = match &chosen {
            Some((sidecar, origin)) if !sidecar.egress.is_empty() => sidecar
                .egress
                .iter()
                .enumerate()
                .map(|(i, listener)| {
                    EgressListener::new(mesh, node, listener, &visible, origin.element("spec.egress", i))
                })
                .collect(),
            _ => {
                let origin = Origin::default("Istio's default Sidecar: everything that is visible");
                vec![EgressListener::new(mesh, node, &everything, &visible, origin)]
            }
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
        let mut scope = Self {
            sidecar: chosen,
            namespace: node.namespace.clone(),
            egress,
            outbound_traffic_policy: policy,
            services: Vec::new(),
            by_hostname: FxHashMap::default(),
        };
        scope.collect_services(mesh);
        scope
    }

    /// A gateway sees everything that is visible to its namespace. istiod: `sidecar.go: DefaultSidecarScopeForGateway`.
    fn for_gateway(mesh: &Mesh, node: &Node) -> Self {
        let mut scope = Self {
            sidecar: None,
            namespace: node.namespace.clone(),
            egress: Vec::new(),
            outbound_traffic_policy: OutboundPolicy {
                mode: OutboundTrafficPolicyMode::RegistryOnly,
                egress_proxy: None,
                origin: Origin::default("gateways pass nothing on that they do not know"),
            },
            services: Vec::new(),
            by_hostname: FxHashMap::default(),
        };
        for service in visible_services(mesh, &node.namespace) {
            scope.append(ScopedService::new(service));
        }
        scope
    }

    /// All services that have clusters.
    pub fn services(&self) -> &[ScopedService] {
        &self.services
    }

    /// The service of a host, as clusters see it.
    pub fn service(&self, hostname: &str) -> Option<&ScopedService> {
        self.services.get(*self.by_hostname.get(hostname)?)
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

    /// Gathers what clusters are made for. istiod: `sidecar.go: collectImportedServices`.
    fn collect_services(&mut self, mesh: &Mesh) {
        for i in 0..self.egress.len() {
            let Some(egress) = self.egress.get(i) else { break };
            let mut found: Vec<ScopedService> = egress.services.clone();
            for virtual_service in &egress.virtual_services {
                for (name, ports) in destinations(virtual_service, &self.namespace) {
                    let Some(service) = best_service(mesh, &name, &self.namespace) else { continue };
                    let service = ScopedService::new(service);
                    let trimmed = match &egress.port {
                        Some(port) if egress.matches_port() => trim_to_port(&service, port.number),
                        _ => trim_to_ports(&service, &ports),
                    };
                    found.extend(trimmed);
                }
            }
            for service in found {
                self.append(service);
            }
        }
    }

    /// Adds a service, or merges it into the one of its host. istiod: `sidecar.go: appendSidecarServices`.
    fn append(&mut self, incoming: ScopedService) {
        let Some(&at) = self.by_hostname.get(incoming.hostname()) else {
            self.by_hostname.insert(incoming.hostname().clone(), self.services.len());
            self.services.push(incoming);
            return;
        };
        let Some(existing) = self.services.get_mut(at) else { return };
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

/// The service that a VirtualService's destination names. istiod: `sidecar.go: pickBestVisibleNamespace`.
fn best_service(mesh: &Mesh, hostname: &str, namespace: &str) -> Option<Arc<Service>> {
    let mut best: Option<&Arc<Service>> = None;
    // One service for each namespace: a Kubernetes Service, else the oldest.
    for service in mesh.services_of(hostname) {
        if service.namespace == namespace {
            return Some(Arc::clone(service));
        }
        if !service.export_to.is_visible_in(namespace) {
            continue;
        }
        let better = best.is_none_or(|best| {
            best.registry != Registry::Kubernetes
                && (service.registry == Registry::Kubernetes || service.creation < best.creation)
        });
        if better {
            best = Some(service);
        }
    }
    best.cloned()
}

/// Hosts and ports (0 for all) that a VirtualService sends to.
/// istiod: `push_context.go: virtualServiceDestinationsFilteredBySourceNamespace`.
fn destinations(virtual_service: &VirtualService, namespace: &str) -> Vec<(SmolStr, Vec<u16>)> {
    let mut out: Vec<(SmolStr, Vec<u16>)> = Vec::new();
    let mut add = |destination: &Destination| {
        let port = destination.port.as_ref().map_or(0, |port| u16::try_from(port.number).unwrap_or(0));
        match out.iter_mut().find(|(name, _)| *name == destination.host) {
            Some((_, ports)) if ports.contains(&port) => {}
            Some((_, ports)) => ports.push(port),
            None => out.push((destination.host.clone(), vec![port])),
        }
    };
    for rule in &virtual_service.http {
        let http = &rule.route;
        let mut applies = true;
        for condition in http.match_.iter().filter(|condition| !condition.source_namespace.is_empty()) {
            applies = condition.source_namespace == namespace;
            if applies {
                break;
            }
        }
        if !applies {
            continue;
        }
        http.route.iter().filter_map(|route| route.destination.as_ref()).for_each(&mut add);
        http.mirror.iter().for_each(&mut add);
        http.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref()).for_each(&mut add);
    }
    for rule in &virtual_service.tcp {
        rule.route.route.iter().filter_map(|route| route.destination.as_ref()).for_each(&mut add);
    }
    for rule in &virtual_service.tls {
        rule.route.route.iter().filter_map(|route| route.destination.as_ref()).for_each(&mut add);
    }
    out
}

/// The service with one port only. istiod: `sidecar.go: serviceMatchingListenerPort`.
fn trim_to_port(service: &ScopedService, number: u16) -> Option<ScopedService> {
    let port = service.port(number)?;
    if service.ports().len() == 1 {
        return Some(service.clone());
    }
    Some(service.with_ports(vec![port.clone()]))
}

/// The service with these ports only; none of them means that it is left out.
/// istiod: `sidecar.go: serviceMatchingVirtualServicePorts`.
fn trim_to_ports(service: &ScopedService, numbers: &[u16]) -> Option<ScopedService> {
    if numbers.is_empty() || numbers.contains(&0) {
        return Some(service.clone());
    }
    let ports: Vec<ServicePort> =
        service.ports().iter().filter(|port| numbers.contains(&port.number)).cloned().collect();
    if ports.len() == service.ports().len() {
        return Some(service.clone());
    }
    (!ports.is_empty()).then(|| service.with_ports(ports))
}

impl EgressListener {
    fn new(
        mesh: &Mesh,
        node: &Node,
        listener: &IstioEgressListener,
        visible: &[Arc<Service>],
        origin: Origin,
    ) -> Self {
        let port = listener.port.as_ref().map(|port| ServicePort {
            number: u16::try_from(port.number).unwrap_or(0),
            name: port.name.clone(),
            protocol: Protocol::parse(&port.protocol),
            target_port: 0,
        });
        let hosts = classify(&listener.hosts, &node.namespace);
        let mut out = Self {
            port,
            bind: listener.bind.clone(),
            capture_mode: listener.capture_mode,
            services: Vec::new(),
            virtual_services: select_virtual_services(mesh, &node.namespace, &hosts),
            origin,
            by_host: FxHashMap::default(),
            by_alias: FxHashMap::default(),
            by_address: FxHashMap::default(),
            odd: Vec::new(),
            wildcard_services: Vec::new(),
            backwards: Vec::new(),
            by_vs_host: FxHashMap::default(),
            vs_hosts: HostIndex::default(),
        };
        out.select_services(visible, &node.namespace, &hosts);
        out.index();
        out
    }

    /// Whether only services with the listener's own port are imported.
    pub fn matches_port(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.number != 0 && port.protocol != Protocol::HttpProxy)
    }

    /// Imports services. istiod: `sidecar.go: selectServices`.
    fn select_services(
        &mut self,
        visible: &[Arc<Service>],
        namespace: &str,
        hosts: &FxHashMap<SmolStr, HostClassification>,
    ) {
        let wildcard = hosts.get("*");
        let only = self.port.as_ref().filter(|_| self.matches_port()).map(|port| port.number);
        let mut imported: Vec<ScopedService> = Vec::new();
        for service in visible {
            let own = hosts.get(&service.namespace);
            if [own, wildcard].into_iter().flatten().any(|hosts| hosts.excludes(&service.hostname)) {
                continue;
            }
            let import = |hosts: &HostClassification| {
                if !hosts.matches(&service.hostname) {
                    return None;
                }
                let service = ScopedService::new(Arc::clone(service));
                let service = match only {
                    Some(number) => trim_to_port(&service, number)?,
                    None => service,
                };
                let aliases: Vec<SmolStr> =
                    service.aliases().iter().filter(|alias| hosts.matches(alias)).cloned().collect();
                Some(if aliases.len() == service.aliases().len() {
                    service
                } else {
                    service.with_aliases(aliases)
                })
            };
            imported.extend(own.and_then(import).or_else(|| wildcard.and_then(import)));
        }
        // One namespace for each host: the proxy's own, else a Kubernetes Service's, else the first.
        let mut chosen: FxHashMap<SmolStr, (SmolStr, bool)> = FxHashMap::default();
        for service in &imported {
            let candidate = (service.namespace().clone(), service.is_kubernetes());
            match chosen.get_mut(service.hostname()) {
                None => {
                    chosen.insert(service.hostname().clone(), candidate);
                }
                Some(existing) => {
                    let preferred =
                        candidate.0 == namespace || (!existing.1 && candidate.1 && existing.0 != namespace);
                    if preferred {
                        *existing = candidate;
                    }
                }
            }
        }
        imported.retain(|service| {
            chosen.get(service.hostname()).is_some_and(|(ns, _)| ns == service.namespace())
        });
        self.services = imported;
    }

    fn index(&mut self) {
        for (i, service) in self.services.iter().enumerate() {
            let Ok(number) = u32::try_from(i) else { break };
            let hostname = service.hostname().to_lowercase();
            if host::is_wildcard(&hostname) {
                self.wildcard_services.push(number);
            } else {
                self.backwards.push((hostname.chars().rev().collect(), number));
            }
            if hostname.matches(".svc.").count() > 1 {
                self.odd.push(number);
            }
            for alias in service.aliases() {
                self.by_alias.entry(alias.to_lowercase().into()).or_default().push(number);
            }
            let inner = service.service();
            let addresses = inner.cluster_vips.iter().chain([
                &inner.default_address,
                &inner.auto_allocated_ipv4,
                &inner.auto_allocated_ipv6,
            ]);
            for address in addresses.filter(|address| !address.is_empty() && address.as_str() != "0.0.0.0") {
                let address = super::outbound::domains::plain(&address.to_lowercase());
                let list = self.by_address.entry(address).or_default();
                if list.last() != Some(&number) {
                    list.push(number);
                }
            }
            self.by_host.entry(hostname.into()).or_default().push(number);
        }
        self.backwards.sort_unstable();
        for (i, virtual_service) in self.virtual_services.iter().enumerate() {
            let Ok(number) = u32::try_from(i) else { break };
            for name in &virtual_service.hosts {
                self.vs_hosts.insert(name, number);
                let list = self.by_vs_host.entry(name.to_lowercase().into()).or_default();
                if list.last() != Some(&number) {
                    list.push(number);
                }
            }
        }
    }

    /// Services of exactly this host (in lower case), in order.
    pub fn services_named(&self, hostname: &str) -> &[u32] {
        self.by_host.get(hostname).map_or(&[], Vec::as_slice)
    }

    /// Services that an ExternalName service of this host leads to.
    pub fn services_with_alias(&self, hostname: &str) -> &[u32] {
        self.by_alias.get(hostname).map_or(&[], Vec::as_slice)
    }

    /// Services with this address among their domains.
    pub fn services_at(&self, address: &str) -> &[u32] {
        self.by_address.get(address).map_or(&[], Vec::as_slice)
    }

    /// Services whose names could have short forms that cannot be told from the form.
    pub fn oddly_named(&self) -> &[u32] {
        &self.odd
    }

    /// Services that cover a wildcard host, or are covered by it.
    pub fn matching_services<'a>(&'a self, wildcard: &'a str) -> impl Iterator<Item = u32> + 'a {
        let suffix: String = wildcard.trim_start_matches('*').chars().rev().collect();
        let start = self.backwards.partition_point(|(name, _)| name.as_str() < suffix.as_str());
        let exact = self.backwards.iter().skip(start).take_while(move |(name, _)| name.starts_with(&suffix));
        let wild = self.wildcard_services.iter().filter(move |number| {
            self.services
                .get(**number as usize)
                .is_some_and(|service| host::matches(&service.hostname().to_lowercase(), wildcard))
        });
        exact.map(|(_, number)| *number).chain(wild.copied())
    }

    /// VirtualServices with exactly this host (in lower case), in order.
    pub fn virtual_services_named(&self, name: &str) -> &[u32] {
        self.by_vs_host.get(name).map_or(&[], Vec::as_slice)
    }

    /// The VirtualService with the most specific host for a service.
    pub fn most_specific(&self, hostname: &str) -> Option<u32> {
        self.vs_hosts.most_specific(hostname)
    }

    /// VirtualServices with a host that covers a service's or is covered by it, in order.
    /// istiod: `tls.go: getConfigsForHost`.
    pub fn virtual_services_for(&self, hostname: &str) -> Vec<&VirtualService> {
        let mut numbers: Vec<u32> = self.vs_hosts.named(hostname).to_vec();
        numbers.extend(self.vs_hosts.covering(hostname).flat_map(|(_, list)| list.iter().copied()));
        if host::is_wildcard(hostname) {
            for (i, virtual_service) in self.virtual_services.iter().enumerate() {
                if virtual_service.hosts.iter().any(|name| host::matches(name, hostname)) {
                    numbers.extend(u32::try_from(i).ok());
                }
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
            .into_iter()
            .filter_map(|number| self.virtual_services.get(number as usize).map(|vs| &**vs))
            .collect()
    }
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

/// Services that a namespace sees: those exported to it by name, then public ones, each in order of creation.
/// istiod: `push_context.go: servicesExportedToNamespace`.
fn visible_services(mesh: &Mesh, namespace: &str) -> Vec<Arc<Service>> {
    let by_name = mesh
        .services()
        .iter()
        .filter(|service| !service.export_to.is_public() && service.export_to.is_visible_in(namespace));
    by_name.chain(mesh.services().iter().filter(|service| service.export_to.is_public())).cloned().collect()
}

/// VirtualServices for sidecars that a namespace sees: its private ones, those exported to it, public ones.
/// istiod: `push_context.go: initVirtualServices`.
fn virtual_service_groups<'m>(mesh: &'m Mesh, namespace: &str) -> [Vec<&'m Arc<VirtualService>>; 3] {
    let mut out = [Vec::new(), Vec::new(), Vec::new()];
    let [private, exported, public] = &mut out;
    for virtual_service in mesh.virtual_services().iter().filter(|vs| vs.is_bound_to(MESH_GATEWAY)) {
        if virtual_service.export_to.is_public() {
            public.push(virtual_service);
        } else if virtual_service.export_to.is_visible_in(namespace) {
            if virtual_service.namespace == namespace {
                private.push(virtual_service);
            } else {
                exported.push(virtual_service);
            }
        }
    }
    out
}

/// Reads the `namespace/host` entries of an egress listener.
fn classify(hosts: &[SmolStr], namespace: &str) -> FxHashMap<SmolStr, HostClassification> {
    let mut out: FxHashMap<SmolStr, HostClassification> = FxHashMap::default();
    for entry in hosts {
        let Some((ns, name)) = entry.split_once('/').filter(|(_, name)| !name.contains('/')) else {
            continue;
        };
        let (ns, excluded) = match ns.strip_prefix('~') {
            Some("") => ("*", true),
            Some(ns) => (ns, true),
            None => (ns, false),
        };
        let ns = if ns == "." { namespace } else { ns };
        let class = out.entry(ns.into()).or_default();
        if excluded {
            class.excluded.push(name.into());
            continue;
        }
        if !host::is_wildcard(name) {
            class.exact.insert(name.into());
        }
        class.all.push(name.into());
    }
    out
}

/// Imports VirtualServices: private ones, then those exported to the namespace, then public ones.
/// istiod: `virtualservice.go: SelectVirtualServices`.
fn select_virtual_services(
    mesh: &Mesh,
    namespace: &str,
    hosts: &FxHashMap<SmolStr, HostClassification>,
) -> Vec<Arc<VirtualService>> {
    let wildcard = hosts.get("*");
    let mut out: Vec<Arc<VirtualService>> = Vec::new();
    let mut seen: FxHashSet<(SmolStr, SmolStr)> = FxHashSet::default();
    for group in virtual_service_groups(mesh, namespace) {
        // Rules that Gateway API routes of the own namespace became come first in their group.
        let own = |vs: &VirtualService| vs.generator == Generator::GatewayApi && vs.namespace == namespace;
        let ordered = group.iter().filter(|vs| own(vs)).chain(group.iter().filter(|vs| !own(vs)));
        for virtual_service in ordered {
            let in_namespace = hosts.get(&virtual_service.namespace);
            let excluded =
                |name: &str| [in_namespace, wildcard].into_iter().flatten().any(|hosts| hosts.excludes(name));
            let imported = [in_namespace, wildcard].into_iter().flatten().any(|hosts| {
                virtual_service.hosts.iter().any(|name| {
                    hosts.matches_virtual_service(name, virtual_service.generator) && !excluded(name)
                })
            });
            if imported && seen.insert((virtual_service.namespace.clone(), virtual_service.name.clone())) {
                out.push(Arc::clone(virtual_service));
            }
        }
    }
    out
}
