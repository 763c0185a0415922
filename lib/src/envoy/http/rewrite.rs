//! How do host and path change on the way to the upstream?
//!
//! Envoy: `config_impl.cc: RouteEntryImplBase::finalizeRequestHeaders, finalizePathHeader`. Measured with Envoy 1.40 (`envoy-semantics`, path
//! rewrite, host rewrite). Invariant: the query is never touched by a match, only carried along.

use smol_str::{SmolStr, format_smolstr};

use crate::envoy::config::{HostRewrite, PathSpecifier, RegexRewrite, RouteAction, RouteMatch};
use crate::envoy::headers::{self, Hand, literal};
use crate::envoy::ledger::{By, Ledger};
use crate::envoy::path;
use crate::envoy::request::HttpRequest;
use crate::origin::Origin;

/// Rewrites the host as a route says.
pub(crate) fn host(
    request: &mut HttpRequest,
    ledger: &mut Ledger,
    action: &RouteAction,
    debug_headers: bool,
    origin: &Origin,
) {
    let new = match &action.host_rewrite {
        // The name of the endpoint is known only once it is chosen.
        HostRewrite::None | HostRewrite::Auto => return,
        HostRewrite::Literal(text) => text.clone(),
        HostRewrite::Header(name) => match headers::get(&request.headers, name) {
            Some(value) if !value.is_empty() => value.clone(),
            _ => return,
        },
        HostRewrite::PathRegex(regex) => regex.apply(path::split_query(&request.path).0).into(),
    };
    set_host(request, ledger, new, action.append_x_forwarded_host, debug_headers, origin);
}

/// Replaces the host and keeps the old one in headers. Envoy: `http/utility.cc: Utility::updateAuthority`.
pub(crate) fn set_host(
    request: &mut HttpRequest,
    ledger: &mut Ledger,
    new: SmolStr,
    append_x_forwarded_host: bool,
    debug_headers: bool,
    origin: &Origin,
) {
    let hand = Hand { by: By::Istio, origin };
    let old = request.authority.clone();
    if debug_headers {
        headers::set(&mut request.headers, ledger, "x-envoy-original-host", literal(old.clone()), hand);
    }
    if append_x_forwarded_host && !old.is_empty() {
        let last = headers::get(&request.headers, "x-forwarded-host")
            .and_then(|list| list.rsplit(',').next().map(SmolStr::new));
        if last.as_ref() != Some(&old) {
            let name = SmolStr::new_static("x-forwarded-host");
            headers::append(&mut request.headers, ledger, &name, literal(old.clone()), hand);
        }
    }
    headers::note_pseudo(ledger, "host", &old, &new, hand);
    request.authority = new;
}

/// Rewrites the path as a route says.
pub(crate) fn path(
    request: &mut HttpRequest,
    ledger: &mut Ledger,
    conditions: &RouteMatch,
    action: &RouteAction,
    debug_headers: bool,
    origin: &Origin,
) {
    let new = if let Some(prefix) = &action.prefix_rewrite {
        replace_prefix(&request.path, conditions, prefix)
    } else if let Some(regex) = &action.regex_rewrite {
        replace_regex(&request.path, regex)
    } else {
        return;
    };
    let hand = Hand { by: By::Istio, origin };
    if debug_headers {
        let old = literal(request.path.clone());
        headers::set(&mut request.headers, ledger, "x-envoy-original-path", old, hand);
    }
    headers::note_pseudo(ledger, ":path", &request.path, &new, hand);
    request.path = new;
}

/// A path with the matched part replaced: the prefix, or all of it where the match is on all of it.
pub(crate) fn replace_prefix(path: &str, conditions: &RouteMatch, new: &str) -> SmolStr {
    let matched = match &conditions.path {
        PathSpecifier::Prefix(text) | PathSpecifier::PathSeparatedPrefix(text) => text.len(),
        PathSpecifier::Path(_) | PathSpecifier::SafeRegex(_) => path::split_query(path).0.len(),
    };
    let rest = path.get(matched..).unwrap_or_default();
    format_smolstr!("{new}{rest}")
}

/// A path with every match of an expression replaced.
pub(crate) fn replace_regex(path: &str, regex: &RegexRewrite) -> SmolStr {
    let (path, query) = path::split_query(path);
    format_smolstr!("{}{query}", regex.apply(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(path: PathSpecifier) -> RouteMatch {
        RouteMatch {
            path,
            case_sensitive: true,
            headers: Vec::new(),
            query_parameters: Vec::new(),
            dynamic_metadata: Vec::new(),
            origins: Vec::new(),
        }
    }

    #[test]
    fn a_prefix_is_replaced_as_text() {
        for (prefix, new, sent, expected) in [
            ("/b", "/", "/b", "/"),
            ("/b", "/", "/b/c", "//c"),
            ("/b", "/", "/b?q", "/?q"),
            ("/a/", "/", "/a/b", "/b"),
            ("/c", "/x", "/cz", "/xz"),
            ("/q1", "/n?k=v", "/q1?a=b", "/n?k=v?a=b"),
        ] {
            let conditions = conditions(PathSpecifier::Prefix(prefix.into()));
            assert_eq!(replace_prefix(sent, &conditions, new), expected, "{sent}");
        }
        let whole = conditions(PathSpecifier::Path("/e".into()));
        assert_eq!(replace_prefix("/e?x=1", &whole, "/f"), "/f?x=1");
    }

    #[test]
    fn every_match_is_replaced_and_the_query_is_left_alone() {
        let regex = RegexRewrite::new("a(.)", r"<\1\\\0>");
        assert_eq!(replace_regex("/abac?ab", &regex), r"/<b\ab><c\ac>?ab");
    }

    /// Measured with Envoy 1.40.
    #[test]
    fn a_rewritten_host_is_told_as_the_original_before_it_is_told_as_the_forwarded_one() {
        let mut request = HttpRequest {
            method: "GET".into(),
            path: "/".into(),
            authority: "a.test".into(),
            scheme: None,
            headers: Vec::new(),
            no_host: false,
            body: crate::envoy::request::Body::Declared,
        };
        let origin = Origin::default("a test");
        set_host(&mut request, &mut Ledger::default(), "b.test".into(), true, true, &origin);
        let lines: Vec<String> =
            request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(lines, ["x-envoy-original-host: a.test", "x-forwarded-host: a.test"]);
    }
}
