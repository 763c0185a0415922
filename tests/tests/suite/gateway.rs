//! Gateways: servers that lose, listeners that Envoy refuses, and answers on demand.

use std::sync::Arc;

use dryroute::envoy::config::{
    ClientCertificate, EndpointAddress, HttpFilter, NetworkFilter, RouteSpecifier, UpstreamTransport,
};
use dryroute::envoy::{Capture, Xds};
use dryroute::istiod::gateway::diagnostics;
use dryroute::istiod::gateway::merge::SkipReason;
use dryroute::istiod::{Node, NodeType, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Query, Tracer};

fn router(text: &str) -> Proxy {
    let mesh = Mesh::new(Loader::new().text("m.yaml", text).load(), MeshOptions::default());
    let mut node = Node::sidecar("istio-ingress", "ingress", vec!["10.0.0.1".parse().unwrap()]);
    node.node_type = NodeType::Router;
    node.labels.insert("istio".into(), "ingressgateway".into());
    Proxy::new(Arc::new(mesh), node)
}

fn gateway(name: &str, servers: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: \
         istio-ingress}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers: {servers}\n"
    )
}

fn server(number: u16, name: &str, protocol: &str, hosts: &str, tls: &str) -> String {
    let tls = if tls.is_empty() { String::new() } else { format!(", tls: {{{tls}}}") };
    format!("{{port: {{number: {number}, name: {name}, protocol: {protocol}}}, hosts: {hosts}{tls}}}")
}

fn virtual_service(gateway: &str, hosts: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v-{gateway}, namespace: \
         istio-ingress}}\nspec:\n  hosts: {hosts}\n  gateways: [{gateway}]\n{rules}"
    )
}

const TO_A: &str = "  http: [{route: [{destination: {host: a, port: {number: 80}}}]}]\n";

#[test]
fn of_two_servers_that_cannot_share_a_port_the_first_by_name_wins() {
    let http = server(80, "http", "HTTP", "['*']", "");
    let tcp = server(80, "tcp", "TCP", "['*']", "");
    let proxy =
        router(&format!("{}{}", gateway("a", &format!("[{http}]")), gateway("b", &format!("[{tcp}]"))));
    let merged = &proxy.gateway().merged;
    assert_eq!(merged.skipped.len(), 1);
    assert_eq!(merged.skipped[0].gateway.name, "b");
    assert_eq!(merged.skipped[0].reason, SkipReason::ProtocolConflict);
    let said = diagnostics::diagnostics(&proxy);
    assert_eq!(said[0].code.as_str(), "server-not-opened");
    assert_eq!(said[0].labels.len(), 2, "the loser and the winner are pointed at");
}

#[test]
fn plaintext_after_tls_shares_the_port_but_tls_after_plaintext_does_not() {
    let tls = |host: &str| {
        server(
            443,
            &format!("https-{host}"),
            "HTTPS",
            &format!("[{host}.b]"),
            "mode: SIMPLE, credentialName: c",
        )
    };
    let http = server(443, "http", "HTTP", "['*']", "");
    let proxy = router(&gateway("g", &format!("[{}, {http}, {}]", tls("a"), tls("c"))));
    let merged = &proxy.gateway().merged;
    assert_eq!(merged.skipped.len(), 1);
    assert_eq!(merged.skipped[0].server.port_name, "https-c");
    let listener = proxy.listener(Capture::Direct, "10.0.0.1".parse().unwrap(), 443).unwrap();
    let names: Vec<_> =
        listener.filter_chains.iter().map(|c| c.filter_chain_match.server_names.clone()).collect();
    assert_eq!(names, [vec!["a.b".to_owned()], vec![]]);
}

#[test]
fn chains_with_one_match_are_refused_and_named() {
    let wide = |ns: &str| {
        let tls = "mode: SIMPLE, credentialName: c";
        gateway(ns, &format!("[{}]", server(443, "https", "HTTPS", &format!("['{ns}/*']"), tls)))
    };
    let proxy = router(&format!("{}{}", wide("one"), wide("two")));
    let listener = proxy.listener(Capture::Direct, "10.0.0.1".parse().unwrap(), 443).unwrap();
    assert!(listener.refused.is_some(), "{:?} {:#?}", proxy.gateway().merged.skipped, listener.filter_chains);
    let said = diagnostics::diagnostics(&proxy);
    assert_eq!(said[0].code.as_str(), "refused-by-envoy");
}

#[test]
fn each_tls_mode_asks_the_client_for_what_it_says() {
    let modes = [
        ("SIMPLE, credentialName: c", ClientCertificate::None),
        ("MUTUAL, credentialName: c", ClientCertificate::Required),
        ("OPTIONAL_MUTUAL, credentialName: c", ClientCertificate::Optional),
        ("ISTIO_MUTUAL", ClientCertificate::Required),
    ];
    for (mode, expected) in modes {
        let proxy = router(&gateway(
            "g",
            &format!("[{}]", server(443, "https", "HTTPS", "[a.b]", &format!("mode: {mode}"))),
        ));
        let listener = proxy.listener(Capture::Direct, "10.0.0.1".parse().unwrap(), 443).unwrap();
        let tls = listener.filter_chains[0].transport_socket.as_ref().unwrap();
        assert_eq!(tls.client_certificate, expected, "{mode}");
        assert_eq!(tls.secret_name, if mode == "ISTIO_MUTUAL" { "default" } else { "kubernetes://c" });
        // No Secret is among the manifests, which settles nothing.
        assert_eq!(tls.secret_exists, (mode == "ISTIO_MUTUAL").then_some(true));
    }
}

#[test]
fn a_server_without_a_rule_for_its_connections_opens_no_port() {
    let passthrough = server(443, "tls", "TLS", "[a.b]", "mode: PASSTHROUGH");
    let only_http = virtual_service("g", "[a.b]", TO_A);
    let proxy = router(&format!("{}{only_http}", gateway("g", &format!("[{passthrough}]"))));
    assert!(proxy.listeners().is_empty());
    let with_tls = virtual_service(
        "g",
        "[a.b]",
        "  tls: [{match: [{sniHosts: [a.b]}], route: [{destination: {host: a, port: {number: 443}}}]}]\n",
    );
    let proxy = router(&format!("{}{with_tls}", gateway("g", &format!("[{passthrough}]"))));
    let listener = proxy.listener(Capture::Direct, "10.0.0.1".parse().unwrap(), 443).unwrap();
    assert!(matches!(listener.filter_chains[0].terminal, NetworkFilter::TcpProxy(_)));
}

#[test]
fn policies_that_select_a_gateway_stand_in_front_of_its_routes() {
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: \
                  istio-ingress}\nspec: {selector: {matchLabels: {istio: ingressgateway}}, action: DENY, rules: [{}]}\n";
    let proxy = router(&format!(
        "{}{policy}",
        gateway("g", &format!("[{}]", server(80, "http", "HTTP", "['*']", "")))
    ));
    let listener = proxy.listener(Capture::Direct, "10.0.0.1".parse().unwrap(), 80).unwrap();
    let NetworkFilter::HttpConnectionManager(manager) = &listener.filter_chains[0].terminal else { panic!() };
    let is_rbac = |filter: &HttpFilter| matches!(filter, HttpFilter::Rbac(_));
    assert!(manager.http_filters.iter().any(is_rbac), "{:?}", manager.http_filters);
    assert!(manager.use_remote_address);
}

#[test]
fn mutual_tls_that_is_passed_through_goes_only_to_endpoints_that_speak_it() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}, ports: [{name: http, \
                   port: 80}]}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: \
                   {host: a, subsets: [{name: v1}]}\n";
    let pod = |name: &str, mode: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: a, security.istio.io/tlsMode: \
             {mode}}}}}\nspec: {{containers: [{{name: c}}]}}\n"
        )
    };
    let servers = server(443, "tls", "TLS", "['*.local']", "mode: AUTO_PASSTHROUGH");
    let text = format!(
        "{}{service}{}{}",
        gateway("g", &format!("[{servers}]")),
        pod("meshed", "istio"),
        pod("plain", "disabled")
    );
    let proxy = router(&text);
    let listener = proxy.listener(Capture::Direct, "10.0.0.1".parse().unwrap(), 443).unwrap();
    assert_eq!(listener.filter_chains.len(), 2, "one for the service, one for its subset");
    let name = "outbound_.80_.v1_.a.default.svc.cluster.local";
    let cluster = proxy.cluster(name).unwrap();
    let endpoints: Vec<_> =
        cluster.load_assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints).collect();
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0].workload, "default/meshed");
    assert!(proxy.clusters().iter().any(|cluster| cluster.name == name));
    let without = router(&format!("{}{service}", gateway("g", "[]")));
    assert!(without.cluster(name).is_none());
}

#[test]
fn names_outside_of_mutual_tls_are_no_endpoints_of_what_is_passed_through() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: \
                 [e.example], location: MESH_INTERNAL, resolution: DNS, ports: [{number: 9090, name: grpc, protocol: \
                 GRPC}], endpoints: [{address: plain.example}, {address: meshed.example, labels: \
                 {security.istio.io/tlsMode: istio}}]}\n";
    let servers = server(443, "tls", "TLS", "['*.example']", "mode: AUTO_PASSTHROUGH");
    let proxy = router(&format!("{}{entry}", gateway("g", &format!("[{servers}]"))));
    let cluster = proxy.cluster("outbound_.9090_._.e.example").unwrap();
    let endpoints: Vec<_> =
        cluster.load_assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints).collect();
    assert_eq!(endpoints.len(), 1, "{endpoints:?}");
    assert_eq!(endpoints[0].address, EndpointAddress::Name("meshed.example".into(), 9090));
}

#[test]
fn certificates_of_a_destination_rule_are_asked_for_by_istiods_names() {
    let rule = |tls: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: istio-ingress}}\nspec: {{ports: \
             [{{name: http, port: 80}}]}}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: \
             {{name: a, namespace: istio-ingress}}\nspec: {{host: a, trafficPolicy: {{tls: {{{tls}}}}}}}\n"
        )
    };
    let asked = |tls: &str| {
        let proxy = router(&format!("{}{}", gateway("g", "[]"), rule(tls)));
        let cluster = proxy.cluster("outbound|80||a.istio-ingress.svc.cluster.local").unwrap();
        let UpstreamTransport::Tls(context) = &cluster.transport else { panic!("{:?}", cluster.transport) };
        (context.certificate.to_string(), context.authority.to_string())
    };
    let owned = |certificate: &str, authority: &str| (certificate.to_owned(), authority.to_owned());
    assert_eq!(
        asked("mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca"),
        owned("file-cert:/c~/k", "file-root:/ca")
    );
    assert_eq!(asked("mode: MUTUAL, credentialName: s"), owned("kubernetes://s", "kubernetes://s-cacert"));
    assert_eq!(asked("mode: SIMPLE, credentialName: s"), owned("", "kubernetes://s-cacert"));
    assert_eq!(asked("mode: SIMPLE"), owned("", "file-root:system"));
    assert_eq!(asked("mode: ISTIO_MUTUAL"), owned("default", "ROOTCA"));
}

#[test]
fn the_identities_of_an_entrys_endpoints_are_demanded_unless_its_names_are_found_at_run_time() {
    let demanded = |host: &str, resolution: &str| {
        let entry = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: istio-ingress}}\n\
             spec: {{hosts: ['{host}'], ports: [{{number: 80, name: http, protocol: HTTP}}], {resolution}, \
             subjectAltNames: ['spiffe://x']}}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: e, namespace: istio-ingress}}\nspec: {{host: '{host}', trafficPolicy: {{tls: {{mode: \
             MUTUAL, credentialName: c}}}}}}\n"
        );
        let proxy = router(&format!("{}{entry}", gateway("g", "[]")));
        let cluster = proxy.cluster(&format!("outbound|80||{host}")).unwrap();
        let UpstreamTransport::Tls(context) = &cluster.transport else { panic!("{:?}", cluster.transport) };
        context.subject_alt_names.clone()
    };
    let endpoints = "resolution: STATIC, endpoints: [{address: 10.1.1.1, serviceAccount: vm}]";
    assert_eq!(
        demanded("a.example", endpoints),
        ["spiffe://cluster.local/ns/istio-ingress/sa/vm", "spiffe://x"]
    );
    assert!(demanded("*.example", "resolution: DYNAMIC_DNS").is_empty());
}

#[test]
fn a_filtered_gateway_has_clusters_only_for_what_its_routes_name() {
    let services = ["a", "b"].map(|name| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: istio-ingress}}\nspec: {{ports: \
             [{{name: http, port: 80}}]}}\n"
        )
    });
    let text = format!(
        "{}{}{}",
        gateway("g", &format!("[{}]", server(80, "http", "HTTP", "['*']", ""))),
        virtual_service("g", "['*']", TO_A),
        services.concat()
    );
    let of = |filtered: bool| {
        let mut options = MeshOptions::default();
        options.features.filter_gateway_cluster_config = filtered;
        let mesh = Mesh::new(Loader::new().text("m.yaml", text.as_str()).load(), options);
        Proxy::new(Arc::new(mesh), router("").node().clone())
    };
    let b = "outbound|80||b.istio-ingress.svc.cluster.local";
    assert!(of(false).cluster(b).is_some());
    let filtered = of(true);
    assert!(filtered.cluster(b).is_none());
    let names: Vec<_> = filtered.clusters().iter().map(|cluster| cluster.name.to_string()).collect();
    assert_eq!(names, ["outbound|80||a.istio-ingress.svc.cluster.local", "BlackHoleCluster"]);
}

/// Every virtual host of every route configuration is found by its domains, and equals the one found on demand.
fn assert_on_demand_equals_whole(proxy: &Proxy) -> usize {
    let mut count = 0;
    for listener in proxy.listeners() {
        for chain in &listener.filter_chains {
            let NetworkFilter::HttpConnectionManager(manager) = &chain.terminal else { continue };
            let RouteSpecifier::Rds(name) = &manager.route_specifier else { continue };
            let whole = proxy.route_configuration(name).unwrap();
            for host in &whole.virtual_hosts {
                for domain in &host.domains {
                    let asked = domain.replacen('*', "any", 1);
                    let chosen = proxy.virtual_host(name, &asked).unwrap().virtual_host;
                    // A narrower domain of another virtual host may take the name that was made up.
                    if !domain.starts_with('*') {
                        assert_eq!(chosen.as_ref(), Some(host), "{name} {domain}");
                    }
                    let chosen = chosen.unwrap();
                    assert!(whole.virtual_hosts.contains(&chosen), "{name} {domain}");
                    count += 1;
                }
            }
        }
    }
    count
}

#[test]
fn a_virtual_host_on_demand_is_the_one_of_the_whole_configuration() {
    let hosts = ["['*.b', a.b]", "[x.b]", "['*']"];
    let mut text = String::new();
    for (i, list) in hosts.iter().enumerate() {
        let redirect = if i == 1 { "httpsRedirect: true" } else { "" };
        let name = format!("g{i}");
        text += &gateway(&name, &format!("[{}]", server(80, "http", "HTTP", list, redirect)));
        text += &virtual_service(&name, "['*']", TO_A);
    }
    assert!(assert_on_demand_equals_whole(&router(&text)) >= 4);
}

#[test]
fn a_certificate_that_no_manifest_shows_is_an_assumption() {
    let mesh = "
apiVersion: v1
kind: Pod
metadata: {name: gw, namespace: edge, labels: {istio: gw}}
spec: {containers: [{name: istio-proxy, args: [proxy, router]}]}
status: {podIP: 10.0.0.9}
---
apiVersion: v1
kind: Service
metadata: {name: gw, namespace: edge}
spec: {selector: {istio: gw}, ports: [{name: https, port: 443, targetPort: 8443}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: edge}
spec:
  selector: {istio: gw}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.test], tls: {mode: SIMPLE, credentialName: a-cert}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: edge}
spec: {hosts: [a.test], gateways: [g], http: [{directResponse: {status: 200}}]}
";
    let secret = "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: a-cert, namespace: edge}\n";
    let assumes_it = |text: String| {
        let set = Loader::new().text("mesh.yaml", text).load();
        let mesh = Mesh::new(set, MeshOptions::default());
        let mut query = Query::get("https://a.test/").unwrap();
        query.from = Some("outside".into());
        let trace = Tracer::new(Arc::new(mesh)).trace(&query).unwrap();
        trace.assumptions.iter().any(|assumption| assumption.text.contains("kubernetes://a-cert"))
    };
    assert!(assumes_it(mesh.to_owned()));
    assert!(!assumes_it(format!("{mesh}{secret}")));
}
