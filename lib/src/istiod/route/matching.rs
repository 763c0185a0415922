//! Which conditions does a `match` block of a VirtualService become?
//!
//! Invariant: header matchers are sorted by name, method, authority and scheme follow.
//! istiod: `route.go: TranslateRouteMatch, sourceMatchHTTP, IsCatchAllRoute`.

use smol_str::SmolStr;

use super::{ProxyIdentity, Semantics};
use crate::envoy::config::{
    HeaderMatcher, MetadataMatcher, PathSpecifier, QueryParameterMatcher, RouteMatch, SafeRegex,
    StringMatcher,
};
use crate::manifest::schema::istio::{HttpMatchRequest, StringMatch};
use crate::origin::Origin;

/// The filter whose metadata holds the claims of a validated token.
const JWT_FILTER: SmolStr = SmolStr::new_static("envoy.filters.http.jwt_authn");
/// The pseudo-header that stands for such a claim in a VirtualService.
const CLAIM_PREFIX: &str = "@request.auth.claims";

/// Whether a match block can apply to this proxy at all: gateways, else source labels and namespace.
pub fn source_match(
    condition: &HttpMatchRequest,
    proxy: &ProxyIdentity<'_>,
    is_gateway: &dyn Fn(&str) -> bool,
) -> bool {
    if !condition.gateways.is_empty() {
        // With gateways the source conditions are not looked at.
        return condition.gateways.iter().any(|gateway| is_gateway(gateway));
    }
    condition.source_labels.iter().all(|(k, v)| proxy.labels.get(k) == Some(v))
        && (condition.source_namespace.is_empty() || condition.source_namespace == proxy.namespace)
}

/// The match of a rule without conditions, and of Istio's own routes.
pub fn match_all() -> RouteMatch {
    RouteMatch {
        path: PathSpecifier::Prefix(SmolStr::new_static("/")),
        case_sensitive: true,
        headers: Vec::new(),
        query_parameters: Vec::new(),
        dynamic_metadata: Vec::new(),
        origins: Vec::new(),
    }
}

/// Translates a match block written at `origin`.
pub fn translate_route_match(
    condition: &HttpMatchRequest,
    semantics: Semantics,
    origin: &Origin,
) -> RouteMatch {
    let mut out = match_all();
    out.case_sensitive = !condition.ignore_uri_case;
    let mut path_origin = origin.clone();
    if let Some(uri) = &condition.uri {
        // The resource of a Gateway API route has another name for it.
        path_origin = origin.part(if semantics == Semantics::GatewayApi { "path" } else { "uri" });
        match uri {
            StringMatch::Exact(path) => out.path = PathSpecifier::Path(path.clone()),
            StringMatch::Prefix(prefix) if semantics.separates_segments() && prefix != "/" => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                out.path = PathSpecifier::PathSeparatedPrefix(prefix.into());
            }
            StringMatch::Prefix(prefix) => out.path = PathSpecifier::Prefix(prefix.clone()),
            StringMatch::Regex(regex) => out.path = PathSpecifier::SafeRegex(safe_regex(regex)),
            StringMatch::Unset => {}
        }
    }

    let mut headers: Vec<(HeaderMatcher, Origin)> = Vec::new();
    let mut metadata: Vec<(MetadataMatcher, Origin)> = Vec::new();
    for (name, condition) in &condition.headers {
        let at = origin.part("headers").part(name);
        let condition = condition.as_ref().unwrap_or(&StringMatch::Unset);
        match metadata_matcher(name, condition) {
            Some(matcher) => metadata.push((matcher, at)),
            None => headers.push((header_matcher(name, condition), at)),
        }
    }
    for (name, condition) in &condition.without_headers {
        let at = origin.part("withoutHeaders").part(name);
        let condition = condition.as_ref().unwrap_or(&StringMatch::Unset);
        match metadata_matcher(name, condition) {
            Some(mut matcher) => {
                matcher.invert = true;
                metadata.push((matcher, at));
            }
            None => {
                let mut matcher = header_matcher(name, condition);
                matcher.invert_match = true;
                matcher.treat_missing_header_as_empty = !is_presence(condition);
                headers.push((matcher, at));
            }
        }
    }
    headers.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    for (name, field, condition) in [
        (":method", "method", &condition.method),
        (":authority", "authority", &condition.authority),
        (":scheme", "scheme", &condition.scheme),
    ] {
        if let Some(condition) = condition {
            headers.push((header_matcher(name, condition), origin.part(field)));
        }
    }

    out.origins.push(path_origin);
    for (matcher, at) in headers {
        out.headers.push(matcher);
        out.origins.push(at);
    }
    for (name, condition) in &condition.query_params {
        let matcher = condition.as_ref().filter(|condition| !is_presence(condition)).and_then(string_matcher);
        out.query_parameters.push(QueryParameterMatcher { name: name.clone(), matcher });
        out.origins.push(origin.part("queryParams").part(name));
    }
    for (matcher, at) in metadata {
        out.dynamic_metadata.push(matcher);
        out.origins.push(at);
    }
    out
}

/// Whether everything matches, so that no later route is ever reached.
pub fn is_catch_all(condition: &RouteMatch) -> bool {
    let path = match &condition.path {
        PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix) => prefix == "/",
        PathSpecifier::SafeRegex(regex) => regex.pattern() == ".*",
        PathSpecifier::Path(_) => false,
    };
    path && condition.headers.is_empty()
        && condition.query_parameters.is_empty()
        && condition.dynamic_metadata.is_empty()
}

/// The comparison that a `StringMatch` asks for. istiod: `util.go: ConvertToEnvoyMatch`.
pub fn string_matcher(condition: &StringMatch) -> Option<StringMatcher> {
    match condition {
        StringMatch::Exact(text) => Some(StringMatcher::Exact(text.clone())),
        StringMatch::Prefix(text) => Some(StringMatcher::Prefix(text.clone())),
        StringMatch::Regex(text) => Some(StringMatcher::SafeRegex(safe_regex(text))),
        StringMatch::Unset => None,
    }
}

/// Whether only presence is asked for. istiod: `route.go: canBeConvertedToPresentMatch`.
fn is_presence(condition: &StringMatch) -> bool {
    match condition {
        StringMatch::Unset => true,
        StringMatch::Regex(regex) => regex == "*",
        StringMatch::Exact(_) | StringMatch::Prefix(_) => false,
    }
}

fn header_matcher(name: &str, condition: &StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_ascii_lowercase().into(),
        matcher: if is_presence(condition) { None } else { string_matcher(condition) },
        invert_match: false,
        treat_missing_header_as_empty: false,
    }
}

/// Whether a header's name stands for a claim of a token.
pub(super) fn is_claim(name: &str) -> bool {
    metadata_matcher(name, &StringMatch::Unset).is_some()
}

/// The metadata matcher for `@request.auth.claims…`. istiod: `jwt/routing.go: ToRoutingClaim`.
fn metadata_matcher(name: &str, condition: &StringMatch) -> Option<MetadataMatcher> {
    let (prefix, rest) = name.split_at_checked(CLAIM_PREFIX.len())?;
    if !prefix.eq_ignore_ascii_case(CLAIM_PREFIX) {
        return None;
    }
    let claims: Vec<&str> = if let Some(claims) = rest.strip_prefix('.').filter(|claims| !claims.is_empty()) {
        claims.split('.').collect()
    } else {
        let claims = rest.strip_prefix('[')?.strip_suffix(']').filter(|claims| !claims.is_empty())?;
        claims.split("][").collect()
    };
    let path = std::iter::once("payload").chain(claims).map(SmolStr::new).collect();
    Some(MetadataMatcher {
        filter: JWT_FILTER,
        path,
        matcher: string_matcher(condition),
        or_list: true,
        invert: false,
    })
}

/// The expression; one that RE2 would refuse matches nothing (Istio's validation refuses its resource before).
fn safe_regex(pattern: &str) -> SafeRegex {
    SafeRegex::new(pattern).unwrap_or_else(|_| SafeRegex::never(pattern))
}
