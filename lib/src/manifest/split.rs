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
    let mut parts = Vec::new();
    let mut start = 0;
    let mut start_line = 0;
    let mut at = 0;
    let mut only_directives = true;
    let mut has_directive = false;
    for (line, piece) in (0u32..).zip(text.split_inclusive('\n')) {
        let is_marker = piece
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_marker && at > start && !(has_directive && only_directives) {
            push(&mut parts, text, start, at, start_line);
            start = at;
            start_line = line;
            has_directive = false;
        }
        if is_marker {
            only_directives = false;
        } else if piece.starts_with('%') && only_directives {
            has_directive = true;
        } else if !piece.trim().is_empty() && !piece.starts_with('#') {
            only_directives = false;
        }
        at += piece.len();
    }
    push(&mut parts, text, start, at, start_line);
    parts
}

fn push<'a>(parts: &mut Vec<Document<'a>>, text: &'a str, start: usize, end: usize, line: u32) {
    if let Some(part) = text.get(start..end) {
        parts.push(Document { text: part, line, offset: start });
    }
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
