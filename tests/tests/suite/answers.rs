//! What a proxy answers by itself, as the client sees it.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Query, Trace, Tracer};

const PLATFORM: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: shop}
spec:
  selector: {matchLabels: {app: client}}
  template: {metadata: {labels: {app: client}}, spec: {containers: [{name: app}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template: {metadata: {labels: {app: cart}}, spec: {containers: [{name: app, ports: [{containerPort: 8080}]}]}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// The trace of a request of `shop/client` in a mesh with these resources more.
fn trace(more: &str, method: &str, url: &str, headers: &[(&str, &str)]) -> Trace {
    let loader = Loader::new().text("platform.yaml", PLATFORM.to_owned()).text("more.yaml", more.to_owned());
    let tracer = Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default())));
    let mut query = Query::get(url).unwrap();
    query.from = Some("shop/client".into());
    query.method = method.into();
    query.headers = headers.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect();
    tracer.trace(&query).unwrap()
}

/// The response's lines as the client gets them.
fn answer(trace: &Trace) -> Vec<String> {
    let lines = &trace.hops.first().unwrap().response.arrived;
    lines.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[test]
fn a_preflight_is_answered_alike_whatever_its_content_type() {
    let cors = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - corsPolicy: {allowOrigins: [{exact: 'http://a.test'}], allowMethods: [GET]}
    route: [{destination: {host: cart}}]
";
    let preflight = [("origin", "http://a.test"), ("access-control-request-method", "GET")];
    let plain = answer(&trace(cors, "OPTIONS", "http://cart/", &preflight));
    assert_eq!(plain.first().map(String::as_str), Some(":status: 200"), "{plain:?}");
    assert!(plain.contains(&"access-control-allow-origin: http://a.test".to_owned()), "{plain:?}");
    let grpc = [&preflight[..], &[("content-type", "application/grpc")]].concat();
    assert_eq!(answer(&trace(cors, "OPTIONS", "http://cart/", &grpc)), plain);
}
