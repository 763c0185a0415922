//! Which workloads run, and which of them have a proxy?
//!
//! Pods where the input has them, else one workload for each controller, which is an assumption and marked as one.

use std::net::IpAddr;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::annotation::{self, RefusedAnnotation};
use super::injection::injection;
use super::locality::Nodes;
use crate::manifest::schema::kubernetes::{Container, PodSpec, PodStatus, PodTemplateSpec};
use crate::manifest::{Kind, Resource, Spec};
use crate::origin::Origin;

/// The label of pods and Namespaces that puts pods into ambient mode, or keeps them out.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

/// The proxy of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// None.
    None,
    /// A sidecar beside the application.
    Sidecar,
    /// A gateway: the proxy is the application.
    Gateway,
}

/// A container, as far as routing depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerInfo {
    /// The name.
    pub name: SmolStr,
    /// The user it runs as, where written.
    pub run_as_user: Option<i64>,
    /// The group it runs as, where written.
    pub run_as_group: Option<i64>,
}

/// A port that a container gives a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// The name.
    pub name: SmolStr,
    /// Kubernetes' protocol: `TCP`, `UDP` or `SCTP`.
    pub protocol: SmolStr,
    /// The number.
    pub number: u16,
}

/// The pods of a StatefulSet, which have names of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatefulPods {
    /// The headless Service whose names they are; may be empty.
    pub service: SmolStr,
    /// The number of the first.
    pub first: u32,
    /// How many there are, where it is written.
    pub count: Option<u32>,
}

/// Something that runs, with an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The namespace.
    pub namespace: SmolStr,
    /// The name of the pod or controller.
    pub name: SmolStr,
    /// The kind of the resource it comes from.
    pub kind: Kind,
    /// Labels.
    pub labels: IndexMap<SmolStr, SmolStr>,
    /// Annotations.
    pub annotations: IndexMap<SmolStr, SmolStr>,
    /// Addresses; assumed ones for controllers and pods without status.
    pub ips: Vec<IpAddr>,
    /// The service account.
    pub service_account: SmolStr,
    /// Containers, without the proxy's.
    pub containers: Vec<ContainerInfo>,
    /// Ports that containers name, the proxy's among them.
    pub named_ports: Vec<NamedPort>,
    /// Environment of the proxy's container, where it is written.
    pub proxy_env: Vec<(SmolStr, SmolStr)>,
    /// Its proxy.
    pub proxy: ProxyKind,
    /// Why it has that proxy, or none.
    pub proxy_reason: &'static str,
    /// Whether its proxy is assumed: its Namespace, which would say whether it is injected, is not among the manifests.
    pub proxy_assumed: bool,
    /// Annotations for which the injector refuses such a pod, so that none starts.
    pub refused: Vec<RefusedAnnotation>,
    /// Where it is written that it is in ambient mode, so that its node's ztunnel takes its traffic; `None` when it is not.
    pub ambient: Option<Origin>,
    /// Whether endpoints with it speak Istio's mutual TLS (label `security.istio.io/tlsMode`).
    pub tls_mode_istio: bool,
    /// Whether it uses the node's network.
    pub host_network: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether its existence, address or readiness is assumed.
    pub assumed: bool,
    /// `hostname` of the pod.
    pub hostname: SmolStr,
    /// `subdomain` of the pod.
    pub subdomain: SmolStr,
    /// The pods that it stands for, when it is a StatefulSet.
    pub stateful: Option<StatefulPods>,
    /// The node it runs on.
    pub node_name: SmolStr,
    /// `region/zone/subzone`; may be empty.
    pub locality: SmolStr,
    /// Its network; may be empty.
    pub network: SmolStr,
    /// Whether the input says where it runs: by a label, or by the Node that it is on.
    pub locality_known: bool,
    /// Who made it.
    pub origin: Origin,
}

impl Workload {
    /// `namespace/name`.
    pub fn full_name(&self) -> SmolStr {
        format_smolstr!("{}/{}", self.namespace, self.name)
    }

    /// Where an annotation of its pods is written.
    pub fn annotation_origin(&self, name: &str) -> Option<Origin> {
        let pods = match self.kind {
            Kind::Pod => "",
            Kind::CronJob => "spec.jobTemplate.spec.template.",
            _ => "spec.template.",
        };
        let resource = self.origin.resource()?;
        Some(Origin::field(resource, format_smolstr!("{pods}metadata.annotations.{name}")))
    }

    /// The number of a port that a container names; no protocol is TCP.
    ///
    /// istiod: `serviceregistry/kube/controller/util.go: FindPort`.
    pub fn named_port(&self, name: &str, protocol: &str) -> Option<u16> {
        let protocol = protocol_or_tcp(protocol);
        let found = self.named_ports.iter().find(|port| port.name == name && port.protocol == protocol);
        found.map(|port| port.number)
    }
}

/// What making a workload depends on besides its own resource.
pub(crate) struct Surroundings<'a> {
    /// Its Namespace; `None` when that is not among the manifests.
    pub namespace: Option<&'a Resource>,
    pub assumed_ip: IpAddr,
    pub nodes: &'a Nodes,
}

/// A workload from a pod.
pub(crate) fn from_pod(
    resource: &Resource,
    spec: &PodSpec,
    status: Option<&PodStatus>,
    around: &Surroundings<'_>,
) -> Workload {
    let mut ips: Vec<IpAddr> = Vec::new();
    let mut ready = true;
    if let Some(status) = status {
        let written = status.pod_ips.iter().map(|p| &p.ip).chain([&status.pod_ip]);
        for ip in written.filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        ready = status.conditions.iter().find(|c| c.type_ == "Ready").is_none_or(|c| c.status == "True");
    }
    let assumed = ips.is_empty();
    if assumed {
        ips.push(around.assumed_ip);
    }
    let meta = &resource.meta;
    let decided = status.is_some();
    build(resource, &meta.name, &meta.labels, &meta.annotations, spec, (ips, ready, assumed), decided, around)
}

/// The pods that a controller makes, and whether it makes any; `None` for what is no controller.
pub(crate) fn template(spec: &Spec) -> Option<(&PodTemplateSpec, bool)> {
    match spec {
        Spec::Deployment(s) | Spec::ReplicaSet(s) => Some((&s.template, s.replicas != Some(0))),
        Spec::StatefulSet(s) => Some((&s.template, s.replicas != Some(0))),
        Spec::DaemonSet(s) => Some((&s.template, true)),
        Spec::Job(s) => Some((&s.template, true)),
        Spec::CronJob(s) => Some((&s.job_template.spec.template, true)),
        _ => None,
    }
}

/// A workload from a controller's template.
pub(crate) fn from_template(
    resource: &Resource,
    labels: &IndexMap<SmolStr, SmolStr>,
    annotations: &IndexMap<SmolStr, SmolStr>,
    spec: &PodSpec,
    around: &Surroundings<'_>,
) -> Workload {
    let address = (vec![around.assumed_ip], true, true);
    build(resource, &resource.meta.name, labels, annotations, spec, address, false, around)
}

#[allow(clippy::too_many_arguments)] // one caller each for pods and templates
fn build(
    resource: &Resource,
    name: &SmolStr,
    labels: &IndexMap<SmolStr, SmolStr>,
    annotations: &IndexMap<SmolStr, SmolStr>,
    spec: &PodSpec,
    (ips, ready, assumed): (Vec<IpAddr>, bool, bool),
    decided: bool,
    around: &Surroundings<'_>,
) -> Workload {
    let mut all = spec.containers.iter().chain(&spec.init_containers);
    let own_proxy = all.find(|c| c.name == "istio-proxy");
    let (proxy, proxy_reason, proxy_assumed) =
        proxy_of(labels, annotations, spec, own_proxy, decided, resource, around);
    let mut labels = labels.clone();
    // What runs already was not refused.
    let is_injected = proxy != ProxyKind::None && own_proxy.is_none();
    let ambient = (proxy == ProxyKind::None).then(|| ambient(resource, &labels, spec, around)).flatten();
    let label = labels.get("security.istio.io/tlsMode").cloned();
    if label.is_none() && own_proxy.is_none() && proxy == ProxyKind::Sidecar {
        // Injection adds the label; a pod that already has its sidecar is taken as it is.
        labels.insert(SmolStr::new_static("security.istio.io/tlsMode"), SmolStr::new_static("istio"));
    }
    let tls_mode_istio = labels.get("security.istio.io/tlsMode").is_some_and(|l| l == "istio");
    let network = around.nodes.network(&labels);
    let (locality, locality_known) = around.nodes.locality(&labels, &spec.node_name);
    let account = [&spec.service_account_name, &spec.service_account].into_iter().find(|a| !a.is_empty());
    Workload {
        namespace: resource.meta.namespace.clone(),
        name: name.clone(),
        kind: resource.kind,
        labels,
        annotations: annotations.clone(),
        ips,
        service_account: account.cloned().unwrap_or(SmolStr::new_static("default")),
        containers: spec
            .containers
            .iter()
            .filter(|c| c.name != "istio-proxy")
            .map(|c| container(c, spec))
            .collect(),
        named_ports: named_ports(spec),
        proxy_env: own_proxy
            .map(|c| c.env.iter().filter_map(|e| Some((e.name.clone(), e.value.clone()?))).collect())
            .unwrap_or_default(),
        proxy,
        proxy_reason,
        proxy_assumed,
        refused: if is_injected { annotation::refused(annotations) } else { Vec::new() },
        ambient,
        tls_mode_istio,
        host_network: spec.host_network,
        ready,
        assumed,
        hostname: spec.hostname.clone(),
        subdomain: spec.subdomain.clone(),
        stateful: stateful(resource),
        node_name: spec.node_name.clone(),
        locality,
        locality_known,
        network,
        origin: resource.origin("metadata.name"),
    }
}

/// Where it is written that a pod without sidecar is in ambient mode: the pod's own label decides, else its Namespace's.
/// istio: `cni/pkg/util/enablement_selector.go: Matches`; `istio-cni/values.yaml: enablementSelectors, excludeNamespaces`.
fn ambient(
    resource: &Resource,
    labels: &IndexMap<SmolStr, SmolStr>,
    spec: &PodSpec,
    around: &Surroundings<'_>,
) -> Option<Origin> {
    if spec.host_network || resource.meta.namespace == "kube-system" {
        return None;
    }
    match labels.get(DATAPLANE_MODE).map(SmolStr::as_str) {
        Some("ambient") => Some(resource.origin("metadata.name")),
        Some("none") => None,
        _ => {
            let namespace = around.namespace.filter(|namespace| {
                namespace.meta.labels.get(DATAPLANE_MODE).is_some_and(|mode| mode == "ambient")
            })?;
            Some(namespace.origin(format_smolstr!("metadata.labels.{DATAPLANE_MODE}")))
        }
    }
}

fn stateful(resource: &Resource) -> Option<StatefulPods> {
    let Spec::StatefulSet(set) = &resource.spec else { return None };
    Some(StatefulPods {
        service: set.service_name.clone(),
        first: set.ordinals.as_ref().map_or(0, |ordinals| ordinals.start),
        count: set.replicas.map(|replicas| u32::try_from(replicas).unwrap_or(0)),
    })
}

fn container(container: &Container, spec: &PodSpec) -> ContainerInfo {
    let own = container.security_context.as_ref();
    let pod = spec.security_context.as_ref();
    ContainerInfo {
        name: container.name.clone(),
        run_as_user: own.and_then(|s| s.run_as_user).or_else(|| pod.and_then(|s| s.run_as_user)),
        run_as_group: own.and_then(|s| s.run_as_group).or_else(|| pod.and_then(|s| s.run_as_group)),
    }
}

/// The ports that containers name; of those that run before, only sidecars stay.
fn named_ports(spec: &PodSpec) -> Vec<NamedPort> {
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    ports
        .filter(|port| !port.name.is_empty())
        .map(|port| NamedPort {
            name: port.name.clone(),
            protocol: protocol_or_tcp(&port.protocol).into(),
            number: u16::try_from(port.container_port).unwrap_or(0),
        })
        .collect()
}

fn protocol_or_tcp(written: &str) -> &str {
    if written.is_empty() { "TCP" } else { written }
}

fn proxy_of(
    labels: &IndexMap<SmolStr, SmolStr>,
    annotations: &IndexMap<SmolStr, SmolStr>,
    spec: &PodSpec,
    own_proxy: Option<&Container>,
    decided: bool,
    resource: &Resource,
    around: &Surroundings<'_>,
) -> (ProxyKind, &'static str, bool) {
    let wants_gateway = annotations
        .get("inject.istio.io/templates")
        .is_some_and(|t| t.split(',').any(|t| t.trim() == "gateway"))
        || labels.contains_key("gateway.networking.k8s.io/gateway-name");
    if let Some(proxy) = own_proxy {
        let alone = spec.containers.iter().all(|c| c.name == "istio-proxy") && !spec.containers.is_empty();
        let router = wants_gateway || alone || proxy.args.iter().any(|a| a == "router");
        return if router {
            (ProxyKind::Gateway, "its only purpose is the container istio-proxy", false)
        } else {
            (ProxyKind::Sidecar, "it has a container istio-proxy", false)
        };
    }
    if decided {
        return (ProxyKind::None, "the running pod has no container istio-proxy", false);
    }
    let found = injection(
        labels,
        annotations,
        spec,
        &resource.meta.namespace,
        around.namespace.map(|namespace| &namespace.meta.labels),
    );
    if found.assumed && labels.get(DATAPLANE_MODE).is_some_and(|mode| mode == "ambient") {
        return (ProxyKind::None, "its label istio.io/dataplane-mode is ambient", false);
    }
    let kind = match found.injected {
        true if wants_gateway => ProxyKind::Gateway,
        true => ProxyKind::Sidecar,
        false => ProxyKind::None,
    };
    (kind, found.reason, found.assumed)
}
