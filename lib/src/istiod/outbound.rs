//! What is a sidecar told about traffic that leaves its workload?
//!
//! Listeners by original destination, route configurations by port, and what catches everything else.

pub mod catch_all;
pub mod conflict;
pub mod domains;
pub mod listener;
pub mod route_config;
pub mod tcp;
pub(in crate::istiod) mod tcp_policy;
pub mod virtual_host;
