//! What istiod tells a proxy in the corners: pods and Services of two address families, named ports, identities.
//!
//! Each answer was asked of istiod's own code (1.32).

use std::net::IpAddr;
use std::sync::Arc;

use dryroute::envoy::config::{ListenerAddress, NetworkFilter};
use dryroute::envoy::export::{Document, export};
use dryroute::envoy::{ApplicationProtocol, Capture, Connection, Record, Transport, Xds, decide};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::{Loader, parse_mesh_config};
use dryroute::mesh::{Features, Mesh, MeshOptions};

fn told(manifests: &str, pod: &str, mesh_config: &str, features: Features) -> Proxy {
    let options = MeshOptions {
        mesh_config: parse_mesh_config("mesh", mesh_config).0,
        features,
        ..MeshOptions::default()
    };
    let mesh = Arc::new(Mesh::new(Loader::new().text("m.yaml", manifests).load(), options));
    let node = Node::of(&mesh, mesh.workloads().iter().find(|w| w.name == pod).unwrap()).unwrap();
    Proxy::new(mesh, node)
}

fn by_default(manifests: &str, pod: &str) -> Proxy {
    told(manifests, pod, "", Features::default())
}

fn pod(name: &str, ips: &str, app_ports: &str, proxy_ports: &str, args: &str) -> String {
    let first = ips.split(", ").next().unwrap();
    let listed: Vec<String> = ips.split(", ").map(|ip| format!("{{ip: '{ip}'}}")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}, security.istio.io/tlsMode: istio}}}}\n\
         spec: {{containers: [{{name: app, ports: [{app_ports}]}}, {{name: istio-proxy, args: [proxy, {args}], ports: [{proxy_ports}]}}]}}\n\
         status: {{podIP: '{first}', podIPs: [{}]}}\n---\n",
        listed.join(", ")
    )
}

fn service(name: &str, cluster_ips: &str, port: &str) -> String {
    let first = cluster_ips.split(", ").next().unwrap();
    let all: Vec<String> = cluster_ips.split(", ").map(|ip| format!("'{ip}'")).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: '{first}', clusterIPs: [{}], selector: {{app: {name}}}, ports: [{port}]}}\n---\n",
        all.join(", ")
    )
}

fn listener_at(proxy: &Proxy, address: &str, port: u16) -> String {
    let address: IpAddr = address.parse().unwrap();
    proxy.listener(Capture::Outbound, address, port).unwrap().name.to_string()
}

fn two_families() -> String {
    [
        pod("client", "10.0.0.1, fd00::1", "", "", "sidecar"),
        pod("web", "10.0.0.2, fd00::2", "", "", "sidecar"),
        service("web", "10.96.0.1, fd00:96::1", "{name: http, port: 80}, {name: tcp, port: 9000}"),
    ]
    .concat()
}

#[test]
fn http_listeners_of_a_pod_with_two_families_take_both_even_without_dual_stack() {
    let proxy = by_default(&two_families(), "client");
    assert_eq!(listener_at(&proxy, "10.96.0.1", 80), "0.0.0.0_80");
    assert_eq!(listener_at(&proxy, "fd00:96::1", 80), "0.0.0.0_80");
    let listeners = proxy.listeners();
    let http = listeners.iter().find(|listener| listener.name == "0.0.0.0_80").unwrap();
    assert_eq!(http.additional_addresses, [ListenerAddress::Socket("::".parse().unwrap(), 80)]);
}

#[test]
fn a_services_second_address_is_told_with_dual_stack_only() {
    let without = by_default(&two_families(), "client");
    assert_eq!(listener_at(&without, "10.96.0.1", 9000), "10.96.0.1_9000");
    assert_eq!(listener_at(&without, "fd00:96::1", 9000), "virtualOutbound");
    assert!(
        without.virtual_host("80", "[fd00:96::1]").unwrap().virtual_host.unwrap().name.contains("allow_any")
    );

    let dual = Features { dual_stack: true, ..Features::default() };
    let with = told(&two_families(), "client", "", dual);
    assert_eq!(listener_at(&with, "fd00:96::1", 9000), "10.96.0.1_9000");
    assert!(with.virtual_host("80", "[fd00:96::1]").unwrap().virtual_host.unwrap().name.starts_with("web."));
}

#[test]
fn an_address_of_a_family_that_the_pod_does_not_have_is_no_listeners() {
    let manifests = two_families().replace("10.0.0.1, fd00::1", "10.0.0.1");
    let manifests = manifests.replace(", {ip: 'fd00::1'}", "");
    let proxy = by_default(&manifests, "client");
    assert_eq!(listener_at(&proxy, "10.96.0.1", 80), "0.0.0.0_80");
    assert_eq!(listener_at(&proxy, "fd00:96::1", 80), "virtualOutbound");
}

#[test]
fn endpoints_that_nobody_listed_have_the_families_of_their_service() {
    let proxy = by_default(&two_families(), "client");
    let cluster = proxy.cluster("outbound|80||web.default.svc.cluster.local").unwrap();
    let endpoints: usize =
        cluster.load_assignment.endpoints.iter().map(|group| group.lb_endpoints.len()).sum();
    assert_eq!(endpoints, 2, "each family once, though the pod's first address is written twice");
}

#[test]
fn a_named_target_port_may_be_the_proxys_own_and_has_its_protocol() {
    let gateway = |protocol: &str| {
        let port = format!("{{name: web, containerPort: 7000, protocol: {protocol}}}");
        [
            pod("igw", "10.0.0.1", "", &port, "router"),
            service("igw", "10.96.0.1", "{name: http, port: 80, targetPort: web, protocol: TCP}"),
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {selector: {app: igw}, \
             servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n"
                .to_owned(),
        ]
        .concat()
    };
    let names = |manifests: &str| -> Vec<String> {
        by_default(manifests, "igw").listeners().iter().map(|listener| listener.name.to_string()).collect()
    };
    assert_eq!(names(&gateway("TCP")), ["0.0.0.0_7000"]);
    assert_eq!(names(&gateway("UDP")), ["0.0.0.0_80"], "the port of that name is another protocol's");
}

#[test]
fn identities_are_expected_under_the_trust_domains_other_names_too() {
    let proxy = told(
        &two_families(),
        "client",
        "{trustDomain: td.corp, trustDomainAliases: [old.td]}",
        Features::default(),
    );
    let cluster = proxy.cluster("outbound|80||web.default.svc.cluster.local").unwrap();
    let accepted = format!("{:?}", cluster.transport);
    for domain in ["td.corp", "old.td"] {
        assert!(accepted.contains(&format!("spiffe://{domain}/ns/default/sa/default")), "{accepted}");
    }
}

#[test]
fn the_bytes_of_a_direct_response_are_decoded() {
    let manifests = [
        two_families(),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\nspec: {hosts: [web], \
         http: [{directResponse: {status: 200, body: {bytes: aGVsbG8=}}}]}\n"
            .to_owned(),
    ]
    .concat();
    let proxy = by_default(&manifests, "client");
    let routes = proxy.route_configurations();
    assert!(format!("{routes:?}").contains("body: \"hello\""), "{routes:?}");
}

#[test]
fn mongo_ports_are_read_along() {
    let manifests = [
        pod("client", "10.0.0.1", "", "", "sidecar"),
        service("db", "10.96.0.7", "{name: mongo, port: 27017}, {name: tcp, port: 27018}"),
    ]
    .concat();
    let proxy = by_default(&manifests, "client");
    let mut read_along = Vec::new();
    for listener in proxy.listeners() {
        let mongo =
            |terminal: &NetworkFilter| matches!(terminal, NetworkFilter::TcpProxy(tcp) if tcp.mongo_proxy);
        let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        read_along.extend(chains.filter(|chain| mongo(&chain.terminal)).map(|_| listener.name.to_string()));
    }
    assert_eq!(read_along, ["10.96.0.7_27017"]);
}

#[test]
fn a_rule_of_the_root_namespace_for_itself_and_others_is_for_the_others_alone() {
    let rule = |export_to: &str| {
        let manifests = [
            pod("igw", "10.0.0.1", "", "", "router").replace("name: igw,", "name: igw, namespace: istio-system,"),
            service("web", "10.96.0.1", "{name: http, port: 80}"),
            format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, namespace: istio-system}}\n\
                 spec: {{host: '*.local', exportTo: [{export_to}], subsets: [{{name: v1, labels: {{v: '1'}}}}]}}\n"
            ),
        ]
        .concat();
        by_default(&manifests, "igw").cluster("outbound|80|v1|web.default.svc.cluster.local").is_some()
    };
    assert!(rule("."));
    assert!(rule("'*'"));
    assert!(!rule("., shop"));
}

const WILDCARD: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dyn}
spec:
  hosts: ['*.dyn.io']
  resolution: DYNAMIC_DNS
  location: MESH_EXTERNAL
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 82, name: http, protocol: HTTP}]
---
";

#[test]
fn a_route_to_an_external_name_leads_to_what_it_names_and_no_further() {
    let manifests = [
        pod("client", "10.0.0.1", "", "", "sidecar"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: one}\nspec: {type: ExternalName, externalName: \
         two.default.svc.cluster.local, ports: [{name: http, port: 80}]}\n---\n"
            .into(),
        "apiVersion: v1\nkind: Service\nmetadata: {name: two}\nspec: {type: ExternalName, externalName: \
         ext.example.com, ports: [{name: http, port: 80}]}\n---\n"
            .into(),
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ext}\nspec: {hosts: [ext.example.com, \
         web.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n---\n"
            .into(),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [web.example.com], \
         http: [{route: [{destination: {host: one}}]}]}\n"
            .to_owned(),
    ]
    .concat();
    let proxy = by_default(&manifests, "client");
    let found = proxy.virtual_host("80", "web.example.com").unwrap().virtual_host.unwrap();
    assert!(format!("{found:?}").contains("outbound|80||two.default.svc.cluster.local"), "{found:?}");
    assert!(proxy.cluster("outbound|80||two.default.svc.cluster.local").is_none());
}

#[test]
fn service_entries_are_seen_as_widely_as_the_mesh_configuration_lets_them() {
    let manifests = [
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: x}}\n---\n".to_owned(),
        pod("client", "10.0.0.1", "", "", "sidecar"),
        WILDCARD.replace("name: dyn}", "name: dyn, namespace: other}"),
    ]
    .concat();
    let seen = |setting: &str| {
        let config = format!("serviceEntryVisibility: {{{setting}}}");
        told(&manifests, "client", &config, Features::default()).cluster("outbound|82||*.dyn.io").is_some()
    };
    let of_team =
        "policies: [{visibility: PUBLIC, matchingRules: [{namespaceSelector: {matchLabels: {team: x}}}]}]";
    assert!(seen("defaultVisibility: NONE"), "sidecars are asked to take part");
    assert!(!seen("applyToSidecars: true, defaultVisibility: NONE"));
    assert!(!seen("applyToSidecars: true, defaultVisibility: NAMESPACE"));
    assert!(seen("applyToSidecars: true"));
    assert!(seen(&format!("applyToSidecars: true, defaultVisibility: NONE, {of_team}")));
}

#[test]
fn envoy_is_told_to_resolve_the_sni_of_a_wildcard_entry_and_checks_who_answers() {
    let manifests = [pod("client", "10.0.0.1", "", "", "sidecar"), WILDCARD.to_owned()].concat();
    let proxy = by_default(&manifests, "client");
    let lds = export(&proxy.snapshot(), Document::Lds, None).document.to_string();
    assert!(lds.contains("envoy.extensions.filters.network.sni_dynamic_forward_proxy"), "{lds}");
    let cds = export(&proxy.snapshot(), Document::Cds, None).document;
    let cluster = cds["resources"].as_array().unwrap().iter().find(|c| c["name"] == "outbound|82||*.dyn.io");
    // Envoy refuses options of HTTP that do not say who is checked; its own defaults do.
    assert!(cluster.unwrap().get("typed_extension_protocol_options").is_none(), "{cluster:?}");
}

#[test]
fn a_name_with_a_star_inside_breaks_the_listener_and_is_named() {
    let manifests = [
        pod("client", "10.0.0.1", "", "", "sidecar"),
        WILDCARD.replace("'*.dyn.io'", "'*dyn.io'").replace("DYNAMIC_DNS", "NONE"),
    ]
    .concat();
    let proxy = by_default(&manifests, "client");
    let refused: Vec<_> = proxy.listeners().iter().filter_map(|listener| listener.refused.clone()).collect();
    assert_eq!(refused, ["partial wildcards are not supported in \"server_names\""]);
    let said = dryroute::istiod::diagnostics::of_mesh(proxy.mesh());
    let codes: Vec<_> = said.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(codes, ["refused-by-envoy"]);
}

#[test]
fn only_the_filter_chains_that_come_nearest_are_near_misses() {
    let manifests = [
        pod("client", "10.0.0.1", "", "", "sidecar"),
        service("client", "10.96.0.1", "{name: http, port: 80}, {name: tcp, port: 9000}"),
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict}\nspec: {mtls: {mode: STRICT}}\n"
            .to_owned(),
    ]
    .concat();
    let proxy = by_default(&manifests, "client");
    let connection = Connection {
        destination: "10.0.0.1".parse().unwrap(),
        port: 80,
        source: "10.0.0.9".parse().unwrap(),
        transport: Transport::Plaintext,
        protocol: ApplicationProtocol::Http11,
        preface: dryroute::envoy::request::Preface::default(),
    };
    let mut record = Record::default();
    let _ = decide(&proxy, &proxy.facts(), Capture::Inbound, &connection, None, &mut record);
    let missed: Vec<_> =
        record.near_misses.iter().map(|miss| (miss.name.as_str(), miss.failed.condition.as_str())).collect();
    assert_eq!(missed, [("0.0.0.0_80", "transport protocol")]);
}

#[test]
fn a_claim_that_is_compared_with_nothing_breaks_the_route_configuration() {
    let manifests = [
        pod("igw", "10.0.0.1", "", "", "router"),
        service("web", "10.96.0.1", "{name: http, port: 80}"),
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {selector: {app: igw}, \
         servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n---\n"
            .to_owned(),
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\nspec: {hosts: [web.io], \
         gateways: [g], http: [{match: [{headers: {'@request.auth.claims.sub': VALUE}}], \
         route: [{destination: {host: web}}]}]}\n"
            .to_owned(),
    ]
    .concat();
    let refused = |value: &str| {
        let proxy = by_default(&manifests.replace("VALUE", value), "igw");
        proxy
            .route_configuration("http.80")
            .unwrap()
            .refused
            .as_ref()
            .map(|refusal| refusal.reason.to_string())
    };
    assert_eq!(refused("{exact: me}"), None);
    assert!(refused("{}").unwrap().contains("match_pattern"));
}
