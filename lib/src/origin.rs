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

    /// The origin of a part of this one: `name` is a field such as `headers`, or an index such as `[0]`.
    ///
    /// A default has no parts and stays as it is.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        match self {
            Self::Field { resource, path } => {
                let dot = if path.is_empty() || name.starts_with('[') { "" } else { "." };
                Self::Field { resource: *resource, path: smol_str::format_smolstr!("{path}{dot}{name}") }
            }
            Self::Default(_) => self.clone(),
        }
    }

    /// The origin of the element `index` of the list `name`.
    #[must_use]
    pub fn element(&self, name: &str, index: usize) -> Self {
        self.part(&smol_str::format_smolstr!("{name}[{index}]"))
    }

    /// The resource, unless a default made it.
    pub fn resource(&self) -> Option<ResourceId> {
        match self {
            Self::Field { resource, .. } => Some(*resource),
            Self::Default(_) => None,
        }
    }
}
