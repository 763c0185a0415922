//! Does a real Envoy do what the model says?
//!
//! A proxy's exported configuration is started in Envoy on loopback, with stand-ins for everything behind it; requests
//! go over real sockets, and what the client, the stand-ins and the access log saw is compared with the decision.
//! Invariant: the model is asked before Envoy, and never learns what Envoy answered.

// A test may fail loudly: what is sent and received here is the tests' own.
#![allow(clippy::panic, clippy::indexing_slicing, clippy::string_slice, clippy::missing_panics_doc)]

pub mod absurd;
pub mod alone;
pub mod binary;
pub mod client;
pub mod compare;
pub mod discovery;
mod hops;
pub mod lab;
pub mod log;
pub mod network;
pub mod path;
pub mod process;
pub mod random;
pub mod stand_ins;
pub mod tls;
pub mod upstream;

pub use binary::Binary;
pub use compare::Difference;
pub use lab::{Lab, Verdict, Visit};
