//! What the recorded runs do not reach: capture modes, families, limits, workload entries, Sidecar ingress.

use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::envoy::config::{
    AccessFilter, Action, Cluster, DiscoveryType, EndpointAddress, FilterChain, HttpFilter, NetworkFilter,
    RouteSpecifier, TransportProtocol,
};
use crate::envoy::xds::{Capture, Xds};
use crate::istiod::{InterceptionMode, Node};
use crate::manifest::{Loader, parse_mesh_config};
use crate::mesh::{Features, Mesh, MeshOptions};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
spec:
  containers: [{name: app, ports: [{name: web, containerPort: 8080}]}, {name: istio-proxy}]
status: {podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.9}]}
---
";

fn service(name: &str, created: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\n\
         metadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}'}}\n\
         spec: {{clusterIP: 10.96.0.1, selector: {{app: server}}, ports: [{port}]}}\n---\n"
    )
}

fn sidecar(ingress: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: own, namespace: shop}}\n\
         spec:\n  workloadSelector: {{labels: {{app: server}}}}\n  ingress:\n{ingress}\n---\n"
    )
}

struct Setup {
    manifests: String,
    mesh_config: &'static str,
    features: Features,
    ips: &'static [&'static str],
    interception: InterceptionMode,
}

impl Setup {
    fn new(manifests: impl Into<String>) -> Self {
        Self {
            manifests: manifests.into(),
            mesh_config: "",
            features: Features::default(),
            ips: &["10.0.0.9"],
            interception: InterceptionMode::Redirect,
        }
    }

    fn proxy(&self) -> Proxy {
        let set = Loader::new().text("m.yaml", self.manifests.as_str()).load();
        let options = MeshOptions {
            mesh_config: parse_mesh_config("mesh", self.mesh_config).0,
            features: self.features.clone(),
            ..MeshOptions::default()
        };
        let ips: Vec<IpAddr> = self.ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let mut node = Node::sidecar("shop", "server", ips);
        node.labels.insert("app".into(), "server".into());
        node.metadata.interception_mode = self.interception;
        Proxy::new(Arc::new(Mesh::new(set, options)), node)
    }
}

fn names(chains: &[Arc<FilterChain>], port: u16) -> Vec<&str> {
    chains
        .iter()
        .filter(|chain| chain.filter_chain_match.destination_port == Some(port))
        .map(|chain| chain.name.as_str())
        .collect()
}

fn virtual_inbound(proxy: &Proxy) -> Arc<Listener> {
    Arc::clone(proxy.inbound().virtual_inbound().unwrap())
}

fn is_http(chain: &FilterChain) -> bool {
    matches!(chain.terminal, NetworkFilter::HttpConnectionManager(_))
}

fn endpoint(cluster: &Cluster) -> Option<&EndpointAddress> {
    cluster.load_assignment.endpoints.first()?.lb_endpoints.first().map(|endpoint| &endpoint.address)
}

#[test]
fn the_oldest_service_decides_what_a_port_speaks() {
    let old_tcp = service("b", "2025-01-01T00:00:00Z", "{name: tcp, port: 80, targetPort: 8080}");
    let new_http = service("a", "2025-01-02T00:00:00Z", "{name: http, port: 81, targetPort: web}");
    let proxy = Setup::new(format!("{POD}{old_tcp}{new_http}")).proxy();
    let targets: Vec<_> = proxy.service_targets().iter().map(|t| (t.port.number, t.target_port)).collect();
    assert_eq!(targets, [(80, 8080), (81, 8080)]);
    let listener = virtual_inbound(&proxy);
    assert_eq!(names(&listener.filter_chains, 8080), ["0.0.0.0_8080"; 3]);
    assert!(!listener.filter_chains.iter().any(|c| c.name == "0.0.0.0_8080" && is_http(c)));
}

#[test]
fn services_of_one_age_are_ordered_by_host() {
    let day = "2025-01-01T00:00:00Z";
    let tcp = service("b", day, "{name: tcp, port: 80, targetPort: 8080}");
    let http = service("a", day, "{name: http, port: 81, targetPort: 8080}");
    let proxy = Setup::new(format!("{POD}{tcp}{http}")).proxy();
    assert_eq!(proxy.service_targets()[0].service.name, "a");
}

#[test]
fn names_of_ports_that_no_container_has_lead_nowhere() {
    let day = "2025-01-01T00:00:00Z";
    let proxy =
        Setup::new(format!("{POD}{}", service("a", day, "{name: http, port: 80, targetPort: x}"))).proxy();
    assert!(proxy.service_targets().is_empty());
}

#[test]
fn names_of_ports_of_a_proxy_without_pod_stand_for_port_0_and_break_its_listener() {
    let day = "2025-01-01T00:00:00Z";
    let proxy = Setup::new(service("a", day, "{name: http, port: 80, targetPort: web}")).proxy();
    let targets: Vec<_> = proxy.service_targets().iter().map(|t| (t.port.number, t.target_port)).collect();
    assert_eq!(targets, [(80, 0)]);
    assert!(proxy.cluster("inbound|0||").is_some());
    let listener = virtual_inbound(&proxy);
    let matches = |name: &str| -> Vec<_> {
        let chains = listener.filter_chains.iter().filter(|chain| chain.name == name);
        chains.map(|chain| chain.filter_chain_match.clone()).collect()
    };
    let own = matches("0.0.0.0_0");
    // Envoy refuses two chains with one match.
    assert!(!own.is_empty() && own.iter().any(|own| matches("virtualInbound").contains(own)), "{own:?}");
    assert!(listener.refused.is_some());
}

#[test]
fn udp_ports_get_chains_for_bytes() {
    let day = "2025-01-01T00:00:00Z";
    let manifests = format!("{POD}{}", service("a", day, "{name: dns, port: 53, protocol: UDP}"));
    let proxy = Setup::new(manifests).proxy();
    assert_eq!(names(&virtual_inbound(&proxy).filter_chains, 53).len(), 3);
}

#[test]
fn the_proxys_own_ports_get_no_chains() {
    let day = "2025-01-01T00:00:00Z";
    let ports = "{name: http-a, port: 15021}, {name: http-b, port: 15090}, {name: http-c, port: 15001}";
    let proxy = Setup::new(format!("{POD}{}", service("a", day, ports))).proxy();
    let listener = virtual_inbound(&proxy);
    for port in [15021, 15090, 15001] {
        assert_eq!(names(&listener.filter_chains, port), [""; 0], "{port}");
        // The cluster is made nevertheless.
        assert!(proxy.cluster(&format!("inbound|{port}||")).is_some(), "{port}");
    }
    assert_eq!(names(&listener.filter_chains, 15006), ["virtualInbound-blackhole"]);
}

#[test]
fn services_select_workload_entries_by_label_and_map_ports_by_name() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
                 metadata: {name: vm, namespace: shop}\n\
                 spec: {address: 10.0.0.9, labels: {app: vm}, ports: {http: 9090}}\n---\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\n\
                   spec: {clusterIP: 10.96.0.1, selector: {app: vm}, ports: [\
                   {name: http, port: 80, targetPort: 8080}, {name: tcp, port: 81, targetPort: none}]}\n---\n";
    let proxy = Setup::new(format!("{entry}{service}")).proxy();
    let targets: Vec<_> = proxy.service_targets().iter().map(|t| (t.port.number, t.target_port)).collect();
    assert_eq!(targets, [(80, 9090)]);
}

#[test]
fn service_entries_select_their_workload_by_address() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {name: se, namespace: shop}\n\
                 spec: {hosts: [a.test], location: MESH_INTERNAL, resolution: STATIC, \
                 ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8081}], \
                 endpoints: [{address: 10.0.0.9}, {address: 10.0.0.8}]}\n---\n";
    let proxy = Setup::new(format!("{POD}{entry}")).proxy();
    let targets = &proxy.service_targets();
    assert_eq!(targets.iter().map(|t| t.target_port).collect::<Vec<_>>(), [8081]);
    let elsewhere = entry.replace("namespace: shop", "namespace: other");
    assert!(Setup::new(format!("{POD}{elsewhere}")).proxy().service_targets().is_empty());
}

#[test]
fn ingress_listeners_replace_the_ports_of_services() {
    let day = "2025-01-01T00:00:00Z";
    let http = service("a", day, "{name: http, port: 80, targetPort: 8080}");
    let ingress =
        sidecar("  - {port: {number: 9080, protocol: HTTP, name: x}, defaultEndpoint: '127.0.0.1:7070'}");
    let mut setup = Setup::new(format!("{POD}{http}{ingress}"));
    let proxy = setup.proxy();
    let listener = virtual_inbound(&proxy);
    assert_eq!(names(&listener.filter_chains, 8080), [""; 0]);
    assert_eq!(names(&listener.filter_chains, 9080), ["10.0.0.9_9080"; 2]);
    assert!(proxy.cluster("inbound|8080||").is_none());
    setup.features.sidecar_service_inbound_listener_merge = true;
    let merged = setup.proxy();
    assert_eq!(names(&virtual_inbound(&merged).filter_chains, 8080).len(), 2);
    assert!(merged.cluster("inbound|8080||").is_some());
}

#[test]
fn default_endpoints_say_where_ingress_traffic_goes() {
    let ports = [
        (1, "127.0.0.1:7070", Some(EndpointAddress::Socket("127.0.0.1".parse().unwrap(), 7070)), false),
        (2, "0.0.0.0:7070", Some(EndpointAddress::Socket("10.0.0.9".parse().unwrap(), 7070)), true),
        (3, "unix:///var/run/x.sock", Some(EndpointAddress::Pipe("/var/run/x.sock".into())), true),
        (4, "", None, true),
        // Without an IPv6 address there is only localhost.
        (5, "'[::]:7070'", Some(EndpointAddress::Socket("::1".parse().unwrap(), 7070)), false),
    ];
    let ingress: Vec<String> = ports
        .iter()
        .map(|(port, endpoint, ..)| {
            let endpoint = if endpoint.is_empty() { "''" } else { endpoint };
            let port = format!("port: {{number: {port}, protocol: TCP, name: x{port}}}");
            format!("  - {{{port}, defaultEndpoint: {endpoint}}}")
        })
        .collect();
    let proxy = Setup::new(format!("{POD}{}", sidecar(&ingress.join("\n")))).proxy();
    for (port, _, expected, binds) in ports {
        let cluster = proxy.cluster(&format!("inbound|{port}||")).unwrap();
        assert_eq!(endpoint(&cluster), expected.as_ref(), "{port}");
        let kind = if expected.is_some() { DiscoveryType::Static } else { DiscoveryType::OriginalDst };
        assert_eq!(cluster.discovery_type, kind, "{port}");
        assert_eq!(cluster.upstream_bind_config.is_some(), binds, "{port}");
    }
}

#[test]
fn ingress_without_capture_is_a_socket_of_its_own() {
    let ingress = sidecar(
        "  - {port: {number: 9080, protocol: HTTP, name: x}, captureMode: NONE, bind: 0.0.0.0}\n  \
         - {port: {number: 9081, protocol: TCP, name: tcp}, captureMode: NONE}",
    );
    let proxy = Setup::new(format!("{POD}{ingress}")).proxy();
    let own = |port| proxy.listener(Capture::Direct, "10.0.0.9".parse().unwrap(), port);
    assert_eq!(own(9080).unwrap().name, "0.0.0.0_9080");
    let bound = own(9081).unwrap();
    assert_eq!(bound.name, "10.0.0.9_9081");
    assert!(!bound.listener_filters.original_dst);
    // Captured traffic to the port finds no chain of its own.
    assert_eq!(names(&virtual_inbound(&proxy).filter_chains, 9080), [""; 0]);
}

#[test]
fn without_capture_only_ingress_listens() {
    let day = "2025-01-01T00:00:00Z";
    let http = service("a", day, "{name: http, port: 80, targetPort: 8080}");
    let mut setup = Setup::new(format!("{POD}{http}"));
    setup.interception = InterceptionMode::None;
    let proxy = setup.proxy();
    assert!(proxy.inbound().listeners.is_empty());
    assert!(proxy.cluster("inbound|8080||").is_none());
    assert!(proxy.cluster("InboundPassthroughCluster").is_some());
    setup.manifests.push_str(&sidecar("  - {port: {number: 9080, protocol: HTTP, name: x}}"));
    let proxy = setup.proxy();
    assert_eq!(
        proxy.inbound().listeners.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
        ["10.0.0.9_9080"]
    );
    assert!(proxy.listener(Capture::Inbound, "10.0.0.9".parse().unwrap(), 9080).is_none());
}

#[test]
fn tproxy_keeps_the_clients_address() {
    let mut setup = Setup::new(POD);
    setup.interception = InterceptionMode::Tproxy;
    assert!(virtual_inbound(&setup.proxy()).listener_filters.original_src);
}

#[test]
fn ipv6_workloads_have_ipv6_names_and_sources() {
    let day = "2025-01-01T00:00:00Z";
    let http = service("a", day, "{name: http, port: 80, targetPort: 8080}");
    let mut setup = Setup::new(format!("{POD}{http}"));
    setup.ips = &["2001:db8::9"];
    let proxy = setup.proxy();
    let listener = virtual_inbound(&proxy);
    assert_eq!(listener.address, ListenerAddress::Socket("::".parse().unwrap(), 15006));
    assert_eq!(names(&listener.filter_chains, 8080), ["::_8080"; 2]);
    let cluster = proxy.cluster("InboundPassthroughCluster").unwrap();
    assert_eq!(cluster.upstream_bind_config, Some("::6".parse().unwrap()));
    setup.ips = &["10.0.0.9", "2001:db8::9"];
    setup.features.dual_stack = true;
    let both = virtual_inbound(&setup.proxy());
    assert_eq!(both.address, ListenerAddress::Socket("0.0.0.0".parse().unwrap(), 15006));
    assert_eq!(both.additional_addresses, [ListenerAddress::Socket("::".parse().unwrap(), 15006)]);
}

#[test]
fn mesh_config_can_send_traffic_to_localhost() {
    let day = "2025-01-01T00:00:00Z";
    let http = service("a", day, "{name: http, port: 80, targetPort: 8080}");
    let mut setup = Setup::new(format!("{POD}{http}"));
    setup.mesh_config = "inboundTrafficPolicy: {mode: LOCALHOST}";
    let cluster = setup.proxy().cluster("inbound|8080||").unwrap();
    assert_eq!(endpoint(&cluster), Some(&EndpointAddress::Socket("127.0.0.1".parse().unwrap(), 8080)));
    assert_eq!(cluster.upstream_bind_config, None);
}

#[test]
fn the_sidecars_limits_win_over_those_of_destination_rules() {
    let day = "2025-01-01T00:00:00Z";
    let http = service("a", day, "{name: http, port: 80, targetPort: 8080}");
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: a, namespace: shop}\n\
                spec: {host: a.shop.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}\n---\n";
    let limits = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: own, namespace: shop}\n\
                  spec: {inboundConnectionPool: {tcp: {maxConnections: 9}}}\n---\n";
    let of = |manifests: String| {
        let cluster = Setup::new(manifests).proxy().cluster("inbound|8080||").unwrap();
        cluster.circuit_breakers.max_connections
    };
    assert_eq!(of(format!("{POD}{http}{rule}")), 7);
    assert_eq!(of(format!("{POD}{http}{rule}{limits}")), 9);
}

#[test]
fn ports_without_tls_chains_are_not_inspected_for_tls() {
    let day = "2025-01-01T00:00:00Z";
    let http = service("a", day, "{name: http, port: 80, targetPort: 8080}");
    let policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: a, namespace: shop}\n\
                  spec: {selector: {matchLabels: {app: server}}, portLevelMtls: {8080: {mode: DISABLE}}}\n---\n";
    let listener = virtual_inbound(&Setup::new(format!("{POD}{http}{policy}")).proxy());
    let filters = &listener.listener_filters;
    assert!(!filters.inspects_tls(8080) && !filters.inspects_tls(15006));
    assert!(filters.inspects_tls(7000));
    assert!(!filters.inspects_http(8080) && filters.inspects_http(7000));
    let chains: Vec<_> = listener
        .filter_chains
        .iter()
        .filter(|c| c.name == "0.0.0.0_8080")
        .map(|c| &c.filter_chain_match)
        .collect();
    assert_eq!(chains.len(), 1);
    assert_eq!(chains[0].transport_protocol, Some(TransportProtocol::RawBuffer));
}

#[test]
fn what_is_not_modelled_stands_in_front() {
    let filter = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n\
                  metadata: {name: f, namespace: shop}\n\
                  spec: {configPatches: [{applyTo: HTTP_FILTER, match: {context: SIDECAR_INBOUND}, \
                  patch: {operation: INSERT_FIRST, value: {name: x}}}]}\n---\n";
    let first_filters = |manifests: String| {
        let listener = virtual_inbound(&Setup::new(manifests).proxy());
        let chain = |http| {
            listener
                .filter_chains
                .iter()
                .find(|c| c.name != "virtualInbound-blackhole" && is_http(c) == http)
                .cloned()
        };
        let NetworkFilter::HttpConnectionManager(manager) = &chain(true).unwrap().terminal else {
            panic!("no connection manager")
        };
        let http = manager.http_filters.iter().any(|f| matches!(f, HttpFilter::Opaque { .. }));
        let tcp = matches!(chain(false).unwrap().access_filters.first(), Some(AccessFilter::Opaque { .. }));
        (http, tcp)
    };
    assert_eq!(first_filters(format!("{POD}{filter}")), (true, false), "bytes meet no HTTP filters");
    assert_eq!(first_filters(format!("{POD}{}", filter.replace("HTTP", "NETWORK"))), (true, true));
    assert_eq!(first_filters(format!("{POD}{}", filter.replace("INBOUND", "OUTBOUND"))), (false, false));
    assert_eq!(first_filters(format!("{POD}{}", filter.replace("shop", "other"))), (false, false));
}

#[test]
fn the_time_that_a_grpc_client_asks_for_limits_its_stream() {
    let day = "2025-01-01T00:00:00Z";
    let manifests = format!("{POD}{}", service("a", day, "{name: grpc, port: 80, targetPort: 8080}"));
    let listener = virtual_inbound(&Setup::new(manifests).proxy());
    let chain = listener.filter_chains.iter().find(|c| c.name == "0.0.0.0_8080" && is_http(c)).unwrap();
    let NetworkFilter::HttpConnectionManager(manager) = &chain.terminal else { panic!() };
    let RouteSpecifier::Inline(configuration) = &manager.route_specifier else { panic!() };
    let Action::Route(action) = &configuration.virtual_hosts[0].routes[0].action else { panic!() };
    assert_eq!(action.max_grpc_timeout, None);
    assert!(action.max_stream_duration.unwrap().grpc_timeout_header_max.is_zero(), "any limit is granted");
}
