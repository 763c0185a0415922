//! Does an RBAC filter let a request or connection pass?
//!
//! Envoy: `rbac/engine_impl.cc`, `matchers.cc`: policies in the order of their names, the first that matches decides.
//! Measured with Envoy 1.40.

use std::net::IpAddr;

use smol_str::{SmolStr, format_smolstr};

use super::config::{RbacAction, RbacExpression, RbacPolicy};
use super::matching::{self, Metadata};
use super::path;
use super::request::HttpRequest;
use crate::origin::Origin;

/// What the conditions of policies are compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    /// The request; `None` for a network filter.
    pub(crate) request: Option<&'a HttpRequest>,
    /// The address the client connected to.
    pub(crate) destination: IpAddr,
    /// The port the client connected to.
    pub(crate) port: u16,
    /// The peer's address.
    pub(crate) direct_remote: IpAddr,
    /// The client's address, as `x-forwarded-for` and trusted proxies give it.
    pub(crate) remote: IpAddr,
    /// SNI.
    pub(crate) server_name: &'a str,
    /// The URI name of the peer's certificate.
    pub(crate) peer: Option<&'a SmolStr>,
    /// Dynamic metadata.
    pub(crate) metadata: &'a Metadata,
}

/// Why a filter refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    /// `rbac_access_denied_matched_policy[…]`.
    pub(crate) details: SmolStr,
    /// The policy that matched; `None` when none allowed.
    pub(crate) origin: Option<Origin>,
}

/// Whether the filter lets the caller pass; the policy that decided, if one did.
///
/// # Errors
///
/// It does not.
pub(crate) fn check<'p>(
    action: RbacAction,
    policies: &'p [RbacPolicy],
    caller: &Caller<'_>,
) -> Result<Option<&'p RbacPolicy>, Denied> {
    if action == RbacAction::Log {
        return Ok(None);
    }
    let matched =
        policies.iter().find(|policy| holds(&policy.permission, caller) && holds(&policy.principal, caller));
    match (action, matched) {
        (RbacAction::Deny, Some(policy)) => Err(Denied {
            details: format_smolstr!("rbac_access_denied_matched_policy[{}]", policy.name.replace(' ', "_")),
            origin: Some(policy.origin.clone()),
        }),
        (RbacAction::Allow, None) => Err(Denied {
            details: SmolStr::new_static("rbac_access_denied_matched_policy[none]"),
            origin: None,
        }),
        (_, matched) => Ok(matched),
    }
}

fn holds(expression: &RbacExpression, caller: &Caller<'_>) -> bool {
    match expression {
        RbacExpression::Any => true,
        RbacExpression::And(all) => all.iter().all(|part| holds(part, caller)),
        RbacExpression::Or(any) => any.iter().any(|part| holds(part, caller)),
        RbacExpression::Not(part) => !holds(part, caller),
        RbacExpression::Header(matcher) => match caller.request {
            Some(request) => matching::header(matcher, request),
            None => false,
        },
        RbacExpression::UrlPath(matcher) => caller
            .request
            .is_some_and(|request| matching::string(matcher, path::without_query(&request.path))),
        RbacExpression::UriTemplate(template) => {
            caller.request.is_some_and(|request| uri_template(template, path::without_query(&request.path)))
        }
        RbacExpression::DestinationPort(port) => *port == caller.port,
        RbacExpression::DestinationIp(range) => range.contains(&caller.destination),
        RbacExpression::DirectRemoteIp(range) => range.contains(&caller.direct_remote),
        RbacExpression::RemoteIp(range) => range.contains(&caller.remote),
        RbacExpression::RequestedServerName(matcher) => matching::string(matcher, caller.server_name),
        RbacExpression::Authenticated(None) => caller.peer.is_some(),
        RbacExpression::Authenticated(Some(matcher)) => {
            caller.peer.is_some_and(|peer| matching::string(matcher, peer))
        }
        RbacExpression::Metadata(matcher) => matching::metadata(matcher, caller.metadata),
    }
}

/// Whether a path fits a template: `{*}` or `*` is one segment, `{**}` or `**` any text, and the rest itself.
///
/// Envoy: `uri_template_lib.cc`: a single wildcard takes at least one character.
fn uri_template(template: &str, path: &str) -> bool {
    let (first, rest) = match template.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (template, None),
    };
    match first {
        "{**}" | "**" => match rest {
            None => true,
            // Any text, then a slash and the rest.
            Some(rest) => path
                .match_indices('/')
                .any(|(at, _)| path.get(at + 1..).is_some_and(|tail| uri_template(rest, tail))),
        },
        first => {
            let (segment, tail) = match path.split_once('/') {
                Some((segment, tail)) => (segment, Some(tail)),
                None => (path, None),
            };
            let fits = match first {
                "{*}" | "*" => !segment.is_empty(),
                text => text == segment,
            };
            fits && match (rest, tail) {
                (None, None) => true,
                (Some(rest), Some(tail)) => uri_template(rest, tail),
                _ => false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        for (template, path, expected) in [
            ("/foo/{*}", "/foo/bar", true),
            ("/foo/{*}", "/foo/", false),
            ("/foo/{*}", "/foo/bar/baz", false),
            ("/foo/{**}", "/foo/bar/baz", true),
            ("/foo/{**}/baz", "/foo/a/b/baz", true),
            ("/foo/{*}/baz", "/foo/a/baz", true),
            ("/foo/{*}/baz/{**}", "/foo/a/baz/x/y", true),
            ("/foo", "/foo/", false),
            ("/{**}", "/", true),
        ] {
            assert_eq!(uri_template(template, path), expected, "{template} {path}");
        }
    }
}
