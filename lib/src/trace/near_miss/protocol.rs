//! A sidecar passes bytes on where a rule is written for requests: what does the port say it speaks?

use smol_str::{SmolStr, format_smolstr};

use super::Station;
use crate::istiod::name::SubsetKey;
use crate::manifest::Spec;
use crate::mesh::{MESH_GATEWAY, Protocol, Service};
use crate::origin::{Origin, ResourceId};
use crate::trace::contract::{NearMiss, StepKind};

pub(super) fn misses(station: &Station<'_>) -> Vec<NearMiss> {
    // HTTP that the client itself wraps in TLS is bytes to every rule.
    if !station.query.target.scheme.is_http() || !station.is_plaintext() {
        return Vec::new();
    }
    let scope = station.member.proxy.scope();
    let clusters = station.hop.steps.iter().filter(|step| step.kind == StepKind::Cluster);
    let mut out = Vec::new();
    for key in clusters.filter_map(|step| SubsetKey::parse(&step.name)) {
        let Some(service) = scope.service(key.host) else { continue };
        let declared = service.port(key.port).is_some_and(|port| port.protocol == Protocol::Tcp);
        let Some(id) = service.origin().resource().filter(|_| declared) else { continue };
        let Some((field, repair)) = declaration(station, id, service.service(), key.port) else { continue };
        for egress in &scope.egress {
            let rules = egress.virtual_services_for(service.hostname()).into_iter();
            for rule in rules.filter(|rule| !rule.http.is_empty() && rule.is_bound_to(&MESH_GATEWAY)) {
                let miss = station.miss(
                    Origin::field(id, field.clone()),
                    "protocol",
                    SmolStr::new_static(Protocol::Http.as_str()),
                    SmolStr::new_static(Protocol::Tcp.as_str()),
                );
                let rule = Some(station.place(rule.origin("spec.http")));
                out.push(NearMiss { rule, repair: Some(repair.clone()), ..miss });
            }
        }
    }
    out
}

/// The field that says what a port speaks, and what to write there for HTTP.
/// istiod: `pkg/config/kube/conversion.go: ConvertProtocol`.
fn declaration(
    station: &Station<'_>,
    id: ResourceId,
    service: &Service,
    port: u16,
) -> Option<(SmolStr, SmolStr)> {
    let index = service.ports.iter().position(|own| own.number == port)?;
    let http = SmolStr::new_static("http");
    match &station.mesh().manifests().get(id)?.spec {
        Spec::Service(spec) => {
            let written = spec.ports.get(index)?;
            if written.app_protocol.is_some() {
                return Some((format_smolstr!("spec.ports[{index}].appProtocol"), http));
            }
            let field = format_smolstr!("spec.ports[{index}].name");
            Some((
                field,
                match written.name.split_once('-') {
                    Some((prefix, rest)) if prefix.eq_ignore_ascii_case("tcp") => {
                        format_smolstr!("http-{rest}")
                    }
                    None if written.name.eq_ignore_ascii_case("tcp") => http,
                    _ => return Some((format_smolstr!("spec.ports[{index}].appProtocol"), http)),
                },
            ))
        }
        Spec::ServiceEntry(_) => {
            Some((format_smolstr!("spec.ports[{index}].protocol"), SmolStr::new_static("HTTP")))
        }
        _ => None,
    }
}
