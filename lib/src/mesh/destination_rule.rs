//! Which policies hold for traffic to a service?
//!
//! istiod: `pilot/pkg/model/push_context.go: setDestinationRules, destinationRule`, `destination_rule.go:
//! mergeDestinationRule`. Invariant: the first lookup step that yields something ends the lookup.

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use smol_str::{SmolStr, format_smolstr};

use super::host::{is_wildcard, resolve_short_name, subset_of};
use super::service::Service;
use crate::manifest::schema::istio::{self as schema, PortTrafficPolicy, Subset, TrafficPolicy};
use crate::manifest::{Resource, Timestamp};
use crate::origin::{Origin, ResourceId};

/// A subset and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedSubset {
    /// The subset.
    pub subset: Subset,
    /// Where it is written.
    pub origin: Origin,
}

/// One or several DestinationRules of a host, merged.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// The name of the first.
    pub name: SmolStr,
    /// The namespace.
    pub namespace: SmolStr,
    /// The host, completed.
    pub host: SmolStr,
    /// The top-level policy of the first that has one, and where it is written.
    pub traffic_policy: Option<(TrafficPolicy, Origin)>,
    /// Subsets of all, the first definition of a name.
    pub subsets: Vec<PlacedSubset>,
    /// Labels of the clients it holds for.
    pub workload_selector: Option<IndexMap<SmolStr, SmolStr>>,
    /// `exportTo` as written, sorted.
    pub export_to: Vec<SmolStr>,
    /// The resources it was made from.
    pub from: Vec<ResourceId>,
    /// The BackendTLSPolicies whose settings for TLS are among its own, by port; `None` for a rule that none had a part in.
    pub backend_tls: Option<Vec<(Option<u32>, Origin)>>,
}

impl DestinationRule {
    /// The BackendTLSPolicy that says which TLS is spoken to a port, where the rule itself does not.
    pub fn backend_tls_at(&self, port: u16) -> Option<&Origin> {
        let placed = self.backend_tls.as_ref()?;
        let (policy, _) = self.traffic_policy.as_ref()?;
        let port = u32::from(port);
        let entry = |own: &PortTrafficPolicy| own.port.as_ref().is_some_and(|own| own.number == port);
        let of_port = policy.port_level_settings.iter().any(entry);
        placed.iter().find(|(at, _)| *at == of_port.then_some(port)).map(|(_, origin)| origin)
    }

    /// The subset of that name.
    pub fn subset(&self, name: &str) -> Option<&PlacedSubset> {
        self.subsets.iter().find(|s| s.subset.name == name)
    }
}

#[derive(Clone, Debug, Default)]
struct HostRules {
    exact: FxHashMap<SmolStr, Vec<Arc<DestinationRule>>>,
    wildcard: FxHashMap<SmolStr, Vec<Arc<DestinationRule>>>,
}

impl HostRules {
    fn most_specific(&self, host: &str) -> Option<&Vec<Arc<DestinationRule>>> {
        if !is_wildcard(host)
            && let Some(rules) = self.exact.get(host)
        {
            return Some(rules);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        if let Some(rules) = self.wildcard.get(host) {
            return Some(rules);
        }
        // The longest wildcard that covers the host.
        let body = host.strip_prefix('*').unwrap_or(host);
        body.char_indices().map(|(i, _)| i).chain([body.len()]).filter_map(|i| body.get(i..)).find_map(
            |suffix| {
                self.wildcard
                    .get(format_smolstr!("*{suffix}").as_str())
                    .filter(|_| subset_of(host, &format_smolstr!("*{suffix}")))
            },
        )
    }
}

/// All DestinationRules, by who may see them.
#[derive(Clone, Debug, Default)]
pub struct DestinationRules {
    local: FxHashMap<SmolStr, HostRules>,
    exported: FxHashMap<SmolStr, HostRules>,
    root_private: HostRules,
    root_namespace: SmolStr,
}

impl DestinationRules {
    /// The rule that holds for a client's traffic to a service.
    pub fn find(
        &self,
        client_namespace: &str,
        client_labels: &IndexMap<SmolStr, SmolStr>,
        service: &Service,
    ) -> Option<Arc<DestinationRule>> {
        let rules = self.candidates(client_namespace, &service.hostname, &service.namespace);
        let mut chosen = None;
        for rule in rules {
            match &rule.workload_selector {
                None => chosen = Some(rule),
                Some(selector) => {
                    if rule.namespace == client_namespace
                        && selector.iter().all(|(k, v)| client_labels.get(k) == Some(v))
                    {
                        return Some(rule);
                    }
                }
            }
        }
        chosen
    }

    fn candidates(&self, client: &str, host: &str, service_namespace: &str) -> Vec<Arc<DestinationRule>> {
        if client != self.root_namespace {
            if let Some(rules) = self.local.get(client).and_then(|r| r.most_specific(host)) {
                return rules.clone();
            }
        } else if let Some(rules) = self.root_private.most_specific(host) {
            return rules.clone();
        }
        let from_owner = self.exported_from(service_namespace, host, client);
        if !from_owner.is_empty() {
            return from_owner;
        }
        self.exported_from(&self.root_namespace, host, client)
    }

    /// istiod: `push_context.go: getExportedDestinationRuleFromNamespace`.
    fn exported_from(&self, owner: &str, host: &str, client: &str) -> Vec<Arc<DestinationRule>> {
        let rules = self.exported.get(owner).and_then(|r| r.most_specific(host));
        rules
            .into_iter()
            .flatten()
            .filter(|r| {
                // A `.` beside other namespaces is not taken for the owner's: of the root namespace, whose own proxies
                // look here, such a rule holds for the others alone.
                r.export_to.is_empty() || r.export_to.iter().any(|e| e == "*" || e == client)
            })
            .cloned()
            .collect()
    }
}

/// What building depends on.
pub(crate) struct Options<'a> {
    pub domain: &'a str,
    pub default_export_to: &'a [SmolStr],
    pub root_namespace: &'a SmolStr,
    pub enhanced_merge: bool,
}

/// Merges rules that come in istiod's order: those with a workload selector first, then by creation.
pub(crate) fn build<'r>(
    resources: impl Iterator<Item = (&'r Resource, &'r schema::DestinationRule)>,
    generated: Vec<DestinationRule>,
    options: &Options<'_>,
) -> DestinationRules {
    // Rules that istiod generates have no age, which makes them the oldest.
    let written = resources.map(|(r, spec)| (r.meta.creation_timestamp.clone(), convert(r, spec, options)));
    let mut sorted: Vec<(Option<Timestamp>, DestinationRule)> =
        generated.into_iter().map(|rule| (None, rule)).chain(written).collect();
    sorted.sort_by(|(created, a), (other, b)| {
        let selects = b.workload_selector.is_some().cmp(&a.workload_selector.is_some());
        selects.then_with(|| (created, &a.name, &a.namespace).cmp(&(other, &b.name, &b.namespace)))
    });
    let mut out =
        DestinationRules { root_namespace: options.root_namespace.clone(), ..DestinationRules::default() };
    for (_, rule) in sorted {
        let namespace = rule.namespace.clone();
        let has = |what: &str| rule.export_to.iter().any(|e| e == what);
        if rule.export_to.is_empty() || has("*") || has(".") || has(&namespace) {
            merge(out.local.entry(namespace.clone()).or_default(), &rule, options);
        }
        let private = if rule.export_to.is_empty() {
            options.default_export_to.iter().any(|e| e == ".")
        } else {
            rule.export_to.len() == 1 && (has(".") || has(&namespace))
        };
        if !private {
            merge(out.exported.entry(namespace).or_default(), &rule, options);
        } else if namespace == *options.root_namespace {
            merge(&mut out.root_private, &rule, options);
        }
    }
    out
}

fn convert(resource: &Resource, spec: &schema::DestinationRule, options: &Options<'_>) -> DestinationRule {
    let workload_selector = spec.workload_selector.as_ref().map(|s| s.match_labels.clone());
    let mut export_to =
        if workload_selector.is_some() { vec![SmolStr::new_static(".")] } else { spec.export_to.clone() };
    export_to.sort();
    export_to.dedup();
    DestinationRule {
        name: resource.meta.name.clone(),
        namespace: resource.meta.namespace.clone(),
        host: resolve_short_name(&spec.host, &resource.meta.namespace, options.domain),
        traffic_policy: spec.traffic_policy.clone().map(|p| (p, resource.origin("spec.trafficPolicy"))),
        subsets: spec
            .subsets
            .iter()
            .enumerate()
            .map(|(i, s)| PlacedSubset {
                subset: s.clone(),
                origin: resource.origin(format_smolstr!("spec.subsets[{i}]")),
            })
            .collect(),
        workload_selector,
        export_to,
        from: vec![resource.id],
        backend_tls: None,
    }
}

/// istiod: `destination_rule.go: mergeDestinationRule`.
fn merge(rules: &mut HostRules, incoming: &DestinationRule, options: &Options<'_>) {
    let map = if is_wildcard(&incoming.host) { &mut rules.wildcard } else { &mut rules.exact };
    let list = map.entry(incoming.host.clone()).or_default();
    let mut append = true;
    for existing in list.iter_mut() {
        if options.enhanced_merge {
            let superset = existing.export_to.iter().all(|e| incoming.export_to.contains(e));
            let covers = !existing.export_to.is_empty() && superset;
            append = incoming.export_to != existing.export_to;
            if append && !covers {
                continue;
            }
        }
        let mergeable = match (&incoming.workload_selector, &existing.workload_selector) {
            (None, None) => true,
            (Some(a), Some(b)) if a == b => true,
            (Some(_), Some(_)) => {
                append = true;
                continue;
            }
            _ => false,
        };
        // A rule for all workloads that is as private as one for some is lost but for its subsets.
        append &= !mergeable;
        let merged = Arc::make_mut(existing);
        for subset in &incoming.subsets {
            if merged.subset(&subset.subset.name).is_none() {
                merged.subsets.push(subset.clone());
            }
        }
        match (&merged.backend_tls, &incoming.backend_tls) {
            (None, None) | (Some(_), Some(_)) => {
                if merged.traffic_policy.is_none() {
                    merged.traffic_policy.clone_from(&incoming.traffic_policy);
                }
            }
            (None, Some(placed)) => {
                let user = merged.traffic_policy.take();
                (merged.traffic_policy, merged.backend_tls) =
                    beneath(user, incoming.traffic_policy.clone(), placed.clone());
            }
            (Some(placed), None) => {
                let (policy, placed) = (merged.traffic_policy.take(), placed.clone());
                (merged.traffic_policy, merged.backend_tls) =
                    beneath(incoming.traffic_policy.clone(), policy, placed);
            }
        }
        merged.from.extend(&incoming.from);
    }
    if append {
        list.push(Arc::new(incoming.clone()));
    }
}

/// A policy with where it is written, and the BackendTLSPolicies that have a part in it.
type Placed = (Option<(TrafficPolicy, Origin)>, Option<Vec<(Option<u32>, Origin)>>);

/// Puts what a BackendTLSPolicy says beneath what is written: it fills only gaps.
/// istiod: `destination_rule.go: mergeBackendPolicyTrafficPolicy, mergeBackendPolicyPortLevelSettings`.
fn beneath(
    user: Option<(TrafficPolicy, Origin)>,
    backend: Option<(TrafficPolicy, Origin)>,
    mut placed: Vec<(Option<u32>, Origin)>,
) -> Placed {
    let (Some((mut policy, origin)), Some((backend, _))) = (user.clone(), backend.clone()) else {
        return (user.or(backend), Some(placed));
    };
    if policy.tls.is_some() {
        placed.retain(|(port, _)| port.is_some());
    }
    policy.tls = policy.tls.or(backend.tls);
    for entry in backend.port_level_settings {
        let number = entry.port.as_ref().map(|port| port.number);
        let same = |own: &&mut PortTrafficPolicy| own.port.as_ref().map(|port| port.number) == number;
        match policy.port_level_settings.iter_mut().find(same) {
            None => policy.port_level_settings.push(entry),
            Some(own) if own.tls.is_none() => own.tls = entry.tls,
            Some(_) => placed.retain(|(port, _)| *port != number),
        }
    }
    (Some((policy, origin)), Some(placed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;
    use crate::mesh::{Mesh, MeshOptions};

    /// The policies that hold for a client in `shop`: what the loads are balanced by, and how many subsets there are.
    fn found(export_to: &str, labels: &str) -> Option<(bool, usize)> {
        let rule = |name: &str, spec: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec: {{host: web, subsets: [{{name: {name}}}], {spec}}}\n---\n"
            )
        };
        let text = rule("some", "workloadSelector: {matchLabels: {app: api}}, trafficPolicy: {tls: {}}")
            + &rule("all", &format!("trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}, {export_to}"))
            + "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
        let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), MeshOptions::default());
        let labels = IndexMap::from([("app".into(), labels.into())]);
        let rule = mesh.destination_rules().find("shop", &labels, mesh.services().first().unwrap())?;
        Some((rule.traffic_policy.as_ref().unwrap().0.load_balancer.is_some(), rule.subsets.len()))
    }

    #[test]
    fn a_rule_for_all_that_is_as_private_as_one_for_some_is_lost_but_for_its_subsets() {
        assert_eq!(found("exportTo: ['*']", "other"), Some((true, 1)));
        assert_eq!(found("exportTo: ['.']", "other"), None);
        assert_eq!(found("exportTo: ['.']", "api"), Some((false, 2)));
    }
}
