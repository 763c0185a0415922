//! Which pods does a name of a headless Service stand for?
//!
//! The Service's own name stands for all that are ready, in an order that changes; `pod.service` for those of that host name.
//! A StatefulSet whose pods are not among the manifests has the pods that its numbers say; that they are ready is assumed.
//! coredns: `plugin/kubernetes/kubernetes.go: endpointHostname, findServices`; the plugin `loadbalance` turns answers round.

use std::net::IpAddr;

use smol_str::{SmolStr, format_smolstr};

use super::{Answer, Found, Resolver};
use crate::mesh::{Address, Endpoint, Health, Service, StatefulPods, Workload};

/// A pod that a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::trace) struct Pod {
    /// Its address.
    pub(in crate::trace) ip: IpAddr,
    /// The workload, by its place in the mesh.
    pub(in crate::trace) workload: Option<usize>,
    /// Whether it has a name of its own, by which its clients can mean it and no other.
    pub(in crate::trace) named: bool,
    /// What is assumed of it.
    pub(in crate::trace) assumption: Option<String>,
}

impl Resolver<'_> {
    /// The pods of a headless Service.
    pub(super) fn pods(&self, service: &Service) -> Answer {
        let pods = self.matching(service, |endpoint, workload| {
            Some(match workload {
                Some(workload) => {
                    endpoint.assumed.then(|| format!("{} has a ready endpoint", workload.full_name()))
                }
                None => endpoint.assumed.then(|| format!("{} has a ready endpoint", service.hostname)),
            })
        });
        match pods.as_slice() {
            [] => Answer::NotFound(format!("{} has no ready endpoint", service.hostname)),
            [_] => found(pods, service, "the pod of a headless Service".to_owned()),
            many => {
                let note = format!("any of {} pods of a headless Service", many.len());
                found(pods, service, note)
            }
        }
    }

    /// The pods of a headless Service that are called `pod.service`; `None` for all other names.
    pub(super) fn pod(&self, name: &str) -> Option<Answer> {
        let (pod, rest) = name.split_once('.')?;
        let service = self.mesh.cluster_service(rest).filter(|service| service.is_headless())?;
        let mut missing = None;
        let pods = self.matching(service, |endpoint, workload| {
            if own_name(endpoint, workload, service) == Some(pod) {
                return Some(None);
            }
            let workload = workload?;
            let pods = workload.stateful.as_ref().filter(|pods| pods.service == service.name)?;
            let number = pod.strip_prefix(workload.name.as_str())?.strip_prefix('-')?;
            match stands_for(pods, number) {
                Some(true) => Some(Some(format!("the pod {pod} of {} is ready", workload.full_name()))),
                Some(false) => {
                    Some(Some(format!("{} has a pod {pod}, and it is ready", workload.full_name())))
                }
                None => {
                    missing = Some(format!("{} has no pod {pod}", workload.full_name()));
                    None
                }
            }
        });
        if pods.is_empty() {
            return missing.map(Answer::NotFound);
        }
        Some(found(pods, service, "a pod of a headless Service".to_owned()))
    }

    /// The pods of ready endpoints that are wanted, each once, and what is assumed of them.
    fn matching(
        &self,
        service: &Service,
        mut wanted: impl FnMut(&Endpoint, Option<&Workload>) -> Option<Option<String>>,
    ) -> Vec<Pod> {
        let mut out: Vec<Pod> = Vec::new();
        for endpoint in self.mesh.endpoints(&service.hostname, &service.namespace) {
            let Address::Ip(ip) = endpoint.address else { continue };
            if endpoint.health != Health::Healthy || out.iter().any(|pod| pod.ip == ip) {
                continue;
            }
            let place = endpoint.workload.map(|place| place as usize);
            let workload = place.and_then(|place| self.mesh.workloads().get(place));
            if let Some(assumption) = wanted(endpoint, workload) {
                let named = own_name(endpoint, workload, service).is_some();
                out.push(Pod { ip, workload: place, named, assumption });
            }
        }
        out
    }
}

/// The name that DNS gives an endpoint within its Service.
fn own_name<'a>(
    endpoint: &'a Endpoint,
    workload: Option<&'a Workload>,
    service: &Service,
) -> Option<&'a str> {
    let of_pod = workload
        .filter(|workload| workload.stateful.is_none() && workload.subdomain == service.name)
        .map(|workload| &workload.hostname);
    [Some(&endpoint.hostname), of_pod]
        .into_iter()
        .flatten()
        .map(SmolStr::as_str)
        .find(|name| !name.is_empty())
}

/// Whether a number is one of a StatefulSet's pods; `Some(false)` where it is not written how many there are.
fn stands_for(pods: &StatefulPods, number: &str) -> Option<bool> {
    let ordinal: u32 = number.parse().ok().filter(|ordinal| format_smolstr!("{ordinal}") == number)?;
    let place = ordinal.checked_sub(pods.first)?;
    match pods.count {
        Some(count) => (place < count).then_some(true),
        // One, unless something else scales it.
        None => Some(place == 0),
    }
}

fn found(pods: Vec<Pod>, service: &Service, note: String) -> Answer {
    Answer::Found(Found {
        addresses: pods.iter().map(|pod| pod.ip).collect(),
        pods,
        origin: service.origin.clone(),
        note,
        assumption: None,
    })
}
