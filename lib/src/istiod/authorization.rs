//! Which requests and connections do AuthorizationPolicies let through?
//!
//! Each rule of a policy becomes one policy of an RBAC filter; policies of one action share a filter. Invariant: what
//! cannot be expressed on a chain makes an ALLOW rule disappear and a DENY rule wider, never the other way round.
//! istiod: `security/authz/builder/builder.go: build, policyName`; `authz/model/model.go: New, Generate`.

mod generator;
mod trust_domain;

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use self::generator::{Field, Skipped};
use self::trust_domain::TrustDomains;
use crate::envoy::config::{RbacAction, RbacExpression, RbacPolicy};
use crate::manifest::schema::istio::{AuthorizationPolicy, Rule};
use crate::mesh::{Config, Mesh};

/// The chains that a filter is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// HTTP: everything can be asked.
    Http,
    /// TCP: nothing can be asked of a request.
    Tcp,
}

/// What every rule is built with.
struct Builder {
    action: RbacAction,
    chain: ChainKind,
    trust_domains: TrustDomains,
}

/// The policies of the filter for one action, sorted by name; `None` where there are none of a kind.
#[derive(Debug)]
pub struct Built {
    /// Those that decide.
    pub enforced: Option<Vec<RbacPolicy>>,
    /// Those that are only tried out.
    pub shadow: Option<Vec<RbacPolicy>>,
}

/// The policies of the filter for one action.
///
/// `policies` are those of that action which hold for the proxy.
pub fn build<'a>(
    mesh: &Mesh,
    policies: impl Iterator<Item = &'a Arc<Config<AuthorizationPolicy>>>,
    action: RbacAction,
    chain: ChainKind,
) -> Built {
    let builder = Builder { action, chain, trust_domains: TrustDomains::new(mesh.config()) };
    let mut built = Built { enforced: None, shadow: None };
    for policy in policies {
        let list = if is_dry_run(policy) { &mut built.shadow } else { &mut built.enforced };
        let out = list.get_or_insert_default();
        let name =
            |rule: usize| format_smolstr!("ns[{}]-policy[{}]-rule[{rule}]", policy.namespace, policy.name);
        if policy.spec.rules.is_empty() {
            // It matches nothing, which for ALLOW refuses everything.
            let never = || RbacExpression::Not(Box::new(RbacExpression::Any));
            out.push(RbacPolicy {
                name: name(0),
                permission: never(),
                principal: never(),
                origin: policy.origin("spec"),
            });
        }
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            let Ok((permission, principal)) = builder.rule(rule, &policy.namespace) else { continue };
            out.push(RbacPolicy {
                name: name(i),
                permission,
                principal,
                origin: policy.origin(format_smolstr!("spec.rules[{i}]")),
            });
        }
    }
    for list in [&mut built.enforced, &mut built.shadow].into_iter().flatten() {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    built
}

/// Whether a policy is only tried out: the annotation is read as Go reads a boolean.
pub fn is_dry_run(policy: &Config<AuthorizationPolicy>) -> bool {
    let value = policy.annotations.get("istio.io/dry-run").map(SmolStr::as_str);
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// Values of one field, and values that it must not have.
#[derive(Clone, Copy)]
struct Values<'a> {
    field: Field<'a>,
    values: &'a [SmolStr],
    not_values: &'a [SmolStr],
}

impl Builder {
    /// The conditions of a rule on the request, and on the caller.
    fn rule(&self, rule: &Rule, policy_namespace: &str) -> Result<(RbacExpression, RbacExpression), Skipped> {
        let (mut on_request, mut on_caller) = (Vec::new(), Vec::new());
        for condition in &rule.when {
            let field = Field::of_key(&condition.key, policy_namespace).ok_or(Skipped)?;
            let values = Values { field, values: &condition.values, not_values: &condition.not_values };
            if field.is_of_request() { on_request.push(values) } else { on_caller.push(values) }
        }
        let mut permissions = Vec::new();
        for to in &rule.to {
            let mut fields = Vec::new();
            if let Some(operation) = &to.operation {
                let of = |field, values, not_values| Values { field, values, not_values };
                fields.extend([
                    of(Field::Host, &operation.hosts[..], &operation.not_hosts[..]),
                    of(Field::Method, &operation.methods, &operation.not_methods),
                    of(Field::Path, &operation.paths, &operation.not_paths),
                    of(Field::DestinationPort, &operation.ports, &operation.not_ports),
                ]);
            }
            permissions.push(self.all(fields.iter().chain(&on_request))?);
        }
        if rule.to.is_empty() {
            permissions.push(self.all(on_request.iter())?);
        }
        let mut principals = Vec::new();
        for from in &rule.from {
            let mut fields = Vec::new();
            if let Some(source) = &from.source {
                let of = |field, values, not_values| Values { field, values, not_values };
                fields.extend([
                    of(Field::SourcePrincipal, &source.principals[..], &source.not_principals[..]),
                    of(Field::RequestPrincipal, &source.request_principals, &source.not_request_principals),
                    of(
                        Field::SourceServiceAccount { policy_namespace },
                        &source.service_accounts,
                        &source.not_service_accounts,
                    ),
                    of(Field::SourceTrustDomain, &source.trust_domains, &source.not_trust_domains),
                    of(Field::SourceNamespace, &source.namespaces, &source.not_namespaces),
                    of(Field::RemoteIp, &source.remote_ip_blocks, &source.not_remote_ip_blocks),
                    of(Field::SourceIp, &source.ip_blocks, &source.not_ip_blocks),
                ]);
            }
            principals.push(self.all(fields.iter().chain(&on_caller))?);
        }
        if rule.from.is_empty() {
            principals.push(self.all(on_caller.iter())?);
        }
        Ok((one_of(permissions), one_of(principals)))
    }

    /// All conditions together.
    fn all<'v>(&self, fields: impl Iterator<Item = &'v Values<'v>>) -> Result<RbacExpression, Skipped> {
        let mut out = Vec::new();
        for values in fields {
            out.extend(self.any_of(values.field, values.values)?);
            let none_of = self.any_of(values.field, values.not_values)?;
            out.extend(none_of.map(|hit| RbacExpression::Not(Box::new(hit))));
        }
        if out.is_empty() {
            out.push(RbacExpression::Any);
        }
        Ok(RbacExpression::And(out))
    }

    /// One of several values; `None` when none of them can be asked.
    fn any_of(&self, field: Field<'_>, values: &[SmolStr]) -> Result<Option<RbacExpression>, Skipped> {
        let values = match field {
            Field::SourcePrincipal => self.trust_domains.replace_aliases(values),
            Field::SourceTrustDomain => self.trust_domains.expand_aliases(values),
            _ => values.to_vec(),
        };
        let mut out = Vec::new();
        for value in &values {
            match field.matches(value, self.chain) {
                Ok(condition) => out.push(condition),
                Err(skipped) if self.action == RbacAction::Allow => return Err(skipped),
                Err(_) => {}
            }
        }
        if out.is_empty() {
            return Ok(None);
        }
        Ok(Some(if field.is_single() { one_of(out) } else { RbacExpression::Or(out) }))
    }
}

/// The only expression, or one of several.
fn one_of(mut list: Vec<RbacExpression>) -> RbacExpression {
    match list.pop() {
        Some(only) if list.is_empty() => only,
        Some(last) => {
            list.push(last);
            RbacExpression::Or(list)
        }
        None => RbacExpression::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;
    use crate::mesh::MeshOptions;

    #[test]
    fn what_is_only_tried_out_is_told_apart_from_what_is_enforced() {
        let policy = |name: &str, annotations: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                 metadata: {{name: {name}, namespace: shop, annotations: {{{annotations}}}}}\nspec: {{rules: [{{}}]}}\n---\n"
            )
        };
        let of = |text: String| {
            let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), MeshOptions::default());
            let policies = mesh.policies().authorization_policies.iter();
            let built = build(&mesh, policies, RbacAction::Allow, ChainKind::Http);
            let count = |list: Option<Vec<RbacPolicy>>| list.map(|list| list.len());
            (count(built.enforced), count(built.shadow))
        };
        let (own, tried) = (policy("own", ""), policy("tried", "istio.io/dry-run: 'true'"));
        assert_eq!(of(own.clone()), (Some(1), None));
        assert_eq!(of(tried.clone()), (None, Some(1)), "nothing is enforced, so nothing is refused");
        assert_eq!(of(own + &tried), (Some(1), Some(1)));
    }
}
