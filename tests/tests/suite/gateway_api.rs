//! Gateway API routes become the VirtualServices that istiod makes of them.

use std::sync::Arc;

use dryroute::diagnostic::Code;
use dryroute::envoy::Xds;
use dryroute::envoy::config::{Action, ClusterSpecifier, HostRewrite, PathSpecifier, Route};
use dryroute::istiod::node::Node;
use dryroute::istiod::proxy::Proxy;
use dryroute::manifest::{Admission, Loader, ManifestSet};
use dryroute::mesh::{Generator, Mesh, MeshOptions, VirtualService};
use serde_json::Value;

/// Cases that need a switch of istiod that is not modelled: the alpha Gateway API, the inference extension.
const NOT_MODELLED: [&str; 3] = ["http", "reference-policy-inferencepool", "xbackend"];

/// What every case of the suite has beside its input.
fn fixture(folder: &std::path::Path) -> String {
    let text = std::fs::read_to_string(folder.join("fixture.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let services = fixture["services"].as_array().unwrap().iter().filter_map(|service| {
        let host = service["hostname"].as_str().unwrap().strip_suffix(".svc.domain.suffix")?;
        let (name, namespace) = host.split_once('.')?;
        let ports = service["ports"].as_array().unwrap().iter();
        let ports: Vec<String> =
            ports.map(|p| format!("{{name: {}, port: {}}}", p["name"], p["port"])).collect();
        Some(format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{}]}}\n",
            ports.join(", ")
        ))
    });
    services.collect()
}

fn load(texts: &[&str]) -> ManifestSet {
    let mut loader = Loader::new().admission(Admission::Admitted);
    for (i, text) in texts.iter().enumerate() {
        loader = loader.text(format!("{i}.yaml"), *text);
    }
    loader.load()
}

fn mesh(texts: &[&str]) -> Mesh {
    let options = MeshOptions {
        cluster_domain: "domain.suffix".into(),
        resource_domain: "domain.suffix".into(),
        // istiod's unit tests read the files past any API server.
        gateway_api_defaults: false,
        ..MeshOptions::default()
    };
    Mesh::new(load(texts), options)
}

/// What counts of a VirtualService: all but where it was written.
fn virtual_service(vs: &VirtualService) -> String {
    let http: Vec<_> = vs.http.iter().map(|rule| &rule.route).collect();
    let tls: Vec<_> = vs.tls.iter().map(|rule| &rule.route).collect();
    let tcp: Vec<_> = vs.tcp.iter().map(|rule| &rule.route).collect();
    format!(
        "{}/{} {:?} {:?} {:?} {} {http:#?} {tls:#?} {tcp:#?}",
        vs.namespace, vs.name, vs.hosts, vs.gateways, vs.generator, vs.from_tls_route
    )
}

fn describe(mesh: &Mesh) -> Vec<String> {
    let generated = mesh.virtual_services().iter().filter(|vs| vs.generator == Generator::GatewayApi);
    let mut out: Vec<String> =
        generated.filter(|vs| vs.is_bound_to("mesh")).map(|vs| virtual_service(vs)).collect();
    out.sort();
    out
}

#[test]
fn routes_become_what_istiod_makes_of_them() {
    let Some(folder) = dryroute_tests::conformance("gateway-api-translation") else { return };
    let fixture = fixture(&folder);
    let (mut cases, mut compared) = (0, 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let golden = entry.unwrap().path();
        let name = golden.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = name.strip_suffix(".yaml.golden").filter(|name| !name.ends_with(".status")) else {
            continue;
        };
        if NOT_MODELLED.contains(&name) {
            continue;
        }
        let given = std::fs::read_to_string(golden.with_extension("")).unwrap();
        let wanted = std::fs::read_to_string(&golden).unwrap();
        let (given, wanted) = (mesh(&[&given, &fixture]), mesh(&[&wanted]));
        let wanted = describe(&wanted);
        assert_eq!(describe(&given), wanted, "{name}");
        cases += 1;
        compared += wanted.len();
    }
    assert!(cases >= 50 && compared >= 20, "only {cases} cases with {compared} VirtualServices");
}

/// Two Services of the namespace `shop`.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: http-alt, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart-v2, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
---
";

/// An HTTPRoute on the Service `shop/cart`.
fn http_route(namespace: &str, parent: &str, rules: &str) -> String {
    format!(
        "{SERVICES}apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: {namespace}}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: cart, namespace: shop{parent}}}]\n  rules:\n{rules}"
    )
}

/// The routes to `cart.shop` on a port that a sidecar of `namespace` is told.
fn routes(text: &str, namespace: &str, port: &str) -> (Proxy, Vec<Arc<Route>>) {
    let mesh = Mesh::new(Loader::new().text("routes.yaml", text).load(), MeshOptions::default());
    let node = Node::sidecar(namespace, "client", vec!["10.244.0.10".parse().unwrap()]);
    let proxy = Proxy::new(Arc::new(mesh), node);
    let host = proxy.virtual_host(port, "cart.shop").unwrap().virtual_host.unwrap();
    (proxy, host.routes.clone())
}

fn names(text: &str, namespace: &str, port: &str) -> Vec<String> {
    routes(text, namespace, port).1.iter().map(|route| route.name.to_string()).collect()
}

const TO_V2: &str = "  - backendRefs: [{name: cart-v2, namespace: shop, port: 80}]\n";

#[test]
fn a_route_beside_its_service_holds_for_every_client_and_one_elsewhere_for_its_own_namespace() {
    let beside = http_route("shop", "", TO_V2);
    assert_eq!(names(&beside, "shop", "80"), ["shop.r.0"]);
    assert_eq!(names(&beside, "other", "80"), ["shop.r.0"]);
    let elsewhere = http_route("mine", "", TO_V2);
    assert_eq!(names(&elsewhere, "mine", "80"), ["mine.r.0"]);
    assert_eq!(names(&elsewhere, "other", "80"), ["default"]);
    assert_eq!(names(&elsewhere, "shop", "80"), ["default"]);
}

#[test]
fn a_parent_with_a_port_is_bound_to_that_port_only() {
    let text = http_route("shop", ", port: 8080", TO_V2);
    assert_eq!(names(&text, "shop", "80"), ["default"]);
    assert_eq!(names(&text, "shop", "8080"), ["shop.r.0"]);
}

#[test]
fn matches_come_in_the_order_of_their_precedence_whatever_the_order_of_rules() {
    let rules = "  - matches: [{path: {value: /a}}, {path: {type: RegularExpression, value: /a.*}}, {path: {value: /longer/}}]
    backendRefs: [{name: cart-v2, port: 80}]
  - matches: [{path: {type: Exact, value: /a}}, {path: {value: /a}, headers: [{name: x-a, value: b}]}, {path: {value: /a}, method: GET}]
    backendRefs: [{name: cart, port: 80}]
";
    let text = http_route("shop", "", rules);
    let got: Vec<(String, usize)> = routes(&text, "shop", "80")
        .1
        .iter()
        .map(|route| {
            let path = match &route.route_match.path {
                PathSpecifier::Path(path) => format!("={path}"),
                PathSpecifier::PathSeparatedPrefix(path) => format!("{path}/"),
                PathSpecifier::Prefix(path) => path.to_string(),
                PathSpecifier::SafeRegex(regex) => regex.pattern().to_owned(),
            };
            (path, route.route_match.headers.len())
        })
        .collect();
    let expected = [("=/a", 0), ("/longer/", 0), ("/a/", 1), ("/a/", 1), ("/a/", 0), ("/a.*", 0)];
    assert_eq!(got, expected.map(|(path, headers)| (path.to_owned(), headers)));
}

#[test]
fn rules_without_matches_have_the_default_of_the_api_server() {
    // A prefix of one slash comes before every expression; a rule without a match would come last.
    let rules = "  - backendRefs: [{name: cart, port: 80}]
  - matches: [{path: {type: RegularExpression, value: /a.*}}]
    backendRefs: [{name: cart-v2, port: 80}]
";
    assert_eq!(names(&http_route("shop", "", rules), "shop", "80"), ["shop.r.0"]);
}

#[test]
fn one_rule_that_istiod_refuses_takes_the_whole_route_with_it() {
    for bad in [
        "filters: [{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}]\n    backendRefs: [{name: cart, port: 80}]",
        "backendRefs: [{name: cart}]",
        "backendRefs: [{name: cart.shop.svc.cluster.local, port: 80}]",
        "backendRefs: [{group: networking.istio.io, kind: Hostname, name: a.b, namespace: shop, port: 80}]",
    ] {
        let (proxy, routes) = routes(&http_route("shop", "", &format!("{TO_V2}  - {bad}\n")), "shop", "80");
        assert_eq!(routes.iter().map(|route| &route.name).collect::<Vec<_>>(), ["default"], "{bad}");
        let codes: Vec<Code> = proxy.mesh().diagnostics().map(|said| said.code).collect();
        assert!(codes.contains(&Code::RouteRefused), "{bad}: {codes:?}");
    }
}

#[test]
fn a_rule_without_weight_answers_500_and_an_unknown_kind_of_backend_keeps_its_share() {
    let none = "  - backendRefs: [{name: cart, port: 80, weight: 0}]\n";
    let (_, own) = routes(&http_route("shop", "", none), "shop", "80");
    assert!(matches!(&own[0].action, Action::DirectResponse(answer) if answer.status == 500));
    let odd =
        "  - backendRefs: [{name: cart, port: 80, weight: 3}, {group: a.b, kind: C, name: d, port: 80}]\n";
    let (_, own) = routes(&http_route("shop", "", odd), "shop", "80");
    let Action::Route(action) = &own[0].action else { panic!("{own:?}") };
    let ClusterSpecifier::WeightedClusters(clusters) = &action.cluster else { panic!("{action:?}") };
    let clusters: Vec<(&str, u32)> = clusters.iter().map(|c| (c.name.as_str(), c.weight)).collect();
    assert_eq!(clusters, [("outbound|80||cart.shop.svc.cluster.local", 3), ("UnknownService", 1)]);
    assert_eq!(action.cluster_not_found_response_code, 500);
}

#[test]
fn what_a_route_does_is_found_where_the_http_route_has_it() {
    let rules = "  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: X-A, value: b}]}
    - type: URLRewrite
      urlRewrite:
        hostname: other.example
    timeouts:
      request: 3s
    backendRefs:
    - {name: cart, port: 80, weight: 0}
    - name: cart-v2
      port: 80
    - name: cart
      port: 8080
";
    let text = http_route("shop", "", rules);
    let (proxy, own) = routes(&text, "shop", "80");
    let Action::Route(action) = &own[0].action else { panic!("{own:?}") };
    let ClusterSpecifier::WeightedClusters(clusters) = &action.cluster else { panic!("{action:?}") };
    assert_eq!(action.host_rewrite, HostRewrite::Literal("other.example".into()));
    let line = |wanted: &str| text.lines().position(|line| line.trim() == wanted).unwrap() as u32 + 1;
    for (origin, wanted) in [
        (
            &own[0].headers.request_headers_to_add[0].origin,
            "requestHeaderModifier: {set: [{name: X-A, value: b}]}",
        ),
        (action.rewrite_origin.as_ref().unwrap(), "hostname: other.example"),
        (&action.timeout_origin, "request: 3s"),
        (&clusters[0].origin, "- name: cart-v2"),
        (&clusters[1].origin, "- name: cart"),
    ] {
        let at = proxy.mesh().manifests().locate(origin).unwrap();
        assert_eq!(at.line, line(wanted), "{wanted}: {origin:?}");
    }
}
