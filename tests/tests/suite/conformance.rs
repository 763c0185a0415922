//! Third-party suites, held at today's measured figures.

use dryroute_tests::conformance::{Options, Suite};

/// Runs a file of a suite, headers included, and holds the number of passed checks at `floor`.
fn hold(suite: Suite, folder: &str, file: &str, floor: usize) {
    let Some(data) = dryroute_tests::conformance(folder) else { return };
    let path = data.join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        dryroute_tests::not_run(&format!("{} cannot be read", path.display()));
        return;
    };
    let checks =
        suite.run(&text, &Options { headers: true, ..Options::default() }).expect("a file of this suite");
    let passed = checks.iter().filter(|check| check.passed()).count();
    println!("{file}: {passed} of {}", checks.len());
    for check in checks.iter().filter(|check| !check.passed()).take(20) {
        print!("{check}");
    }
    assert!(passed >= floor, "{file}: {passed} of {} passed, {floor} did before", checks.len());
}

#[test]
fn simulation() {
    hold(Suite::Simulation, "simulation", "cases.jsonl", 552);
}

#[test]
fn differential_sidecar_http() {
    hold(Suite::Differential, "differential", "sidecar-http.jsonl", 1541);
}

#[test]
fn differential_visibility() {
    hold(Suite::Differential, "differential", "visibility.jsonl", 1858);
}

#[test]
fn differential_service_entry() {
    hold(Suite::Differential, "differential", "service-entry.jsonl", 1525);
}

#[test]
fn differential_destination_rule() {
    hold(Suite::Differential, "differential", "destination-rule.jsonl", 1920);
}

#[test]
fn differential_tls_tcp() {
    hold(Suite::Differential, "differential", "tls-tcp.jsonl", 1352);
}

#[test]
fn differential_egress_gateway() {
    hold(Suite::Differential, "differential", "egress-gateway.jsonl", 1883);
}

#[test]
fn differential_gateway_ingress() {
    hold(Suite::Differential, "differential", "gateway-ingress.jsonl", 1345);
}

#[test]
fn differential_inbound_mtls() {
    hold(Suite::Differential, "differential", "inbound-mtls.jsonl", 1800);
}

#[test]
fn differential_inbound_http() {
    hold(Suite::Differential, "differential", "inbound-http.jsonl", 1186);
}

#[test]
fn differential_gateway_api() {
    hold(Suite::Differential, "differential", "gateway-api.jsonl", 979);
}

#[test]
fn differential_gateway_api_more() {
    hold(Suite::Differential, "differential", "gateway-api-more.jsonl", 1233);
}

#[test]
fn validation() {
    hold(Suite::Validation, "validation", "cases.jsonl", 880);
}

#[test]
fn routing() {
    hold(Suite::Routing, "routing", "cases.jsonl", 339);
}

#[test]
fn router_check() {
    // Of 130; the index has the number of tests of two files wrong.
    hold(Suite::RouterCheck, "router-check", "index.json", 128);
}
