//! What does a patch merge into an HTTP connection manager?
//!
//! Settings that are modelled, and settings that change no request's fate; a patch with anything else is none of these.
//! Invariant: what is read here is all that the patch says.
//! istiod: `envoyfilter/listener_patch.go: patchNetworkFilter`; `pkg/proto/merge`: a field at its default counts as absent,
//! so a switch that is off leaves one that is on as it is.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use smol_str::SmolStr;

use crate::envoy::config::{
    EscapedSlashes, ForwardClientCertDetails, HttpConnectionManager, ServerHeaderTransformation,
};
use crate::manifest::schema::istio::{EnvoyConfigPatch, PatchOperation};

/// The filter's name, which patches refer to.
pub(super) const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

const CONNECTION_MANAGER_TYPE: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// The largest head of a request, in KiB, that Envoy can be told to read.
const MOST_REQUEST_HEADERS_KB: u32 = 8192;

/// A network filter, as a patch writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    name: SmolStr,
    #[serde(alias = "typed_config")]
    typed_config: serde_json::Map<String, Value>,
}

/// What is merged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Settings {
    #[serde(alias = "use_remote_address")]
    use_remote_address: Option<bool>,
    #[serde(alias = "xff_num_trusted_hops")]
    xff_num_trusted_hops: Option<u32>,
    #[serde(alias = "skip_xff_append")]
    skip_xff_append: Option<bool>,
    #[serde(alias = "append_x_forwarded_port")]
    append_x_forwarded_port: Option<bool>,
    #[serde(alias = "normalize_path")]
    normalize_path: Option<bool>,
    #[serde(alias = "merge_slashes")]
    merge_slashes: Option<bool>,
    #[serde(alias = "path_with_escaped_slashes_action")]
    path_with_escaped_slashes_action: Option<EscapedSlashesAction>,
    #[serde(alias = "forward_client_cert_details")]
    forward_client_cert_details: Option<ClientCertDetails>,
    #[serde(alias = "set_current_client_cert_details")]
    set_current_client_cert_details: Option<ClientCertParts>,
    #[serde(alias = "server_name")]
    server_name: Option<SmolStr>,
    #[serde(alias = "server_header_transformation")]
    server_header_transformation: Option<ServerHeader>,
    #[serde(alias = "generate_request_id")]
    generate_request_id: Option<bool>,
    #[serde(alias = "preserve_external_request_id")]
    preserve_external_request_id: Option<bool>,
    #[serde(alias = "always_set_request_id_in_response")]
    always_set_request_id_in_response: Option<bool>,
    #[serde(alias = "max_request_headers_kb")]
    max_request_headers_kb: Option<u32>,
    #[serde(alias = "http_protocol_options")]
    http_protocol_options: Option<Http1Options>,
    #[serde(alias = "common_http_protocol_options")]
    common_http_protocol_options: Option<CommonOptions>,
    #[serde(alias = "upgrade_configs")]
    upgrade_configs: Vec<UpgradeConfig>,
    // Statistics, logs, and time limits for clients that dawdle: no trace depends on them.
    #[serde(alias = "stat_prefix")]
    stat_prefix: Option<IgnoredAny>,
    #[serde(alias = "access_log")]
    access_log: Option<IgnoredAny>,
    #[serde(alias = "access_log_options")]
    access_log_options: Option<IgnoredAny>,
    #[serde(alias = "stream_idle_timeout")]
    stream_idle_timeout: Option<IgnoredAny>,
    #[serde(alias = "request_timeout")]
    request_timeout: Option<IgnoredAny>,
    #[serde(alias = "request_headers_timeout")]
    request_headers_timeout: Option<IgnoredAny>,
    #[serde(alias = "drain_timeout")]
    drain_timeout: Option<IgnoredAny>,
    #[serde(alias = "delayed_close_timeout")]
    delayed_close_timeout: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum EscapedSlashesAction {
    ImplementationSpecificDefault,
    KeepUnchanged,
    RejectRequest,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ClientCertDetails {
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ServerHeader {
    Overwrite,
    AppendIfAbsent,
    PassThrough,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClientCertParts {
    subject: bool,
    cert: bool,
    chain: bool,
    dns: bool,
    uri: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Http1Options {
    #[serde(alias = "accept_http_10")]
    accept_http_10: bool,
}

// The first value of each is the default, which counts as absent.

impl EscapedSlashesAction {
    fn written(self) -> Option<EscapedSlashes> {
        match self {
            Self::ImplementationSpecificDefault => None,
            Self::KeepUnchanged => Some(EscapedSlashes::KeepUnchanged),
            Self::RejectRequest => Some(EscapedSlashes::RejectRequest),
            Self::UnescapeAndRedirect => Some(EscapedSlashes::UnescapeAndRedirect),
            Self::UnescapeAndForward => Some(EscapedSlashes::UnescapeAndForward),
        }
    }
}

impl ClientCertDetails {
    fn written(self) -> Option<ForwardClientCertDetails> {
        match self {
            Self::Sanitize => None,
            Self::ForwardOnly => Some(ForwardClientCertDetails::ForwardOnly),
            Self::AppendForward => Some(ForwardClientCertDetails::AppendForward),
            Self::SanitizeSet => Some(ForwardClientCertDetails::SanitizeSet),
            Self::AlwaysForwardOnly => Some(ForwardClientCertDetails::AlwaysForwardOnly),
        }
    }
}

impl ServerHeader {
    fn written(self) -> Option<ServerHeaderTransformation> {
        match self {
            Self::Overwrite => None,
            Self::AppendIfAbsent => Some(ServerHeaderTransformation::AppendIfAbsent),
            Self::PassThrough => Some(ServerHeaderTransformation::PassThrough),
        }
    }
}

/// Limits on connections only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct CommonOptions {
    #[serde(alias = "idle_timeout")]
    idle_timeout: Option<IgnoredAny>,
    #[serde(alias = "max_connection_duration")]
    max_connection_duration: Option<IgnoredAny>,
    #[serde(alias = "max_requests_per_connection")]
    max_requests_per_connection: Option<IgnoredAny>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UpgradeConfig {
    #[serde(alias = "upgrade_type")]
    upgrade_type: SmolStr,
}

impl Settings {
    /// What a patch merges, if that is all that it does.
    pub(super) fn of(patch: &EnvoyConfigPatch) -> Option<Self> {
        let change = patch.patch.as_ref()?;
        // A merge that names no filter changes every filter of the chain.
        let filter = patch.match_.as_ref()?.listener.as_ref()?.filter_chain.as_ref()?.filter.as_ref()?;
        if change.operation != PatchOperation::Merge || filter.name != CONNECTION_MANAGER {
            return None;
        }
        Self::read(&change.value.as_ref()?.0)
    }

    fn read(value: &Value) -> Option<Self> {
        let Filter { name, mut typed_config } = Filter::deserialize(value).ok()?;
        let known = typed_config.remove("@type")? == CONNECTION_MANAGER_TYPE;
        if !known || !matches!(name.as_str(), "" | CONNECTION_MANAGER) {
            return None;
        }
        let settings = Self::deserialize(Value::Object(typed_config)).ok()?;
        let allowed = |size: u32| (1..=MOST_REQUEST_HEADERS_KB).contains(&size);
        let connect = |config: &UpgradeConfig| config.upgrade_type.eq_ignore_ascii_case("CONNECT");
        if !settings.max_request_headers_kb.is_none_or(allowed)
            || settings.upgrade_configs.iter().any(connect)
        {
            return None;
        }
        Some(settings)
    }

    /// Whether there is anything that a connection manager of the model does not keep.
    pub(super) fn is_partly_kept(&self) -> bool {
        let ignored = [
            self.stat_prefix,
            self.access_log,
            self.access_log_options,
            self.stream_idle_timeout,
            self.request_timeout,
            self.request_headers_timeout,
            self.drain_timeout,
            self.delayed_close_timeout,
        ];
        let limits = self.common_http_protocol_options.unwrap_or_default() != CommonOptions::default();
        limits || ignored.iter().any(Option::is_some)
    }

    /// Merges the settings into a connection manager.
    pub(super) fn apply(&self, manager: &mut HttpConnectionManager) {
        let turn_on = |switch: &mut bool, written: Option<bool>| *switch |= written.unwrap_or(false);
        turn_on(&mut manager.use_remote_address, self.use_remote_address);
        turn_on(&mut manager.skip_xff_append, self.skip_xff_append);
        turn_on(&mut manager.append_x_forwarded_port, self.append_x_forwarded_port);
        turn_on(&mut manager.normalize_path, self.normalize_path);
        turn_on(&mut manager.merge_slashes, self.merge_slashes);
        turn_on(&mut manager.preserve_external_request_id, self.preserve_external_request_id);
        turn_on(&mut manager.always_set_request_id_in_response, self.always_set_request_id_in_response);
        turn_on(
            &mut manager.accept_http_10,
            self.http_protocol_options.map(|options| options.accept_http_10),
        );
        // istiod does not write this switch unless it is off.
        manager.generate_request_id = self.generate_request_id.unwrap_or(manager.generate_request_id);
        if let Some(hops) = self.xff_num_trusted_hops.filter(|hops| *hops > 0) {
            manager.xff_num_trusted_hops = hops;
        }
        if let Some(size) = self.max_request_headers_kb {
            manager.max_request_headers_kb = size;
        }
        if let Some(name) = self.server_name.as_ref().filter(|name| !name.is_empty()) {
            manager.server_name = name.clone();
        }
        let action = self.path_with_escaped_slashes_action;
        if let Some(action) = action.and_then(EscapedSlashesAction::written) {
            manager.path_with_escaped_slashes_action = action;
        }
        if let Some(transformation) = self.server_header_transformation.and_then(ServerHeader::written) {
            manager.server_header_transformation = transformation;
        }
        self.apply_client_certificate(manager);
        for config in &self.upgrade_configs {
            manager.upgrade_types.push(config.upgrade_type.to_lowercase().into());
        }
    }

    fn apply_client_certificate(&self, manager: &mut HttpConnectionManager) {
        if let Some(details) = self.forward_client_cert_details.and_then(ClientCertDetails::written) {
            manager.forward_client_cert_details = details;
        }
        if let Some(parts) = self.set_current_client_cert_details {
            let own = &mut manager.set_current_client_cert_details;
            own.subject |= parts.subject;
            own.cert |= parts.cert;
            own.chain |= parts.chain;
            own.dns |= parts.dns;
            own.uri |= parts.uri;
        }
    }
}
