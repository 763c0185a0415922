//! AuthorizationPolicies become the RBAC filters that istiod makes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use dryroute::envoy::export::{Document, export};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::manifest::schema::mesh_config::MeshConfig;
use dryroute::mesh::{Mesh, MeshOptions};
use serde_json::{Map, Value, json};

/// A name of proto's JSON as the field's name.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The value with the names of fields in place of proto's JSON names; names of policies stay.
fn fields(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let name = if key.contains(['[', '@']) { key.clone() } else { snake_case(key) };
                (name, fields(value))
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(fields).collect(),
        other => other.clone(),
    }
}

/// The names of the message that combines conditions of the request, or of the caller.
#[derive(Clone, Copy)]
struct Side {
    or: &'static str,
    list: &'static str,
}

const PERMISSION: Side = Side { or: "or_rules", list: "rules" };
const PRINCIPAL: Side = Side { or: "or_ids", list: "ids" };

/// The same condition with what can be written in two ways written in one: header names are in lower case, and
/// several values of metadata are several conditions.
fn canonical(condition: &Value, side: Side) -> Value {
    let Value::Object(map) = condition else {
        return match condition {
            Value::Array(list) => list.iter().map(|part| canonical(part, side)).collect(),
            other => other.clone(),
        };
    };
    if let Some(name) = map.get("header").and_then(|header| header["name"].as_str()) {
        let mut out = condition.clone();
        out["header"]["name"] = json!(name.to_lowercase());
        return out;
    }
    if let Some(values) =
        map.get("metadata").and_then(|m| m["value"]["or_match"]["value_matchers"].as_array())
    {
        let of_list = values.iter().find_map(|value| value.get("list_match")).map(|list| &list["one_of"]);
        let several = of_list.map_or(Some(values), |one| one["or_match"]["value_matchers"].as_array());
        let Some(several) = several else { return condition.clone() };
        let each = several.iter().map(|value| {
            let mut out = condition.clone();
            out["metadata"]["value"] = if of_list.is_some() {
                json!({ "or_match": { "value_matchers": [{ "list_match": { "one_of": value } }, value] } })
            } else {
                value.clone()
            };
            out
        });
        return json!({ side.or: { side.list: each.collect::<Value>() } });
    }
    map.iter().map(|(key, value)| (key.clone(), canonical(value, side))).collect::<Map<_, _>>().into()
}

/// What a filter enforces; a rule with several `from` or `to` counts as one condition.
fn rules(filter: &Value) -> Option<Value> {
    let rules = filter["typed_config"].get("rules")?;
    let joined = |list: &Value, side: Side| match list.as_array().unwrap().as_slice() {
        [only] => canonical(only, side),
        several => canonical(&json!({ side.or: { side.list: several } }), side),
    };
    let policies: BTreeMap<String, Value> = rules["policies"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, policy)| {
            let body = json!({
                "permission": joined(&policy["permissions"], PERMISSION),
                "principal": joined(&policy["principals"], PRINCIPAL),
            });
            (name.clone(), body)
        })
        .collect();
    Some(json!({ "action": rules.get("action").unwrap_or(&json!("ALLOW")), "policies": policies }))
}

/// The RBAC filters of the chains that take every port of a sidecar.
fn built(case: &Value, manifests: &str) -> Vec<Value> {
    let aliases = case["trust_domain_aliases"].as_array().unwrap();
    let mesh_config = MeshConfig {
        trust_domain: case["trust_domain"].as_str().map(Into::into),
        trust_domain_aliases: Some(aliases.iter().map(|a| a.as_str().unwrap().into()).collect()),
        ..MeshConfig::default()
    };
    let set = Loader::new().text("policies.yaml", manifests).load();
    let mesh = Mesh::new(set, MeshOptions { mesh_config: Some(mesh_config), ..MeshOptions::default() });
    let mut node = Node::sidecar("foo", "httpbin", vec!["10.0.0.1".parse().unwrap()]);
    node.labels = [("app", "httpbin"), ("version", "v1")].map(|(k, v)| (k.into(), v.into())).into();
    let snapshot = Proxy::new(Arc::new(mesh), node).snapshot();
    let document = export(&snapshot, Document::Lds, None).document;
    let listeners = document["resources"].as_array().unwrap();
    let listener = listeners.iter().find(|l| l["name"] == "virtualInbound").unwrap();
    let http = case["protocol"] == "http";
    let name = if http { "virtualInbound-catchall-http" } else { "virtualInbound" };
    let chain = listener["filter_chains"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap();
    let network = chain["filters"].as_array().unwrap();
    let filters = if http {
        network.last().unwrap()["typed_config"]["http_filters"].as_array().unwrap()
    } else {
        network
    };
    filters
        .iter()
        .filter(|f| f["name"] == "envoy.filters.http.rbac" || f["name"] == "envoy.filters.network.rbac")
        .filter_map(rules)
        .collect()
}

#[test]
fn policies_become_the_filters_that_istiod_makes_of_them() {
    let Some(folder) = dryroute_tests::conformance("authz") else { return };
    let text = std::fs::read_to_string(folder.join("builder.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut failures = Vec::new();
    let mut compared = 0;
    // External authorizers are asked at run time: those filters are opaque.
    for case in cases.iter().filter(|case| case["custom"] == false) {
        let name = format!("{} {}", case["protocol"], case["name"]);
        let manifests = std::fs::read_to_string(folder.join(case["policies"].as_str().unwrap())).unwrap();
        let expected: Vec<Value> =
            case["expected"].as_array().unwrap().iter().map(fields).filter_map(|f| rules(&f)).collect();
        let got = built(case, &manifests);
        compared += 1;
        if expected != got {
            failures.push(format!("{name}:\n  expected {}\n  got      {}", json!(expected), json!(got)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared >= 22, "only {compared} cases");
}
