//! What does one egress listener import?
//!
//! Nothing is copied when the listener is made: each question goes to the indexes of the mesh, and what they name is
//! imported or not, one service at a time. Invariant: a question costs what its answer is made of, never the number
//! of services. istiod: `sidecar.go: selectServices`; `virtualservice.go: SelectVirtualServices`.

use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

use super::imports::Imports;
use crate::istiod::service::ScopedService;
use crate::manifest::schema::istio::{CaptureMode, IstioEgressListener};
use crate::mesh::{
    Generator, Mesh, Protocol, Registry, Service, ServicePort, VirtualService, host,
    service_index::PortServices,
};
use crate::origin::Origin;

/// One egress listener and what it imports. Services and VirtualServices have the numbers of the mesh.
#[derive(Debug)]
pub struct EgressListener {
    /// The user's own port; `None` for the listener that stands for all ports.
    pub port: Option<ServicePort>,
    /// The user's own bind address; may be empty.
    pub bind: SmolStr,
    /// Whether it is a real socket.
    pub capture_mode: CaptureMode,
    /// Where it is written.
    pub origin: Origin,
    mesh: Arc<Mesh>,
    /// The client's namespace.
    namespace: SmolStr,
    imports: Imports,
    /// The candidates, where only exact hosts are imported.
    exact: Option<Vec<u32>>,
    /// What is imported, in order, where namespaces are named; `None` where any service may be.
    limited: OnceLock<Option<Vec<u32>>>,
}

/// Which ports of a port number are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// The first HTTP port: all others share its listener.
    FirstHttp,
    /// Every HTTP port.
    Http,
    /// All but HTTP.
    Other,
    /// All but HTTP, of services that may have no address of their own.
    Unaddressed,
}

impl EgressListener {
    /// The listener for a client in `namespace`.
    pub fn new(
        mesh: &Arc<Mesh>,
        namespace: &SmolStr,
        listener: &IstioEgressListener,
        origin: Origin,
    ) -> Self {
        let port = listener.port.as_ref().map(|port| ServicePort {
            number: u16::try_from(port.number).unwrap_or(0),
            name: port.name.clone(),
            protocol: Protocol::parse(&port.protocol),
            target_port: 0,
        });
        let imports = Imports::new(&listener.hosts, namespace);
        // istiod then looks at one service for each host and namespace only.
        let exact = imports.exact_hosts().map(|hosts| {
            let mut numbers: Vec<u32> = hosts
                .filter_map(|(ns, name)| mesh.service_index().representative(mesh.services(), name, ns))
                .filter(|(_, service)| service.export_to.is_visible_in(namespace))
                .map(|(number, _)| number)
                .collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        });
        Self {
            port,
            bind: listener.bind.clone(),
            capture_mode: listener.capture_mode,
            origin,
            mesh: Arc::clone(mesh),
            namespace: namespace.clone(),
            imports,
            exact,
            limited: OnceLock::new(),
        }
    }

    /// Whether only services with the listener's own port are imported.
    pub fn matches_port(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.number != 0 && port.protocol != Protocol::HttpProxy)
    }

    fn in_mesh(&self, number: u32) -> Option<&Arc<Service>> {
        self.mesh.services().get(number as usize)
    }

    /// Where a service stands in istiod's order: exported by name first, then public, each by creation.
    pub fn rank(&self, number: u32) -> (bool, u32) {
        let public = self.in_mesh(number).is_some_and(|service| service.export_to.is_public());
        (public && self.exact.is_none(), number)
    }

    /// The service of that number, if it is imported.
    pub fn service(&self, number: u32) -> Option<ScopedService> {
        let service = self.import(number)?;
        let same_host = self.mesh.service_index().of_host(service.hostname());
        if same_host.len() > 1 && self.chosen_namespace(same_host)? != *service.namespace() {
            return None;
        }
        Some(service)
    }

    /// The service of that number, whoever else has its host.
    fn import(&self, number: u32) -> Option<ScopedService> {
        if self.exact.as_ref().is_some_and(|exact| exact.binary_search(&number).is_err()) {
            return None;
        }
        let service = self.in_mesh(number)?;
        if !service.export_to.is_visible_in(&self.namespace)
            || self.imports.excludes(&service.namespace, &service.hostname)
        {
            return None;
        }
        self.imports.of_namespace(&service.namespace).find_map(|hosts| {
            if !hosts.matches(&service.hostname) {
                return None;
            }
            let service = ScopedService::new(Arc::clone(service));
            let service = match &self.port {
                Some(port) if self.matches_port() => service.trimmed_to_port(port.number)?,
                _ => service,
            };
            let aliases: Vec<SmolStr> =
                service.aliases().iter().filter(|alias| hosts.matches(alias)).cloned().collect();
            let whole = aliases.len() == service.aliases().len();
            Some(if whole { service } else { service.with_aliases(aliases) })
        })
    }

    /// One namespace for each host: the client's own, else a Kubernetes Service's, else the first.
    fn chosen_namespace(&self, same_host: &[u32]) -> Option<SmolStr> {
        let kubernetes_first = self.mesh.features().unified_sidecar_scope;
        let mut chosen: Option<ScopedService> = None;
        for number in self.ordered(same_host.to_vec()) {
            let Some(candidate) = self.import(number) else { continue };
            let better = chosen.as_ref().is_none_or(|existing| {
                *candidate.namespace() == self.namespace
                    || (kubernetes_first
                        && !existing.is_kubernetes()
                        && candidate.is_kubernetes()
                        && *existing.namespace() != self.namespace)
            });
            if better {
                chosen = Some(candidate);
            }
        }
        Some(chosen?.namespace().clone())
    }

    /// Those of `numbers` in istiod's order, each once.
    pub fn ordered(&self, mut numbers: Vec<u32>) -> Vec<u32> {
        numbers.sort_unstable_by_key(|number| self.rank(*number));
        numbers.dedup();
        numbers
    }

    /// The numbers of all imported services, in order.
    pub fn services(&self) -> Vec<u32> {
        if let Some(limited) = self.limited() {
            return limited.to_vec();
        }
        let index = self.mesh.service_index();
        let public = (0_u32..)
            .zip(self.mesh.services())
            .filter(|(_, service)| service.export_to.is_public())
            .map(|(number, _)| number);
        let all = index.restricted().iter().copied().chain(public);
        all.filter(|number| self.service(*number).is_some()).collect()
    }

    /// What is imported, where the listener names namespaces or hosts.
    fn limited(&self) -> Option<&[u32]> {
        self.limited
            .get_or_init(|| {
                let index = self.mesh.service_index();
                let candidates = match &self.exact {
                    Some(exact) => exact.clone(),
                    None => {
                        let (namespaces, hosts) = self.imports.limits()?;
                        let in_namespaces = namespaces.flat_map(|ns| index.in_namespace(ns));
                        in_namespaces
                            .chain(hosts.iter().flat_map(|name| index.of_host(name)))
                            .copied()
                            .collect()
                    }
                };
                let mut out = self.ordered(candidates);
                out.retain(|number| self.service(*number).is_some());
                Some(out)
            })
            .as_deref()
    }

    /// The imported services with a port of that number and kind.
    pub fn on_port(&self, port: u16, kind: PortKind) -> Vec<u32> {
        let Some(services) = self.mesh.service_index().on_port(port) else { return Vec::new() };
        let PortServices { public_http, restricted_http, other, unaddressed, .. } = services;
        let imported = |number: &&u32| self.service(**number).is_some();
        let lists = match kind {
            PortKind::FirstHttp => {
                if let Some(limited) = self.limited() {
                    let has = |list: &[u32], number: &u32| list.binary_search(number).is_ok();
                    let http = |number: &&u32| has(public_http, number) || has(restricted_http, number);
                    return limited.iter().find(http).copied().into_iter().collect();
                }
                let mut all = restricted_http.iter().chain(public_http);
                return all.find(imported).copied().into_iter().collect();
            }
            PortKind::Http => {
                return restricted_http.iter().chain(public_http).filter(imported).copied().collect();
            }
            PortKind::Other => other,
            PortKind::Unaddressed => unaddressed,
        };
        lists.iter().filter(imported).copied().collect()
    }

    /// Imported services with exactly this host (in lower case), in order.
    pub fn services_named(&self, hostname: &str) -> Vec<u32> {
        self.imported(self.mesh.service_index().of_lower_host(hostname).collect())
    }

    /// Imported services with exactly this host, as written, in order.
    pub fn services_of(&self, hostname: &str) -> Vec<u32> {
        self.imported(self.mesh.service_index().of_host(hostname).to_vec())
    }

    /// Imported services that an ExternalName service of this host leads to.
    pub fn services_with_alias(&self, hostname: &str) -> Vec<u32> {
        self.imported(self.mesh.service_index().with_alias(hostname).to_vec())
    }

    /// Imported services with this address among their domains.
    pub fn services_at(&self, address: &str) -> Vec<u32> {
        let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        self.imported(self.mesh.service_index().at_address(address).to_vec())
    }

    /// Imported services whose names could have short forms that cannot be told from the form.
    pub fn oddly_named(&self) -> Vec<u32> {
        self.imported(self.mesh.service_index().oddly_named().to_vec())
    }

    fn imported(&self, numbers: Vec<u32>) -> Vec<u32> {
        let mut out = self.ordered(numbers);
        out.retain(|number| self.service(*number).is_some());
        out
    }

    /// Imported services on a port (all if 0) that cover a wildcard host (in lower case), or are covered by it.
    pub fn matching_services<'a>(&'a self, wildcard: &'a str, port: u16) -> impl Iterator<Item = u32> + 'a {
        let index = self.mesh.service_index();
        let exact = index.ending_with(wildcard.trim_start_matches('*'), port);
        let wild = index.wildcards().iter().copied().filter(move |number| {
            self.in_mesh(*number)
                .is_some_and(|service| host::matches(&service.hostname.to_lowercase(), wildcard))
        });
        exact.chain(wild).filter(|number| self.service(*number).is_some())
    }

    /// The VirtualService of that number, if it is imported.
    pub fn virtual_service(&self, number: u32) -> Option<&Arc<VirtualService>> {
        self.mesh.virtual_services().get(number as usize).filter(|virtual_service| {
            virtual_service.export_to.is_visible_in(&self.namespace) && self.imports.takes(virtual_service)
        })
    }

    /// Where a VirtualService stands in istiod's order: private, exported, public, each by creation; rules that the
    /// Gateway API routes of the own namespace became come first among each.
    fn virtual_service_rank(&self, number: u32) -> (u8, bool, u32) {
        let Some(virtual_service) = self.mesh.virtual_services().get(number as usize) else {
            return (u8::MAX, true, number);
        };
        let own = virtual_service.namespace == self.namespace;
        let group = match (virtual_service.export_to.is_public(), own) {
            (true, _) => 2,
            (false, true) => 0,
            (false, false) => 1,
        };
        let first = self.mesh.features().unified_sidecar_scope
            && virtual_service.generator == Generator::GatewayApi
            && own;
        (group, !first, number)
    }

    /// Those of `numbers` that are imported, in order, each once.
    pub fn imported_virtual_services(&self, mut numbers: Vec<u32>) -> Vec<u32> {
        numbers.retain(|number| self.virtual_service(*number).is_some());
        numbers.sort_unstable_by_key(|number| self.virtual_service_rank(*number));
        numbers.dedup();
        numbers
    }

    /// The numbers of all imported VirtualServices, in order.
    pub fn virtual_services(&self) -> Vec<u32> {
        self.imported_virtual_services(self.mesh.virtual_service_index().all().to_vec())
    }

    /// Imported VirtualServices with exactly this host (in lower case), in order.
    pub fn virtual_services_named(&self, name: &str) -> Vec<u32> {
        self.imported_virtual_services(self.mesh.virtual_service_index().of_lower_host(name).to_vec())
    }

    /// Imported VirtualServices that send to this host, in order.
    pub fn virtual_services_sending_to(&self, name: &str) -> Vec<u32> {
        self.imported_virtual_services(self.mesh.virtual_service_index().sending_to(name).to_vec())
    }

    /// The imported VirtualService with the most specific host for a service.
    /// istiod: `sidecar.go: computeWildcardHostVirtualServiceIndex`.
    pub fn most_specific(&self, hostname: &str) -> Option<u32> {
        let hosts = self.mesh.virtual_service_index().by_host();
        let first = |list: &[u32]| self.imported_virtual_services(list.to_vec()).first().copied();
        first(hosts.named(hostname)).or_else(|| hosts.covering(hostname).find_map(|(_, list)| first(list)))
    }

    /// Imported VirtualServices with a host that covers a service's or is covered by it, in order.
    /// istiod: `tls.go: getConfigsForHost`.
    pub fn virtual_services_for(&self, hostname: &str) -> Vec<&VirtualService> {
        let index = self.mesh.virtual_service_index();
        let mut numbers: Vec<u32> = index.by_host().named(hostname).to_vec();
        numbers.extend(index.by_host().covering(hostname).flat_map(|(_, list)| list.iter().copied()));
        if let Some(suffix) = hostname.strip_prefix('*') {
            numbers.extend(index.ending_with(suffix));
        }
        let numbers = self.imported_virtual_services(numbers);
        numbers.into_iter().filter_map(|number| self.virtual_service(number).map(|vs| &**vs)).collect()
    }

    /// The service that a VirtualService's destination names, imported or not.
    /// istiod: `sidecar.go: collectImportedServices, pickBestVisibleNamespace, pickFirstVisibleNamespace`.
    pub fn destination_service(&self, hostname: &str) -> Option<ScopedService> {
        let mesh = &self.mesh;
        if let Some(own) = mesh.service_in(hostname, &self.namespace) {
            return Some(ScopedService::new(Arc::clone(own)));
        }
        let mut visible: Vec<&Arc<Service>> = Vec::new();
        for service in mesh.services_of(hostname) {
            let known = visible.iter().any(|other| other.namespace == service.namespace);
            let stands = mesh.service_in(hostname, &service.namespace);
            visible.extend(stands.filter(|s| !known && s.export_to.is_visible_in(&self.namespace)));
        }
        let chosen = if mesh.features().sidecar_pick_best_service_namespace {
            visible
                .iter()
                .find(|service| service.registry == Registry::Kubernetes)
                .or_else(|| visible.iter().min_by(|a, b| a.creation.cmp(&b.creation)))
        } else {
            visible.iter().min_by(|a, b| a.namespace.cmp(&b.namespace))
        };
        chosen.map(|service| ScopedService::new(Arc::clone(service)))
    }
}
