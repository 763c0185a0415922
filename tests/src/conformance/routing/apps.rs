//! The mesh that the routing tests run in, as manifests.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// A workload of `apps.json`.
#[derive(Clone, Debug, serde::Deserialize)]
struct App {
    service: String,
    namespace: String,
    headless: bool,
    service_address: String,
    pod_address: String,
    ports: Vec<AppPort>,
    /// The tests of this suite deploy one version of each.
    subsets: [Subset; 1],
    statefulset: bool,
}

/// A port of a workload.
#[derive(Clone, Debug, serde::Deserialize)]
struct AppPort {
    name: String,
    service_port: i64,
    workload_port: i64,
    instance_ip: bool,
    localhost_ip: bool,
}

/// What a workload's pods carry.
#[derive(Clone, Debug, serde::Deserialize)]
struct Subset {
    annotations: Option<Map<String, Value>>,
    labels: Option<Map<String, Value>>,
    version: String,
}

/// The gateways of the installation.
const GATEWAYS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: echo, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: external}
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system, labels: {istio: ingressgateway}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.1.1
  selector: {istio: ingressgateway}
  ports:
  - {name: status-port, port: 15021}
  - {name: http2, port: 80, targetPort: 8080}
  - {name: https, port: 443, targetPort: 8443}
  - {name: tcp, port: 31400}
  - {name: tls, port: 15443}
---
apiVersion: v1
kind: Pod
metadata: {name: istio-ingressgateway, namespace: istio-system, labels: {app: istio-ingressgateway, istio: ingressgateway}}
spec: {serviceAccountName: istio-ingressgateway, containers: [{name: istio-proxy}]}
status: {podIP: 10.244.1.1}
---
apiVersion: v1
kind: Service
metadata: {name: istio-egressgateway, namespace: istio-system, labels: {istio: egressgateway}}
spec:
  clusterIP: 10.96.1.2
  selector: {istio: egressgateway}
  ports:
  - {name: http2, port: 80, targetPort: 8080}
  - {name: https, port: 443, targetPort: 8443}
---
apiVersion: v1
kind: Pod
metadata: {name: istio-egressgateway, namespace: istio-system, labels: {app: istio-egressgateway, istio: egressgateway}}
spec: {serviceAccountName: istio-egressgateway, containers: [{name: istio-proxy}]}
status: {podIP: 10.244.1.2}
";

/// The workloads of the tests.
#[derive(Clone, Debug)]
pub(super) struct Apps(Vec<App>);

impl Apps {
    /// Reads an `apps.json`.
    ///
    /// # Errors
    ///
    /// The text is not that of an `apps.json`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map(Self).map_err(|e| format!("apps.json: {e}"))
    }

    /// The manifests of the workloads and gateways.
    pub(super) fn manifests(&self) -> String {
        let mut out = GATEWAYS.to_owned();
        for app in &self.0 {
            for document in [service(app), pod(app)] {
                let _ = write!(out, "---\n{document}\n");
            }
        }
        out
    }

    /// Whether the application at the hop `id` listens at an address: some ports are open on one interface only.
    ///
    /// Hops that are no application of the tests listen everywhere.
    pub(super) fn listens(&self, id: &str, address: &str) -> bool {
        let Some(name) = id.strip_prefix("workload:") else { return true };
        let Some(app) = self.0.iter().find(|app| name == pod_name(app)) else { return true };
        let Some((ip, port)) = address.rsplit_once(':') else { return true };
        let loopback = ip == "127.0.0.1";
        // The port of the application's own health and forwarding server.
        let own = if port == "8080" { Some(&HEALTH) } else { None };
        let open = app.ports.iter().chain(own).find(|open| open.workload_port.to_string() == port);
        open.is_some_and(|open| if loopback { !open.instance_ip } else { !open.localhost_ip })
    }
}

/// The port that every application of the tests opens besides its own.
const HEALTH: AppPort = AppPort {
    name: String::new(),
    service_port: -1,
    workload_port: 8080,
    instance_ip: false,
    localhost_ip: false,
};

fn pod_name(app: &App) -> String {
    let suffix = if app.statefulset { "-0" } else { "" };
    let [subset] = &app.subsets;
    format!("{}/{}-{}{suffix}", app.namespace, app.service, subset.version)
}

fn service(app: &App) -> Value {
    let ports: Vec<Value> = app
        .ports
        .iter()
        .filter(|port| port.service_port > 0)
        .map(|port| {
            // Headless Services open the workload's own ports.
            let number = if app.headless { port.workload_port } else { port.service_port };
            json!({"name": port.name, "port": number, "targetPort": port.workload_port})
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": app.service, "namespace": app.namespace, "labels": {"app": app.service}},
        "spec": {"clusterIP": app.service_address, "selector": {"app": app.service}, "ports": ports},
    })
}

fn pod(app: &App) -> Value {
    let [subset] = &app.subsets;
    let mut labels = subset.labels.clone().unwrap_or_default();
    labels.insert("app".into(), json!(app.service));
    labels.insert("version".into(), json!(subset.version));
    let annotations = subset.annotations.clone().unwrap_or_default();
    let refused = annotations.get("sidecar.istio.io/inject") == Some(&json!("false"));
    // The agent of proxyless gRPC is no proxy.
    let proxyless = annotations.contains_key("inject.istio.io/templates");
    let mut containers = vec![json!({"name": "app"})];
    if app.namespace == "echo" && !refused && !proxyless {
        labels.insert("security.istio.io/tlsMode".into(), json!("istio"));
        containers.push(json!({"name": "istio-proxy"}));
    }
    let name = format!("{}-{}{}", app.service, subset.version, if app.statefulset { "-0" } else { "" });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": app.namespace, "labels": labels, "annotations": annotations},
        "spec": {"serviceAccountName": app.service, "containers": containers},
        "status": {"podIP": app.pod_address},
    })
}
