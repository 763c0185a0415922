//! Where does a backend of a rule send requests?
//!
//! istiod routes to the cluster of a backend that does not exist all the same, and leaves out only mirrors to it.
//! Invariant: a backend that is not granted, or of a kind that istiod does not route to, keeps its share and has an empty
//! destination, which answers with 500. istiod: `pilot/pkg/config/kube/gateway/conversion.go: buildDestination,
//! isInvalidBackend, buildHTTPDestination, buildTCPDestination`.

use smol_str::{SmolStr, format_smolstr};

use super::reference::{BackendKind, ParentKind, RouteKind, Subject, Target, granted};
use super::{Refusal, Surroundings};
use crate::manifest::schema::gateway_api::{BackendRef, HttpBackendRef};
use crate::manifest::schema::istio::{Destination, PortSelector, RouteDestination};

/// The destination of a TCP or TLS rule without backends: no cluster has this name, so connections are closed.
/// istiod: `conversion.go: convertTCPRoute`.
const NOWHERE: (SmolStr, SmolStr, u32) =
    (SmolStr::new_static("internal.cluster.local"), SmolStr::new_static("zero-weight"), 65_535);

/// What the backends of a route are resolved for.
#[derive(Clone, Copy)]
pub(super) struct Referrer<'a> {
    pub around: &'a Surroundings<'a>,
    pub kind: RouteKind,
    pub namespace: &'a SmolStr,
    /// Whether references across namespaces need a ReferenceGrant: for gateways, not in the mesh.
    pub needs_grant: bool,
}

/// A backend with what its destination depends on.
pub(super) trait Backend {
    /// Its reference.
    fn reference(&self) -> Reference<'_>;
    /// Its weight as written.
    fn weight(&self) -> Option<i32>;
}

/// Which object a backend is.
#[derive(Clone, Copy)]
pub(super) struct Reference<'a> {
    group: Option<&'a str>,
    kind: Option<&'a str>,
    namespace: Option<&'a SmolStr>,
    name: &'a SmolStr,
    port: Option<u32>,
}

macro_rules! backend {
    ($type:ty) => {
        impl Backend for $type {
            fn reference(&self) -> Reference<'_> {
                Reference {
                    group: self.group.as_deref(),
                    kind: self.kind.as_deref(),
                    namespace: self.namespace.as_ref(),
                    name: &self.name,
                    port: self.port,
                }
            }

            fn weight(&self) -> Option<i32> {
                self.weight
            }
        }
    };
}

backend!(HttpBackendRef);
backend!(BackendRef);

/// The sum of all weights; a backend without one weighs 1.
pub(super) fn weight_sum(backends: &[impl Backend]) -> i64 {
    backends.iter().map(|backend| i64::from(backend.weight().unwrap_or(1))).sum()
}

/// The backends that get requests, with their places and weights; a single one needs no weight.
pub(super) fn weighted<B: Backend>(backends: &[B]) -> Vec<(usize, &B, i32)> {
    let mut out: Vec<_> = backends
        .iter()
        .enumerate()
        .map(|(i, backend)| (i, backend, backend.weight().unwrap_or(1)))
        .filter(|(_, _, weight)| *weight != 0)
        .collect();
    if let [(_, _, weight)] = out.as_mut_slice() {
        *weight = 0;
    }
    out
}

/// Where a backend leads.
pub(super) struct Resolved {
    /// The destination; without host where istiod does not route to the backend.
    pub destination: Destination,
    /// What is wrong with the backend, as its route's status says; requests are answered with an error.
    pub fault: Option<Refusal>,
}

impl Resolved {
    fn nowhere(fault: Refusal) -> Self {
        Self { destination: Destination::default(), fault: Some(fault) }
    }
}

impl Referrer<'_> {
    /// The destination of a backend.
    pub(super) fn resolve(&self, backend: Reference<'_>) -> Result<Resolved, Refusal> {
        let Reference { group, kind, namespace, name, port } = backend;
        let owner = namespace.unwrap_or(self.namespace);
        if self.needs_grant {
            let from = Subject { kind: self.kind.as_str(), namespace: self.namespace };
            let target = Target {
                group: group.unwrap_or_default(),
                kind: kind.unwrap_or("Service"),
                namespace: owner,
                name,
            };
            if let Err(fault) = granted(&self.around.policies.reference_grants, from, target) {
                return Ok(Resolved::nowhere(fault));
            }
        }
        let (host, exists) = match BackendKind::of(group, kind) {
            BackendKind::Service if name.contains('.') => {
                return Err(Refusal::new(format!(
                    "\"{name}\" is a host, where the name of a Service is expected"
                )));
            }
            BackendKind::Service | BackendKind::ServiceImport => (
                format_smolstr!("{name}.{owner}.svc.{}", self.around.cluster_domain),
                self.around.mesh_parent(ParentKind::Service, owner, name).is_some(),
            ),
            BackendKind::Hostname if namespace.is_some() => {
                return Err(Refusal::new("a backend of kind Hostname has no namespace"));
            }
            BackendKind::Hostname => (name.clone(), (self.around.has_host)(name, owner)),
            BackendKind::Unsupported => {
                let kind = kind.unwrap_or("Service");
                let fault = Refusal::new(format!("istiod routes to no backend of kind {kind}"));
                return Ok(Resolved::nowhere(fault));
            }
        };
        let Some(number) = port else {
            return Err(Refusal::new(format!("the backend {name} has no port")));
        };
        let fault = (!exists).then(|| Refusal::new(format!("there is no {host}")));
        let destination = Destination { host, port: Some(PortSelector { number }), ..Destination::default() };
        Ok(Resolved { destination, fault })
    }

    /// The destinations of a TCP or TLS rule.
    pub(super) fn connections(&self, backends: &[BackendRef]) -> Result<Vec<RouteDestination>, Refusal> {
        if weight_sum(backends) == 0 {
            let (host, subset, number) = NOWHERE;
            let destination = Destination { host, subset, port: Some(PortSelector { number }) };
            return Ok(vec![RouteDestination { destination: Some(destination), weight: 0 }]);
        }
        weighted(backends)
            .into_iter()
            .map(|(_, backend, weight)| {
                let Resolved { destination, .. } = self.resolve(backend.reference())?;
                Ok(RouteDestination { destination: Some(destination), weight })
            })
            .collect()
    }
}
