//! Which VirtualServices does a gateway follow, and for which hosts of a server?
//!
//! Invariant: those that are private to the proxy's namespace come first, then those exported to it by name, then
//! public ones; in each group the oldest first. istiod: `push_context.go: VirtualServicesForGateway`;
//! `gateway.go: pickMatchingGatewayHosts, l4MultiMatch, l4SingleMatch`.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::mesh::gateway::Server;
use crate::mesh::{Generator, Mesh, VirtualService, host};

/// The VirtualServices that a proxy of `namespace` follows for a gateway (`namespace/name`), in order.
pub fn virtual_services_for_gateway<'m>(
    mesh: &'m Mesh,
    namespace: &str,
    gateway: &str,
) -> Vec<&'m Arc<VirtualService>> {
    let [mut private, mut exported, mut own, mut public] = [const { Vec::new() }; 4];
    for virtual_service in mesh.virtual_services_of(gateway) {
        if virtual_service.export_to.is_public() {
            // Routes of the proxy's own namespace come first: a consumer's before a producer's.
            let first =
                virtual_service.generator == Generator::GatewayApi && virtual_service.namespace == namespace;
            if first { own.push(virtual_service) } else { public.push(virtual_service) }
        } else if virtual_service.export_to.is_visible_in(namespace) {
            if virtual_service.namespace == namespace {
                private.push(virtual_service);
            } else {
                exported.push(virtual_service);
            }
        }
    }
    private.append(&mut exported);
    private.append(&mut own);
    private.append(&mut public);
    private
}

/// The hosts that a server and a VirtualService have in common, in lower case: of each pair that overlaps, the narrower.
pub fn common_hosts(server: &Server, virtual_service: &VirtualService) -> Vec<SmolStr> {
    let own = host::names_for_namespace(server.hosts.iter().map(SmolStr::as_str), &virtual_service.namespace);
    let theirs: Vec<&str> = virtual_service.hosts.iter().map(SmolStr::as_str).collect();
    host::intersection(&own, &theirs).into_iter().map(|host| host.to_lowercase().into()).collect()
}

/// Whether a server and a VirtualService have hosts in common, for connections that are no HTTP.
pub fn overlaps(server: &Server, virtual_service: &VirtualService) -> bool {
    server.hosts.iter().any(|own| {
        let own = match own.split_once('/') {
            Some((namespace, host)) if namespace == virtual_service.namespace => {
                host.split('/').next().unwrap_or(host)
            }
            Some(_) => return false,
            None => own.as_str(),
        };
        virtual_service.hosts.iter().any(|theirs| host::matches(own, theirs))
    })
}

/// Whether a match of a TCP or TLS rule can apply to a server: only port and gateways are looked at.
pub fn applies(server: &Server, gateway: &str, port: u32, gateways: &[SmolStr]) -> bool {
    (port == 0 || port == u32::from(server.number))
        && (gateways.is_empty() || gateways.iter().any(|named| named == gateway))
}
