//! How does Istio's own simulator decide?
//!
//! The decision procedure of Istio's traffic simulation, with its known faults, played over dryroute's configuration:
//! it ignores methods, headers and query parameters, its regular expressions are not anchored, a path-separated prefix
//! is a plain one, and it reads letter case of hosts as it stands. Source: istio `pilot/pkg/simulation/traffic.go`.

use std::net::IpAddr;
use std::sync::Arc;

use dryroute::envoy::config::{
    Action, ClientCertificate, ClusterSpecifier, FilterChain, FilterChainMatch, Listener, NetworkFilter,
    PathSpecifier, RequireTls, Route, RouteSpecifier, TransportProtocol, VirtualHost,
};
use dryroute::envoy::xds::{Capture, Xds};
use dryroute::istiod::{NodeType, Proxy};
use dryroute::mesh::host;

/// A call of the simulator.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Call {
    /// `outbound`, `inbound` or `gateway`.
    pub mode: String,
    /// Destination address.
    pub address: String,
    /// Destination port.
    pub port: u16,
    /// `http`, `http2` or `tcp`.
    pub protocol: String,
    /// `plaintext`, `tls` or `mtls`.
    pub tls: String,
    /// ALPN, as offered.
    pub alpn: String,
    /// SNI.
    pub sni: String,
    /// Host header.
    pub host: String,
    /// Path.
    pub path: String,
    /// The secret that stands for Istio's certificates.
    pub mtls_secret: String,
}

/// An answer of the simulator; empty fields were not reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    /// Listener.
    pub listener: String,
    /// Filter chain.
    pub filter_chain: String,
    /// Route configuration.
    pub route_config: String,
    /// Virtual host.
    pub vhost: String,
    /// Route.
    pub route: String,
    /// Cluster.
    pub cluster: String,
    /// Error.
    pub error: String,
}

impl Call {
    fn complete(&self) -> Self {
        let mut call = self.clone();
        if call.sni.is_empty() && call.tls == "tls" {
            call.sni.clone_from(&call.host);
        }
        let or = |text: &mut String, default: &str| {
            if text.is_empty() {
                *text = default.into();
            }
        };
        or(&mut call.path, "/");
        or(&mut call.tls, "plaintext");
        or(&mut call.address, "1.3.3.7");
        if call.tls == "mtls" {
            or(
                &mut call.alpn,
                match self.protocol.as_str() {
                    "http" => "istio-http/1.1",
                    "http2" => "istio-h2",
                    _ => "istio",
                },
            );
        }
        if call.tls == "tls" {
            or(
                &mut call.alpn,
                match self.protocol.as_str() {
                    "http" => "http/1.1",
                    "http2" => "h2",
                    _ => "",
                },
            );
        }
        call
    }

    fn is_plaintext(&self) -> bool {
        self.tls == "plaintext"
    }
}

/// Runs a call against a proxy.
pub fn run(proxy: &Proxy, call: &Call) -> Answer {
    let mut call = call.complete();
    let mut answer = Answer::default();
    if let Err(error) = decide(proxy, &mut call, &mut answer) {
        answer.error = error.into();
    }
    answer
}

fn decide(proxy: &Proxy, call: &mut Call, answer: &mut Answer) -> Result<(), &'static str> {
    let listener = find_listener(proxy, call).ok_or("no listener matched")?;
    answer.listener = listener.name.to_string();
    let has_tls_inspector = listener.listener_filters.inspects_tls(call.port);
    if !has_tls_inspector {
        call.alpn.clear();
    }
    if listener.listener_filters.inspects_http(call.port) && call.is_plaintext() {
        match call.protocol.as_str() {
            "http" => call.alpn = "http/1.1".into(),
            "http2" => call.alpn = "h2c".into(),
            _ => {}
        }
    }
    let chain = find_chain(&listener, call, has_tls_inspector)?;
    answer.filter_chain = chain.name.to_string();
    if let Some(tls) = &chain.transport_socket {
        if call.is_plaintext() {
            return Err("invalid TLS");
        }
        let secret = if call.mtls_secret.is_empty() { "default" } else { &call.mtls_secret };
        let mutual = tls.secret_name == secret && tls.client_certificate == ClientCertificate::Required;
        if mutual != (call.tls == "mtls") {
            return Err("invalid mTLS");
        }
    }
    match &chain.terminal {
        NetworkFilter::TcpProxy(tcp) => {
            if let [cluster] = tcp.clusters.as_slice() {
                answer.cluster = cluster.name.to_string();
            }
            Ok(())
        }
        NetworkFilter::HttpConnectionManager(manager) => {
            if (!call.is_plaintext() && chain.transport_socket.is_none()) || call.protocol == "tcp" {
                return Err("protocol error");
            }
            let virtual_host = match &manager.route_specifier {
                RouteSpecifier::Inline(configuration) => {
                    choose_inline(&configuration.virtual_hosts, &call.host)
                }
                RouteSpecifier::Rds(name) => {
                    answer.route_config = name.to_string();
                    proxy.virtual_host(name, &call.host).and_then(|choice| choice.virtual_host)
                }
            };
            let virtual_host = virtual_host.ok_or("no virtual host matched")?;
            answer.vhost = virtual_host.name.to_string();
            if virtual_host.require_tls == RequireTls::All && call.is_plaintext() {
                return Err("tls required, sending 301");
            }
            let route = virtual_host
                .routes
                .iter()
                .find(|route| takes(route, &call.path))
                .ok_or("no route matched")?;
            answer.route = route.name.to_string();
            if let Action::Route(action) = &route.action
                && let ClusterSpecifier::Cluster(cluster) = &action.cluster
            {
                answer.cluster = cluster.to_string();
            }
            Ok(())
        }
    }
}

fn find_listener(proxy: &Proxy, call: &Call) -> Option<Arc<Listener>> {
    let address: IpAddr = call.address.parse().ok()?;
    let capture = match (call.mode.as_str(), proxy.node().node_type) {
        ("inbound", _) => Capture::Inbound,
        (_, NodeType::Sidecar) => Capture::Outbound,
        _ => Capture::Direct,
    };
    proxy.listener(capture, address, call.port)
}

/// The simulator's sieve: at each level only the best matches stay, or those that ask for nothing.
fn find_chain(
    listener: &Listener,
    call: &Call,
    has_tls_inspector: bool,
) -> Result<Arc<FilterChain>, &'static str> {
    let mut chains: Vec<&Arc<FilterChain>> = listener.filter_chains.iter().collect();
    let address: Option<IpAddr> = call.address.parse().ok();
    rank(&mut chains, |m| m.destination_port.map(|port| usize::from(port == call.port)));
    rank(&mut chains, |m| {
        let best = m
            .prefix_ranges
            .iter()
            .filter(|net| address.is_some_and(|address| net.contains(&address)))
            .map(|net| usize::from(net.prefix_len()));
        (!m.prefix_ranges.is_empty()).then(|| best.max().unwrap_or(0))
    });
    rank(&mut chains, |m| {
        let best = m.server_names.iter().map(|name| {
            if *name == call.sni {
                usize::MAX
            } else if host::subset_of(&call.sni, name) {
                name.len()
            } else {
                0
            }
        });
        (!m.server_names.is_empty()).then(|| best.max().unwrap_or(0))
    });
    rank(&mut chains, |m| {
        m.transport_protocol.map(|transport| {
            usize::from(match transport {
                TransportProtocol::RawBuffer => !has_tls_inspector || call.is_plaintext(),
                TransportProtocol::Tls => has_tls_inspector && !call.is_plaintext(),
                TransportProtocol::Quic => false,
            })
        })
    });
    rank(&mut chains, |m| {
        (!m.application_protocols.is_empty())
            .then(|| usize::from(m.application_protocols.iter().any(|alpn| *alpn == call.alpn)))
    });
    match chains.as_slice() {
        [] => listener.default_filter_chain.clone().ok_or("no filter chains matched"),
        [chain] => Ok(Arc::clone(chain)),
        _ => Err("multiple filter chains matched"),
    }
}

fn rank(chains: &mut Vec<&Arc<FilterChain>>, of: impl Fn(&FilterChainMatch) -> Option<usize>) {
    let ranks: Vec<Option<usize>> = chains.iter().map(|chain| of(&chain.filter_chain_match)).collect();
    let best = ranks.iter().flatten().copied().max().unwrap_or(0);
    let wanted = if best > 0 { Some(best) } else { None };
    let mut ranks = ranks.into_iter();
    chains.retain(|_| ranks.next().is_some_and(|own| own == wanted));
}

fn choose_inline(hosts: &[Arc<VirtualHost>], name: &str) -> Option<Arc<VirtualHost>> {
    let has = |wanted: &str| hosts.iter().find(|host| host.domains.iter().any(|domain| domain == wanted));
    has(name).or_else(|| has("*")).cloned()
}

fn takes(route: &Route, path: &str) -> bool {
    match &route.route_match.path {
        PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix) => {
            path.starts_with(prefix.as_str())
        }
        PathSpecifier::Path(whole) => path == whole,
        PathSpecifier::SafeRegex(regex) => {
            // Not anchored: anything may stand round the match.
            dryroute::envoy::config::SafeRegex::new(&format!("(?s:.*)(?:{})(?s:.*)", regex.pattern()))
                .is_ok_and(|regex| regex.is_match(path))
        }
    }
}
