//! Conditions of rules.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Paths that conditions and requests share.
pub(super) const PATHS: &[&str] =
    &["/", "/api", "/api/v1", "/api/v1/users", "/static", "/static/a.css", "/b", "/API", "/a b"];
/// Header names that conditions, operations and requests share.
pub(super) const HEADERS: &[&str] =
    &["x-a", "x-b", "x-user", "user-agent", "cookie", "accept", "content-type", "x-forwarded-proto"];
/// Values of headers and query parameters.
pub(super) const VALUES: &[&str] = &["1", "2", "jason", "a,b", "", "Jason", "application/grpc", "v1.2"];
/// Regular expressions that meet some of the values and paths.
const PATTERNS: &[&str] =
    &["[0-9]+", ".*", "j.*n", "a|a,b", "(?i)jason", "v\\d\\.\\d", "/api/v[0-9]/.*", "/static/.+\\.css", ".+"];

/// A `StringMatch` over values that requests use.
pub fn string_match() -> impl Strategy<Value = Value> {
    of(VALUES)
}

fn of(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => select(values).prop_map(|v| json!({"exact": v})),
        2 => select(values).prop_filter("a prefix has text", |v| !v.is_empty()).prop_map(|v| json!({"prefix": v})),
        2 => select(PATTERNS).prop_map(|v| json!({"regex": v})),
    ]
}

fn uri() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => select(PATHS).prop_map(|v| json!({"exact": v})),
        5 => select(PATHS).prop_map(|v| json!({"prefix": v})),
        1 => select(&["/api/v1/", "/stat", "/api/"][..]).prop_map(|v| json!({"prefix": v})),
        2 => select(PATTERNS).prop_map(|v| json!({"regex": v})),
    ]
}

fn by_name(
    names: &'static [&'static str],
    condition: impl Strategy<Value = Value>,
    most: usize,
) -> impl Strategy<Value = Value> {
    vec((select(names), condition), 1..=most).prop_map(|entries| {
        let map: Map<String, Value> = entries.into_iter().map(|(name, c)| (name.to_owned(), c)).collect();
        Value::Object(map)
    })
}

fn present_or(condition: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(json!({})), 5 => condition]
}

/// Where a condition holds: gateways, port, and who asks.
fn source() -> impl Strategy<Value = Map<String, Value>> {
    (
        option::weighted(0.1, select(&["mesh", "istio-ingress/public"][..])),
        option::weighted(0.1, select(&[80_u32, 80, 8080][..])),
        option::weighted(0.1, select(&[("app", "sleep"), ("app", "sleep"), ("app", "other")][..])),
        option::weighted(0.07, select(&["default", "default", "shop"][..])),
    )
        .prop_map(|(gateway, port, label, namespace)| {
            let mut out = Map::new();
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    out.insert(name.to_owned(), value);
                }
            };
            set("gateways", gateway.map(|gateway| json!([gateway])));
            set("port", port.map(Value::from));
            set("sourceLabels", label.map(|(name, value)| json!({name: value})));
            set("sourceNamespace", namespace.map(Value::from));
            out
        })
}

/// An `HTTPMatchRequest`.
pub fn http_match_request() -> impl Strategy<Value = Value> {
    (
        source(),
        option::weighted(0.8, uri()),
        option::weighted(0.2, any::<bool>()),
        option::weighted(0.15, select(&["GET", "POST", "HEAD"][..])),
        option::weighted(0.1, select(&["reviews", "api.example.com", "API.example.com", "reviews:80"][..])),
        option::weighted(0.05, select(&["http", "https"][..])),
        option::weighted(0.25, by_name(HEADERS, present_or(string_match()), 2)),
        option::weighted(0.1, by_name(HEADERS, present_or(string_match()), 2)),
        option::weighted(0.15, by_name(&["q", "v", "Q"], present_or(string_match()), 2)),
    )
        .prop_map(|(source, uri, ignore_case, method, authority, scheme, headers, without, query)| {
            let mut out = source;
            let mut set = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    out.insert(name.to_owned(), value);
                }
            };
            let regex = uri.as_ref().is_some_and(|uri| uri.get("regex").is_some());
            set("ignoreUriCase", ignore_case.filter(|_| uri.is_some() && !regex).map(Value::from));
            set("uri", uri);
            set("method", method.map(|m| json!({"exact": m})));
            set("authority", authority.map(|a| json!({"exact": a})));
            set("scheme", scheme.map(|s| json!({"exact": s})));
            set("headers", headers);
            set("withoutHeaders", without);
            set("queryParams", query);
            Value::Object(out)
        })
}
