//! Where addresses and names lead that Kubernetes looks after: of Services, of their load balancers, of pods.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Outcome, Query, Trace, Tracer, VerdictKind};
use dryroute_tests::CLIENT;

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
apiVersion: apps/v1
kind: Deployment
metadata: {name: igw, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata:
      labels: {istio: ingressgateway, sidecar.istio.io/inject: 'true'}
      annotations: {inject.istio.io/templates: gateway}
    spec: {containers: [{name: istio-proxy, image: auto}]}
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

fn tracer(texts: &[&str]) -> Tracer {
    let loader = (0..).zip(texts).fold(Loader::new().text("client.yaml", CLIENT), |loader, (i, text)| {
        loader.text(format!("{i}.yaml"), (*text).to_owned())
    });
    Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default())))
}

fn query(from: &str, url: &str) -> Query {
    let mut query = Query::get(url).unwrap();
    query.from = Some(from.into());
    query
}

fn trace(from: &str, url: &str) -> Trace {
    tracer(&[WEB]).trace(&query(from, url)).unwrap()
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
    assert!(passes_gateway(&tracer(&[WEB]).trace(&own).unwrap()));
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
    assert_eq!(only(&tracer(&[WEB]).trace(&own).unwrap()).verdict.kind, VerdictKind::Unresolved);
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
    let tracer = tracer(&[WEB, &pods]);
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
        let trace = tracer(&[&restricted]).trace(&query(from, "http://203.0.113.77/")).unwrap();
        assert!(passes_gateway(&trace), "{from}");
        assert!(assumes(&trace, "loadBalancerSourceRanges"), "{from}: {:?}", trace.assumptions);
    }
}
