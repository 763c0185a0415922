//! Which services and rules does a namespace's sidecar know?

use std::sync::Arc;

use dryroute::envoy::config::NetworkFilter;
use dryroute::envoy::{Capture, Xds};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::{Loader, parse_mesh_config};
use dryroute::mesh::{Mesh, MeshOptions};

fn entry(name: &str, port: u16, export_to: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: [api.example], ports: [{{number: {port}, name: http, protocol: HTTP}}], resolution: DNS{export_to}}}\n---\n"
    )
}

fn clusters(second: &str) -> Vec<bool> {
    let text = entry("a", 80, ", exportTo: ['*']") + &entry("b", 8080, second);
    let mesh = Mesh::new(Loader::new().text("se.yaml", text).load(), MeshOptions::default());
    let node = Node::sidecar("default", "sleep", vec!["10.0.0.1".parse().unwrap()]);
    let proxy = Proxy::new(Arc::new(mesh), node);
    [80, 8080].map(|port| proxy.cluster(&format!("outbound|{port}||api.example")).is_some()).to_vec()
}

#[test]
fn entries_of_one_host_share_clusters_only_if_export_to_is_written_alike() {
    assert_eq!(clusters(", exportTo: ['*']"), [true, true]);
    // As istiod compares what is written, not what it means: the younger entry's port has no cluster.
    assert_eq!(clusters(""), [true, false]);
}

#[test]
fn an_explicit_proxy_that_no_egress_listener_serves_passes_everything_through() {
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\n\
                   spec: {egress: [{port: {number: 443, protocol: HTTPS, name: p}, hosts: ['./*']}]}\n---\n";
    let text = entry("a", 80, "") + sidecar;
    let mesh_config = parse_mesh_config("mesh", "proxyHttpPort: 15080").0;
    let options = MeshOptions { mesh_config, ..MeshOptions::default() };
    let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), options);
    let proxy =
        Proxy::new(Arc::new(mesh), Node::sidecar("default", "sleep", vec!["10.0.0.1".parse().unwrap()]));
    let whole = proxy.route_configuration("http_proxy").unwrap();
    let names: Vec<&str> = whole.virtual_hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["allow_any"]);
    let chosen = proxy.virtual_host("http_proxy", "api.example").unwrap().virtual_host;
    assert_eq!(chosen.unwrap().name, "allow_any");
}

#[test]
fn istiods_switches_for_names_and_client_addresses_are_heard() {
    let of = |switch: &str, value: &str| {
        let mut options = MeshOptions::default();
        assert!(options.features.set(switch, value));
        let mesh = Mesh::new(Loader::new().text("m.yaml", entry("a", 80, "")).load(), options);
        Proxy::new(Arc::new(mesh), Node::sidecar("default", "sleep", vec!["10.0.0.1".parse().unwrap()]))
    };
    let domains = |value: &str| {
        let proxy = of("PILOT_ENABLE_ABSOLUTE_FQDN_VHOST_DOMAIN", value);
        let whole = proxy.route_configuration("80").unwrap();
        whole.virtual_hosts[0].domains.iter().any(|domain| domain == "api.example.")
    };
    assert!(domains("true") && !domains("false"));
    let trusts = |value: &str| {
        let proxy = of("PILOT_SIDECAR_USE_REMOTE_ADDRESS", value);
        let listener = proxy.listener(Capture::Outbound, "192.0.2.1".parse().unwrap(), 80).unwrap();
        listener.filter_chains.iter().any(|chain| match &chain.terminal {
            NetworkFilter::HttpConnectionManager(manager) => manager.use_remote_address,
            NetworkFilter::TcpProxy(_) => false,
        })
    };
    assert!(trusts("true") && !trusts("false"));
}
