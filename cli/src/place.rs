//! How is a place shown?

use dryroute::diagnostic::Location;
use dryroute::mesh::Mesh;
use dryroute::origin::Origin;
use serde_json::{Value, json};

/// `file:line`.
pub(crate) fn line(location: &Location) -> String {
    format!("{}:{}", location.file, location.line)
}

/// `file:line:column`.
pub(crate) fn column(location: &Location) -> String {
    format!("{}:{}:{}", location.file, location.line, location.column)
}

/// Who made something, and where: `VirtualService default/x spec.http[0] (file:line:column)`, or the default that did.
pub(crate) fn full(mesh: &Mesh, origin: &Origin) -> String {
    match origin {
        Origin::Default(rule) => format!("Istio default: {rule}"),
        Origin::Field { resource, path } => {
            let name = mesh.manifests().describe(*resource);
            let gap = if path.is_empty() { "" } else { " " };
            let at =
                mesh.manifests().locate(origin).map(|l| format!(" ({})", column(&l))).unwrap_or_default();
            format!("{name}{gap}{path}{at}")
        }
    }
}

/// The same as JSON, in the form that traces have.
pub(crate) fn as_json(mesh: &Mesh, origin: &Origin) -> Value {
    match origin {
        Origin::Default(rule) => json!({ "default": rule }),
        Origin::Field { resource, path } => {
            let mut out = json!({ "resource": mesh.manifests().describe(*resource), "field": path });
            if let (Some(at), Some(map)) = (mesh.manifests().locate(origin), out.as_object_mut()) {
                map.insert("file".into(), json!(at.file));
                map.insert("line".into(), json!(at.line));
                map.insert("column".into(), json!(at.column));
            }
            out
        }
    }
}
