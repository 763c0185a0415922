//! Random meshes, decided by real istiod and Envoy.

use super::{Check, Options};

/// A mesh, a proxy, requests and what was measured.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Case {
    /// The number.
    pub id: String,
    /// Requests.
    pub requests: Vec<serde_json::Value>,
}

/// Runs a case.
pub fn run(_case: &Case, _options: &Options, _out: &mut Vec<Check>) {}
