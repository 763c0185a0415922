//! How do hops and legs make a graph?

use petgraph::graph::DiGraph;
use rustc_hash::FxHashMap;

use super::contract::{Hop, Leg, Trace};

/// Hops as nodes, legs as edges.
pub type TraceGraph<'a> = DiGraph<&'a Hop, &'a Leg>;

impl Trace {
    /// The trace as a directed graph: its hops as nodes in their order, its legs as edges in theirs.
    pub fn graph(&self) -> TraceGraph<'_> {
        let mut graph = DiGraph::with_capacity(self.hops.len(), self.legs.len());
        let nodes: FxHashMap<&str, _> =
            self.hops.iter().map(|hop| (hop.id.as_str(), graph.add_node(hop))).collect();
        for leg in &self.legs {
            if let (Some(from), Some(to)) = (nodes.get(leg.from.as_str()), nodes.get(leg.to.as_str())) {
                graph.add_edge(*from, *to, leg);
            }
        }
        graph
    }
}
