use std::sync::Arc;

use super::*;
use crate::istiod::Node;
use crate::manifest::Loader;
use crate::manifest::schema::istio::TlsCertificate;
use crate::mesh::{Mesh, MeshOptions};

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: g}\n";

fn proxy(node_type: NodeType) -> Proxy {
    let mesh = Mesh::new(Loader::new().text("m.yaml", SECRET).load(), MeshOptions::default());
    let mut node = Node::sidecar("g", "proxy", Vec::new());
    node.node_type = node_type;
    Proxy::new(Arc::new(mesh), node)
}

fn settings(mode: ServerTlsMode) -> ServerTlsSettings {
    ServerTlsSettings { mode, ..ServerTlsSettings::default() }
}

fn built(node_type: NodeType, settings: &ServerTlsSettings) -> DownstreamTlsContext {
    context(&proxy(node_type), settings, Origin::default("a test"))
}

#[test]
fn certificate_and_authority_are_named_as_istiod_names_them() {
    let credential =
        |name: &str| ServerTlsSettings { credential_name: name.into(), ..settings(ServerTlsMode::Mutual) };
    let files = |certificate: &str, key: &str, authority: &str| ServerTlsSettings {
        server_certificate: certificate.into(),
        private_key: key.into(),
        ca_certificates: authority.into(),
        ..settings(ServerTlsMode::Mutual)
    };
    let several = ServerTlsSettings {
        credential_names: vec!["rsa".into(), "ecdsa".into()],
        ..settings(ServerTlsMode::Mutual)
    };
    let own_authority = ServerTlsSettings { ca_cert_credential_name: "ca".into(), ..several.clone() };
    let listed = ServerTlsSettings {
        tls_certificates: vec![TlsCertificate {
            server_certificate: "/a".into(),
            private_key: "/b".into(),
            ..TlsCertificate::default()
        }],
        ..files("", "", "/c")
    };
    let cases = [
        (settings(ServerTlsMode::IstioMutual), "default", "ROOTCA"),
        (credential("c"), "kubernetes://c", "kubernetes://c-cacert"),
        (credential("kubernetes://c"), "kubernetes://c", "kubernetes://c-cacert"),
        (
            credential("kubernetes-gateway://g/c"),
            "kubernetes-gateway://g/c",
            "kubernetes-gateway://g/c-cacert",
        ),
        (credential("builtin://"), "default", "ROOTCA"),
        (several, "kubernetes://rsa", "kubernetes://rsa-cacert"),
        (own_authority, "kubernetes://rsa", "kubernetes://ca"),
        (files("/a", "/b", "/c"), "file-cert:/a~/b", "file-root:/c"),
        (files("/a", "/b", ""), "file-cert:/a~/b", "ROOTCA"),
        (files("", "", ""), "default", "ROOTCA"),
        (listed, "file-cert:/a~/b", "file-root:/c"),
    ];
    for (settings, certificate, authority) in cases {
        for node_type in [NodeType::Router, NodeType::Sidecar] {
            let context = built(node_type, &settings);
            assert_eq!((context.secret_name.as_str(), context.authority.as_str()), (certificate, authority));
        }
    }
}

#[test]
fn every_certificate_that_is_listed_is_asked_for() {
    let named = ServerTlsSettings {
        credential_names: vec!["rsa".into(), "ecdsa".into()],
        ..settings(ServerTlsMode::Simple)
    };
    let file = |name: &str| TlsCertificate {
        server_certificate: name.into(),
        private_key: "/key".into(),
        ..TlsCertificate::default()
    };
    let listed = ServerTlsSettings {
        tls_certificates: vec![file("/a"), file("/b")],
        ..settings(ServerTlsMode::Simple)
    };
    for (settings, first, further) in [
        (settings(ServerTlsMode::Simple), "default", vec![]),
        (named, "kubernetes://rsa", vec!["kubernetes://ecdsa"]),
        (listed, "file-cert:/a~/key", vec!["file-cert:/b~/key"]),
    ] {
        let context = built(NodeType::Router, &settings);
        assert_eq!(context.secret_name, first);
        assert_eq!(context.more_secret_names, further);
    }
}

#[test]
fn only_a_gateway_is_sure_of_a_secret_among_the_manifests() {
    let named =
        |name: &str| ServerTlsSettings { credential_name: name.into(), ..settings(ServerTlsMode::Simple) };
    let known = |node_type, name| built(node_type, &named(name)).secret_exists;
    assert_eq!(known(NodeType::Router, "c"), Some(true));
    assert_eq!(known(NodeType::Router, "kubernetes-gateway://g/c"), Some(true));
    assert_eq!(known(NodeType::Router, "other"), None);
    assert_eq!(known(NodeType::Sidecar, "c"), None);
    assert_eq!(known(NodeType::Sidecar, "builtin://"), Some(true));
}
