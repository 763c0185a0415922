//! The HTTP rules of a VirtualService. istiod: `virtualservice.go: validateHTTPRoute`.

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::super::names;
use super::super::report::{At, Report};
use super::{actions, common_match, destination, total_weight, weighted};
use crate::manifest::schema::istio::{
    HeaderOperations, Headers, HttpMatchRequest, HttpRewrite, HttpRoute, HttpRouteDestination, StringMatch,
};

pub(super) fn route(
    report: &mut Report<'_>,
    at: &At<'_>,
    route: &HttpRoute,
    delegate: bool,
    by_istiod: bool,
) {
    conflicts(report, at, route, delegate);
    let matches = at.field("match");
    for (index, condition) in route.match_.iter().enumerate() {
        condition_of(report, &matches.index(index), condition);
    }
    headers(report, &at.field("headers"), route.headers.as_ref());
    if let Some(policy) = &route.cors_policy {
        actions::cors(report, &at.field("corsPolicy"), policy);
    }
    if let Some(fault) = &route.fault {
        actions::fault(report, &at.field("fault"), fault);
    }
    mirrors(report, at, route);
    if let Some(redirect) = &route.redirect {
        actions::redirect(report, &at.field("redirect"), redirect, &route.match_);
    }
    if let Some(response) = &route.direct_response {
        actions::direct_response(report, &at.field("directResponse"), response);
    }
    if let Some(retries) = &route.retries {
        actions::retries(report, &at.field("retries"), retries);
    }
    if let Some(rewrite) = &route.rewrite {
        actions::rewrite(report, &at.field("rewrite"), rewrite);
    }
    one_authority(report, at, route.rewrite.as_ref(), route.headers.as_ref());
    destinations(report, &at.field("route"), &route.route, by_istiod);
    if let Some(timeout) = route.timeout {
        report.check(&at.field("timeout"), names::duration(timeout));
    }
}

/// Actions that exclude each other. istiod: `validateHTTPRouteConflict`.
fn conflicts(report: &mut Report<'_>, at: &At<'_>, route: &HttpRoute, delegate: bool) {
    if route.delegate.is_some() && !delegate {
        if route.redirect.is_some() {
            report.refuse(
                &at.field("redirect"),
                format!("root HTTP route {} must not specify redirect", route.name),
            );
        }
        if !route.route.is_empty() {
            report
                .refuse(&at.field("route"), format!("root HTTP route {} must not specify route", route.name));
        }
        return;
    }
    if route.delegate.is_some() {
        report.refuse(&at.field("delegate"), "delegate HTTP route cannot contain delegate");
    }
    let action = if route.redirect.is_some() {
        Some("redirect")
    } else if route.direct_response.is_some() {
        Some("direct_response")
    } else {
        None
    };
    match action {
        Some(action) => {
            if !route.route.is_empty() {
                report
                    .refuse(&at.field("route"), format!("HTTP route cannot contain both route and {action}"));
            }
            if route.fault.is_some() {
                report
                    .refuse(&at.field("fault"), format!("HTTP route cannot contain both fault and {action}"));
            }
            if route.rewrite.is_some() {
                report.refuse(
                    &at.field("rewrite"),
                    format!("HTTP route rule cannot contain both rewrite and {action}"),
                );
            }
            if route.redirect.is_some() && route.direct_response.is_some() {
                report.refuse(
                    &at.field("directResponse"),
                    "HTTP route rule cannot contain both direct_response and redirect",
                );
            }
        }
        None if route.route.is_empty() => {
            report.refuse(at, "HTTP route, redirect or direct_response is required");
        }
        None => {}
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        report.refuse(&at.field("mirrors"), "HTTP route cannot contain both mirror and mirrors");
    }
}

/// istiod: `validateHTTPRouteMatchRequest`.
fn condition_of(report: &mut Report<'_>, at: &At<'_>, condition: &HttpMatchRequest) {
    for (name, value) in &condition.headers {
        let at = at.field("headers");
        report.check(&at.key(name), names::match_header(name));
        string_match(report, &at.key(name), value.as_ref(), "headers");
    }
    for (name, value) in &condition.without_headers {
        let at = at.field("withoutHeaders");
        report.check(&at.key(name), names::match_header(name));
        // `*` is no regular expression here: it means that the header is absent.
        if !matches!(value, Some(StringMatch::Regex(regex)) if regex == "*") {
            string_match(report, &at.key(name), value.as_ref(), "withoutHeaders");
        }
    }
    // A path may have an empty prefix.
    if let Some(StringMatch::Regex(regex)) = &condition.uri {
        report.check(&at.field("uri"), required_regex(regex, "uri"));
    }
    string_match(report, &at.field("scheme"), condition.scheme.as_ref(), "scheme");
    string_match(report, &at.field("method"), condition.method.as_ref(), "method");
    string_match(report, &at.field("authority"), condition.authority.as_ref(), "authority");
    for (name, value) in &condition.query_params {
        string_match(report, &at.field("queryParams").key(name), value.as_ref(), "queryParams");
    }
    common_match(report, at, condition.port, &condition.source_labels, &condition.gateways);
    let namespace = &condition.source_namespace;
    if !namespace.is_empty() && !names::is_label(namespace) {
        report.refuse(&at.field("sourceNamespace"), format!("sourceNamespace match {namespace} is invalid"));
    }
}

fn string_match(report: &mut Report<'_>, at: &At<'_>, value: Option<&StringMatch>, place: &str) {
    match value {
        Some(StringMatch::Prefix(prefix)) if prefix.is_empty() => {
            report.refuse(at, format!("\"{place}\": prefix string match should not be empty"));
        }
        Some(StringMatch::Regex(regex)) => report.check(at, required_regex(regex, place)),
        _ => {}
    }
}

/// A regular expression that is not empty.
pub(super) fn required_regex(regex: &str, place: &str) -> names::Checked {
    if regex.is_empty() {
        return Err(format!("\"{place}\": regex string match should not be empty"));
    }
    names::regex(regex, place)
}

fn headers(report: &mut Report<'_>, at: &At<'_>, headers: Option<&Headers>) {
    let Some(headers) = headers else { return };
    if let Some(request) = &headers.request {
        operations(report, &at.field("request"), request, names::set_header);
    }
    if let Some(response) = &headers.response {
        operations(report, &at.field("response"), response, names::remove_header);
    }
}

fn operations(
    report: &mut Report<'_>,
    at: &At<'_>,
    operations: &HeaderOperations,
    may_set: fn(&str) -> names::Checked,
) {
    for (field, values) in [("add", &operations.add), ("set", &operations.set)] {
        let at = at.field(field);
        for (name, value) in values {
            report.check(&at.key(name), may_set(name));
            report.check(&at.key(name), names::header_value(value));
        }
    }
    let at = at.field("remove");
    for (index, name) in operations.remove.iter().enumerate() {
        report.check(&at.index(index), names::remove_header(name));
    }
}

fn mirrors(report: &mut Report<'_>, at: &At<'_>, route: &HttpRoute) {
    if let Some(percent) = route.mirror_percent {
        let at = at.field("mirrorPercent");
        if percent > 100 {
            report.refuse(&at, format!("mirror_percent must have a max value of 100 (it has {percent})"));
        }
        report.warn(&at, "using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead");
    }
    if let Some(percentage) = &route.mirror_percentage {
        mirror_percentage(report, &at.field("mirrorPercentage"), "mirror_percentage", percentage.value);
    }
    if let Some(to) = &route.mirror {
        destination(report, &at.field("mirror"), to);
    }
    let at = at.field("mirrors");
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let at = at.index(index);
        let Some(to) = &mirror.destination else {
            report.refuse(&at, "destination is required for mirrors");
            continue;
        };
        destination(report, &at.field("destination"), to);
        if let Some(percentage) = &mirror.percentage {
            mirror_percentage(report, &at.field("percentage"), "mirror percentage", percentage.value);
        }
    }
}

fn mirror_percentage(report: &mut Report<'_>, at: &At<'_>, name: &str, value: f64) {
    if value > 100.0 {
        report.refuse(at, format!("{name} must have a max value of 100 (it has {value})"));
    }
    if value < 0.0 {
        report.refuse(at, format!("{name} must have a min value of 0 (it has {value})"));
    }
}

/// The authority may be set in one place only. istiod: `validateAuthorityRewrite`.
fn one_authority(
    report: &mut Report<'_>,
    at: &At<'_>,
    rewrite: Option<&HttpRewrite>,
    headers: Option<&Headers>,
) {
    let Some(operations) = headers.and_then(|h| h.request.as_ref()) else { return };
    let mut current = rewrite.map_or("", |r| r.authority.as_str());
    let at = at.field("headers");
    let at = at.field("request");
    let entries = |field: &'static str, values: &IndexMap<SmolStr, SmolStr>| {
        values
            .iter()
            .filter(|(name, _)| names::is_authority(name))
            .map(move |(name, value)| (field, name.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    let all = [entries("set", &operations.set), entries("add", &operations.add)].concat();
    for (field, name, value) in &all {
        if !current.is_empty() {
            report.refuse(
                &at.field(field).key(name),
                format!(
                    "authority header cannot be set multiple times: have \"{current}\", attempting to set \"{value}\""
                ),
            );
            return;
        }
        current = value;
    }
}

fn destinations(report: &mut Report<'_>, at: &At<'_>, routes: &[HttpRouteDestination], by_istiod: bool) {
    for (index, route) in routes.iter().enumerate() {
        let at = at.index(index);
        headers(report, &at.field("headers"), route.headers.as_ref());
        weighted(report, &at, route.destination.as_ref(), route.weight, by_istiod);
    }
    total_weight(report, at, routes.iter().map(|route| route.weight));
}
