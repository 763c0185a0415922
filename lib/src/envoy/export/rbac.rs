//! Authorization and token validation.

use serde_json::{Map, Value, json};

use super::Writer;
use super::json::{Object, texts};
use super::matching;
use crate::envoy::config::{
    HttpRbac, JwtAuthentication, JwtProvider, NetworkRbac, RbacAction, RbacExpression, RbacPolicy,
};

const HTTP_RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const NETWORK_RBAC: &str = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";
const JWT: &str = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
const URI_TEMPLATE: &str =
    "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";

/// The HTTP filter.
pub(super) fn http(filter: &HttpRbac) -> Value {
    let mut config = Object::typed(HTTP_RBAC);
    set_rules(&mut config, filter.action, filter.policies.as_deref(), filter.shadow.as_deref());
    json!({"name": "envoy.filters.http.rbac", "typed_config": Value::from(config)})
}

/// The network filter.
pub(super) fn network(filter: &NetworkRbac) -> Value {
    let mut config = Object::typed(NETWORK_RBAC);
    set_rules(&mut config, filter.action, filter.policies.as_deref(), filter.shadow.as_deref());
    config.set("stat_prefix", "tcp.");
    json!({"name": "envoy.filters.network.rbac", "typed_config": Value::from(config)})
}

/// What is enforced, and what is only tried out. istiod: `builder.go: buildHTTP, buildTCP, shadowRuleStatPrefix`.
fn set_rules(
    config: &mut Object,
    action: RbacAction,
    enforced: Option<&[RbacPolicy]>,
    shadow: Option<&[RbacPolicy]>,
) {
    config.set_some("rules", enforced.map(|policies| rules(action, policies)));
    config.set_some("shadow_rules", shadow.map(|policies| rules(action, policies)));
    let prefix = match shadow.and(Some(action)) {
        None | Some(RbacAction::Allow) => "istio_dry_run_allow_",
        Some(RbacAction::Deny) => "istio_dry_run_deny_",
        Some(RbacAction::Log) => return,
    };
    config.set("shadow_rules_stat_prefix", prefix);
}

fn rules(action: RbacAction, policies: &[RbacPolicy]) -> Value {
    let action = match action {
        // The default is not written.
        RbacAction::Allow => "",
        RbacAction::Deny => "DENY",
        RbacAction::Log => "LOG",
    };
    let policies: Map<String, Value> = policies
        .iter()
        .map(|policy| {
            let body = json!({
                "permissions": [expression(&policy.permission, Side::Permission)],
                "principals": [expression(&policy.principal, Side::Principal)],
            });
            (policy.name.to_string(), body)
        })
        .collect();
    let mut out = Object::new();
    out.set_nonempty("action", action);
    out.set_nonempty("policies", policies);
    out.into()
}

/// Which of the two message types an expression is written as.
#[derive(Clone, Copy)]
enum Side {
    Permission,
    Principal,
}

fn expression(tree: &RbacExpression, side: Side) -> Value {
    let all = |list: &[RbacExpression]| -> Vec<Value> { list.iter().map(|e| expression(e, side)).collect() };
    match (tree, side) {
        (RbacExpression::Any, _) => json!({"any": true}),
        (RbacExpression::And(list), Side::Permission) => json!({"and_rules": {"rules": all(list)}}),
        (RbacExpression::And(list), Side::Principal) => json!({"and_ids": {"ids": all(list)}}),
        (RbacExpression::Or(list), Side::Permission) => json!({"or_rules": {"rules": all(list)}}),
        (RbacExpression::Or(list), Side::Principal) => json!({"or_ids": {"ids": all(list)}}),
        (RbacExpression::Not(inner), Side::Permission) => json!({"not_rule": expression(inner, side)}),
        (RbacExpression::Not(inner), Side::Principal) => json!({"not_id": expression(inner, side)}),
        (RbacExpression::Header(matcher), _) => json!({"header": matching::header(matcher)}),
        (RbacExpression::UrlPath(matcher), _) => json!({"url_path": {"path": matching::string(matcher)}}),
        (RbacExpression::UriTemplate(template), _) => json!({"uri_template": {
            "name": "uri-template",
            "typed_config": {"@type": URI_TEMPLATE, "path_template": template},
        }}),
        (RbacExpression::DestinationPort(port), _) => json!({"destination_port": port}),
        (RbacExpression::DestinationIp(net), _) => json!({"destination_ip": matching::cidr(*net)}),
        (RbacExpression::DirectRemoteIp(net), _) => json!({"direct_remote_ip": matching::cidr(*net)}),
        (RbacExpression::RemoteIp(net), _) => json!({"remote_ip": matching::cidr(*net)}),
        (RbacExpression::RequestedServerName(matcher), _) => {
            json!({"requested_server_name": matching::string(matcher)})
        }
        (RbacExpression::Authenticated(None), _) => json!({"authenticated": {}}),
        (RbacExpression::Authenticated(Some(matcher)), _) => {
            json!({"authenticated": {"principal_name": matching::string(matcher)}})
        }
        (RbacExpression::Metadata(matcher), _) => json!({"metadata": matching::metadata(matcher)}),
    }
}

/// The token filter; `None` when its keys are not known.
pub(super) fn jwt_authn(writer: &Writer<'_>, config: &JwtAuthentication) -> Option<Value> {
    let mut providers = Map::new();
    for provider in &config.providers {
        match provider.jwks.as_ref() {
            Some(jwks) => {
                providers.insert(provider.name.to_string(), jwt_provider(provider, jwks));
            }
            None => writer.leave_out(format!(
                "token provider {} of {}: its keys are fetched at run time",
                provider.name, provider.issuer
            )),
        }
    }
    if providers.is_empty() {
        return None;
    }
    // A token has to be valid where there is one; with several providers, one of them has to know it.
    // istiod: `policy_applier.go: convertToEnvoyJwtConfig`.
    let mut any: Vec<Value> = providers.keys().map(|name| json!({"provider_name": name})).collect();
    let mut all: Vec<Value> = any.iter().map(or_missing).collect();
    let requires = if let ([only], true) = (all.as_mut_slice(), any.len() == 1) {
        only.take()
    } else {
        any.push(json!({"requires_all": {"requirements": all}}));
        json!({"requires_any": {"requirements": any}})
    };
    let mut out = Object::typed(JWT);
    out.set("providers", providers);
    out.set("rules", json!([{"match": {"prefix": "/"}, "requires": requires}]));
    out.set("bypass_cors_preflight", true);
    Some(json!({"name": "envoy.filters.http.jwt_authn", "typed_config": Value::from(out)}))
}

fn or_missing(requirement: &Value) -> Value {
    json!({"requires_any": {"requirements": [requirement, {"allow_missing": {}}]}})
}

fn jwt_provider(provider: &JwtProvider, jwks: &str) -> Value {
    let headers: Vec<Value> = provider
        .from_headers
        .iter()
        .map(|(name, prefix)| {
            let mut out = Object::new();
            out.set("name", name.as_str());
            out.set_nonempty("value_prefix", prefix.as_str());
            out.into()
        })
        .collect();
    let claims: Vec<Value> = provider
        .claim_to_headers
        .iter()
        .map(|(header, claim)| json!({"header_name": header, "claim_name": claim}))
        .collect();
    let mut out = Object::new();
    out.set("issuer", provider.issuer.as_str());
    out.set_nonempty("audiences", texts(&provider.audiences));
    out.set("local_jwks", json!({"inline_string": jwks}));
    out.set_nonempty("from_headers", headers);
    out.set_nonempty("from_params", texts(&provider.from_params));
    out.set_nonempty("from_cookies", texts(&provider.from_cookies));
    out.set_nonempty("forward", provider.forward);
    out.set_nonempty("forward_payload_header", provider.forward_payload_header.as_str());
    out.set_nonempty("claim_to_headers", claims);
    out.set("payload_in_metadata", "payload");
    out.into()
}
