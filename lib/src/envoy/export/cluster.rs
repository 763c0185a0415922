//! Clusters, endpoints, TLS towards endpoints.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::json::{Object, duration, percent, texts};
use super::tls::{sds, set_certificate_files, set_validation, set_validation_file, tls_params};
use super::{Endpoints, Writer, metadata, socket_address, tuning};
use crate::envoy::config::{
    Cluster, DiscoveryType, EndpointAddress, HealthStatus, LbEndpoint, LocalityEndpoints,
    ProxyProtocolVersion, UpstreamProtocol, UpstreamTlsContext, UpstreamTlsMode, UpstreamTransport,
};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const UPSTREAM_TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const UPSTREAM_PROXY_PROTOCOL: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
const RAW_BUFFER: &str = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
const CARES: &str =
    "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";
const FORWARD_PROXY: &str =
    "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig";

/// `config.cluster.v3.Cluster`.
pub(super) fn cluster(writer: &Writer<'_>, cluster: &Cluster, endpoints: Endpoints) -> Value {
    let mut out = Object::new();
    out.set("name", cluster.name.as_str());
    discovery(writer, &mut out, cluster, endpoints);
    out.set("connect_timeout", duration(cluster.connect_timeout));
    // A cluster that has no endpoints by design is told nothing more.
    let nobody =
        cluster.discovery_type == DiscoveryType::Static && cluster.load_assignment.endpoints.is_empty();
    if !nobody {
        out.set("circuit_breakers", json!({"thresholds": [Value::from(thresholds(cluster))]}));
    }
    if let Some(limits) = cluster.outlier_detection {
        if writer.loopback.is_some() {
            writer.leave_out(format!("outlier detection of cluster {}", cluster.name));
        } else {
            out.set("outlier_detection", tuning::outlier_detection(limits));
        }
    }
    if let Some(tuning) = &cluster.tuning {
        tuning::set(&mut out, tuning);
    }
    let patches = cluster.patches.iter().filter(|patch| patch.partly).chain(&cluster.opaque);
    for patch in patches {
        writer.leave_out(format!("EnvoyFilter {} of cluster {}: not all of it", patch.name, cluster.name));
    }
    let transport = writer.loopback.is_none_or(|l| l.certificates().is_some() && l.keeps_tls(cluster));
    if transport {
        transport_sockets(writer, &mut out, &cluster.transport);
    } else if cluster.transport != UpstreamTransport::Plaintext {
        writer.leave_out(format!("TLS of cluster {}: its stand-ins speak plaintext", cluster.name));
    }
    if let Some(config) = &cluster.proxy_protocol {
        if writer.loopback.is_some() {
            let what = format!("PROXY protocol of cluster {}: its stand-ins do not read it", cluster.name);
            writer.leave_out(what);
        } else {
            announce(&mut out, config.version);
        }
    }
    http_options(&mut out, cluster, transport);
    if let Some(address) = cluster.upstream_bind_config.filter(|_| writer.loopback.is_none()) {
        out.set(
            "upstream_bind_config",
            bind_config(
                address,
                cluster.tuning.as_ref().map_or(&[], |tuning| &tuning.extra_source_addresses),
            ),
        );
    }
    let mut balancing = Object::new();
    balancing.set_some("healthy_panic_threshold", cluster.healthy_panic_threshold.map(percent));
    if cluster.locality_weighted {
        balancing.set("locality_weighted_lb_config", json!({}));
    }
    // Istio's own clusters are told nothing of it. istiod: `cluster_builder.go: buildCluster`.
    let of_service =
        cluster.name.contains('|') && cluster.discovery_type != DiscoveryType::DynamicForwardProxy;
    if of_service || !balancing.is_empty() {
        out.set("common_lb_config", balancing);
    }
    metadata::set(&mut out, metadata::of_cluster(&cluster.metadata));
    out.into()
}

/// The limits of `config.cluster.v3.CircuitBreakers`.
fn thresholds(cluster: &Cluster) -> Object {
    let limits = cluster.circuit_breakers;
    let mut out = Object::new();
    out.set("max_connections", limits.max_connections);
    out.set("max_pending_requests", limits.max_pending_requests);
    out.set("max_requests", limits.max_requests);
    out.set("max_retries", limits.max_retries);
    let budget = cluster.tuning.as_ref().and_then(|tuning| tuning.retry_budget);
    out.set_some("retry_budget", budget.map(tuning::retry_budget));
    out
}

/// `config.core.v3.BindConfig`.
fn bind_config(address: IpAddr, more: &[IpAddr]) -> Object {
    let socket = |address: &IpAddr| json!({"address": address.to_string(), "port_value": 0});
    let mut out = Object::new();
    out.set("source_address", socket(&address));
    let more: Vec<Value> = more.iter().map(|address| json!({"address": socket(address)})).collect();
    out.set_nonempty("extra_source_addresses", more);
    out
}

fn discovery(writer: &Writer<'_>, out: &mut Object, cluster: &Cluster, endpoints: Endpoints) {
    let by_name = endpoints == Endpoints::ByName;
    let discovered = by_name && cluster.discovery_type == DiscoveryType::Eds;
    if let Some(loopback) = writer.loopback.filter(|_| !discovered) {
        let original =
            matches!(cluster.discovery_type, DiscoveryType::OriginalDst | DiscoveryType::DynamicForwardProxy);
        match loopback.original_destination(cluster).filter(|_| original) {
            Some(at) => {
                out.set("type", "STATIC");
                out.set("load_assignment", one_endpoint(&cluster.name, at));
                return;
            }
            None if !original => {
                out.set("type", "STATIC");
                lb_policy(out, cluster);
                out.set("load_assignment", load_assignment(writer, cluster));
                return;
            }
            None => {}
        }
    }
    match cluster.discovery_type {
        DiscoveryType::Eds if by_name => {
            out.set("type", "EDS");
            out.set(
                "eds_cluster_config",
                json!({
                    "eds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
                    "service_name": cluster.name,
                }),
            );
        }
        // A file has nobody to ask for endpoints, so it holds them.
        DiscoveryType::Eds | DiscoveryType::Static => {
            let named = |e: &LbEndpoint| matches!(e.address, EndpointAddress::Name(..));
            let names = cluster.load_assignment.endpoints.iter().any(|l| l.lb_endpoints.iter().any(named));
            out.set("type", if names { "STRICT_DNS" } else { "STATIC" });
            let nobody = by_name && cluster.load_assignment.endpoints.is_empty();
            if !nobody {
                out.set("load_assignment", load_assignment(writer, cluster));
            }
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let strict = cluster.discovery_type == DiscoveryType::StrictDns;
            out.set("type", if strict { "STRICT_DNS" } else { "LOGICAL_DNS" });
            out.set("dns_lookup_family", writer.snapshot.dns_lookup_family);
            out.set("dns_refresh_rate", duration(writer.snapshot.dns_refresh_rate));
            // istiod: `features.PilotDNSJitterDurationEnv, PilotDNSCaresUDPMaxQueries`.
            out.set("dns_jitter", "0.100s");
            out.set(
                "typed_dns_resolver_config",
                json!({
                    "name": "envoy.network.dns_resolver.cares",
                    "typed_config": {"@type": CARES, "udp_max_queries": 100},
                }),
            );
            out.set("respect_dns_ttl", true);
            out.set("load_assignment", load_assignment(writer, cluster));
        }
        DiscoveryType::OriginalDst => {
            out.set("type", "ORIGINAL_DST");
            out.set_some(
                "original_dst_lb_config",
                cluster.original_dst_port_override.map(|port| json!({"upstream_port_override": port})),
            );
        }
        DiscoveryType::DynamicForwardProxy => {
            let mut config = Object::typed(FORWARD_PROXY);
            config.set("dns_cache_config", dns_cache(writer, cache_of(&cluster.name)));
            config.set_nonempty("allow_insecure_cluster_options", may_be_insecure(cluster));
            out.set(
                "cluster_type",
                json!({"name": "envoy.clusters.dynamic_forward_proxy", "typed_config": Value::from(config)}),
            );
        }
    }
    lb_policy(out, cluster);
}

fn lb_policy(out: &mut Object, cluster: &Cluster) {
    // The default is not written.
    if !matches!(cluster.lb_policy, "" | "ROUND_ROBIN") {
        out.set("lb_policy", cluster.lb_policy);
    }
}

/// The host whose names a cluster resolves; `None` for those that no service has.
pub(super) fn cache_of(cluster: &str) -> Option<&str> {
    cluster.rsplit_once('|').map(|(_, host)| host)
}

/// The cache of names that a forward proxy resolves; filter and cluster have to agree on it.
///
/// istiod: `push_context.go: BuildDNSCacheName`; `cluster_builder.go: buildAllowAnyDynamicDNSDNSCacheConfig`.
pub(super) fn dns_cache(writer: &Writer<'_>, host: Option<&str>) -> Value {
    let mut out = Object::new();
    match host {
        Some(host) => out.set("name", format!("{host}_dfp_dns_cache")),
        None => {
            out.set("name", "allow_any_dfp_dns_cache");
            out.set("max_hosts", 1024);
        }
    }
    out.set("dns_lookup_family", writer.snapshot.dns_lookup_family);
    out.into()
}

/// Whether Envoy is told not to insist that who answers is checked. istiod: `cluster_builder.go:
/// buildAllowAnyDFPCluster`, `cluster_tls.go: setAutoSniAndAutoSanValidation`.
fn may_be_insecure(cluster: &Cluster) -> bool {
    match &cluster.transport {
        // The mesh's own cluster follows the client's protocol; those of ServiceEntries have their port's.
        UpstreamTransport::Plaintext => cluster.protocol == UpstreamProtocol::Downstream,
        UpstreamTransport::Tls(context) | UpstreamTransport::Auto(context) => {
            !(context.auto_sni && context.auto_san_validation)
        }
    }
}

fn one_endpoint(cluster: &str, at: SocketAddr) -> Value {
    json!({
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [Value::from(endpoint_at(at))]}],
    })
}

/// An endpoint of which only the address is known.
pub(super) fn endpoint_at(at: SocketAddr) -> Object {
    let mut out = Object::new();
    out.set("endpoint", json!({"address": socket_address(at.ip().to_string(), at.port())}));
    out
}

/// `config.endpoint.v3.ClusterLoadAssignment`.
pub(super) fn load_assignment(writer: &Writer<'_>, cluster: &Cluster) -> Value {
    let localities: Vec<Value> =
        cluster.load_assignment.endpoints.iter().map(|group| locality(writer, cluster, group)).collect();
    let mut out = Object::new();
    out.set("cluster_name", cluster.name.as_str());
    out.set_nonempty("endpoints", localities);
    out.into()
}

fn locality(writer: &Writer<'_>, cluster: &Cluster, group: &LocalityEndpoints) -> Value {
    let members: Vec<Value> = group
        .lb_endpoints
        .iter()
        .filter_map(|endpoint| lb_endpoint(writer, cluster, endpoint))
        .map(Value::from)
        .collect();
    let mut out = Object::new();
    out.set("locality", place(group));
    out.set_nonempty("lb_endpoints", members);
    out.set_nonempty("load_balancing_weight", group.load_balancing_weight);
    out.set_nonempty("priority", group.priority);
    out.into()
}

/// `config.core.v3.Locality`.
pub(super) fn place(group: &LocalityEndpoints) -> Object {
    let mut parts = group.locality.split('/');
    let mut out = Object::new();
    out.set_nonempty("region", parts.next().unwrap_or_default());
    out.set_nonempty("zone", parts.next().unwrap_or_default());
    out.set_nonempty("sub_zone", parts.next().unwrap_or_default());
    out
}

/// `config.endpoint.v3.LbEndpoint`; `None` for one without a stand-in.
pub(super) fn lb_endpoint(writer: &Writer<'_>, cluster: &Cluster, endpoint: &LbEndpoint) -> Option<Object> {
    let address = match writer.loopback {
        Some(loopback) => {
            let at = loopback.endpoint(cluster, &endpoint.address)?;
            socket_address(at.ip().to_string(), at.port())
        }
        None => match &endpoint.address {
            EndpointAddress::Socket(ip, port) => socket_address(ip.to_string(), *port),
            EndpointAddress::Name(name, port) => socket_address(name.as_str(), *port),
            EndpointAddress::Pipe(path) => json!({"pipe": {"path": path.trim_start_matches("unix://")}}),
        },
    };
    let mut body = Object::new();
    body.set("address", address);
    // `auto_host_rewrite` takes the name from here. istiod: `endpoint_builder.go: buildEnvoyLbEndpoint`.
    if let (EndpointAddress::Name(name, _), true) = (&endpoint.address, writer.loopback.is_some()) {
        body.set("hostname", name.as_str());
    }
    let mut out = Object::new();
    out.set("endpoint", body);
    match endpoint.health_status {
        HealthStatus::Healthy => {}
        HealthStatus::Unhealthy => out.set("health_status", "UNHEALTHY"),
        HealthStatus::Draining => out.set("health_status", "DRAINING"),
    }
    if endpoint.istio_mutual {
        out.set(
            "metadata",
            json!({"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}}),
        );
    }
    out.set_nonempty("load_balancing_weight", endpoint.load_balancing_weight);
    Some(out)
}

fn transport_sockets(writer: &Writer<'_>, out: &mut Object, transport: &UpstreamTransport) {
    match transport {
        UpstreamTransport::Plaintext => {}
        UpstreamTransport::Tls(context) => out.set("transport_socket", upstream_tls(writer, context)),
        UpstreamTransport::Auto(context) => out.set(
            "transport_socket_matches",
            json!([
                {
                    "name": "tlsMode-istio",
                    "match": {"tlsMode": "istio"},
                    "transport_socket": upstream_tls(writer, context),
                },
                {
                    "name": "tlsMode-disabled",
                    "match": {},
                    "transport_socket": raw_buffer(),
                },
            ]),
        ),
    }
}

/// Wraps each way to speak to endpoints in the PROXY protocol. istiod: `cluster_traffic_policy.go: applyUpstreamProxyProtocol`.
fn announce(out: &mut Object, version: ProxyProtocolVersion) {
    let wrapped = |socket: Value| {
        let version = match version {
            ProxyProtocolVersion::V1 => json!({}),
            ProxyProtocolVersion::V2 => json!({"version": "V2"}),
        };
        json!({
            "name": "envoy.transport_sockets.upstream_proxy_protocol",
            "typed_config": {"@type": UPSTREAM_PROXY_PROTOCOL, "config": version, "transport_socket": socket},
        })
    };
    if let Some(socket) = out.get_mut("transport_socket") {
        *socket = wrapped(socket.take());
    } else if let Some(Value::Array(matches)) = out.get_mut("transport_socket_matches") {
        for socket in matches.iter_mut().filter_map(|one| one.get_mut("transport_socket")) {
            *socket = wrapped(socket.take());
        }
    } else {
        out.set("transport_socket", wrapped(raw_buffer()));
    }
}

fn raw_buffer() -> Value {
    json!({"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": RAW_BUFFER}})
}

fn upstream_tls(writer: &Writer<'_>, context: &UpstreamTlsContext) -> Value {
    let mut common = Object::new();
    common.set("tls_params", tls_params(Some("TLSv1_2"), Some("TLSv1_3"), &[]));
    let names: Vec<Value> = context.subject_alt_names.iter().map(|name| json!({"exact": name})).collect();
    let files = writer.loopback.and_then(|loopback| loopback.certificates());
    let own = context.mode != UpstreamTlsMode::Simple;
    if let Some(files) = files {
        if own {
            set_certificate_files(&mut common, files);
        }
        if !context.insecure_skip_verify {
            set_validation_file(&mut common, names, files);
        }
    } else {
        if !context.certificate.is_empty() {
            common.set("tls_certificate_sds_secret_configs", json!([sds(writer, &context.certificate)]));
        }
        if !context.insecure_skip_verify {
            set_validation(writer, &mut common, names, &context.authority);
        }
    }
    common.set_nonempty("alpn_protocols", texts(&context.alpn_protocols));
    let mut out = Object::typed(UPSTREAM_TLS);
    out.set("common_tls_context", common);
    out.set_nonempty("sni", context.sni.as_str());
    json!({"name": "envoy.transport_sockets.tls", "typed_config": Value::from(out)})
}

fn http_options(out: &mut Object, cluster: &Cluster, tls: bool) {
    let common = cluster.tuning.as_ref().map(|tuning| tuning::common_http(tuning)).unwrap_or_default();
    let codes = cluster.tuning.as_ref().map_or(&[][..], |tuning| &tuning.outlier_error_codes);
    let context = match &cluster.transport {
        UpstreamTransport::Tls(context) | UpstreamTransport::Auto(context) if tls => Some(context),
        _ => None,
    };
    let follows_host = context.filter(|context| context.auto_sni || context.auto_san_validation);
    let says_nothing = common.is_empty() && codes.is_empty() && follows_host.is_none();
    if says_nothing && cluster.protocol == UpstreamProtocol::Http1 {
        // Nothing says anything of HTTP; a forward proxy's own defaults would even check who answers.
        return;
    }
    let mut options = Object::typed(&format!("type.googleapis.com/{HTTP_OPTIONS}"));
    match cluster.protocol {
        UpstreamProtocol::Http1 => {
            options.set("explicit_http_config", json!({"http_protocol_options": {}}));
        }
        UpstreamProtocol::Http2 => {
            let http2 = cluster.tuning.as_ref().map(|tuning| tuning::http2(tuning)).unwrap_or_default();
            options.set("explicit_http_config", json!({"http2_protocol_options": Value::from(http2)}));
        }
        UpstreamProtocol::Downstream => options.set(
            "use_downstream_protocol_config",
            json!({"http_protocol_options": {}, "http2_protocol_options": {}}),
        ),
    }
    if let Some(context) = follows_host {
        let mut upstream = Object::new();
        upstream.set_nonempty("auto_sni", context.auto_sni);
        upstream.set_nonempty("auto_san_validation", context.auto_san_validation);
        options.set("upstream_http_protocol_options", upstream);
    }
    options.set_nonempty("common_http_protocol_options", common);
    if !codes.is_empty() {
        options.set("outlier_detection", json!({"error_matcher": tuning::error_matcher(codes)}));
    }
    out.set("typed_extension_protocol_options", json!({HTTP_OPTIONS: Value::from(options)}));
}
