//! What of that which is said about the input matters to a trace?
//!
//! What is about a resource that took part; and what is missing from the mesh, because nobody knows what it would have done.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::contract::{Note, Place, Trace};
use super::tracer::Tracer;
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::mesh::Mesh;
use crate::origin::{Origin, ResourceId};

/// Adds to a trace what there is to say about its input: first of what took part, then of what is missing.
pub(super) fn add(trace: &mut Trace, tracer: &Tracer) {
    let mesh = tracer.mesh();
    let mut said = mesh.diagnostics().filter(|own| own.severity != Severity::Note).peekable();
    if said.peek().is_none() {
        return;
    }
    let part = participants(trace, tracer);
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for diagnostic in said {
        let about = diagnostic.resource();
        // Every proxy is told by the mesh configuration.
        let takes_part = about.is_some_and(|id| part.contains(&id))
            || mesh.config_diagnostics().iter().any(|own| std::ptr::eq(own, diagnostic));
        if takes_part {
            own.push(note(diagnostic, takes_part, mesh));
        } else if diagnostic.is_of_something_left_out() {
            others.push(note(diagnostic, takes_part, mesh));
        }
    }
    trace.diagnostics.append(&mut own);
    trace.diagnostics.append(&mut others);
}

/// The resources that decided something, and those of the workloads that the request passes.
fn participants(trace: &Trace, tracer: &Tracer) -> FxHashSet<ResourceId> {
    let mut part = FxHashSet::default();
    let mut names = FxHashSet::from_iter([trace.source.workload.as_str()]);
    for hop in trace.hops.iter().chain(trace.outcomes.iter().flat_map(|outcome| &outcome.hops)) {
        names.extend(hop.proxy.as_deref());
        let tries = hop.tries.iter().flat_map(|tries| tries.origin.iter().chain([&tries.timeout_origin]));
        let changes = hop.request.changes.iter().chain(&hop.response.changes).map(|change| &change.origin);
        let places = hop.steps.iter().map(|step| &step.origin).chain(changes).chain(tries);
        part.extend(places.filter_map(|place| place.origin().resource()));
    }
    part.extend(trace.near_misses.iter().filter_map(|miss| miss.origin.origin().resource()));
    let passed = names.into_iter().filter_map(|name| tracer.mesh().workloads().get(tracer.place_of(name)?));
    part.extend(passed.filter_map(|workload| workload.origin.resource()));
    part
}

fn note(diagnostic: &Diagnostic, takes_part: bool, mesh: &Arc<Mesh>) -> Note {
    let field = |id| Origin::field(id, own_field(&diagnostic.field));
    let origin = match diagnostic.labels.first().map(|label| &label.at) {
        Some(diagnostic::Place::Origin(origin)) => Place::new(origin.clone(), mesh.clone()),
        Some(diagnostic::Place::Position(at)) => {
            Place::written(Some(at.clone()), diagnostic.about.map(field), mesh.clone())
        }
        None => Place::written(None, diagnostic.about.map(field), mesh.clone()),
    };
    Note {
        code: diagnostic.code.as_str(),
        severity: diagnostic.severity,
        message: diagnostic.message.clone(),
        origin,
        help: diagnostic.help.clone(),
        takes_part,
    }
}

/// A field's path in its own object, also where that is an item of a list.
fn own_field(path: &str) -> &str {
    match path.strip_prefix("items[").and_then(|rest| rest.split_once("].")) {
        Some((_, rest)) => own_field(rest),
        None => path,
    }
}
