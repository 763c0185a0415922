//! Where does the request end up, and why?
//!
//! Name resolution and capture at the client, then from proxy to proxy: each hop is one decision of
//! [`envoy`](crate::envoy) about one proxy's configuration ([`istiod`](crate::istiod)). The result is a directed graph
//! of hops and legs, with a verdict for each way the request can end.
//!
//! Invariant: a walk depends on the mesh and the query alone, it always ends, and the probabilities of its outcomes sum
//! to 1. What the input does not settle is a named assumption or the verdict `unknown`, never a success.

pub mod contract;
mod error;
mod graph;
pub mod query;
mod tracer;

pub use contract::{
    Assumption, ChangeOp, Failed, Fidelity, HeaderLines, Hop, HopKind, LedgerChange, Leg, LegTransport,
    MessageLedger, NearMiss, Note, Outcome, Place, RequestLine, Source, Step, StepKind, Trace, Verdict,
    VerdictKind,
};
pub use error::TraceError;
pub use graph::TraceGraph;
pub use query::{Choice, ConnectTo, HttpVersion, Query, QueryError, Resolve, Scheme, Target, ToGateway};
pub use tracer::Tracer;
