//! Which kinds are read, and into what?

use std::fmt;
use std::sync::Arc;

use super::de::{distance, nearest};
use super::schema::{gateway_api as gw, istio, kubernetes as k8s};

/// How a kind's fields lie in its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Under `spec`.
    Spec,
    /// Beside `metadata`.
    Top,
}

macro_rules! kinds {
    ($($variant:ident($type:ty) = $text:literal in $group:literal, $layout:ident, $namespaced:literal;)+) => {
        /// A kind that dryroute reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = concat!("`", $text, "` of `", $group, "`.")] $variant,)+
        }

        impl Kind {
            /// Every kind, in the order of this list.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The kind's name, as in a manifest.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The API group; empty for the core group.
            pub const fn group(self) -> &'static str {
                match self { $(Self::$variant => $group,)+ }
            }

            /// Whether its objects live in namespaces.
            pub const fn is_namespaced(self) -> bool {
                match self { $(Self::$variant => $namespaced,)+ }
            }

            pub(crate) const fn layout(self) -> Layout {
                match self { $(Self::$variant => Layout::$layout,)+ }
            }

            /// Deserializes the kind's fields.
            pub(crate) fn read<'de, D: serde::Deserializer<'de>>(self, de: D) -> Result<Spec, D::Error> {
                use serde::Deserialize;
                match self { $(Self::$variant => <$type>::deserialize(de).map(|s| Spec::$variant(Arc::new(s))),)+ }
            }
        }

        /// A resource's typed fields.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Spec {
            $(#[doc = concat!("Fields of a ", $text, ".")] $variant(Arc<$type>),)+
        }

        impl Spec {
            /// The kind that these fields belong to.
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)+ }
            }
        }
    };
}

kinds! {
    VirtualService(istio::VirtualService) = "VirtualService" in "networking.istio.io", Spec, true;
    DestinationRule(istio::DestinationRule) = "DestinationRule" in "networking.istio.io", Spec, true;
    Gateway(istio::Gateway) = "Gateway" in "networking.istio.io", Spec, true;
    ServiceEntry(istio::ServiceEntry) = "ServiceEntry" in "networking.istio.io", Spec, true;
    WorkloadEntry(istio::WorkloadEntry) = "WorkloadEntry" in "networking.istio.io", Spec, true;
    WorkloadGroup(istio::WorkloadGroup) = "WorkloadGroup" in "networking.istio.io", Spec, true;
    Sidecar(istio::Sidecar) = "Sidecar" in "networking.istio.io", Spec, true;
    EnvoyFilter(istio::EnvoyFilter) = "EnvoyFilter" in "networking.istio.io", Spec, true;
    ProxyConfig(istio::ProxyConfig) = "ProxyConfig" in "networking.istio.io", Spec, true;
    AuthorizationPolicy(istio::AuthorizationPolicy) = "AuthorizationPolicy" in "security.istio.io", Spec, true;
    PeerAuthentication(istio::PeerAuthentication) = "PeerAuthentication" in "security.istio.io", Spec, true;
    RequestAuthentication(istio::RequestAuthentication) = "RequestAuthentication" in "security.istio.io", Spec, true;
    Telemetry(istio::Telemetry) = "Telemetry" in "telemetry.istio.io", Spec, true;
    WasmPlugin(istio::WasmPlugin) = "WasmPlugin" in "extensions.istio.io", Spec, true;
    TrafficExtension(istio::TrafficExtension) = "TrafficExtension" in "extensions.istio.io", Spec, true;
    IstioOperator(k8s::IstioOperatorSpec) = "IstioOperator" in "install.istio.io", Spec, true;
    Namespace(k8s::Namespace) = "Namespace" in "", Top, false;
    Node(k8s::Node) = "Node" in "", Top, false;
    Service(k8s::ServiceSpec) = "Service" in "", Spec, true;
    Endpoints(k8s::Endpoints) = "Endpoints" in "", Top, true;
    EndpointSlice(k8s::EndpointSlice) = "EndpointSlice" in "discovery.k8s.io", Top, true;
    Pod(k8s::PodSpec) = "Pod" in "", Spec, true;
    Deployment(k8s::DeploymentSpec) = "Deployment" in "apps", Spec, true;
    StatefulSet(k8s::StatefulSetSpec) = "StatefulSet" in "apps", Spec, true;
    DaemonSet(k8s::DaemonSetSpec) = "DaemonSet" in "apps", Spec, true;
    ReplicaSet(k8s::DeploymentSpec) = "ReplicaSet" in "apps", Spec, true;
    Job(k8s::JobSpec) = "Job" in "batch", Spec, true;
    CronJob(k8s::CronJobSpec) = "CronJob" in "batch", Spec, true;
    ServiceAccount(k8s::ServiceAccount) = "ServiceAccount" in "", Top, true;
    ConfigMap(k8s::ConfigMap) = "ConfigMap" in "", Top, true;
    Secret(k8s::Secret) = "Secret" in "", Top, true;
    Ingress(k8s::IngressSpec) = "Ingress" in "networking.k8s.io", Spec, true;
    IngressClass(k8s::IngressClassSpec) = "IngressClass" in "networking.k8s.io", Spec, false;
    GatewayClass(gw::GatewayClassSpec) = "GatewayClass" in "gateway.networking.k8s.io", Spec, false;
    KubernetesGateway(gw::GatewaySpec) = "Gateway" in "gateway.networking.k8s.io", Spec, true;
    ListenerSet(gw::ListenerSetSpec) = "ListenerSet" in "gateway.networking.k8s.io", Spec, true;
    HttpRoute(gw::HttpRouteSpec) = "HTTPRoute" in "gateway.networking.k8s.io", Spec, true;
    GrpcRoute(gw::GrpcRouteSpec) = "GRPCRoute" in "gateway.networking.k8s.io", Spec, true;
    TlsRoute(gw::TlsRouteSpec) = "TLSRoute" in "gateway.networking.k8s.io", Spec, true;
    TcpRoute(gw::TcpRouteSpec) = "TCPRoute" in "gateway.networking.k8s.io", Spec, true;
    UdpRoute(gw::TcpRouteSpec) = "UDPRoute" in "gateway.networking.k8s.io", Spec, true;
    ReferenceGrant(gw::ReferenceGrantSpec) = "ReferenceGrant" in "gateway.networking.k8s.io", Spec, true;
    BackendTlsPolicy(gw::BackendTlsPolicySpec) = "BackendTLSPolicy" in "gateway.networking.k8s.io", Spec, true;
}

impl Kind {
    /// The kind of `api_version` and `kind`, in any version of its group.
    pub fn find(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let group = if group == "extensions" && kind == "Ingress" { "networking.k8s.io" } else { group };
        Self::ALL.iter().copied().find(|k| k.as_str() == kind && k.group() == group)
    }

    /// The versions that clusters have, or had, of its group; Istio's are those of the kind itself.
    ///
    /// istiod: `pkg/config/schema/metadata.yaml`.
    pub const fn versions(self) -> &'static [&'static str] {
        match self {
            Self::EnvoyFilter => &["v1alpha3"],
            Self::ProxyConfig => &["v1beta1"],
            Self::WasmPlugin | Self::TrafficExtension | Self::IstioOperator => &["v1alpha1"],
            Self::Telemetry => &["v1", "v1alpha1"],
            Self::AuthorizationPolicy | Self::PeerAuthentication | Self::RequestAuthentication => {
                &["v1", "v1beta1"]
            }
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::ReplicaSet => {
                &["v1", "v1beta2", "v1beta1"]
            }
            Self::CronJob => &["v1", "v1beta1", "v2alpha1"],
            Self::EndpointSlice => &["v1", "v1beta1", "v1alpha1"],
            Self::Ingress | Self::IngressClass => &["v1", "v1beta1"],
            _ => match self.group().as_bytes() {
                b"networking.istio.io" => &["v1", "v1beta1", "v1alpha3"],
                b"gateway.networking.k8s.io" => &["v1", "v1beta1", "v1alpha3", "v1alpha2", "v1alpha1"],
                _ => &["v1"],
            },
        }
    }

    /// The `apiVersion` and kind that one which is not known was probably meant to be.
    pub(crate) fn meant(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let own: Vec<Self> = Self::ALL.iter().copied().filter(|known| known.group() == group).collect();
        let names: Vec<&'static str> = own.iter().map(|known| known.as_str()).collect();
        if let Some(near) = nearest(kind, &names) {
            return own.into_iter().find(|known| known.as_str() == near);
        }
        // Other projects have kinds of the same name in groups of their own.
        let is_own = |other: &str| !names.is_empty() || distance(group, other) <= 2;
        Self::ALL.iter().copied().find(|known| known.as_str() == kind && is_own(known.group()))
    }

    /// Whether it is one of Istio's kinds, which are read by proto-JSON's rules.
    pub fn is_istio(self) -> bool {
        self.group().ends_with(".istio.io")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
