//! What can a proxy be told?
//!
//! The part of Envoy's v3 API that istiod writes, field by field under Envoy's names. What istiod never varies
//! (buffer limits, stats) is left out.

pub mod cluster;
pub mod http;
pub mod listener;
pub mod matching;
pub mod metadata;
pub mod route;

pub use cluster::*;
pub use http::*;
pub use listener::*;
pub use matching::*;
pub use metadata::*;
pub use route::*;
