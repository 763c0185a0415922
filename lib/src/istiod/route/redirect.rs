//! Which redirect or direct response does a route answer with?
//!
//! istiod: `route.go: ApplyRedirect, ApplyDirectResponse`.

use smol_str::SmolStr;

use crate::envoy::config::{Action, DirectResponseAction, PathRedirect, RedirectAction};
use crate::manifest::decode_base64;
use crate::manifest::schema::istio::{HttpBody, HttpDirectResponse, HttpRedirect, RedirectPortSelection};
use crate::origin::Origin;

/// The scheme of the listener that a redirect is translated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerScheme {
    /// Plaintext.
    Http,
    /// The proxy terminates TLS.
    Https,
}

impl ListenerScheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Translates a `redirect` block written at `origin`; a status that Envoy has no redirect for gives no action.
pub fn translate_redirect(
    redirect: &HttpRedirect,
    port: u16,
    scheme: ListenerScheme,
    origin: Origin,
) -> Action {
    let path = if !redirect.prefix_rewrite.is_empty() {
        PathRedirect::PrefixRewrite(redirect.prefix_rewrite.clone())
    } else if !redirect.uri.is_empty() {
        PathRedirect::Path(redirect.uri.clone())
    } else {
        PathRedirect::Keep
    };
    let wanted = match (redirect.port, redirect.derive_port) {
        (Some(port), _) => u16::try_from(port).unwrap_or(0),
        (None, Some(RedirectPortSelection::FromRequestPort)) => port,
        (None, _) => 0,
    };
    let target = if redirect.scheme.is_empty() { scheme.as_str() } else { redirect.scheme.as_str() };
    let implied = matches!((wanted, target), (80, "http") | (443, "https"));
    let response_code = match redirect.redirect_code {
        0 | 301 => 301,
        302 => 302,
        303 => 303,
        307 => 307,
        308 => 308,
        _ => return Action::None,
    };
    Action::Redirect(Box::new(RedirectAction {
        host_redirect: non_empty(&redirect.authority),
        port_redirect: (wanted != 0 && !implied).then_some(wanted),
        scheme_redirect: non_empty(&redirect.scheme),
        https_redirect: false,
        path,
        strip_query: false,
        response_code,
        origin,
    }))
}

/// Translates a `directResponse` block written at `origin`.
pub fn translate_direct_response(response: &HttpDirectResponse, origin: Origin) -> Action {
    let body = response.body.as_ref().map(|body| match body {
        HttpBody::String(text) => text.clone(),
        // A text that is not base64 is no resource that the API server takes.
        HttpBody::Bytes(encoded) => decode_base64(encoded).map(SmolStr::from).unwrap_or_default(),
        HttpBody::Unset => SmolStr::default(),
    });
    Action::DirectResponse(DirectResponseAction {
        status: u16::try_from(response.status).unwrap_or(0),
        body: body.unwrap_or_default(),
        origin,
    })
}

fn non_empty(text: &SmolStr) -> Option<SmolStr> {
    (!text.is_empty()).then(|| text.clone())
}
