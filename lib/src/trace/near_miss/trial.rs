//! Would a repair do it? It is tried: the edit is made, the mesh is built again, and the same request is asked.
//!
//! Invariant: a repair is kept only if the request fares better with it than without, and its rule takes part.

use std::sync::{Arc, Mutex, PoisonError};

use smol_str::SmolStr;

use super::outside;
use crate::envoy::ResponseFlag;
use crate::manifest::ManifestSet;
use crate::mesh::Mesh;
use crate::origin::{Origin, ResourceId};
use crate::trace::contract::{NearMiss, Outcome, StepKind, Trace, VerdictKind};
use crate::trace::query::Query;
use crate::trace::tracer::Tracer;
use crate::trace::walk;

/// The most repairs that are tried for one trace.
const MOST_TRIALS: usize = 4;
/// The most repaired meshes that are remembered.
const MOST_REMEMBERED: usize = 8;

/// Edits of one resource: fields and what to write there.
type Edits = Vec<(Origin, SmolStr)>;

/// Tracers of meshes with a repair, by its edits; the same question is often asked again.
#[derive(Debug, Default)]
pub(in crate::trace) struct Repaired(Mutex<Vec<(Edits, Option<Arc<Tracer>>)>>);

impl Repaired {
    /// The tracer of a mesh with some fields written otherwise; `None` where that cannot be.
    fn tracer(&self, mesh: &Mesh, edits: Edits) -> Option<Arc<Tracer>> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tracer)) = known().iter().find(|(own, _)| *own == edits) {
            return tracer.clone();
        }
        let written = mesh.manifests().edited(edits.iter().map(|(at, text)| (at, text.as_str())));
        let tracer = written.map(|set: ManifestSet| Arc::new(Tracer::new(Arc::new(mesh.of(set)))));
        let mut known = known();
        if known.len() >= MOST_REMEMBERED {
            known.remove(0);
        }
        known.push((edits, tracer.clone()));
        tracer
    }
}

/// Keeps the repairs that work. Near misses of one resource that find the same and want the same are one edit.
pub(super) fn keep_what_works(tracer: &Tracer, query: &Query, trace: &mut Trace) {
    let mut tried: Vec<(Edits, bool)> = Vec::new();
    let works: Vec<bool> = trace
        .near_misses
        .iter()
        .map(|miss| {
            if miss.repair.is_none() {
                return false;
            }
            let edits = edits(trace, miss);
            if let Some((_, works)) = tried.iter().find(|(own, _)| *own == edits) {
                return *works;
            }
            let works = tried.len() < MOST_TRIALS && works(tracer, query, trace, miss, edits.clone());
            tried.push((edits, works));
            works
        })
        .collect();
    for (miss, works) in trace.near_misses.iter_mut().zip(works) {
        miss.repair = miss.repair.take().filter(|_| works);
    }
}

fn edits(trace: &Trace, miss: &NearMiss) -> Edits {
    let same = |other: &&NearMiss| {
        other.resource == miss.resource && other.failed == miss.failed && other.repair == miss.repair
    };
    let all = trace.near_misses.iter().filter(same);
    all.filter_map(|miss| Some((miss.origin.origin().clone(), miss.repair.clone()?))).collect()
}

fn works(tracer: &Tracer, query: &Query, before: &Trace, miss: &NearMiss, edits: Edits) -> bool {
    let Some(repaired) = tracer.repaired.tracer(tracer.mesh(), edits) else { return false };
    let Ok(after) = walk::explained(&repaired, query) else { return false };
    let rule = miss.rule.as_ref().unwrap_or(&miss.origin).origin().resource();
    let (was, is) = (arrived(before), arrived(&after));
    if is > was + TOLERANCE {
        return true;
    }
    // The request had arrived, but not by the rule.
    is + TOLERANCE > was
        && (passed(before, &miss.hop) && !passed(&after, &miss.hop)
            || rule.is_some_and(|rule| decides(&after, &miss.hop, rule) && !decides(before, &miss.hop, rule)))
}

/// Whether a request that asks for another host has an address, and a sidecar that knows it.
pub(super) fn is_known(tracer: &Tracer, query: &Query, host: &str) -> bool {
    let Some(other) = query.asking(host) else { return false };
    let Ok(after) = walk::explained(tracer, &other) else { return false };
    let unresolved = |outcome: &Outcome| outcome.verdict.kind == VerdictKind::Unresolved;
    !after.outcomes.iter().any(unresolved) && !after.hops.iter().any(outside::is_passed)
}

/// How far two probabilities may differ and still be equal.
const TOLERANCE: f64 = 1e-9;

/// How likely the request reaches what a rule leads it to.
fn arrived(trace: &Trace) -> f64 {
    trace.outcomes.iter().filter(|outcome| arrives(trace, outcome)).map(|outcome| outcome.probability).sum()
}

fn arrives(trace: &Trace, outcome: &Outcome) -> bool {
    let verdict = &outcome.verdict;
    match verdict.kind {
        VerdictKind::Delivered | VerdictKind::Redirected => true,
        // An answer that a rule gives, not one that tells of a failure; a fault on purpose is the rule's too.
        VerdictKind::Answered => {
            let by_rule = trace.hop(outcome, &verdict.by).and_then(|hop| hop.step(StepKind::Route));
            let fault = ResponseFlag::FaultInjected.as_str();
            by_rule.is_some_and(|step| step.origin.origin().resource().is_some())
                && (verdict.details == "direct_response" || verdict.flags.iter().any(|flag| flag == fault))
        }
        VerdictKind::Reset | VerdictKind::Unresolved | VerdictKind::Loop | VerdictKind::Unknown => false,
    }
}

/// Whether some way passes a sidecar that does not know the destination.
fn passed(trace: &Trace, hop: &str) -> bool {
    trace.hops.iter().any(|own| own.id == hop && outside::is_passed(own))
}

/// Whether a rule of a resource chooses the route at a hop.
fn decides(trace: &Trace, hop: &str, resource: ResourceId) -> bool {
    let own = trace.hops.iter().filter(|own| own.id == hop);
    own.flat_map(|own| &own.steps).any(|step| {
        let chooses = matches!(step.kind, StepKind::Route | StepKind::VirtualHost);
        chooses && step.origin.origin().resource() == Some(resource)
    })
}
