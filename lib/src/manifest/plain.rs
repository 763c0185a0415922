//! Which nodes does a plainly written document have?
//!
//! The YAML that `kubectl` prints and that people mostly write: block mappings and sequences, scalars and flow collections
//! on one line, literal blocks. Reading it by lines is several times faster than the full parser. Invariant: what is read
//! here is what the full parser reads, positions included; whatever is not plain, errors among it, is left to that parser.

use std::borrow::Cow;

use saphyr_parser::ScalarStyle;

use super::arena::{Arena, BYTES_PER_NODE, Content, MAX_DEPTH, scalar_type};
use super::scalar::Resolved;

/// Longest key that is read here; the full parser has a limit of its own.
const LONGEST_KEY: usize = 512;

/// Reads a document, or leaves it to the full parser.
pub(super) fn parse(text: &str) -> Option<Arena<'_>> {
    if !text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)) {
        return None;
    }
    let mut arena = Arena::default();
    arena.nodes.reserve(text.len() / BYTES_PER_NODE);
    let mut reader = Reader { text, at: 0, line: 0, arena, open: Vec::new(), pending: None, deepest: None };
    reader.document()?;
    Some(reader.arena)
}

/// A block collection that is not finished.
struct Block {
    node: u32,
    column: usize,
    sequence: bool,
}

/// An entry whose value has not come: the column of its collection, and whether that is a sequence.
#[derive(Clone, Copy)]
struct Pending {
    column: usize,
    sequence: bool,
}

struct Reader<'a> {
    text: &'a str,
    /// Where the next line starts.
    at: usize,
    /// The number of the current line, from 1.
    line: u32,
    arena: Arena<'a>,
    open: Vec<Block>,
    pending: Option<Pending>,
    /// The deepest column that the next line may have: a deeper one would go on with the scalar before it.
    deepest: Option<usize>,
}

impl<'a> Reader<'a> {
    fn next_line(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let end = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        self.at += end + 1;
        self.line += 1;
        rest.get(..end)
    }

    fn document(&mut self) -> Option<()> {
        let mut started = false;
        while let Some(line) = self.next_line() {
            let rest = line.trim_start_matches(' ');
            if rest.is_empty() || rest.starts_with('#') {
                continue;
            }
            let column = line.len() - rest.len();
            if column == 0 && (rest.starts_with("---") || rest.starts_with("...") || rest.starts_with('%')) {
                if started || rest.trim_end_matches(' ') != "---" {
                    return None;
                }
                started = true;
                continue;
            }
            started = true;
            self.content(column, rest)?;
        }
        if self.pending.is_some() || self.arena.nodes.is_empty() {
            return None;
        }
        self.close_deeper(None)
    }

    /// A line's content: an entry of an open collection, or the first of a new one.
    fn content(&mut self, column: usize, rest: &'a str) -> Option<()> {
        if self.deepest.take().is_some_and(|deepest| column > deepest) {
            return None;
        }
        let item = is_item(rest);
        if let Some(Pending { column: outer, sequence }) = self.pending.take() {
            // A sequence may stand as deep as the key that it belongs to.
            let inner = column > outer || (item && !sequence && column == outer);
            return if inner { self.entries(column, rest, true) } else { None };
        }
        if self.arena.nodes.is_empty() {
            return self.entries(column, rest, true);
        }
        self.close_deeper(Some(column))?;
        if !item && self.open.last().is_some_and(|block| block.sequence && block.column == column) {
            let ended = self.open.pop()?;
            self.arena.close(ended.node).ok()?;
        }
        let block = self.open.last()?;
        if block.column != column || block.sequence != item {
            return None;
        }
        self.entries(column, rest, false)
    }

    /// Ends the collections that stand deeper than `column`.
    fn close_deeper(&mut self, column: Option<usize>) -> Option<()> {
        while self.open.last().is_some_and(|block| column.is_none_or(|column| block.column > column)) {
            let ended = self.open.pop()?;
            self.arena.close(ended.node).ok()?;
        }
        Some(())
    }

    /// Entries that begin at `column`; `new` when they begin a collection.
    fn entries(&mut self, mut column: usize, mut rest: &'a str, mut new: bool) -> Option<()> {
        while is_item(rest) {
            let inner = rest.get(1..)?.trim_start_matches(' ');
            let next = column + rest.len() - inner.len();
            let comes_later = inner.is_empty() || inner.starts_with('#');
            if new {
                // A sequence as deep as its key counts as starting at its first item.
                let shares = self.open.last().is_some_and(|block| block.column == column);
                if shares && comes_later {
                    return None;
                }
                self.begin(column, true, if shares { next } else { column })?;
            }
            if comes_later {
                self.pending = Some(Pending { column, sequence: true });
                return Some(());
            }
            if key_end(inner).is_none() && !is_item(inner) {
                return self.value(next, inner, column);
            }
            (column, rest, new) = (next, inner, true);
        }
        let end = key_end(rest)?;
        if new {
            self.begin(column, false, column)?;
        }
        self.scalar(rest.get(..end)?, ScalarStyle::Plain, column)?;
        let value = rest.get(end + 1..)?.trim_start_matches(' ');
        if value.is_empty() || value.starts_with('#') {
            self.pending = Some(Pending { column, sequence: false });
            return Some(());
        }
        self.value(column + rest.len() - value.len(), value, column)
    }

    /// Begins a collection of entries at `column` that counts as starting at `start`.
    fn begin(&mut self, column: usize, sequence: bool, start: usize) -> Option<()> {
        if self.open.len() >= MAX_DEPTH {
            return None;
        }
        let node = self.arena.nodes.len() as u32;
        let content = if sequence { Content::Sequence } else { Content::Mapping(false) };
        self.arena.push(content, self.line, start as u32 + 1);
        self.open.push(Block { node, column, sequence });
        Some(())
    }

    /// A value that begins on the line of its entry; `outer` is the column of the collection that it belongs to.
    fn value(&mut self, column: usize, text: &'a str, outer: usize) -> Option<()> {
        self.deepest = Some(outer);
        let rest = match text.as_bytes().first()? {
            b'"' | b'\'' => self.quoted(column, text)?,
            b'[' | b'{' => self.flow(column, text, self.open.len())?,
            b'|' => return self.literal(text, outer),
            _ => {
                let plain = plain(text)?;
                self.scalar(plain, ScalarStyle::Plain, column)?;
                text.get(plain.len()..)?
            }
        };
        ends(rest).then_some(())
    }

    fn scalar(&mut self, text: &'a str, style: ScalarStyle, column: usize) -> Option<()> {
        let resolved = scalar_type(text, style, None).ok()?;
        self.arena.push(Content::Scalar(Cow::Borrowed(text), resolved), self.line, column as u32 + 1);
        Some(())
    }

    /// A quoted scalar without escapes; gives what comes after it.
    fn quoted(&mut self, column: usize, text: &'a str) -> Option<&'a str> {
        let quote = *text.as_bytes().first()?;
        let inner = text.get(1..)?;
        let end = memchr::memchr(quote, inner.as_bytes())?;
        let (content, rest) = (inner.get(..end)?, inner.get(end + 1..)?);
        let style = match quote {
            b'"' if content.contains('\\') => return None,
            b'"' => ScalarStyle::DoubleQuoted,
            _ if rest.starts_with('\'') => return None,
            _ => ScalarStyle::SingleQuoted,
        };
        self.scalar(content, style, column)?;
        Some(rest)
    }

    /// A flow collection on one line; gives what comes after it.
    fn flow(&mut self, column: usize, text: &'a str, depth: usize) -> Option<&'a str> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let mapping = text.starts_with('{');
        let node = self.arena.nodes.len() as u32;
        let content = if mapping { Content::Mapping(false) } else { Content::Sequence };
        self.arena.push(content, self.line, column as u32 + 1);
        let close = if mapping { '}' } else { ']' };
        let place = |rest: &str| column + text.len() - rest.len();
        let mut rest = text.get(1..)?.trim_start_matches(' ');
        if let Some(after) = rest.strip_prefix(close) {
            self.arena.close(node).ok()?;
            return Some(after);
        }
        loop {
            if mapping {
                let key = flow_plain(rest)?;
                self.scalar(key, ScalarStyle::Plain, place(rest))?;
                rest = rest.get(key.len()..)?.strip_prefix(": ")?.trim_start_matches(' ');
            }
            rest = match rest.as_bytes().first()? {
                b'"' | b'\'' => self.quoted(place(rest), rest)?,
                b'[' | b'{' => self.flow(place(rest), rest, depth + 1)?,
                _ => {
                    let plain = flow_plain(rest)?;
                    self.scalar(plain, ScalarStyle::Plain, place(rest))?;
                    rest.get(plain.len()..)?
                }
            };
            rest = rest.trim_start_matches(' ');
            if let Some(after) = rest.strip_prefix(close) {
                self.arena.close(node).ok()?;
                return Some(after);
            }
            rest = rest.strip_prefix(", ")?.trim_start_matches(' ');
        }
    }

    /// A literal block: the lines below that stand deeper than its entry.
    fn literal(&mut self, header: &str, outer: usize) -> Option<()> {
        // It counts as starting where its text does.
        let line = self.line + 1;
        let keeps_break = match header.get(1..)?.trim_end_matches(' ') {
            "" => true,
            "-" => false,
            _ => return None,
        };
        let mut out = String::new();
        let mut indent = None;
        loop {
            let (at, number) = (self.at, self.line);
            let Some(line) = self.next_line() else { break };
            if self.at > self.text.len() {
                // The last line has no break, and whether it gets one is not plain.
                return None;
            }
            let depth = line.len() - line.trim_start_matches(' ').len();
            if depth == line.len() {
                // A blank line that is deeper than the text, or comes before it, is not plain.
                if indent.is_none_or(|indent| depth > indent) {
                    return None;
                }
                out.push('\n');
                continue;
            }
            let indent = *indent.get_or_insert(depth);
            if depth < indent || depth <= outer {
                (self.at, self.line) = (at, number);
                break;
            }
            out.push_str(line.get(indent..)?);
            out.push('\n');
        }
        let column = indent.filter(|indent| *indent > outer)?;
        let end = out.trim_end_matches('\n').len();
        out.truncate(end + usize::from(keeps_break));
        self.arena.push(Content::Scalar(Cow::Owned(out), Resolved::Str), line, column as u32 + 1);
        Some(())
    }
}

fn is_item(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Whether nothing but a comment is left of a line.
fn ends(rest: &str) -> bool {
    let text = rest.trim_start_matches(' ');
    text.is_empty() || (text.starts_with('#') && text.len() < rest.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/')
}

/// The place of the colon after a plain key.
fn key_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if !starts_word(*bytes.first()?) {
        return None;
    }
    let end = bytes.iter().position(|b| !is_word(*b))?;
    let colon = bytes.get(end) == Some(&b':') && matches!(bytes.get(end + 1), None | Some(b' '));
    (colon && end <= LONGEST_KEY).then_some(end)
}

/// A plain scalar that a line ends with, a comment left out.
fn plain(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let first = *bytes.first()?;
    let plain = starts_word(first)
        || matches!(first, b'~' | b'+' | b'=' | b'^' | b'$' | b'(' | b'<' | b';' | b'\\')
        || (first == b'-' && bytes.get(1).is_some_and(u8::is_ascii_alphanumeric));
    if !plain {
        return None;
    }
    let mut end = text.len();
    for at in memchr::memchr2_iter(b':', b'#', bytes) {
        match bytes.get(at) {
            Some(b':') if matches!(bytes.get(at + 1), None | Some(b' ')) => return None,
            Some(b'#') if bytes.get(at.checked_sub(1)?) == Some(&b' ') => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    Some(text.get(..end)?.trim_end_matches(' '))
}

/// A plain scalar of one word inside of a flow collection.
fn flow_plain(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let first = *bytes.first()?;
    if !starts_word(first) {
        return None;
    }
    let end = bytes.iter().position(|b| !is_word(*b))?;
    (end <= LONGEST_KEY).then(|| text.get(..end)).flatten()
}

#[cfg(test)]
mod tests;
