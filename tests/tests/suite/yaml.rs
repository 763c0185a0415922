//! YAML is read as Kubernetes reads it: 114 snippets with the JSON that Kubernetes' own reader gives.

use dryroute::manifest::yaml::to_json;
use serde_json::Value;

/// Snippets on which the reader is known to differ, with the reason.
const KNOWN: &[(&str, &str)] = &[(
    "\"a\":1",
    "Kubernetes' reader stops after the quoted text and gives \"a\"; here it is an error, which hides no data",
)];

#[test]
fn yaml_is_read_as_kubernetes_reads_it() {
    let Some(folder) = dryroute_tests::conformance("yaml") else { return };
    let text = std::fs::read_to_string(folder.join("kubernetes-yaml.jsonl")).unwrap();
    let mut failures = Vec::new();
    let mut total = 0;
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let yaml = case["yaml"].as_str().unwrap();
        total += 1;
        let got =
            to_json(yaml).map(|mut docs| if docs.is_empty() { Value::Null } else { docs.swap_remove(0) });
        let agrees = match (&got, case.get("json")) {
            (Ok(got), Some(expected)) => same(got, expected),
            (Err(_), None) => true,
            _ => false,
        };
        if !agrees && !KNOWN.iter().any(|(snippet, _)| *snippet == yaml) {
            failures.push(format!("{yaml:?}: got {got:?}, expected {:?}", case.get("json")));
        }
    }
    eprintln!(
        "yaml: {} of {total} agree, {} known differences",
        total - failures.len() - KNOWN.len(),
        KNOWN.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Numbers are compared by value: JSON has one kind of number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
