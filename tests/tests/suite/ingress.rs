//! Ingresses become the Gateways and VirtualServices that istiod makes of them.

use dryroute::manifest::schema::mesh_config::{IngressControllerMode, MeshConfig};
use dryroute::manifest::{Loader, ManifestSet};
use dryroute::mesh::{Mesh, MeshOptions};

use super::generated::describe;

fn load(text: &str) -> ManifestSet {
    Loader::new().text("ingress.yaml", text).load()
}

fn mesh(text: &str, mode: IngressControllerMode) -> Mesh {
    let options = MeshOptions {
        mesh_config: Some(MeshConfig { ingress_controller_mode: Some(mode), ..MeshConfig::default() }),
        cluster_domain: "mydomain".into(),
        resource_domain: "mydomain".into(),
        ..MeshOptions::default()
    };
    Mesh::new(load(text), options)
}

#[test]
fn ingresses_become_what_istiod_makes_of_them() {
    let Some(folder) = dryroute_tests::conformance("ingress-translation") else { return };
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let golden = entry.unwrap().path();
        if golden.extension().is_none_or(|e| e != "golden") {
            continue;
        }
        let given = std::fs::read_to_string(golden.with_extension("")).unwrap();
        let wanted = std::fs::read_to_string(&golden).unwrap();
        let given = mesh(&given, IngressControllerMode::Default);
        let wanted = mesh(&wanted, IngressControllerMode::Off);
        assert_eq!(describe(&given), describe(&wanted), "{}", golden.display());
        cases += 1;
    }
    assert!(cases >= 4, "only {cases} cases");
}

/// An Ingress with a class annotation, a class name, or neither.
fn classes(annotation: Option<&str>, name: Option<&str>, controller: Option<&str>) -> String {
    let annotations =
        annotation.map(|class| format!("  annotations: {{kubernetes.io/ingress.class: {class}}}\n"));
    let class_name = name.map(|name| format!("  ingressClassName: {name}\n"));
    let class = controller.map(|controller| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: c}}\nspec: \
             {{controller: {controller}}}\n"
        )
    });
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: i\n{}spec:\n{}  rules:\n  - host: a.b\n    \
         http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: s, port: {{number: 80}}}}}}}}]}}\n{}",
        annotations.unwrap_or_default(),
        class_name.unwrap_or_default(),
        class.unwrap_or_default()
    )
}

#[test]
fn an_ingress_is_taken_by_annotation_then_by_class_then_by_mode() {
    use IngressControllerMode::{Default, Off, Strict};
    let istio = "istio.io/ingress-controller";
    let cases = [
        (classes(Some("istio"), None, None), [true, true, false]),
        (classes(Some("nginx"), None, None), [false, false, false]),
        (classes(None, Some("c"), Some(istio)), [true, true, false]),
        (classes(None, Some("c"), Some("k8s.io/nginx")), [false, false, false]),
        (classes(None, Some("c"), None), [false, true, false]),
        (classes(None, None, None), [false, true, false]),
        (classes(Some("nginx"), Some("c"), Some(istio)), [false, false, false]),
    ];
    for (text, expected) in cases {
        let taken = [Strict, Default, Off].map(|mode| !mesh(&text, mode).gateways().is_empty());
        assert_eq!(taken, expected, "{text}");
    }
}
