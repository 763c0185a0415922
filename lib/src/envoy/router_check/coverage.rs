//! How much of a route table do its tests cover?
//!
//! `envoy: router_check/coverage.cc`: routes that an expectation which held was about, of all routes; every cluster of a weighted route
//! counts. Invariant: what an expectation covers depends on what took the request, never on what was expected.

use std::sync::Arc;

use super::config::{Table, TableRoute};
use crate::envoy::config::{Action, ClusterSpecifier};
use crate::envoy::http::routed::Taken;

/// How coverage is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoverageMeasure {
    /// Routes that some expectation was about.
    #[default]
    Routes,
    /// The same, and the names of routes without tests (`--detailed-coverage`).
    RoutesByName,
    /// For each route, how many of the expectations that there could be were there; and the routes without tests (`--covall`).
    Expectations,
}

/// What a covered route is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covered {
    /// The redirect to https that every virtual host shares.
    TlsRedirect,
    /// A route, by the places of virtual host, route and weighted cluster.
    Route(usize, usize, Option<usize>),
}

/// What an expectation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    Cluster,
    VirtualCluster,
    VirtualHost,
    PathRewrite,
    HostRewrite,
    RedirectPath,
    RedirectCode,
}

/// A route that was covered, with what of it.
#[derive(Debug)]
struct Entry {
    covered: Covered,
    /// How many expectations there could be.
    possible: usize,
    aspects: Vec<Aspect>,
}

/// The routes that were covered.
#[derive(Debug, Default)]
pub(super) struct Coverage(Vec<Entry>);

impl Coverage {
    /// Counts what took a request.
    pub(super) fn mark(&mut self, table: &Table, taken: &Taken, aspect: Aspect) {
        let (route, weighted, possible) = match taken {
            Taken::Nothing => return,
            Taken::TlsRedirect { .. } => return self.add(Covered::TlsRedirect, 2, aspect),
            Taken::Answer { route, .. } => (&route.1, None, 2),
            Taken::Forward { route, weighted, .. } => (&route.1, *weighted, 5),
        };
        for (host, entry) in table.hosts.iter().enumerate() {
            if let Some(place) = entry.routes.iter().position(|entry| Arc::ptr_eq(&entry.route, route)) {
                self.add(Covered::Route(host, place, weighted), possible, aspect);
            }
        }
    }

    fn add(&mut self, covered: Covered, possible: usize, aspect: Aspect) {
        match self.0.iter_mut().find(|entry| entry.covered == covered) {
            Some(entry) if entry.aspects.contains(&aspect) => {}
            Some(entry) => entry.aspects.push(aspect),
            None => self.0.push(Entry { covered, possible, aspects: vec![aspect] }),
        }
    }

    /// How many per cent of the routes were covered; not a number for a table without routes, as with Envoy's tool.
    pub(super) fn percentage(&self, table: &Table, measure: CoverageMeasure) -> f64 {
        let routes = table.hosts.iter().flat_map(|host| &host.routes);
        let all: usize = routes.map(clusters).sum();
        let covered = match measure {
            CoverageMeasure::Routes | CoverageMeasure::RoutesByName => self.0.len() as f64,
            CoverageMeasure::Expectations => {
                self.0.iter().map(|entry| entry.aspects.len() as f64 / entry.possible as f64).sum()
            }
        };
        100.0 * covered / all as f64
    }

    /// The routes without tests, as Envoy's tool names them.
    pub(super) fn missing(&self, table: &Table, measure: CoverageMeasure) -> Vec<String> {
        let mut out = Vec::new();
        for (host, entry) in table.hosts.iter().enumerate() {
            for (place, route) in entry.routes.iter().enumerate() {
                let covered = |entry: &Entry| matches!(entry.covered, Covered::Route(h, p, _) if (h, p) == (host, place));
                if self.0.iter().any(covered) {
                    continue;
                }
                let name = &entry.host.name;
                match measure {
                    CoverageMeasure::Routes => {}
                    CoverageMeasure::RoutesByName => {
                        // The tool puts a random UUID behind each name; a place is as unique, and the same each time.
                        let route = &route.route.name;
                        out.push(format!("host: {name}, route name: {route}-{host}.{place}"));
                    }
                    CoverageMeasure::Expectations => {
                        out.push(format!("host: {name}, route: {}", route.written_match));
                    }
                }
            }
        }
        out
    }
}

/// How often a route counts.
fn clusters(entry: &TableRoute) -> usize {
    match &entry.route.action {
        Action::Route(action) => match &action.cluster {
            ClusterSpecifier::WeightedClusters(clusters) => clusters.len(),
            ClusterSpecifier::Cluster(_) | ClusterSpecifier::ClusterHeader(_) => 1,
        },
        Action::Redirect(_) | Action::DirectResponse(_) | Action::None => 1,
    }
}
