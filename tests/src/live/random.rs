//! Random meshes and requests, decided by the model and by Envoy.

use std::fmt::Write as _;
use std::sync::Arc;

use dryroute::istiod::{Node, Proxy};
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::strategy::{self, Case, Door, GeneratedRequest};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::compare::Difference;
use super::lab::{Lab, Verdict, Visit};

/// How often a mismatch is made smaller at most; each time starts an Envoy.
const SHRINKS: usize = 60;

/// What a run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Meshes that Envoy ran.
    pub meshes: usize,
    /// Requests that were compared.
    pub compared: usize,
    /// Requests whose fate the model does not know, with the reason.
    pub unknown: Vec<String>,
    /// Configurations that Envoy refused, with its reason.
    pub refused: Vec<String>,
    /// Requests that differ, each with its smallest mesh as a scenario.
    pub mismatches: Vec<Mismatch>,
}

/// A request that Envoy treated otherwise.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The number of its mesh.
    pub mesh: usize,
    /// The mesh and the request alone.
    pub case: Case,
    /// What differs.
    pub differences: Vec<Difference>,
}

impl Mismatch {
    /// The manifests, `mesh.yaml` of a scenario folder.
    pub fn manifests(&self) -> String {
        self.case.manifests()
    }

    /// The request, `scenario.yaml` of a scenario folder; what differs is its story.
    pub fn scenario(&self) -> String {
        let mut story = String::new();
        for difference in &self.differences {
            let _ = writeln!(story, "{difference}");
        }
        let requests: Vec<serde_json::Value> = self
            .case
            .requests
            .iter()
            .enumerate()
            .map(|(number, generated)| {
                let request = &generated.request;
                let headers: Vec<String> = request.headers.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                let mut out = serde_json::json!({
                    "name": format!("request {number}"),
                    "method": request.method,
                    "url": format!("http://{}{}", request.authority, request.path),
                    "headers": headers.clone(),
                });
                match generated.door {
                    Door::Sidecar => out["from"] = strategy::CLIENT.into(),
                    Door::Gateway => out["toGateway"] = format!("{}:80", strategy::GATEWAY).into(),
                    Door::Server => {
                        let place = format!("http://{}:{}", generated.destination, generated.port);
                        out["from"] = "outside".into();
                        out["url"] = format!("{place}{}", request.path).into();
                        out["headers"] =
                            [vec![format!("host: {}", request.authority)], headers].concat().into();
                    }
                }
                out
            })
            .collect();
        let scenario = serde_json::json!({
            "title": "Envoy and the model differ",
            "story": story,
            "requests": requests,
        });
        serde_yaml::to_string(&scenario).unwrap_or_default()
    }
}

/// The proxy that a request comes to.
fn proxy(mesh: &Arc<Mesh>, door: Door) -> Option<Proxy> {
    let name = match door {
        Door::Sidecar => strategy::CLIENT,
        Door::Gateway => strategy::GATEWAY,
        Door::Server => strategy::SERVER,
    };
    let workload = mesh.workloads().iter().find(|w| w.full_name() == name)?;
    Some(Proxy::new(Arc::clone(mesh), Node::of(mesh, workload)?))
}

fn visit(generated: &GeneratedRequest) -> Visit {
    Visit {
        capture: generated.capture(),
        connection: generated.connection(),
        request: Some(generated.request.clone()),
    }
}

/// Runs a case: the verdicts in the order of its requests, or why Envoy did not run it.
fn run_case(lab: &Lab, case: &Case) -> Result<Vec<Option<Verdict>>, String> {
    let mesh = Arc::new(Mesh::new(case.load(), MeshOptions::default()));
    let mut out: Vec<Option<Verdict>> = case.requests.iter().map(|_| None).collect();
    for door in [Door::Sidecar, Door::Gateway, Door::Server] {
        let (places, visits): (Vec<usize>, Vec<Visit>) = case
            .requests
            .iter()
            .enumerate()
            .filter(|(_, r)| r.door == door)
            .map(|(i, r)| (i, visit(r)))
            .unzip();
        if visits.is_empty() {
            continue;
        }
        let proxy = proxy(&mesh, door).ok_or("the platform has no such proxy")?;
        for (place, verdict) in places.into_iter().zip(lab.run(&proxy, &visits)?) {
            if let Some(slot) = out.get_mut(place) {
                *slot = Some(verdict);
            }
        }
    }
    Ok(out)
}

/// The differences of a case with one request.
fn differences(lab: &Lab, case: &Case) -> Vec<Difference> {
    let verdicts = run_case(lab, case).unwrap_or_default();
    verdicts.into_iter().flatten().flat_map(|verdict| verdict.differences).collect()
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What the meshes are made from.
    pub seed: u64,
    /// The number of the first mesh.
    pub first: usize,
    /// How many requests to send.
    pub requests: usize,
    /// How many requests each mesh gets.
    pub per_mesh: usize,
    /// After how many mismatches to stop.
    pub most: usize,
    /// Whether mismatches are made smaller.
    pub shrink: bool,
}

/// The mesh of a number: it depends on that and the seed only, so any can be made again alone.
fn make(seed: u64, number: usize, requests: usize) -> Option<Case> {
    let mut bytes = [0_u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&(number as u64).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    Some(strategy::case(requests).new_tree(&mut runner).ok()?.current())
}

/// The mesh of a number, without requests to it.
pub fn mesh(seed: u64, number: usize) -> Option<Arc<Mesh>> {
    Some(Arc::new(Mesh::new(make(seed, number, 1)?.load(), MeshOptions::default())))
}

/// Makes meshes until all requests were sent; `progress` hears of every mesh.
pub fn run(lab: &Lab, plan: Plan, mut progress: impl FnMut(&Outcome)) -> Outcome {
    let Plan { seed, first, requests, per_mesh, most, shrink: smaller } = plan;
    let mut out = Outcome::default();
    let mut number = first;
    let mut sent = 0;
    while sent < requests && out.mismatches.len() < most {
        let Some(case) = make(seed, number, per_mesh.min(requests - sent)) else { break };
        number += 1;
        sent += case.requests.len();
        let verdicts = match run_case(lab, &case) {
            Ok(verdicts) => verdicts,
            Err(reason) => {
                out.refused.push(format!("mesh {}: {reason}", number - 1));
                continue;
            }
        };
        out.meshes += 1;
        for (place, verdict) in verdicts.iter().enumerate() {
            let Some(verdict) = verdict else { continue };
            if let Some(reason) = &verdict.not_compared {
                out.unknown.push(reason.clone());
                continue;
            }
            out.compared += 1;
            if verdict.differences.is_empty() || out.mismatches.len() >= most {
                continue;
            }
            let alone =
                Case { resources: case.resources.clone(), requests: vec![case.requests[place].clone()] };
            let (case, differences) =
                if smaller { shrink(lab, alone) } else { (alone, verdict.differences.clone()) };
            out.mismatches.push(Mismatch { mesh: number - 1, case, differences });
        }
        progress(&out);
    }
    out
}

/// The smallest mesh in which the request still differs.
fn shrink(lab: &Lab, mut best: Case) -> (Case, Vec<Difference>) {
    let mut known = differences(lab, &best);
    if known.is_empty() {
        // It only happens after the requests before it, or by chance.
        return (best, known);
    }
    // Whole resources first: each that can go goes.
    let mut index = 0;
    while index < best.resources.len() {
        let mut smaller = best.clone();
        smaller.resources.remove(index);
        let found = differences(lab, &smaller);
        if found.is_empty() {
            index += 1;
        } else {
            best = smaller;
            known = found;
        }
    }
    // Then rules of VirtualServices, then headers of the request.
    let mut budget = SHRINKS;
    'again: while budget > 0 {
        for smaller in smaller_cases(&best) {
            if budget == 0 {
                break 'again;
            }
            budget -= 1;
            let found = differences(lab, &smaller);
            if !found.is_empty() {
                best = smaller;
                known = found;
                continue 'again;
            }
        }
        break;
    }
    (best, known)
}

/// Cases with one part less.
fn smaller_cases(case: &Case) -> Vec<Case> {
    let mut out = Vec::new();
    for (index, resource) in case.resources.iter().enumerate() {
        let rules = resource["spec"]["http"].as_array().map_or(0, Vec::len);
        for rule in 0..rules {
            if rules > 1 {
                let mut smaller = case.clone();
                if let Some(list) = smaller.resources[index]["spec"]["http"].as_array_mut() {
                    list.remove(rule);
                }
                out.push(smaller);
            }
            for field in
                ["match", "headers", "fault", "corsPolicy", "mirrors", "rewrite", "timeout", "retries"]
            {
                if !resource["spec"]["http"][rule][field].is_null() {
                    let mut smaller = case.clone();
                    if let Some(rule) = smaller.resources[index]["spec"]["http"][rule].as_object_mut() {
                        rule.remove(field);
                    }
                    out.push(smaller);
                }
            }
        }
    }
    let headers = case.requests.first().map_or(0, |r| r.request.headers.len());
    for header in 0..headers {
        let mut smaller = case.clone();
        if let Some(request) = smaller.requests.first_mut() {
            request.request.headers.remove(header);
        }
        out.push(smaller);
    }
    out
}
