//! Who may ask for what.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::matching::{HEADERS, VALUES};

/// Fields of `source` and what they may list. Not `ipBlocks`: the PROXY protocol, which tells an Envoy on one machine who connects, does
/// not change what it matches them with (Envoy: `connection_impl.cc: directRemoteAddress`).
const SOURCE: &[(&str, &[&str])] = &[
    ("remoteIpBlocks", &["198.51.100.0/24", "203.0.113.9", "10.244.0.10"]),
    ("namespaces", &["default", "shop", "*"]),
    ("principals", &["cluster.local/ns/default/sa/sleep", "*"]),
];

/// Fields of `operation` and what they may list.
const OPERATION: &[(&str, &[&str])] = &[
    ("methods", &["GET", "POST", "P*", "OPTIONS"]),
    ("paths", &["/api", "/api/*", "*/a.css", "/api/{*}/users", "/{**}", "/b", "*"]),
    ("hosts", &["reviews", "reviews:*", "*.example.com", "*.svc.cluster.local", "REVIEWS"]),
    ("ports", &["8080", "80"]),
];

/// Keys of conditions besides headers, and their values.
const KEYS: &[(&str, &[&str])] = &[
    ("remote.ip", &["198.51.100.1", "203.0.113.0/24"]),
    ("destination.ip", &["10.244.1.0/24", "10.244.0.20"]),
    ("destination.port", &["8080", "80"]),
    ("source.namespace", &["default", "*"]),
    ("connection.sni", &["*.example.com", "*"]),
];

/// Some of the fields, each as it is or as what must not be.
fn fields(known: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Value> {
    let field = select(known).prop_flat_map(|(name, values)| {
        let values = subsequence(values, 1..=2.min(values.len()));
        (Just(name), values, proptest::bool::weighted(0.25))
    });
    vec(field, 1..3).prop_map(|fields| {
        let named = |(name, values, not): (&str, Vec<&str>, bool)| {
            let (first, rest) = name.split_at(1);
            let name = if not { format!("not{}{rest}", first.to_uppercase()) } else { name.to_owned() };
            (name, json!(values))
        };
        Value::Object(fields.into_iter().map(named).collect())
    })
}

fn condition() -> impl Strategy<Value = Value> {
    let header = (select(HEADERS), subsequence(VALUES, 1..3)).prop_map(|(name, values)| {
        let values: Vec<&str> = values.into_iter().filter(|value| !value.is_empty()).collect();
        (format!("request.headers[{name}]"), values)
    });
    let other = select(KEYS).prop_map(|(key, values)| (key.to_owned(), values.to_vec()));
    let any = prop_oneof![2 => header, 1 => other]
        .prop_filter("a condition has values", |(_, values)| !values.is_empty());
    (any, proptest::bool::weighted(0.3)).prop_map(|((key, values), not)| {
        let name = if not { "notValues" } else { "values" };
        json!({"key": key, name: values})
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let from = vec(fields(SOURCE).prop_map(|source| json!({"source": source})), 0..2);
    let to = vec(fields(OPERATION).prop_map(|operation| json!({"operation": operation})), 0..3);
    (from, to, vec(condition(), 0..2)).prop_map(|(from, to, when)| {
        let mut rule = Map::new();
        for (name, list) in [("from", from), ("to", to), ("when", when)] {
            if !list.is_empty() {
                rule.insert(name.to_owned(), list.into());
            }
        }
        Value::Object(rule)
    })
}

/// An AuthorizationPolicy for `reviews`, a namespace, or the mesh.
pub fn authorization_policy() -> impl Strategy<Value = Value> {
    let place = prop_oneof![
        3 => Just(("default", Some(json!({"app": "reviews"})))),
        1 => Just(("default", None)),
        1 => Just(("istio-ingress", Some(json!({"istio": "ingressgateway"})))),
        1 => Just(("istio-system", None)),
    ];
    let action = select(&["ALLOW", "DENY", "DENY", "AUDIT"][..]);
    (place, action, vec(rule(), 0..3)).prop_map(|((namespace, labels), action, mut rules)| {
        // istiod takes no other action without a rule.
        if rules.is_empty() && action != "ALLOW" {
            rules.push(json!({}));
        }
        let mut spec = Map::new();
        spec.insert("action".to_owned(), action.into());
        if let Some(labels) = labels {
            spec.insert("selector".to_owned(), json!({"matchLabels": labels}));
        }
        if !rules.is_empty() {
            spec.insert("rules".to_owned(), rules.into());
        }
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"namespace": namespace},
            "spec": spec,
        })
    })
}
