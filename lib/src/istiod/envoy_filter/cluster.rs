//! Which clusters is a patch for, and what does it merge into them?
//!
//! Settings that are modelled or change no request's fate; a merge of anything else makes the cluster's fate unknown.
//! istiod: `envoyfilter/cluster_patch.go: ApplyClusterMerge, clusterMatch`.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fit::Fit;
use crate::envoy::config::Cluster;
use crate::istiod::name::SubsetKey;
use crate::manifest::schema::istio::{ClusterMatch, EnvoyConfigPatch, PatchOperation};
use crate::manifest::schema::scalar::Duration;

/// What is merged into a cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct ClusterSettings {
    #[serde(alias = "connect_timeout")]
    connect_timeout: Option<Duration>,
    // Limits, buffers, statistics, and how often names are looked up: no trace depends on them.
    #[serde(alias = "circuit_breakers")]
    circuit_breakers: Option<IgnoredAny>,
    #[serde(alias = "per_connection_buffer_limit_bytes")]
    per_connection_buffer_limit_bytes: Option<IgnoredAny>,
    #[serde(alias = "max_requests_per_connection")]
    max_requests_per_connection: Option<IgnoredAny>,
    #[serde(alias = "upstream_connection_options")]
    upstream_connection_options: Option<IgnoredAny>,
    #[serde(alias = "preconnect_policy")]
    preconnect_policy: Option<IgnoredAny>,
    #[serde(alias = "dns_refresh_rate")]
    dns_refresh_rate: Option<IgnoredAny>,
    #[serde(alias = "dns_failure_refresh_rate")]
    dns_failure_refresh_rate: Option<IgnoredAny>,
    #[serde(alias = "respect_dns_ttl")]
    respect_dns_ttl: Option<IgnoredAny>,
    #[serde(alias = "cleanup_interval")]
    cleanup_interval: Option<IgnoredAny>,
    #[serde(alias = "alt_stat_name")]
    alt_stat_name: Option<IgnoredAny>,
    #[serde(alias = "track_timeout_budgets")]
    track_timeout_budgets: Option<IgnoredAny>,
    #[serde(alias = "track_cluster_stats")]
    track_cluster_stats: Option<IgnoredAny>,
}

impl ClusterSettings {
    /// What a patch merges, if that is all that it does.
    pub(super) fn of(patch: &EnvoyConfigPatch) -> Option<Self> {
        let change = patch.patch.as_ref()?;
        let merges = [PatchOperation::Merge, PatchOperation::MergeAndReplaceList].contains(&change.operation);
        let settings = merges.then(|| Self::deserialize(&change.value.as_ref()?.0).ok())??;
        // Envoy refuses a cluster that may not take any time to connect.
        settings.connect_timeout.is_none_or(|timeout| timeout.0 > 0).then_some(settings)
    }

    /// Whether there is anything that a cluster of the model does not keep.
    pub(super) fn is_partly_kept(&self) -> bool {
        *self != Self { connect_timeout: self.connect_timeout, ..Self::default() }
    }

    /// Merges the settings into a cluster.
    pub(super) fn apply(&self, cluster: &mut Cluster) {
        if let Some(timeout) = self.connect_timeout {
            cluster.connect_timeout = timeout.to_std();
        }
    }
}

/// Whether a cluster is meant.
pub(super) fn fits(condition: Option<&ClusterMatch>, cluster: &Cluster) -> Fit {
    let Some(condition) = condition else { return Fit::Yes };
    if !condition.name.is_empty() {
        return (condition.name == cluster.name).into();
    }
    let key = SubsetKey::parse(&cluster.name).or_else(|| SubsetKey::parse_sni(&cluster.name));
    let (subset, host, port) = key.map_or(("", "", 0), |key| (key.subset, key.host, key.port));
    // The name of an inbound cluster has no host; which services it is for is not kept.
    let inbound = key.is_some_and(|key| key.direction == "inbound");
    let service = match condition.service.as_str() {
        "" => Fit::Yes,
        _ if inbound => Fit::Perhaps,
        service => (service == host).into(),
    };
    let subset = condition.subset.is_empty() || condition.subset == subset;
    let port = condition.port_number == 0 || condition.port_number == u32::from(port);
    service.and(subset.into()).and(port.into())
}
