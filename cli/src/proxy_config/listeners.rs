//! The table of listeners.

use std::sync::Arc;

use dryroute::envoy::config::{
    Action, ClusterSpecifier, FilterChain, FilterChainMatch, Listener, ListenerAddress, NetworkFilter,
    RouteConfiguration, RouteSpecifier, TransportProtocol, VirtualHost,
};
use dryroute::istiod::Proxy;

use super::{Common, Detail, Rows};

/// Arguments of `proxy-config listeners`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only listeners at this address
    #[arg(long)]
    address: Option<String>,
    /// Only listeners of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only listeners of this type: HTTP, TCP, HTTP+TCP, UNKNOWN
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    detail: Detail,
}

/// The listeners that are wanted, by port, address and type.
pub(super) fn select(proxy: &Proxy, args: &Args) -> Vec<Arc<Listener>> {
    let mut listeners = proxy.listeners();
    listeners.retain(|listener| {
        let is =
            |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|w| w.eq_ignore_ascii_case(has));
        (args.address.is_none() || addresses(listener).iter().any(|address| is(&args.address, address)))
            && args.port.is_none_or(|wanted| wanted == port(listener))
            && is(&args.kind, kind(listener))
    });
    listeners.sort_by_cached_key(|l| (port(l), addresses(l).into_iter().next(), kind(l)));
    listeners
}

pub(super) fn table(proxy: &Proxy, listeners: &[Arc<Listener>], args: &Args) -> String {
    let header: &[&str] = if args.detail.is_summary() {
        &["ADDRESSES", "PORT", "TYPE"]
    } else {
        &["ADDRESSES", "PORT", "MATCH", "DESTINATION"]
    };
    let mut rows = Rows::new(proxy.mesh(), args.common.output, header, &[]);
    for listener in listeners {
        let place = || vec![addresses(listener).join(","), port(listener).to_string()];
        if args.detail.is_summary() {
            let mut cells = place();
            cells.push(kind(listener).to_owned());
            rows.push(cells, &listener.origin);
            continue;
        }
        let mut chains: Vec<_> = chains(listener)
            .map(|chain| (conditions(&chain.filter_chain_match), destination(chain), &chain.origin))
            .collect();
        chains.sort_by(|a, b| b.1.cmp(&a.1));
        for (conditions, destination, origin) in chains {
            let mut cells = place();
            cells.extend([conditions, destination]);
            rows.push(cells, origin);
        }
    }
    rows.finish(1)
}

fn chains(listener: &Listener) -> impl Iterator<Item = &FilterChain> {
    listener.filter_chains.iter().chain(&listener.default_filter_chain).map(AsRef::as_ref)
}

fn addresses(listener: &Listener) -> Vec<String> {
    std::iter::once(&listener.address)
        .chain(&listener.additional_addresses)
        .map(|address| match address {
            ListenerAddress::Socket(ip, _) => ip.to_string(),
            ListenerAddress::Pipe(path) => path.trim_start_matches("unix://").to_owned(),
        })
        .collect()
}

fn port(listener: &Listener) -> u16 {
    match listener.address {
        ListenerAddress::Socket(_, port) => port,
        ListenerAddress::Pipe(_) => 0,
    }
}

/// istioctl: `listener.go: retrieveListenerType`.
fn kind(listener: &Listener) -> &'static str {
    let (mut http, mut tcp) = (false, false);
    for chain in chains(listener) {
        match &chain.terminal {
            NetworkFilter::HttpConnectionManager(_) => http = true,
            NetworkFilter::TcpProxy(proxy) => {
                tcp |= !proxy.clusters.iter().any(|cluster| cluster.name.contains("BlackHoleCluster"));
            }
        }
    }
    match (http, tcp) {
        (true, false) => "HTTP",
        (true, true) => "HTTP+TCP",
        (false, true) => "TCP",
        (false, false) => "UNKNOWN",
    }
}

/// istioctl: `listener.go: getMatches`.
fn conditions(of: &FilterChainMatch) -> String {
    let mut out: Vec<String> = Vec::new();
    if !of.server_names.is_empty() {
        out.push(format!("SNI: {}", of.server_names.join(",")));
    }
    if let Some(transport) = of.transport_protocol {
        let name = match transport {
            TransportProtocol::RawBuffer => "raw_buffer",
            TransportProtocol::Tls => "tls",
            TransportProtocol::Quic => "quic",
        };
        out.push(format!("Trans: {name}"));
    }
    if !of.application_protocols.is_empty() {
        let offered: Vec<&str> = of.application_protocols.iter().map(smol_str::SmolStr::as_str).collect();
        out.push(match offered.as_slice() {
            ["http/1.0", "http/1.1", "h2c"] => "App: HTTP".to_owned(),
            ["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"] => "App: Istio HTTP Plain".to_owned(),
            ["http/1.0", "http/1.1", "h2c", "istio-http/1.0", "istio-http/1.1", "istio-h2"] => {
                "App: HTTP TLS".to_owned()
            }
            ["istio-peer-exchange", "istio"] => "App: TCP TLS".to_owned(),
            others => format!("App: {}", others.join(",")),
        });
    }
    let port = of.destination_port.map(|port| format!(":{port}")).unwrap_or_default();
    if !of.prefix_ranges.is_empty() {
        let ranges: Vec<String> = of.prefix_ranges.iter().map(ToString::to_string).collect();
        out.push(format!("Addr: {}{port}", ranges.join(",")));
    } else if !port.is_empty() {
        out.push(format!("Addr: *{port}"));
    }
    if out.is_empty() { "ALL".to_owned() } else { out.join("; ") }
}

/// istioctl: `listener.go: getFilterType`.
fn destination(chain: &FilterChain) -> String {
    match &chain.terminal {
        NetworkFilter::HttpConnectionManager(manager) => match &manager.route_specifier {
            RouteSpecifier::Rds(name) => format!("Route: {name}"),
            RouteSpecifier::Inline(routes) => inline(routes),
        },
        NetworkFilter::TcpProxy(proxy) => match proxy.clusters.as_slice() {
            clusters if clusters.iter().any(|c| c.name.contains("BlackHoleCluster")) => {
                "Non-HTTP/Non-TCP".to_owned()
            }
            [one] => cluster(&one.name),
            _ => "Cluster: ".to_owned(),
        },
    }
}

fn cluster(name: &str) -> String {
    if name.contains("Cluster") { name.to_owned() } else { format!("Cluster: {name}") }
}

/// istioctl: `listener.go: describeRouteConfig, getMatchAllCluster`.
fn inline(routes: &RouteConfiguration) -> String {
    if let [host] = routes.virtual_hosts.as_slice()
        && everything(host)
        && let [route] = host.routes.as_slice()
        && let Action::Route(action) = &route.action
        && let ClusterSpecifier::Cluster(name) = &action.cluster
        && super::routes::conditions(&route.route_match) == "/*"
    {
        return cluster(name);
    }
    let hosts = routes.virtual_hosts.iter().map(|host| {
        let all: Vec<String> =
            host.routes.iter().map(|r| super::routes::conditions(&r.route_match)).collect();
        if everything(host) {
            all.join(", ")
        } else {
            format!("{} {}", host.domains.join("/"), all.join(", "))
        }
    });
    format!("Inline Route: {}", hosts.collect::<Vec<_>>().join("; "))
}

fn everything(host: &VirtualHost) -> bool {
    matches!(host.domains.as_slice(), [domain] if domain == "*")
}
