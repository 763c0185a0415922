//! Bytes that go on in a request to another proxy, and headers of the PROXY protocol in front of everything else.
//!
//! Flags and statuses were measured with two Envoys (1.40).

use std::sync::Arc;

use dryroute::envoy::export::{Document, export};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Query, Trace, Tracer, VerdictKind};
use dryroute_tests::CLIENT;

/// A workload of `shop` behind a Service, with a sidecar unless its labels refuse one.
fn workload(name: &str, labels: &str, ports: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  selector: \
         {{matchLabels: {{app: {name}}}}}\n  template: {{metadata: {{labels: {{app: {name}, {labels}}}}}, spec: \
         {{containers: [{{name: app}}]}}}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: \
         shop}}\nspec: {{clusterIP: 10.96.1.1, selector: {{app: {name}}}, ports: [{ports}]}}\n"
    )
}

const WITHOUT_SIDECAR: &str = "sidecar.istio.io/inject: 'false'";

fn rule(host: &str, policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d, namespace: shop}}\nspec: \
         {{host: {host}, trafficPolicy: {{{policy}}}}}\n"
    )
}

/// Connections to `db.example:5432` that are routed to a host, and the rule of that host.
fn routed_to(host: &str, port: u16, policy: &str) -> String {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db, namespace: shop}\nspec: \
         {hosts: [db.example], addresses: [192.0.2.7], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: \
         STATIC, endpoints: [{address: 192.0.2.7}]}\n";
    let route = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: db, namespace: shop}}\nspec: \
         {{hosts: [db.example], tcp: [{{route: [{{destination: {{host: {host}, port: {{number: {port}}}}}}}]}}]}}\n"
    );
    format!("{entry}{route}{}", rule(host, policy))
}

const TUNNEL: &str = "tunnel: {targetHost: db.example, targetPort: 5432}";

fn mesh(more: &str) -> Arc<Mesh> {
    let loader = Loader::new().text("client.yaml", CLIENT).text("more.yaml", more.to_owned());
    Arc::new(Mesh::new(loader.load(), MeshOptions::default()))
}

fn trace(more: &str, url: &str) -> Trace {
    let tracer = Tracer::new(mesh(more));
    let query = Query { from: Some("shop/client".into()), ..Query::parse("GET", url).unwrap() };
    let trace = tracer.trace(&query).unwrap();
    let decided = tracer.decide(&query).unwrap();
    assert_eq!(decided[0].verdict, trace.outcomes[0].verdict, "the cheap decision is the same");
    trace
}

fn steps<'a>(trace: &'a Trace, hop: usize, kind: &str) -> Vec<&'a str> {
    let steps = trace.hops[hop].steps.iter().filter(|step| step.kind.as_str() == kind);
    steps.map(|step| step.name.as_str()).collect()
}

fn assumes(trace: &Trace, text: &str) -> bool {
    trace.assumptions.iter().any(|assumption| assumption.text.contains(text))
}

#[test]
fn bytes_go_in_a_request_to_the_proxy_that_a_rule_names() {
    let squid = workload("squid", WITHOUT_SIDECAR, "{name: tcp, port: 3128}");
    let trace =
        trace(&(squid + &routed_to("squid.shop.svc.cluster.local", 3128, TUNNEL)), "tcp://db.example:5432");
    let outcome = &trace.outcomes[0];
    assert_eq!(outcome.verdict.kind, VerdictKind::Delivered);
    assert_eq!(outcome.path.last().unwrap(), "workload:shop/squid");
    assert_eq!(steps(&trace, 1, "tunnel"), ["CONNECT db.example:5432"]);
    assert_eq!(trace.legs.last().unwrap().protocol, "http/1.1");
    assert_eq!(trace.hops[2].request.arrived[0], (":method".into(), "CONNECT".into()));
    assert!(assumes(&trace, "shop/squid accepts CONNECT db.example:5432"), "{:?}", trace.assumptions);
}

#[test]
fn a_sidecar_that_reads_requests_accepts_no_tunnel() {
    let squid = workload("squid", "a: b", "{name: http, port: 3128}");
    let off = format!("{TUNNEL}, tls: {{mode: DISABLE}}");
    let trace =
        trace(&(squid + &routed_to("squid.shop.svc.cluster.local", 3128, &off)), "tcp://db.example:5432");
    let verdict = &trace.outcomes[0].verdict;
    assert_eq!(verdict.kind, VerdictKind::Reset);
    assert_eq!(verdict.flags, ["UF", "URX"]);
    assert_eq!(verdict.by, "sidecar:shop/client");
    assert!(verdict.reason.as_ref().unwrap().contains("with 404 route_not_found"), "{verdict:?}");
    let log = trace.hops.last().unwrap().log.as_ref().unwrap();
    assert_eq!((log.status, log.flags[0].as_str()), (Some(404), "NR"));
}

#[test]
fn a_subset_has_the_tunnel_of_its_own_policy_only() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: shop}\n\
                spec: {host: squid, trafficPolicy: {tunnel: {targetHost: a.example, targetPort: 1}}, subsets: [{name: plain, \
                trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}, {name: post, trafficPolicy: {tunnel: {protocol: POST, targetHost: '2001:db8::1', \
                targetPort: 2}}}]}\n";
    for (subset, expected) in [("plain", None), ("post", Some("POST [2001:db8::1]:2"))] {
        let route = routed_to("squid.shop.svc.cluster.local", 3128, TUNNEL);
        let route = route.split("---\n").filter(|part| !part.contains("DestinationRule")).collect::<Vec<_>>();
        let route =
            route.join("---\n").replace("number: 3128}", &format!("number: 3128}}, subset: {subset}"));
        let squid = workload("squid", WITHOUT_SIDECAR, "{name: tcp, port: 3128}");
        let trace = trace(&(squid + &route + rule), "tcp://db.example:5432");
        assert_eq!(steps(&trace, 1, "tunnel").first().copied(), expected, "{subset}");
    }
}

#[test]
fn a_header_in_front_of_everything_is_for_the_application_to_read() {
    let web = workload("web", WITHOUT_SIDECAR, "{name: http, port: 80}");
    let trace = trace(&(web + &rule("web", "proxyProtocol: {version: V2}")), "http://web/");
    assert_eq!(trace.outcomes[0].verdict.kind, VerdictKind::Delivered);
    assert_eq!(steps(&trace, 1, "preface"), ["PROXY protocol, version 2"]);
    assert!(assumes(&trace, "shop/web reads the PROXY protocol's header"), "{:?}", trace.assumptions);
}

#[test]
fn a_sidecar_takes_such_a_header_for_a_bad_request_or_for_no_handshake() {
    let web = workload("web", "a: b", "{name: http, port: 80}");
    let plain = format!("{web}{}", rule("web", "proxyProtocol: {}, tls: {mode: DISABLE}"));
    let trace_plain = trace(&plain, "http://web/");
    let verdict = &trace_plain.outcomes[0].verdict;
    assert_eq!((verdict.status, verdict.flags[0].as_str()), (Some(400), "DPE"));
    let mutual = format!("{web}{}", rule("web", "proxyProtocol: {}"));
    let trace_mutual = trace(&mutual, "http://web/");
    let verdict = &trace_mutual.outcomes[0].verdict;
    assert_eq!(verdict.status, Some(503));
    assert!(verdict.details.contains("WRONG_VERSION_NUMBER"), "{verdict:?}");
}

/// A gateway behind something that speaks the PROXY protocol.
const GATEWAY: &str = "---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gw, namespace: shop}
spec:
  selector: {matchLabels: {app: gw}}
  template:
    metadata:
      labels: {app: gw, sidecar.istio.io/inject: 'true'}
      annotations:
        inject.istio.io/templates: gateway
        proxy.istio.io/config: '{gatewayTopology: {proxyProtocol: {}}}'
    spec: {containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: v1
kind: Service
metadata: {name: gw, namespace: shop}
spec: {clusterIP: 10.96.1.9, selector: {app: gw}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec: {selector: {app: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: gw, namespace: shop}
spec: {hosts: ['*'], gateways: [gw], http: [{directResponse: {status: 218}}]}
";

#[test]
fn a_gateway_that_wants_the_header_reads_it_and_closes_without_it() {
    let told =
        trace(&format!("{GATEWAY}{}", rule("gw", "proxyProtocol: {}, tls: {mode: DISABLE}")), "http://gw/");
    assert_eq!(told.outcomes[0].verdict.status, Some(218), "{:?}", told.outcomes);
    let untold = trace(GATEWAY, "http://gw/");
    let verdict = &untold.outcomes[0].verdict;
    assert_eq!((verdict.status, verdict.flags[0].as_str()), (Some(503), "UC"), "{verdict:?}");
    let tracer = Tracer::new(mesh(GATEWAY));
    let query = Query {
        from: Some("outside".into()),
        to_gateway: Some("shop/gw:80".parse().unwrap()),
        ..Query::get("http://a.example/").unwrap()
    };
    assert_eq!(tracer.trace(&query).unwrap().outcomes[0].verdict.status, Some(218));
}

#[test]
fn tunnels_and_headers_are_exported_as_istiod_writes_them() {
    let web = workload("web", "a: b", "{name: http, port: 80}");
    let entry = routed_to("squid.shop.svc.cluster.local", 3128, TUNNEL);
    let squid = workload("squid", WITHOUT_SIDECAR, "{name: tcp, port: 3128}");
    let second = rule("web", "proxyProtocol: {version: V2}").replace("name: d,", "name: e,");
    let mesh = mesh(&[web, entry, squid, second].concat());
    let node = Node::of(&mesh, mesh.workloads().iter().find(|w| w.name == "client").unwrap()).unwrap();
    let snapshot = Proxy::new(mesh, node).snapshot();
    let clusters = export(&snapshot, Document::Cds, None).document;
    let web = clusters["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"].as_str().unwrap().contains("web"));
    let matches = web.unwrap()["transport_socket_matches"].as_array().unwrap();
    let names: Vec<&str> = matches.iter().map(|m| m["transport_socket"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["envoy.transport_sockets.upstream_proxy_protocol"; 2]);
    let inner = &matches[0]["transport_socket"]["typed_config"];
    assert_eq!(inner["config"]["version"], "V2");
    assert_eq!(inner["transport_socket"]["name"], "envoy.transport_sockets.tls");
    let listeners = export(&snapshot, Document::Lds, None).document.to_string();
    assert!(listeners.contains(r#""tunneling_config":{"hostname":"db.example:5432"}"#));
}
