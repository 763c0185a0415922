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
    match action.port_redirect {
        Some(port) => format_smolstr!("{scheme}://{host}:{port}{path}"),
        None => format_smolstr!("{scheme}://{host}{path}"),
    }
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
