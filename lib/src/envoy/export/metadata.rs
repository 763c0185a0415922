//! What the configuration says of itself.

use serde_json::{Map, Value, json};

use super::json::Object;
use crate::envoy::config::{ClusterMetadata, ConfigInfo};

/// The part of the metadata that is Istio's. istiod: `networking/util/util.go: IstioMetadataKey`.
const ISTIO: &str = "istio";

/// Sets `metadata`, where there is any.
pub(super) fn set(out: &mut Object, parts: Map<String, Value>) {
    if !parts.is_empty() {
        out.set("metadata", json!({"filter_metadata": parts}));
    }
}

/// The metadata of what was made of one resource.
pub(super) fn of_config(config: Option<&ConfigInfo>) -> Map<String, Value> {
    let note = config.map(|info| (ISTIO.to_owned(), json!({"config": info.to_string()})));
    note.into_iter().collect()
}

/// The metadata of a cluster.
pub(super) fn of_cluster(metadata: &ClusterMetadata) -> Map<String, Value> {
    let mut notes = Object::new();
    notes.set_some("config", metadata.config.as_ref().map(ToString::to_string));
    notes.set_nonempty("subset", metadata.subset.as_str());
    let services: Vec<Value> = metadata
        .services
        .iter()
        .map(|service| json!({"host": service.host, "name": service.name, "namespace": service.namespace}))
        .collect();
    notes.set_nonempty("services", services);
    notes.set_some("alpn_override", metadata.alpn_override.then_some("false"));
    notes.set_nonempty("external", metadata.external);
    let mut out = Map::new();
    if !notes.is_empty() {
        out.insert(ISTIO.to_owned(), notes.into());
    }
    out
}
