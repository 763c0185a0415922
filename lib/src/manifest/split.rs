//! Where does one document of a stream end and the next begin?
//!
//! Documents are split before they are parsed, as `kubectl` does, so that a broken one never hides its neighbours.

use std::borrow::Cow;

/// A document's text, and the number of lines before it and of characters before it on its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    pub text: &'a str,
    pub line: u32,
    pub column: u32,
    pub offset: usize,
}

impl Document<'_> {
    /// The lines of the file, from 1, on which it stands.
    pub(crate) fn lines(&self) -> std::ops::RangeInclusive<u32> {
        let breaks = line_breaks(self.text);
        let last = self.line + breaks - u32::from(breaks > 0 && self.text.ends_with('\n'));
        self.line + 1..=last + 1
    }
}

fn line_breaks(text: &str) -> u32 {
    memchr::memchr_iter(b'\n', text.as_bytes()).count() as u32
}

/// Makes YAML 1.1's other line breaks (NEL, LS, PS) ordinary ones and drops a byte order mark.
pub(crate) fn normalise(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.is_ascii() || !text.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(['\u{85}', '\u{2028}', '\u{2029}'], "\n"))
}

/// Bytes as text, with line and column of those that are none; UTF-16 is told by its mark, as YAML readers do.
pub(crate) fn decode(bytes: Vec<u8>) -> (String, Vec<(u32, u32)>) {
    let mut out = String::with_capacity(bytes.len());
    let mut broken = Vec::new();
    let (mut line, mut column) = (1, 1);
    let mut add = |character: Option<char>| {
        if character.is_none() {
            broken.push((line, column));
        }
        match character {
            Some('\u{feff}') if out.is_empty() => return,
            Some('\n' | '\u{85}' | '\u{2028}' | '\u{2029}') => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
        out.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
    };
    let units = |of: fn([u8; 2]) -> u16| {
        let pairs = bytes.chunks_exact(2).filter_map(move |pair| Some(of(pair.try_into().ok()?)));
        char::decode_utf16(pairs).map(Result::ok)
    };
    match bytes.get(..2) {
        Some([0xff, 0xfe]) => units(u16::from_le_bytes).for_each(add),
        Some([0xfe, 0xff]) => units(u16::from_be_bytes).for_each(add),
        _ => match String::from_utf8(bytes) {
            Ok(text) => return (text, Vec::new()),
            Err(error) => {
                for chunk in error.as_bytes().utf8_chunks() {
                    chunk.valid().chars().map(Some).for_each(&mut add);
                    chunk.invalid().first().into_iter().for_each(|_| add(None));
                }
            }
        },
    }
    (out, broken)
}

/// Splits at lines that begin with `---`, and a stream of JSON after each of its values; a part that holds nothing but
/// directives belongs to the next one.
///
/// Kubernetes: `apimachinery yaml: YAMLOrJSONDecoder`.
pub(crate) fn documents(text: &str) -> Vec<Document<'_>> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let mut start = 0;
    let mut line = 0;
    let markers = memchr::memmem::find_iter(bytes, b"\n---")
        .map(|at| at + 1)
        .filter(|at| matches!(bytes.get(at + 3), None | Some(b' ' | b'\t' | b'\r' | b'\n')));
    for end in markers.chain([text.len()]) {
        let Some(part) = text.get(start..end) else { break };
        if end < text.len() && has_only_directives(part) {
            continue;
        }
        let document = Document { text: part, line, column: 0, offset: start };
        match json_ends(part).as_slice() {
            [] => parts.push(document),
            ends => parts.extend(cut(document, ends)),
        }
        line += line_breaks(part);
        start = end;
    }
    parts
}

/// Where all JSON values of a part end but the last, where it begins with several.
fn json_ends(part: &str) -> Vec<usize> {
    let body = part.strip_prefix("---").unwrap_or(part);
    if !body.trim_start().starts_with('{') {
        return Vec::new();
    }
    let mut values = serde_json::Deserializer::from_str(body).into_iter::<serde::de::IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(Ok(_)) = values.next() {
        ends.push(part.len() - body.len() + values.byte_offset());
    }
    // What follows the last value is a document of its own, if it is more than space.
    if ends.last().and_then(|end| part.get(*end..)).is_some_and(|rest| rest.trim().is_empty()) {
        ends.pop();
    }
    ends
}

fn cut<'a>(whole: Document<'a>, ends: &[usize]) -> Vec<Document<'a>> {
    let mut start = 0;
    let mut parts = Vec::with_capacity(ends.len() + 1);
    let (mut line, mut column) = (whole.line, whole.column);
    for end in ends.iter().copied().chain([whole.text.len()]) {
        let Some(text) = whole.text.get(start..end) else { break };
        parts.push(Document { text, line, column, offset: whole.offset + start });
        let last = text.rsplit('\n').next().unwrap_or_default().chars().count() as u32;
        column = if text.contains('\n') { last } else { column + last };
        line += line_breaks(text);
        start = end;
    }
    parts
}

/// Whether a part holds directives, and nothing else but comments.
fn has_only_directives(part: &str) -> bool {
    let mut content =
        part.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).peekable();
    content.peek().is_some() && content.all(|line| line.starts_with('%'))
}

/// Makes a tab after a mapping's colon a space: YAML allows it there, the parser does not.
///
/// Only tabs that the parser stumbles over are changed, so that text inside scalars stays as it is.
pub(crate) fn settle_tabs(text: &str) -> Cow<'_, str> {
    if memchr::memmem::find(text.as_bytes(), b":\t").is_none() {
        return Cow::Borrowed(text);
    }
    let mut settled = text.to_owned();
    for _ in 0..MAX_TABS {
        let Some(Err(error)) = saphyr_parser::Parser::new_from_str(&settled).find(Result::is_err) else {
            break;
        };
        let tab = settled
            .char_indices()
            .skip(error.marker().index().saturating_sub(2))
            .take(4)
            .find(|(_, c)| *c == '\t')
            .map(|(i, _)| i);
        match tab {
            Some(tab) if settled.get(..tab).is_some_and(|before| before.ends_with(':')) => {
                settled.replace_range(tab..=tab, " ");
            }
            _ => break,
        }
    }
    Cow::Owned(settled)
}

/// How many tabs of one document are settled; each costs one more pass.
const MAX_TABS: usize = 64;
