//! What is this proxy told?
//!
//! Plays istiod for one proxy: listeners, routes, clusters and their endpoints, each built when it is asked for.
//! Invariant: the full enumeration of a proxy's configuration goes through the same builders as a single question.

pub mod attachment;
pub mod authorization;
mod bootstrap;
pub mod cluster;
pub mod connection_manager;
pub mod connection_settings;
pub mod credential;
pub mod diagnostics;
pub mod downstream_tls;
pub mod envoy_filter;
pub mod gateway;
pub mod inbound;
mod memo;
pub mod name;
pub mod node;
pub mod outbound;
pub mod peer_authentication;
pub mod proxy;
pub mod route;
pub mod scope;
pub mod service;
mod snapshot;
pub mod tracing;

pub use node::{InterceptionMode, IpMode, Node, NodeMetadata, NodeType};
pub use proxy::Proxy;
