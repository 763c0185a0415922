//! Whole resources.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::route::http_route;

const HOSTS: &[&str] = &[
    "reviews",
    "ratings.default.svc.cluster.local",
    "cart.shop.svc.cluster.local",
    "empty",
    "broken",
    "api.example.com",
    "*.wild.example.com",
    "www.wild.example.com",
];

/// Where VirtualServices hold.
const BINDINGS: &[&[&str]] = &[&["mesh"], &["istio-ingress/public"], &["mesh", "istio-ingress/public"]];

/// Hosts that the gateway serves.
const SERVED: &[&[&str]] = &[
    &["*"],
    &["api.example.com"],
    &["*.wild.example.com", "reviews.default.svc.cluster.local"],
    &["default/*"],
];

/// A VirtualService with http rules, for sidecars, the gateway or both.
pub fn virtual_service() -> impl Strategy<Value = Value> {
    let gateways = select(BINDINGS);
    // istiod takes no host that another one of the list covers.
    let hosts = subsequence(HOSTS, 1..3).prop_map(|mut hosts| {
        if hosts.contains(&"*.wild.example.com") {
            hosts.retain(|host| *host != "www.wild.example.com");
        }
        hosts
    });
    (hosts, gateways, vec(http_route(), 1..5)).prop_map(|(hosts, gateways, http)| {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"namespace": "default"},
            "spec": {"hosts": hosts, "gateways": gateways, "http": http},
        })
    })
}

/// A DestinationRule with subsets and a policy that does not keep a plaintext stand-in away.
pub fn destination_rule() -> impl Strategy<Value = Value> {
    let host =
        select(&["reviews", "ratings", "broken", "api.example.com", "*.default.svc.cluster.local"][..]);
    let policy = proptest::option::of(prop_oneof![
        Just(json!({"loadBalancer": {"simple": "ROUND_ROBIN"}})),
        Just(json!({"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}})),
        Just(json!({"loadBalancer": {"consistentHash": {"httpCookie": {"name": "sticky", "ttl": "60s"}}}})),
        Just(
            json!({"loadBalancer": {"consistentHash": {"httpCookie": {"name": "sticky", "path": "/api", "ttl": "0s"}}}})
        ),
        Just(
            json!({"loadBalancer": {"consistentHash": {"httpCookie": {"name": "a", "ttl": "1s"}, "maglev": {"tableSize": 5}}}})
        ),
        Just(json!({"loadBalancer": {"consistentHash": {"httpQueryParameterName": "q"}}})),
        Just(json!({"loadBalancer": {"consistentHash": {"useSourceIp": true}}})),
        Just(json!({"connectionPool": {"http": {"http1MaxPendingRequests": 100}}})),
    ]);
    (host, policy).prop_map(|(host, policy)| {
        let mut spec = json!({
            "host": host,
            "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
        });
        if let (Some(policy), Value::Object(fields)) = (policy, &mut spec) {
            fields.insert("trafficPolicy".to_owned(), policy);
        }
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"namespace": "default"},
            "spec": spec,
        })
    })
}

/// A ServiceEntry for HTTP on port 80.
pub fn service_entry() -> impl Strategy<Value = Value> {
    let host = select(&["api.example.com", "www.wild.example.com", "static.example.com"][..]);
    let resolution = select(&["DNS", "STATIC", "NONE"][..]);
    (host, resolution).prop_map(|(host, resolution)| {
        let mut spec = json!({
            "hosts": [host],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": resolution,
            "location": "MESH_EXTERNAL",
        });
        if let (true, Value::Object(fields)) = (resolution == "STATIC", &mut spec) {
            fields.insert(
                "endpoints".to_owned(),
                json!([{"address": "192.0.2.10"}, {"address": "192.0.2.11"}]),
            );
        }
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"namespace": "default"},
            "spec": spec,
        })
    })
}

/// A Gateway for the ingress gateway, plaintext on port 80.
pub fn gateway() -> impl Strategy<Value = Value> {
    let hosts = select(SERVED);
    (hosts, proptest::bool::weighted(0.1)).prop_map(|(hosts, redirect)| {
        let mut server = json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts});
        if let (true, Value::Object(fields)) = (redirect, &mut server) {
            fields.insert("tls".to_owned(), json!({"httpsRedirect": true}));
        }
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "public", "namespace": "istio-ingress"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
        })
    })
}
