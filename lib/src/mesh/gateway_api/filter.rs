//! What do the filters of a rule do to requests and responses?
//!
//! Invariant: a filter that istiod does not know refuses all rules of its route. istiod:
//! `pilot/pkg/config/kube/gateway/conversion.go: createHeadersFilter, createRedirectFilter, createRewriteFilter,
//! createCorsFilter, createMirrorFilter`.

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::Refusal;
use crate::manifest::schema::Duration;
use crate::manifest::schema::gateway_api::{
    CorsFilter, HeaderFilter, HeaderValue, RequestMirrorFilter, RequestRedirectFilter, UrlRewriteFilter,
};
use crate::manifest::schema::istio::{
    CorsPolicy, HeaderOperations, HttpRedirect, HttpRewrite, Percent, RedirectPortSelection, RegexRewrite,
    StringMatch, UnmatchedPreflights,
};
use crate::re2::quote_meta;

/// An origin as browsers write it, which `*` allows.
const ANY_ORIGIN: SmolStr = SmolStr::new_static(r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$");

/// The operations of a header modifier.
pub(super) fn headers(filter: &HeaderFilter) -> Result<HeaderOperations, Refusal> {
    let valid = |value: &str| value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f));
    if let Some(bad) = filter.set.iter().chain(&filter.add).find(|header| !valid(&header.value)) {
        return Err(Refusal::new(format!(
            "the value of header {} has characters that no header may have",
            bad.name
        )));
    }
    Ok(HeaderOperations {
        set: by_name(&filter.set),
        add: by_name(&filter.add),
        remove: filter.remove.clone(),
    })
}

/// Of equal names, in whatever case, the first counts.
fn by_name(list: &[HeaderValue]) -> IndexMap<SmolStr, SmolStr> {
    let mut out = IndexMap::with_capacity(list.len());
    for header in list {
        out.entry(SmolStr::from(header.name.to_lowercase())).or_insert_with(|| header.value.clone());
    }
    out
}

/// A redirect: without a port, the scheme's where one is named, else that of the listener.
pub(super) fn redirect(filter: &RequestRedirectFilter) -> HttpRedirect {
    let derived = if filter.scheme.is_some() {
        RedirectPortSelection::FromProtocolDefault
    } else {
        RedirectPortSelection::FromRequestPort
    };
    let path = filter.path.as_ref();
    let of = |kind: &str| path.filter(|path| path.type_ == kind);
    HttpRedirect {
        uri: of("ReplaceFullPath").and_then(|path| path.replace_full_path.clone()).unwrap_or_default(),
        prefix_rewrite: of("ReplacePrefixMatch")
            .and_then(|path| path.replace_prefix_match.clone())
            .unwrap_or_default(),
        authority: filter.hostname.clone().unwrap_or_default(),
        port: filter.port,
        derive_port: filter.port.is_none().then_some(derived),
        scheme: filter.scheme.clone().unwrap_or_default(),
        redirect_code: filter.status_code.unwrap_or_default(),
    }
}

/// A rewrite; `None` when nothing is rewritten.
pub(super) fn rewrite(filter: &UrlRewriteFilter) -> Option<HttpRewrite> {
    let mut out =
        HttpRewrite { authority: filter.hostname.clone().unwrap_or_default(), ..HttpRewrite::default() };
    if let Some(path) = &filter.path {
        match path.type_.as_str() {
            "ReplacePrefixMatch" => {
                let prefix = path.replace_prefix_match.as_deref().unwrap_or_default();
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                // A slash means that the prefix goes.
                out.uri = if prefix.is_empty() { "/" } else { prefix }.into();
            }
            "ReplaceFullPath" => {
                out.uri_regex_rewrite = Some(RegexRewrite {
                    match_: SmolStr::new_static("/.*"),
                    rewrite: path.replace_full_path.clone().unwrap_or_default(),
                });
            }
            _ => {}
        }
    }
    (out != HttpRewrite::default()).then_some(out)
}

/// The share of requests that is mirrored; `None` is all.
pub(super) fn mirror_share(filter: &RequestMirrorFilter) -> Option<Percent> {
    match (&filter.fraction, filter.percent) {
        (Some(fraction), _) => Some(Percent {
            value: 100.0 * f64::from(fraction.numerator) / f64::from(fraction.denominator.unwrap_or(100)),
        }),
        (None, Some(percent)) => Some(Percent { value: f64::from(percent) }),
        (None, None) => None,
    }
}

/// A CORS policy.
pub(super) fn cors(filter: &CorsFilter) -> CorsPolicy {
    CorsPolicy {
        allow_origins: filter.allow_origins.iter().filter(|origin| !origin.is_empty()).map(allowed).collect(),
        allow_credentials: filter.allow_credentials.filter(|allow| *allow),
        allow_methods: filter.allow_methods.clone(),
        allow_headers: filter.allow_headers.clone(),
        expose_headers: filter.expose_headers.clone(),
        max_age: filter.max_age.filter(|age| *age > 0).map(|age| Duration(i64::from(age) * 1_000_000_000)),
        unmatched_preflights: UnmatchedPreflights::Ignore,
        ..CorsPolicy::default()
    }
}

fn allowed(origin: &SmolStr) -> StringMatch {
    if origin == "*" {
        return StringMatch::Regex(ANY_ORIGIN);
    }
    match origin.split_once('*') {
        None => StringMatch::Exact(origin.clone()),
        Some((prefix, "")) => StringMatch::Prefix(prefix.into()),
        Some(_) => StringMatch::Regex(format_smolstr!("^{}$", quote_meta(origin).replace(r"\*", ".*"))),
    }
}
