//! Which workloads, targets and namespaces may a resource name?
//!
//! istiod: `validation.go: validateWorkloadSelector, ValidateAlphaWorkloadSelector, validateOneOfSelectorType,
//! validatePolicyTargetReference, validateExportTo`.

use rustc_hash::FxHashSet;
use smol_str::SmolStr;

use super::names;
use super::report::{At, Report};
use crate::manifest::schema::istio::{LabelSelector, Labels, PolicyTargetReference, WorkloadSelector};

/// A selector by `matchLabels`.
pub(super) fn workloads(report: &mut Report<'_>, spec: &At<'_>, selector: Option<&WorkloadSelector>) {
    workloads_at(report, &spec.field("selector"), selector);
}

pub(super) fn workloads_at(report: &mut Report<'_>, at: &At<'_>, selector: Option<&WorkloadSelector>) {
    let Some(selector) = selector else { return };
    labels(report, &at.field("matchLabels"), &selector.match_labels);
    if selector.match_labels.is_empty() {
        report.warn(at, "workload selector specified without labels");
    }
}

/// A selector by `labels`; `who` begins the warning of one that selects everything.
///
/// Returns whether it stands: Istio looks no further at a resource with a faulty one.
pub(super) fn alpha(
    report: &mut Report<'_>,
    spec: &At<'_>,
    selector: Option<&LabelSelector>,
    who: &str,
) -> bool {
    let Some(selector) = selector else { return true };
    let before = report.len();
    let at = spec.field("workloadSelector");
    labels(report, &at.field("labels"), &selector.labels);
    if report.len() > before {
        return false;
    }
    if selector.labels.is_empty() {
        report.warn(
            &at,
            format!(
                "{who}: workload selector specified without labels, will be applied to all services in namespace"
            ),
        );
    }
    true
}

fn labels(report: &mut Report<'_>, at: &At<'_>, labels: &Labels) {
    for (key, value) in labels {
        if key.is_empty() {
            report.refuse(at, format!("empty key is not supported in selector: \"{key}={value}\""));
        }
        if key.contains('*') || value.contains('*') {
            report.refuse(&at.key(key), format!("wildcard is not supported in selector: \"{key}={value}\""));
        }
    }
}

/// The selector and targets of a policy: one kind of them, each well-formed.
pub(super) fn targets(
    report: &mut Report<'_>,
    spec: &At<'_>,
    selector: Option<&WorkloadSelector>,
    target: Option<&PolicyTargetReference>,
    targets: &[PolicyTargetReference],
) {
    let set =
        usize::from(selector.is_some()) + usize::from(target.is_some()) + usize::from(!targets.is_empty());
    if set > 1 {
        report.refuse(spec, "only one of targetRefs or workloadSelector can be set");
    }
    workloads(report, spec, selector);
    if let Some(target) = target {
        target_reference(report, &spec.field("targetRef"), target);
    }
    let at = spec.field("targetRefs");
    for (index, target) in targets.iter().enumerate() {
        target_reference(report, &at.index(index), target);
    }
}

fn target_reference(report: &mut Report<'_>, at: &At<'_>, target: &PolicyTargetReference) {
    if target.name.is_empty() {
        report.refuse(at, "targetRef name must be set");
    }
    if !target.namespace.is_empty() {
        report.refuse(
            &at.field("namespace"),
            "targetRef namespace must not be set; cross namespace referencing is not supported",
        );
    }
    let allowed = matches!(
        (target.group.as_str(), target.kind.as_str()),
        ("" | "core", "Service")
            | ("networking.istio.io", "ServiceEntry")
            | ("gateway.networking.k8s.io", "Gateway" | "GatewayClass")
    );
    if !allowed {
        report.refuse(
            &at.field("kind"),
            format!(
                "targetRef must be to one of Service, ServiceEntry, Gateway or GatewayClass but was {}/{}",
                target.group, target.kind
            ),
        );
    }
}

/// A resource whose visibility has rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// A ServiceEntry, which may be exported to nobody (`~`).
    ServiceEntry,
    /// A DestinationRule with a workload selector, which stays in its namespace.
    SelectingRule,
    /// Anything else.
    Other,
}

/// Istio's reasons to refuse a list of namespaces to export to, with the entry that each is about.
pub fn export_to(namespace: &str, entries: &[SmolStr], kind: Exported) -> Vec<(Option<usize>, String)> {
    let mut out = Vec::new();
    if entries.is_empty() {
        return out;
    }
    let mut seen: FxHashSet<&str> = FxHashSet::default();
    for (index, entry) in entries.iter().enumerate() {
        let key = if entry == "." { namespace } else { entry.as_str() };
        if seen.contains(key) {
            let reason = if key == entry {
                format!("duplicate entries in exportTo for entry {entry}")
            } else {
                format!("duplicate entries in exportTo: . and current namespace {namespace}")
            };
            out.push((Some(index), reason));
            continue;
        }
        let problem = match key {
            "." | "*" => None,
            "~" if kind == Exported::ServiceEntry => None,
            "~" => Some("exportTo ~ (none) is not allowed for Istio configuration objects"),
            other if names::is_label(other) => None,
            _ => Some("only .,*, or a valid DNS 1123 label is allowed as exportTo entry"),
        };
        match problem {
            Some(problem) => out.push((Some(index), problem.to_owned())),
            None => {
                seen.insert(key);
            }
        }
    }
    let mut all = |reason: &str| out.push((None, reason.to_owned()));
    if kind == Exported::SelectingRule && !seen.is_empty() {
        if !seen.contains(namespace) {
            all("destination rule with workload selector cannot have exportTo beyond current namespace");
        } else if seen.len() > 1 {
            all("destination rule with workload selector cannot have multiple entries in exportTo");
        }
    }
    if seen.contains("*") && entries.len() > 1 {
        all("cannot have both public (*) and non-public exportTo values for a resource");
    }
    if seen.contains("~") && entries.len() > 1 {
        all("cannot export service entry to no one (~) and someone");
    }
    out
}

/// The field `exportTo`.
pub(super) fn exports(report: &mut Report<'_>, spec: &At<'_>, entries: &[SmolStr], kind: Exported) {
    let namespace = &report.resource().meta.namespace;
    for (index, reason) in export_to(namespace, entries, kind) {
        let at = spec.field("exportTo");
        match index {
            Some(index) => report.refuse(&at.index(index), reason),
            None => report.refuse(&at, reason),
        }
    }
}
