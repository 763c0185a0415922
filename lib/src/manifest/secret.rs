//! What is kept of a text that holds Secrets?
//!
//! The text stays in memory so that lines of it can be shown. Invariant: it has the same length and lines as what was
//! read, and nothing of a Secret but its keys, its type and its names.

use rustc_hash::FxHashSet;
use saphyr_parser::{Event, Parser};

use super::arena::{Arena, Content};

/// Paths below a Secret whose scalars may be shown; `*` is any key.
const SHOWN: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["type"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "labels", "*"],
];

/// The text of a document with the contents of the Secrets at the nodes `secrets` made unreadable.
pub(crate) fn masked(text: &str, arena: &Arena<'_>, secrets: &[u32]) -> String {
    let mut hidden = FxHashSet::default();
    for secret in secrets {
        hide(arena, *secret, &mut Vec::new(), &mut hidden);
    }
    let Some(masked) = cover(text, &hidden) else { return blank(text) };
    // What does not read as the same keys in the same places is not worth showing.
    let same = Arena::parse(&masked).is_ok_and(|again| {
        again.nodes.len() == arena.nodes.len()
            && again.nodes.iter().zip(&arena.nodes).zip(0u32..).all(|((a, b), index)| {
                match (&a.content, &b.content) {
                    (Content::Scalar(a, _), Content::Scalar(b, _)) => a == b || hidden.contains(&index),
                    (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
                }
            })
    });
    if same { masked } else { blank(text) }
}

/// A text of the same length and lines that says nothing.
pub(crate) fn blank(text: &str) -> String {
    text.bytes().map(|b| if b == b'\n' || b == b'\r' { char::from(b) } else { ' ' }).collect()
}

/// Collects the scalars below `at` that are values and not shown.
fn hide<'s>(
    arena: &'s Arena<'_>,
    at: u32,
    path: &mut Vec<std::borrow::Cow<'s, str>>,
    hidden: &mut FxHashSet<u32>,
) {
    let at = arena.resolve(at);
    let Some(node) = arena.node(at) else { return };
    let shown = || {
        SHOWN.iter().any(|shown| {
            path.len() == shown.len() && path.iter().zip(*shown).all(|(a, b)| a == b || *b == "*")
        })
    };
    match &node.content {
        Content::Scalar(..) if shown() => {}
        Content::Scalar(..) => {
            hidden.insert(at);
        }
        Content::Sequence => {
            let mut item = at + 1;
            while item < node.end {
                path.push("[]".into());
                hide(arena, item, path, hidden);
                path.pop();
                item = arena.after(item);
            }
        }
        Content::Mapping(_) => {
            let mut key = at + 1;
            while key < node.end {
                let value = arena.after(key);
                path.push(arena.key_text(key).unwrap_or_default());
                hide(arena, value, path, hidden);
                path.pop();
                key = arena.after(value);
            }
        }
        Content::Alias(_) => {}
    }
}

/// Replaces the text of the hidden scalars by letters; `None` when their places cannot be told.
fn cover(text: &str, hidden: &FxHashSet<u32>) -> Option<String> {
    let mut offsets = text.char_indices().map(|(at, _)| at).chain([text.len()]).enumerate().peekable();
    let mut byte = |index: usize| {
        while offsets.peek().is_some_and(|(i, _)| *i < index) {
            offsets.next();
        }
        offsets.peek().map(|(_, at)| *at)
    };
    let mut out = String::with_capacity(text.len());
    let mut index = 0u32;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        match event {
            Event::Scalar(..) if hidden.contains(&index) => {
                let (start, end) = (byte(span.start.index())?, byte(span.end.index())?);
                out.push_str(text.get(out.len()..start)?);
                out.extend(text.get(start..end)?.bytes().map(|b| match b {
                    b' ' | b'\t' | b'\r' | b'\n' => char::from(b),
                    _ => 'x',
                }));
                index += 1;
            }
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => {
                index += 1;
            }
            Event::DocumentEnd => break,
            _ => {}
        }
    }
    // What follows the document is not read, so nobody can tell what it is.
    let rest = text.get(out.len()..)?;
    let (rest, unread) = match rest.find("\n...") {
        Some(end) => (rest.get(..end)?, rest.get(end..)?),
        None => (rest, ""),
    };
    out.push_str(rest);
    out.push_str(&blank(unread));
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::manifest::Loader;

    /// Every way to write a value that a Secret may have.
    const SECRET: &str = "# first\nkind: Secret\napiVersion: v1\nmetadata:\n  name: keys\n  annotations: {kubectl.kubernetes.io/last-applied-configuration: HUNTER}\n\
        type: Opaque\nstringData:\n  plain: HUNTER\n  quoted: \"HUNTER HUNTER\"\n  single: 'HUNTERé'\n  block: |\n    \
        HUNTER\n    HUNTER: x\n  folded: >-\n    HUNTER\n\n    HUNTER\n  last: HUNTER\nData: {typo: HUNTER}\n";

    fn loaded(text: &str) -> (crate::manifest::ManifestSet, String) {
        let set = Loader::new().text("a.yaml", text).load();
        let said = format!("{set:?} {:?}", set.source("a.yaml"));
        (set, said)
    }

    #[test]
    fn nothing_of_a_secret_is_kept_but_its_keys() {
        let (set, said) = loaded(SECRET);
        assert!(!said.contains("HUNTER"), "{said}");
        let text = set.source("a.yaml").unwrap();
        assert_eq!((text.len(), text.lines().count()), (SECRET.len(), SECRET.lines().count()));
        for key in ["name: keys", "plain:", "quoted:", "block:", "folded:", "last:", "type: Opaque"] {
            assert!(text.contains(key), "{key}: {text}");
        }
        let place =
            set.locate(&set.get(crate::origin::ResourceId(0)).unwrap().origin("stringData.last")).unwrap();
        assert_eq!((place.line, place.column), (19, 3), "{text}");
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_not_quoted() {
        for text in [
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: HUNTER\n",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a, labels: HUNTER}\ndata: {a: b}\n",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  key: |\n    HUNTER\n HUNTER: [\n",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: b}\n...\nHUNTER: 1\n",
            "apiVersion: v1\nkind: List\nitems:\n- &a {apiVersion: v1, kind: Secret, metadata: {name: a}, data: {k: HUNTER}}\n- *a\n",
            "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"a\",\"annotations\":{\"kubectl.kubernetes.io/last-applied-configuration\":\"HUNTER\"}},\"data\":{\"k\":\"HUNTER\"}}",
        ] {
            let (_, said) = loaded(text);
            assert!(!said.contains("HUNTER"), "{text}\n{said}");
        }
    }

    #[test]
    fn what_stands_beside_a_secret_is_kept() {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\n{SECRET}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: bar}}\n"
        );
        let (set, _) = loaded(&text);
        let kept = set.source("a.yaml").unwrap();
        assert!(kept.contains("name: shop") && kept.contains("name: bar") && !kept.contains("HUNTER"));
        let place = set.locate(&set.resources().last().unwrap().origin("metadata.name")).unwrap();
        assert_eq!(place.line as usize, text.lines().count());
    }
}
