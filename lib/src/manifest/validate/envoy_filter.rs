//! EnvoyFilter. istiod: `envoyfilter/envoyfilter.go: validateEnvoyFilter`.
//!
//! A patch's value is not looked into: that needs the schemas of all of Envoy's messages.

use super::report::{At, Report};
use super::{names, selector};
use crate::manifest::schema::istio::{
    ApplyTo, EnvoyConfigMatch, EnvoyConfigPatch, EnvoyFilter, FilterMatch, PatchContext, PatchOperation,
};

const LONGEST_VERSION: usize = 1024;
const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, filter: &EnvoyFilter) {
    report.warn(
        spec,
        "EnvoyFilter exposes internal implementation details that may change at any time. Prefer other APIs if possible, and exercise extreme caution, especially around upgrades.",
    );
    if !selector::alpha(report, spec, filter.workload_selector.as_ref(), "Envoy filter") {
        return;
    }
    let at = spec.field("configPatches");
    for (index, patch) in filter.config_patches.iter().enumerate() {
        config_patch(report, &at.index(index), patch);
    }
}

/// A patch; the first fault ends it.
fn config_patch(report: &mut Report<'_>, at: &At<'_>, patch: &EnvoyConfigPatch) {
    // What is for waypoints is not checked.
    if patch.match_.as_ref().is_some_and(|m| m.context == PatchContext::Waypoint) {
        return;
    }
    if patch.apply_to == ApplyTo::Invalid {
        report.refuse(at, "Envoy filter: missing applyTo");
        return;
    }
    let Some(change) = &patch.patch else {
        report.refuse(at, "Envoy filter: missing patch");
        return;
    };
    if change.operation == PatchOperation::Invalid {
        report.refuse(&at.field("patch"), "Envoy filter: missing patch operation");
        return;
    }
    if change.operation != PatchOperation::Remove && change.value.is_none() {
        report.refuse(&at.field("patch"), "Envoy filter: missing patch value for non-remove operation");
        return;
    }
    let Some(condition) = &patch.match_ else { return };
    let at = at.field("match");
    report.at_most_one(
        &at,
        &[
            ("listener", condition.listener.is_some()),
            ("routeConfiguration", condition.route_configuration.is_some()),
            ("cluster", condition.cluster.is_some()),
            ("waypoint", condition.waypoint.is_some()),
        ],
    );
    if !proxy_version(report, &at, condition) {
        return;
    }
    let any = condition.listener.is_some()
        || condition.route_configuration.is_some()
        || condition.cluster.is_some()
        || condition.waypoint.is_some();
    match patch.apply_to {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::NetworkFilter | ApplyTo::HttpFilter if any => {
            listener(report, &at, patch.apply_to, condition);
        }
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute
            if any && condition.route_configuration.is_none() =>
        {
            report.refuse(
                &at,
                "Envoy filter: applyTo for http route class objects cannot have non route configuration match",
            );
        }
        ApplyTo::Cluster if any && condition.cluster.is_none() => {
            report
                .refuse(&at, "Envoy filter: applyTo for cluster class objects cannot have non cluster match");
        }
        _ => {}
    }
}

fn proxy_version(report: &mut Report<'_>, at: &At<'_>, condition: &EnvoyConfigMatch) -> bool {
    let Some(proxy) = condition.proxy.as_ref().filter(|p| !p.proxy_version.is_empty()) else {
        return true;
    };
    let at = at.field("proxy");
    let at = at.field("proxyVersion");
    if proxy.proxy_version.len() > LONGEST_VERSION {
        report.warn(
            &at,
            format!(
                "Envoy filter: proxyVersion match exceeds {LONGEST_VERSION} characters and will be ignored"
            ),
        );
        return true;
    }
    match names::regex(&proxy.proxy_version, "proxyVersion") {
        Ok(()) => true,
        Err(reason) => {
            report.refuse(&at, format!("Envoy filter: invalid regex for proxy version, [{reason}]"));
            false
        }
    }
}

fn listener(report: &mut Report<'_>, at: &At<'_>, apply_to: ApplyTo, condition: &EnvoyConfigMatch) {
    let Some(listener) = &condition.listener else {
        report.refuse(at, "Envoy filter: applyTo for listener class objects cannot have non listener match");
        return;
    };
    let Some(filter) = listener.filter_chain.as_ref().and_then(|chain| chain.filter.as_ref()) else {
        return;
    };
    let at = at.field("listener");
    let at = at.field("filterChain");
    let at = at.field("filter");
    if matches!(apply_to, ApplyTo::Listener | ApplyTo::FilterChain) {
        report.warn(
            &at,
            format!("Envoy filter: filter match has no effect when used with {}", apply_to.as_str()),
        );
    }
    if let Err(reason) = filter_match(apply_to, filter) {
        report.refuse(&at, format!("Envoy filter: {reason}"));
    }
}

fn filter_match(apply_to: ApplyTo, filter: &FilterMatch) -> names::Checked {
    if filter.name.is_empty() {
        return Err("filter match has no name to match on".into());
    }
    let Some(sub_filter) = &filter.sub_filter else { return Ok(()) };
    if apply_to != ApplyTo::HttpFilter {
        return Err("subfilter match can be used with applyTo HTTP_FILTER only".into());
    }
    if filter.name != CONNECTION_MANAGER && filter.name != "envoy.http_connection_manager" {
        return Err(format!("subfilter match requires filter match with {CONNECTION_MANAGER}"));
    }
    if sub_filter.name.is_empty() {
        return Err("subfilter match has no name to match on".into());
    }
    Ok(())
}
