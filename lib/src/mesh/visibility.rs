//! Who may see a resource?
//!
//! istiod: `pilot/pkg/model/push_context.go: initServiceRegistry, initVirtualServices`.

use std::fmt;

use smol_str::SmolStr;

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
