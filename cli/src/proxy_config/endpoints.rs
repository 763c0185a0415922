//! The tables of endpoints: those that Envoy has, and those that istiod told it of.
//!
//! istioctl has one for each: `endpoints` is read from Envoy's `/clusters`, `eds` from its configuration dump.
//! istioctl: `pkg/writer/envoy/clusters/clusters.go`, `pkg/writer/envoy/configdump/endpoint.go`.

use std::sync::Arc;

use dryroute::envoy::config::{Cluster, EndpointAddress, HealthStatus, LbEndpoint, LocalityEndpoints};
use dryroute::istiod::Proxy;

use super::{Common, Rows, sort_key};

/// Arguments of `proxy-config endpoints` and `proxy-config eds`.
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
        let (host, port) = address(endpoint);
        (is(&args.address, &with_port(&host, port)) || is(&args.address, &host))
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

/// What Envoy has, by address, port and cluster. No endpoint is taken out before it answers, so each check of outliers is `OK`.
pub(super) fn table(proxy: &Proxy, clusters: &[Arc<Cluster>], args: &Args) -> String {
    let header = ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"];
    let more = ["LOCALITY", "PRIORITY", "WEIGHT", "LOCALITY WEIGHT"];
    let mut rows = Rows::new(proxy.mesh(), args.common.output, &header, &more);
    let mut all: Vec<_> = each(clusters).map(|found| (address(found.2), found)).collect();
    all.sort_by(|((host, port), (cluster, ..)), ((other, other_port), (other_cluster, ..))| {
        (host, port, &cluster.name).cmp(&(other, other_port, &other_cluster.name))
    });
    for ((host, port), (cluster, group, endpoint)) in all {
        let host = if port == 0 { host } else { with_port(&host, port) };
        let cells = vec![host, status(endpoint).into(), "OK".into(), cluster.name.to_string()];
        let mut place = vec![group.locality.to_string()];
        place.extend(balance(group, endpoint));
        rows.push_with(cells, place, &endpoint.origin);
    }
    rows.finish(5)
}

/// What istiod told, by cluster.
pub(super) fn told(proxy: &Proxy, clusters: &[Arc<Cluster>], args: &Args) -> String {
    let header = ["NAME", "STATUS", "LOCALITY", "CLUSTER"];
    let more = ["PRIORITY", "WEIGHT", "LOCALITY WEIGHT"];
    let mut rows = Rows::new(proxy.mesh(), args.common.output, &header, &more);
    for (cluster, group, endpoint) in each(clusters) {
        let (host, port) = address(endpoint);
        let name = match &endpoint.address {
            EndpointAddress::Pipe(_) => host.trim_start_matches("unix://").to_owned(),
            EndpointAddress::Socket(..) | EndpointAddress::Name(..) => with_port(&host, port),
        };
        let cells = vec![name, status(endpoint).into(), group.locality.to_string(), cluster.name.to_string()];
        rows.push_with(cells, balance(group, endpoint).into(), &endpoint.origin);
    }
    rows.finish(5)
}

fn each(clusters: &[Arc<Cluster>]) -> impl Iterator<Item = (&Arc<Cluster>, &LocalityEndpoints, &LbEndpoint)> {
    clusters.iter().flat_map(|cluster| {
        let groups = &cluster.load_assignment.endpoints;
        groups.iter().flat_map(move |group| group.lb_endpoints.iter().map(move |e| (cluster, group, e)))
    })
}

/// What decides which endpoint is used.
fn balance(group: &LocalityEndpoints, endpoint: &LbEndpoint) -> [String; 3] {
    [
        group.priority.to_string(),
        endpoint.load_balancing_weight.to_string(),
        group.load_balancing_weight.to_string(),
    ]
}

/// The address and port as istioctl shows them; a socket of files has no port.
fn address(endpoint: &LbEndpoint) -> (String, u16) {
    match &endpoint.address {
        EndpointAddress::Socket(ip, port) => (ip.to_string(), *port),
        EndpointAddress::Name(name, port) => (name.to_string(), *port),
        EndpointAddress::Pipe(path) => (format!("unix://{}", path.trim_start_matches("unix://")), 0),
    }
}

/// istioctl puts no brackets around addresses of IPv6.
fn with_port(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

fn status(endpoint: &LbEndpoint) -> &'static str {
    match endpoint.health_status {
        HealthStatus::Healthy => "HEALTHY",
        HealthStatus::Unhealthy => "UNHEALTHY",
        HealthStatus::Draining => "DRAINING",
    }
}
