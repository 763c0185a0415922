//! Which header operations does a `headers` block of a VirtualService become?
//!
//! Invariant: sets come before adds, each sorted by name; pseudo-headers and `host` are no header operations, but
//! rewrite the authority. istiod: `route.go: TranslateHeadersOperations`.

use indexmap::IndexMap;
use smol_str::SmolStr;

use crate::envoy::config::{AppendAction, HeaderOperations, HeaderRemoval, HeaderValueOption};
use crate::manifest::schema::istio::{self, Headers};
use crate::origin::Origin;

/// A translated `headers` block.
#[derive(Clone, Debug, Default)]
pub struct TranslatedHeaders {
    /// The operations.
    pub operations: HeaderOperations,
    /// The authority that the block sets, and where.
    pub authority: Option<(SmolStr, Origin)>,
}

/// Where the two sides of a `headers` block are written.
#[derive(Clone, Debug)]
pub struct Sides {
    /// Where the operations on requests are.
    pub request: Origin,
    /// Where the operations on responses are.
    pub response: Origin,
}

/// Translates a `headers` block written at `sides`.
pub fn translate_headers_operations(headers: &Headers, sides: &Sides) -> TranslatedHeaders {
    let mut out = TranslatedHeaders::default();
    if let Some(request) = &headers.request {
        let at = &sides.request;
        let set = append(&request.set, AppendAction::OverwriteIfExistsOrAdd, &at.part("set"));
        let add = append(&request.add, AppendAction::AppendIfExistsOrAdd, &at.part("add"));
        out.operations.request_headers_to_add = set.0;
        out.operations.request_headers_to_add.extend(add.0);
        // A value from `set` wins over one from `add`.
        out.authority = set.1.or(add.1);
        out.operations.request_headers_to_remove = removals(request, at);
    }
    if let Some(response) = &headers.response {
        let at = &sides.response;
        let set = append(&response.set, AppendAction::OverwriteIfExistsOrAdd, &at.part("set"));
        let add = append(&response.add, AppendAction::AppendIfExistsOrAdd, &at.part("add"));
        out.operations.response_headers_to_add = set.0;
        out.operations.response_headers_to_add.extend(add.0);
        out.operations.response_headers_to_remove = removals(response, at);
    }
    out
}

/// Appends `more` behind `operations`, as istiod does for the only destination of a route.
pub fn extend(operations: &mut HeaderOperations, more: HeaderOperations) {
    operations.request_headers_to_add.extend(more.request_headers_to_add);
    operations.request_headers_to_remove.extend(more.request_headers_to_remove);
    operations.response_headers_to_add.extend(more.response_headers_to_add);
    operations.response_headers_to_remove.extend(more.response_headers_to_remove);
}

fn append(
    headers: &IndexMap<SmolStr, SmolStr>,
    append_action: AppendAction,
    origin: &Origin,
) -> (Vec<HeaderValueOption>, Option<(SmolStr, Origin)>) {
    let mut authority = None;
    let mut out = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let origin = origin.part(name);
        if is_authority(name) && !value.is_empty() {
            authority = Some((value.clone(), origin));
            continue;
        }
        if is_internal(name) {
            continue;
        }
        out.push(HeaderValueOption { name: name.clone(), value: value.clone(), append_action, origin });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    (out, authority)
}

fn removals(operations: &istio::HeaderOperations, origin: &Origin) -> Vec<HeaderRemoval> {
    operations
        .remove
        .iter()
        .enumerate()
        .filter(|(_, name)| !is_internal(name))
        .map(|(i, name)| HeaderRemoval { name: name.clone(), origin: origin.element("remove", i) })
        .collect()
}

/// Whether Envoy refuses to change this header. istiod: `route.go: isInternalHeader`.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

/// Whether a value for this header is the authority. istiod: `route.go: isAuthorityHeader`.
fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}
