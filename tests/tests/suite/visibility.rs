//! Which services and rules does a namespace's sidecar know?

use std::sync::Arc;

use dryroute::envoy::Xds;
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
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
