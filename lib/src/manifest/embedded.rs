//! What does a mesh configuration that is embedded in a ConfigMap say?

use serde::Deserialize;

use super::arena::Arena;
use super::de::{Context, NodeDeserializer};
use super::schema::mesh_config::MeshConfig;
use super::split::{documents, normalise};
use crate::diagnostic::{Code, Diagnostic, Location, Place};

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
    let context = Context::new(Vec::new(), true, &[]);
    let result = MeshConfig::deserialize(NodeDeserializer { arena: &arena, context: &context, at: 0 });
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
            let (path, node) = context.settle(0).unwrap_or_default();
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
