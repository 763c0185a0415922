//! Regular expressions, as the real RE2 reads them.

use dryroute::envoy::config::SafeRegex;

/// What RE2 did with patterns and texts.
#[derive(serde::Deserialize)]
struct Recorded {
    inputs: Vec<String>,
    patterns: Vec<Pattern>,
}

/// A pattern, and which of the texts it matches as a whole; `None` when RE2 refuses it.
#[derive(serde::Deserialize)]
struct Pattern {
    pattern: String,
    r#match: Option<Vec<bool>>,
}

#[test]
fn a_pattern_means_what_re2_says_or_is_refused() {
    let Some(folder) = dryroute_tests::conformance("re2") else { return };
    let text = std::fs::read_to_string(folder.join("fullmatch.json")).unwrap();
    let recorded: Recorded = serde_json::from_str(&text).unwrap();
    let (mut agreed, mut refused) = (0, Vec::new());
    for Pattern { pattern, r#match: expected } in &recorded.patterns {
        match (SafeRegex::new(pattern), expected) {
            (Err(_), None) => agreed += 1,
            (Err(_), Some(_)) => refused.push(pattern),
            (Ok(_), None) => panic!("RE2 refuses {pattern:?}"),
            (Ok(regex), Some(expected)) => {
                let got: Vec<bool> = recorded.inputs.iter().map(|input| regex.is_match(input)).collect();
                let differs =
                    recorded.inputs.iter().zip(expected.iter().zip(&got)).find(|(_, (e, g))| e != g);
                assert!(differs.is_none(), "{pattern:?}: {differs:?}");
                agreed += 1;
            }
        }
    }
    println!("{agreed} of {} agree; refused here but not by RE2: {refused:?}", recorded.patterns.len());
    assert!(refused.len() * 50 <= recorded.patterns.len(), "refused: {refused:?}");
}
