//! How is a verdict said?

use std::fmt::Write as _;

use anstyle::Style;
use dryroute::trace::{Fidelity, LegTransport, Outcome, Trace, Verdict, VerdictKind};

use crate::style;

/// The colour of a verdict: green for what arrives, red for what does not, yellow for what nobody can tell.
pub(super) fn colour(verdict: &Verdict) -> Style {
    match verdict.kind {
        VerdictKind::Delivered | VerdictKind::Redirected => style::GREEN,
        VerdictKind::Answered if verdict.status.is_some_and(|status| status < 400) => style::GREEN,
        VerdictKind::Unknown => style::YELLOW,
        _ => style::RED,
    }
}

/// A sign for those who see no colours.
pub(super) fn sign(verdict: &Verdict) -> &'static str {
    match verdict.kind {
        VerdictKind::Unknown => "?",
        _ if colour(verdict) == style::GREEN => "✓",
        _ => "✗",
    }
}

/// The verdict in short: what a client and the access log say.
pub(super) fn short(verdict: &Verdict) -> String {
    let mut words: Vec<String> = vec![match (verdict.kind, verdict.status) {
        (VerdictKind::Answered | VerdictKind::Redirected, Some(status)) => status.to_string(),
        (VerdictKind::Reset, _) => "connection closed".to_owned(),
        (VerdictKind::Unresolved, _) => "not resolved".to_owned(),
        (kind, Some(status)) => format!("{kind} {status}"),
        (kind, None) => kind.to_string(),
    }];
    words.extend(verdict.flags.iter().map(ToString::to_string));
    if !verdict.details.is_empty() {
        words.push(verdict.details.to_string());
    }
    if let Some(location) = &verdict.location {
        words.push(format!("→ {location}"));
    }
    words.join(" ")
}

/// The verdict in a sentence.
pub(super) fn sentence(verdict: &Verdict) -> String {
    let head = format!("{} {}", sign(verdict), short(verdict));
    let by = match verdict.kind {
        VerdictKind::Delivered => format!(" to {}", verdict.by),
        VerdictKind::Answered => format!(", answered by {}", verdict.by),
        VerdictKind::Redirected | VerdictKind::Reset => format!(" by {}", verdict.by),
        VerdictKind::Unresolved | VerdictKind::Loop | VerdictKind::Unknown => format!(" at {}", verdict.by),
    };
    let reason = verdict.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{}{by}{reason}", style::paint(colour(verdict), &head))
}

/// How certain an outcome is.
pub(super) fn certainty(outcome: &Outcome) -> String {
    let why = if outcome.assumptions.is_empty() {
        String::new()
    } else {
        format!(" {}", outcome.assumptions.join(" "))
    };
    match outcome.fidelity {
        Fidelity::Exact => format!("exact{why}"),
        Fidelity::Assumed => format!("assumed{why}"),
        Fidelity::Opaque => format!("not fully modelled{why}"),
    }
}

/// How a leg is protected.
pub(super) fn transport(transport: LegTransport) -> &'static str {
    match transport {
        LegTransport::Plaintext => "plaintext",
        LegTransport::Tls => "TLS",
        LegTransport::Mtls => "mTLS",
    }
}

/// Who sends the request.
pub(super) fn source(trace: &Trace) -> String {
    let source = &trace.source;
    let mut out = format!("from {}", source.workload);
    if let Some(container) = &source.container {
        let _ = write!(out, " -c {container}");
    }
    if let Some(uid) = source.uid {
        let _ = write!(out, " uid {uid}");
    }
    if source.chosen {
        out.push_str(" (chosen)");
    }
    out
}

/// A time of so many milliseconds.
pub(super) fn time(milliseconds: u64) -> String {
    match (milliseconds / 1000, milliseconds % 1000) {
        (0, rest) => format!("{rest} ms"),
        (seconds, 0) => format!("{seconds} s"),
        (seconds, rest) => {
            let text = format!("{seconds}.{rest:03}");
            format!("{} s", text.trim_end_matches('0'))
        }
    }
}
