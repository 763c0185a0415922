//! The table of routes.

use std::sync::Arc;

use dryroute::envoy::config::{
    Action, ClusterSpecifier, NetworkFilter, PathSpecifier, Route, RouteConfiguration, RouteMatch,
    RouteSpecifier,
};
use dryroute::istiod::Proxy;
use smol_str::SmolStr;

use super::{Common, Detail, Rows, managed_by};

/// Arguments of `proxy-config routes`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only the route configuration of this name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    detail: Detail,
}

/// The route configurations that are wanted, those that listeners hold in place at the end; of those that are asked for
/// by name, those of ports come first, by number. istioctl: `route.go: retrieveSortedRouteSlice`.
pub(super) fn select(proxy: &Proxy, args: &Args) -> Vec<Arc<RouteConfiguration>> {
    let mut configurations = proxy.route_configurations();
    configurations.retain(|c| args.name.as_ref().is_none_or(|name| *name == c.name));
    configurations.sort_by_key(|c| c.name.parse::<u16>().map_or(u32::MAX, u32::from));
    for listener in proxy.listeners() {
        for chain in listener.filter_chains.iter().chain(&listener.default_filter_chain) {
            if let NetworkFilter::HttpConnectionManager(manager) = &chain.terminal
                && let RouteSpecifier::Inline(configuration) = &manager.route_specifier
                && args.name.as_ref().is_none_or(|name| *name == configuration.name)
            {
                configurations.push(Arc::clone(configuration));
            }
        }
    }
    configurations
}

pub(super) fn table(proxy: &Proxy, configurations: &[Arc<RouteConfiguration>], args: &Args) -> String {
    let header: &[&str] = if args.detail.is_summary() {
        &["NAME", "VIRTUAL HOSTS"]
    } else {
        &["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"]
    };
    let mesh = proxy.mesh();
    let mut rows = Rows::new(mesh, args.common.output, header, &[]);
    for configuration in configurations {
        let name = || configuration.name.to_string();
        if args.detail.is_summary() {
            rows.push(vec![name(), configuration.virtual_hosts.len().to_string()], &configuration.origin);
            continue;
        }
        for host in &configuration.virtual_hosts {
            let start = || vec![name(), host.name.to_string(), domains(&host.domains)];
            for route in host.routes.iter().filter(|route| !passes_through(route)) {
                let mut cells = start();
                cells.push(conditions(&route.route_match));
                cells.push(managed_by(route.config.as_ref()));
                rows.push(cells, &route.origin);
            }
            if host.routes.is_empty() {
                let mut cells = start();
                cells.extend(["/*".to_owned(), "404".to_owned()]);
                rows.push(cells, &host.origin);
            }
        }
    }
    rows.finish(5)
}

/// istioctl: `route.go: isPassthrough`.
fn passes_through(route: &Route) -> bool {
    matches!(&route.action, Action::Route(action)
        if matches!(&action.cluster, ClusterSpecifier::Cluster(name) if name == "PassthroughCluster"))
}

/// The path of a route as istioctl shows it. istioctl: `listener.go: describeMatch`.
pub(super) fn conditions(of: &RouteMatch) -> String {
    match &of.path {
        PathSpecifier::Prefix(prefix) => format!("{prefix}*"),
        PathSpecifier::PathSeparatedPrefix(prefix) => format!("PathPrefix:{prefix}"),
        PathSpecifier::Path(path) => path.to_string(),
        PathSpecifier::SafeRegex(regex) => format!("regex {}", regex.pattern()),
    }
}

/// istioctl: `route.go: describeRouteDomains`.
fn domains(all: &[SmolStr]) -> String {
    const SHOWN: usize = 2;
    if let [] | [_] = all {
        return all.join("");
    }
    let shown: Vec<&SmolStr> =
        all.iter().filter(|d| !d.contains(':') || (d.matches(':').count() > 2 && d.ends_with(']'))).collect();
    let known = |shorter: &str, long: &SmolStr| shorter != long && shown.iter().any(|d| *d == shorter);
    let short: Vec<&str> = shown
        .iter()
        .filter(|d| {
            !known(d.strip_suffix(".svc.cluster.local").unwrap_or(d), d)
                && !known(d.strip_suffix(".svc").unwrap_or(d), d)
        })
        .map(|d| d.as_str())
        .collect();
    let first: Vec<&str> = short.iter().take(SHOWN).copied().collect();
    if short.len() > SHOWN {
        format!("{} + {} more...", first.join(", "), short.len() - SHOWN)
    } else {
        first.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::domains;

    #[test]
    fn domains_are_shown_by_their_shortest_forms() {
        let all = [
            "reviews.default.svc.cluster.local",
            "reviews",
            "reviews:9080",
            "reviews.default.svc",
            "reviews.default",
            "10.0.0.1",
            "10.0.0.1:9080",
        ];
        let all: Vec<_> = all.iter().map(|d| (*d).into()).collect();
        assert_eq!(domains(&all), "reviews, reviews.default + 1 more...");
        assert_eq!(domains(&["*".into()]), "*");
    }
}
