//! Which services could answer a question about a name, an address or a port?
//!
//! Built once for the whole mesh, without a client in mind: who sees what is sorted out where the question is asked.
//! Invariant: every list is in istiod's order of services (by creation, then name, then namespace).

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use super::endpoint::{Address, Endpoint};
use super::host;
use super::protocol::Protocol;
use super::service::{Registry, Resolution, Service, UNSPECIFIED};
use super::{EndpointKey, ExportTo};

/// The services of one port.
#[derive(Clone, Debug, Default)]
pub struct PortServices {
    /// HTTP ports of services that are visible everywhere.
    pub public_http: Vec<u32>,
    /// HTTP ports of services that are exported by name.
    pub restricted_http: Vec<u32>,
    /// All other ports, explicit HTTP proxies among them.
    pub other: Vec<u32>,
    /// Those of `other` that may have no address of their own to be listened on.
    pub unaddressed: Vec<u32>,
    /// Services with an exact host, by the host read backwards.
    backwards: Vec<u32>,
}

/// Services by what is asked about them; numbers are places in [`Mesh::services`](super::Mesh::services).
#[derive(Clone, Debug, Default)]
pub struct ServiceIndex {
    by_host: FxHashMap<SmolStr, Vec<u32>>,
    /// Hosts that are written with capitals, in lower case.
    by_lower_host: FxHashMap<SmolStr, Vec<u32>>,
    by_alias: FxHashMap<SmolStr, Vec<u32>>,
    by_address: FxHashMap<SmolStr, Vec<u32>>,
    by_pod: FxHashMap<IpAddr, Vec<u32>>,
    by_namespace: FxHashMap<SmolStr, Vec<u32>>,
    by_port: FxHashMap<u16, PortServices>,
    /// Exact hosts in lower case, read backwards, sorted.
    backwards: Vec<(Box<str>, u32)>,
    wildcards: Vec<u32>,
    restricted: Vec<u32>,
    odd: Vec<u32>,
}

impl ServiceIndex {
    pub(crate) fn new(services: &[Arc<Service>], endpoints: &FxHashMap<EndpointKey, Vec<Endpoint>>) -> Self {
        let mut out = Self::default();
        for (number, service) in (0_u32..).zip(services) {
            out.add(number, service);
            if service.resolution == Resolution::Passthrough && !service.has_address() {
                out.add_pods(number, service, endpoints);
            }
        }
        out.backwards.sort_unstable();
        for (at, (_, number)) in (0_u32..).zip(&out.backwards) {
            let Some(service) = services.get(*number as usize) else { continue };
            for port in &service.ports {
                let list = &mut out.by_port.entry(port.number).or_default().backwards;
                if list.last() != Some(&at) {
                    list.push(at);
                }
            }
        }
        out
    }

    fn add(&mut self, number: u32, service: &Service) {
        push(self.by_host.entry(service.hostname.clone()).or_default(), number);
        push(self.by_namespace.entry(service.namespace.clone()).or_default(), number);
        let hostname = service.hostname.to_lowercase();
        if hostname != service.hostname.as_str() {
            push(self.by_lower_host.entry(hostname.as_str().into()).or_default(), number);
        }
        if matches!(service.export_to, ExportTo::Namespaces(_)) {
            self.restricted.push(number);
        }
        if hostname.matches(".svc.").count() > 1 {
            self.odd.push(number);
        }
        for alias in &service.aliases {
            push(self.by_alias.entry(alias.to_lowercase().into()).or_default(), number);
        }
        for address in service.all_addresses() {
            push(self.by_address.entry(address.to_lowercase().into()).or_default(), number);
        }
        let unaddressed = service.default_address == UNSPECIFIED || service.default_address.contains('/');
        // An ExternalName service is listened for by the service that it leads to.
        for port in service.ports.iter().filter(|_| service.resolution != Resolution::Alias) {
            let lists = self.by_port.entry(port.number).or_default();
            if port.protocol.is_http() && port.protocol != Protocol::HttpProxy {
                let public = service.export_to.is_public();
                push(if public { &mut lists.public_http } else { &mut lists.restricted_http }, number);
                continue;
            }
            push(&mut lists.other, number);
            if (unaddressed && port.protocol != Protocol::Udp) || port.protocol == Protocol::HttpProxy {
                push(&mut lists.unaddressed, number);
            }
        }
        if host::is_wildcard(&hostname) {
            self.wildcards.push(number);
        } else {
            self.backwards.push((backwards(&hostname), number));
        }
    }

    /// A headless service is listened for at the address of each of its pods.
    fn add_pods(
        &mut self,
        number: u32,
        service: &Service,
        endpoints: &FxHashMap<EndpointKey, Vec<Endpoint>>,
    ) {
        let key = (service.hostname.clone(), service.namespace.clone());
        for endpoint in endpoints.get(&key).into_iter().flatten() {
            if let Address::Ip(ip) = endpoint.address {
                push(self.by_pod.entry(ip).or_default(), number);
            }
        }
    }

    /// Services of exactly this host, as written.
    pub fn of_host(&self, host: &str) -> &[u32] {
        list(self.by_host.get(host))
    }

    /// Services whose host is this one in lower case.
    pub fn of_lower_host(&self, host: &str) -> impl Iterator<Item = u32> {
        // A host with capitals is no key of its own in lower case.
        list(self.by_host.get(host)).iter().chain(list(self.by_lower_host.get(host))).copied()
    }

    /// Services that an ExternalName service of this host leads to.
    pub fn with_alias(&self, host: &str) -> &[u32] {
        list(self.by_alias.get(host))
    }

    /// Services with this address, a CIDR as it is written.
    pub fn at_address(&self, address: &str) -> &[u32] {
        list(self.by_address.get(address))
    }

    /// Headless services with a pod at this address.
    pub fn with_pod(&self, ip: IpAddr) -> &[u32] {
        list(self.by_pod.get(&ip))
    }

    /// Services of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> &[u32] {
        list(self.by_namespace.get(namespace))
    }

    /// Services that expose a port.
    pub fn on_port(&self, port: u16) -> Option<&PortServices> {
        self.by_port.get(&port)
    }

    /// Services that are exported to namespaces by name.
    pub fn restricted(&self) -> &[u32] {
        &self.restricted
    }

    /// Services whose names could have short forms that cannot be told from the form.
    pub fn oddly_named(&self) -> &[u32] {
        &self.odd
    }

    /// Services with a wildcard host.
    pub fn wildcards(&self) -> &[u32] {
        &self.wildcards
    }

    /// Services on `port` (all ports if 0) with an exact host that ends with `suffix`, in lower case.
    pub fn ending_with<'a>(&'a self, suffix: &str, port: u16) -> Box<dyn Iterator<Item = u32> + 'a> {
        let suffix = backwards(suffix);
        let name = |at: u32| self.backwards.get(at as usize).map_or("", |(name, _)| &**name);
        if port == 0 {
            let start = self.backwards.partition_point(|(name, _)| **name < *suffix);
            let tail = self.backwards.iter().skip(start);
            return Box::new(
                tail.take_while(move |(name, _)| name.starts_with(&*suffix)).map(|(_, number)| *number),
            );
        }
        let Some(services) = self.by_port.get(&port) else { return Box::new(std::iter::empty()) };
        let start = services.backwards.partition_point(|at| name(*at) < &*suffix);
        let tail = services.backwards.iter().skip(start).filter_map(|at| self.backwards.get(*at as usize));
        Box::new(tail.take_while(move |(name, _)| name.starts_with(&*suffix)).map(|(_, number)| *number))
    }

    /// The service that stands for a host in a namespace: a Kubernetes Service, else the oldest.
    ///
    /// istiod: `push_context.go: initServiceRegistry` (`HostnameAndNamespace`).
    pub fn representative<'s>(
        &self,
        services: &'s [Arc<Service>],
        host: &str,
        namespace: &str,
    ) -> Option<(u32, &'s Arc<Service>)> {
        let mut first = None;
        for &number in self.of_host(host) {
            let Some(service) = services.get(number as usize) else { continue };
            if service.namespace != namespace {
                continue;
            }
            if service.registry == Registry::Kubernetes {
                return Some((number, service));
            }
            first.get_or_insert((number, service));
        }
        first
    }
}

fn list(list: Option<&Vec<u32>>) -> &[u32] {
    list.map_or(&[], Vec::as_slice)
}

fn push(list: &mut Vec<u32>, number: u32) {
    if list.last() != Some(&number) {
        list.push(number);
    }
}

fn backwards(text: &str) -> Box<str> {
    text.chars().rev().collect::<String>().into()
}
