//! Clusters of ServiceEntries that share a host.

use super::tests::{addresses, pod, proxy};
use crate::envoy::xds::Xds;
use crate::istiod::Proxy;

/// A client, and two ServiceEntries with the host `api.example`, the first one older.
fn of_two(older: &str, younger: &str) -> Proxy {
    let entry = |name: &str, age: u32, spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: {name}, namespace: shop, creationTimestamp: '2025-01-0{age}T00:00:00Z'}}\n\
             spec: {{hosts: [api.example], {spec}}}\n---\n"
        )
    };
    let client = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client");
    proxy(&(client + &entry("older", 1, older) + &entry("younger", 2, younger)))
}

const STATIC: &str = "resolution: STATIC, endpoints: [{address: 192.0.2.1}]";
const HTTP: &str = "ports: [{number: 80, name: http, protocol: HTTP}]";

#[test]
fn every_address_of_every_entry_has_endpoints_of_its_own() {
    let two_addresses = format!("{STATIC}, {HTTP}, addresses: [203.0.113.1, 203.0.113.2]");
    let proxy = of_two(&two_addresses, &format!("{STATIC}, {HTTP}"));
    let cluster = proxy.cluster("outbound|80||api.example").unwrap();
    assert_eq!(addresses(&cluster), ["192.0.2.1", "192.0.2.1", "192.0.2.1"]);
    let one_twice = format!("{STATIC}, {HTTP}, addresses: [203.0.113.1, 203.0.113.1]");
    let proxy = of_two(&one_twice, &format!("{STATIC}, {HTTP}"));
    let cluster = proxy.cluster("outbound|80||api.example").unwrap();
    assert_eq!(addresses(&cluster), ["192.0.2.1", "192.0.2.1"]);
}

#[test]
fn a_cluster_that_resolves_one_name_has_that_of_the_oldest_entry() {
    let named = |name: &str| format!("resolution: DNS_ROUND_ROBIN, {HTTP}, endpoints: [{{address: {name}}}]");
    let proxy = of_two(&named("a.example"), &named("b.example"));
    let cluster = proxy.cluster("outbound|80||api.example").unwrap();
    assert_eq!(addresses(&cluster), ["a.example"]);
}

#[test]
fn names_are_joined_by_the_ports_number_and_addresses_by_its_name() {
    let entry = |name: &str, port: &str, resolution: &str| {
        let ports = format!("ports: [{{number: 80, name: {port}, protocol: HTTP}}]");
        format!("resolution: {resolution}, {ports}, endpoints: [{{address: {name}}}]")
    };
    let proxy = of_two(&entry("a.example", "http", "DNS"), &entry("b.example", "http-other", "DNS"));
    let cluster = proxy.cluster("outbound|80||api.example").unwrap();
    assert_eq!(addresses(&cluster), ["a.example", "b.example"]);
    let proxy = of_two(&entry("192.0.2.1", "http", "STATIC"), &entry("192.0.2.2", "http-other", "STATIC"));
    let cluster = proxy.cluster("outbound|80||api.example").unwrap();
    assert_eq!(addresses(&cluster), ["192.0.2.1"]);
}

#[test]
fn a_port_that_only_the_younger_entry_has_keeps_its_own_number() {
    let older = format!("resolution: NONE, {HTTP}");
    let younger = "resolution: NONE, ports: [{number: 8443, name: http-s, protocol: HTTP, targetPort: 443}]";
    let port_override =
        |proxy: &Proxy| proxy.cluster("outbound|8443||api.example").unwrap().original_dst_port_override;
    assert_eq!(port_override(&of_two(&older, younger)), None);
    assert_eq!(port_override(&of_two(younger, &older)), Some(443));
}

#[test]
fn a_service_entry_selects_ready_pods_only() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: own, namespace: shop}\n\
        spec: {hosts: [api.example], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], \
        workloadSelector: {labels: {app: web}}}\n---\n";
    let pods = [("client", "10.0.0.1", true, "app: client"), ("up", "10.0.0.2", true, "app: web")];
    let pods = pods.into_iter().chain([("down", "10.0.0.3", false, "app: web")]);
    let pods: String =
        pods.map(|(name, ip, ready, labels)| pod(name, ip, "r1.z1.s1", ready, labels)).collect();
    let proxy = proxy(&(pods + entry));
    assert_eq!(addresses(&proxy.cluster("outbound|80||api.example").unwrap()), ["10.0.0.2"]);
}

#[test]
fn an_endpoint_without_a_sidecar_is_not_known_for_mutual_tls_though_a_rule_asks_for_it() {
    let endpoints = "resolution: STATIC, endpoints: [{address: 192.0.2.1}, \
        {address: 192.0.2.2, labels: {security.istio.io/tlsMode: istio}}]";
    let client = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client");
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: own, namespace: shop}}\n\
         spec: {{hosts: [api.example], {endpoints}, {HTTP}}}\n---\n"
    );
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: own, namespace: shop}\n\
        spec: {host: api.example, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n---\n";
    let cluster = proxy(&(client + &entry + rule)).cluster("outbound|80||api.example").unwrap();
    let known = cluster.load_assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints);
    assert_eq!(known.map(|endpoint| endpoint.istio_mutual).collect::<Vec<_>>(), [false, true]);
}
