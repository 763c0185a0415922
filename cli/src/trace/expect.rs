//! `--expect-…`: is the request's fate the one that was expected?
//!
//! Invariant: an expectation has to hold for every way the request can end.

use std::fmt::Write as _;

use dryroute::trace::{Outcome, Trace, VerdictKind};

use crate::error::Exit;
use crate::style;

/// The names of all verdicts.
const VERDICTS: [&str; 7] = ["delivered", "answered", "redirected", "reset", "unresolved", "loop", "unknown"];

/// What is expected of the request's fate.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Expectations (exit 1 when one fails)")]
pub(super) struct Expect {
    /// The status that the client sees
    #[arg(long, value_name = "STATUS")]
    expect_status: Option<u16>,
    /// The verdict: delivered, answered, redirected, reset, unresolved, loop, unknown
    #[arg(long, value_name = "VERDICT", value_parser = VERDICTS, hide_possible_values = true)]
    expect_verdict: Option<String>,
    /// A hop that it passes, by its id or a part of it; may be given several times
    #[arg(long, value_name = "HOP")]
    expect_via: Vec<String>,
    /// A hop that it does not pass
    #[arg(long, value_name = "HOP")]
    expect_not_via: Vec<String>,
    /// A cluster that some hop sends it to
    #[arg(long, value_name = "CLUSTER")]
    expect_cluster: Vec<String>,
    /// A header of the request as it leaves the last proxy: `name: value`, `name` for any value, `!name` for none
    #[arg(long, value_name = "HEADER", value_parser = HeaderWish::parse)]
    expect_header: Vec<HeaderWish>,
    /// A header of the response as the client receives it, in the same form
    #[arg(long, value_name = "HEADER", value_parser = HeaderWish::parse)]
    expect_response_header: Vec<HeaderWish>,
}

impl Expect {
    /// Checks every outcome; what fails is said in `stderr`.
    pub(super) fn check(&self, trace: &Trace, stderr: &mut String) -> Exit {
        let mut exit = Exit::Ok;
        for outcome in &trace.outcomes {
            for failure in self.failures(trace, outcome) {
                let share = if trace.outcomes.len() > 1 {
                    format!(" ({} of requests)", style::percent(outcome.probability))
                } else {
                    String::new()
                };
                let _ =
                    writeln!(stderr, "{}: {failure}{share}", style::paint(style::RED, "expectation failed"));
                exit = Exit::Failed;
            }
        }
        exit
    }

    fn failures(&self, trace: &Trace, outcome: &Outcome) -> Vec<String> {
        let mut out = Vec::new();
        let verdict = &outcome.verdict;
        if let Some(wanted) = self.expect_status
            && verdict.status != Some(wanted)
        {
            let got = match (verdict.status, verdict.kind) {
                (Some(status), _) => format!("the status is {status}"),
                (None, VerdictKind::Delivered) => "the status is the application's own".to_owned(),
                (None, kind) => format!("there is no status: {kind}"),
            };
            out.push(format!("status {wanted}; {got}"));
        }
        if let Some(wanted) = &self.expect_verdict
            && wanted != verdict.kind.as_str()
        {
            out.push(format!("verdict {wanted}; it is {}", verdict.kind));
        }
        let path = || outcome.path.join(" → ");
        let passes = |wanted: &String| outcome.path.iter().any(|hop| is_hop(hop, wanted));
        for wanted in self.expect_via.iter().filter(|wanted| !passes(wanted)) {
            out.push(format!("via {wanted}; the path is {}", path()));
        }
        for wanted in self.expect_not_via.iter().filter(|wanted| passes(wanted)) {
            out.push(format!("not via {wanted}; the path is {}", path()));
        }
        let hops: Vec<_> = outcome.path.iter().filter_map(|id| trace.hop(outcome, id)).collect();
        for wanted in &self.expect_cluster {
            let clusters: Vec<&str> = hops
                .iter()
                .flat_map(|hop| &hop.steps)
                .filter(|step| step.kind == dryroute::trace::StepKind::Cluster)
                .map(|step| step.name.as_str())
                .collect();
            if !clusters.contains(&wanted.as_str()) {
                out.push(format!("cluster {wanted}; there is {}", clusters.join(", ")));
            }
        }
        let sent = hops.iter().rev().find(|hop| !hop.request.left.is_empty());
        let sent = sent.map_or(&[][..], |hop| hop.request.left.as_slice());
        out.extend(self.expect_header.iter().filter_map(|wanted| header("header", wanted, sent)));
        let received = hops.iter().find(|hop| !hop.response.left.is_empty());
        let received = received.map_or(&[][..], |hop| hop.response.left.as_slice());
        let wanted = self.expect_response_header.iter();
        out.extend(wanted.filter_map(|wanted| header("response header", wanted, received)));
        out
    }
}

/// Whether a hop is the one that is meant: its id, what follows its kind, or the workload's own name.
fn is_hop(id: &str, wanted: &str) -> bool {
    let id = id.split('#').next().unwrap_or(id);
    let name = id.split_once(':').map_or(id, |(_, name)| name);
    id == wanted || name == wanted || name.rsplit('/').next() == Some(wanted)
}

/// What is expected of a header.
#[derive(Clone, Debug)]
struct HeaderWish {
    /// As it was written.
    text: String,
    /// The header; `:path` and the like for parts of the request line.
    name: String,
    /// What it is like.
    value: Wish,
}

/// What a header is like.
#[derive(Clone, Debug)]
enum Wish {
    Absent,
    Any,
    Text(String),
}

impl HeaderWish {
    fn parse(text: &str) -> Result<Self, String> {
        let (rest, absent) = match text.strip_prefix('!') {
            Some(rest) => (rest.trim(), true),
            None => (text.trim(), false),
        };
        // A colon in front is a part of the name.
        let pseudo = usize::from(rest.starts_with(':'));
        let (name, value) = match rest.get(pseudo..).and_then(|rest| rest.find(':')) {
            Some(at) if !absent => rest.split_at(pseudo + at),
            _ => (rest, ""),
        };
        let bare = name.trim().trim_start_matches(':');
        if bare.is_empty() || bare.contains([' ', '\t', ':']) {
            return Err("expected `name: value`, `name` or `!name`".to_owned());
        }
        let value = match value.strip_prefix(':') {
            _ if absent => Wish::Absent,
            Some(value) => Wish::Text(value.trim().to_owned()),
            None => Wish::Any,
        };
        Ok(Self { text: text.to_owned(), name: name.trim().to_owned(), value })
    }
}

/// What is wrong with a header, if something is.
fn header(what: &str, wanted: &HeaderWish, lines: &[(impl AsRef<str>, impl AsRef<str>)]) -> Option<String> {
    let HeaderWish { text, name, value } = wanted;
    let all = lines.iter().filter(|(key, _)| key.as_ref().eq_ignore_ascii_case(name));
    let found: Vec<&str> = all.map(|(_, value)| value.as_ref()).collect();
    match value {
        Wish::Absent if found.is_empty() => None,
        Wish::Absent => Some(format!("no {what} {name}; it is {}", found.join(", "))),
        _ if found.is_empty() => Some(format!("{what} {text}; there is none")),
        Wish::Text(value) if !found.contains(&value.as_str()) => {
            Some(format!("{what} {text}; it is {}", found.join(", ")))
        }
        Wish::Text(_) | Wish::Any => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_meant_by_id_or_name() {
        for wanted in ["gateway:istio-system/gw", "istio-system/gw", "gw"] {
            assert!(is_hop("gateway:istio-system/gw#2", wanted), "{wanted}");
        }
        assert!(!is_hop("gateway:istio-system/gw", "system/gw"));
    }

    #[test]
    fn headers_are_compared_by_presence_value_or_absence() {
        let lines = [(":path", "/a:b"), ("host", "a"), ("x-user", "jason")];
        let check = |wanted: &str| header("header", &HeaderWish::parse(wanted).unwrap(), &lines);
        for good in ["x-user: jason", "X-User", "!x-gone", ":path: /a:b", ":path", "!:status"] {
            assert_eq!(check(good), None, "{good}");
        }
        for bad in ["x-user: eve", "x-gone", "!host", ":path: /c", "!:path", "x-user:"] {
            assert!(check(bad).is_some(), "{bad}");
        }
        for nonsense in ["", "!", ":", " : a", "!x-a: b", "a b: c"] {
            assert!(HeaderWish::parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
