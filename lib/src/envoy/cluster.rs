//! Which endpoints of a cluster may be used, and how often is each?
//!
//! Invariant: the shares of tiers sum to 100, and the weights within one to 1. Envoy: `load_balancer_impl.cc:
//! recalculatePerPriorityState, recalculatePerPriorityPanic, recalculateLoadInTotalPanic, hostSourceToUse`;
//! `upstream_impl.cc: HostSetImpl::effectiveLocalityWeight`. Measured with Envoy 1.40.

use super::config::{Cluster, DiscoveryType, HealthStatus, LbEndpoint, LoadAssignment, LocalityEndpoints};

/// By how much, in percent, endpoints may be loaded beyond their share before the next priority has to help.
pub(in crate::envoy) const OVERPROVISIONING: u64 = 140;

/// The endpoints of one priority that share a part of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier<'a> {
    /// The priority.
    pub priority: u32,
    /// How many of a hundred requests come here.
    pub share: u32,
    /// How many of its endpoints are healthy.
    pub healthy: usize,
    /// How many endpoints it has.
    pub size: usize,
    /// Whether so few are healthy that all are used.
    pub panic: bool,
    /// Those that are used; none without a share.
    pub members: Vec<Member<'a>>,
}

/// An endpoint that is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member<'a> {
    /// Its group.
    pub group: &'a LocalityEndpoints,
    /// The endpoint.
    pub endpoint: &'a LbEndpoint,
    /// Its part of what comes to its tier.
    pub weight: f64,
}

/// Whether a request to the cluster finds an endpoint.
///
/// `destination_restored`: whether the connection has an original destination, which is where some clusters send it.
pub(crate) fn has_host(cluster: &Cluster, destination_restored: bool) -> bool {
    match cluster.discovery_type {
        DiscoveryType::OriginalDst => destination_restored,
        DiscoveryType::DynamicForwardProxy => true,
        DiscoveryType::Eds | DiscoveryType::StrictDns | DiscoveryType::LogicalDns | DiscoveryType::Static => {
            let mut all = cluster.load_assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints);
            // Where all are healthy, which is nearly everywhere, nothing has to be counted.
            all.clone().next().is_some()
                && (all.all(is_healthy) || tiers(cluster).iter().any(|tier| !tier.members.is_empty()))
        }
    }
}

/// All priorities of a cluster's endpoints, in their order.
pub fn tiers(cluster: &Cluster) -> Vec<Tier<'_>> {
    let mut out = counted(&cluster.load_assignment);
    let total: u64 = out.iter().map(availability).sum::<u64>().min(100);
    let threshold = cluster.healthy_panic_threshold.unwrap_or(50).min(100);
    if total > 0 {
        spread(&mut out, total, availability);
    } else if let Some(first) = out.first_mut() {
        first.share = 100;
    }
    if total < 100 && !(threshold == 0 && total == 0) {
        for tier in &mut out {
            tier.panic =
                100 * tier.healthy < threshold as usize * tier.size || (tier.size == 0 && threshold > 0);
        }
        if out.iter().all(|tier| tier.panic) {
            // Healthy or not, each endpoint counts.
            let size = |tier: &Tier<'_>| tier.size as u64;
            let all = out.iter().map(size).sum();
            spread(&mut out, all, size);
        }
    }
    for tier in out.iter_mut().filter(|tier| tier.share > 0) {
        tier.members = members(cluster, tier.priority, tier.panic);
    }
    out
}

/// All priorities up to the last, with their endpoints counted.
fn counted(assignment: &LoadAssignment) -> Vec<Tier<'_>> {
    let last = assignment.endpoints.iter().map(|group| group.priority).max();
    let empty =
        |priority| Tier { priority, share: 0, healthy: 0, size: 0, panic: false, members: Vec::new() };
    let mut out: Vec<Tier<'_>> = last.map_or_else(Vec::new, |last| (0..=last).map(empty).collect());
    for group in &assignment.endpoints {
        if let Some(tier) = out.get_mut(group.priority as usize) {
            tier.size += group.lb_endpoints.len();
            tier.healthy += group.lb_endpoints.iter().filter(|endpoint| is_healthy(endpoint)).count();
        }
    }
    out
}

/// How many of a hundred requests a priority can take.
fn availability(tier: &Tier<'_>) -> u64 {
    if tier.size == 0 { 0 } else { (OVERPROVISIONING * tier.healthy as u64 / tier.size as u64).min(100) }
}

/// Gives each priority its part of the `whole`, the first ones first; what is lost by rounding goes to the first that has a part.
fn spread(tiers: &mut [Tier<'_>], whole: u64, part: impl Fn(&Tier<'_>) -> u64) {
    if whole == 0 {
        return;
    }
    let mut left = 100;
    for tier in tiers.iter_mut() {
        let share = (part(tier) * 100 / whole).min(left);
        left -= share;
        tier.share = u32::try_from(share).unwrap_or(100);
    }
    if let Some(first) = tiers.iter_mut().find(|tier| part(tier) > 0) {
        first.share += u32::try_from(left).unwrap_or(0);
    }
}

/// The endpoints of a priority that are used, with their weights.
fn members(cluster: &Cluster, priority: u32, panic: bool) -> Vec<Member<'_>> {
    // It draws blindly; all others regard weights.
    let weight = |endpoint: &LbEndpoint| match cluster.lb_policy {
        "RANDOM" => 1.0,
        _ => f64::from(endpoint.load_balancing_weight.max(1)),
    };
    let hashes = matches!(cluster.lb_policy, "RING_HASH" | "MAGLEV");
    let groups = || cluster.load_assignment.endpoints.iter().filter(|group| group.priority == priority);
    let used = |group: &'_ LocalityEndpoints| -> f64 {
        group.lb_endpoints.iter().filter(|endpoint| panic || is_healthy(endpoint)).map(weight).sum()
    };
    let by_locality = cluster.locality_weighted && !panic;
    // A locality gets less once it can no longer take its share. Consistent hashing does not look at that.
    let of_group = |group: &LocalityEndpoints| {
        let healthy = group.lb_endpoints.iter().filter(|endpoint| is_healthy(endpoint)).count();
        let part = healthy as f64 / group.lb_endpoints.len().max(1) as f64;
        let able = if hashes { f64::from(u8::from(healthy > 0)) } else { (part * 1.4).min(1.0) };
        f64::from(group.load_balancing_weight) * able
    };
    let localities: f64 = groups().map(of_group).sum();
    let all: f64 = groups().map(used).sum();
    let mut out = Vec::new();
    for group in groups() {
        let scale = if by_locality && localities > 0.0 {
            of_group(group) / localities / used(group)
        } else {
            1.0 / all
        };
        let members = group.lb_endpoints.iter().filter(|endpoint| panic || is_healthy(endpoint));
        out.extend(members.map(|endpoint| Member { group, endpoint, weight: weight(endpoint) * scale }));
    }
    out.retain(|member| member.weight > 0.0);
    out
}

fn is_healthy(endpoint: &LbEndpoint) -> bool {
    endpoint.health_status == HealthStatus::Healthy
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use smol_str::SmolStr;

    use super::*;
    use crate::envoy::config::{
        CircuitBreakers, ClusterMetadata, EndpointAddress, UpstreamProtocol, UpstreamTransport,
    };
    use crate::origin::Origin;

    /// A group by its priority, weight, and the health of its endpoints.
    type Shape<'a> = (u32, u32, &'a [bool]);

    fn cluster(groups: &[Shape<'_>]) -> Cluster {
        let endpoint = |healthy: &bool| LbEndpoint {
            address: EndpointAddress::Pipe("a".into()),
            health_status: if *healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy },
            load_balancing_weight: 1,
            istio_mutual: false,
            workload: SmolStr::default(),
            assumed: false,
            node_assumed: false,
            origin: Origin::default("test"),
        };
        let endpoints = groups.iter().map(|(priority, weight, healthy)| LocalityEndpoints {
            locality: SmolStr::default(),
            priority: *priority,
            load_balancing_weight: *weight,
            lb_endpoints: healthy.iter().map(endpoint).collect(),
        });
        Cluster {
            name: "c".into(),
            discovery_type: DiscoveryType::Eds,
            load_assignment: Arc::new(LoadAssignment {
                endpoints: endpoints.collect(),
                preference: None,
                assumption: None,
            }),
            lb_policy: "LEAST_REQUEST",
            transport: UpstreamTransport::Plaintext,
            proxy_protocol: None,
            protocol: UpstreamProtocol::Http1,
            original_dst_port_override: None,
            connect_timeout: Duration::from_secs(1),
            circuit_breakers: CircuitBreakers::default(),
            upstream_bind_config: None,
            outlier_detection: None,
            locality_weighted: false,
            healthy_panic_threshold: Some(0),
            metadata: ClusterMetadata::default(),
            tuning: None,
            patches: Vec::new(),
            opaque: None,
            applied: Vec::new(),
            origin: Origin::default("test"),
        }
    }

    fn shares(cluster: &Cluster) -> Vec<u32> {
        tiers(cluster).iter().map(|tier| tier.share).collect()
    }

    /// The weights of all endpoints that are used, in percent.
    fn weights(cluster: &Cluster) -> Vec<u32> {
        let all = tiers(cluster);
        all.iter().flat_map(|t| &t.members).map(|m| (m.weight * 100.0).round() as u32).collect()
    }

    const UP: bool = true;
    const DOWN: bool = false;

    #[test]
    fn a_priority_that_can_take_all_requests_gets_all() {
        assert_eq!(shares(&cluster(&[(0, 1, &[UP, UP, UP, DOWN]), (1, 1, &[UP])])), [100, 0]);
    }

    #[test]
    fn what_a_priority_cannot_take_goes_to_the_next() {
        assert_eq!(shares(&cluster(&[(0, 1, &[UP, DOWN]), (1, 1, &[UP])])), [70, 30]);
        assert_eq!(
            shares(&cluster(&[(0, 1, &[DOWN]), (1, 1, &[UP, DOWN, DOWN]), (2, 1, &[UP])])),
            [0, 46, 54]
        );
    }

    #[test]
    fn priorities_that_cannot_take_all_together_share_all_by_what_they_can() {
        let scarce = cluster(&[(0, 1, &[UP, DOWN, DOWN, DOWN]), (1, 1, &[UP, DOWN, DOWN, DOWN, DOWN])]);
        // 35 and 28 of a hundred, and the first takes what rounding loses.
        assert_eq!(shares(&scarce), [56, 44]);
    }

    #[test]
    fn unhealthy_endpoints_are_used_only_in_panic() {
        let mut down = cluster(&[(0, 1, &[DOWN, DOWN]), (1, 1, &[DOWN])]);
        assert!(!has_host(&down, false));
        down.healthy_panic_threshold = None;
        assert!(has_host(&down, false));
        assert_eq!(shares(&down), [67, 33]);
        let mut scarce = cluster(&[(0, 1, &[UP, DOWN, DOWN, DOWN])]);
        assert_eq!(weights(&scarce), [100]);
        scarce.healthy_panic_threshold = Some(50);
        assert_eq!(weights(&scarce), [25; 4]);
    }

    #[test]
    fn a_priority_without_any_availability_is_not_looked_at() {
        // One of two hundred is less than a percent, and all requests go to the first priority then.
        let mut many = vec![DOWN; 199];
        many.push(UP);
        assert!(!has_host(&cluster(&[(0, 1, &[DOWN]), (1, 1, &many)]), false));
        assert!(has_host(&cluster(&[(0, 1, &many)]), false));
    }

    #[test]
    fn localities_count_by_their_weight_and_health_where_they_are_weighed() {
        let mut two = cluster(&[(0, 80, &[UP]), (0, 20, &[UP, UP])]);
        assert_eq!(weights(&two), [33, 33, 33]);
        two.locality_weighted = true;
        assert_eq!(weights(&two), [80, 10, 10]);
        let mut half = cluster(&[(0, 50, &[UP, DOWN]), (0, 50, &[UP])]);
        half.locality_weighted = true;
        assert_eq!(weights(&half), [41, 59]);
        half.lb_policy = "MAGLEV";
        assert_eq!(weights(&half), [50, 50]);
    }
}
