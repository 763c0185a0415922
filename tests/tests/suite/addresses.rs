//! Where addresses and names lead that Kubernetes looks after: of Services, of their load balancers, of pods.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Outcome, Query, Trace, Tracer, VerdictKind};
use dryroute_tests::{CLIENT, INGRESS_GATEWAY};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, clusterIP: 10.96.1.1, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: direct, namespace: shop}
spec:
  type: LoadBalancer
  selector: {app: web}
  clusterIP: 10.96.1.2
  ports: [{name: http, port: 81, targetPort: 8080}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.77}, {ip: 203.0.113.78}]}}
---
apiVersion: v1
kind: Service
metadata: {name: igw, namespace: istio-system}
spec:
  type: LoadBalancer
  clusterIP: 10.96.9.9
  externalIPs: [198.51.100.9]
  selector: {istio: ingressgateway}
  ports: [{name: http, port: 80, targetPort: 8080}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.77}, {ip: 203.0.113.79, ipMode: Proxy}, {hostname: lb.example.net}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: ['*']
  gateways: [gw]
  http: [{route: [{destination: {host: web}}]}]
";

/// The client and the gateway.
fn loader() -> Loader {
    Loader::new().text("client.yaml", CLIENT).text("igw.yaml", INGRESS_GATEWAY)
}

fn mesh_of(texts: &[&str]) -> Tracer {
    let loader = (0..)
        .zip(texts)
        .fold(loader(), |loader, (i, text)| loader.text(format!("{i}.yaml"), (*text).to_owned()));
    Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default())))
}

fn query(from: &str, url: &str) -> Query {
    let mut query = Query::get(url).unwrap();
    query.from = Some(from.into());
    query
}

fn trace(from: &str, url: &str) -> Trace {
    mesh_of(&[WEB]).trace(&query(from, url)).unwrap()
}

fn only(trace: &Trace) -> &Outcome {
    let [one] = trace.outcomes.as_slice() else { panic!("{:?}", trace.outcomes) };
    one
}

fn passes_gateway(trace: &Trace) -> bool {
    only(trace).path.iter().any(|id| id == "gateway:istio-system/igw")
        && only(trace).path.last().unwrap() == "workload:shop/web"
}

fn assumes(trace: &Trace, text: &str) -> bool {
    trace.assumptions.iter().any(|assumption| assumption.text.contains(text))
}

#[test]
fn a_client_in_the_mesh_that_dials_the_gateways_outside_addresses_gets_to_the_gateway() {
    for url in ["http://203.0.113.77/", "http://198.51.100.9/"] {
        let trace = trace("shop/client", url);
        assert!(passes_gateway(&trace), "{url}: {:?}", only(&trace));
        assert!(!assumes(&trace, "leads"), "{url}: {:?}", trace.assumptions);
        let sidecar = &trace.hops.get(1).unwrap();
        assert!(sidecar.steps.iter().any(|step| step.name == "PassthroughCluster"), "{url}");
    }
    // What only the balancer knows leads back, unless the network forbids it.
    for (url, name) in
        [("http://203.0.113.79/", "203.0.113.79"), ("http://lb.example.net/", "lb.example.net")]
    {
        let trace = trace("shop/client", url);
        assert!(passes_gateway(&trace), "{url}: {:?}", only(&trace));
        let text = format!("{name} leads back to the Service istio-system/igw");
        assert!(assumes(&trace, &text), "{url}: {:?}", trace.assumptions);
    }
    let mut own = query("shop/client", "http://shop.example.com/");
    own.add_resolve("shop.example.com:80:203.0.113.77").unwrap();
    assert!(passes_gateway(&mesh_of(&[WEB]).trace(&own).unwrap()));
}

#[test]
fn services_that_share_an_address_are_told_apart_by_their_ports() {
    let gateway = trace("outside", "http://203.0.113.77/");
    assert!(passes_gateway(&gateway), "{:?}", gateway.outcomes);
    for from in ["outside", "shop/client"] {
        let direct = trace(from, "http://203.0.113.77:81/");
        let path = &only(&direct).path;
        assert_eq!(path.get(path.len() - 2..).unwrap(), ["inbound:shop/web", "workload:shop/web"], "{from}");
        assert!(!path.iter().any(|id| id.starts_with("gateway")), "{from}: {path:?}");
    }
    let closed = trace("shop/client", "tcp://203.0.113.78:82");
    assert_eq!(only(&closed).verdict.kind, VerdictKind::Reset);
}

#[test]
fn a_client_outside_does_not_reach_cluster_addresses() {
    for (url, service) in [("http://10.96.1.1/", "shop/web"), ("http://10.96.9.9/", "istio-system/igw")] {
        let trace = trace("outside", url);
        let verdict = &only(&trace).verdict;
        assert_eq!(verdict.kind, VerdictKind::Unresolved, "{url}");
        assert!(verdict.reason.as_ref().unwrap().contains(service), "{url}: {verdict:?}");
    }
    let mut own = query("outside", "http://shop.example.com/");
    own.add_resolve("shop.example.com:80:10.96.9.9").unwrap();
    assert_eq!(only(&mesh_of(&[WEB]).trace(&own).unwrap()).verdict.kind, VerdictKind::Unresolved);
}

#[test]
fn whether_a_client_outside_reaches_a_pod_is_not_known_unless_it_has_its_nodes_address() {
    let pod = |name: &str, ip: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{{more}containers: [{{name: app}}]}}\nstatus: {{podIP: {ip}}}\n---\n"
        )
    };
    let pods = pod("own", "10.244.0.5", "") + &pod("node", "192.0.2.9", "hostNetwork: true, ");
    let tracer = mesh_of(&[WEB, &pods]);
    let own = tracer.trace(&query("outside", "http://10.244.0.5/")).unwrap();
    assert_eq!(only(&own).verdict.kind, VerdictKind::Unknown);
    let node = tracer.trace(&query("outside", "http://192.0.2.9/")).unwrap();
    assert_eq!(only(&node).path, ["client", "workload:shop/node"]);
}

#[test]
fn source_ranges_of_a_load_balancer_are_assumed_to_let_the_client_in() {
    let restricted =
        WEB.replace("type: LoadBalancer", "type: LoadBalancer\n  loadBalancerSourceRanges: [192.0.2.0/24]");
    for from in ["outside", "shop/client"] {
        let trace = mesh_of(&[&restricted]).trace(&query(from, "http://203.0.113.77/")).unwrap();
        assert!(passes_gateway(&trace), "{from}");
        assert!(assumes(&trace, "loadBalancerSourceRanges"), "{from}: {:?}", trace.assumptions);
    }
}

const DB: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: app}]}}
";

/// The pods of a StatefulSet as a cluster has them.
fn db_pods() -> String {
    let pod = |i: usize, ready: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: db-{i}, namespace: shop, labels: {{app: db}}}}\n\
             spec: {{hostname: db-{i}, subdomain: db, containers: [{{name: app}}]}}\n\
             status: {{podIP: 10.244.0.{i}, conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
        )
    };
    DB.to_owned() + &pod(0, "True") + &pod(1, "True") + &pod(2, "False")
}

#[test]
fn a_statefulset_has_the_pods_that_its_numbers_say() {
    let tracer = mesh_of(&[DB]);
    for host in ["db-1.db", "db-1.db.shop", "db-0.db.shop.svc.cluster.local"] {
        let trace = tracer.trace(&query("shop/client", &format!("http://{host}/"))).unwrap();
        assert_eq!(only(&trace).path.last().unwrap(), "workload:shop/db", "{host}");
        let pod = host.split('.').next().unwrap();
        assert!(assumes(&trace, &format!("the pod {pod} of shop/db is ready")), "{:?}", trace.assumptions);
    }
    for host in ["db-2.db.shop.svc.cluster.local", "db-2.db", "db-01.db.shop.svc.cluster.local"] {
        let trace = tracer.trace(&query("shop/client", &format!("http://{host}/"))).unwrap();
        let verdict = &only(&trace).verdict;
        assert_eq!(verdict.kind, VerdictKind::Unresolved, "{host}");
        assert!(verdict.reason.as_ref().unwrap().contains("shop/db has no pod db-"), "{host}: {verdict:?}");
    }
    let other = DB.replace("serviceName: db", "serviceName: other");
    let trace =
        mesh_of(&[&other]).trace(&query("shop/client", "http://db-1.db.shop.svc.cluster.local/")).unwrap();
    assert_eq!(only(&trace).verdict.kind, VerdictKind::Unresolved);
}

#[test]
fn numbers_of_a_statefulset_begin_where_it_says_and_end_where_nobody_knows() {
    let some = DB.replace("replicas: 2", "ordinals: {start: 5}");
    let tracer = mesh_of(&[&some]);
    let kind = |host: &str| {
        let trace =
            tracer.trace(&query("shop/client", &format!("http://{host}.shop.svc.cluster.local/"))).unwrap();
        (only(&trace).verdict.kind, trace.assumptions.first().map(|a| a.text.clone()).unwrap_or_default())
    };
    assert_eq!(kind("db-4.db").0, VerdictKind::Unresolved);
    assert_eq!(kind("db-5.db"), (VerdictKind::Delivered, "the pod db-5 of shop/db is ready".into()));
    assert_eq!(kind("db-9.db"), (VerdictKind::Delivered, "shop/db has a pod db-9, and it is ready".into()));
}

#[test]
fn the_pods_of_a_headless_service_are_as_likely_as_each_other() {
    let trace = mesh_of(&[&db_pods()]).trace(&query("shop/client", "http://db/")).unwrap();
    let ends: Vec<_> =
        trace.outcomes.iter().map(|o| (o.path.last().unwrap().as_str(), o.probability)).collect();
    assert_eq!(ends, [("workload:shop/db-0", 0.5), ("workload:shop/db-1", 0.5)]);
    let one = mesh_of(&[&db_pods()]).trace(&query("shop/client", "http://db-1.db/")).unwrap();
    assert_eq!(only(&one).path.last().unwrap(), "workload:shop/db-1");
    assert_eq!(one.assumptions, []);
    let waiting = mesh_of(&[&db_pods()]).trace(&query("shop/client", "http://db-2.db.shop.svc/")).unwrap();
    assert_eq!(only(&waiting).verdict.kind, VerdictKind::Unresolved);
}

#[test]
fn pods_without_names_of_their_own_are_told_as_one() {
    let nameless = db_pods().replace("hostname: db-0, ", "").replace("hostname: db-1, ", "");
    let trace = mesh_of(&[&nameless]).trace(&query("shop/client", "http://db/")).unwrap();
    assert_eq!(only(&trace).path.last().unwrap(), "workload:shop/db-0");
    let unnamed = mesh_of(&[&nameless]).trace(&query("shop/client", "http://db-0.db.shop.svc/")).unwrap();
    assert_eq!(only(&unnamed).verdict.kind, VerdictKind::Unresolved);
}

#[test]
fn an_endpointslice_names_pods_that_are_not_among_the_manifests() {
    let slice = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-abc, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.244.0.5], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.244.0.6], hostname: db-1, conditions: {ready: true}}
";
    let trace = mesh_of(&[slice]).trace(&query("shop/client", "http://db-1.db/")).unwrap();
    assert_eq!(trace.legs.last().unwrap().address, "10.244.0.6:80");
}

#[test]
fn that_a_pod_of_a_headless_service_is_ready_is_assumed_where_no_manifest_says_so() {
    let trace = mesh_of(&[DB]).trace(&query("shop/client", "http://db/")).unwrap();
    assert!(assumes(&trace, "shop/db has a ready endpoint"), "{:?}", trace.assumptions);
}

#[test]
fn a_proxy_that_resolves_a_headless_service_uses_all_of_its_pods() {
    let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: alias, namespace: shop}
spec:
  hosts: [alias.test]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: DNS
  endpoints: [{address: db.shop.svc.cluster.local}]
";
    let trace = mesh_of(&[&db_pods(), entry]).trace(&query("shop/client", "http://alias.test/")).unwrap();
    let ends: Vec<_> =
        trace.outcomes.iter().map(|o| (o.path.last().unwrap().as_str(), o.probability)).collect();
    assert_eq!(ends, [("workload:shop/db-0", 0.5), ("workload:shop/db-1", 0.5)]);
}

#[test]
fn the_api_servers_service_exists_in_every_cluster() {
    let tracer = mesh_of(&[WEB]);
    for host in ["kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local."] {
        let trace = tracer.trace(&query("shop/client", &format!("https://{host}/"))).unwrap();
        let verdict = &only(&trace).verdict;
        assert_eq!(verdict.kind, VerdictKind::Unknown, "{host}");
        assert!(verdict.reason.as_ref().unwrap().contains("every cluster has"), "{host}: {verdict:?}");
    }
    let nowhere = tracer.trace(&query("shop/client", "https://kubernetes.shop/")).unwrap();
    assert_eq!(only(&nowhere).verdict.kind, VerdictKind::Unresolved);
    let written = "
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443, targetPort: 6443}]}
";
    let known = mesh_of(&[written]);
    let trace = known.trace(&query("shop/client", "https://kubernetes.default/")).unwrap();
    assert_ne!(only(&trace).verdict.kind, VerdictKind::Unknown);
}
