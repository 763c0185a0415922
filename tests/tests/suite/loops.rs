//! Requests that come back: every walk ends, in bounded time and memory, and its ways add up.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Fidelity, Query, Trace, Tracer, VerdictKind};
use dryroute_tests::INGRESS_GATEWAY;

const GATEWAY: &str = "
apiVersion: v1
kind: Service
metadata: {name: igw, namespace: istio-system}
spec:
  clusterIP: 10.96.9.9
  selector: {istio: ingressgateway}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// The trace of a request from outside where the gateway has this rule; what is decided without reasons is the same.
fn trace(rule: &str) -> Trace {
    let rules = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: back, namespace: default}}\n\
         spec:\n  hosts: ['*']\n  gateways: [gw]\n  http: [{{{rule}}}]\n"
    );
    let loader = Loader::new()
        .text("igw.yaml", INGRESS_GATEWAY)
        .text("gateway.yaml", GATEWAY)
        .text("rules.yaml", rules);
    let tracer = Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default())));
    let mut query = Query::get("http://x/").unwrap();
    query.from = Some("outside".into());
    let trace = tracer.trace(&query).unwrap();
    let decided = tracer.decide(&query).unwrap();
    assert_eq!(
        decided.iter().map(|o| (o.probability, &o.path, &o.verdict)).collect::<Vec<_>>(),
        trace.outcomes.iter().map(|o| (o.probability, &o.path, &o.verdict)).collect::<Vec<_>>()
    );
    let total: f64 = trace.outcomes.iter().map(|outcome| outcome.probability).sum();
    assert!((total - 1.0).abs() < 1e-9, "{rule}: {total}");
    trace
}

const ITSELF: &str = "destination: {host: igw.istio-system.svc.cluster.local, port: {number: 80}}";

#[test]
fn a_loop_that_forks_each_time_ends_in_one_outcome_that_says_so() {
    for fork in [
        format!("route: [{{{ITSELF}, weight: 50}}, {{{ITSELF}, weight: 50}}]"),
        format!("route: [{{{ITSELF}}}], fault: {{delay: {{fixedDelay: 1s, percentage: {{value: 10}}}}}}"),
        format!(
            "route: [{{{ITSELF}, weight: 1}}, {{{ITSELF}, weight: 1}}, {{{ITSELF}, weight: 1}}], \
             fault: {{delay: {{fixedDelay: 1s, percentage: {{value: 10}}}}}}"
        ),
    ] {
        let trace = trace(&format!("rewrite: {{uri: /a/}}, {fork}"));
        let [rest] = trace.outcomes.as_slice() else { panic!("{fork}: {}", trace.outcomes.len()) };
        assert_eq!((rest.verdict.kind, rest.fidelity), (VerdictKind::Unknown, Fidelity::Opaque), "{fork}");
        assert!(rest.verdict.reason.as_ref().unwrap().contains("comes back to gateway:istio-system/igw"));
        assert_eq!(rest.path, ["client", "gateway:istio-system/igw", "gateway:istio-system/igw#2"], "{fork}");
        let known: Vec<_> = trace.hops.iter().map(|hop| &hop.id).collect();
        assert!(rest.path.iter().all(|id| known.contains(&id)), "{fork}");
    }
}

#[test]
fn what_leaves_a_loop_is_told_and_the_rest_is_put_together() {
    let abort = "fault: {abort: {httpStatus: 555, percentage: {value: 40}}}";
    let trace = trace(&format!(
        "rewrite: {{uri: /a/}}, {abort}, route: [{{{ITSELF}, weight: 1}}, {{{ITSELF}, weight: 1}}]"
    ));
    let unknown: Vec<_> = trace.outcomes.iter().filter(|o| o.verdict.kind == VerdictKind::Unknown).collect();
    assert_eq!(unknown.len(), 1);
    let aborted: f64 =
        trace.outcomes.iter().filter(|o| o.verdict.status == Some(555)).map(|o| o.probability).sum();
    assert!(aborted > 0.95, "{aborted}");
    assert!(trace.outcomes.len() < 3_000, "{}", trace.outcomes.len());
}

#[test]
fn copies_that_come_back_end_and_leave_the_request_itself_alone() {
    let copies = |route: &str| {
        trace(&format!(
            "rewrite: {{uri: /a/}}, {route}, mirrors: [{{{ITSELF}}}, {{{ITSELF}, percentage: {{value: 50}}}}]"
        ))
    };
    let trace = copies(&format!("route: [{{{ITSELF}}}]"));
    let [one] = trace.outcomes.as_slice() else { panic!("{}", trace.outcomes.len()) };
    assert_eq!((one.verdict.kind, one.fidelity), (VerdictKind::Loop, Fidelity::Assumed));
    let said = |text: &str| trace.assumptions.iter().any(|assumption| assumption.text.contains(text));
    assert!(said("more copies"), "{:?}", trace.assumptions);
}

#[test]
fn a_fork_of_thousands_of_ways_is_followed_whole() {
    let routes: Vec<String> =
        (0..2_000).map(|i| format!("{{destination: {{host: 'nowhere{i}'}}, weight: 1}}")).collect();
    let trace = trace(&format!("route: [{}]", routes.join(", ")));
    assert_eq!(trace.outcomes.len(), 2_000);
    assert!(trace.outcomes.iter().all(|outcome| outcome.verdict.kind == VerdictKind::Answered));
}
