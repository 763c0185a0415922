//! The header ledger: what each hop did to the headers, who did it, and where that is written.

use std::fmt::Write as _;

use dryroute::trace::{ChangeOp, HeaderLines, Hop, LedgerChange, MessageLedger};

use super::text::Detail;
use crate::{place, style};

/// Where a line starts that says who did it, when it does not fit beside what was done.
const WHO_INDENT: usize = 10;

/// Adds the ledger of a hop to a text.
pub(super) fn render(out: &mut String, hop: &Hop, detail: Detail, width: usize) {
    message(out, "request", &hop.request, detail, width);
    message(out, "response", &hop.response, detail, width);
}

fn message(out: &mut String, what: &str, ledger: &MessageLedger, detail: Detail, width: usize) {
    if ledger.changes.is_empty()
        && (!detail.messages || (ledger.arrived.is_empty() && ledger.left.is_empty()))
    {
        return;
    }
    let _ = writeln!(out, "    {}", style::paint(style::CYAN, what));
    if detail.messages {
        lines(out, "arrived", &ledger.arrived);
    }
    for change in &ledger.changes {
        let who = match change.origin.location() {
            Some(at) => place::line(&at),
            None => format!("{}: {}", program(change), change.origin),
        };
        let left = format!("      {}", done(change));
        let line = style::beside(&left, &style::paint(style::DIM, &who), WHO_INDENT, width);
        let _ = writeln!(out, "{line}");
    }
    if detail.messages {
        lines(out, "left", &ledger.left);
    }
}

/// A change that no file names is a default, of Istio's configuration or of Envoy itself.
fn program(change: &LedgerChange) -> &'static str {
    if change.by == "envoy" { "Envoy" } else { "Istio default" }
}

/// `+ name: value`, `~ name: old → new`, `- name`.
fn done(change: &LedgerChange) -> String {
    let old = change.old.as_deref().unwrap_or_default();
    let new = change.new.as_deref().unwrap_or_default();
    match change.op {
        ChangeOp::Remove => style::paint(style::RED, &format!("- {}: {old}", change.name)),
        ChangeOp::Set | ChangeOp::Append if change.old == change.new => {
            style::paint(style::YELLOW, &format!("~ {}: {new} (set again)", change.name))
        }
        ChangeOp::Set | ChangeOp::Append if change.old.is_some() => {
            style::paint(style::YELLOW, &format!("~ {}: {old} → {new}", change.name))
        }
        ChangeOp::Add | ChangeOp::Set | ChangeOp::Append => {
            style::paint(style::GREEN, &format!("+ {}: {new}", change.name))
        }
    }
}

fn lines(out: &mut String, when: &str, lines: &HeaderLines) {
    let _ = writeln!(out, "      {}", style::paint(style::DIM, when));
    for (name, value) in lines {
        let _ = writeln!(out, "        {name}: {value}");
    }
}
