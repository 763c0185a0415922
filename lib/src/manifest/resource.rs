//! What is one resource?

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::kind::{Kind, Spec};
use super::schema::istio::ServiceEntryStatus;
use super::schema::kubernetes::{PodStatus, ServiceStatus};
use crate::origin::{Origin, ResourceId};

/// When an object was created, as RFC 3339 text in UTC; the text's order is the order in time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub SmolStr);

/// The metadata that routing depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The name.
    pub name: SmolStr,
    /// The namespace; empty for kinds that live in none.
    pub namespace: SmolStr,
    /// Labels.
    pub labels: IndexMap<SmolStr, SmolStr>,
    /// Annotations.
    pub annotations: IndexMap<SmolStr, SmolStr>,
    /// Creation time; absent ones are equal to each other and older than any other.
    pub creation_timestamp: Option<Timestamp>,
}

/// A resource's typed status, where routing depends on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Status {
    /// None, or none that matters.
    #[default]
    None,
    /// A pod's.
    Pod(Box<PodStatus>),
    /// A Service's.
    Service(Box<ServiceStatus>),
    /// A ServiceEntry's.
    ServiceEntry(Box<ServiceEntryStatus>),
}

/// One resource, as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its number.
    pub id: ResourceId,
    /// Its kind.
    pub kind: Kind,
    /// Its `apiVersion`.
    pub api_version: SmolStr,
    /// Its metadata.
    pub meta: Meta,
    /// Its fields.
    pub spec: Spec,
    /// Its status.
    pub status: Status,
}

impl Resource {
    /// An origin at `path` of this resource, such as `spec.hosts[0]`.
    pub fn origin(&self, path: impl Into<SmolStr>) -> Origin {
        Origin::field(self.id, path)
    }

    /// `namespace/name`, or the name alone where there is no namespace.
    pub fn full_name(&self) -> String {
        if self.meta.namespace.is_empty() {
            self.meta.name.to_string()
        } else {
            format!("{}/{}", self.meta.namespace, self.meta.name)
        }
    }
}
