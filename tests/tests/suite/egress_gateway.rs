//! The egress-gateway manifests, as the sidecar of a client is told them.

use std::path::PathBuf;
use std::sync::Arc;

use dryroute::envoy::Xds;
use dryroute::istiod::node::Node;
use dryroute::istiod::proxy::Proxy;
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};

fn sidecar() -> Proxy {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios/egress-gateway");
    let mesh = Mesh::new(Loader::new().path(folder).unwrap().load(), MeshOptions::default());
    Proxy::new(Arc::new(mesh), Node::sidecar("default", "sleep", vec!["10.244.0.10".parse().unwrap()]))
}

#[test]
fn the_sidecar_sends_httpbin_to_the_egress_gateway() {
    let choice = sidecar().virtual_host("80", "httpbin.org").unwrap();
    let host = choice.virtual_host.unwrap();
    assert_eq!(host.name, "httpbin.org:80");
    let route = format!("{:?}", host.routes.first().unwrap().action);
    assert!(route.contains("outbound|80||istio-egressgateway.istio-system.svc.cluster.local"), "{route}");
}

#[test]
fn the_answer_on_demand_is_the_one_of_the_whole_configuration() {
    let proxy = sidecar();
    let whole = proxy.route_configuration("80").unwrap();
    for (host, name) in [
        ("httpbin.org", "httpbin.org:80"),
        ("example.org", "allow_any"),
        ("istio-egressgateway.istio-system", "istio-egressgateway.istio-system.svc.cluster.local:80"),
    ] {
        let alone = proxy.virtual_host("80", host).unwrap().virtual_host.unwrap();
        let listed = whole.virtual_hosts.iter().find(|v| v.name == name).unwrap();
        assert_eq!(&alone, listed, "{host}");
    }
}

#[test]
fn origins_lead_to_the_line_that_was_written() {
    let proxy = sidecar();
    let cluster = proxy.cluster("outbound|80||httpbin.org").unwrap();
    let at = proxy.mesh().manifests().locate(&cluster.origin).unwrap();
    assert!(at.file.ends_with("lab.yaml"));
    assert_eq!((at.line, at.column), (7, 7));
}
