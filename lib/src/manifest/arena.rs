//! How is one YAML document held while it is read?
//!
//! Nodes lie in document order in one vector; a node knows where its subtree ends, so a walk needs no pointers.
//! Invariant: depth and alias expansion are bounded before anything is built from the nodes.

use std::borrow::Cow;

use rustc_hash::FxHashMap;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::plain;
use super::scalar::{Resolved, resolve};

/// Deepest nesting that is read.
pub(crate) const MAX_DEPTH: usize = 128;

/// Bytes of text for which a node is set aside. Samples have 15 for each on average, with their comments; terse text has
/// half of that, and growing costs more than room that nobody uses.
pub(super) const BYTES_PER_NODE: usize = 8;

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content<'a> {
    Scalar(Cow<'a, str>, Resolved),
    Sequence,
    /// A mapping; the flag says that it has a merge key or a key twice.
    Mapping(bool),
    /// Stands for another node.
    Alias(u32),
}

/// A node and where it starts: line and column from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node<'a> {
    pub content: Content<'a>,
    pub end: u32,
    pub line: u32,
    pub column: u32,
}

/// A document's nodes; the root is node 0.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Arena<'a> {
    pub nodes: Vec<Node<'a>>,
    /// Keys that stand twice in one mapping: the later key's node.
    pub duplicates: Vec<u32>,
    /// Line of the text after the document's end, which Kubernetes does not read.
    pub trailing: Option<u32>,
}

/// A collection that is being read: how deep and how large it is so far, with aliases followed.
struct Open {
    start: u32,
    anchor: usize,
    height: usize,
    size: usize,
}

/// A node that aliases may stand for.
struct Anchored {
    node: u32,
    height: usize,
    size: usize,
}

/// Why a document cannot be read, and where: line and column from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub message: String,
    pub line: u32,
    pub column: u32,
}

impl SyntaxError {
    fn new(message: impl Into<String>, line: u32, column: u32) -> Self {
        Self { message: message.into(), line, column }
    }
}

impl<'a> Arena<'a> {
    /// Reads the first document of `text`; an empty document is a null scalar.
    pub(crate) fn parse(text: &'a str) -> Result<Self, SyntaxError> {
        plain::parse(text).map_or_else(|| Self::parse_fully(text), Ok)
    }

    /// The same by the full parser alone.
    pub(super) fn parse_fully(text: &'a str) -> Result<Self, SyntaxError> {
        refuse_what_kubernetes_refuses(text)?;
        let mut arena = Self::default();
        arena.nodes.reserve(text.len() / BYTES_PER_NODE);
        let mut anchors: FxHashMap<usize, Anchored> = FxHashMap::default();
        let mut open: Vec<Open> = Vec::new();
        let mut expanded = 0usize;
        let mut events = Parser::new_from_str(text);
        while let Some(event) = events.next() {
            let (event, span) = event.map_err(|e| {
                SyntaxError::new(e.info(), e.marker().line() as u32, e.marker().col() as u32 + 1)
            })?;
            let (line, column) = (span.start.line() as u32, span.start.col() as u32 + 1);
            let index = arena.nodes.len() as u32;
            match event {
                Event::Scalar(value, style, anchor, tag) => {
                    if anchor > 0 {
                        anchors.insert(anchor, Anchored { node: index, height: 0, size: 1 });
                    }
                    let resolved = scalar_type(&value, style, tag.as_deref())
                        .map_err(|message| SyntaxError::new(message, line, column))?;
                    let (value, resolved) = if is_core_tag(tag.as_deref(), "binary") {
                        (Cow::Owned(decode_base64(&value).unwrap_or_default()), Resolved::Str)
                    } else {
                        (value, resolved)
                    };
                    arena.push(Content::Scalar(value, resolved), line, column);
                    grow(&mut open, 0, 1);
                }
                Event::SequenceStart(anchor, _) => {
                    arena.push(Content::Sequence, line, column);
                    open.push(Open { start: index, anchor, height: 0, size: 1 });
                }
                Event::MappingStart(anchor, _) => {
                    arena.push(Content::Mapping(false), line, column);
                    open.push(Open { start: index, anchor, height: 0, size: 1 });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(Open { start, anchor, height, size }) = open.pop() {
                        arena.close(start)?;
                        if anchor > 0 {
                            anchors.insert(anchor, Anchored { node: start, height, size });
                        }
                        grow(&mut open, height + 1, size);
                    }
                }
                Event::Alias(id) => {
                    let Some(Anchored { node, height, size }) = anchors.get(&id) else {
                        let message = if open.iter().any(|o| o.anchor == id) {
                            "an anchor contains itself"
                        } else {
                            "unknown anchor"
                        };
                        return Err(SyntaxError::new(message, line, column));
                    };
                    expanded = expanded.saturating_add(*size);
                    if expanded > 10 * arena.nodes.len() + 10_000 {
                        return Err(SyntaxError::new("too many aliases", line, column));
                    }
                    if open.len() + height > MAX_DEPTH {
                        return Err(too_deep(line, column));
                    }
                    arena.push(Content::Alias(*node), line, column);
                    grow(&mut open, *height, *size);
                }
                Event::DocumentEnd => {
                    arena.trailing = match events.next() {
                        Some(Ok((Event::DocumentStart(_), span))) => Some(span.start.line() as u32),
                        Some(Err(error)) => Some(error.marker().line() as u32),
                        _ => None,
                    };
                    break;
                }
                _ => {}
            }
            if open.len() > MAX_DEPTH {
                return Err(too_deep(line, column));
            }
        }
        if arena.nodes.is_empty() {
            arena.push(Content::Scalar(Cow::Borrowed(""), Resolved::Null), 1, 1);
        }
        Ok(arena)
    }

    pub(super) fn push(&mut self, content: Content<'a>, line: u32, column: u32) {
        let end = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { content, end, line, column });
    }

    /// Ends the collection that starts at `start`, and looks at a mapping's keys.
    pub(super) fn close(&mut self, start: u32) -> Result<(), SyntaxError> {
        let end = self.nodes.len() as u32;
        let mut special = false;
        if let Some(Node { content: Content::Mapping(_), .. }) = self.nodes.get(start as usize) {
            let mut keys: Vec<(Cow<'_, str>, u32)> = Vec::new();
            let mut at = start + 1;
            while at < end {
                let Some(node) = self.nodes.get(at as usize) else { break };
                let key = self.key_text(at).ok_or_else(|| {
                    SyntaxError::new("a key of a mapping has to be a string", node.line, node.column)
                })?;
                if matches!(&node.content, Content::Scalar(t, Resolved::Str) if t == "<<") {
                    special = true;
                } else {
                    keys.push((key, at));
                }
                at = self.after(self.after(at));
            }
            let mut twice = Vec::new();
            if keys.len() <= 16 {
                for (i, (key, at)) in keys.iter().enumerate() {
                    if keys.iter().take(i).any(|(k, _)| k == key) {
                        twice.push(*at);
                    }
                }
            } else {
                keys.sort();
                twice.extend(keys.windows(2).filter_map(|w| match w {
                    [(a, _), (b, at)] if a == b => Some(*at),
                    _ => None,
                }));
            }
            special |= !twice.is_empty();
            drop(keys);
            self.duplicates.extend(twice);
        }
        if let Some(node) = self.nodes.get_mut(start as usize) {
            node.end = end;
            if let Content::Mapping(flag) = &mut node.content {
                *flag = special;
            }
        }
        Ok(())
    }

    /// The node with aliases followed.
    pub(crate) fn resolve(&self, mut at: u32) -> u32 {
        while let Some(Node { content: Content::Alias(target), .. }) = self.nodes.get(at as usize) {
            at = *target;
        }
        at
    }

    pub(crate) fn node(&self, at: u32) -> Option<&Node<'a>> {
        self.nodes.get(at as usize)
    }

    /// The node after the subtree at `at`.
    pub(crate) fn after(&self, at: u32) -> u32 {
        self.nodes.get(at as usize).map_or(at + 1, |n| n.end)
    }

    /// How many nodes stand side by side between two places.
    pub(crate) fn children(&self, mut at: u32, end: u32) -> usize {
        let mut children = 0;
        while at < end {
            at = self.after(at);
            children += 1;
        }
        children
    }

    /// A key as JSON spells it; `None` when it cannot be one.
    pub(crate) fn key_text(&self, at: u32) -> Option<Cow<'_, str>> {
        match &self.nodes.get(self.resolve(at) as usize)?.content {
            Content::Scalar(text, Resolved::Str) => Some(Cow::Borrowed(text)),
            Content::Scalar(_, Resolved::Bool(b)) => Some(Cow::Borrowed(if *b { "true" } else { "false" })),
            Content::Scalar(_, Resolved::Int(i)) => Some(Cow::Owned(i.to_string())),
            Content::Scalar(_, Resolved::UInt(i)) => Some(Cow::Owned(i.to_string())),
            Content::Scalar(_, Resolved::Float(f)) if f.is_finite() => Some(Cow::Owned(f.to_string())),
            _ => None,
        }
    }

    /// The keys and values of a mapping as they count: merges done, the last of equal keys wins.
    pub(crate) fn entries(&self, at: u32) -> Vec<(u32, u32)> {
        let Some(Node { content: Content::Mapping(special), end, .. }) = self.node(at) else {
            return Vec::new();
        };
        if *special {
            let mut merged = Merged::default();
            self.merge(at, &mut merged);
            return merged.entries;
        }
        let mut entries = Vec::new();
        let mut key = at + 1;
        while key < *end {
            let value = self.after(key);
            entries.push((key, value));
            key = self.after(value);
        }
        entries
    }

    fn is_merge_key(&self, key: u32) -> bool {
        matches!(self.node(key).map(|n| &n.content), Some(Content::Scalar(t, Resolved::Str)) if t == "<<")
    }

    /// Merges a mapping, or a list of mappings of which the first counts most.
    fn merge<'s>(&'s self, at: u32, merged: &mut Merged<'s>) {
        match self.node(at).map(|n| (&n.content, n.end)) {
            Some((Content::Mapping(_), end)) => {
                let mut key = at + 1;
                while key < end {
                    let value = self.after(key);
                    if self.is_merge_key(key) {
                        let mut inner = Merged::default();
                        self.merge(self.resolve(value), &mut inner);
                        for (key, value) in inner.entries {
                            merged.put(self.key_text(key), key, value);
                        }
                    } else {
                        merged.put(self.key_text(key), key, value);
                    }
                    key = self.after(value);
                }
            }
            Some((Content::Sequence, end)) => {
                let mut items = Vec::new();
                let mut item = at + 1;
                while item < end {
                    items.push(self.resolve(item));
                    item = self.after(item);
                }
                for item in items.into_iter().rev() {
                    if matches!(self.node(item).map(|n| &n.content), Some(Content::Mapping(_))) {
                        self.merge(item, merged);
                    }
                }
            }
            _ => {}
        }
    }
}

/// A mapping's entries while they are merged; a later entry takes an earlier one's place.
#[derive(Default)]
struct Merged<'s> {
    entries: Vec<(u32, u32)>,
    places: FxHashMap<Cow<'s, str>, usize>,
}

impl<'s> Merged<'s> {
    fn put(&mut self, text: Option<Cow<'s, str>>, key: u32, value: u32) {
        let Some(text) = text else { return };
        let place = *self.places.entry(text).or_insert(self.entries.len());
        match self.entries.get_mut(place) {
            Some(entry) => *entry = (key, value),
            None => self.entries.push((key, value)),
        }
    }
}

/// Counts a finished child into the collection that holds it.
fn grow(open: &mut [Open], height: usize, size: usize) {
    if let Some(parent) = open.last_mut() {
        parent.height = parent.height.max(height);
        parent.size = parent.size.saturating_add(size);
    }
}

fn too_deep(line: u32, column: u32) -> SyntaxError {
    SyntaxError::new(format!("nested deeper than {MAX_DEPTH} levels"), line, column)
}

fn is_core_tag(tag: Option<&Tag>, suffix: &str) -> bool {
    tag.is_some_and(|t| t.suffix == suffix && (t.is_yaml_core_schema() || t.handle == "!!"))
}

pub(super) fn scalar_type(
    value: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
) -> Result<Resolved, &'static str> {
    if tag.is_some() {
        if is_core_tag(tag, "str") || is_core_tag(tag, "binary") {
            return Ok(Resolved::Str);
        }
        if is_core_tag(tag, "int")
            || is_core_tag(tag, "bool")
            || is_core_tag(tag, "float")
            || is_core_tag(tag, "null")
        {
            return match resolve(value) {
                Resolved::Str => Err("the value does not fit its tag"),
                other => Ok(other),
            };
        }
    }
    let resolved = if style == ScalarStyle::Plain { resolve(value) } else { Resolved::Str };
    match resolved {
        Resolved::Float(f) if !f.is_finite() => Err("a number has to be finite"),
        other => Ok(other),
    }
}

/// What YAML 1.2 allows and Kubernetes' reader does not.
fn refuse_what_kubernetes_refuses(text: &str) -> Result<(), SyntaxError> {
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('\t') && !line.trim().is_empty() {
            return Err(SyntaxError::new("a tab cannot indent", number as u32 + 1, 1));
        }
        if let Some(version) = line.strip_prefix("%YAML") {
            if version.split('#').next().map(str::trim) != Some("1.1") {
                return Err(SyntaxError::new("only YAML 1.1 is read", number as u32 + 1, 1));
            }
        } else if !line.is_empty() && !line.starts_with(['#', '%']) {
            break;
        }
    }
    // Text that begins with a brace is read as JSON, where the escape is fine.
    if memchr::memmem::find(text.as_bytes(), br"\/").is_some() && !text.trim_start().starts_with('{') {
        let mut offsets = text.char_indices().map(|(at, _)| at).chain([text.len()]).enumerate();
        let mut byte = |index: usize| offsets.find(|(i, _)| *i >= index).map(|(_, at)| at);
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let Event::Scalar(_, ScalarStyle::DoubleQuoted, ..) = event else { continue };
            let (Some(start), Some(end)) = (byte(span.start.index()), byte(span.end.index())) else { break };
            let raw = text.get(start..end).unwrap_or_default();
            if raw.replace(r"\\", "").contains(r"\/") {
                return Err(SyntaxError::new(
                    r"unknown escape character `\/`",
                    span.start.line() as u32,
                    span.start.col() as u32 + 1,
                ));
            }
        }
    }
    Ok(())
}

/// The text that base64 stands for; `None` for what is not base64, or stands for no text.
pub(crate) fn decode_base64(text: &str) -> Option<String> {
    let mut bits = 0u32;
    let mut count = 0;
    let mut out = Vec::new();
    for b in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    String::from_utf8(out).ok()
}
