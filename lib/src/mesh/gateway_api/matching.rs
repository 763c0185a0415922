//! Which conditions of a VirtualService does a match of a route become, and which rule comes first?
//!
//! Invariant: a rule that stands in a VirtualService has one match at most, so that rules can be put in the Gateway API's
//! order of precedence. istiod: `pilot/pkg/config/kube/gateway/conversion.go: createURIMatch, createHeadersMatch,
//! createQueryParamsMatch, createMethodMatch, createGRPCURIMatch, sortHTTPRoutes`.

use std::cmp::Reverse;

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::super::HttpRule;
use super::Refusal;
use crate::manifest::schema::gateway_api::{
    GrpcMethodMatch, GrpcRouteMatch, HttpPathMatch, HttpRouteMatch, ValueMatch,
};
use crate::manifest::schema::istio::{HttpMatchRequest, StringMatch};

/// The conditions of an HTTPRoute's match.
pub(super) fn http(condition: &HttpRouteMatch) -> Result<HttpMatchRequest, Refusal> {
    Ok(HttpMatchRequest {
        uri: Some(path(condition.path.as_ref())?),
        headers: values(&condition.headers)?,
        query_params: values(&condition.query_params)?,
        method: condition.method.clone().map(StringMatch::Exact),
        ..HttpMatchRequest::default()
    })
}

/// The conditions of a GRPCRoute's match.
pub(super) fn grpc(condition: &GrpcRouteMatch) -> Result<HttpMatchRequest, Refusal> {
    Ok(HttpMatchRequest {
        uri: condition.method.as_ref().map(grpc_path).transpose()?,
        headers: values(&condition.headers)?,
        ..HttpMatchRequest::default()
    })
}

fn path(path: Option<&HttpPathMatch>) -> Result<StringMatch, Refusal> {
    let value = path.and_then(|path| path.value.clone()).unwrap_or(SmolStr::new_static("/"));
    match path.and_then(|path| path.type_.as_deref()).unwrap_or("PathPrefix") {
        "PathPrefix" => Ok(StringMatch::Prefix(match value.strip_suffix('/') {
            Some(rest) if !rest.is_empty() => rest.into(),
            _ => value,
        })),
        "Exact" => Ok(StringMatch::Exact(value)),
        "RegularExpression" => Ok(StringMatch::Regex(value)),
        other => Err(Refusal::new(format!("\"{other}\" is no type of a path match"))),
    }
}

/// A gRPC method is a path, `/service/method`.
fn grpc_path(condition: &GrpcMethodMatch) -> Result<StringMatch, Refusal> {
    let (service, method) = (condition.service.as_deref(), condition.method.as_deref());
    match (condition.type_.as_deref().unwrap_or("Exact"), service, method) {
        (_, None, None) => Err(Refusal::new("a gRPC match needs a method or a service")),
        ("Exact", Some(service), None) => Ok(StringMatch::Prefix(format_smolstr!("/{service}/"))),
        ("Exact", Some(service), Some(method)) => {
            Ok(StringMatch::Exact(format_smolstr!("/{service}/{method}")))
        }
        ("Exact" | "RegularExpression", None, Some(method)) => {
            Ok(StringMatch::Regex(format_smolstr!("/[^/]+/{method}")))
        }
        ("RegularExpression", Some(service), None) => {
            Ok(StringMatch::Regex(format_smolstr!("/{service}/.+")))
        }
        ("RegularExpression", Some(service), Some(method)) => {
            Ok(StringMatch::Regex(format_smolstr!("/{service}/{method}")))
        }
        (other, ..) => Err(Refusal::new(format!("\"{other}\" is no type of a method match"))),
    }
}

/// Headers or query parameters; of equal names the last counts.
fn values(list: &[ValueMatch]) -> Result<IndexMap<SmolStr, Option<StringMatch>>, Refusal> {
    let mut out = IndexMap::with_capacity(list.len());
    for entry in list {
        let value = match entry.type_.as_deref().unwrap_or("Exact") {
            "Exact" => StringMatch::Exact(entry.value.clone()),
            "RegularExpression" => StringMatch::Regex(entry.value.clone()),
            other => return Err(Refusal::new(format!("\"{other}\" is no type of a match"))),
        };
        out.insert(entry.name.clone(), Some(value));
    }
    Ok(out)
}

/// Puts rules in the Gateway API's order: exact paths, then prefixes, then expressions, longer ones first, then those with
/// a method, with more headers, with more parameters; rules without a match come last, and equals keep their order.
pub(super) fn sort(rules: &mut [HttpRule]) {
    rules.sort_by_key(|rule| {
        let condition = rule.route.match_.first()?;
        let (rank, length) = match &condition.uri {
            Some(StringMatch::Exact(path)) => (3, path.len()),
            Some(StringMatch::Prefix(path)) => (2, path.len()),
            Some(StringMatch::Regex(path)) => (1, path.len()),
            Some(StringMatch::Unset) | None => (0, 0),
        };
        let method = condition.method.is_some();
        let counts = (condition.headers.len(), condition.query_params.len());
        Some(Reverse((rank, length, method, counts)))
    });
    // `None`, a rule without a match, sorts before everything else.
    let without = rules.partition_point(|rule| rule.route.match_.is_empty());
    rules.rotate_left(without);
}
