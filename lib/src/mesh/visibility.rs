//! Who may see a resource?
//!
//! istiod: `pilot/pkg/model/push_context.go: initServiceRegistry, initVirtualServices`.

use std::fmt;

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::policy::selector_matches;
use crate::manifest::schema::mesh_config::{ServiceEntryVisibility, ServiceEntryVisibilityRule, Visibility};

/// How widely the mesh configuration lets the ServiceEntries of a namespace with these labels be seen: as the first policy
/// says whose rules all match. istiod: `serviceentry_visibility.go: VisibilityFor`.
pub(super) fn of_service_entries(
    setting: &ServiceEntryVisibility,
    labels: &IndexMap<SmolStr, SmolStr>,
) -> Visibility {
    // Without this, only ambient proxies go by it.
    if !setting.apply_to_sidecars {
        return Visibility::Unspecified;
    }
    let holds = |rule: &ServiceEntryVisibilityRule| {
        rule.namespace_selector
            .as_ref()
            .and_then(|selector| selector_matches(selector, labels))
            .unwrap_or(false)
    };
    let chosen = setting.policies.iter().find(|policy| policy.matching_rules.iter().all(holds));
    chosen.map_or(setting.default_visibility, |policy| policy.visibility)
}

/// The namespaces that a resource is exported to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTo {
    /// All.
    Public,
    /// None.
    Nobody,
    /// These; the own namespace is written out.
    Namespaces(Vec<SmolStr>),
}

impl fmt::Display for ExportTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("*"),
            Self::Nobody => f.write_str("~"),
            Self::Namespaces(list) => f.write_str(&list.join(", ")),
        }
    }
}

impl ExportTo {
    /// Reads an `exportTo` list of a resource in `namespace`; an empty one takes `default`.
    pub fn new(written: &[SmolStr], default: &[SmolStr], namespace: &SmolStr) -> Self {
        let list = if written.is_empty() { default } else { written };
        if list.is_empty() || list.iter().any(|e| e == "*") {
            return Self::Public;
        }
        if list.iter().any(|e| e == "~") {
            return Self::Nobody;
        }
        Self::Namespaces(list.iter().map(|e| if e == "." { namespace.clone() } else { e.clone() }).collect())
    }

    /// What is left where the mesh configuration lets the resources of `namespace` be seen that widely. It only narrows.
    ///
    /// istiod: `push_context.go: serviceExportTo`.
    #[must_use]
    pub fn capped(self, visibility: Visibility, namespace: &SmolStr) -> Self {
        match visibility {
            Visibility::Unspecified | Visibility::Public => self,
            Visibility::Namespace if self.is_visible_in(namespace) => {
                Self::Namespaces(vec![namespace.clone()])
            }
            Visibility::Namespace | Visibility::None => Self::Nobody,
        }
    }

    /// Whether proxies of `namespace` see it.
    pub fn is_visible_in(&self, namespace: &str) -> bool {
        match self {
            Self::Public => true,
            Self::Nobody => false,
            Self::Namespaces(list) => list.iter().any(|n| n == namespace),
        }
    }

    /// Whether it is visible everywhere.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }
}
