//! How much of a route table do its tests cover?
//!
//! `envoy: router_check/coverage.cc: Coverage::report`: routes that an expectation which held was about, of all routes; every cluster of a
//! weighted route counts.

use std::sync::Arc;

use super::config::Table;
use crate::envoy::config::{Action, ClusterSpecifier};
use crate::envoy::http::routed::Taken;

/// What a covered route is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covered {
    /// The redirect to https that every virtual host shares.
    TlsRedirect,
    /// A route, by the places of virtual host, route and weighted cluster.
    Route(usize, usize, Option<usize>),
}

/// The routes that were covered.
#[derive(Debug, Default)]
pub(super) struct Coverage(Vec<Covered>);

impl Coverage {
    /// Counts what took a request.
    pub(super) fn mark(&mut self, table: &Table, taken: &Taken) {
        let (route, weighted) = match taken {
            Taken::Nothing => return,
            Taken::TlsRedirect { .. } => return self.add(Covered::TlsRedirect),
            Taken::Answer { route, .. } => (&route.1, None),
            Taken::Forward { route, weighted, .. } => (&route.1, *weighted),
        };
        for (host, entry) in table.hosts.iter().enumerate() {
            if let Some(place) = entry.routes.iter().position(|entry| Arc::ptr_eq(&entry.route, route)) {
                self.add(Covered::Route(host, place, weighted));
            }
        }
    }

    fn add(&mut self, covered: Covered) {
        if !self.0.contains(&covered) {
            self.0.push(covered);
        }
    }

    /// How many per cent of the routes were covered.
    pub(super) fn percentage(&self, table: &Table) -> f64 {
        let routes = table.hosts.iter().flat_map(|host| &host.routes);
        let all: usize = routes
            .map(|entry| match &entry.route.action {
                Action::Route(action) => match &action.cluster {
                    ClusterSpecifier::WeightedClusters(clusters) => clusters.len(),
                    ClusterSpecifier::Cluster(_) | ClusterSpecifier::ClusterHeader(_) => 1,
                },
                Action::Redirect(_) | Action::DirectResponse(_) | Action::None => 1,
            })
            .sum();
        if all == 0 { 0.0 } else { 100.0 * self.0.len() as f64 / all as f64 }
    }
}
