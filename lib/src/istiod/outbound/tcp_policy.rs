//! What does a DestinationRule say to the TCP proxies of listeners?
//!
//! A proxy of bytes has these settings itself, so those of ports are not heard, and of several destinations the first one's
//! rule holds for all. istiod: `networkfilter.go: buildOutboundNetworkFiltersWithSingleDestination,
//! buildOutboundNetworkFiltersWithWeightedClusters, maybeSetHashPolicy`; `tunnelingconfig/applyfunc.go: Apply`.

use smol_str::{SmolStr, format_smolstr};

use crate::envoy::config::{TcpProxy, TcpTuning, TunnelingConfig};
use crate::manifest::schema::Duration;
use crate::manifest::schema::istio::{TrafficPolicy, TunnelSettings};
use crate::mesh::DestinationRule;
use crate::origin::Origin;

/// The proxy as the rule of its destination wants it; `subset` is empty where there are several.
pub(in crate::istiod) fn with_rule(
    proxy: TcpProxy,
    rule: Option<&DestinationRule>,
    subset: &str,
) -> TcpProxy {
    let Some(rule) = rule else { return proxy };
    TcpProxy { tunneling_config: tunneling_config(rule, subset), tuning: tuning(rule, subset), ..proxy }
}

/// The policy of a whole rule, or of a subset of it, with where it is written.
fn policy<'a>(rule: &'a DestinationRule, subset: &str) -> Option<(&'a TrafficPolicy, Origin)> {
    if subset.is_empty() {
        return rule.traffic_policy.as_ref().map(|(policy, origin)| (policy, origin.clone()));
    }
    let subset = rule.subset(subset)?;
    Some((subset.subset.traffic_policy.as_ref()?, subset.origin.part("trafficPolicy")))
}

/// A subset's tunnel is its own: it has none of the rule's.
fn tunneling_config(rule: &DestinationRule, subset: &str) -> Option<TunnelingConfig> {
    let (policy, origin) = policy(rule, subset)?;
    let settings = policy.tunnel.as_ref()?;
    Some(TunnelingConfig {
        hostname: host_port(settings),
        use_post: settings.protocol == "POST",
        origin: origin.part("tunnel"),
    })
}

fn host_port(settings: &TunnelSettings) -> SmolStr {
    let TunnelSettings { target_host, target_port, .. } = settings;
    if target_host.contains(':') {
        format_smolstr!("[{target_host}]:{target_port}")
    } else {
        format_smolstr!("{target_host}:{target_port}")
    }
}

/// What a rule says that decides nothing about a connection.
pub(in crate::istiod) fn tuning(rule: &DestinationRule, subset: &str) -> TcpTuning {
    let whole = rule.traffic_policy.as_ref().map(|(policy, _)| policy);
    let tcp = whole.and_then(|policy| policy.connection_pool.as_ref()?.tcp.as_ref());
    let limit = |written: Option<Duration>| written.map(Duration::to_std);
    // A subset with a balancer of its own has the whole say.
    let own =
        rule.subset(subset).and_then(|subset| subset.subset.traffic_policy.as_ref()?.load_balancer.as_ref());
    let balancer = own.or_else(|| whole.and_then(|policy| policy.load_balancer.as_ref()));
    TcpTuning {
        idle_timeout: limit(tcp.and_then(|tcp| tcp.idle_timeout)),
        max_downstream_connection_duration: limit(tcp.and_then(|tcp| tcp.max_connection_duration)),
        hash_source_ip: balancer
            .and_then(|balancer| balancer.consistent_hash.as_ref())
            .is_some_and(|hash| hash.use_source_ip == Some(true)),
    }
}
