//! What EnvoyFilters merge into HTTP connection managers does in a real Envoy what the model says.

use std::sync::Arc;

use dryroute::envoy::{Capture, HttpRequest};
use dryroute::istiod::{Node, Proxy};
use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute_tests::live::lab::plaintext;
use dryroute_tests::live::{Lab, Visit};

const PLATFORM: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: gateway, namespace: shop, labels: {istio: gateway}}
spec: {containers: [{name: istio-proxy, args: [proxy, router]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: shop}
spec: {selector: {istio: gateway}, clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2]}]
ports: [{name: http, port: 8080}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec:
  selector: {istio: gateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [a.test]
  gateways: [web]
  http:
  - match: [{uri: {prefix: /ready}}]
    directResponse: {status: 200, body: {string: ok}}
  - match: [{uri: {prefix: /}}]
    route: [{destination: {host: cart}}]
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: settings, namespace: shop}
spec:
  configPatches:
  - applyTo: NETWORK_FILTER
    match:
      context: GATEWAY
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
    patch:
      operation: MERGE
      value:
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
";

fn gateway(settings: &str) -> Proxy {
    let text = format!("{PLATFORM}          {settings}\n");
    let mesh = Arc::new(Mesh::new(Loader::new().text("mesh.yaml", text).load(), MeshOptions::default()));
    let workload = mesh.workloads().iter().find(|workload| workload.name == "gateway").unwrap();
    Proxy::new(Arc::clone(&mesh), Node::of(&mesh, workload).unwrap())
}

/// Requests that tell the settings apart.
fn requests() -> Vec<HttpRequest> {
    let large = "a".repeat(70 * 1024);
    let lines: [&[(&str, &str)]; 9] = [
        &[],
        &[("x-forwarded-for", "198.51.100.1")],
        &[("x-forwarded-for", "198.51.100.1, 203.0.113.7"), ("x-forwarded-proto", "https")],
        &[("x-forwarded-for", "unknown"), ("x-forwarded-port", "8443")],
        &[("x-request-id", "4ea5e1b4-8bd5-4d4c-8c22-d6d2d8a7c1b0")],
        &[("x-forwarded-client-cert", "By=a;Hash=b")],
        &[("large", &large)],
        &[("connection", "upgrade"), ("upgrade", "spdy")],
        &[("x-envoy-original-path", "/old"), ("x-envoy-max-retries", "3")],
    ];
    let paths = ["/", "/a//b", "/a%2Fb", "/a/../ready", "/ready"];
    let of = |(path, headers): (&str, &[(&str, &str)])| HttpRequest {
        method: "GET".into(),
        path: path.into(),
        authority: "a.test".into(),
        scheme: None,
        headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    };
    let both = lines.into_iter().flat_map(|headers| ["/", "/ready"].map(|path| (path, headers)));
    both.chain(paths.map(|path| (path, &[][..]))).map(of).collect()
}

#[test]
fn what_an_envoy_filter_merges_does_in_envoy_what_the_model_says() {
    let Some(lab) = Lab::open() else { return };
    let connection = plaintext("10.0.0.1".parse().unwrap(), 8080, "192.0.2.1".parse().unwrap());
    let mut compared = 0;
    let mut differ = Vec::new();
    for settings in [
        "xff_num_trusted_hops: 1",
        "xffNumTrustedHops: 2\n          skipXffAppend: true",
        "skip_xff_append: true",
        "append_x_forwarded_port: true",
        "preserve_external_request_id: true\n          always_set_request_id_in_response: true",
        "always_set_request_id_in_response: true",
        "generate_request_id: false\n          always_set_request_id_in_response: true",
        "max_request_headers_kb: 96",
        "max_request_headers_kb: 8",
        "merge_slashes: true",
        "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT",
        "path_with_escaped_slashes_action: REJECT_REQUEST",
        "server_name: web\n          server_header_transformation: APPEND_IF_ABSENT",
        "server_header_transformation: PASS_THROUGH",
        "forward_client_cert_details: ALWAYS_FORWARD_ONLY",
        "upgrade_configs: [{upgrade_type: spdy}]",
    ] {
        let visits: Vec<Visit> = requests()
            .into_iter()
            .map(|request| Visit {
                capture: Capture::Direct,
                connection: connection.clone(),
                request: Some(request),
            })
            .collect();
        for (visit, verdict) in visits.iter().zip(lab.run(&gateway(settings), &visits).unwrap()) {
            assert_eq!(verdict.not_compared, None, "{settings}");
            compared += 1;
            let request = visit.request.as_ref().unwrap();
            let headers: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
            for difference in &verdict.differences {
                differ.push(format!("{settings}: {} {headers:?}: {difference}", request.path));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert_eq!(compared, 16 * 23);
}
