//! Where would this request go in my Istio mesh, and why, without sending it.
//!
//! Five rooms, one direction: [`manifest`] (what is written) → [`mesh`] (what exists) → [`istiod`] (what a
//! proxy is told) → [`envoy`] (what a proxy that was told this does) → [`trace`] (where the request ends up).
//!
//! Words that several rooms share ([`diagnostic`], [`origin`], [`host`], [`protocol`], gRPC's statuses, regular expressions) stand beside them and
//! know none of them.
//!
//! Invariant: an import points from right to left only, and [`envoy`] knows none of the other rooms. Nothing here
//! reads a clock, a random source, the network or the environment: the same input gives the same bytes out.

pub mod diagnostic;
pub mod envoy;
mod grpc;
pub mod host;
pub mod istiod;
pub mod manifest;
pub mod mesh;
pub mod origin;
mod parallel;
pub mod protocol;
mod re2;
pub mod scenario;
#[cfg(feature = "proptest")]
pub mod strategy;
pub mod trace;

/// The Istio release whose translation rules are modelled.
pub const ISTIO_VERSION: &str = "1.32";
/// The Envoy release whose data-plane rules are modelled.
pub const ENVOY_VERSION: &str = "1.40";

/// The examples of the README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
