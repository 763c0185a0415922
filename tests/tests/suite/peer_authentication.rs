//! PeerAuthentications merge as istiod merges them, for Envoy and for ztunnel.

use std::hash::Hash;

use dryroute::istiod::peer_authentication::{MergedPeerAuthentication, MtlsMode, compose};
use dryroute::manifest::schema::mesh_config::MeshConfig;
use dryroute::manifest::{Admission, Loader};
use dryroute::mesh::{Mesh, MeshOptions, selects};
use indexmap::IndexMap;
use serde_json::{Value, json};

fn mesh(manifests: &str, root_namespace: &str) -> Mesh {
    let mesh_config = MeshConfig { root_namespace: Some(root_namespace.into()), ..MeshConfig::default() };
    // The cases are those of istiod's function, which asks no webhook.
    let set = Loader::new().admission(Admission::Admitted).text("policies.yaml", manifests).load();
    assert_eq!(set.diagnostics().iter().map(|d| d.message.clone()).collect::<Vec<_>>(), Vec::<String>::new());
    Mesh::new(set, MeshOptions { mesh_config: Some(mesh_config), ..MeshOptions::default() })
}

fn labels<T: for<'a> From<&'a str> + Eq + Hash>(of: &Value) -> IndexMap<T, T> {
    let pairs = of.as_object().into_iter().flatten();
    pairs.map(|(k, v)| (k.as_str().into(), v.as_str().unwrap().into())).collect()
}

const fn name(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Disable => "DISABLE",
        MtlsMode::Permissive => "PERMISSIVE",
        MtlsMode::Strict => "STRICT",
    }
}

#[test]
fn policies_of_one_workload_merge_as_istiod_merges_them() {
    let Some(folder) = dryroute_tests::conformance("authz") else { return };
    let text = std::fs::read_to_string(folder.join("peer-authentication-merge.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut failures = Vec::new();
    for case in &cases {
        let policies = case["policies"].as_array().unwrap();
        let mut moments: Vec<i64> = policies.iter().filter_map(|p| p["created"].as_i64()).collect();
        moments.sort_unstable();
        moments.dedup();
        // All of a case's selectors select its one workload.
        let mut workload = json!({});
        let mut documents = Vec::new();
        for policy in policies {
            let mut metadata = json!({
                "name": policy["name"].as_str().unwrap().replace(' ', "-"), "namespace": policy["namespace"]
            });
            if let Some(at) = policy["created"].as_i64() {
                let place = moments.iter().position(|moment| *moment == at).unwrap();
                metadata["creationTimestamp"] = json!(format!("2025-01-01T00:00:{place:02}Z"));
            }
            for (key, value) in policy["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
                workload[key] = value.clone();
            }
            let document = json!({
                "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                "metadata": metadata, "spec": policy["spec"],
            });
            documents.push(document.to_string());
        }
        let mesh = mesh(&documents.join("\n---\n"), case["root_namespace"].as_str().unwrap());
        let labels = labels(&workload);
        let merged = compose(&mesh, "my-ns", |wanted| selects(wanted, &labels));
        let per_port: serde_json::Map<String, Value> =
            merged.per_port.iter().map(|(port, (mode, _))| (port.to_string(), json!(name(*mode)))).collect();
        let got = (json!(name(merged.mode)), Value::Object(per_port));
        let expected = (case["mode"].clone(), case["per_port"].clone());
        if got != expected {
            failures.push(format!("{}: expected {expected:?}, got {got:?}", case["name"]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases.len() >= 14, "only {} cases", cases.len());
}

/// Whether ztunnel's policy refuses a caller without certificate on a port.
fn refuses(policy: &Value, port: u64) -> bool {
    let ports = |of: &Value, key: &str| -> Option<bool> {
        let list = of.get(key)?.as_array()?;
        Some(list.iter().any(|own| own.as_u64() == Some(port)))
    };
    let matches = |of: &Value| {
        ports(of, "destinationPorts") != Some(false) && ports(of, "notDestinationPorts") != Some(true)
    };
    policy["groups"].as_array().unwrap().iter().any(|group| {
        group["rules"]
            .as_array()
            .unwrap()
            .iter()
            .all(|rule| rule["matches"].as_array().unwrap().iter().any(matches))
    })
}

#[test]
fn ports_require_mutual_tls_where_ztunnel_requires_it() {
    let Some(folder) = dryroute_tests::conformance("ambient-policy") else { return };
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix("-in.yaml")?.to_string()))
        .filter(|name| name.starts_with("peer-authn"))
        .collect();
    names.sort();
    assert!(names.len() >= 19, "only {} cases", names.len());
    for case in names {
        let manifests = std::fs::read_to_string(folder.join(format!("{case}-in.yaml"))).unwrap();
        let golden = std::fs::read_to_string(folder.join(format!("{case}.yaml"))).unwrap();
        let namespace = if manifests.contains("namespace: foo") { "foo" } else { "default" };
        let labels = labels(&json!({ "app": "a" }));
        let merged: MergedPeerAuthentication =
            compose(&mesh(&manifests, "istio-system"), namespace, |wanted| selects(wanted, &labels));
        let policy: Value = if golden.trim().is_empty() {
            json!({ "groups": [] })
        } else {
            serde_yaml::from_str(&golden).unwrap()
        };
        // A policy with exemptions stands in place of the one that holds for every port.
        let exempts = golden.contains("notDestinationPorts");
        for port in [80, 8080, 9090] {
            let expected = refuses(&policy, port) || (!exempts && merged.mode == MtlsMode::Strict);
            let got = merged.for_port(u16::try_from(port).unwrap()).0 == MtlsMode::Strict;
            assert_eq!(got, expected, "{case}: port {port}");
        }
    }
}
