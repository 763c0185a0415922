//! Mesh configurations.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// A field and what it may be.
type Field = (&'static str, BoxedStrategy<Value>);

/// An object with some of the fields.
fn some_of(fields: Vec<Field>) -> BoxedStrategy<Value> {
    let start = Just(Map::new()).boxed();
    let join = |object: BoxedStrategy<Map<String, Value>>, (name, value): Field| {
        let add = move |(mut object, value): (Map<String, Value>, Option<Value>)| {
            object.extend(value.map(|value| (name.to_owned(), value)));
            object
        };
        (object, option::weighted(0.3, value)).prop_map(add).boxed()
    };
    fields.into_iter().fold(start, join).prop_map(Value::Object).boxed()
}

fn one_of(values: Vec<Value>) -> BoxedStrategy<Value> {
    select(values).boxed()
}

/// A field that is there and has this one in it.
fn with(name: &'static str, values: Vec<Value>) -> BoxedStrategy<Value> {
    one_of(values.into_iter().map(|value| json!({name: value})).collect())
}

fn switches() -> Vec<Value> {
    vec![json!(true), json!(false)]
}

fn certificate_details() -> Vec<Value> {
    ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]
        .into_iter()
        .map(Value::from)
        .collect()
}

/// Headers that proxies set.
fn proxy_headers() -> BoxedStrategy<Value> {
    let server = [json!({"disabled": true}), json!({"value": "shop"}), json!({"disabled": false})];
    some_of(vec![
        ("forwardedClientCert", one_of(certificate_details())),
        ("requestId", with("disabled", switches())),
        ("server", one_of(server.into())),
        ("attemptCount", with("disabled", switches())),
        ("envoyDebugHeaders", with("disabled", switches())),
        ("metadataExchangeHeaders", with("mode", vec![json!("IN_MESH")])),
        ("xForwardedHost", with("enabled", switches())),
        ("xForwardedPort", with("enabled", switches())),
    ])
}

/// What is in front of gateways.
fn gateway_topology() -> BoxedStrategy<Value> {
    some_of(vec![
        ("numTrustedProxies", one_of((0..4).map(Value::from).collect())),
        ("forwardClientCertDetails", one_of(certificate_details())),
    ])
}

/// A mesh configuration, in the ConfigMap that istiod reads it from.
pub fn mesh_config() -> impl Strategy<Value = Value> {
    let paths = ["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"];
    let retries = [
        json!({"attempts": 0}),
        json!({"attempts": 1, "retryOn": "5xx", "backoff": "1ms"}),
        json!({"attempts": 3, "retryOn": "connect-failure,503", "backoff": "1ms", "perTryTimeout": "5s"}),
    ];
    let underscores = [
        "HEADERS_WITH_UNDERSCORES_ALLOW",
        "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
        "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
    ];
    let slashes = ["KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"];
    let texts = |values: &[&str]| one_of(values.iter().map(|value| json!(value)).collect());
    let connection = some_of(vec![
        ("profile", texts(&["SIDECAR", "EDGE"])),
        ("httpHeadersWithUnderscoresAction", texts(&underscores)),
        ("httpMergeSlashes", one_of(switches())),
        ("httpPathWithEscapedSlashesAction", texts(&slashes)),
    ]);
    let default_config = some_of(vec![
        ("proxyHeaders", proxy_headers()),
        ("gatewayTopology", gateway_topology()),
        ("connectionSettings", connection),
    ]);
    let mesh = some_of(vec![
        ("pathNormalization", with("normalization", paths.into_iter().map(Value::from).collect())),
        ("outboundTrafficPolicy", with("mode", vec![json!("REGISTRY_ONLY"), json!("ALLOW_ANY")])),
        ("defaultHttpRetryPolicy", one_of(retries.to_vec())),
        ("defaultInboundHttpRetryPolicy", one_of(retries.to_vec())),
        ("defaultConfig", default_config),
    ]);
    mesh.prop_map(|mesh| {
        // A JSON value is always representable.
        let text = serde_yaml::to_string(&mesh).unwrap_or_default();
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": text},
        })
    })
}
