//! Where a mesh configuration comes from: a file that is named as one, the ConfigMap of istiod, and what is said about it.

use dryroute::diagnostic::Place;
use dryroute::manifest::Loader;
use dryroute::manifest::schema::istio::OutboundTrafficPolicyMode;
use dryroute::mesh::{Mesh, MeshOptions};

fn mesh(loader: Loader) -> Mesh {
    Mesh::new(loader.load(), MeshOptions::default())
}

/// Message and place of everything that is said.
fn said(mesh: &Mesh) -> Vec<String> {
    let place = |place: &Place| match place {
        Place::Position(at) => format!("{}:{}:{}", at.file, at.line, at.column),
        Place::Origin(origin) => format!("{origin:?}"),
    };
    mesh.diagnostics()
        .map(|own| format!("{} {}", own.labels.first().map_or(String::new(), |l| place(&l.at)), own.message))
        .collect()
}

#[test]
fn a_file_that_is_named_may_wrap_the_configuration_as_helm_and_istio_do() {
    let policy = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
    for text in [
        policy.to_owned(),
        format!("meshConfig:\n  {policy}\npilot: {{}}\n"),
        format!("istiod:\n  meshConfig:\n    {policy}\n"),
        format!(
            "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  meshConfig:\n    {policy}\n"
        ),
        format!(
            "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {{values: {{meshConfig: {{{policy}}}}}}}\n"
        ),
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio-1-32, namespace: istio-system}}\ndata:\n  \
             mesh: |\n    {policy}\n  meshNetworks: 'networks: {{}}'\n"
        ),
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: istio}}\n  \
             data:\n    mesh: '{policy}'\n"
        ),
    ] {
        let mesh = mesh(Loader::new().mesh_config("values.yaml", text.clone()).unwrap());
        let mode = mesh.config().outbound_traffic_policy.mode;
        assert_eq!((mode, said(&mesh)), (OutboundTrafficPolicyMode::RegistryOnly, Vec::new()), "{text}");
    }
}

#[test]
fn a_file_without_a_configuration_is_an_error_that_says_where() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    for (text, error) in [
        (namespace, "m.yaml: no mesh configuration"),
        ("replicas: 2\nimage: nginx\n", "m.yaml: no mesh configuration"),
        ("", "m.yaml: no mesh configuration"),
        ("a: [b\n", "m.yaml:2:1: no mesh configuration"),
        ("meshConfig:\n  outboundTrafficPolicy: {mode: NEVER}\n", "m.yaml:2:33: no mesh configuration"),
    ] {
        let found = Loader::new().mesh_config("m.yaml", text).unwrap_err().to_string();
        assert!(found.starts_with(error), "{text}: {found}");
    }
}

#[test]
fn a_field_that_is_not_known_is_named_where_it_is_written() {
    let loader = Loader::new().mesh_config("m.yaml", "meshConfig:\n  trustDomian: a\n").unwrap();
    assert_eq!(said(&mesh(loader)), ["m.yaml:2:3 MeshConfig has no field trustDomian"]);
    let map = "# istiod's\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  \
               mesh: |-  # as text\n\n      accessLogFile: x\n      defaultConfig:\n        tracin: {}\n";
    let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: a}}\n---\n{map}");
    assert_eq!(
        said(&mesh(Loader::new().text("all.yaml", text))),
        ["all.yaml:14:9 MeshConfig has no field defaultConfig.tracin"]
    );
    let json = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
 "data": {"mesh": "a: 1\nb: 2\n"}}"#;
    let found = said(&mesh(Loader::new().text("all.json", json)));
    assert_eq!(found[0], "all.json:2:11 MeshConfig has no field a");
}
