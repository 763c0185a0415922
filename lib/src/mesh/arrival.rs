//! Which conflicts does istiod settle by the order in which resources arrive?
//!
//! Two ServiceEntries of one namespace and age that have a host in common: istiod's order compares age, host and
//! namespace, and nothing else (`push_context.go: SortServicesByCreationTime`). Invariant: here the entry's name breaks
//! the tie, so that an answer does not depend on the order of files, and the tie is named.

use std::sync::Arc;

use smol_str::SmolStr;

use super::{Registry, Service};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::manifest::ManifestSet;

/// The name of the object that made a service.
pub(super) fn object_name<'m>(manifests: &'m ManifestSet, service: &Service) -> Option<&'m SmolStr> {
    Some(&manifests.get(service.origin.resource()?)?.meta.name)
}

/// Names each tie; `services` are in istiod's order.
pub(super) fn diagnostics(manifests: &ManifestSet, services: &[Arc<Service>]) -> Vec<Diagnostic> {
    let key = |service: &Service| (service.creation.clone(), service.name.clone(), service.namespace.clone());
    let mut out = Vec::new();
    for tied in services.chunk_by(|a, b| key(a) == key(b)) {
        let Some(first) = tied.first().filter(|first| first.registry == Registry::External) else { continue };
        let mut rivals: Vec<&Arc<Service>> = Vec::new();
        for service in tied {
            let resource = service.origin.resource();
            let known = rivals.iter().any(|rival| rival.origin.resource() == resource);
            if resource != first.origin.resource() && !known {
                rivals.push(service);
            }
        }
        if rivals.is_empty() {
            continue;
        }
        let winner = object_name(manifests, first).map(SmolStr::as_str).unwrap_or_default();
        let mut diagnostic = Diagnostic::new(
            Code::ArrivalOrder,
            format!(
                "{} ServiceEntries of one age in {} have the host {}, and istiod takes them as they arrive",
                rivals.len() + 1,
                first.namespace,
                first.hostname
            ),
        )
        .at(Place::Origin(first.origin.clone()), format!("`{winner}` is taken first here, by its name"))
        .help(
            "give the host to one ServiceEntry, or write `metadata.creationTimestamp` as the cluster has it",
        );
        for rival in rivals {
            diagnostic = diagnostic.at(Place::Origin(rival.origin.clone()), "has the host as well");
        }
        out.push(diagnostic);
    }
    out
}
