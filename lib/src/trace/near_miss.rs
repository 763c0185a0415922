//! Which rule was meant for a request that no rule took, and what keeps it away?
//!
//! Asked of a finished trace, and of gateways while they are walked through. Invariant: a repair that is shown was tried:
//! the mesh is built again with that one edit, and the same request does better there ([`trial`]).

mod destination;
mod name;
mod outside;
mod protocol;
mod trial;

pub(super) use trial::Repaired;

use std::sync::Arc;

use rustc_hash::FxHashSet;
use smol_str::{SmolStr, format_smolstr};

use super::contract::{
    Failed, Hop, HopKind, Leg, LegTransport, NearMiss, Outcome, Place, StepKind, Trace, VerdictKind,
};
use super::query::Query;
use super::tracer::{Member, Tracer};
use crate::envoy::request::{HttpRequest, Transport};
use crate::host::near;
use crate::istiod::Proxy;
use crate::istiod::gateway::near_miss::{BindingCondition, binding_misses, flow};
use crate::manifest::Spec;
use crate::mesh::{Mesh, Service};
use crate::origin::{Origin, ResourceId};

/// The most misses that are told of one gateway, and of a trace.
const MOST: usize = 8;

/// The host that a gateway is asked for: the request's, or TLS's server name.
pub(super) fn asked_host(transport: &Transport, request: Option<&HttpRequest>) -> SmolStr {
    match (request, transport) {
        (Some(request), _) => without_port(&request.authority).into(),
        (None, Transport::Tls { sni, .. }) => sni.clone(),
        (None, Transport::Plaintext) => SmolStr::default(),
    }
}

/// The rules for `asked` that do not reach the gateway `proxy` on a port, the likeliest first.
pub(super) fn at_gateway(proxy: &Proxy, asked: &str, port: u16, hop: &SmolStr) -> Vec<NearMiss> {
    let mesh = proxy.mesh();
    binding_misses(proxy, asked, Some(port))
        .into_iter()
        .take(MOST)
        .map(|miss| {
            let virtual_service = miss.virtual_service.resource;
            let rule = (miss.origin.resource() != Some(virtual_service))
                .then(|| Place::new(Origin::field(virtual_service, ""), Arc::clone(mesh)));
            let failed = Failed {
                condition: SmolStr::new_static(miss.condition.as_str()),
                expected: miss.expected,
                got: miss.got,
            };
            let repair = match miss.condition {
                BindingCondition::ExportTo => {
                    Some(Export::of(mesh, virtual_service, &proxy.node().namespace).repair)
                }
                _ => miss.repair,
            };
            NearMiss { rule, repair, ..near_miss(mesh, miss.origin, hop, failed) }
        })
        .collect()
}

/// Adds what could have been meant to a trace, and keeps the repairs that work.
pub(super) fn complete(tracer: &Tracer, query: &Query, trace: &mut Trace) {
    let mut found: Vec<NearMiss> = Vec::new();
    let mut seen: FxHashSet<(&SmolStr, Vec<&SmolStr>)> = FxHashSet::default();
    for outcome in &trace.outcomes {
        for hop in outcome.path.iter().filter_map(|id| trace.hop(outcome, id)) {
            let decided = |kind| matches!(kind, StepKind::VirtualHost | StepKind::Cluster);
            let names = hop.steps.iter().filter(|step| decided(step.kind)).map(|step| &step.name).collect();
            if seen.insert((&hop.id, names)) {
                found.extend(at_hop(tracer, query, trace, outcome, hop));
            }
        }
    }
    for miss in found {
        if trace.near_misses.len() < MOST && !trace.near_misses.contains(&miss) {
            trace.near_misses.push(miss);
        }
    }
    for miss in &mut trace.near_misses {
        let Failed { expected, got, .. } = &miss.failed;
        let asked = without_port(expected);
        if miss.failed.condition == "domain"
            && near::slip(asked, got).is_some()
            && trial::is_known(tracer, query, got)
        {
            miss.help = Some(format!("ask for `{got}`"));
        } else if miss.help.is_none() && expected != got && expected.eq_ignore_ascii_case(got) {
            miss.help = Some("the two differ in upper and lower case only".to_owned());
        }
    }
    if trace.near_misses.iter().any(|miss| miss.repair.is_some()) {
        trial::keep_what_works(tracer, query, trace);
        trace.near_misses.sort_by_key(|miss| miss.repair.is_none());
    }
}

fn at_hop(tracer: &Tracer, query: &Query, trace: &Trace, outcome: &Outcome, hop: &Hop) -> Vec<NearMiss> {
    match hop.kind {
        HopKind::Client if outcome.verdict.kind == VerdictKind::Unresolved => {
            name::misses(tracer, query, trace, hop)
        }
        HopKind::SidecarOutbound | HopKind::Gateway => {
            let passed = hop.kind == HopKind::SidecarOutbound && outside::is_passed(hop);
            let failed = outcome.verdict.by == hop.id;
            let bytes = hop.kind == HopKind::SidecarOutbound && hop.step(StepKind::VirtualHost).is_none();
            if !(passed || failed || bytes) {
                return Vec::new();
            }
            let Some(member) = hop.proxy.as_ref().and_then(|name| tracer.member_named(name)) else {
                return Vec::new();
            };
            let leg = trace.legs.iter().find(|leg| leg.to == hop.id);
            let station = Station { tracer, query, hop, leg, member };
            if passed {
                outside::misses(&station)
            } else if failed {
                destination::misses(&station)
            } else {
                protocol::misses(&station)
            }
        }
        _ => Vec::new(),
    }
}

/// A proxy on the way, and what came to it.
struct Station<'a> {
    tracer: &'a Tracer,
    query: &'a Query,
    hop: &'a Hop,
    leg: Option<&'a Leg>,
    member: Arc<Member>,
}

impl Station<'_> {
    fn mesh(&self) -> &Arc<Mesh> {
        self.tracer.mesh()
    }

    fn namespace(&self) -> &SmolStr {
        &self.member.proxy.node().namespace
    }

    /// The host that was asked for here: the request's, the server name of TLS, else the client's.
    fn host(&self) -> SmolStr {
        let line = self.hop.request.arrived.iter().find(|(name, _)| name == "host");
        let sni = || self.leg.map(|leg| leg.sni.clone()).filter(|sni| !sni.is_empty());
        match line {
            Some((_, authority)) => without_port(authority).into(),
            None => sni().unwrap_or_else(|| self.query.target.host.clone()),
        }
    }

    /// The address and the port that were dialled.
    fn dialled(&self) -> Option<std::net::SocketAddr> {
        self.leg?.address.parse().ok()
    }

    fn is_plaintext(&self) -> bool {
        self.leg.is_some_and(|leg| leg.transport == LegTransport::Plaintext)
    }

    fn miss(&self, origin: Origin, condition: &'static str, expected: SmolStr, got: SmolStr) -> NearMiss {
        let failed = Failed { condition: SmolStr::new_static(condition), expected, got };
        near_miss(self.mesh(), origin, &self.hop.id, failed)
    }

    fn place(&self, origin: Origin) -> Place {
        Place::new(origin, Arc::clone(self.mesh()))
    }

    /// A Service in a namespace that istiod does not watch.
    fn unwatched(&self, service: &Service) -> NearMiss {
        let expected = SmolStr::new_static("a namespace that discoverySelectors choose");
        self.miss(service.origin.clone(), "namespace", expected, service.namespace.clone())
    }

    /// A resource that is not exported to the proxy's namespace.
    fn hidden(&self, resource: ResourceId) -> NearMiss {
        let export = Export::of(self.mesh(), resource, self.namespace());
        let origin = Origin::field(resource, export.field);
        let miss = self.miss(origin, "exportTo", self.namespace().clone(), export.written);
        NearMiss { repair: Some(export.repair), ..miss }
    }
}

fn near_miss(mesh: &Arc<Mesh>, origin: Origin, hop: &SmolStr, failed: Failed) -> NearMiss {
    let place = Place::new(origin, Arc::clone(mesh));
    NearMiss {
        resource: place.resource().unwrap_or_default().into(),
        field: place.field().unwrap_or_default().into(),
        hop: hop.clone(),
        origin: place,
        rule: None,
        failed,
        repair: None,
        help: None,
    }
}

/// To whom a resource is exported, and how to write that a namespace is among them.
struct Export {
    field: &'static str,
    written: SmolStr,
    repair: SmolStr,
}

impl Export {
    fn of(mesh: &Mesh, resource: ResourceId, namespace: &str) -> Self {
        const ANNOTATION: &str = "networking.istio.io/exportTo";
        let found = mesh.manifests().get(resource);
        let of_service = found.filter(|resource| matches!(resource.spec, Spec::Service(_)));
        if let Some(service) = of_service {
            let written = service.meta.annotations.get(ANNOTATION).cloned().unwrap_or_default();
            let repair = match written.as_str() {
                "" | "~" => format_smolstr!(".,{namespace}"),
                written => format_smolstr!("{written},{namespace}"),
            };
            return Self { field: "metadata.annotations.networking.istio.io/exportTo", written, repair };
        }
        let list: &[SmolStr] = match found.map(|resource| &resource.spec) {
            Some(Spec::ServiceEntry(spec)) => &spec.export_to,
            Some(Spec::VirtualService(spec)) => &spec.export_to,
            Some(Spec::DestinationRule(spec)) => &spec.export_to,
            _ => &[],
        };
        let kept = list.iter().filter(|entry| *entry != "~").map(SmolStr::as_str);
        let kept: Vec<&str> = if list.is_empty() { vec!["."] } else { kept.collect() };
        Self {
            field: "spec.exportTo",
            written: list.join(", ").into(),
            repair: flow(kept.into_iter().chain([namespace]).map(SmolStr::new)),
        }
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests;
