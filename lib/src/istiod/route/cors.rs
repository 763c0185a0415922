//! Which CORS policy does a route get?
//!
//! istiod: `route.go: TranslateCORSPolicy`.

use smol_str::SmolStr;

use super::matching::string_matcher;
use crate::envoy::config::{self, StringMatcher};
use crate::manifest::schema::istio::{CorsPolicy, UnmatchedPreflights};
use crate::origin::Origin;

/// Translates a `corsPolicy` block written at `origin`.
pub fn translate_cors_policy(cors: &CorsPolicy, origin: Origin) -> config::CorsPolicy {
    let allow_origin_string_match = if cors.allow_origins.is_empty() {
        cors.allow_origin.iter().cloned().map(StringMatcher::Exact).collect()
    } else {
        cors.allow_origins.iter().filter_map(string_matcher).collect()
    };
    config::CorsPolicy {
        allow_origin_string_match,
        allow_methods: join(&cors.allow_methods),
        allow_headers: join(&cors.allow_headers),
        expose_headers: join(&cors.expose_headers),
        max_age: cors
            .max_age
            .map(|age| smol_str::format_smolstr!("{}", super::duration(age).as_secs()))
            .unwrap_or_default(),
        allow_credentials: cors.allow_credentials,
        forward_not_matching_preflights: cors.unmatched_preflights != UnmatchedPreflights::Ignore,
        origin,
    }
}

fn join(values: &[SmolStr]) -> SmolStr {
    values.join(",").into()
}
