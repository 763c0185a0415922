//! What does a proxy's whole configuration look like, in short?
//!
//! The shape of the `xds` field of the simulation suite: listeners with filter chains, route configurations with
//! virtual hosts and routes, names of clusters.

use std::collections::BTreeMap;

use dryroute::envoy::config::{
    Action, ClusterSpecifier, FilterChain, FilterChainMatch, Listener, ListenerAddress, ListenerFilters,
    NetworkFilter, PathSpecifier, RequireTls, Route, RouteConfiguration, RouteMatch, RouteSpecifier,
    TransportProtocol, VirtualHost,
};
use dryroute::istiod::Proxy;
use serde_json::{Map, Value, json};

use super::Mismatch;

/// The summary of a proxy's configuration.
pub fn summarise(proxy: &Proxy) -> Value {
    json!({
        "listeners": proxy.listeners().iter().map(|l| listener(l)).collect::<Vec<_>>(),
        "routes": proxy.route_configurations().iter().map(|r| route_configuration(r)).collect::<Vec<_>>(),
        "clusters": proxy.clusters().iter().map(|c| c.name.to_string()).collect::<Vec<_>>(),
    })
}

/// What differs between two summaries; the order of listeners, route configurations and clusters does not count.
pub fn compare(expected: &Value, got: &Value) -> Vec<Mismatch> {
    let mut out = Vec::new();
    for part in ["listeners", "routes"] {
        let (expected, got) = (by_name(&expected[part]), by_name(&got[part]));
        let mut names: Vec<&String> = expected.keys().chain(got.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (e, g) = (expected.get(name), got.get(name));
            match (e, g) {
                (Some(e), Some(g)) => parts(&format!("xds.{part}[{name}]"), e, g, &mut out),
                _ => out.push(Mismatch {
                    field: format!("xds.{part}[{name}]"),
                    expected: e.map_or(Value::Null, |_| json!("present")),
                    got: g.map_or(Value::Null, |_| json!("present")),
                }),
            }
        }
    }
    let sorted = |value: &Value| {
        let mut names: Vec<String> =
            value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect();
        names.sort();
        names
    };
    let (expected, got) = (sorted(&expected["clusters"]), sorted(&got["clusters"]));
    if expected != got {
        let missing: Vec<_> = expected.iter().filter(|name| !got.contains(name)).collect();
        let extra: Vec<_> = got.iter().filter(|name| !expected.contains(name)).collect();
        out.push(Mismatch {
            field: "xds.clusters".into(),
            expected: json!({ "missing": missing }),
            got: json!({ "extra": extra }),
        });
    }
    out
}

/// Compares two values and names the smallest parts that differ.
fn parts(field: &str, expected: &Value, got: &Value, out: &mut Vec<Mismatch>) {
    match (expected, got) {
        (Value::Object(e), Value::Object(g)) => {
            let mut keys: Vec<&String> = e.keys().chain(g.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let null = Value::Null;
                parts(
                    &format!("{field}.{key}"),
                    e.get(key).unwrap_or(&null),
                    g.get(key).unwrap_or(&null),
                    out,
                );
            }
        }
        (Value::Array(e), Value::Array(g)) if e.len() == g.len() => {
            for (i, (e, g)) in e.iter().zip(g).enumerate() {
                parts(&format!("{field}[{i}]"), e, g, out);
            }
        }
        _ if expected == got => {}
        _ => out.push(Mismatch { field: field.into(), expected: expected.clone(), got: got.clone() }),
    }
}

/// Entries by name, with what the suite leaves out filled in.
fn by_name(list: &Value) -> BTreeMap<String, Value> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let mut entry = entry.clone();
            complete(&mut entry);
            (entry.get("name").and_then(Value::as_str).unwrap_or_default().to_string(), entry)
        })
        .collect()
}

/// A match without `caseSensitive` is case-sensitive.
fn complete(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Object(condition)) = map.get_mut("match")
                && (condition.contains_key("prefix")
                    || condition.contains_key("path")
                    || condition.contains_key("pathSeparatedPrefix"))
            {
                condition.entry("caseSensitive").or_insert(Value::Bool(true));
            }
            map.values_mut().for_each(complete);
        }
        Value::Array(list) => list.iter_mut().for_each(complete),
        _ => {}
    }
}

fn listener(listener: &Listener) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), json!(listener.name.as_str()));
    out.insert("address".into(), json!(address(&listener.address)));
    out.insert(
        "filter_chains".into(),
        listener.filter_chains.iter().map(|chain| filter_chain(chain)).collect(),
    );
    if let Some(chain) = &listener.default_filter_chain {
        let mut short = Map::new();
        short.insert("name".into(), json!(chain.name.as_str()));
        let (key, value) = terminal(&chain.terminal);
        short.insert(key.into(), value);
        out.insert("default_filter_chain".into(), Value::Object(short));
    }
    out.insert("listener_filters".into(), json!(listener_filters(&listener.listener_filters)));
    Value::Object(out)
}

fn address(address: &ListenerAddress) -> String {
    match address {
        ListenerAddress::Socket(ip, port) => format!("{ip}:{port}"),
        ListenerAddress::Pipe(path) => path.to_string(),
    }
}

fn listener_filters(filters: &ListenerFilters) -> Vec<&'static str> {
    [
        (filters.original_dst, "envoy.filters.listener.original_dst"),
        (filters.original_src, "envoy.filters.listener.original_src"),
        (filters.proxy_protocol, "envoy.filters.listener.proxy_protocol"),
        (filters.tls_inspector, "envoy.filters.listener.tls_inspector"),
        (filters.http_inspector, "envoy.filters.listener.http_inspector"),
    ]
    .into_iter()
    .filter_map(|(on, name)| on.then_some(name))
    .collect()
}

fn filter_chain(chain: &FilterChain) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), json!(chain.name.as_str()));
    out.insert("match".into(), chain_match(&chain.filter_chain_match));
    out.insert("tls".into(), json!(chain.transport_socket.is_some()));
    let (key, value) = terminal(&chain.terminal);
    out.insert(key.into(), value);
    Value::Object(out)
}

fn terminal(terminal: &NetworkFilter) -> (&'static str, Value) {
    match terminal {
        NetworkFilter::HttpConnectionManager(manager) => (
            "http",
            match &manager.route_specifier {
                RouteSpecifier::Rds(name) => json!(name.as_str()),
                RouteSpecifier::Inline(configuration) => json!(format!("inline:{}", configuration.name)),
            },
        ),
        NetworkFilter::TcpProxy(proxy) => match proxy.clusters.as_slice() {
            [cluster] => ("tcp", json!(cluster.name.as_str())),
            // The suite's summary names only single clusters.
            _ => ("tcp", json!("")),
        },
    }
}

fn chain_match(condition: &FilterChainMatch) -> Value {
    let mut out = Map::new();
    if let Some(port) = condition.destination_port {
        out.insert("destinationPort".into(), json!(port));
    }
    if !condition.prefix_ranges.is_empty() {
        let ranges = condition
            .prefix_ranges
            .iter()
            .map(|net| json!({ "addressPrefix": net.addr().to_string(), "prefixLen": net.prefix_len() }));
        out.insert("prefixRanges".into(), ranges.collect());
    }
    if !condition.server_names.is_empty() {
        out.insert(
            "serverNames".into(),
            condition.server_names.iter().map(|name| json!(name.as_str())).collect(),
        );
    }
    if let Some(transport) = condition.transport_protocol {
        let name = match transport {
            TransportProtocol::RawBuffer => "raw_buffer",
            TransportProtocol::Tls => "tls",
            TransportProtocol::Quic => "quic",
        };
        out.insert("transportProtocol".into(), json!(name));
    }
    if !condition.application_protocols.is_empty() {
        let protocols = condition.application_protocols.iter().map(|name| json!(name.as_str()));
        out.insert("applicationProtocols".into(), protocols.collect());
    }
    Value::Object(out)
}

fn route_configuration(configuration: &RouteConfiguration) -> Value {
    json!({
        "name": configuration.name.as_str(),
        "virtual_hosts": configuration.virtual_hosts.iter().map(|host| virtual_host(host)).collect::<Vec<_>>(),
    })
}

fn virtual_host(host: &VirtualHost) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), json!(host.name.as_str()));
    out.insert("domains".into(), host.domains.iter().map(|domain| json!(domain.as_str())).collect());
    out.insert("routes".into(), host.routes.iter().map(|r| route(r)).collect());
    if host.require_tls == RequireTls::All {
        out.insert("require_tls".into(), json!("ALL"));
    }
    Value::Object(out)
}

fn route(route: &Route) -> Value {
    let mut out = Map::new();
    out.insert("match".into(), route_match(&route.route_match));
    if !route.name.is_empty() {
        out.insert("name".into(), json!(route.name.as_str()));
    }
    match &route.action {
        Action::Route(action) => {
            if let ClusterSpecifier::Cluster(name) = &action.cluster {
                out.insert("cluster".into(), json!(name.as_str()));
            }
            out.insert("timeout".into(), json!(format!("{}s", action.timeout.as_secs())));
        }
        Action::DirectResponse(response) => {
            out.insert("directResponse".into(), json!({ "status": response.status }));
        }
        Action::Redirect(_) | Action::None => {}
    }
    Value::Object(out)
}

fn route_match(condition: &RouteMatch) -> Value {
    let mut out = Map::new();
    let (key, value) = match &condition.path {
        PathSpecifier::Prefix(text) => ("prefix", text.as_str()),
        PathSpecifier::Path(text) => ("path", text.as_str()),
        PathSpecifier::PathSeparatedPrefix(text) => ("pathSeparatedPrefix", text.as_str()),
        PathSpecifier::SafeRegex(regex) => ("safeRegex", regex.pattern()),
    };
    out.insert(key.into(), json!(value));
    out.insert("caseSensitive".into(), json!(condition.case_sensitive));
    Value::Object(out)
}
