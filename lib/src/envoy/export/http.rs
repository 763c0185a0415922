//! HTTP connection managers and their filters.

use serde_json::{Value, json};

use super::json::{Object, duration, percent};
use super::{Routes, Writer, matching, rbac, route};
use crate::envoy::config::{
    EscapedSlashes, ForwardClientCertDetails, HeadersWithUnderscores, HttpConnectionManager, HttpFilter,
    RouteSpecifier, ServerHeaderTransformation, Tracing,
};

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";
const PRESERVE_CASE: &str = "type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig";

/// The network filter of an HTTP connection manager.
pub(super) fn connection_manager(
    writer: &Writer<'_>,
    listener: &str,
    manager: &HttpConnectionManager,
    routes: Routes,
) -> Value {
    let mut out = Object::typed(MANAGER);
    out.set("stat_prefix", if manager.stat_prefix.is_empty() { listener } else { &manager.stat_prefix });
    match &manager.route_specifier {
        RouteSpecifier::Inline(config) => {
            out.set("route_config", route::route_configuration(writer, config));
        }
        RouteSpecifier::Rds(name) => {
            let known = writer.snapshot.route_configurations.iter().find(|c| c.name == *name);
            match (routes, known) {
                (Routes::InPlace, Some(config)) if writer.is_taken(config) => {
                    out.set("route_config", route::route_configuration(writer, config));
                }
                (Routes::InPlace, known) => {
                    if known.is_none() {
                        writer.leave_out(format!("route configuration {name}: the proxy is not told of it"));
                    }
                    out.set("route_config", json!({"name": name}));
                }
                (Routes::ByName, _) => out.set("rds", json!({
                    "config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
                    "route_config_name": name,
                })),
            }
        }
    }
    for patch in manager.patches.iter().filter(|patch| patch.partly) {
        writer.leave_out(format!("EnvoyFilter {}: not all of it", patch.name));
    }
    out.set("http_filters", filters(writer, manager));
    out.set_some("tracing", manager.tracing.as_ref().map(|tracing| self::tracing(writer, tracing)));
    http1(&mut out, manager);
    limits(&mut out, manager);
    out.set_nonempty("server_name", manager.server_name.as_str());
    match manager.server_header_transformation {
        ServerHeaderTransformation::Overwrite => {}
        ServerHeaderTransformation::AppendIfAbsent => {
            out.set("server_header_transformation", "APPEND_IF_ABSENT");
        }
        ServerHeaderTransformation::PassThrough => out.set("server_header_transformation", "PASS_THROUGH"),
    }
    out.set("use_remote_address", manager.use_remote_address);
    out.set_nonempty("xff_num_trusted_hops", manager.xff_num_trusted_hops);
    out.set_nonempty("skip_xff_append", manager.skip_xff_append);
    if !manager.internal_addresses.is_empty() {
        let ranges: Vec<Value> = manager.internal_addresses.iter().map(|net| matching::cidr(*net)).collect();
        out.set("internal_address_config", json!({"cidr_ranges": ranges}));
    }
    client_certificate(&mut out, manager);
    out.set("generate_request_id", manager.generate_request_id);
    out.set_nonempty("preserve_external_request_id", manager.preserve_external_request_id);
    out.set_nonempty("always_set_request_id_in_response", manager.always_set_request_id_in_response);
    if manager.max_request_headers_kb != HttpConnectionManager::MAX_REQUEST_HEADERS_KB {
        out.set("max_request_headers_kb", manager.max_request_headers_kb);
    }
    out.set("normalize_path", manager.normalize_path);
    out.set_nonempty("merge_slashes", manager.merge_slashes);
    out.set(
        "path_with_escaped_slashes_action",
        match manager.path_with_escaped_slashes_action {
            EscapedSlashes::KeepUnchanged => "KEEP_UNCHANGED",
            EscapedSlashes::UnescapeAndForward => "UNESCAPE_AND_FORWARD",
            EscapedSlashes::UnescapeAndRedirect => "UNESCAPE_AND_REDIRECT",
            EscapedSlashes::RejectRequest => "REJECT_REQUEST",
        },
    );
    out.set_nonempty("append_x_forwarded_port", manager.append_x_forwarded_port);
    out.set("proxy_100_continue", true);
    let upgrades: Vec<Value> =
        manager.upgrade_types.iter().map(|kind| json!({"upgrade_type": kind})).collect();
    out.set_nonempty("upgrade_configs", upgrades);
    out.set_some("access_log", writer.loopback.and_then(|l| l.access_log()).map(access_log));
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": Value::from(out)})
}

/// istiod: `connection_settings.go: applyConnectionSettingsToHCM`.
fn limits(out: &mut Object, manager: &HttpConnectionManager) {
    let own = manager.limits.as_deref().cloned().unwrap_or_default();
    let mut common = Object::new();
    common.set_some("idle_timeout", own.idle_timeout.map(duration));
    common.set_some("max_connection_duration", own.max_connection_duration.map(duration));
    common.set_some("max_stream_duration", own.max_stream_duration.map(duration));
    match manager.headers_with_underscores_action {
        HeadersWithUnderscores::Allow => {}
        HeadersWithUnderscores::RejectRequest => {
            common.set("headers_with_underscores_action", "REJECT_REQUEST");
        }
        HeadersWithUnderscores::DropHeader => common.set("headers_with_underscores_action", "DROP_HEADER"),
    }
    out.set_nonempty("common_http_protocol_options", common);
    let mut http2 = Object::new();
    http2.set_some("max_concurrent_streams", own.max_concurrent_streams);
    http2.set_some("initial_stream_window_size", own.initial_stream_window_size);
    http2.set_some("initial_connection_window_size", own.initial_connection_window_size);
    out.set_nonempty("http2_protocol_options", http2);
    // Nothing but a limit that is written ends a request to which nothing happens.
    out.set("stream_idle_timeout", duration(own.stream_idle_timeout.unwrap_or_default()));
    out.set_some("request_timeout", own.request_timeout.map(duration));
    out.set_some("request_headers_timeout", own.request_headers_timeout.map(duration));
    out.set_some("drain_timeout", own.drain_timeout.map(duration));
}

fn http1(out: &mut Object, manager: &HttpConnectionManager) {
    let mut options = Object::new();
    options.set_nonempty("accept_http_10", manager.accept_http_10);
    if manager.preserve_header_case {
        options.set(
            "header_key_format",
            json!({"stateful_formatter": {
                "name": "preserve_case",
                "typed_config": {"@type": PRESERVE_CASE, "forward_reason_phrase": false},
            }}),
        );
    }
    if !options.is_empty() {
        out.set("http_protocol_options", options);
    }
}

fn client_certificate(out: &mut Object, manager: &HttpConnectionManager) {
    let details = match manager.forward_client_cert_details {
        ForwardClientCertDetails::Sanitize => return,
        ForwardClientCertDetails::ForwardOnly => "FORWARD_ONLY",
        ForwardClientCertDetails::AppendForward => "APPEND_FORWARD",
        ForwardClientCertDetails::SanitizeSet => "SANITIZE_SET",
        ForwardClientCertDetails::AlwaysForwardOnly => "ALWAYS_FORWARD_ONLY",
    };
    out.set("forward_client_cert_details", details);
    let parts = manager.set_current_client_cert_details;
    let mut set = Object::new();
    if parts.subject {
        set.set("subject", true);
    }
    set.set_nonempty("cert", parts.cert);
    set.set_nonempty("chain", parts.chain);
    set.set_nonempty("dns", parts.dns);
    set.set_nonempty("uri", parts.uri);
    if !set.is_empty() {
        out.set("set_current_client_cert_details", set);
    }
}

fn tracing(writer: &Writer<'_>, tracing: &Tracing) -> Value {
    if tracing.provider.is_some() {
        writer.leave_out("the tracing provider: spans have nowhere to go");
    }
    let mut out = Object::new();
    out.set("client_sampling", percent(100));
    out.set("random_sampling", percent(f64::from(tracing.random_sampling) / 100.0));
    out.set("overall_sampling", percent(100));
    if tracing.spawn_upstream_span {
        out.set("spawn_upstream_span", true);
    }
    out.set_nonempty("no_context_propagation", tracing.disable_context_propagation);
    out.into()
}

fn filters(writer: &Writer<'_>, manager: &HttpConnectionManager) -> Vec<Value> {
    let mut out: Vec<Value> = manager.http_filters.iter().filter_map(|f| filter(writer, f)).collect();
    let mut router = Object::typed(&format!("{FILTERS}.router.v3.Router"));
    router.set_nonempty("suppress_envoy_headers", manager.suppress_envoy_headers);
    out.push(json!({"name": "envoy.filters.http.router", "typed_config": Value::from(router)}));
    out
}

fn filter(writer: &Writer<'_>, filter: &HttpFilter) -> Option<Value> {
    let plain = |name: &str, kind: &str| {
        Some(json!({"name": name, "typed_config": {"@type": format!("{FILTERS}.{kind}")}}))
    };
    match filter {
        HttpFilter::Fault => plain("envoy.filters.http.fault", "fault.v3.HTTPFault"),
        HttpFilter::Cors => plain("envoy.filters.http.cors", "cors.v3.Cors"),
        HttpFilter::GrpcWeb => plain("envoy.filters.http.grpc_web", "grpc_web.v3.GrpcWeb"),
        HttpFilter::DynamicForwardProxy(_) if writer.loopback.is_some() => {
            writer.leave_out(
                "HTTP filter envoy.filters.http.dynamic_forward_proxy: hosts are not resolved on one machine",
            );
            None
        }
        HttpFilter::DynamicForwardProxy(host) => Some(json!({
            "name": "envoy.filters.http.dynamic_forward_proxy",
            "typed_config": {
                "@type": format!("{FILTERS}.dynamic_forward_proxy.v3.FilterConfig"),
                "dns_cache_config": super::cluster::dns_cache(writer, host.as_deref()),
            },
        })),
        HttpFilter::NoEffect(name) if name == "envoy.filters.http.grpc_stats" => Some(json!({
            "name": name,
            "typed_config": {
                "@type": format!("{FILTERS}.grpc_stats.v3.FilterConfig"),
                "emit_filter_state": true,
                "stats_for_all_methods": false,
            },
        })),
        HttpFilter::NoEffect(name) => {
            writer.leave_out(format!("HTTP filter {name}: Istio's own, without effect on where requests go"));
            None
        }
        HttpFilter::PeerMetadata => {
            writer.leave_out(
                "HTTP filter istio.metadata_exchange: Istio's own; x-envoy-peer-metadata is absent",
            );
            None
        }
        HttpFilter::Rbac(config) => Some(rbac::http(config)),
        HttpFilter::JwtAuthn(config) => rbac::jwt_authn(writer, config),
        HttpFilter::Opaque { name, .. } => {
            writer.leave_out(format!("HTTP filter {name}: its effect is not modelled"));
            None
        }
    }
}

/// An access log of one JSON object a line, with what a decision is compared by.
pub(super) fn access_log(path: &str) -> Value {
    json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"json_format": {
                "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
                "connection": "%CONNECTION_ID%",
                "listener": format!("%METADATA(LISTENER:{}:name)%", route::METADATA),
                "filter_chain": "%FILTER_CHAIN_NAME%",
                "route_config": format!("%METADATA(VIRTUAL_HOST:{}:route_config)%", route::METADATA),
                "virtual_host": format!("%METADATA(VIRTUAL_HOST:{}:name)%", route::METADATA),
                "route_index": format!("%METADATA(ROUTE:{}:index)%", route::METADATA),
                "route": "%ROUTE_NAME%",
                "cluster": "%UPSTREAM_CLUSTER_RAW%",
                "status": "%RESPONSE_CODE%",
                "flags": "%RESPONSE_FLAGS%",
                "details": "%RESPONSE_CODE_DETAILS%",
                "tls_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
                "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
                "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
            }},
        },
    }])
}
