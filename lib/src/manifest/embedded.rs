//! What does a mesh configuration say, on its own or embedded in a ConfigMap?

use serde::Deserialize;

use super::arena::Arena;
use super::de::{Context, NodeDeserializer};
use super::schema::mesh_config::MeshConfig;
use super::split::{documents, normalise};
use super::{ManifestSet, locate};
use crate::diagnostic::{Code, Diagnostic, Location, Place};
use crate::origin::Origin;

/// Reads mesh configuration text; `file` is how its positions are named.
///
/// The configuration is `None` when the text cannot be read; the diagnostics say why.
pub fn parse_mesh_config(file: &str, text: &str) -> (Option<MeshConfig>, Vec<Diagnostic>) {
    let text = normalise(text);
    let parts = documents(&text);
    let Some(part) = parts.iter().find(|d| !d.text.trim().is_empty()) else {
        return (Some(MeshConfig::default()), Vec::new());
    };
    let place = |line: u32, column: u32| {
        Place::Position(Location { file: file.into(), line: line + part.line, column })
    };
    let settled = super::split::settle_tabs(part.text);
    let arena = match Arena::parse(&settled) {
        Ok(arena) => arena,
        Err(e) => {
            return (
                None,
                vec![Diagnostic::new(Code::InvalidYaml, e.message).at(place(e.line, e.column), "")],
            );
        }
    };
    read(&arena, 0, place)
}

/// Reads the mesh configuration at a node.
pub(super) fn read(
    arena: &Arena<'_>,
    at: u32,
    place: impl Fn(u32, u32) -> Place,
) -> (Option<MeshConfig>, Vec<Diagnostic>) {
    let context = Context::new(Vec::new(), true, &[]);
    let result = MeshConfig::deserialize(NodeDeserializer { arena, context: &context, at });
    let (unknown, more) = context.take_unknown();
    let mut diagnostics: Vec<Diagnostic> = unknown
        .into_iter()
        .map(|u| {
            let d = Diagnostic::new(Code::UnknownField, format!("MeshConfig has no field {}", u.path))
                .field(u.path)
                .at(place(u.line, u.column), "unknown field");
            match u.hint {
                Some(hint) => d.help(format!("did you mean \"{hint}\"?")),
                None => d,
            }
        })
        .collect();
    if more > 0 {
        let message = format!("{more} more fields that MeshConfig does not have");
        diagnostics.push(Diagnostic::new(Code::UnknownField, message).at(place(1, 1), ""));
    }
    match result {
        Ok(config) => (Some(config), diagnostics),
        Err(error) => {
            let (path, node) = context.settle(at).unwrap_or_default();
            let (line, column) = arena.node(node).map_or((1, 1), |n| (n.line, n.column));
            diagnostics.push(
                Diagnostic::new(error.code, format!("{path}: {}", error.message))
                    .field(path)
                    .at(place(line, column), error.message),
            );
            (None, diagnostics)
        }
    }
}

impl ManifestSet {
    /// A diagnostic about the text that a field holds, with the places in the field's file.
    pub(crate) fn outside_of(&self, field: &Origin, mut diagnostic: Diagnostic) -> Diagnostic {
        for label in &mut diagnostic.labels {
            if let Place::Position(at) = &label.at
                && let Some(outside) = self.locate_inside(field, at.line, at.column)
            {
                label.at = Place::Position(outside);
            }
        }
        diagnostic.about = field.resource();
        diagnostic
    }

    /// Where a line and column of the text that a field holds are written.
    fn locate_inside(&self, field: &Origin, line: u32, column: u32) -> Option<Location> {
        let Origin::Field { resource, path } = field else { return None };
        let place = self.places.get(resource.0 as usize)?;
        let source = self.sources.get(place.file as usize)?;
        let text = source.text.get(place.start as usize..place.end as usize)?;
        let key = locate::locate(text, &place.items, path)?;
        let (line, column) = locate::inside(text, key, (line, column));
        Some(place.position(&source.name, line, column))
    }
}
