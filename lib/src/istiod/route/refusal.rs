//! Which rules does istiod translate to what Envoy refuses?
//!
//! istiod looks neither at formatters in header values nor at whether a redirect has a status that Envoy knows; Envoy
//! then refuses the whole route configuration. Invariant: a rule is found here if a route that it becomes is refused.

use smol_str::{SmolStr, format_smolstr};

use super::headers::{Sides, translate_headers_operations};
use super::matching::is_claim;
use super::redirect::{ListenerScheme, translate_redirect};
use crate::envoy::config::{Action, Refusal};
use crate::envoy::refusal;
use crate::manifest::schema::istio::{Headers, StringMatch};
use crate::mesh::{HttpRule, Mesh};
use crate::origin::Origin;

/// The rules of a mesh that Envoy would refuse, each with the reason and the place.
pub fn refused_rules(mesh: &Mesh) -> &[(SmolStr, Origin)] {
    mesh.refused_rules(|| {
        let rules = mesh.virtual_services().iter().flat_map(|virtual_service| &virtual_service.http);
        let mut out: Vec<(SmolStr, Origin)> = Vec::new();
        for Refusal { reason, origin } in rules.filter_map(refusal_of) {
            // A delegate's rule is one of several VirtualServices.
            if out.iter().all(|(_, known)| *known != origin) {
                out.push((reason, origin));
            }
        }
        out
    })
}

/// A match that asks whether a claim of a token is there: istiod writes a comparison with nothing. istiod: `route.go:
/// translateMetadataMatch`; measured with Envoy 1.40.
fn claim_without_value(rule: &HttpRule) -> Option<Refusal> {
    for (i, condition) in rule.route.match_.iter().enumerate() {
        for (field, headers) in
            [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)]
        {
            for (name, value) in headers {
                let is_unset = value.as_ref().is_none_or(|value| *value == StringMatch::Unset);
                if is_unset && is_claim(name) {
                    return Some(Refusal {
                        reason: refusal::NO_COMPARISON,
                        origin: rule.place(&format_smolstr!("match[{i}].{field}")).part(name),
                    });
                }
            }
        }
    }
    None
}

fn refusal_of(rule: &HttpRule) -> Option<Refusal> {
    let block = |headers: Option<&Headers>, field: &str| {
        let sides = Sides {
            request: rule.place(&format_smolstr!("{field}headers.request")),
            response: rule.place(&format_smolstr!("{field}headers.response")),
        };
        refusal::of_operations(&translate_headers_operations(headers?, &sides).operations)
    };
    let destinations = &rule.route.route;
    // Of several destinations, those of weight 0 are left out.
    let weighted = |weight: i32| destinations.len() == 1 || weight > 0;
    claim_without_value(rule)
        .or_else(|| block(rule.route.headers.as_ref(), ""))
        .or_else(|| {
            destinations
                .iter()
                .enumerate()
                .filter(|(_, destination)| weighted(destination.weight))
                .find_map(|(i, destination)| block(destination.headers.as_ref(), &format!("route[{i}].")))
        })
        .or_else(|| {
            let redirect = rule.route.redirect.as_ref()?;
            let origin = rule.place("redirect.redirectCode");
            let action = translate_redirect(redirect, 80, ListenerScheme::Http, origin.clone());
            let code = redirect.redirect_code;
            let reason =
                format_smolstr!("`{code}` is no status of Envoy's redirects, so the route has no action");
            (action == Action::None).then_some(Refusal { reason, origin })
        })
}
