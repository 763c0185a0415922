//! Host names, gateway names and port protocols are understood as Istio's own functions understand them.

use dryroute::manifest::schema::istio::{HttpMatchRequest, HttpRoute};
use dryroute::mesh::{Protocol, delegate, host};
use serde_json::Value;

fn cases(suite: &str) -> Option<Value> {
    let folder = dryroute_tests::conformance(suite)?;
    Some(serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap())
}

fn text<'v>(case: &'v Value, key: &str) -> &'v str {
    case.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(case: &'v Value, key: &str) -> Vec<&'v str> {
    case.get(key)
        .and_then(Value::as_array)
        .map(|a| a.iter().map(|v| v.as_str().unwrap()).collect())
        .unwrap_or_default()
}

#[test]
fn names_mean_what_they_mean_to_istio() {
    let Some(cases) = cases("names") else { return };
    let mut failures = Vec::new();
    let mut total = 0;
    for (name, group) in cases.as_object().unwrap() {
        for case in group.as_array().into_iter().flatten() {
            let got: Value = match name.as_str() {
                "matches" => host::matches(text(case, "a"), text(case, "b")).into(),
                "subset_of" => host::subset_of(text(case, "a"), text(case, "b")).into(),
                "intersection" => host::intersection(&list(case, "a"), &list(case, "b")).into(),
                "names_for_namespace" => {
                    host::names_for_namespace(list(case, "hosts"), text(case, "namespace")).into()
                }
                "sort" => {
                    let mut hosts = list(case, "in");
                    host::sort(&mut hosts);
                    hosts.into()
                }
                "more_specific" => host::more_specific(text(case, "a"), text(case, "b")).into(),
                "most_specific" => {
                    let mut hosts = list(case, "hosts");
                    host::sort(&mut hosts);
                    host::most_specific(&hosts, text(case, "needle")).unwrap_or_default().into()
                }
                "short_name" => host::resolve_short_name(
                    text(case, "host"),
                    text(case, "namespace"),
                    text(case, "domain"),
                )
                .as_str()
                .into(),
                "gateway_name" => {
                    host::resolve_gateway_name(text(case, "gateway"), text(case, "namespace")).as_str().into()
                }
                "port_protocol" => {
                    let port = case.get("port").and_then(Value::as_u64).unwrap_or(0) as u32;
                    let app = case.get("app_protocol").and_then(Value::as_str);
                    Protocol::of_service_port(port, text(case, "port_name"), text(case, "protocol"), app)
                        .as_str()
                        .into()
                }
                _ => continue,
            };
            total += 1;
            if got != case["result"] {
                failures.push(format!("{name} {case}: got {got}"));
            }
        }
    }
    eprintln!("names: {} of {total} agree", total - failures.len());
    assert!(failures.is_empty() && total >= 118, "{}", failures.join("\n"));
}

#[test]
fn delegates_merge_as_istio_merges_them() {
    let Some(cases) = cases("delegates") else { return };
    let route = |v: &Value| -> HttpRoute { serde_json::from_value(v.clone()).unwrap() };
    let matches = |v: &Value| -> Vec<HttpMatchRequest> {
        if v.is_null() { Vec::new() } else { serde_json::from_value(v.clone()).unwrap() }
    };
    let mut total = 0;
    for case in cases["routes"].as_array().unwrap() {
        let mut root = route(&case["root"]);
        root.delegate = None;
        let merged: Vec<HttpRoute> = case["delegate"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|leaf| delegate::merge_routes(&root, &route(leaf)))
            .collect();
        let expected: Vec<HttpRoute> = case["result"].as_array().into_iter().flatten().map(route).collect();
        assert_eq!(merged, expected, "{}", case["name"]);
        total += 1;
    }
    for case in cases["matches"].as_array().unwrap() {
        let merged = delegate::merge_matches(&matches(&case["root"]), &matches(&case["delegate"]));
        assert_eq!(merged.is_none(), case["conflict"].as_bool().unwrap(), "{}", case["name"]);
        if let Some(merged) = merged {
            assert_eq!(merged, matches(&case["result"]), "{}", case["name"]);
        }
        total += 1;
    }
    for case in cases["conflicts"].as_array().unwrap() {
        let one = |v: &Value| -> HttpMatchRequest { serde_json::from_value(v.clone()).unwrap() };
        assert_eq!(
            delegate::has_conflict(&one(&case["root"]), &one(&case["delegate"])),
            case["result"].as_bool().unwrap(),
            "{}",
            case["name"]
        );
        total += 1;
    }
    eprintln!("delegates: {total} of {total} agree");
}
