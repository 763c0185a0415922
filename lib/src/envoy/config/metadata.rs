//! What does the configuration say of itself?
//!
//! Istio's notes (`metadata.filter_metadata.istio`), which decide nothing: tools show them, telemetry labels with them.
//! istiod: `networking/util/util.go: AddConfigInfoMetadata, AddSubsetToMetadata, AddALPNOverrideToMetadata`;
//! `cluster_builder.go: addTelemetryMetadata`.

use std::fmt;

use smol_str::SmolStr;

/// The kinds of resources that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigKind {
    /// Of a route.
    VirtualService,
    /// Of a cluster.
    DestinationRule,
}

/// The resource that a part was made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigInfo {
    /// Its kind.
    pub kind: ConfigKind,
    /// Its namespace.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
}

impl fmt::Display for ConfigInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ConfigKind::VirtualService => "virtual-service",
            ConfigKind::DestinationRule => "destination-rule",
        };
        write!(f, "/apis/networking.istio.io/v1/namespaces/{}/{kind}/{}", self.namespace, self.name)
    }
}

/// What is noted on a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterMetadata {
    /// The DestinationRule that shaped it.
    pub config: Option<ConfigInfo>,
    /// Its subset of that; empty for the whole service.
    pub subset: SmolStr,
    /// The services that it stands for.
    pub services: Vec<ServiceInfo>,
    /// Whether the application protocols are those of its TLS, whatever Istio's filter for them would say.
    pub alpn_override: bool,
    /// Whether the service is outside of the mesh.
    pub external: bool,
}

/// A service as telemetry names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// The host.
    pub host: SmolStr,
    /// The Service's name, or the host of a ServiceEntry.
    pub name: SmolStr,
    /// The namespace.
    pub namespace: SmolStr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_by_their_path() {
        let info =
            ConfigInfo { kind: ConfigKind::VirtualService, namespace: "shop".into(), name: "reviews".into() };
        let path = "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/reviews";
        assert_eq!(info.to_string(), path);
    }
}
