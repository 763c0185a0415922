//! Does a trace say what a scenario expects?
//!
//! Invariant: every field of an expectation is compared or absent; nothing is skipped.

use smol_str::SmolStr;

use super::{ExpectedHop, ExpectedNearMiss, ExpectedOutcome, ScenarioRequest};
use crate::envoy::ledger::GENERATED;
use crate::trace::{HeaderLines, Hop, Outcome, Query, QueryError, Step, StepKind, Trace};

/// The text that stands for any value of a header.
const ANY: &str = "<any>";

/// How far two probabilities may differ and still be equal.
const TOLERANCE: f64 = 1e-6;

/// A field of an expectation that a trace does not meet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mismatch {
    /// The field, such as `hops.client.captured`; in a list of outcomes `outcome[1].status`.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// What the trace says.
    pub got: String,
}

impl ScenarioRequest {
    /// The request as a query.
    ///
    /// # Errors
    ///
    /// A text of it cannot be read.
    pub fn query(&self) -> Result<Query, QueryError> {
        let mut query = Query::parse(self.method.as_deref().unwrap_or("GET"), &self.url)?;
        query.from.clone_from(&self.from);
        query.container.clone_from(&self.container);
        query.uid = self.uid;
        query.to_gateway = self.to_gateway.as_deref().map(str::parse).transpose()?;
        for text in &self.resolve {
            query.add_resolve(text)?;
        }
        for text in &self.headers {
            query.add_header(text)?;
        }
        Ok(query)
    }
}

/// The fields of a request's expectations that its trace does not meet.
pub fn check(request: &ScenarioRequest, trace: &Trace) -> Vec<Mismatch> {
    let expected = request.expect.outcomes();
    let mut out = Vec::new();
    if expected.len() == 1 && trace.outcomes.len() != 1 && expected.iter().all(|e| e.probability.is_none()) {
        let got = trace.outcomes.iter().map(|o| o.path.join(" > ")).collect::<Vec<_>>().join("; ");
        push(&mut out, "outcomes", "one way", got);
    }
    let mut left: Vec<&Outcome> = trace.outcomes.iter().collect();
    for (index, wanted) in expected.iter().enumerate() {
        // The outcome that differs least is the one that is meant.
        let compared = left.iter().enumerate().map(|(at, outcome)| (at, compare(wanted, trace, outcome)));
        let Some((at, found)) = compared.min_by_key(|(_, found)| found.len()) else {
            push(&mut out, &format!("outcome[{index}]"), "an outcome", "none is left".to_owned());
            continue;
        };
        left.remove(at);
        let prefix = if expected.len() > 1 { format!("outcome[{index}].") } else { String::new() };
        out.extend(found.into_iter().map(|m| Mismatch { field: format!("{prefix}{}", m.field), ..m }));
    }
    if expected.len() > 1 && !left.is_empty() {
        let got = left.iter().map(|o| o.path.join(" > ")).collect::<Vec<_>>().join("; ");
        push(&mut out, "outcomes", "no further way", got);
    }
    out
}

fn push(out: &mut Vec<Mismatch>, field: &str, expected: &str, got: String) {
    out.push(Mismatch { field: field.to_owned(), expected: expected.to_owned(), got });
}

fn same(out: &mut Vec<Mismatch>, field: &str, expected: Option<&SmolStr>, got: &str) {
    if let Some(expected) = expected
        && expected != got
    {
        push(out, field, expected, got.to_owned());
    }
}

fn compare(wanted: &ExpectedOutcome, trace: &Trace, outcome: &Outcome) -> Vec<Mismatch> {
    let mut out = Vec::new();
    let verdict = &outcome.verdict;
    if let Some(probability) = wanted.probability
        && (probability - outcome.probability).abs() > TOLERANCE
    {
        push(&mut out, "probability", &probability.to_string(), outcome.probability.to_string());
    }
    same(&mut out, "verdict", wanted.verdict.as_ref(), verdict.kind.as_str());
    if let Some(status) = wanted.status
        && verdict.status != Some(status)
    {
        push(&mut out, "status", &status.to_string(), verdict.status.map_or("-".into(), |s| s.to_string()));
    }
    if let Some(flags) = &wanted.flags
        && *flags != verdict.flags
    {
        push(&mut out, "flags", &flags.join(","), verdict.flags.join(","));
    }
    same(&mut out, "details", wanted.details.as_ref(), &verdict.details);
    same(&mut out, "location", wanted.location.as_ref(), verdict.location.as_deref().unwrap_or("-"));
    same(&mut out, "by", wanted.by.as_ref(), &verdict.by);
    if let Some(path) = &wanted.path
        && *path != outcome.path
    {
        push(&mut out, "path", &path.join(" > "), outcome.path.join(" > "));
    }
    if let Some(mirrors) = &wanted.mirrors
        && *mirrors != outcome.mirrors
    {
        push(&mut out, "mirrors", &mirrors.join(", "), outcome.mirrors.join(", "));
    }
    for (id, hop) in &wanted.hops {
        match trace.hop(outcome, id).filter(|_| outcome.path.contains(id)) {
            Some(found) => compare_hop(&mut out, id, hop, found, trace),
            None => push(&mut out, &format!("hops.{id}"), "a hop", "not on the path".to_owned()),
        }
    }
    if let Some(miss) = &wanted.near_miss {
        compare_near_miss(&mut out, miss, trace);
    }
    out
}

fn compare_hop(out: &mut Vec<Mismatch>, id: &str, wanted: &ExpectedHop, hop: &Hop, trace: &Trace) {
    if let Some(captured) = wanted.captured
        && captured != trace.source.captured
    {
        push(out, &format!("hops.{id}.captured"), &captured.to_string(), trace.source.captured.to_string());
    }
    let names = [
        ("listener", &wanted.listener, StepKind::Listener),
        ("filterChain", &wanted.filter_chain, StepKind::FilterChain),
        ("routeConfig", &wanted.route_config, StepKind::RouteConfig),
        ("virtualHost", &wanted.virtual_host, StepKind::VirtualHost),
        ("cluster", &wanted.cluster, StepKind::Cluster),
    ];
    for (field, expected, kind) in names {
        let got = hop.step(kind).map_or("-", |step| step.name.as_str());
        same(out, &format!("hops.{id}.{field}"), expected.as_ref(), got);
    }
    if let Some(expected) = &wanted.route {
        let step = hop.step(StepKind::Route);
        if !step.is_some_and(|step| is_route(step, expected)) {
            let got = step.map_or("-".to_owned(), |step| format!("{} ({})", step.name, step.origin));
            push(out, &format!("hops.{id}.route"), expected, got);
        }
    }
    let messages = [
        ("requestLeft", &wanted.request_left, &hop.request.left),
        ("responseLeft", &wanted.response_left, &hop.response.left),
    ];
    for (field, headers, lines) in messages {
        for (name, expected) in headers {
            compare_header(out, &format!("hops.{id}.{field}.{name}"), name, expected.as_deref(), lines);
        }
    }
}

/// Whether a route is called so, or was made by that resource and field; a rule's field stands for all of its matches.
fn is_route(step: &Step, expected: &str) -> bool {
    let origin = step.origin.to_string();
    let rule = origin.rsplit_once(".match[").map(|(rule, _)| rule);
    step.name == expected || origin == expected || rule == Some(expected)
}

fn compare_header(
    out: &mut Vec<Mismatch>,
    field: &str,
    name: &str,
    expected: Option<&str>,
    lines: &HeaderLines,
) {
    let found: Vec<&str> =
        lines.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
    let got = (!found.is_empty()).then(|| found.join(","));
    let met = match (expected, &got) {
        (None, got) => got.is_none(),
        (Some(_), None) => false,
        (Some(ANY), Some(_)) => true,
        (Some(GENERATED), Some(got)) => got.contains(GENERATED),
        (Some(expected), Some(got)) => expected == got,
    };
    if !met {
        push(out, field, expected.unwrap_or("absent"), got.unwrap_or_else(|| "absent".to_owned()));
    }
}

fn compare_near_miss(out: &mut Vec<Mismatch>, wanted: &ExpectedNearMiss, trace: &Trace) {
    let Some(first) = trace.near_misses.first() else {
        push(out, "nearMiss", wanted.resource.as_deref().unwrap_or("one"), "none".to_owned());
        return;
    };
    same(out, "nearMiss.resource", wanted.resource.as_ref(), &first.resource);
    same(out, "nearMiss.field", wanted.field.as_ref(), &first.field);
    same(out, "nearMiss.repair", wanted.repair.as_ref(), first.repair.as_deref().unwrap_or("-"));
}
