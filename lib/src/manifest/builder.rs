//! How do resources that were never text become a set?
//!
//! For programs that have their resources as values. Invariant: a resource is admitted as if it had been read: what
//! Istio's validation refuses takes no part, and of two with one name the later counts.

use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use super::{Admission, Kind, ManifestSet, Meta, Resource, Spec, Status, validate};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::origin::{Origin, ResourceId};

/// Resources that take part, by kind, namespace and name.
pub(super) type Names = FxHashMap<(Kind, SmolStr, SmolStr), u32>;

/// Collects typed resources into a [`ManifestSet`].
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use dryroute::manifest::schema::kubernetes::{ServicePort, ServiceSpec};
/// use dryroute::manifest::{ManifestBuilder, Meta, Spec};
/// use dryroute::mesh::{Mesh, MeshOptions};
///
/// let mut builder = ManifestBuilder::new();
/// let port = ServicePort { name: "http".into(), port: 80, ..ServicePort::default() };
/// builder.add(
///     Meta { name: "web".into(), namespace: "shop".into(), ..Meta::default() },
///     Spec::Service(Arc::new(ServiceSpec {
///         cluster_ip: "10.96.0.1".into(),
///         ports: vec![port],
///         ..ServiceSpec::default()
///     })),
/// );
/// let mesh = Mesh::new(builder.build(), MeshOptions::default());
/// assert_eq!(mesh.services()[0].hostname, "web.shop.svc.cluster.local");
/// ```
#[derive(Debug, Default)]
pub struct ManifestBuilder {
    set: ManifestSet,
    names: Names,
}

impl ManifestBuilder {
    /// A builder without resources.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a resource of the kind that `spec` belongs to, and returns its number.
    pub fn add(&mut self, meta: Meta, spec: Spec) -> ResourceId {
        self.add_with_status(meta, spec, Status::None)
    }

    /// Adds a resource with its status, such as the addresses of a pod.
    pub fn add_with_status(&mut self, meta: Meta, spec: Spec, status: Status) -> ResourceId {
        let resource = resource(self.set.next_id(), meta, spec, status);
        let verdict = Admission::Validate.verdict(&resource);
        self.set.admit(resource, verdict, &mut self.names)
    }

    /// The set of all resources.
    pub fn build(self) -> ManifestSet {
        self.set
    }
}

/// A resource that was never text.
fn resource(id: ResourceId, meta: Meta, spec: Spec, status: Status) -> Resource {
    let kind = spec.kind();
    let api_version = match kind.group() {
        "" => SmolStr::new_static("v1"),
        group => smol_str::format_smolstr!("{group}/v1"),
    };
    Resource { id, kind, api_version, meta, spec, status }
}

impl ManifestSet {
    /// Takes in, at the end, a resource that the cluster makes of the one numbered `from`, at that one's place.
    pub(crate) fn derive(&mut self, from: ResourceId, meta: Meta, spec: Spec) {
        if let Some(place) = self.places.get(from.0 as usize).cloned() {
            self.places.push(place);
        }
        // Nobody wrote it, so it stands beside whatever has its name.
        self.admit(resource(self.next_id(), meta, spec, Status::None), Vec::new(), &mut Names::default());
        self.derived += 1;
    }

    /// The number of the next resource.
    fn next_id(&self) -> ResourceId {
        ResourceId(u32::try_from(self.resources.len()).unwrap_or(u32::MAX))
    }

    /// Takes in the resource of the next number, with what validation says about it.
    pub(super) fn admit(
        &mut self,
        resource: Resource,
        verdict: Vec<Diagnostic>,
        names: &mut Names,
    ) -> ResourceId {
        let ResourceId(id) = resource.id;
        let rejected = validate::refuses(&verdict);
        self.diagnostics.extend(verdict);
        self.active.push(!rejected);
        let key = (resource.kind, resource.meta.namespace.clone(), resource.meta.name.clone());
        if !rejected && let Some(earlier) = names.insert(key, id) {
            if let Some(flag) = self.active.get_mut(earlier as usize) {
                *flag = false;
            }
            let name = |id| Place::Origin(Origin::field(ResourceId(id), "metadata.name"));
            let message =
                format!("{} {} is declared twice; the later one counts", resource.kind, resource.full_name());
            self.diagnostics.push(
                Diagnostic::new(Code::DuplicateResource, message)
                    .at(name(id), "declared again here")
                    .at(name(earlier), "first declared here"),
            );
        }
        self.resources.push(resource);
        ResourceId(id)
    }
}
