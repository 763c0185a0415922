//! How are header operations applied?
//!
//! Envoy: `header_parser.cc: HeaderParser::evaluateHeaders`: within a level removals come first, then all values are formatted, then
//! headers are replaced, then added; levels run from the most specific to the least. Measured with Envoy 1.40.

use smol_str::{SmolStr, StrExt as _};

use crate::envoy::config::{AppendAction, HeaderOperations, HeaderRemoval, HeaderValueOption};
use crate::envoy::headers::{self, Hand, Headers};
use crate::envoy::ledger::{By, HeaderValue, Ledger};

/// Applies one level to the request.
pub(crate) fn request(
    operations: &HeaderOperations,
    lines: &mut Headers,
    ledger: &mut Ledger,
    value: impl Fn(&Headers, &SmolStr) -> HeaderValue,
) {
    apply(&operations.request_headers_to_remove, &operations.request_headers_to_add, lines, ledger, value);
}

/// Applies one level to the response.
pub(crate) fn response(
    operations: &HeaderOperations,
    lines: &mut Headers,
    ledger: &mut Ledger,
    value: impl Fn(&Headers, &SmolStr) -> HeaderValue,
) {
    apply(&operations.response_headers_to_remove, &operations.response_headers_to_add, lines, ledger, value);
}

fn apply(
    removals: &[HeaderRemoval],
    additions: &[HeaderValueOption],
    lines: &mut Headers,
    ledger: &mut Ledger,
    value: impl Fn(&Headers, &SmolStr) -> HeaderValue,
) {
    for removal in removals {
        let hand = Hand { by: By::Istio, origin: &removal.origin };
        headers::remove(lines, ledger, &removal.name.to_lowercase_smolstr(), hand);
    }
    if additions.is_empty() {
        return;
    }
    let planned: Vec<(SmolStr, HeaderValue, bool, &HeaderValueOption)> = additions
        .iter()
        .filter_map(|addition| {
            let name = addition.name.to_lowercase_smolstr();
            let value = value(lines, &addition.value);
            if value.as_str().is_empty() {
                return None;
            }
            let present = headers::has(lines, &name);
            let overwrite = match addition.append_action {
                AppendAction::AppendIfExistsOrAdd => false,
                AppendAction::AddIfAbsent if present => return None,
                AppendAction::AddIfAbsent => false,
                AppendAction::OverwriteIfExists if !present => return None,
                AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd => true,
            };
            Some((name, value, overwrite, addition))
        })
        .collect();
    for overwrite in [true, false] {
        for (name, value, _, addition) in planned.iter().filter(|plan| plan.2 == overwrite) {
            let hand = Hand { by: By::Istio, origin: &addition.origin };
            if overwrite {
                headers::replace(lines, ledger, name, value.clone(), hand);
            } else {
                headers::append(lines, ledger, name, value.clone(), hand);
            }
        }
    }
}
