//! Which meshes and requests are worth trying?
//!
//! `proptest` strategies (feature `proptest`) for property tests over a mesh: a small platform with a client's sidecar,
//! a server's and an ingress gateway, random Istio resources over it, and requests that have a fair chance to meet their conditions.
//! Invariant: what is generated is what a user could have written; istiod accepts every resource.
//!
//! # Examples
//!
//! Every request that a random mesh routes to a cluster reaches one that exists:
//!
//! ```
//! use std::sync::Arc;
//!
//! use dryroute::envoy::Xds;
//! use dryroute::istiod::{Node, Proxy};
//! use dryroute::mesh::{Mesh, MeshOptions};
//! use dryroute::strategy;
//! use proptest::strategy::{Strategy, ValueTree};
//! use proptest::test_runner::TestRunner;
//!
//! let mut runner = TestRunner::deterministic();
//! let case = strategy::case(5).new_tree(&mut runner).unwrap().current();
//! let mesh = Arc::new(Mesh::new(case.load(), MeshOptions::default()));
//! let client = mesh.workloads().iter().find(|w| w.full_name() == strategy::CLIENT).unwrap();
//! let sidecar = Proxy::new(mesh.clone(), Node::of(&mesh, client).unwrap());
//! for request in &case.requests {
//!     assert!(sidecar.route_configuration(&request.port.to_string()).is_some());
//! }
//! ```

pub mod absurd;
mod matching;
mod mesh_config;
mod platform;
mod policy;
mod request;
mod resource;
mod route;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

pub use self::matching::{http_match_request, string_match};
pub use self::mesh_config::mesh_config;
pub use self::platform::{CLIENT, CLOSED, GATEWAY, SERVER, platform};
pub use self::policy::authorization_policy;
pub use self::request::{Door, GeneratedRequest, request};
pub use self::resource::{destination_rule, gateway, service_entry, virtual_service};
pub use self::route::http_route;
use crate::manifest::{Loader, ManifestSet};

/// A mesh and requests to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Resources on top of [`platform`], as a user would apply them.
    pub resources: Vec<Value>,
    /// The requests.
    pub requests: Vec<GeneratedRequest>,
}

impl Case {
    /// The manifests as one YAML stream, platform first.
    pub fn manifests(&self) -> String {
        let mut out = platform().to_owned();
        for resource in &self.resources {
            out.push_str("---\n");
            // A JSON value is always representable.
            out.push_str(&serde_yaml::to_string(resource).unwrap_or_default());
        }
        out
    }

    /// The manifests, read.
    pub fn load(&self) -> ManifestSet {
        Loader::new().bytes("generated.yaml", self.manifests().into_bytes()).load()
    }
}

/// A mesh of a few resources, with `requests` requests.
pub fn case(requests: usize) -> impl Strategy<Value = Case> {
    let resources = (
        vec(virtual_service(), 1..8),
        vec(destination_rule(), 0..3),
        vec(service_entry(), 0..3),
        vec(gateway(), 0..2),
        prop_oneof![3 => Just(Vec::new()).boxed(), 1 => vec(authorization_policy(), 1..3).boxed()],
        option::weighted(0.4, mesh_config()),
    )
        .prop_map(|(services, rules, entries, gateways, policies, config)| {
            let all = [services, rules, entries, gateways, policies].into_iter().flatten().chain(config);
            all.enumerate().map(|(number, resource)| named(resource, number)).collect()
        });
    let plain = || request().boxed();
    let request = prop_oneof![6 => plain(), 1 => absurd::absurd(plain())];
    (resources, vec(request, requests)).prop_map(|(resources, requests)| Case { resources, requests })
}

/// Gives a resource a name of its own; gateways keep theirs, which others refer to.
fn named(mut resource: Value, number: usize) -> Value {
    let kind = resource.get("kind").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    if let Some(Value::Object(metadata)) = resource.get_mut("metadata") {
        metadata.entry("name").or_insert_with(|| format!("{kind}-{number}").into());
    }
    resource
}
