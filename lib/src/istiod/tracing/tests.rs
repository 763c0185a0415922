//! Who traces, how often, and in whose format.

use std::sync::Arc;

use super::*;
use crate::istiod::Node;
use crate::manifest::{Loader, parse_mesh_config};
use crate::mesh::MeshOptions;

const PROVIDERS: &str = "
extensionProviders:
- {name: zip, zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}}
- {name: both, zipkin: {service: istio-system/zipkin.istio-system.svc.cluster.local, port: 9411, traceContextOption: USE_B3_WITH_W3C_PROPAGATION}}
- {name: otel, opentelemetry: {service: zipkin.istio-system.svc.cluster.local, port: 9411, dynatraceSampler: {}}}
- {name: sky, skywalking: {service: zipkin.istio-system.svc.cluster.local, port: 9411}}
- {name: gone, datadog: {service: gone.istio-system.svc.cluster.local, port: 8126}}
";
const COLLECTOR: &str = "
apiVersion: v1
kind: Service
metadata: {name: zipkin, namespace: istio-system}
spec: {ports: [{name: http, port: 9411}]}
---
";

fn telemetry(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}, \
         creationTimestamp: '2025-01-01T00:00:00Z'}}\nspec: {{{spec}}}\n---\n"
    )
}

fn of(telemetries: &[String], mesh_config: &str, class: ListenerClass) -> Option<Tracing> {
    let text = format!("{COLLECTOR}{}", telemetries.concat());
    let mesh_config = parse_mesh_config("mesh", &format!("{PROVIDERS}{mesh_config}")).0;
    let options = MeshOptions { mesh_config, ..MeshOptions::default() };
    let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), options);
    let mut node = Node::sidecar("shop", "web", vec!["10.0.0.1".parse().unwrap()]);
    node.labels.insert("app".into(), "web".into());
    if class == ListenerClass::Gateway {
        node.node_type = NodeType::Router;
    }
    Proxy::new(Arc::new(mesh), node).tracing(class)
}

const OUT: ListenerClass = ListenerClass::SidecarOutbound;

#[test]
fn without_any_provider_one_percent_is_sampled_and_no_context_is_written() {
    let tracing = of(&[], "", OUT).unwrap();
    assert_eq!((tracing.random_sampling, tracing.provider, tracing.spawn_upstream_span), (100, None, false));
    assert_eq!(of(&[], "enableTracing: false", OUT), None);
}

#[test]
fn a_proxys_own_configuration_has_a_collector_and_a_share() {
    let tracing = |config: &str| of(&[], &format!("defaultConfig: {{tracing: {{{config}}}}}"), OUT).unwrap();
    assert_eq!(tracing("sampling: 25.5").random_sampling, 2550);
    assert_eq!(tracing("sampling: 250").random_sampling, 100, "too much counts as nothing");
    assert_eq!(tracing("zipkin: {address: 'zipkin:9411'}").provider, Some(TracingProvider::Zipkin));
    assert_eq!(tracing("zipkin: {}").provider, None);
}

#[test]
fn providers_of_the_mesh_trace_unless_their_collector_is_no_service() {
    let provider = |name: &str| of(&[], &format!("defaultProviders: {{tracing: [{name}]}}"), OUT);
    assert_eq!(provider("zip").unwrap().provider, Some(TracingProvider::Zipkin));
    assert_eq!(provider("both").unwrap().provider, Some(TracingProvider::ZipkinWithW3c));
    assert_eq!(provider("gone"), None);
    assert_eq!(provider("unknown"), None);
    let own_sampler = provider("otel").unwrap();
    assert_eq!(own_sampler.random_sampling, 10_000, "the provider's own sampler decides");
    assert!(!own_sampler.spawn_upstream_span);
    assert!(provider("sky").unwrap().spawn_upstream_span);
}

#[test]
fn gateways_make_a_span_for_the_upstream() {
    let tracing = of(&[], "defaultProviders: {tracing: [zip]}", ListenerClass::Gateway).unwrap();
    assert!(tracing.spawn_upstream_span);
}

#[test]
fn telemetries_of_workloads_are_laid_over_those_of_namespaces_and_of_the_mesh() {
    let mesh =
        telemetry("a", "istio-system", "tracing: [{providers: [{name: zip}], randomSamplingPercentage: 50}]");
    let namespace = telemetry("a", "shop", "tracing: [{randomSamplingPercentage: 10}]");
    let second = telemetry("b", "shop", "tracing: [{randomSamplingPercentage: 99}]");
    let workload = telemetry(
        "c",
        "shop",
        "selector: {matchLabels: {app: web}}, tracing: [{match: {mode: CLIENT}, disableContextPropagation: true}]",
    );
    let foreign = telemetry(
        "d",
        "shop",
        "selector: {matchLabels: {app: other}}, tracing: [{disableSpanReporting: true}]",
    );
    let all = [mesh, namespace, second, workload, foreign];
    let out = of(&all, "", OUT).unwrap();
    assert_eq!((out.random_sampling, out.disable_context_propagation), (1000, true));
    assert_eq!(out.provider, Some(TracingProvider::Zipkin));
    let inbound = of(&all, "", ListenerClass::SidecarInbound).unwrap();
    assert!(!inbound.disable_context_propagation, "the workload's settings are for its client side");
}

#[test]
fn a_side_without_reported_spans_is_not_traced() {
    let off = telemetry(
        "a",
        "shop",
        "tracing: [{providers: [{name: zip}], match: {mode: SERVER}, disableSpanReporting: true}]",
    );
    assert_eq!(of(std::slice::from_ref(&off), "", ListenerClass::SidecarInbound), None);
    assert_eq!(of(&[off], "", OUT), None, "and the client's side was given no provider");
}
