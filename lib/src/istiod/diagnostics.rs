//! What would the proxies of a mesh make of what they are told, that nobody says?
//!
//! Destinations that do not exist, servers of gateways that are not opened, and listeners that Envoy would refuse: a proxy then keeps the listener it
//! had. Invariant: each finding is named once, however many proxies share it.

use std::sync::Arc;

use super::gateway;
use super::node::Node;
use super::proxy::Proxy;
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::mesh::{Mesh, ProxyKind, destination};

/// What there is to say about the proxies of all workloads.
pub fn of_mesh(mesh: &Arc<Mesh>) -> Vec<Diagnostic> {
    let mut out = destination::diagnostics(mesh);
    out.extend(gateway::diagnostics::of_mesh(mesh));
    // Only `tls` matches can give two chains of a sidecar the same conditions.
    if mesh.virtual_services().iter().all(|virtual_service| virtual_service.tls.is_empty()) {
        return out;
    }
    let sidecars = mesh.workloads().iter().filter(|workload| workload.proxy == ProxyKind::Sidecar);
    for node in sidecars.filter_map(|workload| Node::of(mesh, workload)) {
        let proxy = Proxy::new(Arc::clone(mesh), node);
        for listener in proxy.listeners() {
            let Some(reason) = &listener.refused else { continue };
            let message = format!("Envoy would refuse the listener {}: {reason}", listener.name);
            let found = Diagnostic::new(Code::RefusedByEnvoy, message)
                .at(Place::Origin(listener.origin.clone()), "this listener keeps what it was told before")
                .help("give every `tls` match of the host its own `sniHosts` or `destinationSubnets`");
            if !out.contains(&found) {
                out.push(found);
            }
        }
    }
    out
}
