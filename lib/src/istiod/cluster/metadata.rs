//! What does istiod note on a cluster?
//!
//! istiod: `cluster_builder.go: addTelemetryMetadata, applyDestinationRule, buildSubsetCluster, buildInboundCluster`.

use super::Target;
use super::traffic_policy::ResolvedPolicy;
use crate::envoy::config::{ClusterMetadata, ConfigInfo, ConfigKind, DiscoveryType, ServiceInfo};
use crate::istiod::inbound::target::ServiceTarget;
use crate::manifest::schema::istio::TlsMode;
use crate::mesh::{DestinationRule, Service};

/// The notes on an outbound cluster.
pub(super) fn outbound(
    target: &Target<'_>,
    policy: &ResolvedPolicy,
    discovery_type: DiscoveryType,
) -> ClusterMetadata {
    let Target { rule, subset, .. } = *target;
    let service = target.service.service();
    let originates_tls = |mode| matches!(mode, TlsMode::Simple | TlsMode::Mutual);
    let tls = policy.tls.as_ref().is_some_and(|(settings, _)| originates_tls(settings.mode));
    // Clusters that resolve the names of requests say nothing of their service.
    let forward_proxy = discovery_type == DiscoveryType::DynamicForwardProxy;
    ClusterMetadata {
        config: rule.map(rule_info),
        subset: subset.into(),
        services: if forward_proxy { Vec::new() } else { vec![service_info(service)] },
        alpn_override: rule.is_some() && tls,
        external: subset.is_empty() && service.mesh_external,
    }
}

/// The notes on an inbound cluster that is built for the first of `targets`, at `port` of its service.
pub(in crate::istiod) fn inbound(
    targets: &[&ServiceTarget],
    port: u16,
    rule: Option<&DestinationRule>,
) -> ClusterMetadata {
    if targets.first().is_none_or(|first| first.service.mesh_external) {
        return ClusterMetadata::default();
    }
    let mut services: Vec<ServiceInfo> = Vec::new();
    for target in targets.iter().filter(|target| target.port.number == port) {
        if services.iter().all(|known| known.host != target.service.hostname) {
            services.push(service_info(&target.service));
        }
    }
    let config = rule.filter(|rule| rule.traffic_policy.is_some()).map(rule_info);
    ClusterMetadata { config, services, ..ClusterMetadata::default() }
}

/// The notes on the inbound cluster of a Sidecar's ingress listener, whatever port its service has.
pub(in crate::istiod) fn ingress(
    service: Option<&Service>,
    rule: Option<&DestinationRule>,
) -> ClusterMetadata {
    // Where there is no service, istiod makes one up, outside of the mesh. istiod: `cluster.go: findOrCreateService`.
    let Some(service) = service.filter(|service| !service.mesh_external) else {
        return ClusterMetadata::default();
    };
    let config = rule.filter(|rule| rule.traffic_policy.is_some()).map(rule_info);
    ClusterMetadata { config, services: vec![service_info(service)], ..ClusterMetadata::default() }
}

fn rule_info(rule: &DestinationRule) -> ConfigInfo {
    ConfigInfo {
        kind: ConfigKind::DestinationRule,
        namespace: rule.namespace.clone(),
        name: rule.name.clone(),
    }
}

fn service_info(service: &Service) -> ServiceInfo {
    ServiceInfo {
        host: service.hostname.clone(),
        name: service.name.clone(),
        namespace: service.namespace.clone(),
    }
}
