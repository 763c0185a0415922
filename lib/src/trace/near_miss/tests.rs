use super::*;
use crate::manifest::Loader;
use crate::mesh::MeshOptions;

const PLATFORM: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: billing, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleep}
spec:
  selector: {matchLabels: {app: sleep}}
  template: {metadata: {labels: {app: sleep}}, spec: {containers: [{name: app, image: x}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.1.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web, version: v1}}, spec: {containers: [{name: app, image: x}]}}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: billing}
spec: {clusterIP: 10.96.1.2, selector: {app: api}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: billing}
spec:
  selector: {matchLabels: {app: api}}
  template: {metadata: {labels: {app: api}}, spec: {containers: [{name: app, image: x}]}}
---
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: istio-system}
spec:
  type: LoadBalancer
  clusterIP: 10.96.1.3
  selector: {istio: ingressgateway}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: https, port: 443, targetPort: 8443}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata: {labels: {istio: ingressgateway}, annotations: {inject.istio.io/templates: gateway}}
    spec: {containers: [{name: istio-proxy, image: auto}]}
---
";

fn resource(kind: &str, meta: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{{meta}}}\nspec: {spec}\n---\n")
}

fn tracer(text: &str) -> Tracer {
    let set = Loader::new().text("m.yaml", text).load();
    assert_eq!(set.diagnostics(), []);
    Tracer::new(Arc::new(Mesh::new(set, MeshOptions::default())))
}

/// The near misses of a request.
fn misses(more: &str, url: &str, from: &str) -> Vec<NearMiss> {
    let mut query = Query::get(url).unwrap();
    query.from = Some(from.into());
    tracer(&format!("{PLATFORM}{more}")).trace(&query).unwrap().near_misses
}

/// Resource, field, condition, expected, got and repair.
fn told(miss: &NearMiss) -> [&str; 6] {
    let repair = miss.repair.as_deref().unwrap_or("-");
    [&miss.resource, &miss.field, &miss.failed.condition, &miss.failed.expected, &miss.failed.got, repair]
}

fn to_web(destination: &str) -> String {
    let spec = format!("{{hosts: [web], http: [{{route: [{{destination: {{{destination}}}}}]}}]}}");
    resource("VirtualService", "name: web", &spec)
}

#[test]
fn a_destination_that_does_not_exist_is_told_with_what_exists_and_the_edit() {
    let rule = "VirtualService default/web";
    let at = |part| format!("spec.http[0].route[0].destination{part}");
    let subsets =
        resource("DestinationRule", "name: web", "{host: web, subsets: [{name: stable}, {name: canary}]}");
    let full =
        ["web.default.svc.cluster.local", "webb.default.svc.cluster.local", "api.billing.svc.cluster.local"];
    for (more, field, [condition, expected, got, repair]) in [
        (to_web("host: webb"), at(".host"), ["host", full[0], full[1], "web"]),
        (to_web("host: api.billing"), at(".host"), ["host", full[2], "api.billing", full[2]]),
        (to_web("host: web, port: {number: 8080}"), at(".port.number"), ["port", "80", "8080", "80"]),
        (
            to_web("host: web, subset: v3"),
            at(""),
            ["subset", "a subset that a DestinationRule defines", "v3", "{host: web}"],
        ),
        (
            to_web("host: web, subset: canray") + &subsets,
            at(".subset"),
            ["subset", "stable or canary", "canray", "canary"],
        ),
        (
            to_web("host: web, subset: v3") + &subsets,
            at(".subset"),
            ["subset", "stable or canary", "v3", "-"],
        ),
    ] {
        let found = misses(&more, "http://web/", "sleep");
        assert_eq!(found.len(), 1, "{more}\n{found:#?}");
        assert_eq!(told(&found[0]), [rule, &field, condition, expected, got, repair], "{more}");
    }
}

#[test]
fn a_backend_of_a_route_that_does_not_exist_is_told_as_a_destination_is() {
    for (backend, field, [condition, expected, got, repair]) in [
        (
            "name: webb, port: 80",
            "name",
            ["host", "web.default.svc.cluster.local", "webb.default.svc.cluster.local", "web"],
        ),
        ("name: web, port: 8080", "port", ["port", "80", "8080", "80"]),
    ] {
        let route = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web}}\nspec:\n  parentRefs: \
             [{{kind: Service, group: \"\", name: web}}]\n  rules: [{{backendRefs: [{{{backend}}}]}}]\n---\n"
        );
        let found = misses(&route, "http://web/", "sleep");
        assert_eq!(found.len(), 1, "{found:#?}");
        let field = format!("spec.rules[0].backendRefs[0].{field}");
        assert_eq!(told(&found[0]), ["HTTPRoute default/web", &field, condition, expected, got, repair]);
    }
}

#[test]
fn a_slip_in_a_request_to_a_gateway_is_told_with_the_host_to_ask_for() {
    let gateway = "{selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, \
        hosts: [shop.example.com]}]}";
    let rule = "{hosts: [shop.example.com], gateways: [gw], http: [{route: [{destination: {host: web}}]}]}";
    let more = resource("Gateway", "name: gw", gateway) + &resource("VirtualService", "name: shop", rule);
    let mut query = Query::get("http://shop.exmple.com/").unwrap();
    query.to_gateway = Some("istio-system/ingress".parse().unwrap());
    let found = tracer(&format!("{PLATFORM}{more}")).trace(&query).unwrap().near_misses;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].help.as_deref(), Some("ask for `shop.example.com`"));
}

#[test]
fn a_repair_that_would_not_be_enough_is_not_proposed() {
    let found = misses(&to_web("host: webb, subset: v3"), "http://web/", "sleep");
    assert_eq!(told(&found[0])[5], "-");
}

#[test]
fn what_is_not_exported_to_the_client_is_told_with_the_namespace_to_add() {
    let entry = resource(
        "ServiceEntry",
        "name: ledger, namespace: billing",
        "{hosts: [ledger.example.com], exportTo: [.], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}",
    );
    let found = misses(&entry, "http://ledger.example.com/", "sleep");
    let told_of =
        ["ServiceEntry billing/ledger", "spec.exportTo", "exportTo", "default", ".", r#"[".", "default"]"#];
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), [told_of]);
    let private = PLATFORM.replace(
        "{name: api, namespace: billing}\nspec: {clusterIP",
        "{name: api, namespace: billing, annotations: {networking.istio.io/exportTo: \"~\"}}\nspec: {clusterIP",
    );
    let mut query = Query::get("http://api.billing/").unwrap();
    query.from = Some("sleep".into());
    let found = tracer(&private).trace(&query).unwrap().near_misses;
    let field = "metadata.annotations.networking.istio.io/exportTo";
    let told_of = ["Service billing/api", field, "exportTo", "default", "~", ".,default"];
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), [told_of]);
}

#[test]
fn what_a_sidecar_does_not_import_is_told_with_the_hosts_to_write() {
    let sidecar =
        resource("Sidecar", "name: default", "{egress: [{hosts: [./nothing.default.svc.cluster.local]}]}");
    let found = misses(&sidecar, "http://web/", "sleep");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        told(&found[0]),
        [
            "Sidecar default/default",
            "spec.egress[0].hosts",
            "egress",
            "./web.default.svc.cluster.local",
            "./nothing.default.svc.cluster.local",
            r#"["./nothing.default.svc.cluster.local", "./web.default.svc.cluster.local"]"#,
        ]
    );
    assert_eq!(found[0].rule.as_ref().unwrap().resource().unwrap(), "Service default/web");
    let found = misses(&sidecar, "http://api.billing/", "sleep");
    assert_eq!(told(&found[0])[3], "billing/api.billing.svc.cluster.local");
}

#[test]
fn rules_for_requests_on_a_port_of_bytes_are_told_with_the_ports_name() {
    let rule =
        resource("VirtualService", "name: web", "{hosts: [web], http: [{directResponse: {status: 418}}]}");
    let mut query = Query::get("http://web/").unwrap();
    query.from = Some("sleep".into());
    let ask = |port: &str| {
        let platform = PLATFORM.replace("{name: http, port: 80, targetPort: 8080}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}", &format!("{{{port}}}]}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}"));
        assert_ne!(platform, PLATFORM);
        tracer(&format!("{platform}{rule}")).trace(&query).unwrap().near_misses
    };
    for (port, field, repair) in [
        ("name: tcp-web, port: 80, targetPort: 8080", "spec.ports[0].name", "http-web"),
        ("name: tcp, port: 80, targetPort: 8080", "spec.ports[0].name", "http"),
        ("name: web, port: 80, targetPort: 8080, appProtocol: tcp", "spec.ports[0].appProtocol", "http"),
    ] {
        let found = ask(port);
        assert_eq!(found.len(), 1, "{port}: {found:#?}");
        assert_eq!(told(&found[0]), ["Service default/web", field, "protocol", "HTTP", "TCP", repair]);
        assert_eq!(found[0].rule.as_ref().unwrap().resource().unwrap(), "VirtualService default/web");
    }
}

#[test]
fn a_host_that_a_slip_keeps_out_of_the_registry_is_told() {
    let entry =
        "{hosts: [api.partner.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}";
    let entry = resource("ServiceEntry", "name: partner", entry);
    let closed = resource("Sidecar", "name: default", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}");
    for more in [format!("{entry}{closed}"), entry] {
        let found = misses(&more, "http://api.partner.exmple/", "sleep");
        assert_eq!(found.len(), 1, "{found:#?}");
        let told_of = [
            "ServiceEntry default/partner",
            "spec.hosts[0]",
            "host",
            "api.partner.exmple",
            "api.partner.example",
            "-",
        ];
        assert_eq!(told(&found[0]), told_of);
        assert_eq!(found[0].help.as_deref(), Some("ask for `api.partner.example`"));
        assert_eq!(misses(&more, "http://api.elsewhere.example/", "sleep"), []);
    }
}

#[test]
fn a_name_that_nothing_has_is_told_with_those_that_are_near() {
    for (url, name) in
        [("http://webb/", "web"), ("http://api/", "api.billing"), ("http://api.biling/", "api.billing")]
    {
        let found = misses("", url, "sleep");
        assert_eq!(found[0].failed.got, name, "{url}: {found:#?}");
        assert_eq!(found[0].help.as_deref(), Some(format!("ask for `{name}`").as_str()));
    }
    assert_eq!(misses("", "http://nothing-like-it/", "sleep"), []);
}

/// A Gateway and a VirtualService for the host that is asked for from outside.
fn at_ingress(port: u16, served: &str, host: &str, gateways: &str) -> Vec<NearMiss> {
    let gateway = format!(
        "{{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: [{served}]}}]}}"
    );
    let rule = format!(
        "{{hosts: [{host}], gateways: {gateways}, http: [{{route: [{{destination: {{host: web}}}}]}}]}}"
    );
    let more = resource("Gateway", "name: gw", &gateway) + &resource("VirtualService", "name: shop", &rule);
    let mut query = Query::get("http://shop.example.com/").unwrap();
    query.to_gateway = Some("istio-system/ingress".parse().unwrap());
    tracer(&format!("{PLATFORM}{more}")).trace(&query).unwrap().near_misses
}

#[test]
fn what_keeps_a_rule_from_a_gateway_is_told_with_what_to_write() {
    let (asked, slip) = ("shop.example.com", "shop.exmple.com");
    let (gateway, rule) = ("Gateway default/gw", "VirtualService default/shop");
    let cases = [
        (at_ingress(80, asked, slip, "[gw]"), [rule, "spec.hosts[0]", "host", asked, slip, asked]),
        (
            at_ingress(80, slip, asked, "[gw]"),
            [gateway, "spec.servers[0].hosts[0]", "host", asked, slip, asked],
        ),
        (
            at_ingress(80, "other.org", asked, "[gw]"),
            [
                gateway,
                "spec.servers[0].hosts",
                "host",
                asked,
                "other.org",
                r#"["other.org", "shop.example.com"]"#,
            ],
        ),
        (
            at_ingress(8081, asked, asked, "[gw]"),
            [gateway, "spec.servers[0].port.number", "port", "80", "8081", "80"],
        ),
        (
            at_ingress(8080, asked, asked, "[gwx]"),
            [rule, "spec.gateways[0]", "gateway", "default/gw", "default/gwx", "default/gw"],
        ),
        (
            at_ingress(80, asked, asked, "[mesh]"),
            [rule, "spec.gateways", "gateway", "default/gw", "mesh", r#"["mesh", "default/gw"]"#],
        ),
    ];
    for (found, told_of) in cases {
        assert_eq!(found.iter().map(told).collect::<Vec<_>>(), [told_of]);
    }
}

#[test]
fn the_rule_that_comes_closest_is_told_first() {
    let spec = "{hosts: [web], http: [\
        {match: [{uri: {prefix: /orders}}], route: [{destination: {host: web}}]}, \
        {match: [{uri: {prefix: /payments}}], route: [{destination: {host: web}}]}, \
        {match: [{headers: {x-user: {exact: gold}}}], route: [{destination: {host: web}}]}]}";
    let more = resource("VirtualService", "name: web", spec);
    let mut query = Query::get("http://web/pay").unwrap();
    query.from = Some("sleep".into());
    query.add_header("x-user: Gold").unwrap();
    let found = tracer(&format!("{PLATFORM}{more}")).trace(&query).unwrap().near_misses;
    let shown: Vec<[&str; 3]> =
        found.iter().map(|miss| [&*miss.failed.condition, &miss.failed.expected, &miss.failed.got]).collect();
    let paths = [["path", "/pay", "/payments*"], ["path", "/pay", "/orders*"]];
    assert_eq!(shown, [["header x-user", "Gold", "gold"], paths[0], paths[1]]);
    assert_eq!(found[0].help.as_deref(), Some("the two differ in upper and lower case only"));
}

#[test]
fn a_request_that_its_rule_takes_has_no_near_misses() {
    assert_eq!(misses(&to_web("host: web"), "http://web/", "sleep"), []);
    assert_eq!(at_ingress(80, "shop.example.com", "shop.example.com", "[gw]"), []);
    assert_eq!(misses("", "http://httpbin.org/", "sleep"), []);
}
