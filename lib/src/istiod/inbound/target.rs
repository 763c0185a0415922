//! Which ports of which services lead to a workload?
//!
//! Invariant: the result is ordered by the services' creation and host, and what comes first decides a port's protocol.
//! istiod: `serviceregistry/kube/controller/controller.go: GetProxyServiceTargets, GetProxyServiceTargetsByPod,
//! GetProxyServiceTargetsFromMetadata`; `serviceentry/controller.go: GetProxyServiceTargets`; `context.go:
//! SetServiceTargets`.

use std::net::IpAddr;
use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::SmolStr;

use crate::istiod::node::Node;
use crate::manifest::Spec;
use crate::manifest::schema::IntOrString;
use crate::manifest::schema::istio::WorkloadEntry;
use crate::manifest::schema::kubernetes::{self, ServiceSpec};
use crate::mesh::endpoint::{entry_labels, entry_port};
use crate::mesh::{
    Address, Config, Mesh, Protocol, Registry, Resolution, Service, ServicePort, Workload, selects,
};

/// A port of the workload, and the service port that leads to it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceTarget {
    /// The service.
    pub service: Arc<Service>,
    /// Its port.
    pub port: ServicePort,
    /// The port of the workload.
    pub target_port: u16,
}

/// The targets of a proxy's workload.
pub fn service_targets(mesh: &Mesh, node: &Node) -> Vec<ServiceTarget> {
    let mut out = kubernetes_targets(mesh, node);
    out.extend(service_entry_targets(mesh, node));
    out.sort_by(|a, b| {
        (&a.service.creation, &a.service.hostname).cmp(&(&b.service.creation, &b.service.hostname))
    });
    out
}

fn kubernetes_targets(mesh: &Mesh, node: &Node) -> Vec<ServiceTarget> {
    let Some(&ip) = node.ips.first() else { return Vec::new() };
    if mesh.features().k8s_select_workload_entries
        && let Some(entry) = workload_entry(mesh, node, ip)
    {
        return targets_of_entry(mesh, entry);
    }
    let Some(pod) = pod(mesh, node, ip) else {
        // Only the proxy's own word: nothing says what a port's name stands for, and istiod then takes port 0.
        return selected(mesh, &node.namespace, &node.labels, &|name, _| Some(name.parse().unwrap_or(0)));
    };
    let found = selected(mesh, &pod.namespace, &pod.labels, &|name, protocol| pod.named_port(name, protocol));
    let selects_pod = |service: &Service| is_selected(service, &pod.labels);
    if kubernetes_services(mesh, &pod.namespace).any(|service| selects_pod(service)) {
        return found;
    }
    // Services without selector, by their endpoints.
    kubernetes_services(mesh, node.metadata_namespace())
        .flat_map(|service| targets_by_address(mesh, service, ip))
        .collect()
}

/// The pod of a proxy: by name, else by address.
fn pod<'a>(mesh: &'a Mesh, node: &Node, ip: IpAddr) -> Option<&'a Workload> {
    mesh.workload_at(ip)
        .filter(|workload| workload.namespace == node.namespace)
        .or_else(|| mesh.workloads().iter().find(|w| w.namespace == node.namespace && w.name == node.name))
        .or_else(|| mesh.workload_at(ip))
}

fn kubernetes_services<'a>(mesh: &'a Mesh, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Service>> {
    mesh.services().iter().filter(move |s| s.registry == Registry::Kubernetes && s.namespace == namespace)
}

/// Whether a Service selects a workload; without selector it selects none.
fn is_selected(service: &Service, labels: &IndexMap<SmolStr, SmolStr>) -> bool {
    !service.selector.is_empty() && selects(&service.selector, labels)
}

/// A Service's ports as written.
fn written_ports<'a>(mesh: &'a Mesh, service: &Service) -> &'a [kubernetes::ServicePort] {
    let spec: Option<&ServiceSpec> =
        service.origin.resource().and_then(|id| match &mesh.manifests().get(id)?.spec {
            Spec::Service(spec) => Some(&**spec),
            _ => None,
        });
    spec.map_or(&[], |spec| &spec.ports)
}

/// The targets of the Services that select a workload.
fn selected(
    mesh: &Mesh,
    namespace: &str,
    labels: &IndexMap<SmolStr, SmolStr>,
    named_port: &dyn Fn(&str, &str) -> Option<u16>,
) -> Vec<ServiceTarget> {
    let mut out = Vec::new();
    for service in kubernetes_services(mesh, namespace).filter(|service| is_selected(service, labels)) {
        let mut seen: Vec<(u16, Protocol)> = Vec::new();
        for (port, written) in service.ports.iter().zip(written_ports(mesh, service)) {
            let target_port = match &written.target_port {
                Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
                Some(IntOrString::String(name)) => named_port(name, &written.protocol),
                None => Some(port.number),
            };
            let Some(target_port) = target_port else { continue };
            if !seen.contains(&(target_port, port.protocol)) {
                seen.push((target_port, port.protocol));
                out.push(ServiceTarget { service: Arc::clone(service), port: port.clone(), target_port });
            }
        }
    }
    out
}

/// The targets of a service that has an endpoint at an address.
fn targets_by_address(mesh: &Mesh, service: &Arc<Service>, ip: IpAddr) -> Vec<ServiceTarget> {
    mesh.endpoints(&service.hostname, &service.namespace)
        .iter()
        .filter(|endpoint| endpoint.address == Address::Ip(ip))
        .filter_map(|endpoint| {
            let port = service.ports.iter().find(|port| port.name == endpoint.port_name)?;
            Some(ServiceTarget {
                service: Arc::clone(service),
                port: port.clone(),
                target_port: endpoint.port,
            })
        })
        .collect()
}

fn service_entry_targets(mesh: &Mesh, node: &Node) -> Vec<ServiceTarget> {
    let namespace = node.metadata_namespace();
    let of_namespace =
        || mesh.services().iter().filter(|s| s.registry == Registry::External && s.namespace == *namespace);
    node.ips
        .iter()
        .flat_map(|ip| of_namespace().flat_map(|service| targets_by_address(mesh, service, *ip)))
        .collect()
}

type Entry = Arc<Config<WorkloadEntry>>;

/// The WorkloadEntry of a proxy. istiod: `workloadinstances/util.go: GetInstanceForProxy`.
fn workload_entry<'a>(mesh: &'a Mesh, node: &Node, ip: IpAddr) -> Option<&'a Entry> {
    let mut found: Vec<&Entry> = mesh
        .policies()
        .workload_entries
        .iter()
        .filter(|entry| entry.spec.address.parse() == Ok(ip) && !entry_labels(entry).is_empty())
        .collect();
    found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let in_namespace = |entry: &&&Entry| entry.namespace == node.namespace;
    let by_name = found.iter().find(|entry| in_namespace(entry) && entry.name == node.name);
    by_name.or_else(|| found.iter().find(in_namespace)).or_else(|| found.first()).copied()
}

/// The targets of the Services that select a WorkloadEntry. istiod: `controller.go: serviceTargetsFromWorkloadInstance`.
fn targets_of_entry(mesh: &Mesh, entry: &Entry) -> Vec<ServiceTarget> {
    let labels = entry_labels(entry);
    let mut out = Vec::new();
    let services = kubernetes_services(mesh, &entry.namespace)
        .filter(|service| is_selected(service, &labels) && service.resolution == Resolution::ClientSideLb);
    for service in services {
        for (port, written) in service.ports.iter().zip(written_ports(mesh, service)) {
            if port.protocol == Protocol::Udp {
                continue;
            }
            let Some(target_port) = entry_port(&entry.spec, written) else { continue };
            out.push(ServiceTarget { service: Arc::clone(service), port: port.clone(), target_port });
        }
    }
    out
}
