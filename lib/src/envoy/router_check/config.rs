//! How is a route configuration read?
//!
//! `envoy: config/route/v3/route.proto, route_components.proto`. What the route table check looks at and the decision types do not hold
//! (virtual clusters, runtime fractions, metadata) stays beside them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use smol_str::{SmolStr, StrExt as _};

use super::cases::Case;
use super::conditions::Condition;
use super::fields::{Fields, camel_case};
use super::host_matcher::HostMatcher;
use super::matchers::HeaderCondition;
use super::schema::ROUTE_MATCH;
use super::uri_template::UriTemplate;
use super::weights::Weights;
use super::{RouterCheckError, action, conditions, matchers, text_print};
use crate::envoy::config::{
    AppendAction, HeaderMatcher, HeaderOperations, HeaderRemoval, HeaderValueOption, PathSpecifier,
    RequireTls, Route, RouteConfiguration, RouteMatch, SafeRegex, StringMatcher, VirtualHost,
};
use crate::origin::Origin;

/// Everything read here was written in the file.
pub(super) const WRITTEN: Origin = Origin::default("route table check: the route configuration");

/// A virtual cluster: requests that are counted together.
#[derive(Clone, Debug)]
pub(super) struct VirtualCluster {
    /// The name.
    pub(super) name: SmolStr,
    /// Conditions; all have to hold.
    pub(super) headers: Vec<HeaderCondition>,
}

/// The part of requests that a route takes.
#[derive(Clone, Debug)]
pub(super) struct RuntimeFraction {
    /// The key that switches it.
    key: SmolStr,
    numerator: u64,
    denominator: u64,
}

impl RuntimeFraction {
    /// Whether the route takes part: the check tool switches exactly one key on.
    ///
    /// `envoy: router_check/router.cc: RouterCheckTool::runtimeMock`.
    pub(super) fn is_met(&self, runtime: &str, random_value: u64) -> bool {
        !runtime.is_empty()
            && self.key == runtime
            && random_value.checked_rem(self.denominator).is_some_and(|part| part < self.numerator)
    }

    /// Writes the numerator that counts into the conditions it was read from.
    fn write_numerator(&self, conditions: &mut Value) {
        let numerator = conditions
            .as_object_mut()
            .and_then(|map| field_mut(map, "runtime_fraction"))
            .and_then(|map| field_mut(map, "default_value"));
        if let Some(map) = numerator {
            map.insert("numerator".to_owned(), self.numerator.into());
        }
    }
}

/// A message in a message, in both spellings of its field.
fn field_mut<'a>(map: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let key = if map.contains_key(name) { name.to_owned() } else { camel_case(name) };
    map.get_mut(&key)?.as_object_mut()
}

/// A route and what the decision types do not hold of it.
#[derive(Clone, Debug)]
pub(super) struct TableRoute {
    /// The route.
    pub(super) route: Arc<Route>,
    /// The part of requests it takes.
    pub(super) fraction: Option<RuntimeFraction>,
    /// Conditions that the decision types do not hold.
    pub(super) conditions: Vec<Condition>,
    /// How a weighted cluster is chosen.
    pub(super) weights: Weights,
    /// Metadata: a JSON object for each namespace.
    pub(super) metadata: Value,
    /// The conditions as protobuf text.
    pub(super) written_match: String,
}

/// A virtual host and what the decision types do not hold of it.
#[derive(Clone, Debug)]
pub(super) struct TableHost {
    /// The virtual host.
    pub(super) host: Arc<VirtualHost>,
    /// All its routes.
    pub(super) routes: Vec<TableRoute>,
    /// What chooses among the routes, where their order alone does not.
    pub(super) matcher: Option<HostMatcher>,
    /// Virtual clusters.
    pub(super) virtual_clusters: Vec<VirtualCluster>,
}

/// A route configuration as it was read.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The route configuration.
    pub(super) configuration: Arc<RouteConfiguration>,
    /// Its virtual hosts.
    pub(super) hosts: Vec<TableHost>,
    /// The header in which the host stands, where it is not the request's own.
    pub(super) vhost_header: Option<SmolStr>,
    /// Whether the header operations of routes come last, and thus win.
    pub(super) most_specific_wins: bool,
}

impl Table {
    /// The route configuration in which only routes are that take part.
    pub(super) fn active(&self, case: &Case) -> Arc<RouteConfiguration> {
        let met = |route: &TableRoute| {
            let fraction = route.fraction.as_ref();
            fraction.is_none_or(|fraction| fraction.is_met(&case.runtime, case.random_value))
                && route.conditions.iter().all(|condition| condition.is_met(case))
        };
        let ordered = self.hosts.iter().all(|host| host.matcher.is_none());
        if ordered && self.hosts.iter().flat_map(|host| &host.routes).all(met) {
            return Arc::clone(&self.configuration);
        }
        let virtual_hosts = self.hosts.iter().map(|table| {
            let chosen: Vec<&TableRoute> = match &table.matcher {
                None => table.routes.iter().collect(),
                Some(matcher) => matcher
                    .choose(&case.request)
                    .iter()
                    .filter_map(|place| table.routes.get(*place))
                    .collect(),
            };
            let routes = chosen.into_iter().filter(|route| met(route));
            let routes = routes.map(|route| Arc::clone(&route.route)).collect();
            Arc::new(VirtualHost { routes, ..VirtualHost::clone(&table.host) })
        });
        Arc::new(RouteConfiguration {
            virtual_hosts: virtual_hosts.collect(),
            ..RouteConfiguration::clone(&self.configuration)
        })
    }

    /// What the table holds of a route.
    pub(super) fn route(&self, sought: &Arc<Route>) -> Option<&TableRoute> {
        let mut routes = self.hosts.iter().flat_map(|host| &host.routes);
        routes.find(|entry| Arc::ptr_eq(&entry.route, sought))
    }

    /// The virtual host of that name and domains.
    pub(super) fn host(&self, sought: &VirtualHost) -> Option<&TableHost> {
        self.hosts.iter().find(|table| table.host.domains == sought.domains)
    }
}

/// Reads a route configuration.
pub(super) fn table(value: Value) -> Result<Table, RouterCheckError> {
    let mut fields = Fields::new("", value)?;
    let name = fields.text("name")?.unwrap_or_default();
    let ignore_port_in_host_matching = fields.boolean("ignore_port_in_host_matching")?.unwrap_or_default();
    let max_direct_response_body_size_bytes = fields.unsigned("max_direct_response_body_size_bytes")?;
    // The connection manager removes them from requests, and clusters are looked for when a listener is made: the check does neither.
    fields.texts("internal_only_headers")?;
    fields.boolean("validate_clusters")?;
    let headers = header_operations(&mut fields)?;
    let vhost_header = fields.text("vhost_header")?.filter(|name| !name.is_empty());
    let vhost_header = vhost_header.map(|name| name.to_lowercase_smolstr());
    let most_specific_wins = fields.boolean("most_specific_header_mutations_wins")?.unwrap_or_default();
    fields.boolean("ignore_path_parameters_in_path_matching")?.filter(|on| *on);
    fields.pass_over(&[
        "cluster_specifier_plugins",
        "metadata",
        "request_mirror_policies",
        "typed_per_filter_config",
    ]);
    let hosts = fields.messages("virtual_hosts", virtual_host)?;
    fields.finish()?;
    let mut domains = BTreeSet::new();
    for domain in hosts.iter().flat_map(|table| &table.host.domains) {
        if !domains.insert(domain.to_lowercase()) {
            let reason = format!("the domain {domain} is there twice");
            return Err(RouterCheckError::Invalid { field: "virtual_hosts".into(), reason });
        }
    }
    let configuration = RouteConfiguration {
        name,
        virtual_hosts: hosts.iter().map(|table| Arc::clone(&table.host)).collect(),
        ignore_port_in_host_matching,
        max_direct_response_body_size_bytes,
        headers,
        refused: None,
        origin: WRITTEN,
    };
    Ok(Table { configuration: Arc::new(configuration), hosts, vhost_header, most_specific_wins })
}

fn virtual_host(mut fields: Fields) -> Result<TableHost, RouterCheckError> {
    let name = fields.required("name")?;
    let domains = fields.texts("domains")?;
    if domains.is_empty() {
        return Err(RouterCheckError::Missing { field: fields.at("domains") });
    }
    let field = fields.at("require_tls");
    let require_tls = match fields.text("require_tls")?.as_deref() {
        None | Some("NONE") => RequireTls::None,
        Some("EXTERNAL_ONLY") => RequireTls::ExternalOnly,
        Some("ALL") => RequireTls::All,
        Some(other) => return Err(RouterCheckError::Invalid { field, reason: format!("no value {other}") }),
    };
    let headers = header_operations(&mut fields)?;
    let mut routes = fields.messages("routes", route)?;
    let several = RouterCheckError::Several { field: fields.path().to_owned(), what: "list of routes" };
    let matcher = match fields.message("matcher")? {
        None => None,
        Some(_) if !routes.is_empty() => return Err(several),
        Some(inner) => Some(HostMatcher::read(inner, &mut routes)?),
    };
    let virtual_clusters = fields.messages("virtual_clusters", |mut fields| {
        let name = fields.required("name")?;
        let headers = fields.messages("headers", matchers::header_condition)?;
        fields.finish()?;
        Ok(VirtualCluster { name, headers })
    })?;
    fields.pass_over(&[
        "cors",
        "hedge_policy",
        "include_attempt_count_in_response",
        "include_is_timeout_retry_header",
        "include_request_attempt_count",
        "metadata",
        "per_request_buffer_limit_bytes",
        "rate_limits",
        "request_body_buffer_limit",
        "request_mirror_policies",
        "retry_policy",
        "typed_per_filter_config",
    ]);
    fields.finish()?;
    let host = VirtualHost {
        name,
        domains,
        routes: routes.iter().map(|route| Arc::clone(&route.route)).collect(),
        require_tls,
        include_request_attempt_count: false,
        headers,
        origin: WRITTEN,
    };
    Ok(TableHost { host: Arc::new(host), routes, matcher, virtual_clusters })
}

/// A route.
pub(super) fn route(mut fields: Fields) -> Result<TableRoute, RouterCheckError> {
    // A matcher's route names its type.
    fields.pass_over(&["@type"]);
    let name = fields.text("name")?.unwrap_or_default();
    let field = fields.at("match");
    let Some(mut conditions) = fields.take("match") else {
        return Err(RouterCheckError::Missing { field });
    };
    let read = route_match(Fields::new(field, conditions.clone())?)?;
    if let Some(fraction) = &read.fraction {
        fraction.write_numerator(&mut conditions);
    }
    let written_match = text_print::print(&conditions, &ROUTE_MATCH);
    let metadata = match fields.message("metadata")? {
        None => Value::Null,
        Some(mut inner) => {
            let value = inner.take("filter_metadata").unwrap_or_default();
            inner.finish()?;
            value
        }
    };
    let headers = header_operations(&mut fields)?;
    let (action, weights) = action::action(&mut fields, read.template.as_ref())?;
    fields.pass_over(&[
        "decorator",
        "per_request_buffer_limit_bytes",
        "request_body_buffer_limit",
        "stat_prefix",
        "tracing",
        "typed_per_filter_config",
    ]);
    fields.finish()?;
    let route = Route {
        name,
        route_match: read.route_match,
        action,
        headers,
        decorator: None,
        fault: None,
        cors: None,
        config: None,
        origin: WRITTEN,
    };
    let Conditions { fraction, conditions, .. } = read;
    Ok(TableRoute { route: Arc::new(route), fraction, conditions, weights, metadata, written_match })
}

/// The conditions of a route.
struct Conditions {
    /// Those that the decision types hold.
    route_match: RouteMatch,
    fraction: Option<RuntimeFraction>,
    conditions: Vec<Condition>,
    /// The template of the path.
    template: Option<UriTemplate>,
}

fn route_match(mut fields: Fields) -> Result<Conditions, RouterCheckError> {
    let any = || PathSpecifier::Prefix(SmolStr::default());
    let mut conditions = Vec::new();
    let mut paths = Vec::new();
    paths.extend(fields.text("prefix")?.map(PathSpecifier::Prefix));
    paths.extend(fields.text("path")?.map(PathSpecifier::Path));
    paths.extend(fields.text("path_separated_prefix")?.map(PathSpecifier::PathSeparatedPrefix));
    if let Some(inner) = fields.message("safe_regex")? {
        paths.push(PathSpecifier::SafeRegex(matchers::regex(inner)?));
    }
    if let Some(inner) = fields.message("connect_matcher")? {
        inner.finish()?;
        paths.push(any());
        conditions.push(Condition::Connect);
    }
    let template = fields.message("path_match_policy")?.map(UriTemplate::read).transpose()?;
    if let Some(template) = &template {
        paths.push(any());
        conditions.push(Condition::Path(template.regex()?));
    }
    let case_sensitive = fields.boolean("case_sensitive")?.unwrap_or(true);
    let fraction = fields.message("runtime_fraction")?.map(runtime_fraction).transpose()?;
    let mut headers = Vec::new();
    if let Some(grpc) = fields.message("grpc")? {
        grpc.finish()?;
        headers.push(grpc_content_type()?);
    }
    for condition in fields.messages("headers", matchers::header_condition)? {
        match condition.range {
            None => headers.push(condition.matcher),
            Some(_) => conditions.push(Condition::Header(condition)),
        }
    }
    let query_parameters = fields.messages("query_parameters", matchers::query)?;
    conditions.extend(fields.messages("dynamic_metadata", conditions::read_metadata)?);
    conditions.extend(fields.messages("cookies", conditions::read_cookie)?);
    conditions.extend(fields.messages("filter_state", conditions::read_filter_state)?);
    conditions.extend(fields.message("tls_context")?.map(conditions::read_tls_context).transpose()?);
    let field = fields.path().to_owned();
    fields.finish()?;
    let path = match (paths.pop(), paths.pop()) {
        (Some(path), None) => path,
        (None, _) => return Err(RouterCheckError::Missing { field: format!("{field}.prefix") }),
        (Some(_), Some(_)) => return Err(RouterCheckError::Several { field, what: "path specifier" }),
    };
    let (dynamic_metadata, origins) = (Vec::new(), Vec::new());
    let route_match =
        RouteMatch { path, case_sensitive, headers, query_parameters, dynamic_metadata, origins };
    Ok(Conditions { route_match, fraction, conditions, template })
}

/// The condition `grpc`. Envoy: `grpc/common.cc: Common::hasGrpcContentType`.
fn grpc_content_type() -> Result<HeaderMatcher, RouterCheckError> {
    let pattern = SafeRegex::new(r"application/grpc(\+.*)?")
        .map_err(|reason| RouterCheckError::Invalid { field: "grpc".into(), reason })?;
    Ok(HeaderMatcher {
        name: SmolStr::new_static("content-type"),
        matcher: Some(StringMatcher::SafeRegex(pattern)),
        invert_match: false,
        treat_missing_header_as_empty: false,
    })
}

fn runtime_fraction(mut fields: Fields) -> Result<RuntimeFraction, RouterCheckError> {
    let key = fields.text("runtime_key")?.unwrap_or_default();
    let Some(mut value) = fields.message("default_value")? else {
        return Err(RouterCheckError::Missing { field: fields.at("default_value") });
    };
    fields.finish()?;
    // The check tool lets a route without requests have one, so that it can be tested.
    // Envoy: `router_check/router.cc: RouterCheckTool::assignRuntimeFraction`.
    let numerator = value.unsigned::<u64>("numerator")?.unwrap_or_default().max(1);
    let field = value.at("denominator");
    let denominator = match value.text("denominator")?.as_deref() {
        None | Some("HUNDRED") => 100,
        Some("TEN_THOUSAND") => 10_000,
        Some("MILLION") => 1_000_000,
        Some(other) => return Err(RouterCheckError::Invalid { field, reason: format!("no value {other}") }),
    };
    value.finish()?;
    Ok(RuntimeFraction { key, numerator, denominator })
}

/// The header operations of a level.
pub(super) fn header_operations(fields: &mut Fields) -> Result<HeaderOperations, RouterCheckError> {
    let mut remove = |name: &str| -> Result<Vec<HeaderRemoval>, RouterCheckError> {
        Ok(fields.texts(name)?.into_iter().map(|name| HeaderRemoval { name, origin: WRITTEN }).collect())
    };
    let request_headers_to_remove = remove("request_headers_to_remove")?;
    let response_headers_to_remove = remove("response_headers_to_remove")?;
    Ok(HeaderOperations {
        request_headers_to_add: fields.messages("request_headers_to_add", header_value_option)?,
        request_headers_to_remove,
        response_headers_to_add: fields.messages("response_headers_to_add", header_value_option)?,
        response_headers_to_remove,
    })
}

fn header_value_option(mut fields: Fields) -> Result<HeaderValueOption, RouterCheckError> {
    let Some(mut header) = fields.message("header")? else {
        return Err(RouterCheckError::Missing { field: fields.at("header") });
    };
    let name = header.required("key")?;
    let value = header.text("value")?.filter(|value| !value.is_empty());
    let raw_value = header.bytes("raw_value")?;
    let value = value.or(raw_value).unwrap_or_default();
    header.finish()?;
    // Empty values are never added; what has none is not looked at.
    fields.boolean("keep_empty_value")?;
    let append = fields.boolean("append")?;
    let field = fields.at("append_action");
    let append_action = match fields.text("append_action")?.as_deref() {
        Some(_) if append.is_some() => {
            return Err(RouterCheckError::Several { field, what: "way to append" });
        }
        // The older spelling.
        None if append == Some(false) => AppendAction::OverwriteIfExistsOrAdd,
        None | Some("APPEND_IF_EXISTS_OR_ADD") => AppendAction::AppendIfExistsOrAdd,
        Some("ADD_IF_ABSENT") => AppendAction::AddIfAbsent,
        Some("OVERWRITE_IF_EXISTS_OR_ADD") => AppendAction::OverwriteIfExistsOrAdd,
        Some("OVERWRITE_IF_EXISTS") => AppendAction::OverwriteIfExists,
        Some(other) => return Err(RouterCheckError::Invalid { field, reason: format!("no value {other}") }),
    };
    fields.finish()?;
    Ok(HeaderValueOption { name, value, append_action, origin: WRITTEN })
}
