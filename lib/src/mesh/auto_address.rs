//! Which address does a ServiceEntry without addresses get?
//!
//! Only clients with DNS capture see it. Istio's controller writes it into the resource's status; input without status
//! gets the addresses that the controller would hand out, in order of creation, as an assumption. With
//! `PILOT_ENABLE_IP_AUTOALLOCATE` off, every istiod computes the addresses from a hash of namespace and host.
//! istiod: `ipallocate.go: IPAllocator`; `serviceentry/auto_allocation.go: autoAllocateIPs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::host::is_wildcard;
use super::service::{Registry, Resolution, Service, UNSPECIFIED};
use crate::manifest::schema::istio;
use crate::manifest::{Resource, Spec, Status};
use crate::origin::ResourceId;

/// The last block of IPv4 addresses that no network uses.
const V4: u32 = 0xF0F0_0000;
/// A block of IPv6 addresses that is set aside for benchmarks.
const V6: u128 = 0x2001_0002 << 96;
/// How many addresses the older, hashing allocation knows.
const HASHED: u32 = 256 * 254;
/// The step of its second hash.
const PRIME: u32 = 65011;

/// An automatic address, and whether it was assumed rather than written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AutoAddress {
    pub v4: SmolStr,
    pub v6: SmolStr,
    pub assumed: bool,
}

/// The automatic addresses of ServiceEntries, by resource and host.
#[derive(Debug, Default)]
pub(crate) struct AutoAddresses {
    by_host: FxHashMap<(ResourceId, SmolStr), AutoAddress>,
}

impl AutoAddresses {
    /// Reads the addresses that are written, and hands out the others if `assume` says so.
    pub(crate) fn new<'r>(resources: impl Iterator<Item = &'r Resource>, assume: bool) -> Self {
        let mut entries: Vec<(&Resource, &istio::ServiceEntry)> = resources
            .filter_map(|resource| match &resource.spec {
                Spec::ServiceEntry(entry) => Some((resource, entry.as_ref())),
                _ => None,
            })
            .collect();
        entries.sort_by(|(a, _), (b, _)| {
            let key = |r: &Resource| {
                (r.meta.creation_timestamp.clone(), r.meta.name.clone(), r.meta.namespace.clone())
            };
            key(a).cmp(&key(b))
        });
        let mut out = Self::default();
        let mut used = FxHashSet::default();
        for (resource, entry) in &entries {
            used.extend(entry.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()));
            if is_eligible(resource, entry) {
                out.read(resource, entry, &mut used);
            }
        }
        if assume {
            let (mut v4, mut v6) = (0, 0);
            for (resource, entry) in entries.iter().filter(|(resource, entry)| is_eligible(resource, entry)) {
                for host in &entry.hosts {
                    let kept = !is_wildcard(host) || entry.resolution == istio::Resolution::DynamicDns;
                    let key = (resource.id, host.clone());
                    if !kept || out.by_host.contains_key(&key) {
                        continue;
                    }
                    let address = AutoAddress {
                        // A block that is used up gives no more addresses.
                        v4: next(&mut v4, &used, |n| (n <= 0xFFFF).then(|| Ipv4Addr::from(V4 + n).into())),
                        v6: next(&mut v6, &used, |n| Some(Ipv6Addr::from(V6 + u128::from(n)).into())),
                        assumed: true,
                    };
                    out.by_host.insert(key, address);
                }
            }
        }
        out
    }

    fn read(&mut self, resource: &Resource, entry: &istio::ServiceEntry, used: &mut FxHashSet<IpAddr>) {
        let Status::ServiceEntry(status) = &resource.status else { return };
        for written in &status.addresses {
            let Ok(ip) = written.value.parse::<IpAddr>() else { continue };
            used.insert(ip);
            if !entry.hosts.contains(&written.host) {
                continue;
            }
            let address = self.by_host.entry((resource.id, written.host.clone())).or_default();
            match ip {
                IpAddr::V4(ip) => address.v4 = ip.to_smolstr(),
                IpAddr::V6(ip) => address.v6 = ip.to_smolstr(),
            }
        }
    }

    /// The address of a host of a ServiceEntry.
    pub(crate) fn of(&self, resource: ResourceId, host: &SmolStr) -> Option<&AutoAddress> {
        self.by_host.get(&(resource, host.clone()))
    }
}

/// Whether the controller hands out addresses. istiod: `ip_autoallocation.go: shouldV2AutoAllocateIPFromPieces`.
fn is_eligible(resource: &Resource, entry: &istio::ServiceEntry) -> bool {
    let off = resource
        .meta
        .labels
        .get("networking.istio.io/enable-autoallocate-ip")
        .is_some_and(|value| value.eq_ignore_ascii_case("false"));
    entry.resolution != istio::Resolution::None && entry.addresses.is_empty() && !off
}

/// The next address that nobody has; empty when there is none left.
fn next(last: &mut u32, used: &FxHashSet<IpAddr>, address: impl Fn(u32) -> Option<IpAddr>) -> SmolStr {
    loop {
        *last = last.saturating_add(1);
        match address(*last) {
            Some(candidate) if used.contains(&candidate) => {}
            Some(candidate) => return candidate.to_smolstr(),
            None => return SmolStr::default(),
        }
    }
}

/// Gives the services of ServiceEntries addresses by a hash of their namespace and host.
///
/// The slot after a collision depends on who came first; istiod has no order of its own there.
pub(crate) fn hash_addresses(services: &mut [Service]) {
    let mut slots: FxHashMap<u32, usize> = FxHashMap::default();
    for (i, service) in services.iter().enumerate() {
        let eligible = service.registry == Registry::External
            && service.default_address == UNSPECIFIED
            && !is_wildcard(&service.hostname)
            && service.resolution != Resolution::Passthrough;
        if !eligible || slots.len() >= HASHED as usize {
            continue;
        }
        let sum = fnv1a(&key(service));
        let mut slot = sum % HASHED;
        let step = PRIME - sum % PRIME;
        let mut tries = 1_u32;
        while slots.contains_key(&slot) && tries <= HASHED {
            slot = sum.wrapping_add(tries.wrapping_mul(step)) % (HASHED - 1);
            tries += 1;
        }
        slots.entry(slot).or_insert(i);
    }
    let mut taken: Vec<(u32, usize)> = slots.into_iter().collect();
    taken.sort_unstable();
    // Each multiple of 255 that an occupied slot falls on is passed over, and moves all later addresses by one.
    let mut shift = 0;
    let mut known: FxHashMap<SmolStr, (u32, u32)> = FxHashMap::default();
    for (slot, i) in taken {
        let mut number = slot + 1 + shift;
        if number % 255 == 0 {
            number += 1;
            shift += 1;
        }
        let Some(service) = services.get_mut(i) else { continue };
        let (a, b) = *known.entry(key(service)).or_insert((number / 255, number % 255));
        service.auto_allocated_ipv4 = format_smolstr!("240.240.{a}.{b}");
        service.auto_allocated_ipv6 = if a == 0 {
            format_smolstr!("2001:2::f0f0:{b:x}")
        } else {
            format_smolstr!("2001:2::f0f0:{a:x}{b:x}")
        };
    }
}

fn key(service: &Service) -> SmolStr {
    format_smolstr!("{}/{}", service.namespace, service.hostname)
}

/// The 32-bit FNV-1a hash, as Go's `hash/fnv` computes it.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_go() {
        assert_eq!(fnv1a(""), 0x811C_9DC5);
        assert_eq!(fnv1a("a"), 0xE40C_292C);
    }
}
