//! How does a proxy clean paths and header names before it looks at them?
//!
//! MeshConfig's path normalization, overridden by the proxy's own connection settings; gateways with the profile `EDGE`
//! are strict where nothing else is written. istiod: `connection_settings.go: applyEdgeProfileDefaults,
//! applyConnectionSettingsToHCM`.

use std::time::Duration;

use super::node::NodeType;
use crate::envoy::config::{ConnectionLimits, EscapedSlashes};
use crate::manifest::schema::mesh_config::{
    ConnectionProfile, ConnectionSettings, HeadersWithUnderscoresAction, NormalizationType,
    PathWithEscapedSlashesAction,
};
use crate::manifest::schema::scalar;

/// What happens to paths and header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sanitation {
    /// Whether paths are normalised by RFC 3986.
    pub normalize_path: bool,
    /// Whether `//` becomes `/`.
    pub merge_slashes: bool,
    /// What happens to `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
    /// What happens to headers with an underscore in their name.
    pub underscores: HeadersWithUnderscoresAction,
}

impl Sanitation {
    /// What a proxy of a kind does.
    pub fn new(
        normalization: NormalizationType,
        settings: Option<&ConnectionSettings>,
        node_type: NodeType,
    ) -> Self {
        let (normalize_path, merge_slashes, escaped_slashes) = match normalization {
            NormalizationType::None => (false, false, EscapedSlashes::KeepUnchanged),
            NormalizationType::Default | NormalizationType::Base => {
                (true, false, EscapedSlashes::KeepUnchanged)
            }
            NormalizationType::MergeSlashes => (true, true, EscapedSlashes::KeepUnchanged),
            NormalizationType::DecodeAndMergeSlashes => (true, true, EscapedSlashes::UnescapeAndForward),
        };
        let mut out = Self {
            normalize_path,
            merge_slashes,
            escaped_slashes,
            underscores: HeadersWithUnderscoresAction::Allow,
        };
        let Some(settings) = settings else { return out };
        if settings.profile == ConnectionProfile::Edge && node_type == NodeType::Router {
            out.merge_slashes = true;
            out.escaped_slashes = EscapedSlashes::UnescapeAndRedirect;
            out.underscores = HeadersWithUnderscoresAction::RejectRequest;
        }
        if let Some(merge) = settings.http_merge_slashes {
            out.merge_slashes = merge;
        }
        match settings.http_path_with_escaped_slashes_action {
            PathWithEscapedSlashesAction::Unspecified => {}
            PathWithEscapedSlashesAction::KeepUnchanged => {
                out.escaped_slashes = EscapedSlashes::KeepUnchanged;
            }
            PathWithEscapedSlashesAction::RejectRequest => {
                out.escaped_slashes = EscapedSlashes::RejectRequest;
            }
            PathWithEscapedSlashesAction::UnescapeAndRedirect => {
                out.escaped_slashes = EscapedSlashes::UnescapeAndRedirect;
            }
            PathWithEscapedSlashesAction::UnescapeAndForward => {
                out.escaped_slashes = EscapedSlashes::UnescapeAndForward;
            }
        }
        if settings.http_headers_with_underscores_action != HeadersWithUnderscoresAction::Unspecified {
            out.underscores = settings.http_headers_with_underscores_action;
        }
        out
    }
}

/// The limits that settings write, and those of gateways at the edge where nothing is written; `None` where there are none.
pub fn limits(settings: &ConnectionSettings, node_type: NodeType) -> Option<ConnectionLimits> {
    let edge = settings.profile == ConnectionProfile::Edge && node_type == NodeType::Router;
    let time = |written: Option<scalar::Duration>, default: Option<u64>| {
        let default = default.filter(|_| edge).map(Duration::from_secs);
        written.map(scalar::Duration::to_std).or(default)
    };
    let size = |written: Option<i32>, default: u32| match written {
        // A negative number is none.
        Some(written) => u32::try_from(written).ok(),
        None => edge.then_some(default),
    };
    let out = ConnectionLimits {
        idle_timeout: time(settings.http_idle_timeout, Some(3600)),
        max_connection_duration: time(settings.http_max_connection_duration, None),
        max_stream_duration: time(settings.http_max_stream_duration, None),
        stream_idle_timeout: time(settings.http_stream_idle_timeout, Some(300)),
        request_timeout: time(settings.http_request_timeout, Some(300)),
        request_headers_timeout: time(settings.http_request_headers_timeout, Some(60)),
        drain_timeout: time(settings.http_drain_timeout, None),
        max_concurrent_streams: size(settings.http_max_concurrent_streams, 100),
        initial_stream_window_size: size(settings.http2_initial_stream_window_size, 1 << 16),
        initial_connection_window_size: size(settings.http2_initial_connection_window_size, 1 << 20),
        per_connection_buffer_limit_bytes: size(settings.listener_per_connection_buffer_limit_bytes, 1 << 15)
            .filter(|_| node_type == NodeType::Router),
    };
    (out != ConnectionLimits::default()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_profile_is_strict_at_gateways_where_nothing_else_is_written() {
        let edge = ConnectionSettings { profile: ConnectionProfile::Edge, ..ConnectionSettings::default() };
        let at = |settings: &ConnectionSettings, node_type| {
            Sanitation::new(NormalizationType::Base, Some(settings), node_type)
        };
        let plain = Sanitation::new(NormalizationType::Base, None, NodeType::Router);
        assert_eq!(at(&edge, NodeType::Sidecar), plain);
        let strict = at(&edge, NodeType::Router);
        assert!(strict.merge_slashes);
        assert_eq!(strict.escaped_slashes, EscapedSlashes::UnescapeAndRedirect);
        assert_eq!(strict.underscores, HeadersWithUnderscoresAction::RejectRequest);
        let written = ConnectionSettings { http_merge_slashes: Some(false), ..edge };
        assert!(!at(&written, NodeType::Router).merge_slashes);
    }

    #[test]
    fn gateways_at_the_edge_have_limits_where_nothing_is_written() {
        let plain = ConnectionSettings::default();
        assert_eq!(limits(&plain, NodeType::Router), None);
        let edge = ConnectionSettings {
            profile: ConnectionProfile::Edge,
            http_idle_timeout: Some(scalar::Duration(5_000_000_000)),
            http_max_concurrent_streams: Some(-1),
            ..plain
        };
        let sidecar = limits(&edge, NodeType::Sidecar).unwrap();
        assert_eq!((sidecar.idle_timeout, sidecar.request_timeout), (Some(Duration::from_secs(5)), None));
        let gateway = limits(&edge, NodeType::Router).unwrap();
        assert_eq!(gateway.idle_timeout, Some(Duration::from_secs(5)));
        assert_eq!(gateway.request_timeout, Some(Duration::from_secs(300)));
        assert_eq!(gateway.per_connection_buffer_limit_bytes, Some(32_768));
        assert_eq!(gateway.max_concurrent_streams, None);
    }
}
