//! How do nodes become typed fields, and what is said about those that do not fit?
//!
//! A `serde::Deserializer` over the arena. It sees each struct's field list, so it can name a field that the schema does
//! not have. Invariant: the path in [`Context`] is that of the value being read, also when reading failed.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use smol_str::SmolStr;

use rustc_hash::FxHashSet;

use super::arena::{Arena, Content};
use super::scalar::Resolved;
use super::yaml::integral;
use crate::diagnostic::Code;

/// Why a value does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    pub code: Code,
    pub message: String,
}

impl FieldError {
    /// The same error without the value that was found, for kinds whose contents are secret.
    pub(crate) fn without_value(mut self) -> Self {
        self.message = match self.message.split_once(", found ") {
            Some((expected, _)) => expected.to_owned(),
            None => "the value does not fit its schema".to_owned(),
        };
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FieldError {}

impl de::Error for FieldError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = shortened(&message.to_string(), 400);
        match message.strip_prefix("oneof:") {
            Some(rest) => Self { code: Code::OneofConflict, message: rest.trim_start().to_owned() },
            None => Self { code: Code::WrongType, message },
        }
    }

    fn invalid_type(got: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self { code: Code::WrongType, message: format!("expected {expected}, found {}", Found(got)) }
    }

    fn invalid_value(got: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self { code: Code::UnknownValue, message: format!("expected {expected}, found {}", Found(got)) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = nearest(variant, expected).map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
        Self {
            code: Code::UnknownValue,
            message: format!(
                "unknown value \"{}\", expected one of {}{hint}",
                shortened(variant, 60),
                expected.join(", ")
            ),
        }
    }
}

/// The first characters of a text, so that what is said about the input stays smaller than the input.
fn shortened(text: &str, limit: usize) -> String {
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(limit).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// A value as a user would name it.
struct Found<'a>(de::Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            de::Unexpected::Map => f.write_str("a mapping"),
            de::Unexpected::Seq => f.write_str("a list"),
            de::Unexpected::Unit => f.write_str("null"),
            de::Unexpected::Str(s) => write!(f, "the string \"{}\"", shortened(s, 60)),
            de::Unexpected::Bool(b) => write!(f, "the boolean {b}"),
            de::Unexpected::Signed(i) => write!(f, "the number {i}"),
            de::Unexpected::Unsigned(i) => write!(f, "the number {i}"),
            de::Unexpected::Float(x) => write!(f, "the number {x}"),
            ref other => write!(f, "{other}"),
        }
    }
}

/// One step of a field path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(SmolStr),
    Index(u32),
}

/// A field that the schema does not have.
#[derive(Clone, Debug)]
pub(crate) struct UnknownField {
    pub path: String,
    pub line: u32,
    pub column: u32,
    pub hint: Option<String>,
}

/// What stands for a node whose error is already known.
static NULL: Content<'static> = Content::Scalar(Cow::Borrowed(""), Resolved::Null);

/// Unknown fields of one resource that are named; the others are only counted.
const MAX_UNKNOWN: usize = 100;

/// What is shared while one resource is read.
#[derive(Debug, Default)]
pub(crate) struct Context {
    path: RefCell<Vec<Segment>>,
    /// The node of each segment that was entered; the last one is the value being read.
    nodes: RefCell<Vec<u32>>,
    unknown: RefCell<Vec<UnknownField>>,
    unnamed: Cell<usize>,
    /// How much of the path was there from the start.
    prefix: usize,
    /// Nodes that are read as null because their errors are known.
    settled: RefCell<FxHashSet<u32>>,
    /// Whether proto-JSON's spellings are accepted: snake_case names, integers as strings.
    proto: bool,
    /// Keys of the outermost mapping that belong to the envelope.
    envelope: &'static [&'static str],
}

impl Context {
    pub(crate) fn new(prefix: Vec<Segment>, proto: bool, envelope: &'static [&'static str]) -> Self {
        Self { prefix: prefix.len(), path: RefCell::new(prefix), proto, envelope, ..Self::default() }
    }

    fn enter(&self, segment: Segment, node: u32) {
        self.path.borrow_mut().push(segment);
        self.nodes.borrow_mut().push(node);
    }

    fn leave(&self) {
        self.path.borrow_mut().pop();
        self.nodes.borrow_mut().pop();
    }

    /// Ends a failed reading: the path and node of the value that failed, unless its failure was known before.
    ///
    /// The value counts as null from now on, so that reading again finds the next failure.
    pub(crate) fn settle(&self, root: u32) -> Option<(String, u32)> {
        let path = render(&self.path.borrow());
        let node = self.nodes.borrow().last().copied().unwrap_or(root);
        self.path.borrow_mut().truncate(self.prefix);
        self.nodes.borrow_mut().clear();
        self.settled.borrow_mut().insert(node).then_some((path, node))
    }

    /// The unknown fields that were met, and how many more there were. Leaves none behind.
    pub(crate) fn take_unknown(&self) -> (Vec<UnknownField>, usize) {
        (std::mem::take(&mut self.unknown.borrow_mut()), self.unnamed.take())
    }
}

/// A path as text, `spec.http[0].match[1].uri`.
pub(crate) fn render(path: &[Segment]) -> String {
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Segment::Index(index) => {
                out.push('[');
                out.push_str(&index.to_string());
                out.push(']');
            }
        }
    }
    out
}

/// The candidate that is nearest to `word` by edit distance, if one is near.
pub(crate) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .iter()
        .map(|c| (distance(&word.to_lowercase(), &c.to_lowercase()), *c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Edit distance with neighbouring letters swapped as one edit; words longer than 64 letters are never near.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(65).collect();
    let b: Vec<char> = b.chars().take(65).collect();
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let up = rows.get(i).and_then(|r| r.get(j + 1)).copied().unwrap_or(0) + 1;
            let left = row.get(j).copied().unwrap_or(0) + 1;
            let diagonal = rows.get(i).and_then(|r| r.get(j)).copied().unwrap_or(0) + usize::from(ca != cb);
            let mut best = up.min(left).min(diagonal);
            if i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca) {
                best = best.min(rows.get(i - 1).and_then(|r| r.get(j - 1)).copied().unwrap_or(0) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|r| r.last()).copied().unwrap_or(usize::MAX)
}

/// Reads the node at `at`.
#[derive(Clone, Copy)]
pub(crate) struct NodeDeserializer<'b, 'a> {
    pub arena: &'b Arena<'a>,
    pub context: &'b Context,
    pub at: u32,
}

impl<'b, 'a> NodeDeserializer<'b, 'a> {
    fn content(&self) -> Option<(u32, &'b Content<'a>, u32)> {
        let settled = self.context.settled.borrow();
        if !settled.is_empty() && settled.contains(&self.at) {
            return Some((self.at, &NULL, self.at));
        }
        let at = self.arena.resolve(self.at);
        self.arena.node(at).map(|n| (at, &n.content, n.end))
    }

    fn resolved(&self) -> Option<Resolved> {
        match self.content() {
            Some((_, Content::Scalar(_, resolved), _)) => Some(*resolved),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self.resolved(), Some(Resolved::Null))
    }

    fn integer<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.content() {
            Some((_, Content::Scalar(_, Resolved::Null), _)) => visitor.visit_u64(0),
            Some((_, Content::Scalar(_, Resolved::Float(f)), _)) => match integral(*f) {
                Some(i) => visitor.visit_i64(i),
                None => visitor.visit_f64(*f),
            },
            Some((_, Content::Scalar(text, Resolved::Str), _)) if self.context.proto => {
                match text.parse::<i64>() {
                    Ok(i) => visitor.visit_i64(i),
                    Err(_) => visitor.visit_str(text),
                }
            }
            _ => self.any(visitor),
        }
    }

    fn any<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.content() {
            Some((_, Content::Scalar(text, resolved), _)) => match resolved {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(b) => visitor.visit_bool(*b),
                Resolved::Int(i) => visitor.visit_i64(*i),
                Resolved::UInt(u) => visitor.visit_u64(*u),
                Resolved::Float(f) => visitor.visit_f64(*f),
                Resolved::Str => match text {
                    Cow::Borrowed(_) | Cow::Owned(_) => visitor.visit_borrowed_str(text),
                },
            },
            Some((at, Content::Sequence, end)) => {
                visitor.visit_seq(Items { de: self, next: at + 1, end, index: 0 })
            }
            Some((at, Content::Mapping(_), _)) => visitor.visit_map(Entries {
                de: self,
                entries: self.arena.entries(at),
                next: 0,
                fields: None,
                skip_envelope: false,
                renamed: None,
            }),
            _ => visitor.visit_unit(),
        }
    }
}

macro_rules! integers {
    ($($name:ident)+) => { $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> { self.integer(visitor) })+ };
}

impl<'de> de::Deserializer<'de> for NodeDeserializer<'de, '_> {
    type Error = FieldError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        self.any(visitor)
    }

    integers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        if self.is_null() { visitor.visit_bool(false) } else { self.any(visitor) }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.content() {
            Some((_, Content::Scalar(text, Resolved::Str), _)) if self.context.proto => {
                match text.parse::<f64>() {
                    Ok(f) if f.is_finite() => visitor.visit_f64(f),
                    _ => visitor.visit_str(text),
                }
            }
            _ => self.any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        if self.is_null() { visitor.visit_borrowed_str("") } else { self.any(visitor) }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.content() {
            Some((_, Content::Scalar(_, Resolved::Null), _)) => {
                visitor.visit_seq(Items { de: self, next: 0, end: 0, index: 0 })
            }
            _ => self.any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        if self.is_null() {
            return visitor.visit_map(Entries {
                de: self,
                entries: Vec::new(),
                next: 0,
                fields: None,
                skip_envelope: false,
                renamed: None,
            });
        }
        self.any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        let is_root = |path: &[Segment]| {
            path.iter()
                .all(|s| matches!(s, Segment::Index(_)) || matches!(s, Segment::Key(k) if k == "items"))
        };
        let skip_envelope = !self.context.envelope.is_empty() && is_root(&self.context.path.borrow());
        match self.content() {
            Some((at, Content::Mapping(_), _)) => visitor.visit_map(Entries {
                de: self,
                entries: self.arena.entries(at),
                next: 0,
                fields: Some(fields),
                skip_envelope,
                renamed: None,
            }),
            Some((_, Content::Scalar(_, Resolved::Null), _)) => visitor.visit_map(Entries {
                de: self,
                entries: Vec::new(),
                next: 0,
                fields: None,
                skip_envelope: false,
                renamed: None,
            }),
            _ => self.any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        self.any(visitor)
    }

    serde::forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

struct Items<'b, 'a> {
    de: NodeDeserializer<'b, 'a>,
    next: u32,
    end: u32,
    index: u32,
}

impl<'b> de::SeqAccess<'b> for Items<'b, '_> {
    type Error = FieldError;

    fn next_element_seed<T: DeserializeSeed<'b>>(&mut self, seed: T) -> Result<Option<T::Value>, FieldError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let at = self.next;
        self.de.context.enter(Segment::Index(self.index), at);
        let value = seed.deserialize(NodeDeserializer { at, ..self.de })?;
        self.de.context.leave();
        self.next = self.de.arena.after(at);
        self.index += 1;
        Ok(Some(value))
    }

    /// The number of items, so that a list of large rules is never grown.
    fn size_hint(&self) -> Option<usize> {
        Some(self.de.arena.children(self.next, self.end))
    }
}

struct Entries<'b, 'a> {
    de: NodeDeserializer<'b, 'a>,
    entries: Vec<(u32, u32)>,
    next: usize,
    fields: Option<&'static [&'static str]>,
    skip_envelope: bool,
    renamed: Option<&'static str>,
}

impl Entries<'_, '_> {
    /// The schema's field that a key names, by proto-JSON's rules where they hold.
    fn field(&self, fields: &'static [&'static str], key: &str) -> Option<&'static str> {
        if let Some(found) = fields.iter().find(|f| **f == key) {
            return Some(found);
        }
        if !self.de.context.proto || !key.contains('_') {
            return None;
        }
        let mut camel = String::with_capacity(key.len());
        let mut upper = false;
        for c in key.chars() {
            if c == '_' {
                upper = true;
            } else if upper {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            } else {
                camel.push(c);
            }
        }
        fields.iter().find(|f| **f == camel).copied()
    }

    fn unknown(&self, key: u32, text: &str, fields: &[&'static str]) {
        let context = self.de.context;
        let mut unknown = context.unknown.borrow_mut();
        if unknown.len() >= MAX_UNKNOWN {
            context.unnamed.set(context.unnamed.get() + 1);
            return;
        }
        let mut path = context.path.borrow().clone();
        path.push(Segment::Key(shortened(text, 100).into()));
        let (line, column) = self.de.arena.node(key).map_or((1, 1), |n| (n.line, n.column));
        unknown.push(UnknownField {
            path: render(&path),
            line,
            column,
            hint: nearest(text, fields).map(str::to_owned),
        });
    }
}

impl<'b> de::MapAccess<'b> for Entries<'b, '_> {
    type Error = FieldError;

    fn next_key_seed<K: DeserializeSeed<'b>>(&mut self, seed: K) -> Result<Option<K::Value>, FieldError> {
        loop {
            let Some((key, value)) = self.entries.get(self.next).copied() else { return Ok(None) };
            let arena = self.de.arena;
            let Some(text) = arena.key_text(key) else {
                self.next += 1;
                continue;
            };
            let Some(fields) = self.fields else {
                return match text {
                    Cow::Borrowed(text) => {
                        seed.deserialize(de::value::BorrowedStrDeserializer::new(text)).map(Some)
                    }
                    Cow::Owned(text) => seed.deserialize(text.into_deserializer()).map(Some),
                };
            };
            if self.skip_envelope && self.de.context.envelope.contains(&text.as_ref()) {
                self.next += 1;
                continue;
            }
            match self.field(fields, &text) {
                // A null is an absent field.
                Some(_) if (NodeDeserializer { at: value, ..self.de }).is_null() => self.next += 1,
                Some(field) => {
                    self.renamed = Some(field);
                    return seed.deserialize(de::value::BorrowedStrDeserializer::new(field)).map(Some);
                }
                None => {
                    self.unknown(key, &text, fields);
                    self.next += 1;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'b>>(&mut self, seed: V) -> Result<V::Value, FieldError> {
        let Some((key, at)) = self.entries.get(self.next).copied() else {
            return Err(de::Error::custom("a value is missing"));
        };
        self.next += 1;
        let name = match self.renamed.take() {
            Some(field) => SmolStr::new_static(field),
            None => self.de.arena.key_text(key).map(SmolStr::new).unwrap_or_default(),
        };
        self.de.context.enter(Segment::Key(name), at);
        let value = seed.deserialize(NodeDeserializer { at, ..self.de })?;
        self.de.context.leave();
        Ok(value)
    }
}
