//! What does a reference of a Gateway API resource mean, and is it granted?
//!
//! istiod: `pilot/pkg/config/kube/gatewaycommon/references.go: NormalizeReference, ReferenceGrantsCollection`.

use smol_str::SmolStr;

use super::super::Configs;
use super::Refusal;
use crate::manifest::schema::gateway_api::{ParentReference, ReferenceGrantSpec};

/// The group of the Gateway API.
pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// The group of Istio's networking resources.
pub(super) const ISTIO: &str = "networking.istio.io";
/// The group of multi-cluster services.
const MULTI_CLUSTER: &str = "multicluster.x-k8s.io";

/// The kinds that a route can be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParentKind {
    /// A Gateway of the Gateway API.
    Gateway,
    /// A ListenerSet.
    ListenerSet,
    /// A Kubernetes Service: the route holds for clients in the mesh.
    Service,
    /// A ServiceEntry: the route holds for clients in the mesh.
    ServiceEntry,
}

impl ParentKind {
    /// The kind that `reference` names; `None` is for other controllers.
    pub(super) fn of(reference: &ParentReference) -> Option<Self> {
        let group = reference.group.as_deref().unwrap_or(GATEWAY_API);
        match (group, reference.kind.as_deref().unwrap_or("Gateway")) {
            (GATEWAY_API, "Gateway") => Some(Self::Gateway),
            (GATEWAY_API, "ListenerSet") => Some(Self::ListenerSet),
            ("", "Service") => Some(Self::Service),
            (ISTIO, "ServiceEntry") => Some(Self::ServiceEntry),
            _ => None,
        }
    }

    /// The kind's name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
            Self::Service => "Service",
            Self::ServiceEntry => "ServiceEntry",
        }
    }

    /// Whether it stands for the mesh, that is for sidecars.
    pub(super) const fn is_mesh(self) -> bool {
        matches!(self, Self::Service | Self::ServiceEntry)
    }
}

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    /// HTTPRoute.
    Http,
    /// GRPCRoute.
    Grpc,
    /// TCPRoute.
    Tcp,
    /// TLSRoute.
    Tls,
}

impl RouteKind {
    /// The kind's name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tcp => "TCPRoute",
            Self::Tls => "TLSRoute",
        }
    }
}

/// What a backend of a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackendKind {
    /// A Kubernetes Service.
    Service,
    /// A host, with or without wildcard, that some service has.
    Hostname,
    /// A service of several clusters.
    ServiceImport,
    /// What istiod does not route to, unless a switch that is off by default is on.
    Unsupported,
}

impl BackendKind {
    /// The kind that a `backendRef` names.
    pub(super) fn of(group: Option<&str>, kind: Option<&str>) -> Self {
        match (group.unwrap_or_default(), kind.unwrap_or("Service")) {
            ("", "Service") => Self::Service,
            (ISTIO, "Hostname") => Self::Hostname,
            (MULTI_CLUSTER, "ServiceImport") => Self::ServiceImport,
            _ => Self::Unsupported,
        }
    }
}

/// The object that a reference across namespaces leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub group: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

/// Who refers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub kind: &'a str,
    pub namespace: &'a str,
}

/// Whether one may refer to `target`: it is in the own namespace, or a ReferenceGrant says so.
pub(super) fn granted(
    grants: &Configs<ReferenceGrantSpec>,
    from: Subject<'_>,
    target: Target<'_>,
) -> Result<(), Refusal> {
    let Target { group, kind, namespace, name } = target;
    let names_from = |grant: &ReferenceGrantSpec| {
        let mut entries = grant.from.iter();
        entries.any(|e| e.group == GATEWAY_API && e.kind == from.kind && e.namespace == from.namespace)
    };
    let names_target = |grant: &ReferenceGrantSpec| {
        let own = |to: &Option<SmolStr>| to.as_ref().is_none_or(|to| to == name);
        grant.to.iter().any(|e| e.group == group && e.kind == kind && own(&e.name))
    };
    let mut grants = grants.in_namespace(namespace);
    if namespace == from.namespace || grants.any(|grant| names_from(&grant.spec) && names_target(&grant.spec))
    {
        return Ok(());
    }
    Err(Refusal::new(format!("no ReferenceGrant lets it refer to {namespace}/{name}")))
}
