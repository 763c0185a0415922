//! How is a reason collected?
//!
//! A place is a chain of steps on the stack, made into text only when something is said there: what is valid costs no
//! allocation.

use smol_str::SmolStr;

use crate::diagnostic::{Code, Diagnostic, Place};
use crate::manifest::Resource;
use crate::origin::Origin;

/// One step to a field.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// A field's place in a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

impl<'a> At<'a> {
    pub(super) fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Name(name) }
    }

    pub(super) fn field<'b>(&'b self, name: &'b str) -> At<'b> {
        At { parent: Some(self), step: Step::Name(name) }
    }

    /// An entry of a map.
    pub(super) fn key<'b>(&'b self, name: &'b str) -> At<'b> {
        self.field(name)
    }

    pub(super) fn index(&self, index: usize) -> At<'_> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Name(name) => {
                if self.parent.is_some() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => {
                use std::fmt::Write as _;
                let _ = write!(out, "[{index}]");
            }
        }
    }

    fn path(&self) -> SmolStr {
        let mut out = String::new();
        self.write(&mut out);
        out.into()
    }
}

/// Reasons that one resource collects.
#[derive(Debug)]
pub(super) struct Report<'r> {
    resource: &'r Resource,
    said: Vec<Diagnostic>,
    muted: bool,
}

impl<'r> Report<'r> {
    pub(super) fn new(resource: &'r Resource) -> Self {
        Self { resource, said: Vec::new(), muted: false }
    }

    pub(super) fn resource(&self) -> &'r Resource {
        self.resource
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.said
    }

    /// Says why the resource is refused.
    pub(super) fn refuse(&mut self, at: &At<'_>, reason: impl Into<String>) {
        self.say(Code::RejectedByIstio, at, reason.into());
    }

    /// Says what Istio warns of.
    pub(super) fn warn(&mut self, at: &At<'_>, reason: impl Into<String>) {
        if !self.muted {
            self.say(Code::WarnedByIstio, at, reason.into());
        }
    }

    /// Does checks of which Istio keeps the errors only.
    pub(super) fn without_warnings(&mut self, checks: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.muted, true);
        checks(self);
        self.muted = before;
    }

    /// How many things were said.
    pub(super) fn len(&self) -> usize {
        self.said.len()
    }

    /// Refuses when a check fails.
    pub(super) fn check(&mut self, at: &At<'_>, outcome: Result<(), String>) {
        if let Err(reason) = outcome {
            self.refuse(at, reason);
        }
    }

    /// Refuses a message that has more than one member of a oneof.
    pub(super) fn at_most_one(&mut self, at: &At<'_>, members: &[(&str, bool)]) {
        let mut set = members.iter().filter(|(_, set)| *set).map(|(name, _)| *name);
        if let (Some(first), Some(second)) = (set.next(), set.next()) {
            let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
            let reason = format!("only one of {} may be set, found {first} and {second}", names.join(", "));
            self.say(Code::OneofConflict, &at.field(second), reason);
        }
    }

    fn say(&mut self, code: Code, at: &At<'_>, reason: String) {
        let path = at.path();
        let resource = self.resource;
        let message = format!("{} {}: {reason}", resource.kind, resource.full_name());
        self.said.push(
            Diagnostic::new(code, message)
                .field(path.clone())
                .at(Place::Origin(Origin::field(resource.id, path)), reason),
        );
    }
}
