//! What does an Envoy that discovers an exported configuration say it was told?
//!
//! Listeners, clusters, route configurations and endpoints lie in files that Envoy watches (`path_config_source`), in
//! place of istiod's stream; `/config_dump` then shows how Envoy itself writes them.

use std::path::Path;

use dryroute::envoy::export::{Document, Loopback, Snapshot, export};
use serde_json::{Value, json};

use super::Binary;
use super::process::{Process, Scratch};

/// What `/config_dump?include_eds` answers after an Envoy has discovered what is exported, and what the export says it would.
#[derive(Clone, Debug, PartialEq)]
pub struct Dumps {
    /// Ours.
    pub exported: Value,
    /// Envoy's, less what depends on the run.
    pub dumped: Value,
}

/// Starts Envoy with an exported configuration in files, waits until it is warmed, and reads its dump.
///
/// # Errors
///
/// Envoy refuses the bootstrap, or does not come up.
pub fn discover(binary: &Binary, snapshot: &Snapshot, loopback: &dyn Loopback) -> Result<Dumps, String> {
    let scratch = Scratch::new().map_err(|e| e.to_string())?;
    let folder = Folder(scratch.path());
    let document = |document| export(snapshot, document, Some(loopback)).document;
    folder.write_each("rds", "name", &document(Document::Rds))?;
    folder.write_each("eds", "cluster_name", &document(Document::Eds))?;
    let mut listeners = document(Document::Lds);
    let mut clusters = document(Document::Cds);
    folder.point_to_files(&mut listeners);
    folder.point_to_files(&mut clusters);
    let bootstrap = json!({
        "node": {"id": snapshot.node_id, "cluster": snapshot.node_cluster},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "lds_config": folder.write("lds", &listeners)?,
            "cds_config": folder.write("cds", &clusters)?,
        },
    });
    let process = Process::start(binary, &bootstrap, scratch.path())?;
    let text = process.get("/config_dump?include_eds").map_err(|e| e.to_string())?;
    let mut dumped: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    process.quit();
    folder.point_to_stream(&mut dumped);
    let mut exported = document(Document::ConfigDump);
    for dump in [&mut exported, &mut dumped] {
        normalize(dump);
    }
    Ok(Dumps { exported, dumped })
}

/// The files that Envoy watches.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn source(&self, name: &str) -> Value {
        json!({
            "path_config_source": {"path": self.0.join(name).display().to_string()},
            "resource_api_version": "V3",
        })
    }

    /// Writes a discovery response; returns where Envoy finds it.
    fn write(&self, name: &str, response: &Value) -> Result<Value, String> {
        // Envoy tells the form of a file by its name.
        let name = format!("{name}.json");
        std::fs::write(self.0.join(&name), response.to_string()).map_err(|e| format!("{name}: {e}"))?;
        Ok(self.source(&name))
    }

    /// Writes a file for each resource: Envoy asks for these one by one, and takes a file for the whole answer.
    fn write_each(&self, kind: &str, key: &str, response: &Value) -> Result<(), String> {
        for resource in response["resources"].as_array().into_iter().flatten() {
            let mut one = response.clone();
            one["resources"] = json!([resource]);
            self.write(&file(kind, resource[key].as_str().unwrap_or_default()), &one)?;
        }
        Ok(())
    }

    /// Replaces istiod's stream by files.
    fn point_to_files(&self, value: &mut Value) {
        self.each_source(value, &|source, own| {
            if source.get("ads").is_some() {
                *source = own;
            }
        });
    }

    /// Replaces files by istiod's stream.
    fn point_to_stream(&self, value: &mut Value) {
        self.each_source(value, &|source, own| {
            if *source == own {
                *source = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
            }
        });
    }

    /// Calls `act` with every source of routes or endpoints in `value` and the file that stands for it.
    fn each_source(&self, value: &mut Value, act: &impl Fn(&mut Value, Value)) {
        let sources = [("config_source", "route_config_name", "rds"), ("eds_config", "service_name", "eds")];
        match value {
            Value::Object(fields) => {
                for (field, key, kind) in sources {
                    let own = fields
                        .get(key)
                        .and_then(Value::as_str)
                        .map(|name| self.source(&format!("{}.json", file(kind, name))));
                    if let (Some(source), Some(own)) = (fields.get_mut(field), own) {
                        act(source, own);
                    }
                }
                fields.values_mut().for_each(|inner| self.each_source(inner, act));
            }
            Value::Array(list) => list.iter_mut().for_each(|inner| self.each_source(inner, act)),
            _ => {}
        }
    }
}

/// The name of a resource's file, without its ending.
fn file(kind: &str, name: &str) -> String {
    format!("{kind}-{}", name.replace(['/', ':', '|'], "_"))
}

/// Takes out what an export cannot know or does not claim.
fn normalize(dump: &mut Value) {
    let Some(configs) = dump["configs"].as_array_mut() else { return };
    // The bootstrap is the test's own, and secrets and scoped routes are none of an export's.
    configs.retain(|config| {
        ["Clusters", "Endpoints", "Listeners", "Routes"]
            .iter()
            .any(|kind| config["@type"] == format!("type.googleapis.com/envoy.admin.v3.{kind}ConfigDump"))
    });
    for config in configs {
        strip(config);
        // Envoy lists these in the order of a hash map.
        for list in config.as_object_mut().into_iter().flat_map(|fields| fields.values_mut()) {
            if let Some(list) = list.as_array_mut() {
                list.sort_by_key(ToString::to_string);
            }
        }
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // When Envoy was told, by its clock.
            fields.remove("last_updated");
            // Envoy never shows where its private keys are.
            if let Some(key) = fields.get_mut("private_key") {
                *key = json!({"filename": "[redacted]"});
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The places in which two values differ, each with both.
pub fn differences(exported: &Value, dumped: &Value) -> Vec<String> {
    let mut out = Vec::new();
    compare("", exported, dumped, &mut out);
    out
}

fn compare(at: &str, exported: &Value, dumped: &Value, out: &mut Vec<String>) {
    match (exported, dumped) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let more = theirs.keys().filter(|key| !ours.contains_key(*key));
            for key in ours.keys().chain(more) {
                let side =
                    |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
                compare(&format!("{at}.{key}"), &side(ours), &side(theirs), out);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (our, their)) in ours.iter().zip(theirs).enumerate() {
                compare(&format!("{at}[{index}]"), our, their, out);
            }
        }
        _ if exported == dumped => {}
        _ => out.push(format!("{at}: exported {exported}, dumped {dumped}")),
    }
}
