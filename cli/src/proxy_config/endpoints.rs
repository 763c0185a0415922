//! The table of endpoints: istioctl's columns, then what decides which endpoint is used.

use std::sync::Arc;

use dryroute::envoy::config::{Cluster, EndpointAddress, HealthStatus, LbEndpoint};
use dryroute::istiod::Proxy;

use super::{Common, Rows, sort_key};

/// Arguments of `proxy-config endpoints`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only endpoints at this address, with or without its port
    #[arg(long)]
    address: Option<String>,
    /// Only endpoints of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only endpoints of this cluster
    #[arg(long)]
    cluster: Option<String>,
    /// Only endpoints of this status: healthy, unhealthy, draining
    #[arg(long)]
    status: Option<String>,
}

/// The clusters whose endpoints are wanted, with those endpoints only, in istioctl's order.
pub(super) fn select(proxy: &Proxy, args: &Args) -> Vec<Arc<Cluster>> {
    let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|w| w.eq_ignore_ascii_case(has));
    let wanted = |endpoint: &LbEndpoint| {
        let (address, port) = address(endpoint);
        let host = address.strip_suffix(&format!(":{port}")).unwrap_or(&address);
        (is(&args.address, &address) || is(&args.address, host))
            && args.port.is_none_or(|wanted| wanted == port)
            && is(&args.status, status(endpoint))
    };
    let mut clusters = proxy.clusters();
    clusters.retain(|cluster| is(&args.cluster, &cluster.name));
    for cluster in &mut clusters {
        let assignment = Arc::make_mut(&mut Arc::make_mut(cluster).load_assignment);
        for group in &mut assignment.endpoints {
            group.lb_endpoints.retain(wanted);
        }
    }
    clusters.retain(|cluster| cluster.load_assignment.endpoints.iter().any(|g| !g.lb_endpoints.is_empty()));
    clusters.sort_by_cached_key(|cluster| sort_key(&cluster.name));
    clusters
}

pub(super) fn table(proxy: &Proxy, clusters: &[Arc<Cluster>], args: &Args) -> String {
    let header = ["NAME", "STATUS", "LOCALITY", "CLUSTER", "PRIORITY", "WEIGHT", "LOCALITY WEIGHT"];
    let mut rows = Rows::new(proxy.mesh(), args.common.output, &header);
    for cluster in clusters {
        for group in &cluster.load_assignment.endpoints {
            for endpoint in &group.lb_endpoints {
                let cells = vec![
                    address(endpoint).0,
                    status(endpoint).into(),
                    group.locality.to_string(),
                    cluster.name.to_string(),
                    group.priority.to_string(),
                    endpoint.load_balancing_weight.to_string(),
                    group.load_balancing_weight.to_string(),
                ];
                rows.push(cells, &endpoint.origin);
            }
        }
    }
    rows.finish(5)
}

fn address(endpoint: &LbEndpoint) -> (String, u16) {
    match &endpoint.address {
        EndpointAddress::Socket(ip, port) => (format!("{ip}:{port}"), *port),
        EndpointAddress::Name(name, port) => (format!("{name}:{port}"), *port),
        EndpointAddress::Pipe(path) => (path.to_string(), 0),
    }
}

fn status(endpoint: &LbEndpoint) -> &'static str {
    match endpoint.health_status {
        HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
    }
}
