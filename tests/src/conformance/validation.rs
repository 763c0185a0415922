//! What Istio's webhook accepts, refuses and warns of.
//!
//! A case is one manifest and the webhook's verdict. Compared are the verdicts, not the words.

use dryroute::diagnostic::{Code, Severity};
use dryroute::manifest::{Loader, ManifestSet};
use serde_json::{Value, json};

use super::{Check, Mismatch, Options};

/// A manifest and what the webhook said.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Case {
    /// The suite it is from.
    pub suite: String,
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: String,
    /// Whether the webhook accepts it.
    pub valid: bool,
    /// Why it does not.
    #[serde(default)]
    pub errors: Vec<String>,
    /// What it warns of.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The resource.
    pub manifest: Value,
}

impl Case {
    /// How the case is called: suite, kind and name.
    pub fn title(&self) -> String {
        format!("{} {} {:?}", self.suite, self.kind, self.name)
    }
}

/// Runs a case.
pub fn run(case: &Case, options: &Options, out: &mut Vec<Check>) {
    if !options.selects(&case.title(), "") {
        return;
    }
    let set = Loader::new().text("case.json", case.manifest.to_string()).load();
    let accepted = set.resources().next().is_some();
    let mut mismatches = Vec::new();
    let mut compare = |field: &str, expected: bool, got: bool, theirs: &[String]| {
        if expected != got {
            mismatches.push(Mismatch {
                field: field.into(),
                expected: json!({ field: expected, "because": theirs }),
                got: json!({ field: got, "because": said(&set) }),
            });
        }
    };
    compare("accepted", case.valid, accepted, &case.errors);
    // The webhook says nothing but the error when it cannot read a resource.
    let warned = set.diagnostics().iter().any(|d| d.code == Code::WarnedByIstio);
    compare("warned", !case.warnings.is_empty(), warned, &case.warnings);
    out.push(Check { case: case.title(), request: String::new(), mismatches });
}

/// What was said about a resource, without what the webhook never says.
fn said(set: &ManifestSet) -> Vec<String> {
    set.diagnostics()
        .iter()
        .filter(|d| d.severity == Severity::Error || d.code == Code::WarnedByIstio)
        .map(|d| d.message.clone())
        .collect()
}
