//! Two ways to the same answer, over every mesh there is: the scenarios, and the recorded meshes where they are present.

use std::net::IpAddr;
use std::sync::Arc;

use dryroute::envoy::config::{Listener, ListenerAddress};
use dryroute::envoy::xds::{Capture, Xds};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::{Loader, parse_mesh_config};
use dryroute::mesh::{Mesh, MeshOptions};
use serde_json::Value;

/// A mesh that is read again as often as a property asks for it.
struct Recorded {
    name: String,
    manifests: Vec<String>,
    mesh_config: String,
    node: Node,
}

impl Recorded {
    fn mesh(&self, manifests: &[String]) -> Arc<Mesh> {
        let mut loader = Loader::new();
        for (i, text) in manifests.iter().enumerate() {
            loader = loader.text(format!("{i}.yaml"), text.as_str());
        }
        let mesh_config = (!self.mesh_config.trim().is_empty())
            .then(|| parse_mesh_config("mesh.yaml", &self.mesh_config).0.unwrap());
        Arc::new(Mesh::new(loader.load(), MeshOptions { mesh_config, ..MeshOptions::default() }))
    }

    fn proxy(&self) -> Proxy {
        Proxy::new(self.mesh(&self.manifests), self.node.clone())
    }
}

/// Splits a stream into its documents.
fn documents(text: &str) -> Vec<String> {
    text.split("\n---").map(str::to_owned).filter(|document| !document.trim().is_empty()).collect()
}

fn scenarios() -> Vec<Recorded> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut out = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        let mut manifests = Vec::new();
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|e| e == "yaml") && !file.ends_with("scenario.yaml") {
                manifests.push(std::fs::read_to_string(file).unwrap());
            }
        }
        manifests.sort();
        for namespace in ["default", "istio-system"] {
            let mut node = Node::sidecar(namespace, "client", vec!["10.9.9.9".parse().unwrap()]);
            node.labels.insert("app".into(), "sleep".into());
            out.push(Recorded {
                name: format!("{} from {namespace}", folder.display()),
                manifests: manifests.iter().flat_map(|text| documents(text)).collect(),
                mesh_config: String::new(),
                node,
            });
        }
    }
    assert!(!out.is_empty());
    out
}

/// Every `step`-th mesh of a recorded suite.
fn recorded(suite: &str, step: usize) -> Vec<Recorded> {
    let Some(folder) = dryroute_tests::conformance(suite) else { return Vec::new() };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    let mut out = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for line in text.lines().step_by(step) {
            let case: Value = serde_json::from_str(line).unwrap();
            let proxy = &case["proxy"];
            if proxy["type"] != "sidecar" {
                continue;
            }
            let ips: Vec<IpAddr> = match proxy["ips"].as_array() {
                Some(ips) => ips.iter().map(|ip| ip.as_str().unwrap().parse().unwrap()).collect(),
                None => vec![proxy["ip"].as_str().unwrap().parse().unwrap()],
            };
            let mut node = Node::sidecar(proxy["namespace"].as_str().unwrap(), "client", ips);
            for (name, value) in proxy["labels"].as_object().into_iter().flatten() {
                node.labels.insert(name.into(), value.as_str().unwrap().into());
            }
            node.metadata.dns_capture = proxy["metadata"]["DNS_CAPTURE"] == "true";
            out.push(Recorded {
                name: case["id"].as_str().unwrap().to_owned(),
                manifests: documents(case["manifests"].as_str().unwrap()),
                mesh_config: case["mesh_config"].as_str().unwrap_or_default().to_owned(),
                node,
            });
        }
    }
    out
}

fn meshes() -> Vec<Recorded> {
    let mut out = scenarios();
    out.extend(recorded("simulation", 1));
    out.extend(recorded("differential", 10));
    out
}

/// Everything outbound that a proxy is told, as text.
fn told(proxy: &Proxy) -> String {
    let listeners = proxy.listeners().into_iter().map(|listener| format!("{listener:#?}\n"));
    let configurations = proxy.route_configurations().into_iter().map(|routes| format!("{routes:#?}\n"));
    let clusters = proxy.clusters().into_iter().map(|cluster| format!("{cluster:#?}\n"));
    listeners.chain(configurations).chain(clusters).collect()
}

/// The same, without where it is written and in order of names.
fn told_without_origins(proxy: &Proxy) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    out.extend(proxy.listeners().iter().map(|listener| format!("{listener:#?}")));
    out.extend(proxy.route_configurations().iter().map(|configuration| format!("{configuration:#?}")));
    out.extend(proxy.clusters().iter().map(|cluster| format!("{cluster:#?}")));
    for text in &mut out {
        let mut kept = String::new();
        let mut skip = 0_usize;
        for line in text.lines() {
            let opens = line.trim_end().ends_with(['{', '(', '[']);
            let closes = line.trim_start().starts_with(['}', ')', ']']);
            if skip > 0 {
                skip = if opens {
                    skip + 1
                } else if closes {
                    skip - 1
                } else {
                    skip
                };
                continue;
            }
            let field = line.trim_start();
            if field.starts_with("Field {") || field.contains(": Field {") {
                skip = 1;
                continue;
            }
            kept += line;
            kept.push('\n');
        }
        *text = kept;
    }
    out.sort();
    out
}

fn listener_on_demand(proxy: &Proxy, listener: &Listener) -> Option<Arc<Listener>> {
    let ListenerAddress::Socket(ip, port) = listener.address else { return None };
    // An address that no service has leads to the wildcard listener.
    let destination = if ip.is_unspecified() { "203.0.113.254".parse().unwrap() } else { ip };
    proxy.listener(Capture::Outbound, destination, port)
}

#[test]
fn what_is_answered_on_demand_is_what_is_enumerated() {
    let mut compared = 0;
    for recorded in meshes() {
        let whole = recorded.proxy();
        let asked = recorded.proxy();
        for listener in whole.listeners().iter().filter(|l| l.name != "virtualInbound") {
            let Some(found) = listener_on_demand(&asked, listener) else { continue };
            if found.name == listener.name || listener.name != "virtualOutbound" {
                assert_eq!(*found, **listener, "{}", recorded.name);
                compared += 1;
            }
        }
        for configuration in whole.route_configurations() {
            for host in &configuration.virtual_hosts {
                for domain in &host.domains {
                    let sent = match domain.strip_prefix('*') {
                        // A host that only this wildcard covers.
                        Some("") => "nobody-knows-this.invalid".to_owned(),
                        Some(rest) => format!("nobody-knows-this{rest}"),
                        None => domain.to_string(),
                    };
                    if domain.contains('/')
                        || sent.trim_end_matches(|c: char| c.is_ascii_digit()).ends_with("]:")
                    {
                        continue;
                    }
                    let chosen = asked.virtual_host(&configuration.name, &sent).and_then(|c| c.virtual_host);
                    if configuration.name.starts_with("unix:") || configuration.name == "http_proxy" {
                        continue;
                    }
                    assert_eq!(
                        chosen.as_deref(),
                        Some(&**host),
                        "{}: {} in {}",
                        recorded.name,
                        sent,
                        configuration.name
                    );
                    compared += 1;
                }
            }
        }
        for cluster in whole.clusters() {
            assert_eq!(asked.cluster(&cluster.name).as_deref(), Some(&*cluster), "{}", recorded.name);
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} comparisons");
}

#[test]
fn the_order_of_files_and_documents_changes_nothing() {
    for recorded in meshes() {
        // Resources of one age, kind and name would be settled by arrival; times make every resource's age its own.
        let aged: Vec<String> = recorded.manifests.iter().enumerate().map(|(i, text)| age(text, i)).collect();
        let mut turned = aged.clone();
        turned.reverse();
        let forwards = Proxy::new(recorded.mesh(&aged), recorded.node.clone());
        let backwards = Proxy::new(recorded.mesh(&turned), recorded.node.clone());
        let (forwards, backwards) = (told_without_origins(&forwards), told_without_origins(&backwards));
        assert_eq!(forwards.len(), backwards.len(), "{}", recorded.name);
        for (a, b) in forwards.iter().zip(&backwards) {
            assert_eq!(a, b, "{}", recorded.name);
        }
    }
}

/// The document with a creation time of its own.
fn age(text: &str, number: usize) -> String {
    let mut value: Value = serde_yaml::from_str(text).unwrap();
    let stamp = format!("2024-01-01T{:02}:{:02}:{:02}Z", number / 3600, number / 60 % 60, number % 60);
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("creationTimestamp".into(), Value::String(stamp));
    }
    serde_json::to_string(&value).unwrap()
}

#[test]
fn what_a_proxy_cannot_see_changes_nothing() {
    let hidden = [
        "apiVersion: v1\nkind: Service\nmetadata: {name: hidden, namespace: elsewhere, annotations: {networking.istio.io/exportTo: .}}\nspec: {clusterIP: 10.255.1.1, ports: [{name: http, port: 80}, {name: tcp, port: 9000}]}",
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: hidden, namespace: elsewhere}\nspec: {hosts: [httpbin.org, '*.example'], exportTo: ['.'], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], resolution: NONE}",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: hidden, namespace: elsewhere}\nspec: {hosts: ['*.local', httpbin.org], exportTo: ['.'], http: [{directResponse: {status: 418}}]}",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: hidden, namespace: elsewhere}\nspec: {host: '*.local', exportTo: ['.'], trafficPolicy: {tls: {mode: DISABLE}}}",
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: hidden, namespace: elsewhere}\nspec: {egress: [{hosts: ['./*']}]}",
    ];
    for recorded in meshes() {
        let mut more = recorded.manifests.clone();
        more.extend(hidden.iter().map(|text| (*text).to_owned()));
        let with = Proxy::new(recorded.mesh(&more), recorded.node.clone());
        assert_eq!(told(&recorded.proxy()), told(&with), "{}", recorded.name);
    }
}

#[test]
fn renaming_a_namespace_only_renames() {
    // The new name is as long and sorts as the old one does among the names of these meshes.
    let rename = |text: &str| text.replace("shop", "shoq");
    let mut renamed = 0;
    for recorded in meshes() {
        if !recorded.manifests.iter().any(|text| text.contains("shop")) {
            continue;
        }
        let manifests: Vec<String> = recorded.manifests.iter().map(|text| rename(text)).collect();
        let mut node = recorded.node.clone();
        node.namespace = rename(&node.namespace).into();
        let after = Proxy::new(recorded.mesh(&manifests), node);
        assert_eq!(rename(&told(&recorded.proxy())), told(&after), "{}", recorded.name);
        renamed += 1;
    }
    if dryroute_tests::conformance("differential").is_some() {
        assert!(renamed > 0);
    }
}
