//! Which resources hold for which workloads?

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use crate::manifest::schema::kubernetes::{Selector, SelectorRequirement};
use crate::manifest::{Resource, Timestamp};
use crate::origin::{Origin, ResourceId};

/// A resource of one kind, with what its order and scope depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Config<T> {
    /// The name.
    pub name: SmolStr,
    /// The namespace.
    pub namespace: SmolStr,
    /// Labels.
    pub labels: IndexMap<SmolStr, SmolStr>,
    /// Annotations.
    pub annotations: IndexMap<SmolStr, SmolStr>,
    /// When it was created.
    pub creation: Option<Timestamp>,
    /// The resource.
    pub resource: ResourceId,
    /// The fields.
    pub spec: Arc<T>,
}

impl<T> Config<T> {
    pub(crate) fn new(resource: &Resource, spec: &Arc<T>) -> Self {
        Self {
            name: resource.meta.name.clone(),
            namespace: resource.meta.namespace.clone(),
            labels: resource.meta.labels.clone(),
            annotations: resource.meta.annotations.clone(),
            creation: resource.meta.creation_timestamp.clone(),
            resource: resource.id,
            spec: spec.clone(),
        }
    }

    /// An origin at `path` of the resource.
    pub fn origin(&self, path: impl Into<SmolStr>) -> Origin {
        Origin::field(self.resource, path)
    }
}

/// Resources of one kind, oldest first, then by name and namespace.
#[derive(Clone, Debug)]
pub struct Configs<T> {
    all: Vec<Arc<Config<T>>>,
    by_namespace: FxHashMap<SmolStr, Vec<u32>>,
}

impl<T> Default for Configs<T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_namespace: FxHashMap::default() }
    }
}

impl<T> Configs<T> {
    pub(crate) fn push(&mut self, resource: &Resource, spec: &Arc<T>) {
        self.all.push(Arc::new(Config::new(resource, spec)));
    }

    pub(crate) fn sort(&mut self) {
        self.all
            .sort_by(|a, b| (&a.creation, &a.name, &a.namespace).cmp(&(&b.creation, &b.name, &b.namespace)));
        for (number, config) in (0_u32..).zip(&self.all) {
            self.by_namespace.entry(config.namespace.clone()).or_default().push(number);
        }
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Config<T>>> {
        self.all.iter()
    }

    /// Those of a namespace, oldest first.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Config<T>>> {
        let numbers = self.by_namespace.get(namespace).into_iter().flatten();
        numbers.filter_map(|number| self.all.get(*number as usize))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Whether a Kubernetes selector chooses something with these labels; `None` where the selector is not valid.
///
/// Kubernetes: `apimachinery/pkg/apis/meta/v1/helpers.go: LabelSelectorAsSelector`.
pub fn selector_matches(selector: &Selector, labels: &IndexMap<SmolStr, SmolStr>) -> Option<bool> {
    let mut out = selects(&selector.match_labels, labels);
    for SelectorRequirement { key, operator, values } in &selector.match_expressions {
        let own = labels.get(key);
        let among = own.is_some_and(|own| values.contains(own));
        out &= match (operator.as_str(), values.is_empty()) {
            ("In", false) => among,
            ("NotIn", false) => !among,
            ("Exists", true) => own.is_some(),
            ("DoesNotExist", true) => own.is_none(),
            _ => return None,
        };
    }
    Some(out)
}

/// Whether a selector's labels are all among a workload's.
pub fn selects(selector: &IndexMap<SmolStr, SmolStr>, labels: &IndexMap<SmolStr, SmolStr>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}
