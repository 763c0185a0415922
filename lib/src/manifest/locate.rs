//! Where is a field written?
//!
//! Positions are not kept: the one document is read again when a place has to be shown.

use super::arena::{Arena, Content};

/// Line and column, from 1 within the document, of the field at `path` below the object that `items` leads to.
///
/// A path that does not exist gives its nearest ancestor that does.
pub(crate) fn locate(text: &str, items: &[u32], path: &str) -> Option<(u32, u32)> {
    let text = super::split::settle_tabs(text);
    let arena = Arena::parse(&text).ok()?;
    let mut at = 0;
    for item in items {
        let (_, list) = child(&arena, at, "items")?;
        at = element(&arena, list, *item)?;
    }
    let mut shown = at;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let Some((index, after)) = after.split_once(']') else { break };
            let Some(item) = index.parse().ok().and_then(|i| element(&arena, at, i)) else { break };
            at = item;
            shown = item;
            rest = after.strip_prefix('.').unwrap_or(after);
        } else {
            // Keys may hold dots: the longest key that fits is meant.
            let Some((key, value, after)) = longest_key(&arena, at, rest) else { break };
            shown = key;
            at = value;
            rest = after;
        }
    }
    arena.node(shown).map(|n| (n.line, n.column))
}

/// Where line and column of the text that a key's value holds are written; the key, where the value has no lines of its own.
pub(crate) fn inside(text: &str, key: (u32, u32), (line, column): (u32, u32)) -> (u32, u32) {
    let mut lines = text.lines().skip(key.0.saturating_sub(1) as usize);
    let written = lines.next().unwrap_or_default().chars().skip(key.1.saturating_sub(1) as usize);
    let header: String = written.collect();
    let header =
        header.split_once(':').map_or("", |(_, header)| header).split(" #").next().unwrap_or_default();
    let is_block = header.split_whitespace().next_back().is_some_and(|word| word.starts_with('|'));
    match lines.find(|line| !line.trim().is_empty()).filter(|_| is_block) {
        Some(first) => (key.0 + line, column + first.len().saturating_sub(first.trim_start().len()) as u32),
        None => key,
    }
}

fn child(arena: &Arena<'_>, at: u32, name: &str) -> Option<(u32, u32)> {
    arena
        .entries(arena.resolve(at))
        .into_iter()
        .find(|(k, _)| arena.key_text(*k).is_some_and(|t| same_key(&t, name)))
}

/// Whether a key as written means the field `name`: as it is, or in proto-JSON's snake_case.
pub(super) fn same_key(written: &str, name: &str) -> bool {
    if written == name {
        return true;
    }
    written.contains('_')
        && written
            .bytes()
            .filter(|b| *b != b'_')
            .map(|b| b.to_ascii_lowercase())
            .eq(name.bytes().map(|b| b.to_ascii_lowercase()))
}

fn element(arena: &Arena<'_>, at: u32, index: u32) -> Option<u32> {
    let at = arena.resolve(at);
    let node = arena.node(at)?;
    if !matches!(node.content, Content::Sequence) {
        return None;
    }
    let mut item = at + 1;
    for _ in 0..index {
        item = arena.after(item);
        if item >= node.end {
            return None;
        }
    }
    (item < node.end).then_some(item)
}

fn longest_key<'p>(arena: &Arena<'_>, at: u32, rest: &'p str) -> Option<(u32, u32, &'p str)> {
    let mut best: Option<(usize, u32, u32, &'p str)> = None;
    for (key, value) in arena.entries(arena.resolve(at)) {
        let Some(text) = arena.key_text(key) else { continue };
        let name_end = if rest.starts_with(text.as_ref()) {
            text.len()
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            match rest.get(..end) {
                Some(name) if same_key(&text, name) => end,
                _ => continue,
            }
        };
        let Some(after) = rest.get(name_end..) else { continue };
        if !(after.is_empty() || after.starts_with(['.', '['])) {
            continue;
        }
        if best.is_none_or(|(length, ..)| name_end > length) {
            best = Some((name_end, key, value, after.strip_prefix('.').unwrap_or(after)));
        }
    }
    best.map(|(_, key, value, after)| (key, value, after))
}
