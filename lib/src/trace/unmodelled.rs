//! What takes part in a proxy's decisions that the model cannot play?
//!
//! Invariant: a resource that could change an answer and is not modelled is named in every trace it could change.

use indexmap::IndexMap;
use smol_str::SmolStr;

use crate::manifest::schema::istio::{AuthorizationAction, PolicyTargetReference, WorkloadSelector};
use crate::mesh::{Mesh, ProxyKind, Workload, selects};
use crate::origin::Origin;

/// What a resource could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Let a request pass or refuse it on its way in.
    Admission,
    /// Anything.
    Anything,
}

/// A resource that takes part and is not modelled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Concern {
    /// What it could do.
    pub(super) effect: Effect,
    /// The resource, such as `EnvoyFilter default/x`.
    pub(super) resource: String,
    /// Where it is written.
    pub(super) origin: Origin,
}

/// The resources that could change what a workload's proxy does.
pub(super) fn concerns(mesh: &Mesh, workload: &Workload) -> Vec<Concern> {
    let mut out = Vec::new();
    let root = &mesh.config().root_namespace;
    let policies = mesh.policies();
    let here = |namespace: &SmolStr| namespace == root || *namespace == workload.namespace;
    let by_selector = |selector: Option<&WorkloadSelector>, targets: &[&PolicyTargetReference]| {
        targets.iter().all(|target| target.name.is_empty())
            && selector.is_none_or(|selector| selects(&selector.match_labels, &workload.labels))
    };
    let by_labels = |labels: Option<&IndexMap<SmolStr, SmolStr>>| {
        labels.is_none_or(|labels| selects(labels, &workload.labels))
    };
    let mut add = |effect, resource| {
        out.push(Concern {
            effect,
            resource: mesh.manifests().describe(resource),
            origin: Origin::field(resource, "metadata.name"),
        });
    };
    for filter in policies.envoy_filters.iter().filter(|c| here(&c.namespace)) {
        let context = match workload.proxy {
            ProxyKind::Gateway => "GATEWAY",
            _ => "SIDECAR_",
        };
        let patches = &filter.spec.config_patches;
        let applies = patches.is_empty()
            || patches.iter().any(|patch| {
                patch
                    .match_
                    .as_ref()
                    .is_none_or(|m| m.context.as_str() == "ANY" || m.context.as_str().starts_with(context))
            });
        if applies
            && filter.spec.target_refs.is_empty()
            && by_labels(filter.spec.workload_selector.as_ref().map(|s| &s.labels))
        {
            add(Effect::Anything, filter.resource);
        }
    }
    for plugin in policies.wasm_plugins.iter().filter(|c| here(&c.namespace)) {
        let targets: Vec<_> = plugin.spec.target_ref.iter().chain(&plugin.spec.target_refs).collect();
        if by_selector(plugin.spec.selector.as_ref(), &targets) {
            add(Effect::Anything, plugin.resource);
        }
    }
    // ALLOW and DENY are decided by the proxy's RBAC filters; who is asked at run time is not known here.
    for policy in policies.authorization_policies.iter().filter(|c| here(&c.namespace)) {
        let targets: Vec<_> = policy.spec.target_ref.iter().chain(&policy.spec.target_refs).collect();
        let selected = by_selector(policy.spec.selector.as_ref(), &targets);
        if selected && policy.spec.action == AuthorizationAction::Custom {
            add(Effect::Admission, policy.resource);
        }
    }
    for policy in policies.request_authentications.iter().filter(|c| here(&c.namespace)) {
        let targets: Vec<_> = policy.spec.target_ref.iter().chain(&policy.spec.target_refs).collect();
        if by_selector(policy.spec.selector.as_ref(), &targets) && !policy.spec.jwt_rules.is_empty() {
            add(Effect::Admission, policy.resource);
        }
    }
    out
}
