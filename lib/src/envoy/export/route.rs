//! Route configurations.

use serde_json::{Map, Value, json};

use super::Writer;
use super::json::{Object, duration, millionths, texts, wide};
use super::{matching, metadata};
use crate::envoy::config::{
    Action, AppendAction, ClusterSpecifier, CorsPolicy, DirectResponseAction, Fault, FaultAbort, HashPolicy,
    HeaderOperations, HostRewrite, PathRedirect, PathSpecifier, RedirectAction, RegexRewrite,
    RequestMirrorPolicy, RequireTls, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch,
    VirtualHost, WeightedCluster,
};

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
const CORS: &str = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy";
const PREVIOUS_PRIORITIES: &str =
    "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
const PREVIOUS_HOSTS: &str =
    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

/// The metadata namespace that names parts of the configuration to access logs.
pub(super) const METADATA: &str = "dryroute";

/// `config.route.v3.RouteConfiguration`.
pub(super) fn route_configuration(writer: &Writer<'_>, config: &RouteConfiguration) -> Value {
    let hosts: Vec<Value> =
        config.virtual_hosts.iter().map(|host| virtual_host(writer, &config.name, host)).collect();
    let mut out = Object::new();
    out.set("name", config.name.as_str());
    out.set_nonempty("virtual_hosts", hosts);
    headers(&mut out, &config.headers);
    out.set("validate_clusters", false);
    out.set_nonempty("ignore_port_in_host_matching", config.ignore_port_in_host_matching);
    out.set_some("max_direct_response_body_size_bytes", config.max_direct_response_body_size_bytes);
    out.into()
}

fn virtual_host(writer: &Writer<'_>, config: &str, host: &VirtualHost) -> Value {
    let routes: Vec<Value> =
        host.routes.iter().enumerate().map(|(index, route)| self::route(writer, index, route)).collect();
    let mut out = Object::new();
    out.set("name", host.name.as_str());
    out.set("domains", texts(&host.domains));
    out.set_nonempty("routes", routes);
    match host.require_tls {
        RequireTls::None => {}
        RequireTls::ExternalOnly => out.set("require_tls", "EXTERNAL_ONLY"),
        RequireTls::All => out.set("require_tls", "ALL"),
    }
    out.set_nonempty("include_request_attempt_count", host.include_request_attempt_count);
    headers(&mut out, &host.headers);
    if writer.loopback.is_some() {
        out.set(
            "metadata",
            json!({"filter_metadata": {METADATA: {"name": host.name, "route_config": config}}}),
        );
    }
    out.into()
}

fn route(writer: &Writer<'_>, index: usize, route: &Route) -> Value {
    let mut out = Object::new();
    out.set_nonempty("name", route.name.as_str());
    out.set("match", route_match(&route.route_match));
    match &route.action {
        Action::Route(action) => out.set("route", route_action(action)),
        Action::Redirect(action) => out.set("redirect", redirect(action)),
        Action::DirectResponse(action) => out.set("direct_response", direct_response(action)),
        Action::None => writer.leave_out(format!("the action of route {:?}: there is none", route.name)),
    }
    if let Some(operation) = &route.decorator {
        out.set("decorator", json!({"operation": operation}));
    }
    let mut filters = Map::new();
    if let Some(policy) = &route.cors {
        filters.insert("envoy.filters.http.cors".to_owned(), cors(policy));
    }
    if let Some(injected) = &route.fault {
        filters.insert("envoy.filters.http.fault".to_owned(), fault(injected));
    }
    out.set_nonempty("typed_per_filter_config", filters);
    headers(&mut out, &route.headers);
    let mut notes = metadata::of_config(route.config.as_ref());
    if writer.loopback.is_some() {
        notes.insert(METADATA.to_owned(), json!({"index": index.to_string()}));
    }
    metadata::set(&mut out, notes);
    out.into()
}

fn route_match(condition: &RouteMatch) -> Value {
    let mut out = Object::new();
    match &condition.path {
        PathSpecifier::Prefix(text) => out.set("prefix", text.as_str()),
        PathSpecifier::Path(text) => out.set("path", text.as_str()),
        PathSpecifier::SafeRegex(regex) => out.set("safe_regex", json!({"regex": regex.pattern()})),
        PathSpecifier::PathSeparatedPrefix(text) => out.set("path_separated_prefix", text.as_str()),
    }
    if !condition.case_sensitive {
        out.set("case_sensitive", false);
    }
    let headers: Vec<Value> = condition.headers.iter().map(matching::header).collect();
    let query: Vec<Value> = condition.query_parameters.iter().map(matching::query_parameter).collect();
    let metadata: Vec<Value> = condition.dynamic_metadata.iter().map(matching::metadata).collect();
    out.set_nonempty("headers", headers);
    out.set_nonempty("query_parameters", query);
    out.set_nonempty("dynamic_metadata", metadata);
    out.into()
}

fn route_action(action: &RouteAction) -> Value {
    let mut out = Object::new();
    match &action.cluster {
        ClusterSpecifier::Cluster(name) => out.set("cluster", name.as_str()),
        ClusterSpecifier::ClusterHeader(name) => out.set("cluster_header", name.as_str()),
        ClusterSpecifier::WeightedClusters(list) => {
            let clusters: Vec<Value> = list.iter().map(weighted_cluster).collect();
            out.set("weighted_clusters", json!({"clusters": clusters}));
        }
    }
    match action.cluster_not_found_response_code {
        404 => out.set("cluster_not_found_response_code", "NOT_FOUND"),
        500 => out.set("cluster_not_found_response_code", "INTERNAL_SERVER_ERROR"),
        _ => {}
    }
    out.set_some("prefix_rewrite", action.prefix_rewrite.as_deref());
    out.set_some("regex_rewrite", action.regex_rewrite.as_ref().map(regex_rewrite));
    match &action.host_rewrite {
        HostRewrite::None => {}
        HostRewrite::Literal(host) => out.set("host_rewrite_literal", host.as_str()),
        HostRewrite::Auto => out.set("auto_host_rewrite", true),
        HostRewrite::Header(name) => out.set("host_rewrite_header", name.as_str()),
        HostRewrite::PathRegex(rewrite) => out.set("host_rewrite_path_regex", regex_rewrite(rewrite)),
    }
    out.set_nonempty("append_x_forwarded_host", action.append_x_forwarded_host);
    out.set("timeout", duration(action.timeout));
    // Deprecated, but what istiod writes. istiod: `route.go: setTimeout`.
    out.set_some("max_grpc_timeout", action.max_grpc_timeout.map(duration));
    out.set_some(
        "max_stream_duration",
        action.max_stream_duration.map(|limits| {
            json!({
                "max_stream_duration": duration(limits.max_stream_duration),
                "grpc_timeout_header_max": duration(limits.grpc_timeout_header_max),
            })
        }),
    );
    out.set_some("retry_policy", action.retry_policy.as_ref().map(retry_policy));
    let mirrors: Vec<Value> = action.request_mirror_policies.iter().map(mirror).collect();
    out.set_nonempty("request_mirror_policies", mirrors);
    let hash: Vec<Value> = action.hash_policy.iter().map(hash_policy).collect();
    out.set_nonempty("hash_policy", hash);
    out.into()
}

fn weighted_cluster(cluster: &WeightedCluster) -> Value {
    let mut out = Object::new();
    out.set("name", cluster.name.as_str());
    out.set("weight", cluster.weight);
    headers(&mut out, &cluster.headers);
    out.set_some("host_rewrite_literal", cluster.host_rewrite_literal.as_deref());
    out.into()
}

fn regex_rewrite(rewrite: &RegexRewrite) -> Value {
    let mut out = Object::new();
    out.set("pattern", json!({"regex": rewrite.pattern()}));
    out.set_nonempty("substitution", rewrite.substitution());
    out.into()
}

fn retry_policy(policy: &RetryPolicy) -> Value {
    let mut out = Object::new();
    out.set_nonempty("retry_on", policy.retry_on.as_str());
    out.set("num_retries", policy.num_retries);
    out.set_some("per_try_timeout", policy.per_try_timeout.map(duration));
    if let Some(interval) = policy.base_interval {
        out.set("retry_back_off", json!({"base_interval": duration(interval)}));
    }
    if policy.previous_hosts {
        out.set(
            "retry_host_predicate",
            json!([{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": PREVIOUS_HOSTS},
            }]),
        );
    }
    if policy.previous_priorities {
        out.set(
            "retry_priority",
            json!({
                "name": "envoy.retry_priorities.previous_priorities",
                "typed_config": {"@type": PREVIOUS_PRIORITIES, "update_frequency": 2},
            }),
        );
    }
    // One is what Envoy does anyway.
    if policy.host_selection_retry_max_attempts > 1 {
        out.set("host_selection_retry_max_attempts", wide(policy.host_selection_retry_max_attempts));
    }
    let codes: Vec<Value> = policy.retriable_status_codes.iter().map(|code| Value::from(*code)).collect();
    out.set_nonempty("retriable_status_codes", codes);
    out.into()
}

fn mirror(policy: &RequestMirrorPolicy) -> Value {
    let mut out = Object::new();
    out.set("cluster", policy.cluster.as_str());
    out.set("runtime_fraction", json!({"default_value": millionths(policy.runtime_fraction)}));
    out.set("trace_sampled", false);
    out.set_nonempty("disable_shadow_host_suffix_append", policy.disable_shadow_host_suffix_append);
    out.into()
}

fn hash_policy(policy: &HashPolicy) -> Value {
    match policy {
        HashPolicy::Header(name) => json!({"header": {"header_name": name}}),
        HashPolicy::Cookie { name, path, ttl } => {
            let mut cookie = Object::new();
            cookie.set("name", name.as_str());
            cookie.set_some("ttl", ttl.map(duration));
            cookie.set_nonempty("path", path.as_str());
            json!({"cookie": Value::from(cookie)})
        }
        HashPolicy::SourceIp => json!({"connection_properties": {"source_ip": true}}),
        HashPolicy::QueryParameter(name) => json!({"query_parameter": {"name": name}}),
    }
}

fn redirect(action: &RedirectAction) -> Value {
    let mut out = Object::new();
    out.set_some("host_redirect", action.host_redirect.as_deref());
    out.set_some("port_redirect", action.port_redirect);
    if action.https_redirect {
        out.set("https_redirect", true);
    } else {
        out.set_some("scheme_redirect", action.scheme_redirect.as_deref());
    }
    match &action.path {
        PathRedirect::Keep => {}
        PathRedirect::Path(path) => out.set("path_redirect", path.as_str()),
        PathRedirect::PrefixRewrite(prefix) => out.set("prefix_rewrite", prefix.as_str()),
        PathRedirect::RegexRewrite(rewrite) => out.set("regex_rewrite", regex_rewrite(rewrite)),
    }
    out.set_nonempty("strip_query", action.strip_query);
    match action.response_code {
        302 => out.set("response_code", "FOUND"),
        303 => out.set("response_code", "SEE_OTHER"),
        307 => out.set("response_code", "TEMPORARY_REDIRECT"),
        308 => out.set("response_code", "PERMANENT_REDIRECT"),
        _ => {}
    }
    out.into()
}

fn direct_response(action: &DirectResponseAction) -> Value {
    let mut out = Object::new();
    out.set("status", action.status);
    if !action.body.is_empty() {
        out.set("body", json!({"inline_string": action.body}));
    }
    out.into()
}

fn headers(out: &mut Object, operations: &HeaderOperations) {
    let add = |list: &[crate::envoy::config::HeaderValueOption]| -> Vec<Value> {
        list.iter()
            .map(|option| {
                let mut header = Object::new();
                header.set_nonempty("key", option.name.as_str());
                header.set_nonempty("value", option.value.as_str());
                let mut out = Object::new();
                out.set("header", header);
                match option.append_action {
                    AppendAction::AppendIfExistsOrAdd => {}
                    AppendAction::AddIfAbsent => out.set("append_action", "ADD_IF_ABSENT"),
                    AppendAction::OverwriteIfExistsOrAdd => {
                        out.set("append_action", "OVERWRITE_IF_EXISTS_OR_ADD");
                    }
                    AppendAction::OverwriteIfExists => out.set("append_action", "OVERWRITE_IF_EXISTS"),
                }
                out.into()
            })
            .collect()
    };
    let remove = |list: &[crate::envoy::config::HeaderRemoval]| -> Vec<Value> {
        list.iter().map(|removal| Value::from(removal.name.as_str())).collect()
    };
    out.set_nonempty("request_headers_to_add", add(&operations.request_headers_to_add));
    out.set_nonempty("request_headers_to_remove", remove(&operations.request_headers_to_remove));
    out.set_nonempty("response_headers_to_add", add(&operations.response_headers_to_add));
    out.set_nonempty("response_headers_to_remove", remove(&operations.response_headers_to_remove));
}

fn fault(fault: &Fault) -> Value {
    let mut out = Object::typed(FAULT);
    if let Some((delay, share, _)) = &fault.delay {
        out.set("delay", json!({"fixed_delay": duration(*delay), "percentage": millionths(*share)}));
    }
    if let Some((abort, share, _)) = &fault.abort {
        let percentage = millionths(*share);
        out.set(
            "abort",
            match abort {
                FaultAbort::HttpStatus(status) => json!({"http_status": status, "percentage": percentage}),
                FaultAbort::GrpcStatus(status) => json!({"grpc_status": status, "percentage": percentage}),
            },
        );
    }
    out.into()
}

fn cors(policy: &CorsPolicy) -> Value {
    let origins: Vec<Value> = policy.allow_origin_string_match.iter().map(matching::string).collect();
    let mut out = Object::typed(CORS);
    out.set_nonempty("allow_origin_string_match", origins);
    out.set_nonempty("allow_methods", policy.allow_methods.as_str());
    out.set_nonempty("allow_headers", policy.allow_headers.as_str());
    out.set_nonempty("expose_headers", policy.expose_headers.as_str());
    out.set_nonempty("max_age", policy.max_age.as_str());
    out.set_some("allow_credentials", policy.allow_credentials);
    out.set("filter_enabled", json!({"default_value": {"numerator": 100}}));
    out.set("forward_not_matching_preflights", policy.forward_not_matching_preflights);
    out.into()
}
