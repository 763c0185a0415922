//! The text for a terminal: the path and the verdict first, then what decided at each hop, then what could have been
//! meant. Invariant: one screen of 80×24 for the common case; lines are indented only below their hop.

use std::fmt::Write as _;

use dryroute::diagnostic::{Code, Location, Severity};
use dryroute::manifest::ManifestSet;
use dryroute::trace::{Fidelity, Hop, Leg, NearMiss, Note, Outcome, Place, Step, StepKind, Trace, Tries};

use super::{headers, words};
use crate::frame::Frame;
use crate::{input, place, style};

/// How many assumptions the short text shows.
const ASSUMPTIONS_SHOWN: usize = 3;
/// How many notes about resources that took part it shows.
const NOTES_SHOWN: usize = 3;

/// The column of labels in the short text.
const SHORT_LABEL: usize = 8;
/// The column of labels where every step is shown.
const WIDE_LABEL: usize = 14;

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail {
    /// Every step, with resource and field.
    pub(super) wide: bool,
    /// What happened to the headers.
    pub(super) headers: bool,
    /// The messages as they arrived and as they left.
    pub(super) messages: bool,
}

/// The whole text.
pub(super) fn render(trace: &Trace, manifests: &ManifestSet, detail: Detail) -> String {
    let mut text = Text { trace, detail, width: style::width(), out: String::new() };
    text.head();
    text.outcomes();
    text.hops();
    text.near_misses(manifests);
    text.notes(manifests);
    text.assumptions();
    text.out
}

struct Text<'a> {
    trace: &'a Trace,
    detail: Detail,
    width: usize,
    out: String,
}

/// One line about a hop.
#[derive(Clone, PartialEq)]
struct Line {
    label: &'static str,
    text: String,
    right: String,
}

impl Text<'_> {
    fn push(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    fn head(&mut self) {
        let request = &self.trace.request;
        let gap = if request.method.is_empty() { "" } else { " " };
        let left = style::paint(style::BOLD, &format!("{}{gap}{}", request.method, request.url));
        let line = style::justify(&left, &words::source(self.trace), self.width);
        self.push(&line);
    }

    fn outcomes(&mut self) {
        let several = self.trace.outcomes.len() > 1;
        for outcome in &self.trace.outcomes {
            let (share, indent) = if several {
                (format!("{:>6}  ", style::percent(outcome.probability)), 8)
            } else {
                ("  ".to_owned(), 2)
            };
            let mut path: Vec<String> = outcome.path.iter().map(ToString::to_string).collect();
            for hop in path.iter_mut().skip(1) {
                hop.insert_str(0, "→ ");
            }
            let path = style::wrap(path.iter().map(String::as_str), indent, self.width);
            self.push(&format!("{share}{path}"));
            let mut sentence = words::sentence(&outcome.verdict);
            if !outcome.mirrors.is_empty() {
                let _ = write!(sentence, "; copied to {}", outcome.mirrors.join(", "));
            }
            if let Some(time) = outcome.worst_case_ms.filter(|_| self.detail.wide) {
                let _ = write!(sentence, "; after {} at most", words::time(time));
            }
            // The assumptions of the only way are listed below anyway.
            let certainty = if several || self.detail.wide || outcome.fidelity != Fidelity::Assumed {
                style::paint(style::DIM, &format!("[{}]", words::certainty(outcome)))
            } else {
                String::new()
            };
            let all = sentence.split(' ').chain(Some(certainty.as_str()).filter(|text| !text.is_empty()));
            let sentence = style::wrap(all, indent, self.width);
            self.push(&format!("{}{sentence}", " ".repeat(indent)));
        }
    }

    fn hops(&mut self) {
        self.push("");
        for (index, hop) in self.trace.hops.iter().enumerate() {
            self.hop(index + 1, hop);
        }
    }

    fn hop(&mut self, number: usize, hop: &Hop) {
        let into = self.trace.legs.iter().find(|leg| leg.to == hop.id);
        let passing: Vec<&Outcome> =
            self.trace.outcomes.iter().filter(|o| o.path.contains(&hop.id)).collect();
        let mut tags: Vec<String> = Vec::new();
        if passing.is_empty() {
            tags.push("copy".to_owned());
        } else if passing.len() < self.trace.outcomes.len() {
            tags.push(style::percent(passing.iter().map(|outcome| outcome.probability).sum()));
        }
        tags.extend(into.map(|leg| dialled(leg, self.detail)));
        let title = format!("{number} {}", style::paint(style::BOLD, &hop.id));
        let line = style::justify(&title, &style::paint(style::DIM, &tags.join("  ")), self.width);
        self.push(&line);
        // As each outcome sees the hop: lines that all share are said once.
        let mut views: Vec<(f64, Vec<Line>, &Hop)> = Vec::new();
        for outcome in &passing {
            let seen = outcome.hops.iter().find(|own| own.id == hop.id).unwrap_or(hop);
            let lines = self.lines(seen);
            match views.iter_mut().find(|(_, known, known_hop)| {
                *known == lines && known_hop.request == seen.request && known_hop.response == seen.response
            }) {
                Some(view) => view.0 += outcome.probability,
                None => views.push((outcome.probability, lines, seen)),
            }
        }
        if views.is_empty() {
            views.push((1.0, self.lines(hop), hop));
        }
        let shared = |line: &Line| views.iter().all(|(_, lines, _)| lines.contains(line));
        let common: Vec<Line> = views
            .iter()
            .take(1)
            .flat_map(|(_, lines, _)| lines)
            .filter(|line| shared(line))
            .cloned()
            .collect();
        for line in &common {
            self.line("", line);
        }
        let several = views.len() > 1;
        for (probability, lines, seen) in &views {
            let share = if several { format!("{} ", style::percent(*probability)) } else { String::new() };
            for line in lines.iter().filter(|line| !common.contains(line)) {
                self.line(&share, line);
            }
            if self.detail.headers {
                if several {
                    self.push(&format!("    {share}"));
                }
                headers::render(&mut self.out, seen, self.detail, self.width);
            }
        }
    }

    fn line(&mut self, share: &str, line: &Line) {
        let column = if self.detail.wide { WIDE_LABEL } else { SHORT_LABEL };
        let indent = 4 + column + 1;
        let label = style::paint(style::CYAN, &format!("{:<column$}", line.label));
        let wrapped = style::wrap(line.text.split(' '), indent, self.width);
        let left = format!("    {share}{label} {wrapped}");
        let right = style::paint(style::DIM, &line.right);
        let text = if self.detail.wide {
            style::beside(&left, &right, indent, self.width)
        } else {
            style::justify(&left, &right, self.width)
        };
        self.push(&text);
    }

    /// What decided at a hop.
    fn lines(&self, hop: &Hop) -> Vec<Line> {
        if self.detail.wide {
            let mut lines: Vec<Line> = hop.steps.iter().map(wide).collect();
            lines.extend(hop.tries.as_ref().into_iter().flat_map(tries));
            lines.extend(hop.log.as_ref().map(|log| {
                let status = log.status.map_or("(the application's)".to_owned(), |status| status.to_string());
                let flags = if log.flags.is_empty() { "-".to_owned() } else { log.flags.join(",") };
                let details = if log.details.is_empty() { "-" } else { log.details.as_str() };
                Line { label: "log", text: format!("{status} {flags} {details}"), right: String::new() }
            }));
            return lines;
        }
        let mut lines = short(hop, self.width);
        let made = hop.tries.as_ref().and_then(|tries| tries.made).filter(|made| *made > 1);
        lines.extend(made.map(|made| Line {
            label: "tries",
            text: format!("{made}, and all failed alike"),
            right: String::new(),
        }));
        lines
    }

    fn near_misses(&mut self, manifests: &ManifestSet) {
        let all = &self.trace.near_misses;
        let shown = if self.detail.wide { all.len() } else { 1 };
        for miss in all.iter().take(shown) {
            self.push("");
            let text = frame(miss, manifests);
            self.out.push_str(&text);
        }
        if all.len() > shown {
            let more = all.len() - shown;
            let what = if more == 1 { "rule" } else { "rules" };
            self.push(&style::paint(
                style::DIM,
                &format!("{more} more {what} could have been meant (-o wide)"),
            ));
        }
    }

    fn notes(&mut self, manifests: &ManifestSet) {
        // What cannot be read at all was said before, and so was what is a near miss.
        let missed: Vec<Location> =
            self.trace.near_misses.iter().filter_map(|miss| miss.origin.location()).collect();
        let is_said = |note: &Note| {
            input::UNREADABLE.iter().any(|code| code.as_str() == note.code)
                || note.origin.location().is_some_and(|at| missed.contains(&at))
        };
        let all = self.trace.diagnostics.iter().filter(|note| !is_said(note));
        let (part, missing): (Vec<&Note>, Vec<&Note>) = all.partition(|note| note.takes_part);
        let mut brief: Vec<&Note> = Vec::new();
        for note in part {
            // A part that cannot be followed decides everything.
            if self.detail.wide || note.code == Code::NotModelled.as_str() {
                self.push("");
                let text = framed(note, manifests);
                self.out.push_str(&text);
            } else {
                brief.push(note);
            }
        }
        let unsaid = missing.iter().chain(brief.iter().skip(NOTES_SHOWN));
        let (errors, others): (Vec<&&Note>, Vec<&&Note>) =
            unsaid.partition(|note| note.severity == Severity::Error);
        if brief.is_empty() && errors.is_empty() && others.is_empty() {
            return;
        }
        self.push("");
        for note in brief.iter().take(NOTES_SHOWN) {
            self.brief(note);
        }
        let counts = [(errors.len(), "error"), (others.len(), "warning")];
        let counts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, noun)| style::many(*count, noun))
            .collect();
        if !counts.is_empty() {
            let also = if brief.is_empty() { "" } else { "also " };
            let text =
                format!("{also}in the manifests: {}; `dryroute check` shows them", counts.join(" and "));
            self.push(&style::paint(style::DIM, &text));
        }
        if !self.trace.assumptions.is_empty() && !self.detail.wide {
            self.push("");
        }
    }

    /// A note in one line, or two.
    fn brief(&mut self, note: &Note) {
        let (colour, word) = match note.severity {
            Severity::Error => (style::RED, "error:"),
            Severity::Warning => (style::YELLOW, "warning:"),
            Severity::Note => (style::CYAN, "note:"),
        };
        let help = note.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        let text = format!("{}{help}", note.message);
        let text = style::wrap(text.split(' '), word.len() + 1, self.width);
        let right = note.origin.location().map(|at| place::line(&at)).unwrap_or_default();
        let left = format!("{} {text}", style::paint(colour, word));
        let line = style::justify(&left, &style::paint(style::DIM, &right), self.width);
        self.push(&line);
    }

    fn assumptions(&mut self) {
        let all = &self.trace.assumptions;
        let frames = !self.trace.near_misses.is_empty() || !self.trace.diagnostics.is_empty();
        if all.is_empty() {
            return;
        }
        if !frames || self.detail.wide {
            self.push("");
        }
        let shown = if self.detail.wide { all.len() } else { ASSUMPTIONS_SHOWN };
        for assumption in all.iter().take(shown) {
            let text = style::wrap(assumption.text.split(' '), 5, self.width);
            self.push(&format!("{:<4} {text}", assumption.id));
        }
        if all.len() > shown {
            let ids: Vec<&str> = all.iter().skip(shown).map(|assumption| assumption.id.as_str()).collect();
            let more = format!("and {} (-o wide)", ids.join(" "));
            self.push(&style::paint(style::DIM, &more));
        }
    }
}

/// The address and protection of a leg.
fn dialled(leg: &Leg, detail: Detail) -> String {
    let name = if leg.sni.is_empty() || !detail.wide { String::new() } else { format!(" for {}", leg.sni) };
    format!("{} {}{name}", leg.address, words::transport(leg.transport))
}

/// The steps of a hop in few lines: what the proxy was told in one, then what decided.
fn short(hop: &Hop, width: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut told: Vec<&Step> = Vec::new();
    for step in &hop.steps {
        match step.kind {
            StepKind::Listener | StepKind::RouteConfig | StepKind::VirtualHost => told.push(step),
            StepKind::FilterChain => {
                // Chains without a name, or with their listener's, say nothing.
                if !step.name.is_empty() && hop.step(StepKind::Listener).is_none_or(|l| l.name != step.name) {
                    told.push(step);
                }
            }
            // The next hop's line says which endpoint was dialled; a default that was met decides nothing.
            StepKind::Endpoint => {}
            StepKind::Authentication if step.origin.default_rule().is_some() && step.note.is_none() => {}
            _ => lines.push(one(step, width)),
        }
    }
    if let Some(last) = told.last() {
        let names: Vec<&str> = told.iter().map(|step| step.name.as_str()).collect();
        let text = names.join(" › ");
        let right = written(&last.origin, text.chars().count() + 4 + SHORT_LABEL + 1, width);
        lines.insert(0, Line { label: "listener", text, right });
    }
    // A place that the line above has already said.
    let mut last = String::new();
    for line in &mut lines {
        if line.right == last {
            line.right.clear();
        } else if !line.right.is_empty() {
            last.clone_from(&line.right);
        }
    }
    lines
}

fn one(step: &Step, width: usize) -> Line {
    // That traffic is captured is the rule; why it is not has to be said.
    let usual = step.kind == StepKind::Capture && step.name == "captured";
    let note = step.note.as_ref().filter(|_| !usual).map(|note| format!(" ({note})")).unwrap_or_default();
    let text = match step.kind {
        StepKind::Route => rule(step),
        _ => format!("{}{note}", step.name),
    };
    let label = match step.kind {
        StepKind::Authentication => "authn",
        StepKind::Patch => "patch",
        StepKind::Authorization => "authz",
        kind => kind.as_str(),
    };
    let right = written(&step.origin, text.chars().count() + 4 + SHORT_LABEL + 1, width);
    Line { label, text, right }
}

/// A route by the rule that made it, and its name if it has one.
fn rule(step: &Step) -> String {
    let made = match (step.origin.resource(), step.origin.field()) {
        (Some(resource), Some(field)) if field.starts_with("spec.") => {
            // The rule is named; which of its conditions held is shown by `wide`.
            let field = field.trim_start_matches("spec.").split(".match").next().unwrap_or_default();
            format!("{} {field}", without_kind(&resource))
        }
        (Some(resource), _) => resource,
        _ => String::new(),
    };
    match (step.name.as_str(), made.as_str()) {
        ("", made) => made.to_owned(),
        (name, "") => name.to_owned(),
        (name, made) if name == "default" || made.contains(name) => made.to_owned(),
        (name, made) => format!("{name} = {made}"),
    }
}

/// Rules are VirtualServices' unless another kind is named.
fn without_kind(resource: &str) -> &str {
    resource.strip_prefix("VirtualService ").unwrap_or(resource)
}

/// `file:line`; a default's sentence where there is room for it.
fn written(origin: &Place, used: usize, width: usize) -> String {
    match (origin.location(), origin.default_rule()) {
        (Some(at), _) => place::line(&at),
        (None, Some(rule)) if used + 2 + rule.chars().count() <= width => rule.to_owned(),
        (None, _) => String::new(),
    }
}

fn wide(step: &Step) -> Line {
    let mut text = if step.name.is_empty() { "-".to_owned() } else { step.name.to_string() };
    if let Some(note) = &step.note {
        let _ = write!(text, " ({note})");
    }
    if !step.assumptions.is_empty() {
        let _ = write!(text, " [{}]", step.assumptions.join(" "));
    }
    let at = step.origin.location().map(|at| format!(" {}", place::column(&at))).unwrap_or_default();
    Line { label: step.kind.as_str(), text, right: format!("{}{at}", step.origin) }
}

/// How often a proxy tries, and within which time.
fn tries(tries: &Tries) -> Vec<Line> {
    let mut text = match tries.made {
        Some(made) if made == tries.most => made.to_string(),
        Some(made) => format!("{made} of {}", tries.most),
        None => format!("up to {}", tries.most),
    };
    if !tries.retry_on.is_empty() {
        let _ = write!(text, " ({})", tries.retry_on.replace(',', ", "));
        let waits: Vec<String> = tries.back_off_ms.iter().map(|wait| format!("< {wait} ms")).collect();
        let _ = write!(text, ", waiting {}", waits.join(", "));
        if tries.other_hosts.is_some() {
            text.push_str(", at endpoints that were not tried if there are any");
        }
    }
    let written = |origin: &Place| {
        let at = origin.location().map(|at| format!(" {}", place::column(&at))).unwrap_or_default();
        format!("{origin}{at}")
    };
    let first = Line { label: "tries", text, right: tries.origin.as_ref().map(written).unwrap_or_default() };
    let mut limits = vec![format!("{} to connect", words::time(tries.connect_timeout_ms))];
    limits.extend(tries.per_try_timeout_ms.map(|limit| format!("{} each try", words::time(limit))));
    limits.push(match tries.timeout_ms {
        Some(limit) => format!("{} for all", words::time(limit)),
        None => "no limit for all".to_owned(),
    });
    limits.extend(tries.worst_case_ms.map(|time| format!("{} at most", words::time(time))));
    vec![first, Line { label: "time", text: limits.join(", "), right: written(&tries.timeout_origin) }]
}

/// A note with the lines it is about.
fn framed(note: &Note, manifests: &ManifestSet) -> String {
    Frame {
        severity: note.severity,
        code: note.code,
        title: &note.message,
        labels: note.origin.location().map(|at| (at, "")).into_iter().collect(),
        note: None,
        help: note.help.as_deref(),
    }
    .render(manifests)
}

/// A near miss, with the line that could be repaired.
fn frame(miss: &NearMiss, manifests: &ManifestSet) -> String {
    let failed = &miss.failed;
    let condition = &failed.condition;
    let got = if failed.got.is_empty() { "nothing" } else { failed.got.as_str() };
    // A rule took the request there, and leads to nothing.
    let leads_nowhere =
        [".destination", ".mirror", ".backendRefs"].iter().any(|part| miss.field.contains(part));
    let title = if leads_nowhere {
        format!("{} names a {condition} that does not exist", miss.resource)
    } else {
        let meant = miss.rule.as_ref().and_then(Place::resource);
        format!("did you mean {}?", meant.as_deref().unwrap_or(&miss.resource))
    };
    let about_request = !leads_nowhere && miss.repair.is_none() && is_about_request(condition);
    let label = if about_request && !failed.got.is_empty() {
        format!("{condition} has to be {got}")
    } else {
        format!("{condition} is {got}")
    };
    let note = match failed.expected.as_str() {
        // A repair that is what was expected says it already.
        expected if miss.repair.as_deref() == Some(expected) => None,
        "" if about_request => Some("the request has none".to_owned()),
        "" => None,
        expected if about_request => Some(format!("the request has {expected}")),
        expected => Some(format!("expected {expected}")),
    };
    let repair = miss.repair.as_ref().map(|repair| format!("write `{repair}` at {}", miss.field));
    let help: Vec<&str> = repair.as_deref().into_iter().chain(miss.help.as_deref()).collect();
    let help = (!help.is_empty()).then(|| help.join(", "));
    Frame {
        severity: Severity::Warning,
        code: "",
        title: &title,
        labels: miss.origin.location().map(|at| (at, label.as_str())).into_iter().collect(),
        note: note.as_deref(),
        help: help.as_deref(),
    }
    .render(manifests)
}

/// Whether a condition compares what is written with what the request has, so that either may be wrong.
fn is_about_request(condition: &str) -> bool {
    let whole =
        ["path", "method", "authority", "scheme", "domain", "host", "name", "server name", "dialled port"];
    let begins =
        ["header ", "query parameter ", "metadata ", "destination ", "transport ", "application ", "source "];
    whole.contains(&condition) || begins.iter().any(|begin| condition.starts_with(begin))
}
