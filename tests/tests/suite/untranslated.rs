//! What is written and not translated is named by every trace that it could change.

use std::sync::Arc;

use dryroute::manifest::{Loader, parse_mesh_config};
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Fidelity, Query, Tracer};

const MESH: &str = "apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: sleep, labels: {app: sleep}}
spec: {containers: [{name: app}, {name: istio-proxy}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: app}]}
status: {podIP: 10.0.0.2}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2], conditions: {ready: true}, targetRef: {kind: Pod, name: web, namespace: default}}]
ports: [{name: http, port: 80}]
---
";

/// What a trace from the client to the service assumes beside these resources, and how certain it is.
fn assumed(resources: &str, mesh_config: &str) -> (Vec<String>, Fidelity) {
    let options =
        MeshOptions { mesh_config: parse_mesh_config("mesh", mesh_config).0, ..MeshOptions::default() };
    let mesh = Mesh::new(Loader::new().text("m.yaml", format!("{MESH}{resources}")).load(), options);
    let tracer = Tracer::new(Arc::new(mesh));
    let query = Query { from: Some("default/sleep".into()), ..Query::get("http://web/").unwrap() };
    let trace = tracer.trace(&query).unwrap();
    let decided = tracer.decide(&query).unwrap();
    assert_eq!(decided[0].fidelity, trace.outcomes[0].fidelity, "the cheap decision is as certain");
    (trace.assumptions.into_iter().map(|own| own.text).collect(), trace.outcomes[0].fidelity)
}

fn destination_rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d}}\nspec:\n  host: web\n{spec}"
    )
}

/// A gateway whose server ends TLS, with something more in its settings.
fn gateway(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: gw, labels: {{app: gw, sidecar.istio.io/inject: 'true'}}, annotations: \
         {{inject.istio.io/templates: gateway}}}}\nspec: {{containers: [{{name: istio-proxy, image: auto}}]}}\nstatus: \
         {{podIP: 10.0.0.9}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: gw}}\nspec: {{clusterIP: 10.96.0.9, \
         selector: {{app: gw}}, ports: [{{name: tls, port: 443}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  selector: {{app: gw}}\n  \
         servers:\n  - port: {{number: 443, name: tls, protocol: HTTPS}}\n    hosts: ['*']\n    tls:\n      mode: SIMPLE\n      \
         credentialName: c\n{more}"
    )
}

#[test]
fn a_field_that_is_not_translated_is_an_assumption_with_its_line() {
    let assumed = |more: &str| {
        let mesh = Mesh::new(Loader::new().text("m.yaml", gateway(more)).load(), MeshOptions::default());
        let query = Query {
            from: Some("outside".into()),
            to_gateway: Some("default/gw:443".parse().unwrap()),
            ..Query::get("https://a.example/").unwrap()
        };
        let trace = Tracer::new(Arc::new(mesh)).trace(&query).unwrap();
        let texts: Vec<String> = trace.assumptions.into_iter().map(|own| own.text).collect();
        texts.into_iter().filter(|text| text.contains("not translated")).collect::<Vec<String>>()
    };
    assert_eq!(
        assumed("      caCrl: /etc/crl.pem\n"),
        [
            "Gateway default/gw spec.servers[0].tls.caCrl (m.yaml:23) is not translated: taken to change nothing here"
        ]
    );
    assert_eq!(assumed(""), Vec::<String>::new());
}

#[test]
fn what_is_translated_or_belongs_to_another_host_assumes_nothing() {
    let exact = (Vec::new(), Fidelity::Exact);
    assert_eq!(assumed("", ""), exact);
    let translated = destination_rule("  trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}\n");
    assert_eq!(assumed(&translated, ""), exact);
}

#[test]
fn an_authority_that_no_manifest_shows_is_named_where_its_policy_holds() {
    let policy = |target: &str, validation: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: b}}\n\
             spec: {{targetRefs: [{{group: '', kind: Service, name: {target}}}], validation: {{hostname: a.example, \
             {validation}}}}}\n"
        )
    };
    let missing = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";
    let (texts, fidelity) = assumed(&policy("web", missing), "");
    assert_eq!(texts, ["there is no ConfigMap default/ca, as no manifest shows it"]);
    assert_eq!(fidelity, Fidelity::Assumed);
    assert_eq!(assumed(&policy("other", missing), ""), (Vec::new(), Fidelity::Exact));
    let of_system = policy("web", "wellKnownCACertificates: System");
    assert_eq!(assumed(&of_system, ""), (Vec::new(), Fidelity::Exact));
}

#[test]
fn a_mesh_configuration_that_is_not_translated_is_named_wherever_a_proxy_decides() {
    let (texts, _) = assumed("", "localityLbSetting: {enabled: true}\nzoneAwareLbSetting: {}");
    assert_eq!(texts, ["MeshConfig zoneAwareLbSetting is not translated: taken to change nothing"]);
}

#[test]
fn mesh_networks_are_named_where_there_are_any() {
    let map = |networks: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data: {{meshNetworks: '{networks}'}}\n"
        )
    };
    assert_eq!(assumed(&map("networks: {}"), "").0, Vec::<String>::new());
    let (texts, _) = assumed(&map("networks: {n2: {gateways: [{address: 1.1.1.1, port: 443}]}}"), "");
    assert_eq!(texts, ["ConfigMap istio data.meshNetworks is not translated: taken to change nothing"]);
}
