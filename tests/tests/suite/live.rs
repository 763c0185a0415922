//! The model against a real Envoy: exported configurations are accepted, and random requests fare as decided.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dryroute::envoy::Capture;
use dryroute::envoy::export::{Document, Loopback, OneMachine, export};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::{Loader, is_manifest};
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::scenario::Scenario;
use dryroute_tests::live::alone::Alone;
use dryroute_tests::live::lab::plaintext;
use dryroute_tests::live::path::{Fate, RunningMesh};
use dryroute_tests::live::process::{Process, Scratch};
use dryroute_tests::live::random::{self, Plan};
use dryroute_tests::live::{Binary, Lab, Visit, absurd};
use serde_json::{Value, json};

/// The mesh of every scenario, with its name.
pub(super) fn scenarios() -> Vec<(String, Arc<Mesh>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders
        .into_iter()
        .map(|folder| {
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
            files.sort();
            let mut loader = Loader::new();
            for file in files.into_iter().filter(|f| is_manifest(f) && !f.ends_with("scenario.yaml")) {
                loader = loader.file(file).unwrap();
            }
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            (name, Arc::new(Mesh::new(loader.load(), MeshOptions::default())))
        })
        .collect()
}

pub(super) fn proxies(mesh: &Arc<Mesh>) -> Vec<Proxy> {
    mesh.workloads()
        .iter()
        .filter_map(|workload| Node::of(mesh, workload))
        .map(|node| Proxy::new(Arc::clone(mesh), node))
        .collect()
}

/// Whether Envoy accepts a bootstrap, or what it says.
fn validate(envoy: &Binary, bootstrap: &Value) -> Result<(), String> {
    let scratch = Scratch::new().map_err(|e| e.to_string())?;
    let file = scratch.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).map_err(|e| e.to_string())?;
    let output = Command::new(&envoy.path)
        .args(["--mode", "validate", "--log-level", "error", "--config-path"])
        .arg(&file)
        .output()
        .map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A bootstrap around the resources of discovery responses; what they ask for by name comes from nowhere.
fn around(listeners: &Value, clusters: &Value) -> Value {
    let untyped = |resources: &Value| -> Vec<Value> {
        let mut list = resources["resources"].as_array().cloned().unwrap_or_default();
        for resource in &mut list {
            resource.as_object_mut().unwrap().remove("@type");
        }
        list
    };
    let mut clusters = untyped(clusters);
    for name in ["sds-grpc", "xds-grpc"] {
        clusters.push(json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
        }));
    }
    json!({
        "node": {"id": "x", "cluster": "x"},
        "static_resources": {"listeners": untyped(listeners), "clusters": clusters},
        "dynamic_resources": {"ads_config": {
            "api_type": "GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
        }},
    })
}

#[test]
fn envoy_accepts_what_every_proxy_of_every_scenario_is_told() {
    let Some(envoy) = Binary::find() else { return };
    let machine = OneMachine::default();
    let mut count = 0;
    for (name, mesh) in scenarios() {
        for proxy in proxies(&mesh) {
            let snapshot = proxy.snapshot();
            let document =
                |document, loopback: Option<&dyn Loopback>| export(&snapshot, document, loopback).document;
            let node = &proxy.node().name;
            let whole = document(Document::Bootstrap, None);
            assert_eq!(validate(&envoy, &whole), Ok(()), "{name} {node}");
            let loopback = document(Document::Bootstrap, Some(&machine));
            assert_eq!(validate(&envoy, &loopback), Ok(()), "{name} {node} on one machine");
            let discovered = around(&document(Document::Lds, None), &document(Document::Cds, None));
            assert_eq!(validate(&envoy, &discovered), Ok(()), "{name} {node} discovered");
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} proxies");
}

#[test]
fn random_requests_fare_in_envoy_as_the_model_says() {
    let Some(lab) = Lab::open() else { return };
    let plan = Plan { seed: 1, first: 0, requests: 2000, per_mesh: 200, most: 3, shrink: true };
    let outcome = random::run(&lab, plan, |_| {});
    for mismatch in &outcome.mismatches {
        println!("mesh {}:\n{}\n---\n{}", mismatch.mesh, mismatch.scenario(), mismatch.manifests());
    }
    assert!(outcome.mismatches.is_empty(), "{} requests differ", outcome.mismatches.len());
    assert_eq!(outcome.refused, Vec::<String>::new(), "configurations that Envoy refused");
    assert_eq!(outcome.unknown, Vec::<String>::new(), "requests that were not decided");
    assert_eq!(outcome.compared, 2000);
}

/// Makes absurd requests to a proxy and compares.
fn absurd_requests(scenario: &str, proxy: &str, host: &str, capture: Capture, to: (&str, u16)) {
    let Some(lab) = Lab::open() else { return };
    let (_, mesh) = scenarios().into_iter().find(|(name, _)| name == scenario).unwrap();
    let proxy = proxies(&mesh).into_iter().find(|found| found.node().name == proxy).unwrap();
    let connection = plaintext(to.0.parse().unwrap(), to.1, "10.244.0.10".parse().unwrap());
    let (names, visits): (Vec<String>, Vec<Visit>) = absurd::requests(host)
        .into_iter()
        .map(|(name, request)| {
            (name, Visit { capture, connection: connection.clone(), request: Some(request) })
        })
        .unzip();
    let verdicts = lab.run(&proxy, &visits).unwrap();
    let mut differ = 0;
    for (name, verdict) in names.iter().zip(&verdicts) {
        for difference in &verdict.differences {
            println!("{name}: {difference}");
        }
        if let Some(reason) = &verdict.not_compared {
            println!("{name}: not compared: {reason}");
        }
        differ += usize::from(!verdict.differences.is_empty() || verdict.not_compared.is_some());
    }
    assert_eq!(differ, 0, "of {} requests", verdicts.len());
}

#[test]
fn absurd_requests_to_a_gateway_get_the_answer_that_envoy_gives() {
    let to = ("10.244.0.20", 8080);
    absurd_requests("bookinfo-ingress", "istio-ingressgateway", "bookinfo.test", Capture::Direct, to);
}

#[test]
fn absurd_requests_to_a_sidecar_get_the_answer_that_envoy_gives() {
    absurd_requests("canary", "sleep", "reviews:9080", Capture::Outbound, ("10.96.4.10", 9080));
}

#[test]
fn requests_of_every_scenario_go_through_real_envoys_hop_by_hop() {
    let Some(binary) = Binary::find() else { return };
    let (mut compared, mut envoys, mut not_run, mut differ) = (0, 0, Vec::new(), Vec::new());
    for (name, mesh) in scenarios() {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(&name).join("scenario.yaml");
        let scenario = Scenario::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        let mut running = RunningMesh::start(&binary, &mesh).unwrap();
        envoys += running.envoys();
        for request in &scenario.requests {
            let what = format!("{name}: {}", request.name);
            match running.send(&request.query().unwrap()).unwrap() {
                Fate::NotRun(reason) => not_run.push(format!("{what}: {reason}")),
                Fate::Compared(differences) => {
                    compared += 1;
                    for (hop, difference) in differences {
                        differ.push(format!("{what}: {hop}: {difference}"));
                    }
                }
            }
        }
    }
    println!("scenarios: {compared} requests through {envoys} Envoys");
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert_eq!(not_run, Vec::<String>::new(), "requests that were not run");
    assert!(compared >= 30, "only {compared} requests");
}

#[test]
fn an_envoy_on_one_machine_comes_up_without_anybody_to_ask_for_certificates() {
    let Some(envoy) = Binary::find() else { return };
    let (_, mesh) = scenarios().into_iter().find(|(name, _)| name == "canary").unwrap();
    let proxy = proxies(&mesh).into_iter().find(|p| p.node().name == "sleep").unwrap();
    let bootstrap = export(&proxy.snapshot(), Document::Bootstrap, Some(&Alone(None))).document;
    let scratch = Scratch::new().unwrap();
    let process = Process::start(&envoy, &bootstrap, scratch.path()).unwrap();
    assert!(process.listener("virtualInbound").is_some());
    process.quit();
}
