//! What does a proxy that was told this do?
//!
//! Envoy's configuration types ([`config`]) and its data-plane rules: filter-chain and route matching, header
//! handling, RBAC, faults, retries, local replies. Source: `envoy-semantics` measurements with Envoy 1.40.
//!
//! Invariant: this room knows neither Kubernetes nor Istio's resources. Configuration comes through [`Xds`], and each
//! part of it carries an [`Origin`](crate::origin::Origin) that is passed on, never looked into.

pub mod cluster;
pub mod config;
mod connection;
pub mod decision;
pub mod domain;
pub mod export;
mod filter_chain;
mod headers;
mod http;
pub mod ledger;
pub mod matching;
mod path;
mod rbac;
pub mod recorder;
pub(crate) mod refusal;
pub mod reply;
pub mod request;
mod retry;
pub mod router_check;
pub(crate) mod substitution;
mod tcp_proxy;
mod tls;
pub mod upstream;
pub mod xds;

pub use connection::decide;
pub use decision::{
    ConnectionOutcome, Decision, Ends, HttpBranch, HttpDecision, HttpOutcome, ProxyFacts, Reset,
};
pub use filter_chain::{ChainFault, chain_fault, is_partial_wildcard, refusal};
pub use http::{accepted_upgrade, failed, last_try, passing_details, passing_flags, respond};
pub use ledger::{HeaderChange, HeaderValue};
pub use recorder::{NoRecord, Record, Recorder};
pub use reply::{HttpResponse, LocalReply, ResponseFlag};
pub use request::{AlpnList, ApplicationProtocol, Body, Connection, HttpRequest, Transport};
pub use retry::Tried;
pub use xds::{Capture, Xds};
