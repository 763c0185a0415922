//! What differs between a trace and what was seen at its hops?

use std::collections::BTreeMap;

use dryroute::trace::{Hop, HopKind, Outcome, StepKind, Trace, VerdictKind};
use smol_str::SmolStr;

use super::client::Answer;
use super::compare::{Difference, matches};
use super::log;
use super::path::hop;
use super::upstream::Received;

/// Headers that only filters write which a stock Envoy does not have.
const ISTIOS_OWN: [&str; 2] = ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"];

/// What differs between an outcome and what was seen, with the hop.
pub(super) fn compare(
    trace: &Trace,
    outcome: &Outcome,
    lines: &BTreeMap<SmolStr, Vec<log::Line>>,
    received: &[&Received],
    answer: &Answer,
) -> Vec<(SmolStr, Difference)> {
    let mut out = Vec::new();
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    // Without any proxy, what the client sends is what arrives.
    let mut last = trace.hops.iter().find(|hop| hop.kind == HopKind::Client);
    let delivered = outcome.verdict.kind == VerdictKind::Delivered;
    for own in outcome.path.iter().filter_map(|id| hop(trace, outcome, id)) {
        let Some(proxy) = &own.proxy else { continue };
        last = Some(own);
        let place = used.entry(proxy.as_str()).or_default();
        let line = lines.get(proxy).and_then(|lines| lines.get(*place)).cloned().unwrap_or_default();
        *place += 1;
        compare_line(own, &line, delivered, &mut out);
    }
    let client = SmolStr::new_static("client");
    let mut check = |hop: &SmolStr, field: &str, model: &str, envoy: &str| {
        if !matches(model, envoy) {
            let (model, envoy) = (model.to_owned(), envoy.to_owned());
            out.push((hop.clone(), Difference { field: field.to_owned(), model, envoy }));
        }
    };
    // The stand-ins answer 200 where an application would.
    let status = outcome.verdict.status.unwrap_or(if delivered { 200 } else { 0 });
    check(&client, "status", &status.to_string(), &answer.status.to_string());
    let first = outcome.path.iter().filter_map(|id| hop(trace, outcome, id)).find(|hop| hop.proxy.is_some());
    for (name, value) in first.iter().flat_map(|hop| &hop.response.left) {
        if name.starts_with(':') || ISTIOS_OWN.contains(&name.as_str()) {
            continue;
        }
        let got = answer.headers.iter().find(|(key, own)| key == name.as_str() && matches(value, own));
        let other = answer.headers.iter().find(|(key, _)| key == name.as_str());
        let shown = other.map_or("<none>", |(_, value)| value.as_str());
        check(
            &client,
            &format!("response header {name}"),
            value,
            got.map_or(shown, |(_, value)| value.as_str()),
        );
    }
    match (received, last.filter(|_| delivered)) {
        ([], None) => {}
        ([request], Some(last)) => compare_request(last, request, &mut check),
        (requests, _) => {
            let wanted = usize::from(delivered).to_string();
            check(&client, "requests at the end", &wanted, &requests.len().to_string());
        }
    }
    out
}

fn compare_line(hop: &Hop, line: &log::Line, delivered: bool, out: &mut Vec<(SmolStr, Difference)>) {
    let mut check = |field: &str, model: &str, envoy: &str| {
        if model != envoy {
            let (model, envoy) = (model.to_owned(), envoy.to_owned());
            out.push((hop.id.clone(), Difference { field: field.to_owned(), model, envoy }));
        }
    };
    let said = |kind| hop.step(kind).map_or("", |step| step.name.as_str());
    check("listener", said(StepKind::Listener), &line.listener);
    check("filter chain", said(StepKind::FilterChain), &line.filter_chain);
    // The log knows configuration and virtual host only through a route.
    if hop.step(StepKind::Route).is_some() {
        check("route configuration", said(StepKind::RouteConfig), &line.route_config);
        check("virtual host", said(StepKind::VirtualHost), &line.virtual_host);
        check("route", said(StepKind::Route), &line.route);
    }
    if let Some(cluster) = hop.step(StepKind::Cluster).filter(|_| !line.cluster.is_empty()) {
        check("cluster", &cluster.name, &line.cluster);
    }
    let Some(log) = &hop.log else { return };
    check("flags", &log.flags.join(","), &line.flags);
    check("details", &log.details, &line.details);
    match log.status {
        Some(status) => check("logged status", &status.to_string(), &line.status),
        None if delivered && !line.route_config.is_empty() => check("logged status", "200", &line.status),
        None => {}
    }
}

fn compare_request(last: &Hop, received: &Received, check: &mut impl FnMut(&SmolStr, &str, &str, &str)) {
    let sent = &last.request.left;
    let value = |name: &str| sent.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let line = format!("{} {} HTTP/1.1", value(":method"), value(":path"));
    check(&last.id, "request line", &line, &received.request_line);
    let text = |lines: Vec<String>| lines.join("\n");
    let mut model: Vec<(&str, &str)> = sent
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !name.starts_with(':') && !ISTIOS_OWN.contains(name))
        .collect();
    let mut envoy: Vec<(&str, &str)> =
        received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // The host is a pseudo-header on its way, and stands elsewhere in HTTP/1.1.
    model.sort_by_key(|(name, _)| *name);
    envoy.sort_by_key(|(name, _)| *name);
    let same = model.len() == envoy.len()
        && model.iter().zip(&envoy).all(|((name, value), (key, own))| name == key && matches(value, own));
    if !same {
        let lines = |all: &[(&str, &str)]| all.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        check(&last.id, "request headers", &text(lines(&model)), &text(lines(&envoy)));
    }
}
