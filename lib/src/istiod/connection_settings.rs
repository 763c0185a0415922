//! How does a proxy clean paths and header names before it looks at them?
//!
//! MeshConfig's path normalization, overridden by the proxy's own connection settings; gateways with the profile `EDGE`
//! are strict where nothing else is written. istiod: `connection_settings.go: applyEdgeProfileDefaults,
//! applyConnectionSettingsToHCM`.

use super::node::NodeType;
use crate::envoy::config::EscapedSlashes;
use crate::manifest::schema::mesh_config::{
    ConnectionProfile, ConnectionSettings, HeadersWithUnderscoresAction, NormalizationType,
    PathWithEscapedSlashesAction,
};

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
}
