//! Where does the request end up, and why?
//!
//! Name resolution and capture at the client, then from proxy to proxy: each hop is one decision of
//! [`envoy`](crate::envoy) about one proxy's configuration ([`istiod`](crate::istiod)). The result is a directed graph
//! of hops and legs, with a verdict for each way the request can end.
//!
//! Invariant: a walk depends on the mesh and the query alone, it always ends, and the probabilities of its outcomes sum
//! to 1. What the input does not settle is a named assumption or the verdict `unknown`, never a success.
//!
//! ```
//! use std::sync::Arc;
//! use dryroute::manifest::Loader;
//! use dryroute::mesh::{Mesh, MeshOptions};
//! use dryroute::trace::{Query, Tracer, VerdictKind};
//!
//! let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {containers: [{name: app}]}";
//! let mesh = Mesh::new(Loader::new().text("pod.yaml", pod).load(), MeshOptions::default());
//! let mut query = Query::get("http://httpbin.org/get")?;
//! query.from = Some("shop/web".into());
//! let trace = Tracer::new(Arc::new(mesh)).trace(&query)?;
//! assert_eq!(trace.outcomes[0].path, ["client", "sidecar:shop/web", "external:httpbin.org"]);
//! assert_eq!(trace.assumptions[1].text, "namespace shop asks for injection; its Namespace is not given");
//! assert_eq!(trace.outcomes[0].verdict.kind, VerdictKind::Delivered);
//! # Ok::<(), dryroute::trace::TraceError>(())
//! ```

mod address;
pub mod capture;
pub mod contract;
mod dns;
mod error;
mod graph;
mod near_miss;
pub mod query;
mod remarks;
mod source;
mod tracer;
mod walk;

pub use contract::{
    Assumption, ChangeOp, Failed, Fidelity, HeaderLines, Hop, HopKind, LedgerChange, Leg, LegTransport,
    MessageLedger, NearMiss, Note, Outcome, Place, RequestLine, Source, Step, StepKind, Trace, Tries,
    Verdict, VerdictKind,
};
pub use error::TraceError;
pub use graph::TraceGraph;
pub use query::{
    Choice, ConnectTo, HttpVersion, OUTSIDE_ADDRESS, Query, QueryError, Resolve, Scheme, Target, ToGateway,
};
pub use tracer::Tracer;
