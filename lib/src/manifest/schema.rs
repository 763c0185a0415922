//! What do the kinds look like?
//!
//! Plain structs with the fields of Istio's protos, Kubernetes' types and the Gateway API, under their own names. The
//! reader sees each struct's field list, so that a field which is not here is reported. Invariant: a schema has no
//! meaning of its own; defaults that the API server or istiod fill in belong to the `mesh` room.

pub mod gateway_api;
pub mod istio;
pub mod kubernetes;
pub mod mesh_config;
pub mod scalar;

pub use scalar::{Duration, Ignored, IntOrString};
