//! What does a workload's proxy say about itself when it starts?
//!
//! The node that injection and the agent make of a pod: labels, addresses and the metadata that istiod's answers depend
//! on. istiod: `proxy_config.go: EffectiveProxyConfig`; agent: `pkg/bootstrap/config.go: ISTIO_META_ variables`.

use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::node::{InterceptionMode, Node, NodeMetadata, NodeType};
use crate::manifest::parse_mesh_config;
use crate::manifest::schema::mesh_config::{self, ForwardClientCertDetails, ProxyConfig, ProxyHeaders};
use crate::mesh::{Mesh, ProxyKind, Workload, locality, selects};

impl Node {
    /// The proxy of a workload; `None` when the workload has none.
    pub fn of(mesh: &Mesh, workload: &Workload) -> Option<Self> {
        let node_type = match workload.proxy {
            ProxyKind::None => return None,
            ProxyKind::Sidecar => NodeType::Sidecar,
            ProxyKind::Gateway => NodeType::Router,
        };
        let proxy_config = proxy_config(mesh, &workload.namespace, &workload.labels, &workload.annotations);
        let mut metadata = metadata(&proxy_config, &workload.proxy_env);
        if let Some(mode) = workload.annotations.get("sidecar.istio.io/interceptionMode") {
            metadata.interception_mode = match mode.as_str() {
                "TPROXY" => InterceptionMode::Tproxy,
                "NONE" => InterceptionMode::None,
                _ => InterceptionMode::Redirect,
            };
        }
        if let Some(network) = workload.labels.get("topology.istio.io/network") {
            metadata.network = network.clone();
        }
        metadata.locality = locality::of_labels(&workload.labels);
        metadata.locality_assumed = !workload.locality_known
            && [locality::REGION, locality::ZONE].iter().all(|name| !workload.labels.contains_key(name));
        metadata.node_name = workload.node_name.clone();
        let mut labels = workload.labels.clone();
        let place = (&workload.locality, &metadata.cluster_id, &metadata.node_name, &workload.network);
        locality::augment(&mut labels, place.0, place.1, place.2, place.3);
        metadata.proxy_config = Some(Arc::new(proxy_config));
        Some(Self {
            node_type,
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            labels,
            ips: workload.ips.clone(),
            service_account: workload.service_account.clone(),
            metadata,
            istio_version: SmolStr::default(),
        })
    }
}

/// The proxy configuration of a workload: MeshConfig's, then ProxyConfigs of the root namespace, of its namespace and
/// those that select it, then its own annotation. istiod: `proxy_config.go: EffectiveProxyConfig`.
fn proxy_config(
    mesh: &Mesh,
    namespace: &str,
    labels: &IndexMap<SmolStr, SmolStr>,
    annotations: &IndexMap<SmolStr, SmolStr>,
) -> ProxyConfig {
    let mut config = mesh.config().default_config.clone();
    let root = mesh.config().root_namespace.as_str();
    let all = &mesh.policies().proxy_configs;
    // A selector in the root namespace reaches no other namespace.
    let plain = |ns| all.in_namespace(ns).filter(|c| c.spec.selector.is_none()).take(1);
    let own = (namespace != root).then(|| plain(namespace)).into_iter().flatten();
    let selecting = all
        .in_namespace(namespace)
        .filter(|c| c.spec.selector.as_ref().is_some_and(|s| selects(&s.match_labels, labels)))
        .take(1);
    for resource in plain(root).chain(own).chain(selecting) {
        let more = resource.spec.environment_variables.iter().map(|(k, v)| (k.clone(), v.clone()));
        config.proxy_metadata.extend(more);
    }
    if let Some(text) = annotations.get("proxy.istio.io/config")
        && let (Some(written), _) = parse_mesh_config(
            "proxy.istio.io/config",
            &format!("defaultConfig:\n  {}", text.replace('\n', "\n  ")),
        )
        && let Some(written) = written.default_config
    {
        merge(&mut config, written);
    }
    config
}

/// Lays the fields that `over` sets over those of `config`.
fn merge(config: &mut ProxyConfig, over: ProxyConfig) {
    config.proxy_metadata.extend(over.proxy_metadata);
    config.runtime_values.extend(over.runtime_values);
    config.interception_mode = over.interception_mode.or(config.interception_mode);
    config.gateway_topology = over.gateway_topology.or(config.gateway_topology.take());
    config.proxy_headers = merge_headers(config.proxy_headers.take(), over.proxy_headers);
    config.connection_settings = over.connection_settings.or(config.connection_settings.take());
    config.status_port = over.status_port.or(config.status_port);
    config.mesh_id = over.mesh_id.or(config.mesh_id.take());
}

/// Some of the headers that `over` says nothing of stay as they were. istiod: `mesh.go: correctProxyHeaders`.
fn merge_headers(known: Option<ProxyHeaders>, over: Option<ProxyHeaders>) -> Option<ProxyHeaders> {
    let (known, over) = match (known, over) {
        (Some(known), Some(over)) => (known, over),
        (known, over) => return over.or(known),
    };
    let certificate = match over.forwarded_client_cert {
        ForwardClientCertDetails::Undefined => known.forwarded_client_cert,
        written => written,
    };
    Some(ProxyHeaders {
        forwarded_client_cert: certificate,
        request_id: over.request_id.or(known.request_id),
        attempt_count: over.attempt_count.or(known.attempt_count),
        server: over.server.or(known.server),
        envoy_debug_headers: over.envoy_debug_headers.or(known.envoy_debug_headers),
        ..over
    })
}

/// Metadata from `ISTIO_META_…` variables: those of the proxy's container win over the proxy configuration's.
fn metadata(config: &ProxyConfig, env: &[(SmolStr, SmolStr)]) -> NodeMetadata {
    let value = |name: &str| {
        env.iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
            .or_else(|| config.proxy_metadata.get(name))
            .map(SmolStr::as_str)
    };
    let is_on = |name: &str| matches!(value(name), Some("true" | "1"));
    let mut out = NodeMetadata::default();
    if let Some(id) = value("ISTIO_META_CLUSTER_ID") {
        out.cluster_id = id.into();
    }
    if let Some(network) = value("ISTIO_META_NETWORK") {
        out.network = network.into();
    }
    out.interception_mode = match config.interception_mode {
        Some(mesh_config::InterceptionMode::Tproxy) => InterceptionMode::Tproxy,
        Some(mesh_config::InterceptionMode::None) => InterceptionMode::None,
        _ => InterceptionMode::Redirect,
    };
    out.dns_capture = is_on("ISTIO_META_DNS_CAPTURE");
    out.dns_auto_allocate = is_on("ISTIO_META_DNS_AUTO_ALLOCATE");
    out.unprivileged = value("ISTIO_META_UNPRIVILEGED_POD") == Some("true");
    out.self_discovery = is_on("ISTIO_META_ENABLE_SELF_DISCOVERY");
    out.http10 = value("ISTIO_META_HTTP10") == Some("1");
    out.http_proxy_port = value("ISTIO_META_HTTP_PROXY_PORT").and_then(|port| port.parse().ok());
    if let Some(port) = config.status_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    {
        out.envoy_status_port = port;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Loader;
    use crate::mesh::MeshOptions;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web, sidecar.istio.io/inject: 'true'}
  annotations:
    sidecar.istio.io/interceptionMode: TPROXY
    proxy.istio.io/config: |
      proxyMetadata:
        ISTIO_META_DNS_CAPTURE: 'true'
        ISTIO_META_HTTP10: '0'
spec:
  containers: [{name: app}]
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: shop}
spec:
  environmentVariables: {ISTIO_META_HTTP10: '1', ISTIO_META_NETWORK: blue}
---
apiVersion: v1
kind: Pod
metadata:
  name: plain
  namespace: shop
  labels: {sidecar.istio.io/inject: 'false'}
spec: {containers: [{name: app}]}
";

    fn node_of(text: &str) -> Node {
        let mesh = Mesh::new(Loader::new().text("pods.yaml", text).load(), MeshOptions::default());
        let mut node = Node::of(&mesh, mesh.workloads().first().unwrap()).unwrap();
        node.settle_locality();
        node
    }

    fn pod(labels: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{sidecar.istio.io/inject: 'true', {labels}}}}}\n\
             spec: {{nodeName: n1, containers: [{{name: app}}]}}\n---\n"
        )
    }

    const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: r, \
        failure-domain.beta.kubernetes.io/zone: z}}\n---\n";

    #[test]
    fn a_pod_without_a_locality_label_runs_where_its_node_does() {
        let node = node_of(&format!("{}{NODE}", pod("app: web")));
        assert_eq!(node.metadata.locality, "r/z/");
        assert!(!node.metadata.locality_assumed);
        let label = |name: &str| node.labels.get(name).map(SmolStr::as_str);
        assert_eq!(label("topology.kubernetes.io/zone"), Some("z"));
        assert_eq!(label("kubernetes.io/hostname"), Some("n1"));
        assert_eq!(label("topology.istio.io/cluster"), Some("Kubernetes"));
    }

    #[test]
    fn the_newer_locality_label_wins_over_the_older_one_and_over_the_node() {
        let both = "istio-locality: old.a, topology.istio.io/locality: new.b.rack1";
        let node = node_of(&format!("{}{NODE}", pod(both)));
        assert_eq!(node.metadata.locality, "new/b/rack1");
    }

    #[test]
    fn where_a_pod_runs_whose_node_is_not_given_is_assumed() {
        let node = node_of(&pod("app: web"));
        assert_eq!(node.metadata.locality, "");
        assert!(node.metadata.locality_assumed);
        assert!(!node_of(&pod("topology.istio.io/locality: r.z")).metadata.locality_assumed);
    }

    #[test]
    fn headers_that_an_annotation_says_nothing_of_are_as_the_mesh_has_them() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {sidecar.istio.io/inject: 'true'}, annotations: \
            {proxy.istio.io/config: '{proxyHeaders: {server: {disabled: true}}}'}}\nspec: {containers: [{name: app}]}\n";
        let mesh = "defaultConfig: {proxyHeaders: {attemptCount: {disabled: true}, forwardedClientCert: SANITIZE, \
            server: {value: mine}, preserveHttp1HeaderCase: true}}";
        let options =
            MeshOptions { mesh_config: parse_mesh_config("mesh", mesh).0, ..MeshOptions::default() };
        let mesh = Mesh::new(Loader::new().text("pods.yaml", pod).load(), options);
        let node = Node::of(&mesh, mesh.workloads().first().unwrap()).unwrap();
        let headers = node.metadata.proxy_config.as_ref().unwrap().proxy_headers.clone().unwrap();
        assert_eq!(headers.attempt_count.unwrap().disabled, Some(true));
        assert_eq!(headers.forwarded_client_cert, ForwardClientCertDetails::Sanitize);
        assert_eq!(headers.server.unwrap().value, "", "what is written replaces the whole of it");
        assert_eq!(headers.preserve_http1_header_case, None, "istiod keeps only some of them");
    }

    #[test]
    fn annotations_win_over_proxy_configs_and_bare_pods_have_no_proxy() {
        let mesh = Mesh::new(Loader::new().text("pods.yaml", POD).load(), MeshOptions::default());
        let by_name = |name: &str| mesh.workloads().iter().find(|w| w.name == name).unwrap();
        let node = Node::of(&mesh, by_name("web")).unwrap();
        assert_eq!(node.metadata.interception_mode, InterceptionMode::Tproxy);
        assert!(node.metadata.dns_capture);
        assert!(!node.metadata.http10, "the annotation turns off what the ProxyConfig turns on");
        assert_eq!(node.metadata.network, "blue");
        assert_eq!(Node::of(&mesh, by_name("plain")), None);
    }
}
