//! What of that which takes part is written and not translated?
//!
//! Invariant: such a field is never passed over in silence. Where it could change what a trace says, the hop rests on the
//! named assumption that it does not.

use smol_str::{SmolStr, format_smolstr};

use super::Walk;
use crate::manifest::{Kind, Resource, Spec, coverage};
use crate::origin::{Origin, ResourceId};

impl Walk<'_> {
    /// Names what the resource at `origin` holds that is not translated and could matter there; the assumptions' ids.
    pub(super) fn assume_untranslated(&mut self, origin: &Origin) -> Vec<SmolStr> {
        let Origin::Field { resource, path } = origin else { return Vec::new() };
        let mesh = self.mesh;
        coverage::not_yet(mesh.manifests(), *resource)
            // What a resource of another kind does is unknown where it takes part, not assumed.
            .filter(|field| !field.is_empty() && is_beside(field, path))
            .map(|field| self.assume_nothing_changes(*resource, field))
            .collect()
    }

    /// Lets the last hop rest on what is not translated of the policies for a cluster.
    pub(super) fn rest_on_policies(&mut self, applied: &[Origin]) {
        for origin in applied {
            let ids = self.assume_untranslated(origin);
            self.rest_on_ids(ids);
        }
        for text in self.missing_authorities(applied) {
            self.rest_on(text);
        }
    }

    /// The ConfigMaps with authorities that BackendTLSPolicies name and no manifest shows: istiod then has none.
    fn missing_authorities(&self, applied: &[Origin]) -> Vec<String> {
        let manifests = self.mesh.manifests();
        let policies = applied.iter().filter_map(|origin| manifests.get(origin.resource()?));
        let mut out = Vec::new();
        for resource in policies {
            let Spec::BackendTlsPolicy(policy) = &resource.spec else { continue };
            let Some(validation) = &policy.validation else { continue };
            let Some(reference) = validation.ca_certificate_refs.first() else { continue };
            let namespace = &resource.meta.namespace;
            let is_it = |other: &Resource| {
                other.kind == Kind::ConfigMap
                    && other.meta.name == reference.name
                    && other.meta.namespace == *namespace
            };
            if !manifests.resources().any(is_it) {
                let name = &reference.name;
                out.push(format!("there is no ConfigMap {namespace}/{name}, as no manifest shows it"));
            }
        }
        out
    }

    /// Names what the mesh configuration holds that is not translated and could matter anywhere.
    pub(super) fn assume_untranslated_mesh_config(&mut self) -> Vec<SmolStr> {
        let written = &self.mesh.config().written;
        let fields = [
            ("MeshConfig zoneAwareLbSetting", written.zone_aware_lb_setting.is_some()),
            ("ConfigMap istio data.meshNetworks", self.mesh.network_gateways().has_mesh_networks()),
        ];
        let fields = fields.into_iter().filter_map(|(field, is_written)| is_written.then_some(field));
        let untranslated = fields.map(|field| format!("{field} is not translated: taken to change nothing"));
        let presumed = self.mesh.presumed_watched().iter().map(|namespace| {
            format!("discoverySelectors select the namespace {namespace}, whose labels are not written")
        });
        let assumed: Vec<String> = untranslated.chain(presumed).collect();
        assumed.into_iter().map(|text| self.assume(text)).collect()
    }

    fn assume_nothing_changes(&mut self, resource: ResourceId, field: &str) -> SmolStr {
        let place = self.place(&Origin::field(resource, field));
        let line =
            place.location().map(|at| format_smolstr!(" ({}:{})", at.file, at.line)).unwrap_or_default();
        self.assume(format!("{place}{line} is not translated: taken to change nothing here"))
    }
}

/// Whether a field can matter where `path` decided: not when both lie in different elements of one list.
fn is_beside(field: &str, path: &str) -> bool {
    let differing = field.split('.').zip(path.split('.')).find(|(one, other)| one != other);
    differing.is_none_or(|(one, other)| {
        let list = |part: &str| part.split_once('[').map(|(name, _)| name.to_owned());
        list(one).is_none() || list(one) != list(other)
    })
}

#[cfg(test)]
mod tests {
    use super::is_beside;

    #[test]
    fn fields_of_another_element_of_a_list_do_not_matter() {
        assert!(is_beside("spec.servers[0].tls.caCrl", "spec.servers[0]"));
        assert!(is_beside("spec.servers[0].tls.caCrl", "spec.servers"));
        assert!(!is_beside("spec.servers[0].tls.caCrl", "spec.servers[1].hosts"));
        assert!(is_beside("spec.trafficPolicy.tunnel", "spec.subsets[0]"));
    }
}
