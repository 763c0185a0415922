//! Which proxy is meant?
//!
//! `ns/pod`, `ns/deployment`, `pod.ns` or a bare name as istioctl takes them; `router:ns/key=value,…` for a gateway whose
//! workload is not among the manifests.

use dryroute::istiod::{Node, NodeType};
use dryroute::mesh::{Mesh, ProxyKind, Workload, selects};

use crate::error::CliError;

/// The proxy that a text names.
pub(crate) fn node(mesh: &Mesh, name: &str, namespace: &str) -> Result<Node, CliError> {
    if let Some(router) = name.strip_prefix("router:") {
        return gateway(mesh, router);
    }
    let workload = workload(mesh, name, namespace)?;
    Node::of(mesh, workload).ok_or_else(|| {
        CliError::new(format!("{} has no proxy: {}", workload.full_name(), workload.proxy_reason))
            .candidates(names(mesh.workloads().iter().filter(|w| Node::of(mesh, w).is_some())))
    })
}

/// A gateway by its labels: the first workload that has them all, or one that no manifest shows.
fn gateway(mesh: &Mesh, text: &str) -> Result<Node, CliError> {
    let bad = || {
        CliError::new(format!("the proxy `router:{text}` cannot be read"))
            .help("write it as router:istio-system/istio=ingressgateway,app=ingress")
    };
    let (namespace, labels) = text.split_once('/').ok_or_else(bad)?;
    let mut node = Node::sidecar(namespace, "router", Vec::new());
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

/// The workload that a text names.
fn workload<'m>(mesh: &'m Mesh, name: &str, namespace: &str) -> Result<&'m Workload, CliError> {
    let all = mesh.workloads();
    let (wanted_namespace, wanted) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, name),
    };
    let named = |w: &&Workload| w.name == wanted || of_deployment(w, wanted);
    let inside = |space: &str| all.iter().filter(named).filter(|w| w.namespace == space).collect::<Vec<_>>();
    let mut found = match wanted_namespace {
        Some(space) => inside(space),
        None => {
            let own = inside(namespace);
            if own.is_empty() { all.iter().filter(named).collect() } else { own }
        }
    };
    if found.is_empty()
        && let Some((pod, space)) = name.rsplit_once('.')
    {
        found = all.iter().filter(|w| w.namespace == space && w.name == pod).collect();
    }
    // The pods of one deployment are told the same: the first speaks for all.
    found.dedup_by(|a, b| a.namespace == b.namespace && of_deployment(a, wanted) && of_deployment(b, wanted));
    match found.as_slice() {
        [] => Err(CliError::new(format!("no workload is called `{name}`")).candidates(names(all.iter()))),
        [one] => Ok(one),
        [exact, ..] if exact.name == wanted && found.iter().all(|w| w.namespace == exact.namespace) => {
            Ok(exact)
        }
        _ => Err(CliError::new(format!("`{name}` is the name of more than one workload"))
            .candidates(names(found.iter().copied()))),
    }
}

/// Whether a pod's name is one that a deployment of that name gives: two more parts.
fn of_deployment(workload: &Workload, deployment: &str) -> bool {
    workload
        .name
        .strip_prefix(deployment)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(template, pod)| {
            (8..=10).contains(&template.len())
                && pod.len() == 5
                && template.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

fn names<'a>(workloads: impl Iterator<Item = &'a Workload>) -> Vec<String> {
    workloads.map(|w| w.full_name().to_string()).collect()
}
