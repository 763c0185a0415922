//! Who made this? Every listener, route, cluster and header operation remembers it.
//!
//! Invariant: an [`Origin`] is a name, never a position. File, line and column are looked up by
//! [`ManifestSet::locate`](crate::manifest::ManifestSet::locate) only when something is shown.

use smol_str::SmolStr;

/// The number of a resource in the set of manifests it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(pub u32);

/// The resource and field that made something, or the default of Istio or Envoy that did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A field of a resource that a user wrote.
    Field {
        /// The resource.
        resource: ResourceId,
        /// The field's path in the resource as written, such as `spec.http[1].match[0]`; empty for the whole resource.
        path: SmolStr,
    },
    /// A default: a sentence such as `HTTP connection manager: generateRequestId`.
    Default(SmolStr),
}

impl Origin {
    /// An origin at `path` of `resource`.
    pub fn field(resource: ResourceId, path: impl Into<SmolStr>) -> Self {
        Self::Field { resource, path: path.into() }
    }

    /// The default that `what` names.
    pub const fn default(what: &'static str) -> Self {
        Self::Default(SmolStr::new_static(what))
    }

    /// The resource, unless a default made it.
    pub fn resource(&self) -> Option<ResourceId> {
        match self {
            Self::Field { resource, .. } => Some(*resource),
            Self::Default(_) => None,
        }
    }
}
