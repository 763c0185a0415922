//! Where does a redirect lead?
//!
//! Envoy: `config_impl.cc: RouteEntryImplBase::newUri, processRequestHost`. Measured with Envoy 1.40 (`envoy-semantics`, redirect).

use std::borrow::Cow;

use smol_str::{SmolStr, format_smolstr};

use super::rewrite;
use crate::envoy::config::{PathRedirect, RedirectAction, RouteMatch};
use crate::envoy::headers;
use crate::envoy::request::HttpRequest;

/// The `location` of a redirect.
pub(crate) fn location(action: &RedirectAction, conditions: &RouteMatch, request: &HttpRequest) -> SmolStr {
    let scheme = match &action.scheme_redirect {
        Some(scheme) => Cow::Owned(scheme.to_lowercase()),
        None if action.https_redirect => Cow::Borrowed("https"),
        None => Cow::Borrowed(request.scheme.as_deref().unwrap_or("http")),
    };
    let host = match &action.host_redirect {
        Some(host) if !host.is_empty() => host.as_str(),
        _ => request_host(request, &scheme, action.port_redirect.is_some()),
    };
    let path = match &action.path {
        PathRedirect::Path(path) if path.contains('?') => Cow::Borrowed(path.as_str()),
        PathRedirect::Path(path) => match request.path.find('?').and_then(|at| request.path.get(at..)) {
            Some(query) if !action.strip_query => Cow::Owned(format!("{path}{query}")),
            _ => Cow::Borrowed(path.as_str()),
        },
        PathRedirect::Keep => strip(Cow::Borrowed(&request.path), action.strip_query),
        PathRedirect::PrefixRewrite(prefix) => {
            let path = rewrite::replace_prefix(&request.path, conditions, prefix);
            strip(Cow::Owned(path.to_string()), action.strip_query)
        }
        PathRedirect::RegexRewrite(regex) => {
            let path = rewrite::replace_regex(&request.path, regex);
            strip(Cow::Owned(path.to_string()), action.strip_query)
        }
    };
    absolute(&scheme, host, action.port_redirect, &path)
}

/// An address whose path begins with a slash, whatever is written. Envoy: `http/utility.cc: Utility::newUri`.
fn absolute(scheme: &str, host: &str, port: Option<u16>, path: &str) -> SmolStr {
    let slash = if path.starts_with('/') { "" } else { "/" };
    match port {
        Some(port) => format_smolstr!("{scheme}://{host}:{port}{slash}{path}"),
        None => format_smolstr!("{scheme}://{host}{slash}{path}"),
    }
}

/// The address of a request, as the proxy knows it.
pub(crate) fn address(request: &HttpRequest) -> SmolStr {
    let scheme = request.scheme.as_deref().unwrap_or("http");
    absolute(scheme, request_host(request, scheme, false), None, &request.path)
}

/// The path without its query, where it is dropped.
fn strip(path: Cow<'_, str>, strip_query: bool) -> Cow<'_, str> {
    match path.find('?') {
        Some(at) if strip_query => Cow::Owned(path.get(..at).unwrap_or_default().to_owned()),
        _ => path,
    }
}

/// The request's host; its port goes when the redirect has one, or when it is the default of the scheme that changes.
fn request_host<'a>(request: &'a HttpRequest, new_scheme: &str, new_port: bool) -> &'a str {
    let host = request.authority.as_str();
    let colon = if host.starts_with('[') { host.rfind("]:").map(|at| at + 1) } else { host.rfind(':') };
    let Some((name, port)) = colon.and_then(|at| host.split_at_checked(at)) else { return host };
    let protocol = headers::get(&request.headers, "x-forwarded-proto").map_or("", SmolStr::as_str);
    let default = matches!((protocol, port), ("https", ":443") | ("http", ":80"));
    if new_port || (new_scheme != protocol && default) { name } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::PathSpecifier;
    use crate::origin::Origin;

    /// Measured with Envoy 1.40.
    #[test]
    fn a_redirect_to_a_path_without_a_slash_stays_on_the_host() {
        let conditions = RouteMatch {
            path: PathSpecifier::Prefix("/u".into()),
            case_sensitive: true,
            headers: Vec::new(),
            query_parameters: Vec::new(),
            dynamic_metadata: Vec::new(),
            origins: Vec::new(),
        };
        let request = HttpRequest {
            method: "GET".into(),
            path: "/u/z?q=1".into(),
            authority: "b.test".into(),
            scheme: Some("http".into()),
            no_host: false,
            headers: Vec::new(),
            body: crate::envoy::Body::Declared,
        };
        let mut action = RedirectAction {
            host_redirect: None,
            port_redirect: None,
            scheme_redirect: None,
            https_redirect: false,
            path: PathRedirect::Keep,
            strip_query: false,
            response_code: 301,
            origin: Origin::default("a test"),
        };
        for (path, expected) in [
            ("foo", "http://b.test/foo?q=1"),
            ("?x", "http://b.test/?x"),
            ("#a", "http://b.test/#a?q=1"),
            ("https://o/", "http://b.test/https://o/?q=1"),
            ("//x", "http://b.test//x?q=1"),
        ] {
            action.path = PathRedirect::Path(path.into());
            assert_eq!(location(&action, &conditions, &request), expected, "{path}");
        }
        action.path = PathRedirect::PrefixRewrite("new".into());
        assert_eq!(location(&action, &conditions, &request), "http://b.test/new/z?q=1");
        assert_eq!(address(&request), "http://b.test/u/z?q=1");
    }
}
