//! Which endpoints of a cluster may be used?
//!
//! Envoy: `load_balancer_impl.cc: LoadBalancerBase::chooseHostSet`; istiod turns panic mode off, so unhealthy endpoints are
//! never chosen. Measured with Envoy 1.40.

use super::config::{Cluster, DiscoveryType, HealthStatus, LbEndpoint};

/// Whether a request to the cluster finds an endpoint.
///
/// `destination_restored`: whether the connection has an original destination, which is where some clusters send it.
pub(crate) fn has_host(cluster: &Cluster, destination_restored: bool) -> bool {
    match cluster.discovery_type {
        DiscoveryType::OriginalDst => destination_restored,
        DiscoveryType::DynamicForwardProxy => true,
        DiscoveryType::Eds | DiscoveryType::StrictDns | DiscoveryType::LogicalDns | DiscoveryType::Static => {
            cluster.load_assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints).any(is_usable)
        }
    }
}

/// Whether an endpoint may be chosen.
fn is_usable(endpoint: &LbEndpoint) -> bool {
    endpoint.health_status == HealthStatus::Healthy
}
