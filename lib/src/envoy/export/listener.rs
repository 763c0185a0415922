//! Listeners, filter chains, TLS towards clients.

use serde_json::{Value, json};

use super::json::{Object, duration, texts};
use super::tls::{sds, set_certificate_files, set_validation, set_validation_file, tls_params};
use super::{Routes, Writer, http, matching, metadata, rbac, route, socket_address};
use crate::envoy::config::{
    AccessFilter, ClientCertificate, ConnectionSourceType, DownstreamTlsContext, FilterChain,
    FilterChainMatch, FilterDisabled, Listener, ListenerAddress, NetworkFilter, TcpProxy, TrafficDirection,
    TransportProtocol,
};

const LISTENER_FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.listener";
const MONGO_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy";
const SNI_FORWARD_PROXY: &str =
    "type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const DOWNSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// `config.listener.v3.Listener`; `None` for one that Envoy would refuse, or that cannot run on one machine.
pub(super) fn listener(writer: &Writer<'_>, listener: &Listener, routes: Routes) -> Option<Value> {
    if !is_written(writer, listener) {
        let reason = match &listener.refused {
            Some(reason) => format!("Envoy would refuse it: {reason}"),
            None => "a Unix domain socket".to_owned(),
        };
        writer.leave_out(format!("listener {}: {reason}", listener.name));
        return None;
    }
    let mut out = Object::new();
    out.set("name", listener.name.as_str());
    let place = writer.loopback.filter(|_| listener.bind_to_port);
    match place {
        Some(loopback) => {
            let at = loopback.listener(listener);
            out.set("address", socket_address(at.ip().to_string(), at.port()));
        }
        None => {
            out.set("address", address(&listener.address));
            let more: Vec<Value> =
                listener.additional_addresses.iter().map(|a| json!({"address": address(a)})).collect();
            out.set_nonempty("additional_addresses", more);
        }
    }
    if !listener.bind_to_port {
        out.set("bind_to_port", false);
    }
    // istiod: `listener_builder.go: maxConnectionsToAcceptPerSocketEvent`.
    if listener.bind_to_port {
        out.set("max_connections_to_accept_per_socket_event", 1);
    }
    out.set_nonempty("transparent", listener.transparent && place.is_none());
    out.set_nonempty("use_original_dst", listener.use_original_dst);
    out.set(
        "traffic_direction",
        match listener.traffic_direction {
            TrafficDirection::Inbound => "INBOUND",
            TrafficDirection::Outbound => "OUTBOUND",
        },
    );
    out.set_nonempty("listener_filters", listener_filters(listener, place.is_some()));
    out.set_nonempty("continue_on_listener_filters_timeout", listener.continue_on_listener_filters_timeout);
    out.set_some("per_connection_buffer_limit_bytes", listener.per_connection_buffer_limit_bytes);
    out.set_some("listener_filters_timeout", listener.listener_filters_timeout.map(duration));
    let chains: Vec<Value> =
        listener.filter_chains.iter().map(|chain| filter_chain(writer, listener, chain, routes)).collect();
    out.set("filter_chains", chains);
    if let Some(chain) = &listener.default_filter_chain {
        out.set("default_filter_chain", filter_chain(writer, listener, chain, routes));
    }
    if writer.loopback.is_some() {
        out.set("metadata", json!({"filter_metadata": {route::METADATA: {"name": listener.name}}}));
    }
    out.set_some("access_log", writer.loopback.and_then(|l| l.access_log()).map(http::access_log));
    Some(out.into())
}

/// Whether Envoy takes a listener, and it can run where it is to run.
pub(super) fn is_written(writer: &Writer<'_>, listener: &Listener) -> bool {
    let pipe = matches!(listener.address, ListenerAddress::Pipe(_));
    listener.refused.is_none() && !(pipe && writer.loopback.is_some())
}

fn address(address: &ListenerAddress) -> Value {
    match address {
        ListenerAddress::Socket(ip, port) => socket_address(ip.to_string(), *port),
        ListenerAddress::Pipe(path) => json!({"pipe": {"path": path.trim_start_matches("unix://")}}),
    }
}

fn listener_filters(listener: &Listener, loopback: bool) -> Vec<Value> {
    let filters = &listener.listener_filters;
    let filter = |name: &str, kind: &str| {
        let mut out = Object::new();
        out.set("name", format!("envoy.filters.listener.{name}"));
        out.set("typed_config", json!({"@type": format!("{LISTENER_FILTERS}.{name}.v3.{kind}")}));
        out
    };
    let inspector = |name: &str, kind: &str, disabled: &FilterDisabled| {
        let mut out = filter(name, kind);
        if kind == "TlsInspector" {
            // istiod: `xds/filters/filters.go: TLSInspector`.
            let kind = format!("{LISTENER_FILTERS}.{name}.v3.{kind}");
            out.set("typed_config", json!({"@type": kind, "initial_read_buffer_size": 512}));
        }
        out.set_some("filter_disabled", filter_disabled(disabled));
        out
    };
    let mut out = Vec::new();
    if loopback || filters.proxy_protocol {
        out.push(filter("proxy_protocol", "ProxyProtocol"));
    }
    // The PROXY protocol takes the place of what iptables did. A listener with `use_original_dst` needs no filter for it.
    if filters.original_dst && !loopback {
        out.push(filter("original_dst", "OriginalDst"));
    }
    if filters.original_src && !loopback {
        let mut source = filter("original_src", "OriginalSrc");
        // istiod: `listener_inbound.go: the mark of TPROXY`.
        source.set(
            "typed_config",
            json!({"@type": format!("{LISTENER_FILTERS}.original_src.v3.OriginalSrc"), "mark": 1337}),
        );
        out.push(source);
    }
    if filters.tls_inspector {
        out.push(inspector("tls_inspector", "TlsInspector", &filters.tls_inspector_disabled));
    }
    if filters.http_inspector {
        out.push(inspector("http_inspector", "HttpInspector", &filters.http_inspector_disabled));
    }
    out.into_iter().map(Value::from).collect()
}

/// `config.listener.v3.ListenerFilterChainMatchPredicate`; `None` when the filter always runs.
fn filter_disabled(disabled: &FilterDisabled) -> Option<Value> {
    let any = |ports: &[u16]| {
        let mut rules: Vec<Value> = ports
            .iter()
            .map(|port| json!({"destination_port_range": {"start": port, "end": u32::from(*port) + 1}}))
            .collect();
        match (rules.len(), rules.pop()) {
            (_, None) => json!({"not_match": {"any_match": true}}),
            (1, Some(only)) => only,
            (_, Some(last)) => {
                rules.push(last);
                json!({"or_match": {"rules": rules}})
            }
        }
    };
    match disabled {
        FilterDisabled::Never => None,
        FilterDisabled::On(ports) => Some(any(ports)),
        FilterDisabled::Except(ports) => Some(json!({"not_match": any(ports)})),
    }
}

fn filter_chain(writer: &Writer<'_>, listener: &Listener, chain: &FilterChain, routes: Routes) -> Value {
    let mut filters: Vec<Value> = chain
        .access_filters
        .iter()
        .filter_map(|filter| match filter {
            AccessFilter::Rbac(config) => Some(rbac::network(config)),
            AccessFilter::Opaque { name, .. } => {
                writer.leave_out(format!("network filter {name}: its effect is not modelled"));
                None
            }
        })
        .collect();
    if let NetworkFilter::TcpProxy(proxy) = &chain.terminal {
        filters.extend(proxy.mongo_proxy.then(|| mongo_proxy(proxy)));
        filters.extend(proxy.sni_forward_proxy.and_then(|port| sni_forward_proxy(writer, proxy, port)));
    }
    filters.push(match &chain.terminal {
        NetworkFilter::HttpConnectionManager(manager) => {
            http::connection_manager(writer, &listener.name, manager, routes)
        }
        NetworkFilter::TcpProxy(proxy) => tcp_proxy(writer, proxy),
    });
    let mut out = Object::new();
    out.set_nonempty("filter_chain_match", filter_chain_match(&chain.filter_chain_match));
    out.set("filters", filters);
    if let Some(context) = &chain.transport_socket {
        out.set("transport_socket", downstream_tls(writer, context));
    }
    // Slow handshakes are not waited for. istiod: `listener.go: gatewayTransportSocketConnectTimeout`.
    let redirects = listener.use_original_dst || chain.name == "PassthroughFilterChain";
    if listener.traffic_direction == TrafficDirection::Outbound && !redirects {
        out.set("transport_socket_connect_timeout", "15s");
    }
    out.set_nonempty("name", chain.name.as_str());
    metadata::set(&mut out, metadata::of_config(chain.config.as_ref()));
    out.into()
}

fn filter_chain_match(condition: &FilterChainMatch) -> Object {
    let cidrs =
        |list: &[ipnet::IpNet]| -> Vec<Value> { list.iter().map(|net| matching::cidr(*net)).collect() };
    let mut out = Object::new();
    out.set_some("destination_port", condition.destination_port);
    out.set_nonempty("prefix_ranges", cidrs(&condition.prefix_ranges));
    match condition.source_type {
        ConnectionSourceType::Any => {}
        ConnectionSourceType::SameIpOrLoopback => out.set("source_type", "SAME_IP_OR_LOOPBACK"),
        ConnectionSourceType::External => out.set("source_type", "EXTERNAL"),
    }
    out.set_nonempty("source_prefix_ranges", cidrs(&condition.source_prefix_ranges));
    out.set_nonempty("server_names", texts(&condition.server_names));
    out.set_some(
        "transport_protocol",
        condition.transport_protocol.map(|transport| match transport {
            TransportProtocol::RawBuffer => "raw_buffer",
            TransportProtocol::Tls => "tls",
            TransportProtocol::Quic => "quic",
        }),
    );
    out.set_nonempty("application_protocols", texts(&condition.application_protocols));
    out
}

/// istiod: `networkfilter.go: buildMongoFilter`.
fn mongo_proxy(proxy: &TcpProxy) -> Value {
    let mut out = Object::typed(MONGO_PROXY);
    out.set("stat_prefix", proxy.stat_prefix.as_str());
    json!({"name": "envoy.filters.network.mongo_proxy", "typed_config": Value::from(out)})
}

/// istiod: `networkfilter.go: buildSNIDFPFilter`.
fn sni_forward_proxy(writer: &Writer<'_>, proxy: &TcpProxy, port: u16) -> Option<Value> {
    let name = "envoy.extensions.filters.network.sni_dynamic_forward_proxy";
    if writer.loopback.is_some() {
        writer.leave_out(format!("network filter {name}: hosts are not resolved on one machine"));
        return None;
    }
    let host = proxy.clusters.first().and_then(|cluster| super::cluster::cache_of(&cluster.name));
    let mut out = Object::typed(SNI_FORWARD_PROXY);
    out.set("dns_cache_config", super::cluster::dns_cache(writer, host));
    out.set("port_value", port);
    Some(json!({"name": name, "typed_config": Value::from(out)}))
}

fn tcp_proxy(writer: &Writer<'_>, proxy: &TcpProxy) -> Value {
    let mut out = Object::typed(TCP_PROXY);
    let name = proxy.clusters.first().map_or("", |cluster| cluster.name.as_str());
    out.set("stat_prefix", if proxy.stat_prefix.is_empty() { name } else { &proxy.stat_prefix });
    if let [only] = proxy.clusters.as_slice() {
        out.set("cluster", only.name.as_str());
    } else {
        let clusters: Vec<Value> =
            proxy.clusters.iter().map(|c| json!({"name": c.name, "weight": c.weight})).collect();
        out.set("weighted_clusters", json!({"clusters": clusters}));
    }
    out.set_some("idle_timeout", proxy.tuning.idle_timeout.map(duration));
    out.set_some(
        "max_downstream_connection_duration",
        proxy.tuning.max_downstream_connection_duration.map(duration),
    );
    if proxy.tuning.hash_source_ip {
        out.set("hash_policy", json!([{"source_ip": {}}]));
    }
    if let Some(config) = &proxy.tunneling_config {
        let mut tunnel = Object::new();
        tunnel.set("hostname", config.hostname.as_str());
        tunnel.set_nonempty("use_post", config.use_post);
        out.set("tunneling_config", tunnel);
    }
    out.set_some("access_log", writer.loopback.and_then(|l| l.access_log()).map(http::access_log));
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": Value::from(out)})
}

fn downstream_tls(writer: &Writer<'_>, context: &DownstreamTlsContext) -> Value {
    let mut common = Object::new();
    if let Some(parameters) = &context.tls_params {
        common
            .set("tls_params", tls_params(parameters.minimum, parameters.maximum, &parameters.cipher_suites));
    }
    common.set_nonempty("alpn_protocols", texts(&context.alpn_protocols));
    let names: Vec<Value> = context
        .match_subject_alt_names
        .iter()
        // istiod: `security/utils.go: StringToSpecificMatch`.
        .map(|name| match (name.0.strip_prefix('*'), name.0.strip_suffix('*')) {
            (Some(suffix), _) if !suffix.is_empty() => json!({"suffix": suffix}),
            (_, Some(prefix)) if !prefix.is_empty() => json!({"prefix": prefix}),
            (_, _) => json!({"exact": name.0}),
        })
        .collect();
    let asks = context.client_certificate != ClientCertificate::None;
    match writer.loopback.and_then(|loopback| loopback.certificates()) {
        Some(files) => {
            set_certificate_files(&mut common, files);
            if asks {
                set_validation_file(&mut common, names, files);
            }
        }
        None => {
            let certificates = std::iter::once(&context.secret_name).chain(&context.more_secret_names);
            let secrets: Vec<Value> = certificates.map(|name| sds(writer, name)).collect();
            common.set("tls_certificate_sds_secret_configs", secrets);
            if asks {
                set_validation(writer, &mut common, names, &context.authority);
            }
        }
    }
    let mut out = Object::typed(DOWNSTREAM_TLS);
    out.set("common_tls_context", common);
    out.set("require_client_certificate", context.client_certificate == ClientCertificate::Required);
    json!({"name": "envoy.transport_sockets.tls", "typed_config": Value::from(out)})
}
