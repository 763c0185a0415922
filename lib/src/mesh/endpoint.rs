//! Which addresses are behind a service?
//!
//! istiod: `pilot/pkg/serviceregistry/kube/controller/endpointslice.go`, `serviceentry/conversion.go`.

use std::net::IpAddr;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::locality::{self, Nodes};
use super::policy::{Config, Configs, selects};
use super::workload::Workload;
use crate::manifest::schema::istio::{Resolution, ServiceEntry, WorkloadEntry};
use crate::manifest::schema::kubernetes::{EndpointSlice, Endpoints, ServicePort, ServiceSpec};
use crate::manifest::{Resource, schema};
use crate::origin::Origin;

/// An endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A name that the proxy resolves.
    Name(SmolStr),
    /// A Unix domain socket.
    Pipe(SmolStr),
}

/// Whether an endpoint may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Ready.
    Healthy,
    /// Not ready.
    Unhealthy,
    /// Shutting down but still serving.
    Draining,
    /// Shutting down: nothing is sent to it, and everything else that istiod knows of it counts.
    Terminating,
}

/// An endpoint of one port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Where.
    pub address: Address,
    /// The port; 0 for sockets.
    pub port: u16,
    /// The service port's name.
    pub port_name: SmolStr,
    /// The number of the port of the ServiceEntry that lists it; `None` for endpoints of Kubernetes' services.
    pub entry_port: Option<u16>,
    /// Labels; subsets are chosen by them.
    pub labels: IndexMap<SmolStr, SmolStr>,
    /// Whether it may be used.
    pub health: Health,
    /// Whether it speaks Istio's mutual TLS.
    pub istio_mutual: bool,
    /// The service account; may be empty.
    pub service_account: SmolStr,
    /// `region/zone/subzone`; may be empty.
    pub locality: SmolStr,
    /// Whether the input says where it runs.
    pub locality_known: bool,
    /// The cluster it runs in; empty for a name that a ServiceEntry only gives as its host.
    pub cluster: SmolStr,
    /// Its weight.
    pub weight: u32,
    /// Its network; may be empty.
    pub network: SmolStr,
    /// The node it runs on; may be empty.
    pub node_name: SmolStr,
    /// Whether no pod stands behind it, so that istiod knows of no node.
    pub without_node: bool,
    /// The namespace of its workload.
    pub namespace: SmolStr,
    /// The name that the cluster's DNS gives it in a headless service, where an EndpointSlice says so; may be empty.
    pub hostname: SmolStr,
    /// The workload, by its place in [`Mesh::workloads`](super::Mesh::workloads).
    pub workload: Option<u32>,
    /// Whether its existence or readiness is assumed.
    pub assumed: bool,
    /// Who made it.
    pub origin: Origin,
}

/// The name of the cluster whose resources are read. istiod: `pkg/env: CLUSTER_ID`.
const CLUSTER_ID: SmolStr = SmolStr::new_static("Kubernetes");

impl Endpoint {
    /// A gateway that stands for the endpoints of its network. istiod: `ep_filters.go: EndpointsByNetworkFilter`.
    pub(super) fn of_network_gateway(ip: IpAddr, port: u16, network: SmolStr, origin: Origin) -> Self {
        Self {
            address: Address::Ip(ip),
            port,
            port_name: SmolStr::default(),
            entry_port: None,
            labels: IndexMap::new(),
            health: Health::Healthy,
            istio_mutual: true,
            service_account: SmolStr::default(),
            locality: SmolStr::default(),
            locality_known: true,
            cluster: CLUSTER_ID,
            weight: 1,
            network,
            node_name: SmolStr::default(),
            without_node: true,
            namespace: SmolStr::default(),
            hostname: SmolStr::default(),
            workload: None,
            assumed: false,
            origin,
        }
    }

    /// The value of a label, those included that istiod adds for where it runs. istiod: `label.go: AugmentLabels`.
    pub fn label(&self, name: &str) -> Option<&str> {
        let added = locality::added(&self.locality, &self.cluster, &self.node_name);
        let added = added.into_iter().find(|(own, value)| own == name && !value.is_empty());
        let own = self.labels.get(name).map(SmolStr::as_str);
        if let Some((_, value)) = added {
            Some(value)
        } else if name == locality::NETWORK && own.is_none_or(str::is_empty) && !self.network.is_empty() {
            Some(self.network.as_str())
        } else {
            own
        }
    }

    /// Whether it belongs to a service's port where istiod looks itself: by number if a ServiceEntry lists it, else by name.
    /// In what it tells proxies of endpoints alone, the name decides. istiod: `endpointshards.go: CopyEndpoints`.
    pub fn is_of_port(&self, port: &super::ServicePort) -> bool {
        self.entry_port.map_or_else(|| self.port_name == port.name, |number| number == port.number)
    }

    /// Whether it has all of these labels.
    pub fn has_labels(&self, wanted: &IndexMap<SmolStr, SmolStr>) -> bool {
        wanted.iter().all(|(name, value)| self.label(name) == Some(value))
    }
}

/// Finds workloads for addresses and names.
pub(crate) struct Workloads<'a> {
    pub all: &'a [Workload],
    pub by_ip: &'a rustc_hash::FxHashMap<IpAddr, u32>,
    pub by_name: &'a rustc_hash::FxHashMap<(SmolStr, SmolStr), u32>,
    pub by_label: &'a Labelled,
    pub nodes: &'a Nodes,
}

/// Numbered things of a namespace by their labels.
#[derive(Debug, Default)]
pub(crate) struct Labelled {
    by_label: rustc_hash::FxHashMap<(SmolStr, SmolStr, SmolStr), Vec<u32>>,
}

impl Labelled {
    pub(crate) fn new<'a>(all: impl Iterator<Item = (&'a SmolStr, &'a IndexMap<SmolStr, SmolStr>)>) -> Self {
        let mut out = Self::default();
        for (number, (namespace, labels)) in (0_u32..).zip(all) {
            for (name, value) in labels {
                let key = (namespace.clone(), name.clone(), value.clone());
                out.by_label.entry(key).or_default().push(number);
            }
        }
        out
    }

    /// Those with the rarest of the labels; an empty selector has none.
    pub(crate) fn candidates(&self, namespace: &SmolStr, labels: &IndexMap<SmolStr, SmolStr>) -> &[u32] {
        labels
            .iter()
            .map(|(name, value)| {
                let key = (namespace.clone(), name.clone(), value.clone());
                self.by_label.get(&key).map_or(&[][..], Vec::as_slice)
            })
            .min_by_key(|list| list.len())
            .unwrap_or_default()
    }
}

impl Workloads<'_> {
    /// The workloads of a namespace that a selector chooses, with their numbers.
    fn selected<'s>(
        &'s self,
        namespace: &SmolStr,
        selector: &'s IndexMap<SmolStr, SmolStr>,
    ) -> impl Iterator<Item = (u32, &'s Workload)> {
        self.by_label
            .candidates(namespace, selector)
            .iter()
            .filter_map(|number| Some((*number, self.all.get(*number as usize)?)))
            .filter(|(_, workload)| selects(selector, &workload.labels))
    }

    fn find(&self, ip: IpAddr, namespace: &SmolStr, pod: Option<&SmolStr>) -> Option<u32> {
        pod.and_then(|p| self.by_name.get(&(namespace.clone(), p.clone())))
            .or_else(|| self.by_ip.get(&ip))
            .copied()
    }

    fn endpoint(
        &self,
        ip: IpAddr,
        port: u16,
        port_name: &SmolStr,
        workload: Option<u32>,
        namespace: &SmolStr,
        origin: Origin,
    ) -> Endpoint {
        let known = workload.and_then(|w| self.all.get(w as usize));
        Endpoint {
            address: Address::Ip(ip),
            port,
            port_name: port_name.clone(),
            entry_port: None,
            labels: known.map(|w| w.labels.clone()).unwrap_or_default(),
            health: Health::Healthy,
            istio_mutual: known.is_some_and(|w| w.tls_mode_istio),
            service_account: known.map(|w| w.service_account.clone()).unwrap_or_default(),
            locality: known.map(|w| w.locality.clone()).unwrap_or_default(),
            locality_known: known.is_none_or(|w| w.locality_known),
            cluster: CLUSTER_ID,
            weight: 1,
            network: known.map(|w| w.network.clone()).unwrap_or_default(),
            node_name: known.map(|w| w.node_name.clone()).unwrap_or_default(),
            without_node: false,
            namespace: namespace.clone(),
            hostname: SmolStr::default(),
            workload,
            assumed: known.is_some_and(|w| w.assumed),
            origin,
        }
    }
}

/// Endpoints of an EndpointSlice.
pub(crate) fn from_slice(
    resource: &Resource,
    slice: &EndpointSlice,
    workloads: &Workloads<'_>,
) -> Vec<Endpoint> {
    let namespace = &resource.meta.namespace;
    let mut out = Vec::new();
    if slice.address_type == "FQDN" {
        return out;
    }
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let health = if conditions.ready.unwrap_or(true) {
            Health::Healthy
        } else if conditions.terminating.unwrap_or(true) {
            Health::Terminating
        } else {
            Health::Unhealthy
        };
        for address in &endpoint.addresses {
            let Ok(ip) = address.parse::<IpAddr>() else { continue };
            let pod = endpoint.target_ref.as_ref().filter(|r| r.kind == "Pod").map(|r| &r.name);
            let workload = workloads.find(ip, namespace, pod);
            for port in &slice.ports {
                let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()) else { continue };
                let name = port.name.clone().unwrap_or_default();
                let mut made = workloads.endpoint(
                    ip,
                    number,
                    &name,
                    workload,
                    namespace,
                    resource.origin(format_smolstr!("endpoints[{i}]")),
                );
                made.health = health;
                made.assumed = false;
                made.hostname = endpoint.hostname.clone().unwrap_or_default();
                made.without_node = workload.is_none() && pod.is_none();
                if made.node_name.is_empty() && !made.without_node {
                    made.node_name = endpoint.node_name.clone().unwrap_or_default();
                }
                if workload.is_none() && pod.is_some() {
                    // The pod is not among the manifests, but its node is named.
                    (made.locality, made.locality_known) =
                        workloads.nodes.locality(&made.labels, &made.node_name);
                }
                out.push(made);
            }
        }
    }
    out
}

/// Endpoints of an Endpoints object.
pub(crate) fn from_endpoints(
    resource: &Resource,
    endpoints: &Endpoints,
    workloads: &Workloads<'_>,
) -> Vec<Endpoint> {
    let namespace = &resource.meta.namespace;
    let mut out = Vec::new();
    for (i, subset) in endpoints.subsets.iter().enumerate() {
        let ready = subset.addresses.iter().map(|a| (a, Health::Healthy));
        let waiting = subset.not_ready_addresses.iter().map(|a| (a, Health::Unhealthy));
        for (address, health) in ready.chain(waiting) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
            let pod = address.target_ref.as_ref().filter(|r| r.kind == "Pod").map(|r| &r.name);
            let workload = workloads.find(ip, namespace, pod);
            for port in &subset.ports {
                let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()) else { continue };
                let name = port.name.clone().unwrap_or_default();
                let mut made = workloads.endpoint(
                    ip,
                    number,
                    &name,
                    workload,
                    namespace,
                    resource.origin(format_smolstr!("subsets[{i}]")),
                );
                made.health = health;
                made.assumed = false;
                made.without_node = workload.is_none() && pod.is_none();
                made.hostname = address.hostname.clone();
                out.push(made);
            }
        }
    }
    out
}

/// Endpoints that Kubernetes would make from the workloads that a Service selects.
pub(crate) fn from_selector(
    resource: &Resource,
    spec: &ServiceSpec,
    workloads: &Workloads<'_>,
) -> Vec<Endpoint> {
    let namespace = &resource.meta.namespace;
    let mut out = Vec::new();
    if spec.selector.is_empty() {
        return out;
    }
    for (index, workload) in workloads.selected(namespace, &spec.selector) {
        let ports = spec.ports.iter().filter(|port| port.protocol != "UDP");
        for (ip, port) in
            ips_for(spec, workload).into_iter().flat_map(|ip| ports.clone().map(move |port| (ip, port)))
        {
            let number = match &port.target_port {
                Some(schema::IntOrString::Int(i)) => u16::try_from(*i).ok(),
                Some(schema::IntOrString::String(name)) => workload.named_port(name, &port.protocol),
                None => u16::try_from(port.port).ok(),
            };
            let Some(number) = number else { continue };
            let mut made =
                workloads.endpoint(ip, number, &port.name, Some(index), namespace, workload.origin.clone());
            made.assumed = true;
            if !workload.ready && !spec.publish_not_ready_addresses {
                made.health = Health::Unhealthy;
            }
            out.push(made);
        }
    }
    out
}

/// The addresses of a workload that a Service's endpoints have: the first of each of the Service's address families.
fn ips_for(spec: &ServiceSpec, workload: &Workload) -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> = spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    if own.is_empty() {
        own.extend(spec.cluster_ip.parse::<IpAddr>());
    }
    let of_family = |own: &IpAddr| workload.ips.iter().find(|ip| ip.is_ipv6() == own.is_ipv6()).copied();
    let found: Vec<IpAddr> = own.iter().filter_map(of_family).collect();
    // A Service without an address of its own says nothing of families: its pods' first address counts.
    if found.is_empty() { workload.ips.first().copied().into_iter().collect() } else { found }
}

/// Endpoints that a Service has from WorkloadEntries.
pub(crate) fn from_workload_entries(
    namespace: &SmolStr,
    spec: &ServiceSpec,
    entries: &Configs<WorkloadEntry>,
) -> Vec<Endpoint> {
    let mut out = Vec::new();
    // A headless Service has none of them. istiod: `controller.go: collectWorkloadInstanceEndpoints`.
    if spec.selector.is_empty() || spec.cluster_ip == "None" {
        return out;
    }
    for entry in entries.in_namespace(namespace) {
        let labels = entry_labels(entry);
        if !selects(&spec.selector, &labels) || entry.spec.address.parse::<IpAddr>().is_err() {
            continue;
        }
        for port in &spec.ports {
            let Some(number) = entry_port(&entry.spec, port) else { continue };
            out.extend(from_entry(
                &entry.spec,
                &labels,
                number,
                &port.name,
                namespace,
                entry.origin("spec.address"),
            ));
        }
    }
    out
}

/// The port of a WorkloadEntry that a Service's port leads to: a name has to be in the entry's list, where a number can be
/// replaced under the name of the Service's port. istiod: `controller.go: serviceInstanceFromWorkloadInstance`; `util.go:
/// findServiceTargetPort`.
pub(crate) fn entry_port(entry: &WorkloadEntry, port: &ServicePort) -> Option<u16> {
    let mapped = |name: &SmolStr| entry.ports.get(name).copied().filter(|number| *number > 0);
    let number = match &port.target_port {
        Some(schema::IntOrString::String(name)) => mapped(name),
        Some(schema::IntOrString::Int(number)) => mapped(&port.name).or_else(|| u32::try_from(*number).ok()),
        None => mapped(&port.name).or(Some(port.port)),
    };
    u16::try_from(number?).ok()
}

/// Labels of a WorkloadEntry: those of its specification, overlaid by its metadata's.
pub(crate) fn entry_labels(entry: &Config<WorkloadEntry>) -> IndexMap<SmolStr, SmolStr> {
    let mut labels = entry.spec.labels.clone();
    labels.extend(entry.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
    labels
}

fn from_entry(
    entry: &WorkloadEntry,
    labels: &IndexMap<SmolStr, SmolStr>,
    port: u16,
    port_name: &SmolStr,
    namespace: &SmolStr,
    origin: Origin,
) -> Option<Endpoint> {
    let address = match entry.address.strip_prefix("unix://") {
        Some(path) => Address::Pipe(path.into()),
        None => match entry.address.parse() {
            Ok(ip) => Address::Ip(ip),
            Err(_) if entry.address.is_empty() => return None,
            Err(_) => Address::Name(entry.address.clone()),
        },
    };
    let port = if matches!(address, Address::Pipe(_)) { 0 } else { port };
    let istio_mutual = match labels.get("security.istio.io/tlsMode") {
        Some(mode) => mode == "istio",
        None => !entry.service_account.is_empty(),
    };
    Some(Endpoint {
        address,
        port,
        port_name: port_name.clone(),
        entry_port: None,
        labels: labels.clone(),
        health: Health::Healthy,
        istio_mutual,
        service_account: entry.service_account.clone(),
        locality: if entry.locality.is_empty() {
            locality::of_labels(labels)
        } else {
            entry.locality.clone()
        },
        locality_known: true,
        cluster: CLUSTER_ID,
        weight: entry.weight.max(1),
        network: entry.network.clone(),
        node_name: SmolStr::default(),
        without_node: true,
        namespace: namespace.clone(),
        hostname: SmolStr::default(),
        workload: None,
        assumed: false,
        origin,
    })
}

/// Endpoints of one host of a ServiceEntry.
pub(crate) fn from_service_entry(
    resource: &Resource,
    entry: &ServiceEntry,
    host: &SmolStr,
    entries: &Configs<WorkloadEntry>,
    workloads: &Workloads<'_>,
    select_pods: bool,
) -> Vec<Endpoint> {
    let namespace = &resource.meta.namespace;
    let mut out = Vec::new();
    for port in &entry.ports {
        let earlier = out.len();
        let number = if port.target_port > 0 { port.target_port } else { port.number };
        if let Some(selector) = &entry.workload_selector {
            for candidate in entries.in_namespace(namespace) {
                let labels = entry_labels(candidate);
                if selects(&selector.labels, &labels) {
                    let number = candidate.spec.ports.get(&port.name).copied().unwrap_or(number);
                    let number = u16::try_from(number).unwrap_or(0);
                    out.extend(from_entry(
                        &candidate.spec,
                        &labels,
                        number,
                        &port.name,
                        namespace,
                        candidate.origin("spec.address"),
                    ));
                }
            }
            let pods = select_pods.then(|| workloads.selected(namespace, &selector.labels));
            // istiod: `pod.go: onEvent`: pods that are not ready are no workloads.
            for (index, workload) in pods.into_iter().flatten().filter(|(_, workload)| workload.ready) {
                let Some(ip) = workload.ips.first().copied() else { continue };
                let number = u16::try_from(number).unwrap_or(0);
                let origin = workload.origin.clone();
                out.push(workloads.endpoint(ip, number, &port.name, Some(index), namespace, origin));
            }
        } else if entry.endpoints.is_empty() {
            if matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
                && !host.starts_with('*')
            {
                let written = WorkloadEntry { address: host.clone(), ..WorkloadEntry::default() };
                let number = u16::try_from(number).unwrap_or(0);
                let origin = resource.origin("spec.resolution");
                out.extend(from_entry(&written, &written.labels, number, &port.name, namespace, origin).map(
                    |mut e| {
                        e.istio_mutual = false;
                        e.cluster = SmolStr::default();
                        e
                    },
                ));
            }
        } else {
            for (i, written) in entry.endpoints.iter().enumerate() {
                let number = written.ports.get(&port.name).copied().unwrap_or(number);
                let number = u16::try_from(number).unwrap_or(0);
                let origin = resource.origin(format_smolstr!("spec.endpoints[{i}]"));
                out.extend(from_entry(written, &written.labels, number, &port.name, namespace, origin));
            }
        }
        for made in out.iter_mut().skip(earlier) {
            made.entry_port = u16::try_from(port.number).ok();
        }
    }
    out
}
