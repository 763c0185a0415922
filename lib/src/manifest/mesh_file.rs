//! Which mesh configuration does a file hold that somebody names as one?
//!
//! A MeshConfig as it is, `meshConfig` of Helm's values or of an IstioOperator, or the ConfigMap that istiod reads.

use super::arena::{Arena, Content};
use super::embedded::{parse_mesh_config, read};
use super::locate;
use super::read::Where;
use super::scalar::Resolved;
use super::schema::mesh_config::MeshConfig;
use super::split::{Document, documents, settle_tabs};
use super::{LoadError, Source};
use crate::diagnostic::{Code, Diagnostic, Location, Place, Severity};

const EXPECTED: &str = "there is none; expected a MeshConfig, Helm values or an IstioOperator with `meshConfig`, \
                        or the ConfigMap `istio`";

/// A mesh configuration in a document.
enum Found {
    /// A mapping.
    Mapping(u32),
    /// A mapping that is one if its fields are.
    Perhaps(u32),
    /// Text: the node of its key and its own.
    Text(u32, u32),
}

/// The first mesh configuration of a file, and what there is to say about it.
pub(super) fn mesh_config(source: &Source) -> Result<(MeshConfig, Vec<Diagnostic>), LoadError> {
    let file = source.name.as_str();
    let failed = |at: Option<&Place>, reason: &str| {
        let place = match at {
            Some(Place::Position(at)) => format!("{}:{}:{}", at.file, at.line, at.column),
            _ => file.to_owned(),
        };
        LoadError::NoMeshConfig { place, reason: reason.to_owned() }
    };
    if let Some((line, column)) = source.broken.first() {
        let at = Place::Position(Location { file: file.into(), line: *line, column: *column });
        return Err(failed(Some(&at), "this is not UTF-8 text"));
    }
    for document in documents(&source.text) {
        let place = Where { file: &source.name, line: document.line, column: document.column };
        let text = settle_tabs(document.text);
        let arena = Arena::parse(&text)
            .map_err(|error| failed(Some(&place.position(error.line, error.column)), &error.message))?;
        let Some(found) = find(&arena, arena.resolve(0)) else { continue };
        let (config, said) = match found {
            Found::Mapping(at) | Found::Perhaps(at) => {
                let read = read(&arena, at, |line, column| place.position(line, column));
                if matches!(found, Found::Perhaps(_)) && nothing_fits(&arena, at, &read.1) {
                    continue;
                }
                read
            }
            Found::Text(key, value) => embedded(&arena, document, place, key, value),
        };
        return match (config, said.iter().find(|own| own.severity == Severity::Error)) {
            (Some(config), _) => Ok((config, said)),
            (None, Some(error)) => Err(failed(error.labels.first().map(|label| &label.at), &error.message)),
            (None, None) => Err(failed(None, EXPECTED)),
        };
    }
    Err(failed(None, EXPECTED))
}

/// The configuration in the text of a ConfigMap.
fn embedded(
    arena: &Arena<'_>,
    document: Document<'_>,
    place: Where<'_>,
    key: u32,
    value: u32,
) -> (Option<MeshConfig>, Vec<Diagnostic>) {
    let Some(Content::Scalar(text, _)) = arena.node(value).map(|node| &node.content) else {
        return (None, Vec::new());
    };
    let (config, mut said) = parse_mesh_config(place.file, text);
    let key = arena.node(key).map_or((1, 1), |node| (node.line, node.column));
    for label in said.iter_mut().flat_map(|own| &mut own.labels) {
        if let Place::Position(at) = &label.at {
            let (line, column) = locate::inside(document.text, key, (at.line, at.column));
            label.at = place.position(line, column);
        }
    }
    (config, said)
}

/// Whether no field of a mapping is one of a MeshConfig, or nearly so.
fn nothing_fits(arena: &Arena<'_>, at: u32, said: &[Diagnostic]) -> bool {
    let unknown = said.iter().filter(|own| {
        own.code == Code::UnknownField && own.help.is_none() && !own.field.contains(['.', '['])
    });
    unknown.count() >= arena.entries(at).len()
}

fn find(arena: &Arena<'_>, at: u32) -> Option<Found> {
    let kind = field(arena, at, "kind").and_then(|(_, value)| text(arena, value));
    match kind {
        Some("ConfigMap") => {
            let (_, data) = field(arena, at, "data")?;
            let (key, value) = field(arena, data, "mesh")?;
            text(arena, value).map(|_| Found::Text(key, value))
        }
        Some("IstioOperator") => {
            let (_, spec) = field(arena, at, "spec")?;
            let values = field(arena, spec, "values").map(|(_, values)| values);
            wrapped(arena, spec).or_else(|| wrapped(arena, values?))
        }
        Some(list) if list.ends_with("List") => {
            let (_, items) = field(arena, at, "items")?;
            let end = arena.after(items);
            let mut item = items + 1;
            while item < end {
                if let Some(found) = find(arena, arena.resolve(item)) {
                    return Some(found);
                }
                item = arena.after(item);
            }
            None
        }
        Some(_) => None,
        None => {
            // The values of a chart's dependency stand below its name.
            let below =
                || arena.entries(at).into_iter().find_map(|(_, value)| wrapped(arena, arena.resolve(value)));
            let itself =
                || matches!(arena.node(at)?.content, Content::Mapping(_)).then_some(Found::Perhaps(at));
            wrapped(arena, at).or_else(below).or_else(itself)
        }
    }
}

/// The mapping `meshConfig` of a mapping.
fn wrapped(arena: &Arena<'_>, at: u32) -> Option<Found> {
    let (_, value) = field(arena, at, "meshConfig")?;
    matches!(arena.node(value)?.content, Content::Mapping(_)).then_some(Found::Mapping(value))
}

/// Key and value of a mapping's field.
fn field(arena: &Arena<'_>, at: u32, name: &str) -> Option<(u32, u32)> {
    let mut entries = arena.entries(at).into_iter();
    let (key, value) = entries.find(|(key, _)| arena.key_text(*key).is_some_and(|text| text == name))?;
    Some((key, arena.resolve(value)))
}

fn text<'a>(arena: &'a Arena<'_>, at: u32) -> Option<&'a str> {
    match &arena.node(at)?.content {
        Content::Scalar(text, Resolved::Str) => Some(text),
        _ => None,
    }
}
