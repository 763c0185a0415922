//! What does a reference of a Gateway API resource mean, and is it granted?
//!
//! istiod: `pilot/pkg/config/kube/gatewaycommon/references.go: NormalizeReference, ReferenceGrantsCollection`.

use smol_str::SmolStr;

use super::super::Configs;
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

/// Whether a ReferenceGrant lets resources of `kind` in `namespace` refer to `target`.
pub(super) fn is_granted(
    grants: &Configs<ReferenceGrantSpec>,
    kind: &str,
    namespace: &str,
    target: Target<'_>,
) -> bool {
    grants.in_namespace(target.namespace).any(|grant| {
        let from = grant
            .spec
            .from
            .iter()
            .any(|from| from.group == GATEWAY_API && from.kind == kind && from.namespace == namespace);
        let to = |to: &Option<SmolStr>| to.as_ref().is_none_or(|name| name == target.name);
        from && grant
            .spec
            .to
            .iter()
            .any(|entry| entry.group == target.group && entry.kind == target.kind && to(&entry.name))
    })
}
