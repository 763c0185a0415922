use std::sync::Arc;

use super::*;
use crate::envoy::config::{EscapedSlashes, HttpConnectionManager};
use crate::envoy::{Capture, Xds};
use crate::istiod::node::NodeType;
use crate::manifest::Loader;
use crate::mesh::{Mesh, MeshOptions};

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 8443, name: tls, protocol: TLS}, hosts: [a.test], tls: {mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: istio-system}
spec:
  hosts: [a.test]
  gateways: [web]
  http: [{route: [{destination: {host: a.test}}]}]
  tls: [{match: [{port: 8443, sniHosts: [a.test]}], route: [{destination: {host: a.test}}]}]
";

/// An EnvoyFilter with one patch, in flow style.
fn filter(name: &str, namespace: &str, more: &str, patch: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{{more}configPatches: [{patch}]}}\n"
    )
}

/// A merge into the connection manager of listeners that meet `condition`.
fn merge(condition: &str, settings: &str) -> String {
    format!(
        "{{applyTo: NETWORK_FILTER, match: {{{condition}listener: {{filterChain: {{filter: {{name: {CONNECTION_MANAGER}}}}}}}}}, \
         patch: {{operation: MERGE, value: {{typed_config: {{'@type': {TYPE}, {settings}}}}}}}}}"
    )
}

const CONNECTION_MANAGER: &str = settings::CONNECTION_MANAGER;
const TYPE: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

fn gateway(filters: &str) -> Proxy {
    let text = format!("{GATEWAY}{filters}");
    let mesh = Mesh::new(Loader::new().text("mesh.yaml", text).load(), MeshOptions::default());
    let node = Node {
        node_type: NodeType::Router,
        labels: [("istio".into(), "ingressgateway".into())].into_iter().collect(),
        ..Node::sidecar("istio-system", "ingressgateway", vec!["10.0.0.1".parse().unwrap()])
    };
    Proxy::new(Arc::new(mesh), node)
}

fn chain(proxy: &Proxy, port: u16) -> Arc<FilterChain> {
    let listener = proxy.listener(Capture::Direct, "10.0.0.1".parse().unwrap(), port).unwrap();
    Arc::clone(&listener.filter_chains[0])
}

fn manager(proxy: &Proxy) -> Arc<HttpConnectionManager> {
    match &chain(proxy, 80).terminal {
        NetworkFilter::HttpConnectionManager(manager) => Arc::clone(manager),
        NetworkFilter::TcpProxy(_) => panic!("no HTTP"),
    }
}

fn is_opaque(proxy: &Proxy, port: u16) -> bool {
    let chain = chain(proxy, port);
    match &chain.terminal {
        NetworkFilter::HttpConnectionManager(manager) => {
            manager.http_filters.iter().any(|filter| matches!(filter, HttpFilter::Opaque { .. }))
        }
        NetworkFilter::TcpProxy(_) => !chain.access_filters.is_empty(),
    }
}

#[test]
fn settings_are_merged_in_the_order_of_priority_and_the_root_namespace_goes_first() {
    let text = filter("a", "istio-system", "priority: 5, ", &merge("", "xffNumTrustedHops: 3"))
        + &filter(
            "b",
            "istio-system",
            "",
            &merge("context: GATEWAY, ", "xff_num_trusted_hops: 1, merge_slashes: true"),
        )
        + &filter("c", "istio-system", "priority: -1, ", &merge("", "xff_num_trusted_hops: 2"));
    let proxy = gateway(&text);
    let manager = manager(&proxy);
    assert_eq!((manager.xff_num_trusted_hops, manager.merge_slashes), (3, true));
    let names: Vec<&str> = manager.patches.iter().map(|patch| patch.name.as_str()).collect();
    assert_eq!(names, ["istio-system/c", "istio-system/b", "istio-system/a"]);
    assert!(!is_opaque(&proxy, 80) && !is_opaque(&proxy, 8443));
}

/// As Istio's merge of messages has it: a default counts as absent.
#[test]
fn a_setting_at_its_default_changes_nothing() {
    let proxy = gateway(&filter(
        "a",
        "istio-system",
        "",
        &merge(
            "",
            "use_remote_address: false, xff_num_trusted_hops: 0, server_name: '', generate_request_id: false, \
             path_with_escaped_slashes_action: IMPLEMENTATION_SPECIFIC_DEFAULT, stream_idle_timeout: 5s",
        ),
    ));
    let manager = manager(&proxy);
    assert!(manager.use_remote_address);
    assert_eq!((manager.xff_num_trusted_hops, manager.server_name.as_str()), (0, "istio-envoy"));
    assert_eq!(manager.path_with_escaped_slashes_action, EscapedSlashes::KeepUnchanged);
    // istiod leaves this one out, so that a patch can switch it off.
    assert!(!manager.generate_request_id);
}

#[test]
fn a_patch_that_is_not_modelled_makes_the_chains_that_it_fits_unknown() {
    let http_filter = |listener: &str| {
        format!(
            "{{applyTo: HTTP_FILTER, match: {{listener: {{{listener}}}}}, \
             patch: {{operation: INSERT_FIRST, value: {{name: lua}}}}}}"
        )
    };
    let network = |operation: &str, name: &str| {
        format!(
            "{{applyTo: NETWORK_FILTER, match: {{listener: {{filterChain: {{filter: {{name: {name}}}}}}}}}, \
             patch: {{operation: {operation}, value: {{name: x}}}}}}"
        )
    };
    let plain =
        |apply_to: &str| format!("{{applyTo: {apply_to}, patch: {{operation: MERGE, value: {{name: x}}}}}}");
    for (patch, http, tcp) in [
        (merge("", "local_reply_config: {}"), true, false),
        (merge("", "max_request_headers_kb: 0"), true, false),
        (merge("", "upgrade_configs: [{upgrade_type: CONNECT}]"), true, false),
        (merge("proxy: {metadata: {X: one}}, ", "merge_slashes: true"), true, false),
        (merge("proxy: {proxyVersion: '^1\\.32\\.1$'}, ", "merge_slashes: true"), true, false),
        (http_filter(""), true, false),
        (http_filter("portNumber: 80"), true, false),
        (http_filter("portNumber: 8443"), false, false),
        (http_filter("name: 0.0.0.0_80"), true, false),
        (http_filter("name: elsewhere"), false, false),
        (http_filter("filterChain: {sni: a.test}"), false, false),
        (merge("", "merge_slashes: true").replace(": MERGE,", ": MERGE_AND_REPLACE_LIST,"), false, false),
        (network("REMOVE", CONNECTION_MANAGER), true, false),
        (network("INSERT_BEFORE", "envoy.filters.network.tcp_proxy"), false, true),
        (network("REPLACE", "istio.stats"), true, true),
        (network("INSERT_FIRST", "envoy.filters.network.tcp_proxy"), true, true),
        (plain("CLUSTER"), false, false),
        (plain("HTTP_ROUTE"), true, false),
        (plain("LISTENER"), true, true),
        (plain("EXTENSION_CONFIG"), false, false),
        (plain("BOOTSTRAP"), false, false),
    ] {
        let proxy = gateway(&filter("a", "istio-system", "", &patch));
        assert_eq!((is_opaque(&proxy, 80), is_opaque(&proxy, 8443)), (http, tcp), "{patch}");
    }
}

#[test]
fn a_patch_for_other_proxies_changes_nothing() {
    let hops = "xff_num_trusted_hops: 1";
    for (namespace, more, condition, applied) in [
        ("istio-system", "", "", true),
        ("elsewhere", "", "", false),
        ("istio-system", "workloadSelector: {labels: {istio: ingressgateway}}, ", "", true),
        ("istio-system", "workloadSelector: {labels: {istio: egressgateway}}, ", "", false),
        (
            "istio-system",
            "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: web}], ",
            "",
            false,
        ),
        ("istio-system", "", "context: SIDECAR_INBOUND, ", false),
        ("istio-system", "", "context: GATEWAY, proxy: {proxyVersion: '^1\\.31.*'}, ", false),
        ("istio-system", "", "context: GATEWAY, proxy: {proxyVersion: '^1\\.32.*'}, ", true),
    ] {
        let proxy = gateway(&filter("a", namespace, more, &merge(condition, hops)));
        let manager = manager(&proxy);
        assert_eq!(manager.xff_num_trusted_hops == 1, applied, "{namespace} {more} {condition}");
        assert!(!is_opaque(&proxy, 80));
    }
}

/// A sidecar whose mesh has the Service `shop/cart` with ports 80 and 8080.
fn sidecar(filters: &str) -> Proxy {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: cart, namespace: shop}}\n\
         spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: 80}}, {{name: tcp, port: 8080}}]}}\n{filters}"
    );
    let mesh = Mesh::new(Loader::new().text("mesh.yaml", text).load(), MeshOptions::default());
    Proxy::new(Arc::new(mesh), Node::sidecar("shop", "client", vec!["10.0.0.1".parse().unwrap()]))
}

#[test]
fn a_patch_of_clusters_changes_those_that_it_fits_and_no_others() {
    const HOST: &str = "cart.shop.svc.cluster.local";
    let patch = |condition: &str, operation: &str, value: &str| {
        format!(
            "{{applyTo: CLUSTER, match: {{{condition}}}, patch: {{operation: {operation}, value: {{{value}}}}}}}"
        )
    };
    let (kept, removed, unknown) = ("kept", "removed", "unknown");
    for (condition, operation, value, http, tcp) in [
        ("", "MERGE", "connect_timeout: 3s", kept, kept),
        ("", "MERGE", "circuit_breakers: {thresholds: [{max_connections: 1}]}", kept, kept),
        ("", "MERGE", "lb_policy: RANDOM", unknown, unknown),
        ("", "MERGE", "connect_timeout: 0s", unknown, unknown),
        ("cluster: {portNumber: 80}", "MERGE", "lb_policy: RANDOM", unknown, kept),
        ("cluster: {service: cart.shop.svc.cluster.local}", "MERGE", "lb_policy: RANDOM", unknown, unknown),
        ("cluster: {service: other.shop.svc.cluster.local}", "REMOVE", "", kept, kept),
        ("cluster: {name: 'outbound|8080||cart.shop.svc.cluster.local'}", "REMOVE", "", kept, removed),
        ("cluster: {subset: v1}", "REMOVE", "", kept, kept),
        ("context: SIDECAR_OUTBOUND", "REMOVE", "", removed, removed),
        ("context: GATEWAY", "REMOVE", "", kept, kept),
        ("", "ADD", "name: another", kept, kept),
    ] {
        let patch = patch(condition, operation, value);
        let proxy = sidecar(&filter("a", "shop", "", &patch));
        let fate = |port: u16| match proxy.cluster(&format!("outbound|{port}||{HOST}")) {
            None => removed,
            Some(cluster) if cluster.opaque.is_some() => unknown,
            Some(_) => kept,
        };
        assert_eq!((fate(80), fate(8080)), (http, tcp), "{patch}");
    }
    let patch = patch("", "MERGE", "connectTimeout: 3s, dns_refresh_rate: 5s");
    let cluster = sidecar(&filter("a", "shop", "", &patch)).cluster(&format!("outbound|80||{HOST}")).unwrap();
    assert_eq!(cluster.connect_timeout, std::time::Duration::from_secs(3));
    assert!(cluster.patches[0].partly);
}
