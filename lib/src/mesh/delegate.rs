//! How do a root's rule and its delegate's rules become one list?
//!
//! istiod: `pilot/pkg/model/virtualservice.go: MergeHTTPRoutes, mergeHTTPMatchRequests, hasConflict`; measured over the
//! tables of Istio's own tests.

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::virtual_service::HttpRule;
use crate::manifest::schema::istio::{HttpMatchRequest, HttpRoute, StringMatch};
use crate::origin::Origin;

/// A match with the place it is written in.
type Placed = (HttpMatchRequest, Origin);

/// The rules that stand in the root rule's place.
pub(crate) fn merge_rules(root: &HttpRule, delegate: &[HttpRule]) -> Vec<HttpRule> {
    delegate.iter().filter_map(|leaf| merge_rule(root, leaf)).collect()
}

fn merge_rule(root: &HttpRule, leaf: &HttpRule) -> Option<HttpRule> {
    let merged = merge_placed(&placed(root), &placed(leaf))?;
    let (matches, match_origins) = merged.into_iter().unzip();
    Some(HttpRule {
        route: merge_route(&root.route, &leaf.route, matches),
        origin: leaf.origin.clone(),
        match_origins,
        places: leaf.places.clone(),
    })
}

fn placed(rule: &HttpRule) -> Vec<Placed> {
    rule.route
        .match_
        .iter()
        .enumerate()
        .map(|(i, m)| (m.clone(), rule.match_origins.get(i).cloned().unwrap_or_else(|| rule.origin.clone())))
        .collect()
}

/// Merges a root's rule with one of its delegate's rules; `None` when their matches contradict each other.
pub fn merge_routes(root: &HttpRoute, leaf: &HttpRoute) -> Option<HttpRoute> {
    let matches = merge_matches(&root.match_, &leaf.match_)?;
    Some(merge_route(root, leaf, matches))
}

/// Merges match lists; `None` when a match of the delegate contradicts every match of the root.
pub fn merge_matches(root: &[HttpMatchRequest], leaf: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    let place = |list: &[HttpMatchRequest]| -> Vec<Placed> {
        list.iter().map(|m| (m.clone(), Origin::default(""))).collect()
    };
    Some(merge_placed(&place(root), &place(leaf))?.into_iter().map(|(m, _)| m).collect())
}

fn merge_placed(root: &[Placed], leaf: &[Placed]) -> Option<Vec<Placed>> {
    if root.is_empty() {
        return Some(leaf.to_vec());
    }
    if leaf.is_empty() {
        return Some(root.to_vec());
    }
    let mut out = Vec::new();
    for (l, origin) in leaf {
        let before = out.len();
        out.extend(
            root.iter()
                .filter(|(r, _)| !has_conflict(r, l))
                .map(|(r, _)| (merge_match(r, l), origin.clone())),
        );
        if out.len() == before {
            return None;
        }
    }
    Some(out)
}

fn merge_match(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> HttpMatchRequest {
    let mut out = leaf.clone();
    out.name = join(&root.name, &leaf.name);
    out.uri = leaf.uri.clone().or_else(|| root.uri.clone());
    out.scheme = leaf.scheme.clone().or_else(|| root.scheme.clone());
    out.method = leaf.method.clone().or_else(|| root.method.clone());
    out.authority = leaf.authority.clone().or_else(|| root.authority.clone());
    out.headers = overlay(&root.headers, &leaf.headers);
    out.without_headers = overlay(&root.without_headers, &leaf.without_headers);
    out.query_params = overlay(&root.query_params, &leaf.query_params);
    out.source_labels = overlay(&root.source_labels, &leaf.source_labels);
    if out.port == 0 {
        out.port = root.port;
    }
    if out.gateways.is_empty() {
        out.gateways.clone_from(&root.gateways);
    }
    if out.source_namespace.is_empty() {
        out.source_namespace.clone_from(&root.source_namespace);
    }
    if out.stat_prefix.is_empty() {
        out.stat_prefix.clone_from(&root.stat_prefix);
    }
    out.ignore_uri_case = root.ignore_uri_case || leaf.ignore_uri_case;
    out
}

fn overlay<T: Clone>(root: &IndexMap<SmolStr, T>, leaf: &IndexMap<SmolStr, T>) -> IndexMap<SmolStr, T> {
    let mut out = root.clone();
    out.extend(leaf.iter().map(|(k, v)| (k.clone(), v.clone())));
    out
}

fn join(root: &SmolStr, leaf: &SmolStr) -> SmolStr {
    match (root.is_empty(), leaf.is_empty()) {
        (true, _) => leaf.clone(),
        (_, true) => root.clone(),
        _ => format_smolstr!("{root}-{leaf}"),
    }
}

fn merge_route(root: &HttpRoute, leaf: &HttpRoute, matches: Vec<HttpMatchRequest>) -> HttpRoute {
    let mut out = leaf.clone();
    out.delegate = None;
    out.match_ = matches;
    out.name = join(&root.name, &leaf.name);
    out.rewrite = leaf.rewrite.clone().or_else(|| root.rewrite.clone());
    out.direct_response = leaf.direct_response.clone().or_else(|| root.direct_response.clone());
    out.timeout = leaf.timeout.or(root.timeout);
    out.retries = leaf.retries.clone().or_else(|| root.retries.clone());
    out.fault = leaf.fault.clone().or_else(|| root.fault.clone());
    out.mirror = leaf.mirror.clone().or_else(|| root.mirror.clone());
    out.mirror_percent = leaf.mirror_percent.or(root.mirror_percent);
    out.mirror_percentage = leaf.mirror_percentage.clone().or_else(|| root.mirror_percentage.clone());
    if out.mirrors.is_empty() {
        out.mirrors.clone_from(&root.mirrors);
    }
    out.cors_policy = leaf.cors_policy.clone().or_else(|| root.cors_policy.clone());
    out.headers = leaf.headers.clone().or_else(|| root.headers.clone());
    out
}

/// Whether a root's match and a delegate's contradict each other.
pub fn has_conflict(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> bool {
    let text =
        |root: &Option<StringMatch>, leaf: &Option<StringMatch>| text_conflict(root.as_ref(), leaf.as_ref());
    let map = |root: &IndexMap<SmolStr, Option<StringMatch>>,
               leaf: &IndexMap<SmolStr, Option<StringMatch>>| {
        root.iter().any(|(key, r)| leaf.get(key).is_some_and(|l| text_conflict(r.as_ref(), l.as_ref())))
    };
    text(&root.uri, &leaf.uri)
        || text(&root.scheme, &leaf.scheme)
        || text(&root.method, &leaf.method)
        || text(&root.authority, &leaf.authority)
        || map(&root.headers, &leaf.headers)
        || map(&root.without_headers, &leaf.without_headers)
        || map(&root.query_params, &leaf.query_params)
        || root.ignore_uri_case != leaf.ignore_uri_case
        || (root.port > 0 && leaf.port > 0 && root.port != leaf.port)
        || root.source_labels.iter().any(|(k, v)| leaf.source_labels.get(k).is_some_and(|l| l != v))
        || (!root.source_namespace.is_empty() && root.source_namespace != leaf.source_namespace)
        || (!root.gateways.is_empty()
            && (root.gateways.len() < leaf.gateways.len()
                || !leaf.gateways.iter().all(|g| root.gateways.contains(g))))
}

/// Only what is not written is no contradiction: a condition on nothing but presence contradicts every other, its like too.
/// istiod: `virtualservice.go: stringMatchConflict`.
fn text_conflict(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    let (Some(root), Some(leaf)) = (root, leaf) else { return false };
    match (root, leaf) {
        (StringMatch::Unset | StringMatch::Regex(_), _) | (_, StringMatch::Unset | StringMatch::Regex(_)) => {
            true
        }
        (StringMatch::Exact(r) | StringMatch::Prefix(r), _) if r.is_empty() => true,
        (StringMatch::Prefix(_), StringMatch::Exact(l) | StringMatch::Prefix(l)) if l.is_empty() => true,
        (StringMatch::Exact(r), StringMatch::Exact(l)) => r != l,
        (StringMatch::Exact(_), StringMatch::Prefix(_)) => true,
        (StringMatch::Prefix(r), StringMatch::Exact(l) | StringMatch::Prefix(l)) => {
            !l.starts_with(r.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_only_has_to_be_there_contradicts_every_other_condition_on_it() {
        let on = |condition: Option<StringMatch>| HttpMatchRequest {
            headers: IndexMap::from([("x".into(), condition)]),
            ..HttpMatchRequest::default()
        };
        let exact = |text: &str| Some(StringMatch::Exact(text.into()));
        let prefix = |text: &str| Some(StringMatch::Prefix(text.into()));
        let unset = || Some(StringMatch::Unset);
        for (root, leaf, conflict) in [
            (unset(), unset(), true),
            (unset(), exact("a"), true),
            (exact("a"), unset(), true),
            (prefix("a"), exact(""), true),
            (prefix(""), exact("a"), true),
            (exact(""), exact(""), true),
            (prefix("a"), exact("ab"), false),
            (exact("a"), exact("a"), false),
            (None, unset(), false),
        ] {
            assert_eq!(has_conflict(&on(root.clone()), &on(leaf.clone())), conflict, "{root:?} {leaf:?}");
        }
    }
}
