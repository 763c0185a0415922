//! The table of clusters.

use std::sync::Arc;

use dryroute::envoy::config::{Cluster, DiscoveryType};
use dryroute::istiod::Proxy;

use super::{Common, Rows, managed_by, parse_subset_key, sort_key};

/// Arguments of `proxy-config clusters`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only clusters whose name holds this host
    #[arg(long)]
    fqdn: Option<String>,
    /// Only clusters of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only clusters of this subset
    #[arg(long)]
    subset: Option<String>,
    /// Only clusters of this direction: inbound, outbound
    #[arg(long)]
    direction: Option<String>,
}

impl Args {
    /// istioctl: `cluster.go: ClusterFilter.Verify`, which looks for parts of the name.
    fn takes(&self, name: &str) -> bool {
        let holds = |part: &Option<String>| part.as_ref().is_none_or(|part| name.contains(part.as_str()));
        holds(&self.fqdn)
            && holds(&self.direction)
            && holds(&self.subset)
            && self.port.is_none_or(|port| name.contains(&format!("|{port}|")))
    }
}

/// The clusters that are wanted, in istioctl's order.
pub(super) fn select(proxy: &Proxy, args: &Args) -> Vec<Arc<Cluster>> {
    let mut clusters = proxy.clusters();
    clusters.retain(|cluster| args.takes(&cluster.name));
    clusters.sort_by_cached_key(|cluster| sort_key(&cluster.name));
    clusters
}

pub(super) fn table(proxy: &Proxy, clusters: &[Arc<Cluster>], args: &Args) -> String {
    let header = ["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"];
    let mesh = proxy.mesh();
    let mut rows = Rows::new(mesh, args.common.output, &header, &[]);
    for cluster in clusters {
        let mut cells: Vec<String> = match parse_subset_key(&cluster.name) {
            Some((direction, subset, host, port)) => {
                let subset = if subset.is_empty() { "-" } else { subset };
                vec![host.into(), port.to_string(), subset.into(), direction.into()]
            }
            None => vec![cluster.name.to_string(), "-".into(), "-".into(), "-".into()],
        };
        cells.push(kind(cluster).to_owned());
        cells.push(managed_by(cluster.metadata.config.as_ref()));
        rows.push(cells, &cluster.origin);
    }
    rows.finish(5)
}

/// The type as Envoy names it; clusters of the forward proxy have a type of their own, which reads as `STATIC`.
fn kind(cluster: &Cluster) -> &'static str {
    match cluster.discovery_type {
        DiscoveryType::Eds => "EDS",
        DiscoveryType::StrictDns => "STRICT_DNS",
        DiscoveryType::LogicalDns => "LOGICAL_DNS",
        DiscoveryType::OriginalDst => "ORIGINAL_DST",
        DiscoveryType::Static | DiscoveryType::DynamicForwardProxy => "STATIC",
    }
}
