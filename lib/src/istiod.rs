//! What is this proxy told?
//!
//! Plays istiod for one proxy: listeners, routes, clusters and their endpoints, each built when it is asked for.
//! Invariant: the full enumeration of a proxy's configuration goes through the same builders as a single question.

pub mod name;
pub mod node;
pub mod route;

pub use node::{InterceptionMode, IpMode, Node, NodeMetadata, NodeType};
