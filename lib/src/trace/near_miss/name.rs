//! The client finds no address for a name: which name was meant?

use rustc_hash::FxHashSet;
use smol_str::{SmolStr, format_smolstr};

use super::{Failed, near_miss, trial};
use crate::mesh::{Registry, Service};
use crate::trace::contract::{Hop, NearMiss, Trace};
use crate::trace::query::Query;
use crate::trace::tracer::Tracer;

/// The most names that are proposed.
const MOST_NAMES: usize = 3;

pub(super) fn misses(tracer: &Tracer, query: &Query, trace: &Trace, hop: &Hop) -> Vec<NearMiss> {
    let mesh = tracer.mesh();
    let asked = query.target.host.trim_end_matches('.');
    let namespace = trace.source.workload.split('/').next().unwrap_or_default();
    let domain = mesh.cluster_domain();
    let full = [
        format_smolstr!("{asked}.{namespace}.svc.{domain}"),
        format_smolstr!("{asked}.svc.{domain}"),
        asked.into(),
    ];
    let mut seen = FxHashSet::default();
    full.iter()
        .flat_map(|name| mesh.meant_services(name, namespace))
        .filter(|service| seen.insert(&service.hostname))
        .map(|service| (service, shortest_name(service, namespace)))
        .take(MOST_NAMES)
        .filter(|(_, name)| trial::is_known(tracer, query, name))
        .map(|(service, name)| {
            let failed =
                Failed { condition: SmolStr::new_static("name"), expected: asked.into(), got: name.clone() };
            let help = Some(format!("ask for `{name}`"));
            NearMiss { help, ..near_miss(mesh, service.origin.clone(), &hop.id, failed) }
        })
        .collect()
}

/// The shortest name by which a client in a namespace reaches a service.
pub(super) fn shortest_name(service: &Service, namespace: &str) -> SmolStr {
    if service.registry != Registry::Kubernetes {
        return service.hostname.clone();
    }
    if service.namespace == namespace {
        return service.name.clone();
    }
    format_smolstr!("{}.{}", service.name, service.namespace)
}
