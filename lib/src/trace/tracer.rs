//! Who answers questions about one mesh?
//!
//! Invariant: what is remembered only saves work; an answer never depends on earlier questions.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::capture::CaptureRules;
use super::contract::{Outcome, Trace};
use super::error::TraceError;
use super::query::Query;
use super::walk;
use crate::envoy::ProxyFacts;
use crate::istiod::{InterceptionMode, Node, Proxy};
use crate::mesh::{Mesh, ProxyKind, Service};

/// Answers questions about a mesh, and remembers what its proxies were told. Shared by threads.
#[derive(Debug)]
pub struct Tracer {
    mesh: Arc<Mesh>,
    members: RwLock<FxHashMap<usize, Arc<Member>>>,
    by_address: OnceLock<FxHashMap<IpAddr, Arc<Service>>>,
}

/// A workload's proxy, and how traffic reaches it.
#[derive(Debug)]
pub(super) struct Member {
    /// What it is told.
    pub(super) proxy: Proxy,
    /// What its header rules know of it.
    pub(super) facts: ProxyFacts,
    /// The pod's iptables rules; `None` where there are none.
    pub(super) capture: Option<CaptureRules>,
}

impl Tracer {
    /// A tracer of a mesh.
    pub fn new(mesh: Arc<Mesh>) -> Self {
        Self { mesh, members: RwLock::default(), by_address: OnceLock::new() }
    }

    /// The mesh.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// Where a request ends up, and why.
    ///
    /// # Errors
    ///
    /// The client or the gateway that the query names does not exist, or its name fits several.
    pub fn trace(&self, query: &Query) -> Result<Trace, TraceError> {
        walk::explained(self, query)
    }

    /// Where a request ends up, without the reasons: the same walk with nothing recorded.
    ///
    /// # Errors
    ///
    /// As [`Tracer::trace`].
    pub fn decide(&self, query: &Query) -> Result<Vec<Outcome>, TraceError> {
        walk::decided(self, query)
    }

    /// The proxy of a workload; `None` when it has none.
    pub(super) fn member(&self, workload: usize) -> Option<Arc<Member>> {
        if let Some(known) = self.members.read().unwrap_or_else(PoisonError::into_inner).get(&workload) {
            return Some(known.clone());
        }
        let found = self.mesh.workloads().get(workload)?;
        let node = Node::of(&self.mesh, found)?;
        let captured =
            found.proxy == ProxyKind::Sidecar && node.metadata.interception_mode != InterceptionMode::None;
        let capture = captured.then(|| CaptureRules::of(found, node.metadata.dns_capture));
        let proxy = Proxy::new(self.mesh.clone(), node);
        let facts = proxy.facts();
        let member = Arc::new(Member { proxy, facts, capture });
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        Some(members.entry(workload).or_insert(member).clone())
    }

    /// The Service at a cluster address.
    pub(super) fn service_at(&self, address: IpAddr) -> Option<&Service> {
        let index = self.by_address.get_or_init(|| {
            let mut index = FxHashMap::default();
            for service in self.mesh.cluster_services() {
                for ip in service.cluster_vips.iter().filter_map(|vip| vip.parse::<IpAddr>().ok()) {
                    index.entry(ip).or_insert_with(|| service.clone());
                }
            }
            index
        });
        index.get(&address).map(AsRef::as_ref)
    }
}
