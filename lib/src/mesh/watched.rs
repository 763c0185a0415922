//! Which namespaces does istiod watch?
//!
//! `discoverySelectors` choose namespaces by their labels; of the others istiod sees nothing, of whatever kind, while the
//! cluster's DNS and network go on serving them. Invariant: without selectors every namespace is watched.
//! istiod: `pkg/kube/namespace/filter.go: discoveryNamespacesFilter`.

use indexmap::IndexMap;
use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use super::policy::selector_matches;
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::manifest::schema::kubernetes::Selector;
use crate::manifest::{Kind, ManifestSet, Resource};
use crate::origin::Origin;

/// The namespaces that istiod watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Those that it does not.
    unseen: FxHashSet<SmolStr>,
    /// Those whose labels nobody wrote and the answer depends on; taken to be watched.
    presumed: Vec<SmolStr>,
}

impl Watched {
    pub(super) fn new(
        selectors: &[Selector],
        namespaces: &IndexMap<SmolStr, IndexMap<SmolStr, SmolStr>>,
        manifests: &ManifestSet,
    ) -> Self {
        let mut out = Self::default();
        if selectors.is_empty() {
            return out;
        }
        let written: FxHashSet<&str> = manifests
            .resources()
            .filter(|resource| resource.kind == Kind::Namespace)
            .map(|resource| resource.meta.name.as_str())
            .collect();
        let only_names = selectors.iter().all(is_of_names);
        for (name, labels) in namespaces {
            let (mut chosen, mut chosen_by_name) = (false, false);
            for selector in selectors {
                // One that is not valid switches all of them off.
                let Some(matches) = selector_matches(selector, labels) else { return Self::default() };
                chosen |= matches;
                chosen_by_name |= matches && is_of_names(selector);
            }
            if chosen_by_name || (chosen && written.contains(name.as_str())) {
                continue;
            }
            if only_names || written.contains(name.as_str()) {
                out.unseen.insert(name.clone());
            } else {
                out.presumed.push(name.clone());
            }
        }
        out
    }

    /// Whether istiod sees what is in a namespace.
    pub(crate) fn has(&self, namespace: &str) -> bool {
        !self.unseen.contains(namespace)
    }

    /// Whether istiod sees a resource; those of no namespace always.
    pub(super) fn sees(&self, resource: &Resource) -> bool {
        !resource.kind.is_namespaced() || self.has(&resource.meta.namespace)
    }

    /// The resources that istiod sees.
    pub(super) fn resources<'m>(
        &self,
        manifests: &'m ManifestSet,
    ) -> impl Iterator<Item = &'m Resource> + use<'m, '_> {
        manifests.resources().filter(|resource| self.sees(resource))
    }

    /// Names each namespace that is not watched, and how much of it is passed over.
    pub(super) fn diagnostics(&self, manifests: &ManifestSet) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        for resource in manifests.resources().filter(|resource| resource.kind == Kind::Namespace) {
            let name = &resource.meta.name;
            if self.has(name) {
                continue;
            }
            let inside = |other: &&Resource| other.kind.is_namespaced() && other.meta.namespace == *name;
            let count = manifests.resources().filter(inside).count();
            let message = format!(
                "istiod does not watch the namespace {name}: no discoverySelectors of the mesh configuration select it"
            );
            let at = Place::Origin(Origin::field(resource.id, "metadata.labels"));
            out.push(Diagnostic::new(Code::UnwatchedNamespace, message).at(
                at,
                format!(
                    "the {count} resources in it take no part, though its Services have names and addresses"
                ),
            ));
        }
        out
    }

    /// Namespaces that are taken to be watched because nobody wrote their labels.
    pub(crate) fn presumed(&self) -> &[SmolStr] {
        &self.presumed
    }
}

/// Whether a selector asks for nothing but the label that Kubernetes gives every namespace.
fn is_of_names(selector: &Selector) -> bool {
    let name = "kubernetes.io/metadata.name";
    selector.match_labels.keys().all(|key| key == name)
        && selector.match_expressions.iter().all(|wanted| wanted.key == name)
}
