//! Which rule was meant for a request that a gateway does not know?
//!
//! The mistakes that leave a gateway without a route: a VirtualService that names another gateway than the one that takes the
//! request, a Gateway that does not name the host. Invariant: a repair is the whole value of one field, and with it the rule applies.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::contract::{Failed, NearMiss, Place};
use crate::envoy::request::{HttpRequest, Transport};
use crate::istiod::Proxy;
use crate::mesh::gateway::Gateway;
use crate::mesh::{MESH_GATEWAY, Mesh, VirtualService, host};
use crate::origin::Origin;

/// The host that a gateway is asked for: the request's, or TLS's server name.
pub(super) fn asked_host(transport: Transport, request: Option<&HttpRequest>) -> SmolStr {
    match (request, transport) {
        (Some(request), _) => {
            let authority = request.authority.as_str();
            let name = match authority.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
                _ => authority,
            };
            name.to_ascii_lowercase().into()
        }
        (None, Transport::Tls { sni, .. }) => sni,
        (None, Transport::Plaintext) => SmolStr::default(),
    }
}

/// The rules for `asked` that do not reach the gateway `proxy`, the likeliest first.
pub(super) fn at_gateway(proxy: &Proxy, asked: &str, hop: &SmolStr) -> Vec<NearMiss> {
    let mesh = proxy.mesh();
    let mut out: Vec<(u8, NearMiss)> = Vec::new();
    let gateways: &[Arc<Gateway>] = &proxy.gateway().merged.gateways;
    for rule in mesh.virtual_services() {
        if !rule.hosts.iter().any(|written| host::matches(written, asked)) {
            continue;
        }
        let mut bound = gateways.iter().filter(|gateway| rule.is_bound_to(&gateway.full_name)).peekable();
        if bound.peek().is_none() {
            out.extend(wrong_gateway(mesh, rule, gateways, asked, hop));
            continue;
        }
        for gateway in bound {
            if !names(gateway, &rule.namespace, asked) {
                let Some(server) = gateway.servers.first() else { continue };
                let written: Vec<&str> =
                    gateway.servers.iter().flat_map(|s| &s.hosts).map(SmolStr::as_str).collect();
                let origin = server.origin.part("hosts");
                out.push((2, miss(mesh, &origin, hop, "host", asked, &written.join(", "), None)));
            } else if !rule.export_to.is_visible_in(&proxy.node().namespace) {
                let origin = rule.origin("spec.exportTo");
                let namespace = &proxy.node().namespace;
                out.push((1, miss(mesh, &origin, hop, "namespace", namespace, "not exported to it", None)));
            }
        }
    }
    out.sort_by_key(|(rank, _)| *rank);
    out.into_iter().map(|(_, miss)| miss).take(8).collect()
}

/// A rule that names gateways, none of which is this one.
fn wrong_gateway(
    mesh: &Arc<Mesh>,
    rule: &VirtualService,
    gateways: &[Arc<Gateway>],
    asked: &str,
    hop: &SmolStr,
) -> Option<(u8, NearMiss)> {
    let fitting: Vec<&Arc<Gateway>> =
        gateways.iter().filter(|gateway| names(gateway, &rule.namespace, asked)).collect();
    let written: Vec<(usize, &SmolStr)> =
        rule.gateways.iter().enumerate().filter(|(_, name)| **name != MESH_GATEWAY).collect();
    // A gateway of the same name in another namespace was meant before any other.
    for (index, name) in &written {
        let short = name.rsplit('/').next().unwrap_or(name);
        if let Some(meant) = fitting.iter().find(|gateway| gateway.name == short) {
            let expected = meant.full_name.clone();
            let origin = rule.origin(format_smolstr!("spec.gateways[{index}]"));
            return Some((0, miss(mesh, &origin, hop, "gateway", &expected, name, Some(expected.clone()))));
        }
    }
    let exists = |name: &SmolStr| mesh.gateways().iter().any(|gateway| gateway.full_name == *name);
    let meant = fitting.first()?;
    let expected = meant.full_name.clone();
    match written.iter().find(|(_, name)| !exists(name)) {
        Some((index, name)) => {
            let origin = rule.origin(format_smolstr!("spec.gateways[{index}]"));
            Some((1, miss(mesh, &origin, hop, "gateway", &expected, name, Some(expected.clone()))))
        }
        None => {
            let got = rule.gateways.join(", ");
            Some((3, miss(mesh, &rule.origin("spec.gateways"), hop, "gateway", &expected, &got, None)))
        }
    }
}

/// Whether a Gateway names a host for VirtualServices of a namespace.
fn names(gateway: &Gateway, namespace: &str, asked: &str) -> bool {
    gateway.servers.iter().flat_map(|server| &server.hosts).any(|written| {
        let (owner, name) = written.split_once('/').unwrap_or(("*", written));
        (owner == "*" || owner == namespace) && host::matches(name, asked)
    })
}

fn miss(
    mesh: &Arc<Mesh>,
    origin: &Origin,
    hop: &SmolStr,
    condition: &'static str,
    expected: &str,
    got: &str,
    repair: Option<SmolStr>,
) -> NearMiss {
    let place = Place::new(origin.clone(), mesh.clone());
    NearMiss {
        resource: place.resource().unwrap_or_default().into(),
        field: place.field().unwrap_or_default().into(),
        hop: hop.clone(),
        origin: place,
        failed: Failed {
            condition: SmolStr::new_static(condition),
            expected: expected.into(),
            got: got.into(),
        },
        repair,
    }
}
