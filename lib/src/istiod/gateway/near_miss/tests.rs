use std::sync::Arc;

use super::*;
use crate::istiod::{Node, NodeType};
use crate::manifest::Loader;
use crate::mesh::{Mesh, MeshOptions};

const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: istio-system}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [httpbin.org]
---
";

fn virtual_service(gateways: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: \
         [httpbin.org]\n  gateways: {gateways}\n{more}"
    )
}

fn route(condition: &str) -> String {
    format!("  http:\n  - match: [{{{condition}}}]\n    route: [{{destination: {{host: httpbin.org}}}}]\n")
}

/// Condition, field, expected value and repair of each miss for `httpbin.org`.
fn misses(
    gateway: &str,
    virtual_service: &str,
) -> Vec<(BindingCondition, SmolStr, SmolStr, Option<SmolStr>)> {
    let set = Loader::new().text("m.yaml", format!("{gateway}{virtual_service}")).load();
    let mut node = Node::sidecar("istio-system", "egress", vec!["10.0.0.1".parse().unwrap()]);
    node.node_type = NodeType::Router;
    node.labels.insert("istio".into(), "egressgateway".into());
    let proxy = Proxy::new(Arc::new(Mesh::new(set, MeshOptions::default())), node);
    binding_misses(&proxy, "HTTPBIN.org", Some(80))
        .into_iter()
        .map(|miss| {
            let Origin::Field { path, .. } = miss.origin else { panic!("a default") };
            (miss.condition, path, miss.expected, miss.repair)
        })
        .collect()
}

#[test]
fn a_gateway_of_another_namespace_was_meant_and_its_matches_too() {
    let found = misses(GATEWAY, &virtual_service("[mesh, egress]", &route("gateways: [egress]")));
    let meant = SmolStr::new("istio-system/egress");
    let at = |field: &str| (BindingCondition::GatewayName, field.into(), meant.clone(), Some(meant.clone()));
    assert_eq!(found, [at("spec.gateways[1]"), at("spec.http[0].match[0].gateways[0]")]);
}

#[test]
fn a_gateway_that_does_not_exist_is_told_from_one_that_serves_the_host() {
    let found = misses(GATEWAY, &virtual_service("[istio-system/egres]", &route("port: 80")));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, BindingCondition::GatewayMissing);
    assert_eq!(found[0].3.as_deref(), Some("istio-system/egress"));
}

#[test]
fn other_conditions_are_named_with_their_fields() {
    let bound = |more: &str| virtual_service("[istio-system/egress]", more);
    let applies = misses(GATEWAY, &bound(&route("uri: {prefix: /}")));
    assert_eq!(applies, []);
    let cases = [
        (
            GATEWAY.into(),
            virtual_service("[mesh]", &route("port: 80")),
            BindingCondition::MeshOnly,
            "spec.gateways",
        ),
        (
            GATEWAY.into(),
            bound(&format!("  exportTo: ['.']\n{}", route("port: 80"))),
            BindingCondition::ExportTo,
            "spec.exportTo",
        ),
        (GATEWAY.into(), bound(&route("port: 8080")), BindingCondition::Match, "spec.http[0].match[0].port"),
        (
            GATEWAY.into(),
            bound(&route("sourceLabels: {app: sleep}")),
            BindingCondition::Match,
            "spec.http[0].match[0].sourceLabels",
        ),
        (
            GATEWAY.replace("egressgateway", "egress"),
            bound(&route("port: 80")),
            BindingCondition::Selector,
            "spec.selector.istio",
        ),
        (
            GATEWAY.replace("httpbin.org", "other.org"),
            bound(&route("port: 80")),
            BindingCondition::Host,
            "spec.servers[0].hosts",
        ),
        (
            GATEWAY.replace("httpbin.org", "shop/httpbin.org"),
            bound(&route("port: 80")),
            BindingCondition::HostNamespace,
            "spec.servers[0].hosts[0]",
        ),
        (
            GATEWAY.replace("number: 80", "number: 81"),
            bound(&route("port: 80")),
            BindingCondition::Port,
            "spec.servers[0].port.number",
        ),
    ];
    for (gateway, virtual_service, condition, field) in cases {
        let found = misses(&gateway, &virtual_service);
        assert_eq!(found.len(), 1, "{condition:?}: {found:?}");
        assert_eq!((found[0].0, found[0].1.as_str()), (condition, field));
    }
}
