//! Which fields of a route does the API server fill in?
//!
//! Only the defaults that change what istiod makes of a route are filled in here; the others (`type`, `weight`, `group`
//! and `kind`) mean the same to istiod whether they are written or not. Source: the markers `+kubebuilder:default` of
//! kubernetes-sigs/gateway-api, `apis/v1/httproute_types.go`.

use std::borrow::Cow;

use smol_str::SmolStr;

use crate::manifest::schema::gateway_api::{
    HttpPathMatch, HttpRouteFilter, HttpRouteMatch, HttpRouteRule, HttpRouteSpec,
};

/// The status of a redirect that names none.
const REDIRECT_STATUS: u32 = 302;
/// How long, in seconds, a browser may keep the answer to a preflight.
const CORS_MAX_AGE: i32 = 5;

/// An HTTPRoute as the API server stores it; as it is written when `fill` is off, as in istiod's own unit tests.
pub(super) fn http_route(spec: &HttpRouteSpec, fill: bool) -> Cow<'_, HttpRouteSpec> {
    if !fill {
        return Cow::Borrowed(spec);
    }
    let mut out = spec.clone();
    let rules = out.rules.get_or_insert_with(|| vec![HttpRouteRule::default()]);
    for rule in rules {
        let matches = rule.matches.get_or_insert_with(|| vec![HttpRouteMatch::default()]);
        for condition in matches {
            condition.path.get_or_insert_with(|| HttpPathMatch {
                type_: Some(SmolStr::new_static("PathPrefix")),
                value: Some(SmolStr::new_static("/")),
            });
        }
        let of_backends = rule.backend_refs.iter_mut().flat_map(|backend| &mut backend.filters);
        rule.filters.iter_mut().chain(of_backends).for_each(filter);
    }
    Cow::Owned(out)
}

fn filter(filter: &mut HttpRouteFilter) {
    if let Some(redirect) = &mut filter.request_redirect {
        redirect.status_code.get_or_insert(REDIRECT_STATUS);
    }
    if let Some(cors) = &mut filter.cors {
        cors.max_age.get_or_insert(CORS_MAX_AGE);
    }
}
