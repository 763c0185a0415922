//! Istio's validation: what its webhook refuses takes no part, and single values are read as its functions read them.

use dryroute::diagnostic::{Code, Place, Severity};
use dryroute::manifest::validate::{Exported, export_to, names};
use dryroute::manifest::{Loader, ManifestSet};
use dryroute::strategy;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value;
use smol_str::SmolStr;

fn lines(folder: &str, file: &str) -> Vec<Value> {
    let Some(folder) = dryroute_tests::conformance(folder) else { return Vec::new() };
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `kind namespace/name` of what Istio refused in a set.
fn refused(set: &ManifestSet) -> Vec<String> {
    let mut out: Vec<String> = set
        .diagnostics()
        .iter()
        .filter(|d| matches!(d.code, Code::RejectedByIstio | Code::OneofConflict))
        .filter_map(|d| match &d.labels.first()?.at {
            Place::Origin(origin) => origin.resource(),
            Place::Position(_) => None,
        })
        .map(|id| set.describe(id))
        .collect();
    out.sort();
    out.dedup();
    out
}

#[test]
fn what_istio_refused_in_random_meshes_is_refused() {
    let Some(folder) = dryroute_tests::conformance("differential") else { return };
    let (mut meshes, mut resources) = (0, 0);
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "jsonl") {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            // Every mesh with refused resources, and every fourth without: they are to be left alone.
            if number % 4 != 0 && !line.contains("configuration is invalid") {
                continue;
            }
            let case: Value = serde_json::from_str(line).unwrap();
            let set = Loader::new().text("mesh.yaml", case["manifests"].as_str().unwrap()).load();
            let mut expected: Vec<String> = case["rejected"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|r| r.as_str().unwrap().split(':').next().unwrap().to_owned())
                .collect();
            expected.sort();
            assert_eq!(refused(&set), expected, "{}: {:?}", case["id"], set.diagnostics());
            meshes += 1;
            resources += expected.len();
        }
    }
    eprintln!("refused: {resources} resources of {meshes} meshes agree");
}

#[test]
fn single_values_are_read_as_istio_reads_them() {
    let mut total = 0;
    let mut failures = Vec::new();
    for case in lines("validation", "strings.jsonl") {
        let input = &case["input"];
        let text = input.as_str().unwrap_or_default();
        let outcome = match case["suite"].as_str().unwrap() {
            "TestValidateWildcardDomain" => names::wildcard_domain(text),
            "TestValidateFQDN" => names::fqdn(text),
            "TestStrictValidateHTTPHeaderName" => names::strict_header(text),
            "TestValidateHTTPHeaderName" => names::match_header(text),
            "TestValidateHTTPHeaderValue" => names::header_value(text),
            "TestValidatePortName" => names::port_name(text),
            "TestValidationIPAddress" => names::ip(text),
            "TestValidationIPSubnet" => names::subnet(text),
            "TestValidatePort" => names::port(u32::try_from(input.as_i64().unwrap()).unwrap_or(0)),
            "TestValidateHTTPStatus" => names::http_status(input.as_i64().unwrap()),
            "TestValidateWildcardDomainForVirtualServiceBoundToGateway" => names::gateway_host(
                input["sni"].as_bool().unwrap_or(true),
                input["host"].as_str().unwrap_or(text),
            ),
            "Test_validateExportTo" => {
                let entries: Vec<SmolStr> = input["export_to"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|e| e.as_str().unwrap().into())
                    .collect();
                let flag = |name: &str| input[name].as_bool().unwrap_or(false);
                let kind = if flag("service_entry") {
                    Exported::ServiceEntry
                } else if flag("destination_rule_with_selector") {
                    Exported::SelectingRule
                } else {
                    Exported::Other
                };
                match export_to(input["namespace"].as_str().unwrap_or_default(), &entries, kind).first() {
                    Some((_, reason)) => Err(reason.clone()),
                    None => Ok(()),
                }
            }
            // Not about resources: a flag of istiod's, and expressions that it compiles.
            "TestValidateMaxServerConnectionAge" | "TestValidateTelemetryFilter" => continue,
            other => panic!("nobody knows the suite {other}"),
        };
        total += 1;
        if outcome.is_ok() != case["valid"].as_bool().unwrap() {
            failures.push(format!("{case}: {outcome:?}"));
        }
    }
    eprintln!("strings: {} of {total} agree", total - failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_refused_resource_takes_no_part_and_its_reason_points_at_the_field() {
    let set = Loader::new()
        .text(
            "vs.yaml",
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a.example]\n  http:\n  - timeout: 1ns\n    \
             route:\n    - destination: {host: a.example}\n---\n\
             apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
        )
        .load();
    assert_eq!(set.resources().count(), 1);
    let said = &set.diagnostics()[0];
    assert_eq!((said.code, said.field.as_str()), (Code::RejectedByIstio, "spec.http[0].timeout"));
    let Place::Origin(origin) = &said.labels[0].at else { panic!("a place in the resource") };
    let at = set.locate(origin).unwrap();
    assert_eq!((at.line, at.column), (7, 5));
    assert!(said.message.contains("duration must be greater than 1ms"), "{}", said.message);
}

#[test]
fn istio_takes_every_generated_resource() {
    let mut runner = TestRunner::deterministic();
    for number in 0..200 {
        let case = strategy::case(0).new_tree(&mut runner).unwrap().current();
        let set = case.load();
        let resources = set.diagnostics().iter().filter(|d| d.severity == Severity::Error);
        assert_eq!(refused(&set), Vec::<String>::new(), "mesh {number}: {:?}", set.diagnostics());
        assert_eq!(resources.count(), 0, "mesh {number}: {:?}", set.diagnostics());
    }
}
