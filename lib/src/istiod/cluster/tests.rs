//! Endpoints as a client in `r1/z1/s1` gets them.

use std::sync::Arc;

use smol_str::{SmolStr, ToSmolStr};

use crate::envoy::config::{Cluster, ClusterMetadata, EndpointAddress, UpstreamTransport};
use crate::envoy::xds::Xds;
use crate::istiod::{Node, Proxy};
use crate::manifest::{Loader, parse_mesh_config};
use crate::mesh::{Features, Mesh, MeshOptions};

/// A pod in a locality, ready or not, with further labels.
pub(super) fn pod(name: &str, ip: &str, locality: &str, ready: bool, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: shop, labels: {{topology.istio.io/locality: {locality}, {labels}}}}}\n\
         spec: {{containers: [{{name: app, ports: [{{containerPort: 80}}]}}, {{name: istio-proxy}}]}}\n\
         status: {{podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: '{ready}'}}]}}\n---\n",
        ready = if ready { "True" } else { "False" },
    )
}

/// The client, and servers of `web` in six localities, one of them not ready.
fn world() -> String {
    let servers = [
        ("10.0.1.1", "r1.z1.s1", true, "v: a"),
        ("10.0.1.2", "r1.z1.s1", false, "v: b"),
        ("10.0.2.1", "r1.z1.s2", true, "v: a"),
        ("10.0.3.1", "r1.z2.s1", true, "v: a"),
        ("10.0.4.1", "r2.z1.s1", true, "v: a"),
        ("10.0.5.1", "r3.z1.s1", true, "v: b"),
        ("10.0.5.2", "r3.z1.s1", true, "v: a"),
    ];
    let mut out = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client, v: a");
    for (n, (ip, locality, ready, labels)) in servers.into_iter().enumerate() {
        out.push_str(&pod(&format!("web-{n}"), ip, locality, ready, &format!("app: web, {labels}")));
    }
    out
}

fn service(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80}}]{more}}}\n---\n"
    )
}

/// A DestinationRule for `web`.
fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{host: web.shop.svc.cluster.local, {spec}}}\n---\n"
    )
}

fn proxy_with(manifests: &str, mesh_config: &str, features: Features) -> Proxy {
    let set = Loader::new().text("m.yaml", manifests).load();
    let options = MeshOptions {
        mesh_config: parse_mesh_config("mesh", mesh_config).0,
        features,
        ..MeshOptions::default()
    };
    let mesh = Arc::new(Mesh::new(set, options));
    let node = Node::of(&mesh, mesh.workloads().iter().find(|w| w.name == "client").unwrap()).unwrap();
    Proxy::new(mesh, node)
}

pub(super) fn proxy(manifests: &str) -> Proxy {
    proxy_with(manifests, "", Features::default())
}

fn cluster(proxy: &Proxy, subset: &str) -> Arc<Cluster> {
    proxy.cluster(&format!("outbound|80|{subset}|web.shop.svc.cluster.local")).unwrap()
}

/// The groups: priority, weight, locality, addresses.
fn groups(cluster: &Cluster) -> Vec<(u32, u32, &str, Vec<SmolStr>)> {
    let address = |address: &EndpointAddress| match address {
        EndpointAddress::Socket(ip, _) => ip.to_smolstr(),
        EndpointAddress::Name(name, _) | EndpointAddress::Pipe(name) => name.clone(),
    };
    cluster
        .load_assignment
        .endpoints
        .iter()
        .map(|group| {
            let addresses = group.lb_endpoints.iter().map(|endpoint| address(&endpoint.address)).collect();
            (group.priority, group.load_balancing_weight, group.locality.as_str(), addresses)
        })
        .collect()
}

/// The addresses of all groups.
pub(super) fn addresses(cluster: &Cluster) -> Vec<SmolStr> {
    groups(cluster).into_iter().flat_map(|group| group.3).collect()
}

#[test]
fn a_subset_can_be_of_a_zone() {
    let subset = rule("subsets: [{name: z2, labels: {topology.kubernetes.io/zone: z2}}]");
    assert_eq!(
        addresses(&cluster(&proxy(&format!("{}{}{subset}", world(), service(""))), "z2")),
        ["10.0.3.1"]
    );
}

#[test]
fn a_policy_may_select_the_labels_that_istiod_adds_to_endpoints() {
    let mutual =
        |name, ip, locality| pod(name, ip, locality, true, "app: web, security.istio.io/tlsMode: istio");
    let servers = mutual("web-1", "10.0.1.1", "r1.z1.s1") + &mutual("web-2", "10.0.2.1", "r2.z1.s1");
    let policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: far, namespace: shop}\n\
                  spec: {selector: {matchLabels: {topology.kubernetes.io/region: r2}}, mtls: {mode: DISABLE}}\n";
    let speaks_mutual_tls = |manifests: String| -> Vec<bool> {
        let cluster = cluster(&proxy(&manifests), "");
        let groups = cluster.load_assignment.endpoints.iter();
        groups.flat_map(|group| &group.lb_endpoints).map(|endpoint| endpoint.istio_mutual).collect()
    };
    let mesh = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client") + &servers + &service("");
    assert_eq!(speaks_mutual_tls(mesh.clone()), [true, true]);
    assert_eq!(speaks_mutual_tls(mesh + policy), [true, false]);
}

#[test]
fn a_workload_entry_without_a_locality_has_that_of_its_label() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
                 metadata: {name: vm, namespace: shop}\n\
                 spec: {address: 10.0.9.9, labels: {app: web, istio-locality: r9.z9}}\n---\n";
    let client = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client");
    let found = cluster(&proxy(&format!("{client}{entry}{}", service(""))), "");
    assert_eq!(groups(&found), [(0, 1, "r9/z9", vec!["10.0.9.9".into()])]);
}

#[test]
fn a_workload_entry_has_to_name_the_port_that_a_service_names() {
    let entry = |ports: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm, namespace: shop}}\n\
             spec: {{address: 10.0.9.9, labels: {{app: web}}, ports: {{{ports}}}}}\n---\n"
        )
    };
    let client = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client");
    let found = |ports: &str, target: &str| {
        let service = service("").replace("port: 80", &format!("port: 80, targetPort: {target}"));
        addresses(&cluster(&proxy(&format!("{client}{}{service}", entry(ports))), ""))
    };
    assert_eq!(found("web: 8080", "web"), ["10.0.9.9"]);
    assert!(found("http: 8080", "web").is_empty());
    assert_eq!(found("", "8080"), ["10.0.9.9"]);
}

const OUTLIERS: &str = "outlierDetection: {consecutive5xxErrors: 3}";

/// The endpoints of `web` for a rule, with addresses shortened to their last two numbers.
fn ranked(manifests: &str) -> Vec<(u32, u32, String, Vec<String>)> {
    let proxy = proxy(&format!("{}{manifests}", world()));
    let short = |address: SmolStr| address.trim_start_matches("10.0.").to_owned();
    groups(&cluster(&proxy, ""))
        .into_iter()
        .map(|(priority, weight, locality, all)| {
            (priority, weight, locality.to_owned(), all.into_iter().map(short).collect())
        })
        .collect()
}

/// The priorities of the groups, in the order of their localities.
fn priorities(manifests: &str) -> Vec<u32> {
    ranked(manifests).into_iter().map(|group| group.0).collect()
}

fn locality_rule(setting: &str) -> String {
    rule(&format!("trafficPolicy: {{loadBalancer: {{localityLbSetting: {{{setting}}}}}, {OUTLIERS}}}"))
}

#[test]
fn without_outlier_detection_no_locality_comes_first() {
    assert_eq!(priorities(&service("")), [0, 0, 0, 0, 0]);
    let failover = "loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r3}]}}";
    assert_eq!(
        priorities(&format!("{}{}", service(""), rule(&format!("trafficPolicy: {{{failover}}}")))),
        [0; 5]
    );
}

#[test]
fn with_outlier_detection_subzone_zone_and_region_come_first_in_this_order() {
    let outliers = rule(&format!("trafficPolicy: {{{OUTLIERS}}}"));
    let found = ranked(&format!("{}{outliers}", service("")));
    let group = |priority, weight, locality: &str, all: &[&str]| {
        (priority, weight, locality.to_owned(), all.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        found,
        [
            group(0, 2, "r1/z1/s1", &["1.1", "1.2"]),
            group(1, 1, "r1/z1/s2", &["2.1"]),
            group(2, 1, "r1/z2/s1", &["3.1"]),
            group(3, 1, "r2/z1/s1", &["4.1"]),
            group(3, 2, "r3/z1/s1", &["5.1", "5.2"]),
        ]
    );
}

#[test]
fn the_region_to_fail_over_to_comes_before_the_others() {
    let rule = locality_rule("failover: [{from: r1, to: r3}, {from: r1, to: r2}]");
    assert_eq!(priorities(&format!("{}{rule}", service(""))), [0, 1, 2, 4, 3]);
}

#[test]
fn priorities_have_no_gaps() {
    let client = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client");
    let far = pod("far", "10.0.1.1", "r2.z1.s1", true, "app: web")
        + &pod("zone", "10.0.1.2", "r1.z2", true, "app: web");
    let manifests =
        format!("{client}{far}{}{}", service(""), rule(&format!("trafficPolicy: {{{OUTLIERS}}}")));
    let found = cluster(&proxy(&manifests), "");
    assert_eq!(
        groups(&found).into_iter().map(|g| (g.0, g.2)).collect::<Vec<_>>(),
        [(0, "r1/z2"), (1, "r2/z1/s1")]
    );
}

#[test]
fn failover_priority_splits_localities_by_labels() {
    let split = locality_rule("failoverPriority: [topology.kubernetes.io/region, v=b]");
    let found = ranked(&format!("{}{split}", service("")));
    let shape: Vec<_> = found.iter().map(|g| (g.0, g.1, g.3.join(" "))).collect();
    let group = |priority, weight, all: &str| (priority, weight, all.to_owned());
    assert_eq!(
        shape,
        [
            group(0, 1, "1.2"),
            group(1, 1, "1.1"),
            group(1, 1, "2.1"),
            group(1, 1, "3.1"),
            group(2, 1, "4.1"),
            group(2, 2, "5.1 5.2"),
        ]
    );
}

#[test]
fn endpoints_of_another_network_come_after_all_others() {
    let other = pod("other", "10.0.1.1", "r1.z1.s1", true, "app: web, topology.istio.io/network: n2");
    let client = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client, topology.istio.io/network: n1");
    let own = pod("own", "10.0.1.2", "r9.z1.s1", true, "app: web, topology.istio.io/network: n1");
    let priority = "failoverPriority: [topology.istio.io/network, topology.kubernetes.io/region]";
    let manifests = format!("{client}{other}{own}{}{}", service(""), locality_rule(priority));
    let found = cluster(&proxy(&manifests), "");
    assert_eq!(
        groups(&found).iter().map(|g| (g.0, g.2)).collect::<Vec<_>>(),
        [(1, "r1/z1/s1"), (0, "r9/z1/s1")]
    );
}

/// A Service in front of a gateway to a network.
fn network_gateway(addresses: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: east, namespace: istio-system, labels: \
         {{topology.istio.io/network: n2{more}}}}}\nspec: {{type: LoadBalancer, ports: [{{name: tls, port: 15443}}, \
         {{name: other, port: 443}}]}}\nstatus: {{loadBalancer: {{ingress: [{addresses}]}}}}\n---\n"
    )
}

#[test]
fn gateways_stand_for_the_endpoints_of_their_network_that_speak_mutual_tls() {
    let on = |name: &str, ip: &str, network: &str, more: &str| {
        let labels =
            format!("app: {}, topology.istio.io/network: {network}{more}", name.split('-').next().unwrap());
        pod(name, ip, "r1.z1", true, &labels)
    };
    let mutual = ", security.istio.io/tlsMode: istio";
    let pods = [
        on("client", "10.0.0.1", "n1", ""),
        on("web-0", "10.0.1.1", "n1", mutual),
        on("web-1", "10.0.2.1", "n2", mutual),
        on("web-2", "10.0.2.2", "n2", mutual),
        on("web-3", "10.0.2.3", "n2", ""),
        on("web-4", "10.0.3.1", "n3", mutual),
    ]
    .concat();
    let sent = |gateways: &str| {
        let found = cluster(&proxy(&format!("{pods}{gateways}{}", service(""))), "");
        let mut all: Vec<(String, u32)> = Vec::new();
        for group in &found.load_assignment.endpoints {
            for endpoint in &group.lb_endpoints {
                let EndpointAddress::Socket(ip, port) = endpoint.address else { continue };
                all.push((format!("{ip}:{port}"), endpoint.load_balancing_weight));
            }
        }
        (all, found.load_assignment.assumption.clone().unwrap_or_default())
    };
    let owned = |list: &[(&str, u32)]| {
        list.iter().map(|(at, weight)| ((*at).to_owned(), *weight)).collect::<Vec<_>>()
    };

    let (found, assumption) = sent(&network_gateway("{ip: 203.0.113.2}, {ip: 203.0.113.1}", ""));
    let expected =
        [("10.0.1.1:80", 2), ("10.0.3.1:80", 2), ("203.0.113.1:15443", 2), ("203.0.113.2:15443", 2)];
    assert_eq!(found, owned(&expected), "weights are scaled to be shared out; n3 has no gateway");
    assert_eq!(assumption, "the gateway to network n2 passes requests on to an endpoint there");

    let port = |number: u16| format!(", networking.istio.io/gatewayPort: '{number}'");
    let other_port = network_gateway("{ip: 203.0.113.2}", &port(443));
    assert_eq!(sent(&other_port).0.last(), Some(&("203.0.113.2:443".to_owned(), 2)));
    let no_such_port = network_gateway("{ip: 203.0.113.2}", &port(99));
    assert_eq!(sent(&no_such_port).0.len(), 5, "who does not listen is no gateway");
    let other_family = network_gateway("{ip: '2001:db8::1'}", "");
    assert_eq!(sent(&other_family).0, owned(&[("10.0.1.1:80", 1), ("10.0.3.1:80", 1)]));
    let by_name = network_gateway("{hostname: lb.example.com}", "");
    assert_eq!(
        sent(&by_name).1,
        "the gateway lb.example.com to network n2 is left out: istiod resolves its name"
    );
}

#[test]
fn pods_without_a_network_of_their_own_are_in_that_of_istiods_namespace() {
    let namespace = "apiVersion: v1\nkind: Namespace\n\
                     metadata: {name: istio-system, labels: {topology.istio.io/network: n1}}\n---\n";
    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: shop}\n\
                 spec: {address: 10.0.9.9, network: n1, locality: r2/z1, labels: {app: web}}\n---\n";
    let client = pod("client", "10.0.0.1", "r1.z1", true, "app: client");
    let other = pod("other", "10.0.1.1", "r3.z1", true, "app: web, topology.istio.io/network: n2");
    let manifests =
        format!("{namespace}{client}{other}{entry}{}", service(", trafficDistribution: PreferClose"));
    let found = cluster(&proxy(&manifests), "");
    assert_eq!(groups(&found).iter().map(|g| (g.0, g.2)).collect::<Vec<_>>(), [(0, "r2/z1"), (1, "r3/z1")]);
    assert!(found.load_assignment.assumption.as_ref().unwrap().contains("network n2"));
    assert_eq!(cluster(&proxy(&format!("{}{}", world(), service(""))), "").load_assignment.assumption, None);
}

#[test]
fn istiods_switches_send_all_endpoints_and_weigh_all_localities() {
    let health = rule("trafficPolicy: {outlierDetection: {minHealthPercent: 50}}");
    let text = format!("{}{}{health}", world(), service(""));
    let plain = cluster(&proxy(&text), "");
    assert_eq!((addresses(&plain).len(), plain.locality_weighted), (6, false));
    let features = Features {
        always_send_unhealthy_endpoints: true,
        locality_weighted_lb_config: true,
        ..Features::default()
    };
    let switched = cluster(&proxy_with(&text, "", features), "");
    assert_eq!((addresses(&switched).len(), switched.locality_weighted), (7, true));
    assert_eq!(switched.healthy_panic_threshold, Some(0));
}

#[test]
fn shares_by_locality_take_the_endpoints_of_localities_that_they_do_not_name() {
    let shares = "distribute: [{from: r9/*, to: {r9/*: 100}}, {from: r1/z1/*, to: {r1/*: 80, r3/z1: 20}}]";
    let found = ranked(&format!("{}{}", service(""), locality_rule(shares)));
    let shape: Vec<_> = found.iter().map(|g| (g.0, g.1, g.3.len())).collect();
    assert_eq!(shape, [(0, 40, 2), (0, 20, 1), (0, 20, 1), (0, 1, 0), (0, 20, 2)]);
}

#[test]
fn a_rule_can_turn_localities_off() {
    let off = locality_rule("enabled: false, failover: [{from: r1, to: r3}]");
    assert_eq!(priorities(&format!("{}{off}", service(", trafficDistribution: PreferClose"))), [0; 5]);
}

#[test]
fn zone_awareness_only_keeps_to_the_region() {
    let aware = rule("trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {failover: [{from: r1, to: r3}]}}}");
    assert_eq!(priorities(&format!("{}{aware}", service(""))), [0, 0, 0, 2, 1]);
    let off = rule("trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {enabled: false}}}");
    assert_eq!(priorities(&format!("{}{off}", service(""))), [0; 5]);
}

#[test]
fn a_service_that_prefers_near_endpoints_needs_no_outlier_detection() {
    let near = [0, 0, 1, 2, 2];
    assert_eq!(priorities(&service(", trafficDistribution: PreferClose")), near);
    assert_eq!(
        priorities(&service(", trafficDistribution: preferclose")),
        [0; 5],
        "the field has no other case"
    );
    let annotated = |value: &str| {
        let annotation =
            format!("name: web, annotations: {{networking.istio.io/traffic-distribution: {value}}}");
        service("").replacen("name: web", &annotation, 1)
    };
    assert_eq!(priorities(&annotated("preferSameZone")), near);
    assert_eq!(priorities(&annotated("PreferSameNode")), [0, 1, 2, 3, 3]);
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: \
                     {networking.istio.io/traffic-distribution: PreferClose}}\n---\n";
    assert_eq!(priorities(&format!("{namespace}{}", service(""))), near);
    assert_eq!(
        priorities(&format!("{namespace}{}", annotated("any"))),
        [0; 5],
        "the service's own word counts"
    );
}

#[test]
fn service_entries_and_mesh_config_can_prefer_near_endpoints() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {name: ext, namespace: shop, annotations: {networking.istio.io/traffic-distribution: PreferClose}}\n\
                 spec: {hosts: [ext.example], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}],\n  \
                 endpoints: [{address: 10.9.0.1, locality: r2/z1}, {address: 10.9.0.2, locality: r1/z1, weight: 3}]}\n---\n";
    let text = format!("{}{entry}", world());
    let found = proxy(&text).cluster("outbound|80||ext.example").unwrap();
    assert_eq!(groups(&found).iter().map(|g| (g.0, g.1)).collect::<Vec<_>>(), [(0, 3), (1, 1)]);
    let plain = text
        .replace("annotations: {networking.istio.io/traffic-distribution: PreferClose}", "labels: {a: b}");
    let mesh = "zoneAwareLbSetting: {failover: []}";
    let found = proxy_with(&plain, mesh, Features::default()).cluster("outbound|80||ext.example").unwrap();
    assert_eq!(groups(&found).iter().map(|g| g.0).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn only_names_that_envoy_resolves_are_ranked_by_the_meshs_outlier_detection() {
    let entry = |resolution: &str, addresses: [&str; 2]| {
        let [first, second] = addresses;
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: ext, namespace: shop}}\n\
             spec: {{hosts: [ext.example], resolution: {resolution}, ports: [{{number: 80, name: http, protocol: HTTP}}],\n  \
             endpoints: [{{address: {first}, locality: r2}}, {{address: {second}, locality: r1}}]}}\n---\n"
        )
    };
    let ranked = |entry: &str| {
        let mesh = "defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}";
        let proxy = proxy_with(&format!("{}{entry}", world()), mesh, Features::default());
        let found = proxy.cluster("outbound|80||ext.example").unwrap();
        groups(&found).into_iter().map(|g| g.0).collect::<Vec<_>>()
    };
    assert_eq!(ranked(&entry("STATIC", ["10.9.0.1", "10.9.0.2"])), [0, 0]);
    assert_eq!(ranked(&entry("DNS", ["a.example", "b.example"])), [0, 1]);
}

#[test]
fn a_ports_own_settings_decide_whether_endpoints_that_are_not_ready_are_sent() {
    let counted = |manifests: &str, subset: &str| {
        addresses(&cluster(&proxy(&format!("{}{manifests}", world())), subset)).len()
    };
    let at_port = "portLevelSettings: [{port: {number: 80}, outlierDetection: {minHealthPercent: 50}}]";
    let port = rule(&format!("trafficPolicy: {{{at_port}}}, subsets: [{{name: all}}]"));
    assert_eq!(counted(&service(""), ""), 7);
    assert_eq!(counted(&format!("{}{port}", service("")), ""), 6);
    let block = rule(
        "trafficPolicy: {outlierDetection: {minHealthPercent: 50}}, \
         subsets: [{name: all, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]",
    );
    assert_eq!(
        counted(&format!("{}{block}", service("")), "all"),
        6,
        "the subset keeps the blocks it does not set"
    );
    let near = service(", trafficDistribution: PreferClose");
    assert_eq!(counted(&format!("{near}{port}"), ""), 7, "Envoy has to see when near endpoints fail");
}

#[test]
fn the_panic_threshold_is_that_of_the_rule_or_off() {
    let threshold =
        |manifests: &str| cluster(&proxy(&format!("{}{manifests}", world())), "").healthy_panic_threshold;
    let wants_half = rule("trafficPolicy: {outlierDetection: {minHealthPercent: 50}}");
    assert_eq!(threshold(&service("")), Some(0));
    assert_eq!(threshold(&format!("{}{wants_half}", service(""))), Some(50));
    assert_eq!(threshold(&format!("{}{wants_half}", service(", trafficDistribution: PreferClose"))), Some(0));
}

#[test]
fn how_a_proxy_that_knows_its_likes_shares_requests_by_zone_is_assumed() {
    let text = world();
    let knows = "defaultConfig: {proxyMetadata: {ISTIO_META_ENABLE_SELF_DISCOVERY: 'true'}}";
    let preference = |rule: &str, mesh: &str| {
        let proxy = proxy_with(&format!("{text}{}{rule}", service("")), mesh, Features::default());
        cluster(&proxy, "").load_assignment.preference.clone()
    };
    let size = |size: u32| {
        rule(&format!("trafficPolicy: {{loadBalancer: {{zoneAwareLbSetting: {{minClusterSize: {size}}}}}}}"))
    };
    assert!(preference("", knows).unwrap().assumption.unwrap().contains("zones"));
    assert_eq!(preference("", ""), None);
    assert!(preference(&size(3), knows).unwrap().assumption.is_some());
    assert_eq!(
        preference(&size(4), knows).unwrap().assumption,
        None,
        "the region has three that are healthy"
    );
}

#[test]
fn where_nobody_says_where_a_pod_runs_the_ranking_is_assumed() {
    let text = world().replacen("topology.istio.io/locality: r1.z1.s2, ", "", 1);
    let outliers = rule(&format!("trafficPolicy: {{{OUTLIERS}}}"));
    let preference = |text: &str, rule: &str| {
        cluster(&proxy(&format!("{text}{}{rule}", service(""))), "").load_assignment.preference.clone()
    };
    let assumption = |text: &str, rule: &str| preference(text, rule).unwrap().assumption;
    assert_eq!(assumption(&world(), &outliers), None);
    assert!(assumption(&text, &outliers).unwrap().starts_with("shop/web-2 is taken to run in no locality"));
    assert_eq!(
        assumption(&text, &locality_rule("failoverPriority: [v]")),
        None,
        "it does not matter where it runs"
    );
    assert_eq!(preference(&text, ""), None);
}

#[test]
fn of_a_service_that_stays_on_the_node_only_what_may_run_there_is_an_endpoint() {
    let local = service(", internalTrafficPolicy: Local");
    let unknown = cluster(&proxy(&format!("{}{local}", world())), "");
    let members = |cluster: &Cluster| -> Vec<(SmolStr, bool)> {
        let groups = cluster.load_assignment.endpoints.iter();
        groups.flat_map(|group| &group.lb_endpoints).map(|e| (e.workload.clone(), e.node_assumed)).collect()
    };
    let assumed = members(&unknown);
    assert_eq!(assumed.len(), 7, "nobody says where anything runs");
    assert!(assumed.iter().all(|(_, assumed)| *assumed));
    let placed = world().replace("spec: {containers", "spec: {nodeName: other, containers").replacen(
        "nodeName: other",
        "nodeName: here",
        2,
    );
    let known = cluster(&proxy(&format!("{placed}{local}")), "");
    assert_eq!(members(&known), [("shop/web-0".into(), false)]);
    let everywhere = cluster(&proxy(&format!("{placed}{}", service(""))), "");
    assert!(members(&everywhere).iter().all(|(_, assumed)| !assumed));
}

#[test]
fn clusters_name_their_rule_their_subset_and_their_service() {
    let rule = rule(
        "trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: a, labels: {v: a}, trafficPolicy: {tls: {mode: DISABLE}}}]",
    );
    let proxy = proxy(&(world() + &service("") + &rule));
    let (whole, part) = (cluster(&proxy, ""), cluster(&proxy, "a"));
    let path = "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/web";
    for (cluster, subset) in [(&whole, ""), (&part, "a")] {
        let metadata = &cluster.metadata;
        assert_eq!(metadata.config.as_ref().unwrap().to_string(), path);
        assert_eq!(metadata.subset, subset);
        assert_eq!(metadata.services.len(), 1);
        assert_eq!(metadata.services[0].host, "web.shop.svc.cluster.local");
    }
    assert!(whole.metadata.alpn_override && !part.metadata.alpn_override);
}

#[test]
fn clusters_of_services_outside_of_the_mesh_say_so_and_istios_own_say_nothing() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out, namespace: shop}\n\
                 spec: {hosts: [out.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n---\n";
    let proxy = proxy(&(world() + entry));
    let metadata = &proxy.cluster("outbound|80||out.example").unwrap().metadata;
    assert!(metadata.external && metadata.config.is_none());
    assert_eq!(metadata.services[0].name, "out.example");
    assert_eq!(proxy.cluster("PassthroughCluster").unwrap().metadata, ClusterMetadata::default());
}

#[test]
fn an_endpoint_that_shuts_down_gets_nothing_and_keeps_its_identity() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\n\
        ports: [{name: http, port: 80}]\nendpoints:\n\
        - {addresses: [10.0.1.1], conditions: {ready: true}, targetRef: {kind: Pod, name: web-0, namespace: shop}}\n\
        - {addresses: [10.0.9.9], conditions: {ready: false, terminating: true}, targetRef: {kind: Pod, name: old, namespace: shop}}\n---\n";
    let old = pod("old", "10.0.9.9", "r1.z1.s1", false, "app: web")
        .replace("spec: {containers", "spec: {serviceAccountName: old, containers");
    let cluster = cluster(&proxy(&format!("{}{old}{slice}{}", world(), service(""))), "");
    let told = cluster.load_assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints);
    assert_eq!(told.map(|e| e.workload.as_str()).collect::<Vec<_>>(), ["shop/web-0"]);
    assert_eq!(
        identities(&cluster),
        ["spiffe://cluster.local/ns/shop/sa/default", "spiffe://cluster.local/ns/shop/sa/old"]
    );
}

/// Who may answer for a cluster.
fn identities(cluster: &Cluster) -> Vec<SmolStr> {
    match &cluster.transport {
        UpstreamTransport::Auto(context) => context.subject_alt_names.clone(),
        other => panic!("no automatic mutual TLS: {other:?}"),
    }
}

#[test]
fn identities_that_annotations_name_and_those_of_the_youngest_service_of_the_host_count() {
    let entry = |name: &str, time: &str, identity: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: {name}, namespace: shop, creationTimestamp: '{time}'}}\n\
             spec: {{hosts: [web.shop.svc.cluster.local], resolution: NONE, ports: [{{number: 80, name: http, protocol: HTTP}}], \
             subjectAltNames: ['{identity}']}}\n---\n"
        )
    };
    let annotated = service("").replace(
        "namespace: shop}",
        "namespace: shop, annotations: {alpha.istio.io/kubernetes-serviceaccounts: 'a,b', \
         alpha.istio.io/canonical-serviceaccounts: c@example}}",
    );
    let of = |manifests: &str| identities(&cluster(&proxy(&format!("{}{manifests}", world())), ""));
    let own = "spiffe://cluster.local/ns/shop/sa/default";
    let named = ["spiffe://cluster.local/ns/shop/sa/a", "spiffe://cluster.local/ns/shop/sa/b"];
    assert_eq!(of(&annotated), ["c@example", named[0], named[1], own]);
    let (older, younger) =
        (entry("z", "2025-01-01T00:00:00Z", "older"), entry("a", "2025-01-02T00:00:00Z", "younger"));
    assert_eq!(of(&format!("{}{older}{younger}", service(""))), [own, "younger"]);
}

#[test]
fn traffic_that_is_passed_on_as_it_is_keeps_to_the_meshs_limits_for_connections() {
    let mesh = "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7, connectTimeout: 3s, \
                tcpKeepalive: {probes: 2}}, http: {idleTimeout: 1s}}}";
    let proxy = proxy_with(&world(), mesh, Features::default());
    for name in ["PassthroughCluster", "InboundPassthroughCluster"] {
        let cluster = proxy.cluster(name).unwrap();
        assert_eq!((cluster.connect_timeout.as_secs(), cluster.circuit_breakers.max_connections), (3, 7));
        let tuning = cluster.tuning.as_ref().unwrap();
        assert_eq!(tuning.tcp_keepalive.unwrap().probes, Some(2));
        assert_eq!(tuning.idle_timeout.unwrap().as_secs(), 300, "no setting for HTTP gets here");
    }
}

#[test]
fn of_a_service_that_stays_on_the_node_nothing_without_a_pod_is_an_endpoint() {
    let local = service(", internalTrafficPolicy: Local");
    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: shop}\n\
        spec: {address: 192.0.2.1, labels: {app: web}}\n---\n";
    let client = pod("client", "10.0.0.1", "r1.z1.s1", true, "app: client")
        .replace("spec: {containers", "spec: {nodeName: here, containers");
    let count = |service: &str| {
        let cluster = cluster(&proxy(&format!("{client}{entry}{service}")), "");
        cluster.load_assignment.endpoints.iter().map(|group| group.lb_endpoints.len()).sum::<usize>()
    };
    assert_eq!((count(&service("")), count(&local)), (1, 0));
}

#[test]
fn a_rule_says_more_of_probes_than_the_mesh_and_a_hash_leaves_no_room_for_warming_up() {
    let mesh = "tcpKeepalive: {time: 60s, interval: 5s}";
    let policy = "trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {interval: 7s}}}, loadBalancer: {simple: ROUND_ROBIN, \
                  warmup: {duration: 30s}}, retryBudget: {percent: 25}}";
    let manifests = |policy: &str| world() + &service("") + &rule(policy);
    let proxy = proxy_with(&manifests(policy), mesh, Features::default());
    let tuning = cluster(&proxy, "").tuning.clone().unwrap();
    let keepalive = tuning.tcp_keepalive.unwrap();
    assert_eq!(keepalive.time.unwrap().as_secs(), 60);
    assert_eq!(keepalive.interval.unwrap().as_secs(), 7);
    assert_eq!(tuning.slow_start.unwrap().curve, Some((1.0, 10.0)));
    let budget = tuning.retry_budget.unwrap();
    assert_eq!((budget.percent, budget.min_retry_concurrency), (25.0, 3));
    let hashed = policy.replace("simple: ROUND_ROBIN", "consistentHash: {useSourceIp: true}");
    assert_eq!(
        cluster(&super::tests::proxy(&manifests(&hashed)), "").tuning.clone().unwrap().slow_start,
        None
    );
}

#[test]
fn without_metadata_exchange_its_name_is_not_offered() {
    let offered = |on: bool| {
        let features = Features { metadata_exchange: on, ..Features::default() };
        let cluster = cluster(&proxy_with(&(world() + &service("")), "", features), "");
        match &cluster.transport {
            UpstreamTransport::Auto(context) => context.alpn_protocols.clone(),
            other => panic!("no automatic mutual TLS: {other:?}"),
        }
    };
    assert_eq!(offered(true), ["istio-peer-exchange", "istio"]);
    assert_eq!(offered(false), ["istio"]);
}
