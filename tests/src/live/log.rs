//! What did Envoy's access log say?

use std::path::Path;

use serde::{Deserialize, Deserializer};

/// One line; `-` and absent are empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The client's own address and port.
    #[serde(deserialize_with = "text")]
    pub peer: String,
    /// The number of the connection; later ones have higher numbers.
    pub connection: u64,
    /// The listener.
    #[serde(deserialize_with = "text")]
    pub listener: String,
    /// The filter chain.
    #[serde(deserialize_with = "text")]
    pub filter_chain: String,
    /// The route configuration.
    #[serde(deserialize_with = "text")]
    pub route_config: String,
    /// The virtual host.
    #[serde(deserialize_with = "text")]
    pub virtual_host: String,
    /// The place of the route in its virtual host.
    #[serde(deserialize_with = "text")]
    pub route_index: String,
    /// The route's name.
    #[serde(deserialize_with = "text")]
    pub route: String,
    /// The cluster.
    #[serde(deserialize_with = "text")]
    pub cluster: String,
    /// The status.
    #[serde(deserialize_with = "text")]
    pub status: String,
    /// The response flags.
    #[serde(deserialize_with = "text")]
    pub flags: String,
    /// The response code details.
    #[serde(deserialize_with = "text")]
    pub details: String,
    /// How many tries were made to reach the upstream.
    #[serde(deserialize_with = "text")]
    pub attempts: String,
    /// Why a client's TLS failed.
    #[serde(deserialize_with = "text")]
    pub tls_failure: String,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) if text != "-" => text,
        serde_json::Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

impl Line {
    /// The port of the client's side of the connection.
    pub fn port(&self) -> Option<u16> {
        self.peer.rsplit(':').next()?.parse().ok()
    }
}

/// All lines of a log; a file that is not there has none.
pub fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
