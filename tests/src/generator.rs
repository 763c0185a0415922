//! Realistic manifests of any size, for benches.
//!
//! As text: one service after the other, a VirtualService with several matches, a Service, an EndpointSlice, and for every
//! second one a ServiceEntry, with the comments, annotations and block scalars that real files have. As values: Services
//! with an endpoint each. The same number gives the same text and values.

use std::fmt::Write as _;
use std::sync::Arc;

use dryroute::manifest::schema::istio::VirtualService;
use dryroute::manifest::schema::kubernetes::{
    Endpoint, EndpointPort, EndpointSlice, ServicePort, ServiceSpec,
};
use dryroute::manifest::{ManifestBuilder, ManifestSet, Meta, Spec};
use smol_str::{SmolStr, format_smolstr};

/// The namespaces that the services of [`set`] lie in, in turn: `ns0` and so on.
const NAMESPACES: usize = 10;

/// The name, namespace and cluster address of the service of a number in [`set`].
pub fn identity(n: usize) -> (SmolStr, SmolStr, SmolStr) {
    let (a, b, c) = (n / 62_500, n / 250 % 250, n % 250);
    (
        format_smolstr!("s{n}"),
        format_smolstr!("ns{}", n % NAMESPACES),
        format_smolstr!("10.{}.{b}.{c}", 96 + a),
    )
}

/// Services, an EndpointSlice for each and a VirtualService for every tenth, made without any text.
pub fn set(services: usize) -> ManifestSet {
    let mut builder = ManifestBuilder::new();
    for n in 0..services {
        let (name, namespace, cluster_ip) = identity(n);
        let meta = |name: &SmolStr, label: &'static str| Meta {
            name: name.clone(),
            namespace: namespace.clone(),
            labels: [(SmolStr::new_static(label), format_smolstr!("s{n}"))].into_iter().collect(),
            ..Meta::default()
        };
        let port = ServicePort { name: "http".into(), port: 80, ..ServicePort::default() };
        let address = cluster_ip.replacen("10.", "172.", 1).into();
        let service = ServiceSpec { cluster_ip, ports: vec![port], ..ServiceSpec::default() };
        builder.add(meta(&name, "app"), Spec::Service(Arc::new(service)));
        let slice = EndpointSlice {
            address_type: "IPv4".into(),
            endpoints: vec![Endpoint { addresses: vec![address], ..Endpoint::default() }],
            ports: vec![EndpointPort {
                name: Some("http".into()),
                port: Some(8080),
                ..EndpointPort::default()
            }],
        };
        let slice = Spec::EndpointSlice(Arc::new(slice));
        builder.add(meta(&format_smolstr!("s{n}-x7k2p"), "kubernetes.io/service-name"), slice);
        if n.is_multiple_of(10) {
            let routes = Spec::VirtualService(Arc::new(canary(&name)));
            builder.add(meta(&name, "app"), routes);
        }
    }
    builder.build()
}

/// Routes to a service: one with conditions, and one for the rest.
fn canary(host: &SmolStr) -> VirtualService {
    let route = serde_json::json!([{"destination": {"host": host}}]);
    serde_json::from_value(serde_json::json!({
        "hosts": [host],
        "http": [
            {"match": [{"uri": {"prefix": "/api"}, "headers": {"x-user": {"exact": "jason"}}}], "route": route, "timeout": "2s"},
            {"route": route},
        ],
    }))
    .unwrap_or_default()
}

/// Manifests of `services` services, about 2.1 kB each.
pub fn manifests(services: usize) -> String {
    let mut out = String::with_capacity(services * 2200);
    for n in 0..services {
        service(&mut out, n);
    }
    out
}

fn service(out: &mut String, n: usize) {
    let ns = format!("team-{}", n % 40);
    let (a, b) = (n / 250 % 250, n % 250);
    let _ = write!(
        out,
        "# Routes of svc-{n}\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: svc-{n}\n  namespace: {ns}\n  labels:\n    \
         app.kubernetes.io/name: svc-{n}\n    app.kubernetes.io/managed-by: Helm\n  annotations:\n    notes: |\n      Canary by header;\n      \
         everything else by weight.\nspec:\n  hosts:\n  - svc-{n}.{ns}.svc.cluster.local\n  gateways: [mesh]\n  http:\n  - name: canary\n    match:\n    - headers:\n        \
         x-canary:\n          exact: \"true\"\n      uri:\n        prefix: /api/v1\n    - queryParams:\n        canary:\n          exact: on-{n}\n    \
         route:\n    - destination:\n        host: svc-{n}.{ns}.svc.cluster.local\n        subset: v2\n        port:\n          number: 8080\n  \
         - name: rest\n    match:\n    - uri:\n        prefix: /\n    retries:\n      attempts: 3\n      perTryTimeout: 2s\n      retryOn: 5xx,reset\n    \
         timeout: 10s\n    route:\n    - destination:\n        host: svc-{n}.{ns}.svc.cluster.local\n        subset: v1\n      weight: 90\n    \
         - destination:\n        host: svc-{n}.{ns}.svc.cluster.local\n        subset: v2\n      weight: 10\n---\n"
    );
    let _ = write!(
        out,
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc-{n}\n  namespace: {ns}\n  labels: {{app: svc-{n}, tier: backend}}\nspec:\n  type: ClusterIP\n  \
         clusterIP: 10.{a}.{b}.1\n  selector:\n    app: svc-{n}\n  ports:\n  - name: http\n    port: 8080\n    targetPort: 8080\n    protocol: TCP\n  \
         - name: grpc-api\n    port: 9090\n    targetPort: grpc\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: svc-{n}-x7k2p\n  \
         namespace: {ns}\n  labels:\n    kubernetes.io/service-name: svc-{n}\naddressType: IPv4\nendpoints:\n- addresses: [\"10.244.{a}.{b}\"]\n  conditions: {{ready: true}}\n  \
         nodeName: node-{a}\n  zone: zone-a\n- addresses: [\"10.245.{a}.{b}\"]\n  conditions: {{ready: true}}\n  nodeName: node-{b}\n  zone: zone-b\nports:\n\
         - {{name: http, port: 8080, protocol: TCP}}\n- {{name: grpc-api, port: 9090, protocol: TCP}}\n---\n"
    );
    if n.is_multiple_of(2) {
        let _ = write!(
            out,
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: ext-{n}\n  namespace: {ns}\nspec:\n  hosts:\n  - api-{n}.example.com\n  \
             location: MESH_EXTERNAL\n  ports:\n  - number: 443\n    name: tls\n    protocol: TLS\n  resolution: DNS\n  exportTo: [\".\"]\n---\n"
        );
    }
}
