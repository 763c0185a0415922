//! Builds a mesh from values in place of YAML, asks one sidecar where its requests go, and says how long that took.
//!
//! `cargo run --release -p dryroute --example build_mesh -- 100000`

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use dryroute::envoy::xds::{Capture, Xds};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::schema::IntOrString;
use dryroute::manifest::schema::kubernetes::{
    Endpoint, EndpointPort, EndpointSlice, ServicePort, ServiceSpec,
};
use dryroute::manifest::{ManifestBuilder, ManifestSet, Meta, Spec};
use dryroute::mesh::{Mesh, MeshOptions};

fn meta(name: String, namespace: &str) -> Meta {
    Meta { name: name.into(), namespace: namespace.into(), ..Meta::default() }
}

/// `count` services in a hundred namespaces, each with an HTTP port, a TCP port and two endpoints.
fn manifests(count: u32) -> ManifestSet {
    let mut builder = ManifestBuilder::new();
    for number in 0..count {
        let name = format!("web-{number}");
        let namespace = format!("team-{}", number % 100);
        let port = |name: &str, port: u32| ServicePort {
            name: name.into(),
            port,
            target_port: Some(IntOrString::Int(8080)),
            ..ServicePort::default()
        };
        builder.add(
            meta(name.clone(), &namespace),
            Spec::Service(Arc::new(ServiceSpec {
                cluster_ip: Ipv4Addr::from(0x0A80_0000 + number).to_string().into(),
                ports: vec![port("http", 80), port("tcp", 9000)],
                ..ServiceSpec::default()
            })),
        );
        let mut slice = meta(format!("{name}-1"), &namespace);
        slice.labels.insert("kubernetes.io/service-name".into(), name.into());
        let endpoint = |last: u32| Endpoint {
            addresses: vec![Ipv4Addr::from(0x0B00_0000 + number * 2 + last).to_string().into()],
            ..Endpoint::default()
        };
        let named = |name: &str| EndpointPort {
            name: Some(name.into()),
            port: Some(8080),
            ..EndpointPort::default()
        };
        builder.add(
            slice,
            Spec::EndpointSlice(Arc::new(EndpointSlice {
                address_type: "IPv4".into(),
                endpoints: vec![endpoint(0), endpoint(1)],
                ports: vec![named("http"), named("tcp")],
            })),
        );
    }
    builder.build()
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    let start = Instant::now();
    let set = manifests(count);
    println!("{count} services as values: {:?}", start.elapsed());
    let start = Instant::now();
    let mesh = Arc::new(Mesh::new(set, MeshOptions::default()));
    println!("mesh: {:?}", start.elapsed());

    // A new proxy for each question: nothing is remembered from the one before.
    let start = Instant::now();
    let rounds = 200;
    let mut endpoints = 0;
    for round in 0..rounds {
        let address = IpAddr::V4(Ipv4Addr::new(10, 200, 0, 1));
        let proxy = Proxy::new(Arc::clone(&mesh), Node::sidecar("team-7", "client", vec![address]));
        let number = round % count;
        let vip = IpAddr::V4(Ipv4Addr::from(0x0A80_0000 + number));
        let listener = proxy.listener(Capture::Outbound, vip, 80).map(|listener| listener.name.clone());
        let tcp = proxy.listener(Capture::Outbound, vip, 9000).map(|listener| listener.name.clone());
        let host = format!("web-{number}.team-{}.svc.cluster.local", number % 100);
        let chosen = proxy.virtual_host("80", &host).and_then(|choice| choice.virtual_host);
        let cluster = proxy.cluster(&format!("outbound|80||{host}"));
        endpoints += cluster.map_or(0, |cluster| cluster.load_assignment.endpoints.len());
        if round == 0 {
            println!("{listener:?} {tcp:?} {:?}", chosen.map(|host| host.name.clone()));
        }
    }
    println!("one question: {:?} ({endpoints} localities)", start.elapsed() / rounds);
}
