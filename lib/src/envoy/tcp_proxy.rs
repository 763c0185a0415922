//! Where does a TCP proxy send a connection?
//!
//! Envoy: `tcp_proxy.cc: Filter::establishUpstreamConnection`. Measured with Envoy 1.40: a missing cluster closes the
//! connection with `NC`, one without a healthy endpoint with `UH`.

use smol_str::SmolStr;

use super::cluster;
use super::config::TcpProxy;
use super::decision::{ConnectionOutcome, TcpBranch, TcpDecision};
use super::reply::ResponseFlag;
use super::xds::Xds;

/// What the proxy does; each cluster with a weight is a branch.
pub(crate) fn decide<X: Xds + ?Sized>(
    xds: &X,
    proxy: &TcpProxy,
    destination_restored: bool,
) -> ConnectionOutcome {
    let total: u64 = proxy.clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if total == 0 {
        return ConnectionOutcome::Refused {
            reason: SmolStr::new_static("a TCP proxy needs a cluster with a weight"),
        };
    }
    let branches = proxy.clusters.iter().filter(|choice| choice.weight > 0).map(|choice| {
        let found = xds.cluster(&choice.name);
        let flags = match &found {
            None => vec![ResponseFlag::NoClusterFound],
            Some(found) if !cluster::has_host(found, destination_restored) => {
                vec![ResponseFlag::NoHealthyUpstream]
            }
            Some(_) => Vec::new(),
        };
        TcpBranch {
            probability: f64::from(choice.weight) / total as f64,
            cluster: choice.name.clone(),
            found,
            flags,
            origin: choice.origin.clone(),
        }
    });
    let branches: Vec<TcpBranch> = branches.collect();
    if let Some(patch) = branches.iter().find_map(|branch| branch.found.as_ref()?.opaque.as_ref()) {
        let (reason, origin) = (patch.unknown_cluster(), patch.origin.clone());
        return ConnectionOutcome::Unknown { reason, origin };
    }
    ConnectionOutcome::Tcp(TcpDecision { branches, tunnel: proxy.tunneling_config.clone() })
}
