//! A sidecar does not know the destination: is it hidden from it, or called otherwise?

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::name::shortest_name;
use super::{Station, trial};
use crate::istiod::gateway::near_miss::flow;
use crate::istiod::name::{ALLOW_ANY_DYNAMIC_DNS_CLUSTER, BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER};
use crate::mesh::destination::listed;
use crate::mesh::{Service, host};
use crate::origin::Origin;
use crate::trace::contract::{Hop, NearMiss, StepKind};

/// The most services that are looked at.
const MOST_SERVICES: usize = 4;

/// Whether a sidecar treats the destination as one that it does not know.
pub(super) fn is_passed(hop: &Hop) -> bool {
    hop.steps.iter().any(|step| match step.kind {
        StepKind::Cluster => {
            let own = [PASSTHROUGH_CLUSTER, BLACK_HOLE_CLUSTER, ALLOW_ANY_DYNAMIC_DNS_CLUSTER];
            own.contains(&step.name)
        }
        StepKind::VirtualHost => matches!(step.name.as_str(), "allow_any" | "block_all"),
        _ => false,
    })
}

pub(super) fn misses(station: &Station<'_>) -> Vec<NearMiss> {
    let asked = station.host().to_lowercase();
    let port = station.dialled().map_or(station.query.target.port, |dialled| dialled.port());
    let known = named(station, &asked);
    if known.is_empty() {
        return called_otherwise(station, &asked, port);
    }
    known.into_iter().take(MOST_SERVICES).filter_map(|service| kept_away(station, service, port)).collect()
}

/// The services that the host or the address stands for, whoever sees them.
fn named<'a>(station: &'a Station<'_>, asked: &str) -> Vec<&'a Service> {
    let mesh = station.mesh();
    if asked.parse::<std::net::IpAddr>().is_ok() {
        let at = station.dialled().and_then(|dialled| station.tracer.addresses().in_cluster(dialled.ip()));
        return at.into_iter().collect();
    }
    let mut out: Vec<&Service> = Vec::new();
    for name in names(station, asked) {
        let services: Vec<&Service> = mesh.services_of(&name).map(AsRef::as_ref).collect();
        // The cluster knows some that istiod does not.
        out.extend(mesh.cluster_service(&name).map(AsRef::as_ref).filter(|_| services.is_empty()));
        out.extend(services);
    }
    let wildcards = mesh.service_index().wildcards().iter();
    let wildcards = wildcards.filter_map(|number| mesh.services().get(*number as usize));
    out.extend(wildcards.map(AsRef::as_ref).filter(|service| host::subset_of(asked, &service.hostname)));
    out
}

/// The names that a host may stand for, as the pod's resolver completes it.
fn names(station: &Station<'_>, asked: &str) -> [SmolStr; 4] {
    let (namespace, domain) = (station.namespace(), station.mesh().cluster_domain());
    [
        asked.into(),
        format_smolstr!("{asked}.{namespace}.svc.{domain}"),
        format_smolstr!("{asked}.svc.{domain}"),
        format_smolstr!("{asked}.{domain}"),
    ]
}

/// What keeps a service away from the sidecar.
fn kept_away(station: &Station<'_>, service: &Service, port: u16) -> Option<NearMiss> {
    let resource = service.origin.resource()?;
    if !station.mesh().is_watched(&service.namespace) {
        return Some(station.unwatched(service));
    }
    if service.port(port).is_none() {
        let ports = listed(service.ports.iter().map(|port| port.number.to_smolstr()), "and");
        let origin = Origin::field(resource, "spec.ports");
        return Some(station.miss(origin, "dialled port", port.to_smolstr(), ports.into()));
    }
    if !service.export_to.is_visible_in(station.namespace()) {
        return Some(station.hidden(resource));
    }
    let scope = station.member.proxy.scope();
    if scope.service(&service.hostname).is_some_and(|seen| seen.port(port).is_some()) {
        return None;
    }
    let (sidecar, origin) = scope.sidecar.as_ref()?;
    let (index, egress) = sidecar
        .egress
        .iter()
        .enumerate()
        .find(|(_, egress)| egress.port.as_ref().is_none_or(|own| own.number == u32::from(port)))?;
    let owner = station.mesh().manifests().get(origin.resource()?)?;
    let own = owner.meta.namespace == service.namespace && service.namespace == *station.namespace();
    let entry = format_smolstr!("{}/{}", if own { "." } else { &service.namespace }, service.hostname);
    let written: SmolStr = egress.hosts.join(", ").into();
    let repair = flow(egress.hosts.iter().cloned().chain([entry.clone()]));
    let at = origin.element("spec.egress", index).part("hosts");
    Some(NearMiss {
        rule: Some(station.place(service.origin.clone())),
        repair: Some(repair),
        ..station.miss(at, "egress", entry, written)
    })
}

/// Services that the sidecar knows by a name that is nearly the one that was asked for.
fn called_otherwise(station: &Station<'_>, asked: &str, port: u16) -> Vec<NearMiss> {
    let scope = station.member.proxy.scope();
    let mesh = station.mesh();
    names(station, asked)
        .iter()
        .flat_map(|name| station.tracer.services_like(name).to_vec())
        .filter_map(|number| mesh.services().get(number as usize))
        .filter(|service| scope.service(&service.hostname).is_some_and(|seen| seen.port(port).is_some()))
        .take(MOST_SERVICES)
        .map(|service| (service, shortest_name(service, station.namespace())))
        .filter(|(_, name)| trial::is_known(station.tracer, station.query, name))
        .map(|(service, name)| NearMiss {
            help: Some(format!("ask for `{name}`")),
            ..station.miss(service.origin.clone(), "host", asked.into(), name)
        })
        .collect()
}
