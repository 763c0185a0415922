//! Which proxy is meant?
//!
//! `ns/pod`, `ns/deployment`, `pod.ns` or a bare name as istioctl takes them; `router:ns/key=value,…` for a gateway whose
//! workload is not among the manifests.

use std::net::{IpAddr, Ipv4Addr};

use dryroute::istiod::{Node, NodeType};
use dryroute::mesh::{Mesh, ProxyKind, Workload, selects};

use crate::error::CliError;

/// The proxy that a text names.
pub(crate) fn node(mesh: &Mesh, name: &str, namespace: &str) -> Result<Node, CliError> {
    if let Some(router) = name.strip_prefix("router:") {
        return gateway(mesh, router);
    }
    let (_, workload) = mesh.workload_named(name, namespace)?;
    Node::of(mesh, workload).ok_or_else(|| {
        CliError::new(format!("{} has no proxy: {}", workload.full_name(), workload.proxy_reason))
            .candidates(names(mesh.workloads().iter().filter(|w| Node::of(mesh, w).is_some())))
    })
}

/// Stands for the address of a proxy that no manifest shows: of a network set aside for benchmarks, so no real host has it.
///
/// With an address, and so with the Services that select it, istiod translates their ports as for any gateway.
const ASSUMED_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 19, 255, 254));

/// A gateway by its labels: the first workload that has them all, or one that no manifest shows.
fn gateway(mesh: &Mesh, text: &str) -> Result<Node, CliError> {
    let bad = || {
        CliError::new(format!("the proxy `router:{text}` cannot be read"))
            .help("write it as router:istio-system/istio=ingressgateway,app=ingress")
    };
    let (namespace, labels) = text.split_once('/').ok_or_else(bad)?;
    let mut node = Node::sidecar(namespace, "router", vec![ASSUMED_ADDRESS]);
    node.node_type = NodeType::Router;
    for label in labels.split(',') {
        let (key, value) = label.split_once('=').ok_or_else(bad)?;
        node.labels.insert(key.into(), value.into());
    }
    let known = mesh
        .workloads()
        .iter()
        .filter(|w| {
            w.namespace == namespace && w.proxy == ProxyKind::Gateway && selects(&node.labels, &w.labels)
        })
        .find_map(|w| Node::of(mesh, w));
    Ok(known.unwrap_or(node))
}

fn names<'a>(workloads: impl Iterator<Item = &'a Workload>) -> Vec<String> {
    workloads.map(|w| w.full_name().to_string()).collect()
}
