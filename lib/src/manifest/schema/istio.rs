//! Istio's kinds. Source: the protos of istio/api (networking/v1alpha3, security/v1beta1, telemetry/v1alpha1,
//! extensions/v1alpha1, type/v1beta1) of the 1.32 line.

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::scalar::{oneof, schema};

pub mod destination_rule;
pub mod extensions;
pub mod gateway;
pub mod other;
pub mod security;
pub mod service_entry;
pub mod sidecar;
pub mod virtual_service;

pub use destination_rule::*;
pub use extensions::*;
pub use gateway::*;
pub use other::*;
pub use security::*;
pub use service_entry::*;
pub use sidecar::*;
pub use virtual_service::*;

/// A map of labels.
pub type Labels = IndexMap<SmolStr, SmolStr>;

schema! {
    /// Selects workloads by `matchLabels` (security, telemetry and extension kinds).
    WorkloadSelector { match_labels: Labels }
    /// Selects workloads by `labels` (networking kinds).
    LabelSelector { labels: Labels }
    /// A port by number.
    PortSelector { number: u32 }
    /// A percentage from 0 to 100.
    Percent { value: f64 }
    /// A resource that a policy is attached to.
    PolicyTargetReference { group: SmolStr, kind: SmolStr, name: SmolStr, namespace: SmolStr }
}

oneof! {
    /// A comparison of a string.
    StringMatch { Exact(SmolStr) = "exact", Prefix(SmolStr) = "prefix", Regex(SmolStr) = "regex" }
}
