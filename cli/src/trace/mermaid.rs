//! The trace as a graph for Mermaid, which Markdown on many sites draws.

use std::fmt::Write as _;

use dryroute::trace::{HopKind, Trace};

use super::words;
use crate::style;

/// The graph.
pub(super) fn render(trace: &Trace) -> String {
    let graph = trace.graph();
    let mut out = String::from("flowchart LR\n");
    for (index, hop) in graph.node_weights().enumerate() {
        let (open, close) = match hop.kind {
            HopKind::Client | HopKind::Workload => ("([", "])"),
            HopKind::External => ("[/", "/]"),
            _ => ("[", "]"),
        };
        let _ = writeln!(out, "  n{index}{open}{}{close}", quoted(&hop.id));
    }
    for edge in graph.raw_edges() {
        let leg = edge.weight;
        let arrow = if leg.mirror { "-.->" } else { "-->" };
        let share = if leg.probability < 1.0 {
            format!("<br/>{}", style::percent(leg.probability))
        } else {
            String::new()
        };
        let label = format!("{}<br/>{}{share}", leg.address, words::transport(leg.transport));
        let (from, to) = (edge.source().index(), edge.target().index());
        let _ = writeln!(out, "  n{from} {arrow}|{}| n{to}", quoted(&label));
    }
    for (index, outcome) in trace.outcomes.iter().enumerate() {
        let verdict = &outcome.verdict;
        let class = match words::sign(verdict) {
            "✓" => "good",
            "?" => "unknown",
            _ => "bad",
        };
        let label = format!("{} {}", style::percent(outcome.probability), words::short(verdict));
        let _ = writeln!(out, "  v{index}{{{{{}}}}}:::{class}", quoted(&label));
        if let Some(at) = graph.node_weights().position(|hop| hop.id == verdict.by) {
            let _ = writeln!(out, "  n{at} --- v{index}");
        }
    }
    out.push_str("  classDef good stroke:#2a2,color:#2a2\n");
    out.push_str("  classDef bad stroke:#c22,color:#c22\n");
    out.push_str("  classDef unknown stroke:#b80,color:#b80\n");
    out
}

/// A text as Mermaid reads it; its tags stay.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "#quot;"))
}
