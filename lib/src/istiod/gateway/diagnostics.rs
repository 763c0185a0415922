//! Which servers of a gateway are not opened, and which listeners would Envoy refuse?
//!
//! Istio tells nobody: a server that loses its port is only logged, and a refused listener leaves the proxy with its
//! previous configuration.

use std::sync::Arc;

use super::merge::{SkipReason, Skipped};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::envoy::{ChainFault, chain_fault};
use crate::istiod::node::{Node, NodeType};
use crate::istiod::proxy::Proxy;
use crate::mesh::{Mesh, ProxyKind};

/// What there is to say about the servers of all gateway proxies among a mesh's workloads.
pub fn of_mesh(mesh: &Arc<Mesh>) -> Vec<Diagnostic> {
    let gateways = mesh.workloads().iter().filter(|workload| workload.proxy == ProxyKind::Gateway);
    gateways
        .filter_map(|workload| Node::of(mesh, workload))
        .flat_map(|node| diagnostics(&Proxy::new(Arc::clone(mesh), node)))
        .collect()
}

/// What there is to say about the servers of a gateway proxy; nothing about other proxies.
pub fn diagnostics(proxy: &Proxy) -> Vec<Diagnostic> {
    if proxy.node().node_type != NodeType::Router {
        return Vec::new();
    }
    let gateway = proxy.gateway();
    let mut out: Vec<Diagnostic> =
        gateway.merged.skipped.iter().map(|skipped| not_opened(proxy, skipped)).collect();
    for listener in gateway.listeners(proxy) {
        let Some(fault) = chain_fault(&listener.filter_chains) else { continue };
        let origin = |number: usize| Some(Place::Origin(listener.filter_chains.get(number)?.origin.clone()));
        let refused = |what: &str| {
            let message = format!("Envoy would refuse the listener {}: {what}", listener.name);
            Diagnostic::new(Code::RefusedByEnvoy, message)
        };
        out.push(match &fault {
            ChainFault::Overlap(first, second) => {
                let places = [*first, *second].into_iter().filter_map(origin);
                places
                    .fold(refused("two of its filter chains overlap"), |refused, at| {
                        refused.at(at, "makes one of them")
                    })
                    .help("give the servers, or the SNI hosts of the routes, names that differ")
            }
            ChainFault::PartialWildcard { chain, name } => {
                let refused =
                    refused(fault.reason()).help("a `*` has to be a first label of its own: `*.HOST`");
                match origin(*chain) {
                    Some(at) => refused.at(at, format!("makes a filter chain for `{name}`")),
                    None => refused,
                }
            }
        });
    }
    out
}

fn not_opened(proxy: &Proxy, skipped: &Skipped) -> Diagnostic {
    let node = proxy.node();
    let Skipped { gateway, server, port, reason, winner } = skipped;
    let mut out = Diagnostic::new(
        Code::ServerNotOpened,
        format!(
            "{}/{} does not open port {port} for the server {} of Gateway {}: {}",
            node.namespace,
            node.name,
            if server.port_name.is_empty() { "without a name" } else { &server.port_name },
            gateway.full_name,
            reason.as_str()
        ),
    )
    .at(Place::Origin(server.origin.clone()), "this server is left out");
    if let Some(winner) = winner {
        out = out.at(Place::Origin(winner.clone()), "this one was there before");
    }
    match reason {
        SkipReason::DuplicateHost | SkipReason::ProtocolConflict | SkipReason::DuplicatePortName => {
            out.help("Gateways are taken by age, then by name and namespace; the first wins")
        }
        SkipReason::NoServicePort | SkipReason::Privileged | SkipReason::ForeignNamespace => out,
    }
}
