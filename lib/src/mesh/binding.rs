//! Which VirtualServices name gateways that are not there, or hosts that their gateways do not have?
//!
//! Istio says nothing in either case: the VirtualService just does not apply. Invariant: only what no proxy could ever
//! follow is reported; what depends on a proxy is not looked at.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smol_str::{SmolStr, format_smolstr};

use super::gateway::{Gateway, without_namespace};
use super::virtual_service::{MESH_GATEWAY, VirtualService};
use super::{Generator, Policies, host};
use crate::diagnostic::{Code, Diagnostic, Place};

/// What there is to say about the gateways of all VirtualServices that users wrote.
pub(crate) fn diagnostics(
    virtual_services: &[Arc<VirtualService>],
    gateways: &[Arc<Gateway>],
    policies: &Policies,
) -> Vec<Diagnostic> {
    let by_name: FxHashMap<&str, &Gateway> =
        gateways.iter().map(|gateway| (gateway.full_name.as_str(), &**gateway)).collect();
    let mut out = Vec::new();
    for virtual_service in virtual_services.iter().filter(|vs| vs.generator == Generator::User) {
        for (index, name) in virtual_service.gateways.iter().enumerate() {
            if *name == MESH_GATEWAY {
                continue;
            }
            match by_name.get(name.as_str()) {
                None => out.push(missing(virtual_service, index, name, gateways, policies)),
                Some(gateway) => out.extend(uncovered(virtual_service, gateway)),
            }
        }
    }
    out
}

/// The gateway that was probably meant by a name that no Gateway has: one of the same name that has a host of the
/// VirtualService, else one of the same name, else one that has a host.
pub fn meant_gateway<'g>(
    virtual_service: &VirtualService,
    name: &str,
    gateways: &'g [Arc<Gateway>],
) -> Option<&'g Gateway> {
    let bare = without_namespace(name);
    let rank = |gateway: &Gateway| match (gateway.name == bare, shares_host(virtual_service, gateway)) {
        (true, true) => 3,
        (true, false) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    let mut best: Option<(u8, &Gateway)> = None;
    // What istiod makes of Gateway API resources takes no VirtualServices that users write.
    for gateway in gateways.iter().filter(|gateway| gateway.generator != Generator::GatewayApi) {
        let rank = rank(gateway);
        if rank > best.map_or(0, |(best, _)| best) {
            best = Some((rank, gateway));
        }
    }
    best.map(|(_, gateway)| gateway)
}

/// Whether a server of a Gateway has a host of a VirtualService, for VirtualServices of its namespace.
fn shares_host(virtual_service: &VirtualService, gateway: &Gateway) -> bool {
    let theirs: Vec<&str> = virtual_service.hosts.iter().map(SmolStr::as_str).collect();
    gateway.servers.iter().any(|server| {
        let own =
            host::names_for_namespace(server.hosts.iter().map(SmolStr::as_str), &virtual_service.namespace);
        !host::intersection(&own, &theirs).is_empty()
    })
}

fn missing(
    virtual_service: &VirtualService,
    index: usize,
    name: &str,
    gateways: &[Arc<Gateway>],
    policies: &Policies,
) -> Diagnostic {
    let field = format_smolstr!("spec.gateways[{index}]");
    let mut out = Diagnostic::new(
        Code::MissingGateway,
        format!(
            "VirtualService {}/{} names the gateway {name}, which does not exist",
            virtual_service.namespace, virtual_service.name
        ),
    )
    .field(field.clone())
    .at(Place::Origin(virtual_service.origin(field)), format!("means the Gateway {name}"));
    let kubernetes = policies
        .kubernetes_gateways
        .iter()
        .any(|gateway| name == format!("{}/{}", gateway.namespace, gateway.name));
    if kubernetes {
        return out.help("a Gateway of the Gateway API takes HTTPRoutes and their like, no VirtualServices");
    }
    if let Some(meant) = meant_gateway(virtual_service, name, gateways) {
        out = out
            .at(Place::Origin(meant.origin("metadata.name")), "this Gateway exists")
            .help(format!("did you mean \"{}\"?", meant.full_name));
    }
    out
}

fn uncovered(virtual_service: &VirtualService, gateway: &Gateway) -> Option<Diagnostic> {
    if gateway.servers.is_empty() || shares_host(virtual_service, gateway) {
        return None;
    }
    let elsewhere = gateway.servers.iter().any(|server| {
        server.hosts.iter().any(|own| {
            virtual_service.hosts.iter().any(|theirs| host::matches(without_namespace(own), theirs))
        })
    });
    let help = if elsewhere {
        format!(
            "the Gateway has the host, but not for VirtualServices of the namespace {}",
            virtual_service.namespace
        )
    } else {
        "add the host to a server of the Gateway, or bind to another".to_owned()
    };
    let mut out = Diagnostic::new(
        Code::HostNotServed,
        format!(
            "no host of VirtualService {}/{} is served by its gateway {}",
            virtual_service.namespace, virtual_service.name, gateway.full_name
        ),
    )
    .field("spec.hosts")
    .at(Place::Origin(virtual_service.origin("spec.hosts")), "")
    .help(help);
    for server in &gateway.servers {
        out = out.at(Place::Origin(server.origin.part("hosts")), "these are served");
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::Diagnostic;
    use crate::manifest::Loader;
    use crate::mesh::{Mesh, MeshOptions};

    const GATEWAYS: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: istio-system}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [httpbin.org, shop/shop.org]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: k8s}
spec: {gatewayClassName: istio}
---
";

    fn said(gateway: &str, host: &str) -> Vec<Diagnostic> {
        let text = format!(
            "{GATEWAYS}apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: \
             [{host}]\n  gateways: [{gateway}]\n  http: [{{route: [{{destination: {{host: a}}}}]}}]\n"
        );
        let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), MeshOptions::default());
        let own = |d: &&Diagnostic| matches!(d.code.as_str(), "missing-gateway" | "host-not-served");
        mesh.diagnostics().filter(own).cloned().collect()
    }

    #[test]
    fn a_bare_name_means_the_own_namespace_and_the_one_that_was_meant_is_named() {
        let [said] = said("egress", "httpbin.org").try_into().unwrap();
        assert_eq!(said.code.as_str(), "missing-gateway");
        assert!(said.message.contains("default/egress"), "{}", said.message);
        assert_eq!(said.help.as_deref(), Some("did you mean \"istio-system/egress\"?"));
    }

    #[test]
    fn a_gateway_of_the_gateway_api_takes_no_virtual_services() {
        let [said] = said("k8s", "httpbin.org").try_into().unwrap();
        assert!(said.help.unwrap().contains("HTTPRoutes"));
    }

    #[test]
    fn hosts_that_no_server_has_are_named() {
        assert_eq!(said("istio-system/egress", "httpbin.org"), []);
        let [other] = said("istio-system/egress", "example.org").try_into().unwrap();
        assert_eq!(other.code.as_str(), "host-not-served");
        let [foreign] = said("istio-system/egress", "shop.org").try_into().unwrap();
        assert!(foreign.help.unwrap().contains("not for VirtualServices of the namespace default"));
    }
}
