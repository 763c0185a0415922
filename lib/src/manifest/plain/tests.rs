use proptest::prelude::*;

use super::*;

/// What is read here is what the full parser reads; whether it was read here.
fn agrees(text: &str) -> bool {
    let Some(plain) = parse(text) else { return false };
    let full = Arena::parse_fully(text).unwrap_or_else(|e| panic!("the full parser refuses {text:?}: {e:?}"));
    assert_eq!(plain, full, "{text}");
    true
}

#[test]
fn plain_documents_are_read_here() {
    let texts = [
        "a: b\n",
        "---\na: b\nc:\n  d: 1\n",
        "a:\n- b\n- c: d\n  e: 'f'\n-   - g\n    - h\nz: true\n",
        "a:\n  - b: c # said\n\n# said\n    # said\n    d: \"e\"\n",
        "a: {b: c, d: [e, \"f\", {}], g: []} # said\n",
        "- a\n-\n  b: c\n",
        "a: |\n  b\n   c\n\n  d\ne: |-\n    f\n\ng: h\n",
        "a: http://b.c/d#e\nf: -1\ng: 1e3\nh: ~\ni: (.*)\n",
        "a:\n  b:\n  - c\n  d: e\n",
    ];
    for text in texts {
        assert!(agrees(text), "{text} was left to the full parser");
    }
}

#[test]
fn what_is_not_plain_is_left_to_the_full_parser() {
    let texts = [
        "",
        "a: b\n  c\n",
        "a: b: c\n",
        "a: &x b\n",
        "a: *x\n",
        "a: !!str 1\n",
        "a: \"b\\n\"\n",
        "a: 'it''s'\n",
        "a: >\n  b\n",
        "a:\tb\n",
        "a: b\n---\nc: d\n",
        "a: b\n...\n",
        "%YAML 1.1\n---\na: b\n",
        "? a\n: b\n",
        "a: b\n c: d\n",
        "  a: b\nc: d\n",
        "a: b\n- c\n",
        "- a\nb: c\n",
        "a: [b, c\n",
        "a: {b: c}}\n",
        "a: é\n",
        "a: .inf\n",
        "a: |\n  b",
        "plain text\n",
    ];
    for text in texts {
        assert!(parse(text).is_none(), "{text:?} was read here");
    }
}

/// A line of pieces that plain documents are made of, and of some that they are not made of.
fn line() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b:",
        "c: ",
        "d.e/f-g: ",
        "- ",
        "-",
        "  ",
        " ",
        "1",
        "true",
        "~",
        "null",
        "\"q\"",
        "'s'",
        "''",
        "{",
        "}",
        "[",
        "]",
        "{}",
        "[]",
        ", ",
        ": ",
        ":",
        " # c",
        "#",
        "|",
        "|-",
        "x y",
        "http://h:80/p?q#f",
        "{k: v}",
        "[i, j]",
        "on",
        "0x1f",
        "-1",
        "-a",
        "---",
        "&a ",
        "*a",
        "<<: ",
        "é",
        "\t",
        "\\",
        "%",
        "@",
        "`",
        "!",
        "?",
        "? ",
        ">",
        "=",
        "010",
        "1_000",
        "12:30:45",
        "2020-01-01",
    ]);
    (0usize..5, prop::collection::vec(piece, 0..5))
        .prop_map(|(depth, pieces)| format!("{}{}", "  ".repeat(depth), pieces.concat()))
}

/// An entry as it is mostly written, somewhere.
fn entry() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "c", "kind", "x/y", "true", "1"]);
    let value = prop::sample::select(vec![
        "",
        " v",
        " 1",
        " \"q\"",
        " 's'",
        " {}",
        " []",
        " {k: v}",
        " [i, \"j\"]",
        " |",
        " |-",
        " x # c",
        " # c",
        " ~",
        " a b",
    ]);
    let item = prop::sample::select(vec!["", "- ", "- - ", "-  "]);
    (0usize..5, item, key, value)
        .prop_map(|(depth, item, key, value)| format!("{}{item}{key}:{value}", " ".repeat(depth)))
}

fn text() -> impl Strategy<Value = String> {
    let lines = prop::collection::vec(prop_oneof![4 => entry(), 1 => line()], 0..8);
    (lines, any::<bool>()).prop_map(|(lines, end)| lines.join("\n") + if end { "\n" } else { "" })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_read_here_is_what_the_full_parser_reads(text in text()) {
        agrees(&text);
    }
}
