//! What is written?
//!
//! Reads YAML and JSON as Kubernetes does, into typed resources that know where they were written. Invariant: this room
//! knows shapes, never meaning; a document that cannot be read is named in a diagnostic and never hides its neighbours.

use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::SmolStr;

use crate::diagnostic::{Diagnostic, Location};
use crate::origin::{Origin, ResourceId};

mod arena;
mod builder;
pub mod coverage;
mod de;
mod edit;
mod embedded;
mod kind;
mod load;
mod locate;
mod mesh_file;
mod plain;
mod read;
mod resource;
mod scalar;
pub mod schema;
mod secret;
mod split;
pub mod validate;
pub mod yaml;

pub(crate) use arena::decode_base64;
pub use builder::ManifestBuilder;
pub(crate) use de::nearest;
pub use embedded::parse_mesh_config;
pub use kind::{Kind, Spec};
pub use load::{Admission, LoadError, Loader, is_manifest};
pub use resource::{Meta, Resource, Status, Timestamp};

/// A named text.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) name: SmolStr,
    pub(crate) text: Arc<str>,
    /// Line and column, from 1, of bytes that are no text.
    pub(crate) broken: Vec<(u32, u32)>,
}

/// The text is not shown: it is long, and before loading it may hold Secrets.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// Where a resource's document lies.
#[derive(Clone, Debug)]
pub(crate) struct StoredPlace {
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) items: Vec<u32>,
}

impl StoredPlace {
    /// A position in the document as one in its file.
    fn position(&self, file: &SmolStr, line: u32, column: u32) -> Location {
        let column = if line == 1 { column + self.column } else { column };
        Location { file: file.clone(), line: line + self.line, column }
    }
}

/// Everything that was read, with its diagnostics.
#[derive(Clone, Debug, Default)]
pub struct ManifestSet {
    pub(crate) sources: Vec<Source>,
    resources: Vec<Resource>,
    places: Vec<StoredPlace>,
    /// Whether a resource takes part: not refused, not overridden by a later one.
    active: Vec<bool>,
    /// How many resources at the end nobody wrote.
    derived: usize,
    diagnostics: Vec<Diagnostic>,
    /// The mesh configuration that was read on its own, and what there is to say about it.
    pub(crate) mesh_config: Option<(schema::mesh_config::MeshConfig, Vec<Diagnostic>)>,
    /// Fields that are written and not translated, by resource.
    not_yet: Vec<(ResourceId, SmolStr)>,
    unknown_kinds: IndexMap<(SmolStr, SmolStr), usize>,
}

impl ManifestSet {
    /// The resources that take part, in input order.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().zip(&self.active).filter(|(_, active)| **active).map(|(r, _)| r)
    }

    /// A resource by number, also one that takes no part.
    pub fn get(&self, id: ResourceId) -> Option<&Resource> {
        self.resources.get(id.0 as usize)
    }

    /// What there is to say about the input.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How often each unknown `apiVersion` and kind was met.
    pub fn unknown_kinds(&self) -> &IndexMap<(SmolStr, SmolStr), usize> {
        &self.unknown_kinds
    }

    /// How many of the resources that were read take part, by kind.
    pub fn counts(&self) -> std::collections::BTreeMap<Kind, usize> {
        let mut counts = std::collections::BTreeMap::new();
        let read = self.resources.len().saturating_sub(self.derived);
        for resource in self.resources().filter(|resource| (resource.id.0 as usize) < read) {
            *counts.entry(resource.kind).or_default() += 1;
        }
        counts
    }

    /// A resource's kind and name, `VirtualService default/x`.
    pub fn describe(&self, id: ResourceId) -> String {
        self.get(id).map(|r| format!("{} {}", r.kind, r.full_name())).unwrap_or_default()
    }

    /// Where an origin is written; a field that is absent gives its nearest ancestor. `None` for defaults.
    pub fn locate(&self, origin: &Origin) -> Option<Location> {
        let Origin::Field { resource, path } = origin else { return None };
        let place = self.places.get(resource.0 as usize)?;
        let source = self.sources.get(place.file as usize)?;
        let text = source.text.get(place.start as usize..place.end as usize)?;
        // What is kept of a document with Secrets may have nothing to find.
        let (line, column) = locate::locate(text, &place.items, path).unwrap_or((1, 1));
        Some(place.position(&source.name, line, column))
    }

    /// The text of a source by its name, for showing lines of it; the contents of Secrets are masked.
    pub fn source(&self, name: &str) -> Option<&str> {
        self.sources.iter().find(|s| s.name == name).map(|s| s.text.as_ref())
    }
}
