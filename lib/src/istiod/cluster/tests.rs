//! Endpoints as a client in `r1/z1/s1` gets them.

use std::sync::Arc;

use smol_str::{SmolStr, ToSmolStr};

use crate::envoy::config::{Cluster, EndpointAddress};
use crate::envoy::xds::Xds;
use crate::istiod::{Node, Proxy};
use crate::manifest::{Loader, parse_mesh_config};
use crate::mesh::{Features, Mesh, MeshOptions};

/// A pod in a locality, ready or not, with further labels.
fn pod(name: &str, ip: &str, locality: &str, ready: bool, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: shop, labels: {{topology.istio.io/locality: {locality}, {labels}}}}}\n\
         spec: {{containers: [{{name: app, ports: [{{containerPort: 80}}]}}, {{name: istio-proxy}}]}}\n\
         status: {{podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: '{ready}'}}]}}\n---\n",
        ready = if ready { "True" } else { "False" },
    )
}

/// The client, and servers of `web` in six localities, one of them not ready.
fn world() -> String {
    let servers = [
        ("10.0.1.1", "r1.z1.s1", true, "v: a"),
        ("10.0.1.2", "r1.z1.s1", false, "v: b"),
        ("10.0.2.1", "r1.z1.s2", true, "v: a"),
        ("10.0.3.1", "r1.z2.s1", true, "v: a"),
        ("10.0.4.1", "r2.z1.s1", true, "v: a"),
        ("10.0.5.1", "r3.z1.s1", true, "v: b"),
        ("10.0.5.2", "r3.z1.s1", true, "v: a"),
    ];
    let mut out = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client, v: a");
    for (n, (ip, locality, ready, labels)) in servers.into_iter().enumerate() {
        out.push_str(&pod(&format!("web-{n}"), ip, locality, ready, &format!("app: web, {labels}")));
    }
    out
}

fn service(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80}}]{more}}}\n---\n"
    )
}

/// A DestinationRule for `web`.
fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{host: web.shop.svc.cluster.local, {spec}}}\n---\n"
    )
}

fn proxy_with(manifests: &str, mesh_config: &str, features: Features) -> Proxy {
    let set = Loader::new().text("m.yaml", manifests).load();
    let options = MeshOptions {
        mesh_config: parse_mesh_config("mesh", mesh_config).0,
        features,
        ..MeshOptions::default()
    };
    let mesh = Arc::new(Mesh::new(set, options));
    let node = Node::of(&mesh, mesh.workloads().iter().find(|w| w.name == "client").unwrap()).unwrap();
    Proxy::new(mesh, node)
}

fn proxy(manifests: &str) -> Proxy {
    proxy_with(manifests, "", Features::default())
}

fn cluster(proxy: &Proxy, subset: &str) -> Arc<Cluster> {
    proxy.cluster(&format!("outbound|80|{subset}|web.shop.svc.cluster.local")).unwrap()
}

/// The groups: priority, weight, locality, addresses.
fn groups(cluster: &Cluster) -> Vec<(u32, u32, &str, Vec<SmolStr>)> {
    let address = |address: &EndpointAddress| match address {
        EndpointAddress::Socket(ip, _) => ip.to_smolstr(),
        EndpointAddress::Name(name, _) | EndpointAddress::Pipe(name) => name.clone(),
    };
    cluster
        .load_assignment
        .endpoints
        .iter()
        .map(|group| {
            let addresses = group.lb_endpoints.iter().map(|endpoint| address(&endpoint.address)).collect();
            (group.priority, group.load_balancing_weight, group.locality.as_str(), addresses)
        })
        .collect()
}

/// The addresses of all groups.
fn addresses(cluster: &Cluster) -> Vec<SmolStr> {
    groups(cluster).into_iter().flat_map(|group| group.3).collect()
}

#[test]
fn a_subset_can_be_of_a_zone() {
    let subset = rule("subsets: [{name: z2, labels: {topology.kubernetes.io/zone: z2}}]");
    assert_eq!(
        addresses(&cluster(&proxy(&format!("{}{}{subset}", world(), service(""))), "z2")),
        ["10.0.3.1"]
    );
}

#[test]
fn a_workload_entry_without_a_locality_has_that_of_its_label() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
                 metadata: {name: vm, namespace: shop}\n\
                 spec: {address: 10.0.9.9, labels: {app: web, istio-locality: r9.z9}}\n---\n";
    let client = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client");
    let found = cluster(&proxy(&format!("{client}{entry}{}", service(""))), "");
    assert_eq!(groups(&found), [(0, 1, "r9/z9", vec!["10.0.9.9".into()])]);
}
