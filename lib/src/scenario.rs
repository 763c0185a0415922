//! What should happen to which request? A story told as data.
//!
//! A scenario is a folder: manifests as a user writes them, and `scenario.yaml`, which holds requests and what becomes
//! of them. Invariant: an expectation says what the real istiod and Envoy do, never what this program prints; a field
//! that is absent is not checked.
//!
//! ```yaml
//! title: One sentence, shown in lists
//! story: |
//!   Some lines for a reader: what the user wanted, what happens, and why.
//! requests:
//!   - name: from the application container        # unique in the scenario
//!     from: default/sleep                         # as `--from`; absent: the default client
//!     container: istio-proxy                      # as `--container`
//!     uid: 1337                                   # as `--uid`
//!     toGateway: istio-ingress/istio-ingressgateway:80   # as `--to-gateway`
//!     resolve: ["httpbin.org:80:192.0.2.7"]       # as curl's `--resolve`
//!     method: GET                                 # absent: GET
//!     url: http://httpbin.org/get
//!     headers: ["x-user: jason"]                  # as curl's `-H`
//!     expect:                                     # one outcome, or a list of them
//!       probability: 1.0                          # absent: 1, or not checked in a list
//!       verdict: answered                         # delivered answered redirected reset unresolved loop unknown
//!       status: 404                               # what the client sees
//!       flags: [NR]                               # Envoy's response flags; [] means none
//!       details: route_not_found
//!       location: https://…                       # of a redirect
//!       by: "gateway:istio-system/istio-egressgateway"
//!       path: [client, "sidecar:default/sleep", "gateway:istio-system/istio-egressgateway"]
//!       hops:                                     # by hop id
//!         "sidecar:default/sleep":
//!           captured: true                        # of the hop `client`
//!           listener: 0.0.0.0_80                  # Istio's names, of the steps
//!           filterChain: …
//!           routeConfig: "80"
//!           virtualHost: "httpbin.org:80"
//!           route: VirtualService default/x spec.http[0]   # the resource and field that made it, or the route's name
//!           cluster: outbound|80||httpbin.org
//!           requestLeft: {x-request-id: <generated>, x-gone: null}    # as the request leaves; null: absent
//!           responseLeft: {server: envoy}         # as the response leaves towards the client
//!       nearMiss: {resource: VirtualService default/x, repair: istio-system/istio-egressgateway}
//!       mirrors: ["workload:shop/reviews-v2"]     # where copies end up
//! ```
//!
//! Hop ids: `client`, `sidecar:NS/WORKLOAD` (outbound), `inbound:NS/WORKLOAD` (the server's sidecar), `gateway:NS/WORKLOAD`,
//! `workload:NS/WORKLOAD` (an application inside the cluster), `external:HOST` (anything outside of it; `HOST` is the name
//! that was asked for, or an address). A workload is called by its pod's name, or its controller's where no pod is given.
//! The value `<generated>` stands for one that is made at run time, `<any>` for any value.
//!
//! The library reads and checks scenarios; the ten of the project are kept in its folder `scenarios/` and carried by the
//! command line, which shows them to users.

mod check;

use indexmap::IndexMap;
use serde::Deserialize;
use smol_str::SmolStr;

pub use check::{Mismatch, check};

/// A story: manifests and what becomes of requests in them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// One sentence.
    pub title: String,
    /// Some lines for a reader.
    #[serde(default)]
    pub story: String,
    /// The namespace of objects that name none; absent is `default`.
    #[serde(default)]
    pub namespace: Option<SmolStr>,
    /// The requests, in the order of the story.
    pub requests: Vec<ScenarioRequest>,
}

impl Scenario {
    /// Reads the text of a `scenario.yaml`.
    ///
    /// # Errors
    ///
    /// The text is not YAML, or holds a field that a scenario does not have.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }
}

/// A request and what becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScenarioRequest {
    /// What it is called; unique in its scenario.
    pub name: String,
    /// Who sends it, as `--from`.
    #[serde(default)]
    pub from: Option<SmolStr>,
    /// The container that sends it, as `--container`.
    #[serde(default)]
    pub container: Option<SmolStr>,
    /// The user that sends it, as `--uid`.
    #[serde(default)]
    pub uid: Option<i64>,
    /// The gateway it is sent to, as `--to-gateway`.
    #[serde(default)]
    pub to_gateway: Option<SmolStr>,
    /// Names the client resolves by itself, as curl's `--resolve`.
    #[serde(default)]
    pub resolve: Vec<SmolStr>,
    /// The method; absent is `GET`.
    #[serde(default)]
    pub method: Option<SmolStr>,
    /// The URL.
    pub url: String,
    /// Headers, as curl's `-H`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// What becomes of it.
    #[serde(default)]
    pub expect: Expect,
}

/// What becomes of a request: one way, or several with their probabilities.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Expect {
    /// One way.
    One(Box<ExpectedOutcome>),
    /// Several ways, in any order.
    Several(Vec<ExpectedOutcome>),
}

impl Default for Expect {
    fn default() -> Self {
        Self::One(Box::default())
    }
}

impl Expect {
    /// The expected outcomes.
    pub fn outcomes(&self) -> &[ExpectedOutcome] {
        match self {
            Self::One(outcome) => std::slice::from_ref(outcome),
            Self::Several(outcomes) => outcomes,
        }
    }
}

/// One way a request is expected to end; what is absent is not checked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedOutcome {
    /// How probable it is.
    #[serde(default)]
    pub probability: Option<f64>,
    /// The verdict's kind, as JSON has it.
    #[serde(default)]
    pub verdict: Option<SmolStr>,
    /// The status that the client sees.
    #[serde(default)]
    pub status: Option<u16>,
    /// Envoy's response flags.
    #[serde(default)]
    pub flags: Option<Vec<SmolStr>>,
    /// Envoy's response code details.
    #[serde(default)]
    pub details: Option<SmolStr>,
    /// Where a redirect leads.
    #[serde(default)]
    pub location: Option<SmolStr>,
    /// The hop that ended it.
    #[serde(default)]
    pub by: Option<SmolStr>,
    /// All hops, by id.
    #[serde(default)]
    pub path: Option<Vec<SmolStr>>,
    /// What happens at some hops, by id.
    #[serde(default)]
    pub hops: IndexMap<SmolStr, ExpectedHop>,
    /// The first near miss.
    #[serde(default)]
    pub near_miss: Option<ExpectedNearMiss>,
    /// Where copies of the request end up, by hop id.
    #[serde(default)]
    pub mirrors: Option<Vec<SmolStr>>,
}

/// What happens at a hop; what is absent is not checked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedHop {
    /// Whether the client's connection is captured (hop `client` only).
    #[serde(default)]
    pub captured: Option<bool>,
    /// The listener.
    #[serde(default)]
    pub listener: Option<SmolStr>,
    /// The filter chain.
    #[serde(default)]
    pub filter_chain: Option<SmolStr>,
    /// The route configuration.
    #[serde(default)]
    pub route_config: Option<SmolStr>,
    /// The virtual host.
    #[serde(default)]
    pub virtual_host: Option<SmolStr>,
    /// The route: its name, or the resource and field that made it.
    #[serde(default)]
    pub route: Option<SmolStr>,
    /// The cluster.
    #[serde(default)]
    pub cluster: Option<SmolStr>,
    /// Headers of the request as it leaves; `None` means that the header is absent.
    #[serde(default)]
    pub request_left: IndexMap<SmolStr, Option<SmolStr>>,
    /// Headers of the response as it leaves towards the client; `None` means that the header is absent.
    #[serde(default)]
    pub response_left: IndexMap<SmolStr, Option<SmolStr>>,
}

/// A rule that could have been meant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedNearMiss {
    /// The resource, such as `VirtualService default/x`.
    #[serde(default)]
    pub resource: Option<SmolStr>,
    /// Its field, such as `spec.gateways[1]`.
    #[serde(default)]
    pub field: Option<SmolStr>,
    /// What to write instead.
    #[serde(default)]
    pub repair: Option<SmolStr>,
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use std::sync::Arc;

    use super::{Scenario, check};
    use crate::manifest::{Loader, is_manifest};
    use crate::mesh::{Mesh, MeshOptions};
    use crate::trace::Tracer;

    fn folders() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
        folders.sort();
        folders
    }

    #[test]
    fn every_scenario_is_read_and_names_its_requests_once() {
        let folders = folders();
        assert!(folders.len() >= 10, "only {folders:?}");
        for folder in folders {
            let file = folder.join("scenario.yaml");
            let text = std::fs::read_to_string(&file).unwrap();
            let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let mut names: Vec<&str> = scenario.requests.iter().map(|r| r.name.as_str()).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert!(count > 0 && count == names.len(), "{}: {names:?}", file.display());
        }
    }

    #[test]
    fn every_expectation_of_every_scenario_is_met() {
        let mut failures = Vec::new();
        for folder in folders() {
            let text = std::fs::read_to_string(folder.join("scenario.yaml")).unwrap();
            let scenario = Scenario::parse(&text).unwrap();
            let mut loader = Loader::new();
            if let Some(namespace) = &scenario.namespace {
                loader = loader.default_namespace(namespace.clone());
            }
            let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
            files.sort();
            for file in files.iter().filter(|f| is_manifest(f) && !f.ends_with("scenario.yaml")) {
                loader = loader.file(file).unwrap();
            }
            let tracer = Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default())));
            for request in &scenario.requests {
                let trace = tracer.trace(&request.query().unwrap()).unwrap();
                let sum: f64 = trace.outcomes.iter().map(|outcome| outcome.probability).sum();
                assert!((sum - 1.0).abs() < 1e-9, "{}: {sum}", request.name);
                let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                for mismatch in check(request, &trace) {
                    failures.push(format!("{name}: {}: {mismatch:?}", request.name));
                }
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn the_manifests_of_every_scenario_load_without_a_diagnostic() {
        for folder in folders() {
            let mut loader = Loader::new();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if is_manifest(&path) && !path.ends_with("scenario.yaml") {
                    loader = loader.file(path).unwrap();
                }
            }
            let set = loader.load();
            assert_eq!(set.diagnostics(), [], "{}", folder.display());
        }
    }
}
