//! What does Istio's webhook refuse?
//!
//! One file per kind, one function per rule, in the order and the words of Istio. Source: istiod
//! `pkg/config/validation`, measured over 880 manifests.
//!
//! Invariant: a refused resource takes no part, as in a cluster; the reason is a diagnostic with the place that it is
//! about. A resource is looked at alone: no reference is followed.

use super::{Kind, Resource, Spec};
use crate::diagnostic::{Code, Diagnostic, Severity};

mod authorization_policy;
mod destination_rule;
mod envoy_filter;
mod extensions;
mod gateway;
mod load_balancer;
pub mod names;
mod peer_authentication;
mod report;
mod request_authentication;
mod selector;
mod service_entry;
mod sidecar;
mod telemetry;
mod unreachable;
mod virtual_service;
mod workload;

pub(crate) use gateway::is_cipher;

pub use selector::{Exported, export_to};

use report::{At, Report};

/// The annotation with which an AuthorizationPolicy is tried without effect.
const DRY_RUN: &str = "istio.io/dry-run";

/// Annotations that Istio keeps for itself.
const RESERVED: &[(&str, &str)] = &[
    ("internal.istio.io/webhook-always-reject", "annotation found, rejecting"),
    ("internal.istio.io/parent-namespace", "annotation found, this may not be set by users"),
    ("internal.istio.io/parents", "annotation found, this may not be set by users"),
];

/// What Istio's validation says about a resource: reasons to refuse it, and warnings.
///
/// Kinds that are not Istio's have nothing said about them.
pub fn validate(resource: &Resource) -> Vec<Diagnostic> {
    if !resource.kind.is_istio() {
        return Vec::new();
    }
    let mut report = Report::new(resource);
    let spec = At::root("spec");
    if annotations(&mut report, resource) {
        match &resource.spec {
            Spec::VirtualService(vs) => virtual_service::check(&mut report, &spec, vs),
            Spec::DestinationRule(rule) => destination_rule::check(&mut report, &spec, rule),
            Spec::ServiceEntry(entry) => service_entry::check(&mut report, &spec, entry),
            Spec::Gateway(gateway) => gateway::check(&mut report, &spec, gateway),
            Spec::Sidecar(sidecar) => sidecar::check(&mut report, &spec, sidecar),
            Spec::WorkloadEntry(entry) => workload::entry(&mut report, &spec, entry),
            Spec::WorkloadGroup(group) => workload::group(&mut report, &spec, group),
            Spec::AuthorizationPolicy(policy) => authorization_policy::check(&mut report, &spec, policy),
            Spec::PeerAuthentication(policy) => peer_authentication::check(&mut report, &spec, policy),
            Spec::RequestAuthentication(policy) => request_authentication::check(&mut report, &spec, policy),
            Spec::Telemetry(telemetry) => telemetry::check(&mut report, &spec, telemetry),
            Spec::WasmPlugin(plugin) => extensions::wasm_plugin(&mut report, &spec, plugin),
            Spec::TrafficExtension(extension) => {
                extensions::traffic_extension(&mut report, &spec, extension);
            }
            Spec::EnvoyFilter(filter) => envoy_filter::check(&mut report, &spec, filter),
            Spec::ProxyConfig(config) => {
                selector::workloads(&mut report, &spec, config.selector.as_ref());
                if config.concurrency.is_some_and(|c| c < 0) {
                    report
                        .refuse(&spec.field("concurrency"), "concurrency must be greater than or equal to 0");
                }
            }
            _ => {}
        }
    }
    report.finish()
}

/// Whether one of the diagnostics says that the resource takes no part.
pub fn refuses(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|d| {
        d.severity == Severity::Error && matches!(d.code, Code::RejectedByIstio | Code::OneofConflict)
    })
}

/// Annotations that decide about a resource before its fields are looked at; whether it stands.
///
/// istiod: `validation.go: validateMetadata`.
fn annotations(report: &mut Report<'_>, resource: &Resource) -> bool {
    let annotations = &resource.meta.annotations;
    if annotations.is_empty() {
        return true;
    }
    let at = At::root("metadata");
    let at = at.field("annotations");
    if let Some(value) = annotations.get(DRY_RUN) {
        let problem = match &resource.spec {
            Spec::AuthorizationPolicy(policy) => authorization_policy::dry_run(policy.action, value),
            _ => Some(format!(
                "{}/{} has unsupported annotation {DRY_RUN}, please remove the annotation",
                resource.meta.namespace, resource.meta.name
            )),
        };
        if let Some(problem) = problem {
            report.refuse(&at.key(DRY_RUN), problem);
            return false;
        }
    }
    for (name, problem) in RESERVED {
        if annotations.contains_key(*name) {
            report.refuse(&at.key(name), format!("\"{name}\" {problem}"));
            return false;
        }
    }
    true
}

/// Whether the resource was made by istiod from the Gateway API; users do not write such.
fn gateway_semantics(resource: &Resource) -> bool {
    let key = match resource.kind {
        Kind::Gateway => "internal.istio.io/gateway-semantics",
        _ => "internal.istio.io/route-semantics",
    };
    resource.meta.annotations.get(key).is_some_and(|value| value == "gateway")
}
