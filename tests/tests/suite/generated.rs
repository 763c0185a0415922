//! What istiod makes of other resources, as text that two meshes can be compared by.

use dryroute::mesh::gateway::Server;
use dryroute::mesh::{Gateway, Mesh, VirtualService};

/// What counts of a Gateway: all but where it was written.
fn gateway(gateway: &Gateway) -> String {
    let server = |server: &Server| {
        let Server { number, port_name, protocol_name, protocol, bind, hosts, tls, .. } = server;
        format!("{number} {port_name} {protocol_name} {protocol:?} {bind:?} {hosts:?} {tls:#?}")
    };
    let servers: Vec<String> = gateway.servers.iter().map(|s| server(s)).collect();
    format!("{} {:?} managed: {} {}", gateway.full_name, gateway.selector, gateway.managed, servers.join(" "))
}

/// What counts of a VirtualService: all but where it was written.
fn virtual_service(vs: &VirtualService) -> String {
    let http: Vec<_> = vs.http.iter().map(|rule| &rule.route).collect();
    let tls: Vec<_> = vs.tls.iter().map(|rule| &rule.route).collect();
    let tcp: Vec<_> = vs.tcp.iter().map(|rule| &rule.route).collect();
    format!(
        "{}/{} {:?} {:?} {:?} {} {http:#?} {tls:#?} {tcp:#?}",
        vs.namespace, vs.name, vs.hosts, vs.gateways, vs.generator, vs.from_tls_route
    )
}

/// The Gateways and VirtualServices of a mesh, in an order of their own.
pub(crate) fn describe(mesh: &Mesh) -> Vec<String> {
    let gateways = mesh.gateways().iter().map(|made| gateway(made));
    let mut out: Vec<String> =
        gateways.chain(mesh.virtual_services().iter().map(|vs| virtual_service(vs))).collect();
    out.sort();
    out
}
