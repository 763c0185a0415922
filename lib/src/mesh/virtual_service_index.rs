//! Which VirtualServices could apply to a host?
//!
//! Built once for the whole mesh; who sees what is sorted out where the question is asked. Invariant: every list is in
//! istiod's order of VirtualServices (by creation, then name, then namespace).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use super::host_index::HostIndex;
use super::virtual_service::{MESH_GATEWAY, VirtualService};

/// VirtualServices for sidecars by what is asked about them; numbers are places in
/// [`Mesh::virtual_services`](super::Mesh::virtual_services).
#[derive(Clone, Debug, Default)]
pub struct VirtualServiceIndex {
    all: Vec<u32>,
    by_host: HostIndex,
    by_lower_host: FxHashMap<SmolStr, Vec<u32>>,
    by_destination: FxHashMap<SmolStr, Vec<u32>>,
    /// Hosts as written, read backwards, sorted.
    backwards: Vec<(Box<str>, u32)>,
}

impl VirtualServiceIndex {
    pub(crate) fn new(virtual_services: &[Arc<VirtualService>]) -> Self {
        let mut out = Self::default();
        for (number, virtual_service) in (0_u32..).zip(virtual_services) {
            if !virtual_service.is_bound_to(&MESH_GATEWAY) {
                continue;
            }
            out.all.push(number);
            for host in &virtual_service.hosts {
                out.by_host.insert(host, number);
                push(&mut out.by_lower_host, host.to_lowercase().into(), number);
                out.backwards.push((host.chars().rev().collect::<String>().into(), number));
            }
            for destination in virtual_service.destinations() {
                push(&mut out.by_destination, destination.host.clone(), number);
            }
        }
        out.backwards.sort_unstable();
        out
    }

    /// All of them.
    pub fn all(&self) -> &[u32] {
        &self.all
    }

    /// By host, as written.
    pub fn by_host(&self) -> &HostIndex {
        &self.by_host
    }

    /// Those with exactly this host, in lower case.
    pub fn of_lower_host(&self, host: &str) -> &[u32] {
        self.by_lower_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// Those that send to this host, also as a mirror.
    pub fn sending_to(&self, host: &str) -> &[u32] {
        self.by_destination.get(host).map_or(&[], Vec::as_slice)
    }

    /// Those with a host that ends with `suffix`.
    pub fn ending_with(&self, suffix: &str) -> impl Iterator<Item = u32> {
        let suffix: String = suffix.chars().rev().collect();
        let start = self.backwards.partition_point(|(name, _)| **name < *suffix);
        self.backwards
            .iter()
            .skip(start)
            .take_while(move |(name, _)| name.starts_with(&suffix))
            .map(|(_, number)| *number)
    }
}

fn push(map: &mut FxHashMap<SmolStr, Vec<u32>>, key: SmolStr, number: u32) {
    let list = map.entry(key).or_default();
    if list.last() != Some(&number) {
        list.push(number);
    }
}
