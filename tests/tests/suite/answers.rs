//! What a proxy answers by itself, as the client sees it.

use std::sync::Arc;

use dryroute::envoy::{Capture, ConnectionOutcome, HttpRequest, HttpResponse, NoRecord, decide, respond};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Hop, Query, Trace, Tracer};
use dryroute_tests::CLIENT;
use dryroute_tests::live::lab::plaintext;

const CART: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template: {metadata: {labels: {app: cart}}, spec: {containers: [{name: app, ports: [{containerPort: 8080}]}]}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// The trace of a request of `shop/client` in a mesh with these resources more.
fn trace(more: &str, method: &str, url: &str, headers: &[(&str, &str)]) -> Trace {
    let loader =
        Loader::new().text("client.yaml", CLIENT).text("cart.yaml", CART).text("more.yaml", more.to_owned());
    let tracer = Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default())));
    let mut query = Query::get(url).unwrap();
    query.from = Some("shop/client".into());
    query.method = method.into();
    query.headers = headers.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect();
    tracer.trace(&query).unwrap()
}

/// The response's lines as the client gets them.
fn answer(trace: &Trace) -> Vec<String> {
    let lines = &trace.hops.first().unwrap().response.arrived;
    lines.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[test]
fn a_preflight_is_answered_alike_whatever_its_content_type() {
    let cors = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - corsPolicy: {allowOrigins: [{exact: 'http://a.test'}], allowMethods: [GET]}
    route: [{destination: {host: cart}}]
";
    let preflight = [("origin", "http://a.test"), ("access-control-request-method", "GET")];
    let plain = answer(&trace(cors, "OPTIONS", "http://cart/", &preflight));
    assert_eq!(plain.first().map(String::as_str), Some(":status: 200"), "{plain:?}");
    assert!(plain.contains(&"access-control-allow-origin: http://a.test".to_owned()), "{plain:?}");
    let grpc = [&preflight[..], &[("content-type", "application/grpc")]].concat();
    assert_eq!(answer(&trace(cors, "OPTIONS", "http://cart/", &grpc)), plain);
}

/// The last value of a header.
fn header<'a>(lines: &'a [(smol_str::SmolStr, smol_str::SmolStr)], name: &str) -> Option<&'a str> {
    lines.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

fn hop<'a>(trace: &'a Trace, id: &str) -> &'a Hop {
    trace.hop(&trace.outcomes[0], id).unwrap_or_else(|| panic!("no {id} in {:?}", trace.outcomes[0].path))
}

/// A VirtualService for `cart`, the rule in the flow style of YAML.
fn rule(rule: &str) -> String {
    let head =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}";
    format!(
        "{head}\nspec: {{hosts: [cart], http: [{{route: [{{destination: {{host: cart}}}}], {rule}}}]}}\n---\n"
    )
}

const SIDECAR: &str = "sidecar:shop/client";

#[test]
fn a_connection_that_fails_is_tried_again_and_the_last_try_is_the_one_that_shows() {
    // The client speaks mutual TLS to a workload without a proxy.
    let mesh = rule(
        "headers: {response: {set: {x-count: '%REQ(x-envoy-attempt-count)% %UPSTREAM_REQUEST_ATTEMPT_COUNT%'}}}",
    ) + "
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart, sidecar.istio.io/inject: 'false'}}
    spec: {containers: [{name: app, ports: [{containerPort: 8080}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: cart, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
";
    let trace = trace(&mesh, "GET", "http://cart/", &[]);
    assert_eq!(trace.outcomes[0].verdict.flags, ["URX", "UF"], "{:?}", trace.outcomes[0]);
    let sidecar = hop(&trace, SIDECAR);
    let tries = sidecar.tries.as_ref().unwrap();
    assert_eq!((tries.made, tries.most), (Some(3), 3));
    assert_eq!(tries.back_off_ms, [25, 50]);
    assert_eq!(tries.other_hosts, Some(5));
    assert_eq!(header(&sidecar.request.left, "x-envoy-attempt-count"), Some("3"));
    assert_eq!(
        header(&hop(&trace, "workload:shop/cart").request.arrived, "x-envoy-attempt-count"),
        Some("3")
    );
    assert_eq!(header(&sidecar.response.left, "x-count"), Some("3 3"));
    // Three connections of ten seconds, and the waits.
    assert_eq!(tries.worst_case_ms, Some(30_075));
    assert_eq!(trace.outcomes[0].worst_case_ms, Some(30_075));
}

#[test]
fn an_answer_that_is_tried_again_comes_after_all_tries() {
    let mesh = rule("retries: {attempts: 2, retryOn: '403'}")
        + "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {}
";
    let trace = trace(&mesh, "GET", "http://cart/", &[]);
    let verdict = &trace.outcomes[0].verdict;
    assert_eq!((verdict.status, verdict.by.as_str()), (Some(403), "inbound:shop/cart"));
    let sidecar = hop(&trace, SIDECAR);
    assert_eq!(sidecar.tries.as_ref().unwrap().made, Some(3));
    assert_eq!(sidecar.log.as_ref().unwrap().flags, ["URX"]);
    let inbound = hop(&trace, "inbound:shop/cart");
    assert_eq!(header(&inbound.request.arrived, "x-envoy-attempt-count"), Some("3"));
    assert_eq!(inbound.tries, None);
}

#[test]
fn limits_of_tries_and_of_the_whole_bound_the_time() {
    let worst = |rule_text: &str| {
        let trace = trace(&rule(rule_text), "GET", "http://cart/", &[]);
        assert_eq!(hop(&trace, SIDECAR).tries.as_ref().unwrap().made, None);
        trace.outcomes[0].worst_case_ms
    };
    assert_eq!(worst("name: none"), None);
    assert_eq!(worst("timeout: 5s"), Some(5_000));
    // A try: ten seconds for the connection, two for the response.
    let tries = "retries: {attempts: 2, perTryTimeout: 2s, retryOn: 5xx}";
    assert_eq!(worst(tries), Some(3 * 12_000 + 75));
    assert_eq!(worst(&format!("timeout: 20s, {tries}")), Some(20_000));
    let delay = "fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}";
    assert_eq!(worst(&format!("timeout: 20s, {delay}, {tries}")), Some(21_000));
    // Only connections are tried again.
    assert_eq!(
        worst("retries: {attempts: 2, perTryTimeout: 2s, retryOn: connect-failure}"),
        Some(3 * 10_000 + 2_000 + 75)
    );
}

const UPGRADE: &[(&str, &str)] = &[("connection", "Upgrade"), ("upgrade", "websocket")];

#[test]
fn an_upgrade_is_shown_as_the_application_that_accepts_it_opens_it() {
    let trace = trace("", "GET", "http://cart/", UPGRADE);
    let outcome = &trace.outcomes[0];
    assert_eq!(outcome.verdict.by, "workload:shop/cart");
    let assumed: Vec<&str> =
        outcome.assumptions.iter().map(|id| trace.assumption(id).unwrap().text.as_str()).collect();
    assert!(assumed.contains(&"workload:shop/cart accepts the upgrade of the connection"), "{assumed:?}");
    let expected = ["connection: Upgrade", "upgrade: websocket", "date: <generated>", "server: envoy"];
    assert_eq!(answer(&trace), expected);
}

/// What the client's sidecar makes of an upstream's response to an upgrade.
fn answer_to_upgrade(status: u16, headers: &[(&str, &str)]) -> Vec<String> {
    let loader = Loader::new().text("client.yaml", CLIENT).text("cart.yaml", CART);
    let mesh = Arc::new(Mesh::new(loader.load(), MeshOptions::default()));
    let workload = mesh.workloads().iter().find(|workload| workload.name == "client").unwrap();
    let proxy = Proxy::new(Arc::clone(&mesh), Node::of(&mesh, workload).unwrap());
    let lines = |lines: &[(&str, &str)]| lines.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    let request = HttpRequest {
        method: "GET".into(),
        path: "/".into(),
        authority: "cart".into(),
        scheme: None,
        headers: lines(UPGRADE),
    };
    let connection = plaintext("10.96.0.1".parse().unwrap(), 80, "10.0.0.1".parse().unwrap());
    let facts = proxy.stock_envoy_facts();
    let decision = decide(&proxy, &facts, Capture::Outbound, &connection, Some(&request), &mut NoRecord);
    let ConnectionOutcome::Http(http) = decision.outcome else { panic!("{:?}", decision.outcome) };
    let upstream = HttpResponse { status, headers: lines(headers), body: "hello".into() };
    let (response, _) = respond(&http, &http.branches[0], &upstream);
    let first = format!("{} {}", response.status, response.body);
    let lines = response.headers.iter().map(|(name, value)| format!("{name}: {value}"));
    std::iter::once(first).chain(lines).collect()
}

#[test]
fn what_does_not_accept_an_upgrade_closes_the_connection() {
    // Measured with Envoy 1.40.
    assert_eq!(
        answer_to_upgrade(200, &[("content-length", "5"), ("content-type", "a/b"), ("x-a", "1")]),
        ["200 ", "x-a: 1", "date: <generated>", "server: envoy", "connection: close", "content-length: 0"]
    );
    assert_eq!(
        answer_to_upgrade(403, &[("content-length", "5"), ("x-a", "1")]),
        [
            "403 hello",
            "content-length: 5",
            "x-a: 1",
            "date: <generated>",
            "server: envoy",
            "connection: close"
        ]
    );
}

#[test]
fn a_fault_in_front_of_a_cluster_that_does_not_exist_tells_no_cluster() {
    let shown = |host: &str| {
        let mesh = rule(&format!(
            "fault: {{abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}, \
             headers: {{response: {{set: {{x-cluster: 'c%UPSTREAM_CLUSTER%'}}}}}}, match: [{{uri: {{prefix: /{host}}}}}]"
        ))
        .replace("host: cart", &format!("host: {host}"));
        let trace = trace(&mesh, "GET", &format!("http://cart/{host}"), &[]);
        let answer = answer(&trace);
        answer.into_iter().find(|line| line.starts_with("x-cluster")).unwrap()
    };
    assert_eq!(shown("cart"), "x-cluster: coutbound|80||cart.shop.svc.cluster.local");
    // Measured with Envoy 1.40.
    assert_eq!(shown("missing"), "x-cluster: c");
}

#[test]
fn any_line_of_connection_asks_to_close() {
    let answered = answer(&trace(
        "",
        "GET",
        "http://cart/",
        &[("connection", "keep-alive"), ("connection", "close"), ("connection", "keep-alive")],
    ));
    assert!(answered.contains(&"connection: close".to_owned()), "{answered:?}");
}

#[test]
fn an_upgrade_is_a_body_that_an_answer_does_not_wait_for() {
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let mesh = rule("directResponse: {status: 200}").replace("route: [{destination: {host: cart}}], ", "");
    let answered = answer(&trace(&mesh, "GET", "http://cart/", &upgrade));
    assert!(answered.contains(&"connection: close".to_owned()), "{answered:?}");
}
