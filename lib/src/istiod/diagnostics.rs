//! What would the proxies of a mesh make of what they are told, that nobody says?
//!
//! Destinations that do not exist, servers of gateways that are not opened, listeners and routes that Envoy would refuse: a
//! proxy then keeps what it had. Invariant: each finding is named once, however many proxies share it.

use std::sync::Arc;

use super::gateway;
use super::node::Node;
use super::proxy::Proxy;
use super::route;
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::envoy::{ChainFault, chain_fault, is_partial_wildcard};
use crate::mesh::{Mesh, ProxyKind, destination};

/// What there is to say about the proxies of all workloads.
pub fn of_mesh(mesh: &Arc<Mesh>) -> Vec<Diagnostic> {
    let mut out = destination::diagnostics(mesh);
    out.extend(gateway::diagnostics::of_mesh(mesh));
    out.extend(route::refused_rules(mesh).iter().map(|(reason, origin)| {
        let message = format!("Envoy would refuse every route configuration with this rule: {reason}");
        Diagnostic::new(Code::RefusedByEnvoy, message).at(
            Place::Origin(origin.clone()),
            "proxies keep the routes that they were told before, for all hosts",
        )
    }));
    // Only `tls` matches can give two chains of a sidecar the same conditions; such a match, or a service that is known by
    // its SNI alone, can have a name that Envoy does not take.
    let has_tls = mesh.virtual_services().iter().any(|virtual_service| !virtual_service.tls.is_empty());
    if !has_tls && !mesh.services().iter().any(|service| is_partial_wildcard(&service.hostname)) {
        return out;
    }
    let sidecars = mesh.workloads().iter().filter(|workload| workload.proxy == ProxyKind::Sidecar);
    for node in sidecars.filter_map(|workload| Node::of(mesh, workload)) {
        let proxy = Proxy::new(Arc::clone(mesh), node);
        for listener in proxy.listeners() {
            let Some(reason) = &listener.refused else { continue };
            let message = format!("Envoy would refuse the listener {}: {reason}", listener.name);
            let (origin, help) = match chain_fault(&listener.filter_chains) {
                Some(ChainFault::PartialWildcard { chain, .. }) => {
                    let chain = listener.filter_chains.get(chain);
                    let origin = chain.map_or(&listener.origin, |chain| &chain.origin);
                    (origin, "a `*` in an SNI host has to be a first label of its own: `*.HOST`")
                }
                _ => (
                    &listener.origin,
                    "give every `tls` match of the host its own `sniHosts` or `destinationSubnets`",
                ),
            };
            let found = Diagnostic::new(Code::RefusedByEnvoy, message)
                .at(Place::Origin(origin.clone()), "this listener keeps what it was told before")
                .help(help);
            if !out.contains(&found) {
                out.push(found);
            }
        }
    }
    out
}
