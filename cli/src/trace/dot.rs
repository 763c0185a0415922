//! The trace as a graph for Graphviz.

use std::fmt::Write as _;

use dryroute::trace::{HopKind, Trace};

use super::words;
use crate::style;

/// The graph.
pub(super) fn render(trace: &Trace) -> String {
    let graph = trace.graph();
    let mut out = String::from(
        "digraph trace {\n  rankdir=LR;\n  node [shape=box, fontname=\"monospace\"];\n  edge [fontname=\"monospace\"];\n",
    );
    for hop in graph.node_weights() {
        let shape = match hop.kind {
            HopKind::Client | HopKind::Workload => "ellipse",
            HopKind::External => "octagon",
            _ => "box",
        };
        let _ = writeln!(out, "  {} [shape={shape}];", quoted(&hop.id));
    }
    for edge in graph.raw_edges() {
        let leg = edge.weight;
        let share = if leg.probability < 1.0 {
            format!("\n{}", style::percent(leg.probability))
        } else {
            String::new()
        };
        let dashed = if leg.mirror { ", style=dashed" } else { "" };
        let label = format!("{}\n{}{share}", leg.address, words::transport(leg.transport));
        let _ = writeln!(
            out,
            "  {} -> {} [label={}{dashed}];",
            quoted(&leg.from),
            quoted(&leg.to),
            quoted(&label)
        );
    }
    for (index, outcome) in trace.outcomes.iter().enumerate() {
        let verdict = &outcome.verdict;
        let colour = match words::sign(verdict) {
            "✓" => "darkgreen",
            "?" => "goldenrod",
            _ => "red",
        };
        let _ = writeln!(
            out,
            "  \"verdict {index}\" [shape=plaintext, fontcolor={colour}, label={}];",
            quoted(&format!("{} {}", style::percent(outcome.probability), words::short(verdict)))
        );
        let _ = writeln!(
            out,
            "  {} -> \"verdict {index}\" [arrowhead=none, color={colour}];",
            quoted(&verdict.by)
        );
    }
    out.push_str("}\n");
    out
}

/// A text as Graphviz reads it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_and_line_breaks_are_escaped() {
        assert_eq!(super::quoted("a\"b\nc\\"), r#""a\"b\nc\\""#);
    }
}
