//! Who answers questions about one mesh?
//!
//! Invariant: what is remembered only saves work; an answer never depends on earlier questions.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use super::address::Addresses;
use super::capture::CaptureRules;
use super::contract::{Outcome, Trace};
use super::error::TraceError;
use super::near_miss::{self, Repaired};
use super::query::Query;
use super::{remarks, walk};
use crate::envoy::ProxyFacts;
use crate::host::near;
use crate::istiod::{InterceptionMode, Node, Proxy};
use crate::mesh::{Mesh, ProxyKind, Registry, Workload, WorkloadNameError};

/// The most names for which similar ones, or those that they stand for, are remembered.
const MOST_NAMES: usize = 1024;

/// Answers questions about a mesh, and remembers what its proxies were told. Shared by threads.
#[derive(Debug)]
pub struct Tracer {
    mesh: Arc<Mesh>,
    members: RwLock<FxHashMap<usize, Arc<Member>>>,
    addresses: OnceLock<Addresses>,
    by_name: OnceLock<FxHashMap<SmolStr, usize>>,
    meant: RwLock<FxHashMap<(SmolStr, SmolStr), usize>>,
    like: RwLock<FxHashMap<SmolStr, Arc<[u32]>>>,
    pub(super) repaired: Repaired,
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
    /// Whether there are such rules for addresses of IPv6.
    pub(super) captures_ipv6: bool,
}

impl Tracer {
    /// A tracer of a mesh.
    pub fn new(mesh: Arc<Mesh>) -> Self {
        Self {
            mesh,
            members: RwLock::default(),
            addresses: OnceLock::new(),
            by_name: OnceLock::new(),
            meant: RwLock::default(),
            like: RwLock::default(),
            repaired: Repaired::default(),
        }
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
        let mut trace = walk::explained(self, query)?;
        near_miss::complete(self, query, &mut trace);
        remarks::add(&mut trace, self);
        Ok(trace)
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
        let captures_ipv6 = captures_ipv6(&self.mesh, found);
        let member = Arc::new(Member { proxy, facts, capture, captures_ipv6 });
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        Some(members.entry(workload).or_insert(member).clone())
    }

    /// The proxy of the workload `namespace/name`.
    pub(super) fn member_named(&self, name: &str) -> Option<Arc<Member>> {
        self.member(self.place_of(name)?)
    }

    /// The place of the workload `namespace/name` in [`Mesh::workloads`].
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        let index = self.by_name.get_or_init(|| {
            let mut index = FxHashMap::default();
            for (place, workload) in self.mesh.workloads().iter().enumerate() {
                index.entry(workload.full_name()).or_insert(place);
            }
            index
        });
        index.get(name).copied()
    }

    /// The place of the workload that a user's name stands for, see [`Mesh::workload_named`].
    pub(super) fn workload_named(&self, name: &str, namespace: &str) -> Result<usize, WorkloadNameError> {
        let key = (SmolStr::new(name), SmolStr::new(namespace));
        if let Some(known) = self.meant.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*known);
        }
        let (found, _) = self.mesh.workload_named(name, namespace)?;
        let mut meant = self.meant.write().unwrap_or_else(PoisonError::into_inner);
        if meant.len() < MOST_NAMES {
            meant.insert(key, found);
        }
        Ok(found)
    }

    /// The services whose names a slip could have made a host of, the nearest first, by their places in [`Mesh::services`].
    pub(super) fn services_like(&self, host: &str) -> Arc<[u32]> {
        if let Some(known) = self.like.read().unwrap_or_else(PoisonError::into_inner).get(host) {
            return known.clone();
        }
        let mut found: Vec<(usize, u32)> = (0_u32..)
            .zip(self.mesh.services())
            .filter_map(|(number, service)| Some((near::slip(host, &service.hostname)?, number)))
            .collect();
        found.sort_unstable();
        let found: Arc<[u32]> = found.into_iter().map(|(_, number)| number).collect();
        let mut known = self.like.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_NAMES {
            known.insert(host.into(), found.clone());
        }
        found
    }

    /// The addresses of the mesh's Services.
    pub(super) fn addresses(&self) -> &Addresses {
        self.addresses.get_or_init(|| Addresses::new(&self.mesh))
    }
}

impl Member {
    /// Whether the pod has rules for addresses of this family.
    pub(super) fn captures(&self, address: IpAddr) -> bool {
        address.is_ipv4() || self.captures_ipv6
    }
}

/// Whether a pod gets rules for IPv6: when its first address is one, or any, where Istio is told of both families. What
/// no manifest gives an address is taken to have those that the cluster gives its Services.
/// istio: `tools/common/config/config.go: getLocalIP`; `iptables_builder_impl.go: AppendRuleV6`.
fn captures_ipv6(mesh: &Mesh, workload: &Workload) -> bool {
    let both = mesh.features().dual_stack;
    let counts = |mut all: Box<dyn Iterator<Item = IpAddr> + '_>| {
        if both { all.any(|ip| ip.is_ipv6()) } else { all.next().is_some_and(|ip| ip.is_ipv6()) }
    };
    if !workload.assumed {
        return counts(Box::new(workload.ips.iter().copied()));
    }
    let written = mesh
        .services()
        .iter()
        .filter(|service| service.registry == Registry::Kubernetes && !service.assumed_address);
    written
        .into_iter()
        .any(|service| counts(Box::new(service.cluster_vips.iter().filter_map(|vip| vip.parse().ok()))))
}
