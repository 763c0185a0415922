//! Which proxies does istiod deploy for a Gateway?
//!
//! A Gateway without addresses of its own gets a Deployment, a service account and a Service, which nobody writes.
//! Invariant: what the input has is taken as it is; only what is missing is made here, at the place of the Gateway.
//! istiod: `pilot/pkg/config/kube/gatewaycommon/deploymentcontroller.go: configureIstioGateway, extractServicePorts,
//! extractInfrastructureMetadata`; `manifests/charts/istio-control/istio-discovery/files/kube-gateway.yaml`.

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxHashSet;
use smol_str::{SmolStr, format_smolstr};

use super::super::policy::Config;
use super::super::{Features, Policies, workload};
use super::{Namespaces, class, listener};
use crate::manifest::schema::gateway_api::{GatewaySpec, Listener};
use crate::manifest::schema::kubernetes::{
    Container, DeploymentSpec, PodSpec, PodTemplateSpec, ServicePort, ServiceSpec, TemplateMeta,
};
use crate::manifest::{ManifestSet, Meta, Resource, Spec};
use crate::origin::ResourceId;

type Labels = IndexMap<SmolStr, SmolStr>;

/// The label of proxies with the name of their Gateway.
const GATEWAY_NAME: SmolStr = SmolStr::new_static("gateway.networking.k8s.io/gateway-name");
/// The label of proxies with the class of their Gateway.
const GATEWAY_CLASS: SmolStr = SmolStr::new_static("gateway.networking.k8s.io/gateway-class-name");
/// The type of a Gateway's Service.
const SERVICE_TYPE: &str = "networking.istio.io/service-type";
/// The longest name that a port of a Service may have.
const LONGEST_PORT_NAME: usize = 63;

/// A Deployment or Service that istiod makes for the Gateway of that number.
pub(crate) type Deployed = (ResourceId, Meta, Spec);

/// What istiod makes for the Gateways of the input and the input does not have.
pub(crate) fn missing(
    manifests: &ManifestSet,
    policies: &Policies,
    namespaces: &Namespaces,
    features: &Features,
) -> Vec<Deployed> {
    let mut out = Vec::new();
    if policies.kubernetes_gateways.is_empty() {
        return out;
    }
    let mut running: FxHashSet<(&str, &str)> = FxHashSet::default();
    let mut services: FxHashSet<(&str, &str)> = FxHashSet::default();
    for resource in manifests.resources() {
        let namespace = resource.meta.namespace.as_str();
        if let Spec::Service(_) = &resource.spec {
            services.insert((namespace, resource.meta.name.as_str()));
        }
        if let Some(gateway) = labels_of_proxies(resource).and_then(|labels| labels.get(&GATEWAY_NAME)) {
            running.insert((namespace, gateway.as_str()));
        }
    }
    for gateway in policies.kubernetes_gateways.iter() {
        let served = class::is_served(&gateway.spec.gateway_class_name, policies);
        if !served || !class::is_managed(&gateway.spec) {
            continue;
        }
        let name = class::deployed_name(gateway);
        if !running.contains(&(gateway.namespace.as_str(), gateway.name.as_str())) {
            out.push(deployment(gateway, &name));
        }
        if !services.contains(&(gateway.namespace.as_str(), name.as_str())) {
            let sets = listener::listener_sets(gateway, policies, namespaces);
            let listeners =
                gateway.spec.listeners.iter().chain(sets.iter().flat_map(|set| &set.spec.listeners));
            out.push(service(gateway, &name, ports(listeners, features.quic_listeners)));
        }
    }
    out
}

/// The labels of a pod, or of the pods that a controller makes.
fn labels_of_proxies(resource: &Resource) -> Option<&Labels> {
    match &resource.spec {
        Spec::Pod(_) => Some(&resource.meta.labels),
        spec => workload::template(spec).map(|(template, _)| &template.metadata.labels),
    }
}

/// Labels that everything of a Gateway has: those of its `infrastructure`, else its own.
fn labels(gateway: &Config<GatewaySpec>) -> Labels {
    let written = gateway.spec.infrastructure.as_ref().map(|infrastructure| &infrastructure.labels);
    let mut out = infrastructure(written, &gateway.labels);
    out.insert(GATEWAY_NAME, gateway.name.clone());
    out.insert(GATEWAY_CLASS, gateway.spec.gateway_class_name.clone());
    let managed = SmolStr::new_static("gateway.istio.io/managed");
    out.insert(managed, SmolStr::new_static("istio.io-gateway-controller"));
    out
}

fn annotations(gateway: &Config<GatewaySpec>) -> Labels {
    let written = gateway.spec.infrastructure.as_ref().map(|infrastructure| &infrastructure.annotations);
    let mut out = infrastructure(written, &gateway.annotations);
    out.retain(|name, _| {
        let left_out = name == "kubectl.kubernetes.io/last-applied-configuration";
        !left_out
            && !matches!(
                name.strip_prefix("gateway.istio.io/"),
                Some("name-override" | "service-account" | "controller-version")
            )
    });
    out
}

/// What `infrastructure` has, without the Gateway API's own names; where it has nothing, what the Gateway has.
fn infrastructure(written: Option<&Labels>, own: &Labels) -> Labels {
    let Some(written) = written.filter(|written| !written.is_empty()) else { return own.clone() };
    let mut out = written.clone();
    out.retain(|name, _| !name.starts_with("gateway.networking.k8s.io/"));
    out
}

fn meta(gateway: &Config<GatewaySpec>, name: &SmolStr) -> Meta {
    Meta {
        name: name.clone(),
        namespace: gateway.namespace.clone(),
        labels: labels(gateway),
        annotations: annotations(gateway),
        creation_timestamp: gateway.creation.clone(),
    }
}

fn deployment(gateway: &Config<GatewaySpec>, name: &SmolStr) -> Deployed {
    let mut labels = labels(gateway);
    for (key, value) in [
        ("sidecar.istio.io/inject", SmolStr::new_static("false")),
        ("service.istio.io/canonical-name", name.clone()),
        ("service.istio.io/canonical-revision", SmolStr::new_static("latest")),
    ] {
        labels.entry(SmolStr::new_static(key)).or_insert(value);
    }
    let proxy = Container {
        name: SmolStr::new_static("istio-proxy"),
        args: vec![SmolStr::new_static("proxy"), SmolStr::new_static("router")],
        ..Container::default()
    };
    let spec = DeploymentSpec {
        template: PodTemplateSpec {
            metadata: TemplateMeta { labels, annotations: annotations(gateway), ..TemplateMeta::default() },
            spec: PodSpec {
                containers: vec![proxy],
                service_account_name: class::service_account(gateway),
                ..PodSpec::default()
            },
        },
        ..DeploymentSpec::default()
    };
    (gateway.resource, meta(gateway, name), Spec::Deployment(Arc::new(spec)))
}

fn service(gateway: &Config<GatewaySpec>, name: &SmolStr, ports: Vec<ServicePort>) -> Deployed {
    let spec = ServiceSpec {
        ports,
        selector: [(GATEWAY_NAME, gateway.name.clone())].into_iter().collect(),
        type_: gateway.annotations.get(SERVICE_TYPE).cloned().unwrap_or(SmolStr::new_static("LoadBalancer")),
        ..ServiceSpec::default()
    };
    (gateway.resource, meta(gateway, name), Spec::Service(Arc::new(spec)))
}

/// One port for each number that listeners have, after the one that tells whether the proxy is ready.
fn ports<'a>(listeners: impl Iterator<Item = &'a Listener>, quic: bool) -> Vec<ServicePort> {
    let port = |name: SmolStr, port: u32, protocol: &str| ServicePort {
        name,
        port,
        protocol: SmolStr::new_static("TCP"),
        app_protocol: Some(protocol.to_lowercase().into()),
        ..ServicePort::default()
    };
    let mut names = FxHashSet::default();
    names.insert(SmolStr::new_static("status-port"));
    let mut out = vec![port(SmolStr::new_static("status-port"), 15021, "TCP")];
    let status_port = out.len();
    for listener in listeners {
        if out.iter().skip(status_port).any(|known| known.port == listener.port) {
            continue;
        }
        let name = unique(&listener.name.replace('.', "-"), listener.port, &mut names);
        out.push(port(name.clone(), listener.port, &listener.protocol));
        if quic && listener.protocol == "HTTPS" {
            let name = unique(&format!("{name}-quic"), listener.port, &mut names);
            let protocol = SmolStr::new_static("UDP");
            out.push(ServicePort { protocol, ..port(name, listener.port, &listener.protocol) });
        }
    }
    out
}

/// A name that no other port has. istiod: `deploymentcontroller.go: uniquePortName`.
fn unique(name: &str, port: u32, names: &mut FxHashSet<SmolStr>) -> SmolStr {
    let cut = |length: usize| name.get(..length.min(name.len())).unwrap_or(name);
    let mut out = SmolStr::new(cut(LONGEST_PORT_NAME));
    let mut suffix = format!("-{port}");
    while !names.insert(out.clone()) {
        out = format_smolstr!("{}{suffix}", cut(LONGEST_PORT_NAME.saturating_sub(suffix.len())));
        suffix.push('x');
    }
    out
}
