//! What do repositories of rules leave out, and what can stand for it?
//!
//! A team keeps its rules in one place and installs gateways and applications from another. What the rules need is made up
//! here as manifests of their own, on request. Invariant: nothing is made up that the mesh already has, and whatever is
//! comes with the assumption that says so.

use indexmap::IndexMap;
use serde_json::{Value, json};
use smol_str::{SmolStr, format_smolstr};

use super::gateway::{Gateway, GatewaySelector};
use super::{Mesh, ProxyKind, selects};

/// A port of a Service: name, number, target port.
type Port = (SmolStr, u16, u16);
/// The same, known beforehand.
type ProfilePort = (&'static str, u16, u16);

/// The gateways of Istio's profiles: the value of their label `istio`, and their ports.
/// istio: `manifests/charts/gateways/istio-ingress/values.yaml`, `…/istio-egress/values.yaml`.
const PROFILES: [(&str, &[ProfilePort]); 2] = [
    ("ingressgateway", &[("status-port", 15021, 15021), ("http2", 80, 8080), ("https", 443, 8443)]),
    ("egressgateway", &[("http2", 80, 8080), ("https", 443, 8443)]),
];

/// Manifests that stand for a part of the platform that the input leaves out.
///
/// # Examples
///
/// ```
/// use dryroute::manifest::Loader;
/// use dryroute::mesh::{Mesh, MeshOptions, StandIn};
///
/// let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: front}\n\
///                spec: {selector: {istio: ingressgateway}, servers: [{hosts: ['*'], port: {number: 80, name: http, protocol: HTTP}}]}";
/// let loader = Loader::new().text("gateway.yaml", gateway);
/// let mesh = Mesh::new(loader.clone().load(), MeshOptions::default());
/// let missing = StandIn::for_missing(&mesh, "default");
/// assert_eq!(missing[0].name, "istio-system/istio-ingressgateway");
///
/// let mut options = MeshOptions::default();
/// let loader = missing.into_iter().fold(loader, |loader, part| {
///     options.assumptions.push(part.assumption);
///     loader.text(part.file, part.text)
/// });
/// assert_eq!(Mesh::new(loader.load(), options).workloads().len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The workload that is made up, `namespace/name`.
    pub name: SmolStr,
    /// A name for the text, as a file has one.
    pub file: SmolStr,
    /// The manifests.
    pub text: String,
    /// What is assumed by them, in one sentence.
    pub assumption: String,
}

impl StandIn {
    /// What a mesh lacks: a proxy for every selector of a Gateway that chooses none, and a client in `namespace` where no
    /// workload but gateways exists.
    pub fn for_missing(mesh: &Mesh, namespace: &str) -> Vec<Self> {
        let mut out = Vec::new();
        let mut labelled: IndexMap<Vec<(SmolStr, SmolStr)>, Vec<&Gateway>> = IndexMap::new();
        for gateway in mesh.gateways() {
            let GatewaySelector::Labels(labels) = &gateway.selector else { continue };
            if labels.is_empty() || mesh.workloads().iter().any(|w| selects(labels, &w.labels)) {
                continue;
            }
            let mut key: Vec<_> = labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            key.sort();
            labelled.entry(key).or_default().push(gateway);
        }
        out.extend(labelled.iter().map(|(labels, gateways)| gateway(mesh, labels, gateways)));
        if mesh.workloads().iter().all(|w| w.proxy == ProxyKind::Gateway) {
            out.push(client(namespace));
        }
        out
    }

    fn new(namespace: &str, name: &str, assumption: String, items: &[Value]) -> Self {
        let documents: Vec<String> = items.iter().map(|item| format!("{item:#}")).collect();
        Self {
            name: format_smolstr!("{namespace}/{name}"),
            file: format_smolstr!("assumed/{name}.yaml"),
            text: documents.join("\n---\n"),
            assumption,
        }
    }
}

/// A gateway for the Gateways that select these labels, and its Service unless there is one for it.
fn gateway(mesh: &Mesh, labels: &[(SmolStr, SmolStr)], gateways: &[&Gateway]) -> StandIn {
    let wanted: IndexMap<SmolStr, SmolStr> = labels.iter().cloned().collect();
    let profile = match labels {
        [(key, value)] if key == "istio" => PROFILES.iter().find(|(name, _)| name == value),
        _ => None,
    };
    let own_namespace = gateways.first().map(|g| g.namespace.clone()).unwrap_or_default();
    // A Service whose pods alone are missing says where they run and what else they are called.
    let service = mesh.services().iter().find(|s| !s.selector.is_empty() && selects(&wanted, &s.selector));
    let (namespace, name, labels) = match (service, profile) {
        (Some(service), _) => (service.namespace.clone(), service.name.clone(), service.selector.clone()),
        (None, Some((value, _))) => {
            let name = format_smolstr!("istio-{value}");
            let mut labels = wanted;
            labels.insert(SmolStr::new_static("app"), name.clone());
            (mesh.config().root_namespace.clone(), name, labels)
        }
        (None, None) => {
            let name = wanted.values().next().cloned().unwrap_or_default();
            (own_namespace, name, wanted)
        }
    };
    let mut items = vec![workload(&namespace, &name, &labels, true)];
    if service.is_none() {
        items.push(service_of(
            &namespace,
            &name,
            &labels,
            &ports(profile.map(|(_, ports)| *ports), gateways),
        ));
    }
    let first = gateways.first().map(|g| format!("{}/{}", g.namespace, g.name)).unwrap_or_default();
    let ports = match (service, profile) {
        (Some(_), _) => "",
        (None, Some(_)) => ", with the ports of Istio's own",
        (None, None) => ", with the ports of its servers",
    };
    let assumption = format!("{namespace}/{name} stands for the proxy that Gateway {first} selects{ports}");
    StandIn::new(&namespace, &name, assumption, &items)
}

/// The Service's ports: those that Istio's own gateway has, and those of servers that they do not lead to.
fn ports(profile: Option<&[ProfilePort]>, gateways: &[&Gateway]) -> Vec<Port> {
    let own = profile.unwrap_or_default().iter();
    let mut out: Vec<Port> = own.map(|(name, port, to)| (SmolStr::new_static(name), *port, *to)).collect();
    for server in gateways.iter().flat_map(|gateway| &gateway.servers) {
        if !out.iter().any(|(_, port, target)| [*port, *target].contains(&server.number)) {
            let protocol = server.protocol_name.to_ascii_lowercase();
            out.push((format_smolstr!("{protocol}-{}", server.number), server.number, server.number));
        }
    }
    out
}

fn client(namespace: &str) -> StandIn {
    let labels = [(SmolStr::new_static("app"), SmolStr::new_static("client"))].into_iter().collect();
    let assumption = format!("{namespace}/client, with a sidecar, stands for a client");
    StandIn::new(namespace, "client", assumption, &[workload(namespace, "client", &labels, false)])
}

fn workload(namespace: &str, name: &str, labels: &IndexMap<SmolStr, SmolStr>, gateway: bool) -> Value {
    let mut labels = labels.clone();
    labels.insert(SmolStr::new_static("sidecar.istio.io/inject"), SmolStr::new_static("true"));
    let (annotations, container) = if gateway {
        (json!({"inject.istio.io/templates": "gateway"}), "istio-proxy")
    } else {
        (json!({}), "app")
    };
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"containers": [{"name": container, "image": "auto"}]},
            },
        },
    })
}

fn service_of(namespace: &str, name: &str, selector: &IndexMap<SmolStr, SmolStr>, ports: &[Port]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "LoadBalancer", "selector": selector, "ports": ports},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;
    use crate::mesh::MeshOptions;

    fn missing(text: &str) -> Vec<StandIn> {
        let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), MeshOptions::default());
        StandIn::for_missing(&mesh, "shop")
    }

    /// A mesh with its stand-ins lacks nothing more.
    fn completed(text: &str) -> Mesh {
        let loader = missing(text)
            .into_iter()
            .fold(Loader::new().text("m.yaml", text), |loader, part| loader.text(part.file, part.text));
        let mesh = Mesh::new(loader.load(), MeshOptions::default());
        assert_eq!(mesh.diagnostics().map(|d| d.message.as_str()).collect::<Vec<_>>(), [""; 0]);
        assert_eq!(StandIn::for_missing(&mesh, "shop"), []);
        mesh
    }

    fn gateway(selector: &str, port: u16) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: front, namespace: edge}}\n\
             spec: {{selector: {selector}, servers: [{{hosts: ['*'], port: {{number: {port}, name: a, protocol: HTTP}}}}]}}\n"
        )
    }

    #[test]
    fn a_gateway_of_istios_profiles_gets_its_name_and_ports() {
        let mesh = completed(&gateway("{istio: egressgateway}", 8080));
        let service = mesh.services().first().unwrap();
        assert_eq!(service.hostname, "istio-egressgateway.istio-system.svc.cluster.local");
        let ports: Vec<_> = service.ports.iter().map(|p| (p.name.as_str(), p.number)).collect();
        assert_eq!(ports, [("http2", 80), ("https", 443)]);
        let mut kinds: Vec<_> = mesh.workloads().iter().map(|w| (w.full_name(), w.proxy)).collect();
        kinds.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            kinds,
            [
                ("istio-system/istio-egressgateway".into(), ProxyKind::Gateway),
                ("shop/client".into(), ProxyKind::Sidecar)
            ]
        );
    }

    #[test]
    fn another_gateway_gets_the_ports_of_its_servers_in_its_own_namespace() {
        let mesh = completed(&gateway("{role: front-door}", 8443));
        let service = mesh.services().first().unwrap();
        assert_eq!(service.hostname, "front-door.edge.svc.cluster.local");
        assert_eq!(service.ports.iter().map(|p| p.number).collect::<Vec<_>>(), [8443]);
    }

    #[test]
    fn a_service_without_pods_gets_pods_and_no_second_service() {
        let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: door, namespace: edge}\n\
                       spec: {selector: {istio: ingressgateway, app: door}, ports: [{name: http, port: 80}]}\n";
        let mesh = completed(&(gateway("{istio: ingressgateway}", 80) + service));
        assert_eq!(mesh.services().len(), 1);
        assert!(
            mesh.workloads().iter().any(|w| w.full_name() == "edge/door" && w.proxy == ProxyKind::Gateway)
        );
    }

    #[test]
    fn nothing_stands_for_what_is_there() {
        let pods = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: gw, labels: {istio: ingressgateway}}\n\
                    spec: {containers: [{name: istio-proxy}]}\n\
                    ---\napiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: app}]}\n";
        assert_eq!(missing(&(gateway("{istio: ingressgateway}", 80) + pods)), []);
    }
}
