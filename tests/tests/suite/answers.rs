//! What a proxy answers by itself, as the client sees it.

use std::sync::Arc;

use dryroute::envoy::{
    Capture, ConnectionOutcome, HttpBranch, HttpDecision, HttpOutcome, HttpRequest, HttpResponse, NoRecord,
    decide, respond,
};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Hop, Query, Trace, Tracer, VerdictKind};
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

type Lines<'a> = &'a [(&'a str, &'a str)];

fn lines(lines: Lines<'_>) -> Vec<(smol_str::SmolStr, smol_str::SmolStr)> {
    lines.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// `GET http://cart/`.
fn request(headers: Lines<'_>) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        path: "/".into(),
        authority: "cart".into(),
        scheme: None,
        headers: lines(headers),
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    }
}

/// What the client's sidecar decides about `GET /` at `cart`, in a mesh with these resources more.
fn decided(more: &str, headers: Lines<'_>) -> HttpDecision {
    let loader =
        Loader::new().text("client.yaml", CLIENT).text("cart.yaml", CART).text("more.yaml", more.to_owned());
    let mesh = Arc::new(Mesh::new(loader.load(), MeshOptions::default()));
    let workload = mesh.workloads().iter().find(|workload| workload.name == "client").unwrap();
    let proxy = Proxy::new(Arc::clone(&mesh), Node::of(&mesh, workload).unwrap());
    let request = request(headers);
    let connection = plaintext("10.96.0.1".parse().unwrap(), 80, "10.0.0.1".parse().unwrap());
    let facts = proxy.stock_envoy_facts();
    let decision = decide(&proxy, &facts, Capture::Outbound, &connection, Some(&request), &mut NoRecord);
    let ConnectionOutcome::Http(http) = decision.outcome else { panic!("{:?}", decision.outcome) };
    *http
}

/// The client's answer when the upstream gives this one, status and body first.
fn passed_on(http: &HttpDecision, status: u16, headers: Lines<'_>) -> Vec<String> {
    let upstream = HttpResponse { status, headers: lines(headers), body: "hello".into() };
    let (response, _) = respond(http, &http.branches[0], &upstream);
    let first = format!("{} {}", response.status, response.body);
    let lines = response.headers.iter().map(|(name, value)| format!("{name}: {value}"));
    std::iter::once(first).chain(lines).collect()
}

/// What the client's sidecar makes of an upstream's response to an upgrade.
fn answer_to_upgrade(status: u16, headers: Lines<'_>) -> Vec<String> {
    passed_on(&decided("", UPGRADE), status, headers)
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

// What follows was measured with Envoy 1.40.

#[test]
fn what_does_not_accept_an_upgrade_is_not_tried_again() {
    let mesh = rule("retries: {attempts: 2, retryOn: unavailable}");
    let attempts = |headers| {
        let gone = HttpResponse { status: 200, headers: lines(&[("grpc-status", "14")]), body: "".into() };
        decided(&mesh, headers).branches[0].tried(&gone).attempts
    };
    assert_eq!(attempts(&[]), 3);
    assert_eq!(attempts(UPGRADE), 1);
}

#[test]
fn a_grpc_client_whose_upgrade_is_not_accepted_gets_a_status() {
    let both = [UPGRADE, &[("content-type", "application/grpc")]].concat();
    let sent = [("content-type", "a/b"), ("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive")];
    assert_eq!(
        passed_on(&decided("", &both), 302, &sent)[..4],
        ["200 ", "content-type: application/grpc", "keep-alive: timeout=5", "grpc-status: 2"]
    );
}

#[test]
fn an_answer_to_an_upgrade_has_no_grpc_status_before_its_operations_are_done() {
    let mesh = rule("headers: {response: {set: {x-status: '[%GRPC_STATUS%]'}}}");
    let both = [UPGRADE, &[("content-type", "application/grpc")]].concat();
    let answer = passed_on(&decided(&mesh, &both), 200, &[]);
    assert!(answer.contains(&"x-status: []".to_owned()), "{answer:?}");
}

#[test]
fn each_try_gives_the_client_a_cookie() {
    let mesh = rule("retries: {attempts: 2, retryOn: 5xx}")
        + "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec:
  host: cart
  trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: sticky, ttl: 0s}}}}
";
    let cookies = |status| {
        let answer = passed_on(&decided(&mesh, &[]), status, &[]);
        answer.iter().filter(|line| line.starts_with("set-cookie: sticky=")).count()
    };
    assert_eq!((cookies(200), cookies(500)), (1, 3));
}

#[test]
fn the_flags_of_a_request_on_its_way_in_tell_of_a_delay() {
    let told = |fault: &str| {
        let mesh = rule(&format!("headers: {{request: {{set: {{x-flags: '%RESPONSE_FLAGS%'}}}}}}{fault}"));
        let branches = decided(&mesh, &[]).branches;
        branches
            .iter()
            .filter_map(|branch| header(&branch.request.headers, "x-flags").map(str::to_owned))
            .collect()
    };
    assert_eq!(told(""), ["-"]);
    // Measured with Envoy 1.40.
    let delayed: Vec<String> = told(", fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}");
    assert_eq!(delayed, ["DI"]);
}

#[test]
fn a_mirrored_copy_has_the_time_of_all_tries() {
    let retries =
        "timeout: 3s, retries: {attempts: 2, perTryTimeout: 1s}, mirrors: [{destination: {host: cart}}]";
    let told = |rule: &str| {
        let branch = decided(rule, &[]).branches.swap_remove(0);
        let of = |request: &HttpRequest| {
            header(&request.headers, "x-envoy-expected-rq-timeout-ms").unwrap_or_default().to_owned()
        };
        [of(&branch.request), of(&branch.mirrors[0].request)]
    };
    // Measured with Envoy 1.40.
    assert_eq!(told(&rule(retries)), ["1000", "3000"]);
    assert_eq!(told(&rule(&retries.replace("timeout: 3s, ", ""))), ["1000", "1000"]);
}

#[test]
fn a_grpc_status_is_told_to_grpc_clients_only() {
    let mesh = rule(
        "headers: {request: {set: {x-status: 'r%GRPC_STATUS%'}}, \
         response: {set: {x-status: '%GRPC_STATUS%', x-snake: '%GRPC_STATUS(SNAKE_STRING)%', x-number: '%GRPC_STATUS_NUMBER%'}}}",
    );
    let told = |http: &HttpDecision, headers: Lines<'_>| -> Vec<String> {
        let answer = passed_on(http, 503, headers);
        answer.into_iter().filter(|line| line.starts_with("x-")).collect()
    };
    let grpc = decided(&mesh, &[("content-type", "application/grpc")]);
    let time = "x-envoy-upstream-service-time: <generated>";
    assert_eq!(
        told(&grpc, &[("grpc-status", "5")]),
        [time, "x-number: 5", "x-snake: NOT_FOUND", "x-status: NotFound"]
    );
    assert_eq!(told(&grpc, &[]), [time, "x-number: 14", "x-snake: UNAVAILABLE", "x-status: Unavailable"]);
    assert_eq!(told(&decided(&mesh, &[]), &[("grpc-status", "5")]), [time]);
    let sent = &grpc.branches[0].request.headers;
    assert_eq!(header(sent, "x-status"), Some("r"));
}

#[test]
fn an_upgrade_that_is_refused_has_the_operations_of_routes_to_clusters_only() {
    let upgrade = [("connection", "upgrade"), ("upgrade", "foo")];
    let own =
        |mesh: &str| answer(&trace(mesh, "GET", "http://cart/", &upgrade)).contains(&"x-a: 1".to_owned());
    let routed = rule("headers: {response: {set: {x-a: '1'}}}");
    assert!(own(&routed));
    let redirected = routed.replace("route: [{destination: {host: cart}}]", "redirect: {uri: /b}");
    assert!(!own(&redirected));
}

#[test]
fn an_upgrade_that_is_refused_has_the_operations_of_the_destination_that_was_chosen() {
    let mesh = rule("").replace(
        "route: [{destination: {host: cart}}]",
        "route: [{destination: {host: cart}, weight: 1}, \
         {destination: {host: cart, port: {number: 81}}, weight: 3, headers: {response: {set: {x-a: '1'}}}}]",
    );
    let answers = |mesh: &str| -> Vec<(f64, bool)> {
        let http = decided(mesh, &[("connection", "upgrade"), ("upgrade", "foo")]);
        let told = |branch: &HttpBranch| match &branch.outcome {
            HttpOutcome::Reply(reply) => {
                assert_eq!(reply.response.status, 403);
                header(&reply.response.headers, "x-a").is_some()
            }
            other => panic!("{other:?}"),
        };
        http.branches.iter().map(|branch| (branch.probability, told(branch))).collect()
    };
    // Measured with Envoy 1.40.
    assert_eq!(answers(&mesh), [(0.25, false), (0.75, true)]);
    assert_eq!(
        answers(&mesh.replace("headers: {response: {set: {x-a: '1'}}}", "headers: {}")),
        [(1.0, false)]
    );
}

#[test]
fn a_content_type_that_goes_on_in_the_next_line_is_not_grpc() {
    let mesh = rule("fault: {abort: {httpStatus: 418, percentage: {value: 100}}}");
    let status = |headers| answer(&trace(&mesh, "GET", "http://cart/", headers)).swap_remove(0);
    assert_eq!(status(&[("content-type", "application/grpc")]), ":status: 200");
    assert_eq!(status(&[("content-type", "application/grpc"), (" a", "1")]), ":status: 418");
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

/// Measured with Envoy 1.40.
#[test]
fn a_request_without_a_host_is_looked_up_where_one_virtual_host_is_for_all() {
    let inbound = |headers: Lines<'_>| {
        let mesh = Mesh::new(
            Loader::new().text("client.yaml", CLIENT).text("cart.yaml", CART).load(),
            MeshOptions::default(),
        );
        let mesh = Arc::new(mesh);
        let cart = mesh.workloads().iter().find(|workload| workload.name == "cart").unwrap();
        let proxy = Proxy::new(Arc::clone(&mesh), Node::of(&mesh, cart).unwrap());
        let connection = plaintext(cart.ips[0], 8080, "10.1.0.9".parse().unwrap());
        let request = request(headers);
        let facts = proxy.facts();
        decide(&proxy, &facts, Capture::Inbound, &connection, Some(&request), &mut NoRecord).outcome
    };
    for (sent, routed) in [
        (&[("connection", "host"), ("x-forwarded-proto", "http")][..], true),
        (&[("connection", "host")][..], false),
    ] {
        let ConnectionOutcome::Http(http) = inbound(sent) else { panic!("{sent:?}") };
        let HttpOutcome::Reply(reply) = &http.branches[0].outcome else { panic!("{sent:?}") };
        assert_eq!((reply.details.as_str(), http.route.is_some()), ("missing_host_header", routed));
    }
}

#[test]
fn a_wish_to_close_that_goes_on_in_the_next_line_is_none() {
    let direct = rule("directResponse: {status: 404}").replace("route: [{destination: {host: cart}}], ", "");
    let closed = |headers| {
        let answered = answer(&trace(&direct, "GET", "http://cart/", headers));
        answered.contains(&"connection: close".to_owned())
    };
    assert!(closed(&[("proxy-connection", "close")]));
    assert!(!closed(&[("proxy-connection", "close"), (" a", "1")]));
}

#[test]
fn an_upgrade_is_a_body_that_an_answer_does_not_wait_for() {
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let mesh = rule("directResponse: {status: 200}").replace("route: [{destination: {host: cart}}], ", "");
    let answered = answer(&trace(&mesh, "GET", "http://cart/", &upgrade));
    assert!(answered.contains(&"connection: close".to_owned()), "{answered:?}");
}

/// A VirtualService for `cart` with this one rule.
fn only_rule(rule: &str) -> String {
    let head =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}";
    format!("{head}\nspec: {{hosts: [cart], http: [{{{rule}}}]}}\n---\n")
}

/// Measured with Envoy 1.40.
#[test]
fn a_query_without_a_content_type_is_refused_and_one_with_it_is_delivered() {
    let untyped = trace("", "QUERY", "http://cart/", &[]);
    let verdict = &untyped.outcomes[0].verdict;
    assert_eq!((verdict.status, verdict.details.as_str()), (Some(400), "query_missing_content_type"));
    // The route is looked up for the answer, and its operations are done with what has been read.
    let mesh = rule(
        "headers: {response: {set: {x-a: '%STREAM_INFO_REQ(x-a)%', x-b: '%REQUESTED_SERVER_NAME(HOST_FIRST)%'}}}",
    );
    let lines = answer(&trace(&mesh, "QUERY", "http://cart/", &[("x-forwarded-proto", "a"), ("x-a", "1")]));
    let own: Vec<&String> = lines.iter().filter(|line| line.starts_with("x-")).collect();
    assert_eq!(own, ["x-a: 1"]);
    let typed = trace("", "QUERY", "http://cart/", &[("content-type", "application/json")]);
    assert_eq!(typed.outcomes[0].verdict.kind, VerdictKind::Delivered);
}

/// Measured with Envoy 1.40.
#[test]
fn a_client_of_grpc_is_not_redirected_to_a_path_without_escaped_slashes() {
    let mesh = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'defaultConfig: {connectionSettings: {httpPathWithEscapedSlashesAction: UNESCAPE_AND_REDIRECT}}'}
";
    let status = |headers| {
        let lines = answer(&trace(mesh, "GET", "http://cart/a%2Fb", headers));
        (
            lines[0].clone(),
            lines.into_iter().find(|line| line.contains("location") || line.contains("grpc-status")),
        )
    };
    assert_eq!(status(&[]), (":status: 307".into(), Some("location: /a/b".into())));
    let grpc = status(&[("content-type", "application/grpc")]);
    assert_eq!(grpc, (":status: 200".into(), Some("grpc-status: 13".into())));
}

#[test]
fn a_direct_response_that_created_or_moved_something_says_where() {
    for (status, location) in [(201, true), (302, true), (304, true), (200, false), (404, false)] {
        let direct =
            only_rule(&format!("match: [{{uri: {{prefix: /a}}}}], directResponse: {{status: {status}}}"));
        let told = answer(&trace(&direct, "GET", "http://cart/a?b", &[]));
        let line = "location: http://cart/a?b".to_owned();
        assert_eq!(told.contains(&line), location, "{status}: {told:?}");
    }
}

/// Measured with Envoy 1.40 and random requests.
#[test]
fn nobody_gets_the_body_of_an_answer_that_nothing_changed() {
    for (status, body) in [(304, ""), (404, "hello")] {
        let direct = only_rule(&format!("directResponse: {{status: {status}, body: {{string: hello}}}}"));
        let http = decided(&direct, &[]);
        let HttpOutcome::Reply(reply) = &http.branches[0].outcome else { panic!("{status}") };
        assert_eq!(reply.response.body, body, "{status}");
    }
}

#[test]
fn a_body_whose_length_is_removed_goes_in_chunks() {
    let removing = rule("headers: {request: {remove: [content-length]}}");
    let sent = trace(&removing, "POST", "http://cart/", &[("content-length", "3")]);
    let left = &hop(&sent, SIDECAR).request.left;
    assert_eq!(header(left, "transfer-encoding"), Some("chunked"), "{left:?}");
    assert_eq!(header(left, "content-length"), None);
}

/// Measured with Envoy 1.40: it takes a route configuration as a whole, or not at all.
#[test]
fn a_value_that_envoy_cannot_read_makes_every_host_of_the_port_unknown() {
    let bad = rule("headers: {request: {set: {x-a: '%FOO%'}}}");
    let other = CART.replace("cart", "other").replace("10.96.0.1", "10.96.0.2") + "---";
    let sent = trace(&format!("{bad}{other}"), "GET", "http://other/", &[]);
    let verdict = &sent.outcomes[0].verdict;
    assert_eq!(verdict.kind, VerdictKind::Unknown, "{verdict:?}");
    assert!(verdict.reason.as_ref().is_some_and(|reason| reason.contains("`FOO`")), "{verdict:?}");
    let fine = rule("headers: {request: {set: {x-a: '%REQ(x-b)%'}}}");
    let sent = trace(&format!("{fine}{other}"), "GET", "http://other/", &[]);
    assert_eq!(sent.outcomes[0].verdict.kind, VerdictKind::Delivered);
}

#[test]
fn a_redirect_with_a_status_that_envoy_has_none_for_is_reported() {
    let odd = only_rule("match: [{uri: {prefix: /a}}], redirect: {uri: /b, redirectCode: 304}");
    let loader = Loader::new().text("client.yaml", CLIENT).text("cart.yaml", CART).text("more.yaml", odd);
    let mesh = Arc::new(Mesh::new(loader.load(), MeshOptions::default()));
    let found = dryroute::istiod::diagnostics::of_mesh(&mesh);
    let refused: Vec<&str> = found
        .iter()
        .filter(|found| found.code.as_str() == "refused-by-envoy")
        .map(|found| found.message.as_str())
        .collect();
    assert!(refused.len() == 1 && refused[0].contains("`304`"), "{refused:?}");
}

#[test]
fn a_copy_for_which_there_is_no_endpoint_ends_up_nowhere() {
    let nobody = "
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: shop}
spec: {selector: {app: nobody}, clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}
";
    let copied = |host: &str| {
        let mesh = rule(&format!("mirrors: [{{destination: {{host: {host}}}}}]")) + nobody;
        trace(&mesh, "GET", "http://cart/", &[]).outcomes[0].mirrors.clone()
    };
    assert_eq!(copied("cart").len(), 1);
    assert!(copied("nobody").is_empty(), "{:?}", copied("nobody"));
    assert!(copied("missing").is_empty(), "{:?}", copied("missing"));
}

#[test]
fn a_header_with_a_space_before_its_colon_is_sent_as_it_is_written_and_refused() {
    let loader = Loader::new().text("client.yaml", CLIENT).text("cart.yaml", CART);
    let tracer = Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default())));
    let mut query = Query::get("http://cart/").unwrap();
    query.from = Some("shop/client".into());
    query.add_header("x-a : 1").unwrap();
    let verdict = tracer.trace(&query).unwrap().outcomes[0].verdict.clone();
    assert_eq!((verdict.status, verdict.details.as_str()), (Some(400), "http1.codec_error"));
}
