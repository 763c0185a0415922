//! How is the action of a route read?
//!
//! `envoy: config/route/v3/route_components.proto: RouteAction, RedirectAction, DirectResponseAction`.

use std::time::Duration;

use serde_json::Value;
use smol_str::SmolStr;

use super::RouterCheckError;
use super::config::{WRITTEN, header_operations};
use super::fields::Fields;
use super::uri_template::UriTemplate;
use super::weights::{Hashed, Weights};
use super::{matchers, weights};
use crate::envoy::config::{
    Action, ClusterSpecifier, DirectResponseAction, HostRewrite, PathRedirect, RedirectAction, RouteAction,
    WeightedCluster,
};
use crate::origin::Origin;

/// The one action of a route.
pub(super) fn action(
    fields: &mut Fields,
    template: Option<&UriTemplate>,
) -> Result<(Action, Weights), RouterCheckError> {
    let mut found = Vec::new();
    let mut weights = Weights::default();
    if let Some(inner) = fields.message("route")? {
        let (action, read) = route(inner, template)?;
        weights = read;
        found.push(Action::Route(Box::new(action)));
    }
    // What is for others than proxies is a route to no cluster. Envoy: `config_impl.cc: RouteEntryImplBase::routeEntry`.
    for name in ["non_forwarding_action", "filter_action"] {
        if fields.take(name).is_some() {
            found.push(Action::Route(Box::new(plain(ClusterSpecifier::Cluster(SmolStr::default())))));
        }
    }
    if let Some(inner) = fields.message("redirect")? {
        found.push(Action::Redirect(Box::new(redirect(inner)?)));
    }
    if let Some(inner) = fields.message("direct_response")? {
        found.push(Action::DirectResponse(direct_response(inner)?));
    }
    let action = one(found, fields.path(), "action")?
        .ok_or_else(|| RouterCheckError::Missing { field: fields.at("route") })?;
    Ok((action, weights))
}

/// Envoy's default.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A route to a cluster, and nothing else.
fn plain(cluster: ClusterSpecifier) -> RouteAction {
    RouteAction {
        cluster,
        cluster_not_found_response_code: 503,
        prefix_rewrite: None,
        regex_rewrite: None,
        host_rewrite: HostRewrite::None,
        append_x_forwarded_host: false,
        timeout: TIMEOUT,
        max_grpc_timeout: None,
        max_stream_duration: None,
        retry_policy: None,
        request_mirror_policies: Vec::new(),
        hash_policy: Vec::new(),
        rewrite_origin: None,
        timeout_origin: Origin::default("route table check: timeout"),
    }
}

/// The only one of what excludes each other.
fn one<T>(mut found: Vec<T>, field: &str, what: &'static str) -> Result<Option<T>, RouterCheckError> {
    if found.len() > 1 {
        return Err(RouterCheckError::Several { field: field.to_owned(), what });
    }
    Ok(found.pop())
}

fn route(
    mut fields: Fields,
    template: Option<&UriTemplate>,
) -> Result<(RouteAction, Weights), RouterCheckError> {
    let path = fields.path().to_owned();
    let hashed = fields.messages("hash_policy", weights::hash_policy)?;
    let mut weights = Weights::default();
    let mut clusters = Vec::new();
    clusters.extend(fields.text("cluster")?.map(ClusterSpecifier::Cluster));
    clusters.extend(fields.text("cluster_header")?.map(|name| ClusterSpecifier::ClusterHeader(lower(&name))));
    if let Some(inner) = fields.message("weighted_clusters")? {
        let (weighted, read) = weighted_clusters(inner, hashed)?;
        weights = read;
        clusters.push(ClusterSpecifier::WeightedClusters(weighted));
    }
    let cluster = one(clusters, &path, "cluster specifier")?
        .ok_or_else(|| RouterCheckError::Missing { field: fields.at("cluster") })?;
    let mut hosts = Vec::new();
    hosts.extend(fields.text("host_rewrite_literal")?.map(HostRewrite::Literal));
    hosts.extend(fields.text("host_rewrite_header")?.map(|name| HostRewrite::Header(lower(&name))));
    if let Some(inner) = fields.message("host_rewrite_path_regex")? {
        hosts.push(HostRewrite::PathRegex(matchers::substitution(inner)?));
    }
    hosts.extend(fields.boolean("auto_host_rewrite")?.filter(|on| *on).map(|_| HostRewrite::Auto));
    let prefix_rewrite = fields.text("prefix_rewrite")?.filter(|text| !text.is_empty());
    let regex_rewrite = fields.message("regex_rewrite")?.map(matchers::substitution).transpose()?;
    let field = fields.at("path_rewrite_policy");
    let by_template = match (fields.message("path_rewrite_policy")?, template) {
        (None, _) => None,
        (Some(inner), Some(template)) => Some(template.rewrite(inner)?),
        (Some(_), None) => {
            let reason = "it goes with a path_match_policy".to_owned();
            return Err(RouterCheckError::Invalid { field, reason });
        }
    };
    let rewrites = [prefix_rewrite.is_some(), regex_rewrite.is_some(), by_template.is_some()];
    if rewrites.into_iter().filter(|given| *given).count() > 1 {
        return Err(RouterCheckError::Several { field: path, what: "path rewrite" });
    }
    let regex_rewrite = regex_rewrite.or(by_template);
    let append_x_forwarded_host = fields.boolean("append_x_forwarded_host")?.unwrap_or_default();
    let timeout = match fields.take("timeout") {
        None => TIMEOUT,
        Some(value) => duration(fields.at("timeout"), value)?,
    };
    fields.pass_over(&[
        "cors",
        "early_data_policy",
        "flush_timeout",
        "hedge_policy",
        "idle_timeout",
        "include_vh_rate_limits",
        "internal_redirect_action",
        "internal_redirect_policy",
        "max_grpc_timeout",
        "grpc_timeout_offset",
        "max_internal_redirects",
        "max_stream_duration",
        "metadata_match",
        "priority",
        "rate_limits",
        "request_mirror_policies",
        "retry_policy",
        "upgrade_configs",
        "cluster_not_found_response_code",
    ]);
    fields.finish()?;
    let action = RouteAction {
        prefix_rewrite,
        regex_rewrite,
        host_rewrite: one(hosts, &path, "host rewrite")?.unwrap_or_default(),
        append_x_forwarded_host,
        timeout,
        ..plain(cluster)
    };
    Ok((action, weights))
}

fn lower(name: &str) -> SmolStr {
    name.to_ascii_lowercase().into()
}

fn weighted_clusters(
    mut fields: Fields,
    hashed: Vec<Hashed>,
) -> Result<(Vec<WeightedCluster>, Weights), RouterCheckError> {
    // The check tool's runtime has no weights, so those of the configuration count; so it is with their sum.
    fields.text("runtime_key_prefix")?;
    fields.unsigned::<u32>("total_weight")?;
    let header = fields.text("header_name")?.filter(|name| !name.is_empty()).map(|name| lower(&name));
    let by_hash = fields.boolean("use_hash_policy")?.unwrap_or_default();
    let read = fields.messages("clusters", |mut fields| {
        let name = fields.text("name")?.filter(|name| !name.is_empty());
        let cluster_header = fields.text("cluster_header")?.filter(|name| !name.is_empty());
        let cluster_header = cluster_header.map(|name| lower(&name));
        match (&name, &cluster_header) {
            (None, None) => return Err(RouterCheckError::Missing { field: fields.at("name") }),
            (Some(_), Some(_)) => {
                let field = fields.path().to_owned();
                return Err(RouterCheckError::Several { field, what: "cluster specifier" });
            }
            _ => {}
        }
        let name = name.unwrap_or_default();
        let weight = fields.unsigned("weight")?.unwrap_or_default();
        let host_rewrite_literal = fields.text("host_rewrite_literal")?;
        let headers = header_operations(&mut fields)?;
        fields.pass_over(&["metadata_match", "typed_per_filter_config"]);
        fields.finish()?;
        let cluster = WeightedCluster { name, weight, headers, host_rewrite_literal, origin: WRITTEN };
        Ok((cluster, cluster_header))
    })?;
    let (clusters, cluster_headers): (Vec<WeightedCluster>, _) = read.into_iter().unzip();
    let field = fields.at("clusters");
    fields.finish()?;
    if clusters.iter().all(|cluster| cluster.weight == 0) {
        let reason = "the weights sum up to 0".into();
        return Err(RouterCheckError::Invalid { field, reason });
    }
    let hashed = if by_hash { hashed } else { Vec::new() };
    Ok((clusters, Weights { header, hashed, cluster_headers }))
}

fn redirect(mut fields: Fields) -> Result<RedirectAction, RouterCheckError> {
    let path = fields.path().to_owned();
    let mut paths = Vec::new();
    paths.extend(fields.text("path_redirect")?.map(PathRedirect::Path));
    paths.extend(fields.text("prefix_rewrite")?.map(PathRedirect::PrefixRewrite));
    if let Some(inner) = fields.message("regex_rewrite")? {
        paths.push(PathRedirect::RegexRewrite(matchers::substitution(inner)?));
    }
    let https_redirect = fields.boolean("https_redirect")?.unwrap_or_default();
    let scheme_redirect = fields.text("scheme_redirect")?;
    if https_redirect && scheme_redirect.is_some() {
        return Err(RouterCheckError::Several { field: path, what: "scheme" });
    }
    let host_redirect = fields.text("host_redirect")?;
    let port_redirect = fields.unsigned::<u16>("port_redirect")?.filter(|port| *port != 0);
    let strip_query = fields.boolean("strip_query")?.unwrap_or_default();
    let field = fields.at("response_code");
    let response_code = match fields.text("response_code")?.as_deref() {
        None | Some("MOVED_PERMANENTLY") => 301,
        Some("FOUND") => 302,
        Some("SEE_OTHER") => 303,
        Some("TEMPORARY_REDIRECT") => 307,
        Some("PERMANENT_REDIRECT") => 308,
        Some(other) => return Err(RouterCheckError::Invalid { field, reason: format!("no value {other}") }),
    };
    fields.finish()?;
    Ok(RedirectAction {
        host_redirect,
        port_redirect,
        scheme_redirect,
        https_redirect,
        path: one(paths, &path, "path")?.unwrap_or_default(),
        strip_query,
        response_code,
        origin: WRITTEN,
    })
}

fn direct_response(mut fields: Fields) -> Result<DirectResponseAction, RouterCheckError> {
    let field = fields.at("status");
    let status = fields.unsigned::<u16>("status")?.ok_or(RouterCheckError::Missing { field })?;
    let body = match fields.message("body")? {
        None => SmolStr::default(),
        Some(mut body) => {
            let text = body.text("inline_string")?;
            let bytes = body.bytes("inline_bytes")?;
            let field = body.path().to_owned();
            body.finish()?;
            if text.is_some() && bytes.is_some() {
                return Err(RouterCheckError::Several { field, what: "body" });
            }
            text.or(bytes).unwrap_or_default()
        }
    };
    // It writes a body of its own kind, which no expectation looks at.
    fields.pass_over(&["body_format"]);
    fields.finish()?;
    Ok(DirectResponseAction { status, body, origin: WRITTEN })
}

/// A duration: `1.5s`, or a message of seconds and nanoseconds.
pub(super) fn duration(field: String, value: Value) -> Result<Duration, RouterCheckError> {
    let wrong = |field: String| RouterCheckError::WrongType { field, expected: "a duration such as 1.5s" };
    match value {
        Value::String(text) => {
            let number = text.strip_suffix('s').ok_or_else(|| wrong(field.clone()))?;
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(whole) || !digits(part) || part.len() > 9 {
                return Err(wrong(field));
            }
            let seconds = whole.parse().map_err(|_| wrong(field.clone()))?;
            let nanoseconds = format!("{part:0<9}").parse().map_err(|_| wrong(field))?;
            Ok(Duration::new(seconds, nanoseconds))
        }
        value @ Value::Object(_) => {
            let mut fields = Fields::new(field, value)?;
            let seconds = fields.unsigned::<u64>("seconds")?.unwrap_or_default();
            let nanoseconds = fields.unsigned::<u32>("nanos")?.unwrap_or_default();
            if nanoseconds >= 1_000_000_000 {
                return Err(wrong(fields.at("nanos")));
            }
            fields.finish()?;
            Ok(Duration::new(seconds, nanoseconds))
        }
        _ => Err(wrong(field)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_forms() {
        for (value, expected) in [
            (serde_json::json!("120s"), Some(Duration::from_secs(120))),
            (serde_json::json!("0.25s"), Some(Duration::from_millis(250))),
            (serde_json::json!({"seconds": 30}), Some(Duration::from_secs(30))),
            (serde_json::json!({"nanos": 0}), Some(Duration::ZERO)),
            (serde_json::json!("120"), None),
            (serde_json::json!("-1s"), None),
            (serde_json::json!(5), None),
        ] {
            assert_eq!(duration("t".into(), value.clone()).ok(), expected, "{value}");
        }
    }
}
