//! What JSON does Kubernetes read from YAML text?

use serde_json::{Map, Number, Value};

use super::arena::{Arena, Content};
use super::scalar::Resolved;
use super::split::documents;

/// Why a document is not YAML that Kubernetes accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {line}, column {column})")]
pub struct YamlError {
    /// What is wrong.
    pub message: String,
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Reads every document of `text` as Kubernetes' tools do.
///
/// # Errors
///
/// The first document that is no YAML, or holds what JSON cannot (a number that is not finite, a key that is no scalar).
///
/// # Examples
///
/// ```
/// let json = dryroute::manifest::yaml::to_json("enabled: on\nmode: 0644").unwrap();
/// assert_eq!(json, [serde_json::json!({"enabled": true, "mode": 420})]);
/// ```
pub fn to_json(text: &str) -> Result<Vec<Value>, YamlError> {
    let normalised = super::split::normalise(text);
    documents(&normalised)
        .into_iter()
        .map(|document| {
            let settled = super::split::settle_tabs(document.text);
            let arena = Arena::parse(&settled).map_err(|e| YamlError {
                message: e.message,
                line: e.line + document.line,
                column: e.column,
            })?;
            Ok(value(&arena, 0))
        })
        .collect()
}

pub(crate) fn value(arena: &Arena<'_>, at: u32) -> Value {
    let at = arena.resolve(at);
    match arena.node(at).map(|n| (&n.content, n.end)) {
        Some((Content::Scalar(text, resolved), _)) => match resolved {
            Resolved::Null => Value::Null,
            Resolved::Bool(b) => Value::Bool(*b),
            Resolved::Int(i) => Value::Number((*i).into()),
            Resolved::UInt(u) => Value::Number((*u).into()),
            Resolved::Float(f) => integral(*f).map_or_else(
                || Number::from_f64(*f).map_or(Value::Null, Value::Number),
                |i| Value::Number(i.into()),
            ),
            Resolved::Str => Value::String(text.clone().into_owned()),
        },
        Some((Content::Sequence, end)) => {
            let mut items = Vec::new();
            let mut item = at + 1;
            while item < end {
                items.push(value(arena, item));
                item = arena.after(item);
            }
            Value::Array(items)
        }
        Some((Content::Mapping(_), _)) => {
            let mut map = Map::new();
            for (key, val) in arena.entries(at) {
                if let Some(key) = arena.key_text(key) {
                    map.insert(key.into_owned(), value(arena, val));
                }
            }
            Value::Object(map)
        }
        _ => Value::Null,
    }
}

/// The integer that JSON writes for a float without a fraction.
pub(crate) fn integral(f: f64) -> Option<i64> {
    (f.fract() == 0.0 && f.abs() < 9.0e15).then_some(f as i64)
}
