//! What a trace says about its input: about what took part, and about what is missing.

use std::sync::Arc;

use dryroute::manifest::Loader;
use dryroute::mesh::{Mesh, MeshOptions};
use dryroute::trace::{Query, Tracer};

const WORLD: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: {name: sleep}\nspec: {containers: [{name: app}]}\n---\n\
    apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}\n---\n";

fn virtual_service(name: &str, rule: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: [{name}]\n  http:\n  - {rule}\n"
    )
}

/// Code, resource, line, and whether it took part.
fn remarks(world: &str, mesh_config: Option<&str>) -> Vec<(String, String, u64, bool)> {
    let mut loader = Loader::new().text("m.yaml", world);
    if let Some(text) = mesh_config {
        loader = loader.mesh_config("mesh.yaml", text).unwrap();
    }
    let tracer = Tracer::new(Arc::new(Mesh::new(loader.load(), MeshOptions::default())));
    let mut query = Query::get("http://web/").unwrap();
    query.from = Some("sleep".into());
    let json = serde_json::to_value(tracer.trace(&query).unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = json["diagnostics"].as_array().unwrap().iter();
    all.map(|own| {
        let origin = &own["origin"];
        let line = origin["line"].as_u64().unwrap_or_default();
        (text(&own["code"]), text(&origin["resource"]), line, own["takes_part"].as_bool().unwrap())
    })
    .collect()
}

#[test]
fn a_field_that_is_not_known_is_named_and_first_that_of_the_rule_that_decides() {
    let world = format!(
        "{WORLD}{}---\n{}",
        virtual_service("other", "mach: []\n    directResponse: {status: 200}"),
        virtual_service("web", "mach: []\n    directResponse: {status: 418}"),
    );
    let of = |name: &str, line, part| {
        ("unknown-field".into(), format!("VirtualService default/{name}"), line, part)
    };
    assert_eq!(remarks(&world, None), [of("web", 30, true), of("other", 21, false)]);
}

#[test]
fn what_is_left_out_is_named_and_what_is_only_doubtful_elsewhere_is_not() {
    let world = format!(
        "{WORLD}{}---\n{}---\n{}",
        virtual_service("web", "retries: {attempts: many}"),
        virtual_service("other", "directResponse: {status: 200}"),
        virtual_service("other", "directResponse: {status: 201}"),
    );
    assert_eq!(remarks(&world, None), [("wrong-type".into(), String::new(), 21, false)]);
    let twice = virtual_service("web", "directResponse: {status: 200}");
    let found = remarks(&format!("{WORLD}{twice}---\n{twice}"), None);
    assert_eq!(found, [("duplicate-resource".into(), "VirtualService default/web".into(), 25, true)]);
}

#[test]
fn the_mesh_configuration_takes_part_in_every_trace() {
    let found = remarks(WORLD, Some("trustDomain: a\noutboundTraficPolicy: {}\n"));
    assert_eq!(found, [("unknown-field".into(), String::new(), 2, true)]);
}
