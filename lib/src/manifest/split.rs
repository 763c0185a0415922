//! Where does one document of a stream end and the next begin?
//!
//! Documents are split before they are parsed, as `kubectl` does, so that a broken one never hides its neighbours.

use std::borrow::Cow;

/// A document's text and the number of lines before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    pub text: &'a str,
    pub line: u32,
    pub offset: usize,
}

/// Makes YAML 1.1's other line breaks (NEL, LS, PS) ordinary ones and drops a byte order mark.
pub(crate) fn normalise(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.is_ascii() || !text.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(['\u{85}', '\u{2028}', '\u{2029}'], "\n"))
}

/// Splits at lines that begin with `---`; a part that holds nothing but directives belongs to the next one.
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
        parts.push(Document { text: part, line, offset: start });
        line += memchr::memchr_iter(b'\n', part.as_bytes()).count() as u32;
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
