//! What a user sees: standard output, standard error and the exit code of the program, 80 columns wide.
//!
//! Each case is one command line and one file below `snapshots/`; `SNAPSHOTS=overwrite cargo test -p dryroute-cli` writes them anew.
//! What a command decides is tested in the library; here it is how it is shown.

// Tests may fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use snapbox::cmd::Command;
use snapbox::{Assert, Data};

/// The repository, so that paths read as a user in it would write them.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn dryroute(words: &[&str]) -> Command {
    Command::new(snapbox::cmd::cargo_bin!("dryroute"))
        .args(words)
        .current_dir(root())
        .env_remove("RUST_BACKTRACE")
}

/// A command line as a shell reads it; only the words of these tests are known to it.
fn words(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => out.push(String::new()),
            c => out.last_mut().unwrap().push(c),
        }
    }
    out
}

fn check(name: &str, line: &str, stdin: Option<&str>) {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = dryroute(&words);
    if let Some(text) = stdin {
        command = command.stdin(text);
    }
    let output = command.output().unwrap();
    let mut shown = format!("$ dryroute {line}\n{}", String::from_utf8(output.stdout).unwrap());
    let stderr = String::from_utf8(output.stderr).unwrap();
    if !stderr.is_empty() {
        shown.push_str("--- stderr\n");
        shown.push_str(&stderr);
    }
    shown.push_str("--- exit ");
    shown.push_str(&output.status.code().unwrap().to_string());
    shown.push('\n');
    assert!(!shown.contains("panicked"), "{shown}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    Assert::new().action_env("SNAPSHOTS").eq(Data::text(shown), Data::read_from(&file, None).raw());
}

macro_rules! cases {
    ($($name:ident: $line:literal;)+) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), $line, None);
        })+

        #[test]
        fn no_snapshot_is_left_of_a_case_that_is_gone() {
            let mut known = vec![$(concat!(stringify!($name), ".txt"),)+ "check_of_standard_input.txt"];
            known.sort_unstable();
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
            let mut found: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, known);
        }
    };
}

cases! {
    // The stories, as a terminal shows them.
    trace_egress_gateway: "trace http://httpbin.org/get --scenario egress-gateway";
    trace_egress_gateway_from_the_proxy: "trace http://httpbin.org/get --scenario egress-gateway -c istio-proxy";
    trace_egress_gateway_fixed: "trace http://httpbin.org/get --scenario egress-gateway-fixed";
    trace_egress_gateway_fixed_other_path: "trace http://httpbin.org/headers --scenario egress-gateway-fixed";
    trace_egress_gateway_fixed_headers: "trace http://httpbin.org/get --scenario egress-gateway-fixed --headers";
    trace_bookinfo_ingress: "trace HEAD http://localhost:8080/productpage --scenario bookinfo-ingress --from outside --to-gateway istio-ingress/istio-ingressgateway:80";
    trace_canary: "trace http://reviews:9080/reviews/7 --scenario canary";
    trace_canary_seed: "trace http://reviews:9080/reviews/7 --scenario canary --seed 1";
    trace_canary_header: "trace http://reviews:9080/reviews/7 --scenario canary -H 'end-user: jason'";
    trace_ingress_tls_redirect: "trace http://shop.example.com/cart --scenario ingress-tls --from outside --to-gateway istio-ingress/istio-ingressgateway:80";
    trace_ingress_tls: "trace https://shop.example.com/cart --scenario ingress-tls --from outside --to-gateway istio-ingress/istio-ingressgateway:443";
    trace_multi_namespace: "trace http://checkout/pay --scenario multi-namespace --from shop/sleep";
    trace_multi_namespace_private: "trace http://ledger.example.com/ --scenario multi-namespace --from shop/sleep";
    trace_multi_namespace_slip: "trace http://chekout/pay --scenario multi-namespace --from shop/sleep";
    trace_no_sidecar: "trace http://catalog.shop/ --scenario no-sidecar --from legacy/sleep";
    trace_registry_only: "trace http://other.example/ --scenario registry-only --resolve other.example:80:192.0.2.20";
    trace_registry_only_slip: "trace http://api.partner.exmple/ --scenario registry-only";
    trace_service_entry_resolution: "trace http://eu.wild.example.com/ --scenario service-entry-resolution --resolve eu.wild.example.com:80:192.0.2.12";
    trace_tls_origination: "trace http://api.payments.example/charge --scenario tls-origination";
    // Other formats.
    trace_wide: "trace http://httpbin.org/get --scenario egress-gateway -o wide";
    trace_json: "trace http://httpbin.org/get --scenario egress-gateway -o json";
    trace_dot: "trace http://reviews:9080/reviews/7 --scenario canary -o dot";
    trace_mermaid: "trace http://reviews:9080/reviews/7 --scenario canary -o mermaid";
    trace_behind_a_plugin: "trace http://web/ --from default/sleep -f cli/tests/fixtures/opaque.yaml";
    trace_with_a_proxy_protocol_header: "trace tcp://web:9000 --from default/sleep -f cli/tests/fixtures/opaque.yaml";
    trace_verbose: "trace http://httpbin.org/get --scenario egress-gateway-fixed -v";
    trace_in_colour: "trace http://httpbin.org/get --scenario egress-gateway --color always";
    // Expectations.
    expectations_that_hold: "trace http://httpbin.org/get --scenario egress-gateway-fixed -o json --expect-verdict delivered --expect-via istio-egressgateway --expect-header 'x-forwarded-proto: http' --expect-header !x-gone --expect-response-header 'server: envoy'";
    expectations_that_fail: "trace http://httpbin.org/get --scenario egress-gateway --expect-status 200 --expect-via external:httpbin.org --expect-header 'x-user: jason'";
    // One proxy.
    probe_outbound: "probe --proxy default/sleep --dst 240.240.0.1:80 --host httpbin.org --path /get --scenario egress-gateway";
    probe_gateway: "probe --proxy istio-system/istio-egressgateway --dst 8080 --host httpbin.org --path /get --scenario egress-gateway-fixed";
    probe_inbound_json: "probe --proxy default/reviews-v1 --mode inbound --dst 9080 --host reviews --tls mtls --scenario canary -o json";
    probe_router_by_labels: "probe --proxy router:istio-system/istio=egressgateway --dst 8080 --host other.example --scenario egress-gateway-fixed";
    proxy_config_listeners_of_a_gateway_without_pods: "proxy-config listeners router:gws/app=gw -f cli/tests/fixtures/gateway-without-pods.yaml";
    proxy_config_listeners: "proxy-config listeners default/sleep --scenario egress-gateway";
    proxy_config_listeners_summary: "proxy-config listeners sleep --scenario egress-gateway --summary --type HTTP+TCP";
    proxy_config_routes_wide: "proxy-config routes default/sleep --scenario egress-gateway -o wide";
    proxy_config_routes_json: "proxy-config routes istio-egressgateway --scenario egress-gateway-fixed --name http.8080 -o json";
    proxy_config_clusters: "proxy-config clusters sleep.default --scenario canary --direction outbound";
    proxy_config_clusters_of_tls_origination: "proxy-config clusters sleep --scenario tls-origination --port 443";
    proxy_config_clusters_of_nothing: "proxy-config clusters sleep.default --scenario canary --subset v9";
    proxy_config_routes_summary: "proxy-config routes sleep --scenario canary --verbose=false";
    proxy_config_endpoints: "proxy-config endpoints sleep --scenario canary";
    proxy_config_endpoints_wide: "proxy-config endpoints sleep --scenario canary --cluster 'outbound|9080|v1|reviews.default.svc.cluster.local' -o wide";
    proxy_config_eds: "proxy-config eds sleep --scenario canary --status healthy";
    proxy_config_endpoints_yaml: "proxy-config endpoints sleep --scenario canary --cluster 'outbound|9080|v1|reviews.default.svc.cluster.local' -o yaml";
    // Everything else.
    check_multi_namespace: "check --scenario multi-namespace";
    check_ok: "check --scenario canary";
    check_mistakes: "check -f cli/tests/fixtures/mistakes.yaml";
    check_mistakes_short: "check -f cli/tests/fixtures/mistakes.yaml -o short";
    check_mistakes_json: "check -f cli/tests/fixtures/mistakes.yaml -o json";
    router_check: "router-check cli/tests/fixtures/routes.yaml cli/tests/fixtures/routes.tests.yaml --details";
    router_check_failing: "router-check cli/tests/fixtures/routes.yaml cli/tests/fixtures/routes.failing.yaml --only-show-failures";
    router_check_coverage: "router-check cli/tests/fixtures/routes.yaml cli/tests/fixtures/routes.tests.yaml --fail-under 100.5";
    router_check_covall: "router-check cli/tests/fixtures/routes.yaml cli/tests/fixtures/routes.tests.yaml --covall --fail-under 80";
    router_check_detailed_coverage: "router-check -c cli/tests/fixtures/routes.yaml -t cli/tests/fixtures/routes.pb_text --detailed-coverage";
    router_check_text_format: "router-check cli/tests/fixtures/routes.yaml cli/tests/fixtures/broken.pb_text";
    router_check_unsupported: "router-check cli/tests/fixtures/routes.tests.yaml cli/tests/fixtures/routes.yaml";
    explain: "explain unknown-field";
    explain_unknown: "explain unknown-feild";
    scenarios: "scenarios";
    scenarios_one: "scenarios canary";
    help: "help";
    help_trace: "help trace";
    version: "--version";
    // Bad input: one clear error, exit 2, no backtrace.
    bad_yaml: "check -f cli/tests/fixtures/broken.yaml";
    bad_yaml_does_not_hide_the_rest: "trace http://192.0.2.1/ -f cli/tests/fixtures/broken.yaml --from shop/sleep";
    trace_with_a_field_that_is_not_known: "trace http://web/ -f cli/tests/fixtures/partly.yaml --from sleep";
    trace_with_a_field_that_is_not_known_wide: "trace http://web/ -f cli/tests/fixtures/partly.yaml --from sleep -o wide";
    trace_without_an_answer_says_what_is_left_out: "trace http://web/ -f cli/tests/fixtures/partly.yaml --from slepe";
    trace_without_a_file_that_is_missing: "trace http://web/ -f cli/tests/fixtures/nothing.yaml -f cli/tests/fixtures/partly.yaml --from sleep";
    trace_from_outside_with_a_container: "trace http://web/ -f cli/tests/fixtures/partly.yaml --from outside -c app";
    trace_with_a_mesh_config_that_is_misspelt: "trace http://nope.example/ -f cli/tests/fixtures/partly.yaml --from sleep --mesh-config cli/tests/fixtures/values.yaml";
    bad_mesh_config: "check -f cli/tests/fixtures/partly.yaml --mesh-config cli/tests/fixtures/partly.yaml";
    bad_feature: "check -f cli/tests/fixtures/partly.yaml --feature HTTP10=true";
    bad_feature_without_a_value: "check -f cli/tests/fixtures/partly.yaml --feature PILOT_HTTP10";
    bad_file: "check -f cli/tests/fixtures/nothing.yaml";
    bad_directory: "check -f cli/src/trace";
    bad_url_without_host: "trace http:///get --scenario canary";
    bad_url_scheme: "trace ftp://reviews/ --scenario canary";
    bad_no_client: "trace http://httpbin.org/get -f scenarios/egress-gateway/lab.yaml";
    bad_no_entrance: "trace http://httpbin.org/get --from outside -f scenarios/egress-gateway/lab.yaml";
    trace_assumed_platform: "trace http://httpbin.org/get -f scenarios/egress-gateway/lab.yaml --assume-platform";
    bad_from: "trace http://reviews/ --scenario canary --from default/nobody";
    bad_container: "trace http://reviews/ --scenario canary --from default/sleep -c nothing";
    bad_scenario: "trace http://reviews/ --scenario canaries";
    bad_header: "trace http://reviews/ --scenario canary -H nonsense";
    bad_proxy: "proxy-config clusters default/nobody --scenario canary";
    bad_proxy_without_sidecar: "proxy-config clusters legacy/sleep --scenario no-sidecar";
    bad_proxy_ambiguous: "proxy-config clusters sleep --scenario multi-namespace";
    bad_destination: "probe --proxy sleep --dst nowhere --scenario canary";
    bad_usage: "trace";
}

#[test]
fn check_of_standard_input() {
    let text =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80, nam: http}]}\n";
    check("check_of_standard_input", "check -f -", Some(text));
}

#[test]
fn every_output_format_ends_with_the_same_code() {
    for (line, code) in [
        ("trace http://httpbin.org/get --scenario egress-gateway", 0),
        ("trace http://httpbin.org/get --scenario egress-gateway --expect-status 200", 1),
        ("trace http:///get --scenario egress-gateway", 2),
    ] {
        for format in ["text", "wide", "json", "dot", "mermaid"] {
            let mut words = words(line);
            words.extend(["-o".to_owned(), format.to_owned()]);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(dryroute(&words).output().unwrap().status.code(), Some(code), "{line} -o {format}");
        }
    }
}

#[test]
fn files_that_git_ignores_are_not_read_outside_of_repositories_either() {
    let folder = std::env::temp_dir().join(format!("dryroute-{}", std::process::id()));
    let namespace = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let read = folder.join("read");
    std::fs::create_dir_all(read.join("sub")).unwrap();
    for (file, text) in [
        (folder.join(".gitignore"), "*\n".to_owned()),
        (read.join(".gitignore"), "generated.yaml\n".to_owned()),
        (read.join("a.yaml"), namespace("a")),
        (read.join("sub/generated.yaml"), namespace("b")),
    ] {
        std::fs::write(file, text).unwrap();
    }
    let output = dryroute(&["check", "-f", read.to_str().unwrap()]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ok: 1 resource, 0 errors, 0 warnings\n");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn sections_of_proxy_config_have_the_short_names_of_istioctl() {
    for names in [
        ["listeners", "listener", "l"],
        ["routes", "route", "r"],
        ["clusters", "cluster", "c"],
        ["endpoints", "endpoint", "ep"],
        ["eds", "eds", "eds"],
    ] {
        let tables = names
            .map(|name| dryroute(&["pc", name, "sleep", "--scenario", "canary"]).output().unwrap().stdout);
        assert!(!tables[0].is_empty() && tables.iter().all(|table| *table == tables[0]), "{names:?}");
    }
}

#[test]
fn the_common_case_fits_one_screen() {
    let words = ["trace", "http://httpbin.org/get", "--scenario", "egress-gateway"];
    let output = dryroute(&words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() <= 24, "{} lines:\n{text}", text.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "too wide: {line}");
    }
}

#[test]
fn the_readme_shows_what_the_program_prints() {
    let words = ["trace", "http://httpbin.org/get", "--scenario", "egress-gateway"];
    let printed = String::from_utf8(dryroute(&words).output().unwrap().stdout).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(printed.trim_end()), "README.md does not show:\n{printed}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = std::process::Command::new(snapbox::cmd::cargo_bin!("dryroute"))
        .args(["trace", "http://httpbin.org/get", "--scenario", "egress-gateway", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn completions_and_the_manual_page_name_the_commands() {
    for words in [&["completions", "bash"][..], &["completions", "zsh"], &["man"]] {
        let output = dryroute(words).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("trace"), "{words:?}");
    }
}
