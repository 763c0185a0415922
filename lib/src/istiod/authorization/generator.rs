//! What is one field of an AuthorizationPolicy compared with?
//!
//! istiod: `authz/model/generator.go`; `authz/matcher/{string,header,template}.go`; `authz/model/util.go`.

use std::net::IpAddr;

use ipnet::IpNet;
use smol_str::{SmolStr, format_smolstr};

use super::ChainKind;
use crate::envoy::config::{HeaderMatcher, MetadataMatcher, RbacExpression, SafeRegex, StringMatcher};
use crate::re2::quote_meta;

/// The filter whose metadata holds a token's claims.
const JWT_FILTER: SmolStr = SmolStr::new_static("envoy.filters.http.jwt_authn");
/// The key of the claims.
const JWT_PAYLOAD: SmolStr = SmolStr::new_static("payload");
/// The beginning of an identity.
const SPIFFE: &str = "spiffe://";

/// A condition that cannot be asked, or a value that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skipped;

/// A field of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// `hosts`.
    Host,
    /// `methods`.
    Method,
    /// `paths`.
    Path,
    /// `ports`, `destination.port`.
    DestinationPort,
    /// `destination.ip`.
    DestinationIp,
    /// `connection.sni`.
    ConnectionSni,
    /// `experimental.envoy.filters.*`.
    EnvoyFilter(&'a str),
    /// `ipBlocks`, `source.ip`.
    SourceIp,
    /// `remoteIpBlocks`, `remote.ip`.
    RemoteIp,
    /// `namespaces`, `source.namespace`.
    SourceNamespace,
    /// `trustDomains`, `source.trustDomain`.
    SourceTrustDomain,
    /// `serviceAccounts`, `source.serviceAccount`.
    SourceServiceAccount {
        /// The namespace of accounts without one.
        policy_namespace: &'a str,
    },
    /// `principals`, `source.principal`.
    SourcePrincipal,
    /// `requestPrincipals`, `request.auth.principal`.
    RequestPrincipal,
    /// `request.auth.audiences`.
    RequestAudiences,
    /// `request.auth.presenter`.
    RequestPresenter,
    /// `request.headers[…]`.
    RequestHeader(&'a str),
    /// `request.auth.claims[…]`.
    RequestClaim(&'a str),
}

impl<'a> Field<'a> {
    /// The field of a `when` key; `None` when there is no such key.
    pub(super) fn of_key(key: &'a str, policy_namespace: &'a str) -> Option<Self> {
        Some(match key {
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::ConnectionSni,
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.trustDomain" => Self::SourceTrustDomain,
            "source.serviceAccount" => Self::SourceServiceAccount { policy_namespace },
            "source.principal" => Self::SourcePrincipal,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::RequestAudiences,
            "request.auth.presenter" => Self::RequestPresenter,
            _ => {
                if let Some(rest) = key.strip_prefix("request.headers") {
                    Self::RequestHeader(rest)
                } else if let Some(rest) = key.strip_prefix("request.auth.claims") {
                    Self::RequestClaim(rest)
                } else if key.starts_with("experimental.envoy.filters.") {
                    Self::EnvoyFilter(key)
                } else {
                    return None;
                }
            }
        })
    }

    /// Whether it is a condition on the request (a permission) rather than on the caller (a principal).
    pub(super) const fn is_of_request(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::Method
                | Self::Path
                | Self::DestinationPort
                | Self::DestinationIp
                | Self::ConnectionSni
                | Self::EnvoyFilter(_)
        )
    }

    /// Whether its values are combined by the condition itself, so that a single one stands alone.
    pub(super) const fn is_single(self) -> bool {
        matches!(
            self,
            Self::EnvoyFilter(_)
                | Self::RequestPrincipal
                | Self::RequestAudiences
                | Self::RequestPresenter
                | Self::RequestClaim(_)
        )
    }

    /// The condition that the field has a value.
    ///
    /// # Errors
    ///
    /// The chain cannot ask it, or the value cannot be read.
    pub(super) fn matches(self, value: &str, chain: ChainKind) -> Result<RbacExpression, Skipped> {
        let http_only = matches!(
            self,
            Self::Host
                | Self::Method
                | Self::Path
                | Self::RequestPrincipal
                | Self::RequestAudiences
                | Self::RequestPresenter
                | Self::RequestHeader(_)
                | Self::RequestClaim(_)
        );
        if http_only && chain == ChainKind::Tcp {
            return Err(Skipped);
        }
        Ok(match self {
            Self::Host => RbacExpression::Header(header(":authority", value, Case::Ignored)),
            Self::Method => RbacExpression::Header(header(":method", value, Case::Counts)),
            Self::Path if value.contains("{*}") || value.contains("{**}") => {
                RbacExpression::UriTemplate(value.replace("{*}", "*").replace("{**}", "**").into())
            }
            Self::Path => RbacExpression::UrlPath(string(value, "")),
            Self::DestinationPort => RbacExpression::DestinationPort(value.parse().map_err(|_| Skipped)?),
            Self::DestinationIp => RbacExpression::DestinationIp(cidr(value)?),
            Self::ConnectionSni => RbacExpression::RequestedServerName(string(value, "")),
            Self::EnvoyFilter(key) => RbacExpression::Metadata(filter_metadata(key, value)?),
            Self::SourceIp => RbacExpression::DirectRemoteIp(cidr(value)?),
            Self::RemoteIp => RbacExpression::RemoteIp(cidr(value)?),
            Self::SourceNamespace => {
                let parts: Vec<String> = value.split('*').map(quote_meta).collect();
                authenticated(regex(&format!(".*/ns/{}/.*", parts.join(".*"))))
            }
            Self::SourceTrustDomain => authenticated(trust_domain(value)),
            Self::SourceServiceAccount { policy_namespace } => {
                let (namespace, account) = value.split_once('/').unwrap_or((policy_namespace, value));
                let (namespace, account) = (quote_meta(namespace), quote_meta(account));
                authenticated(regex(&format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?")))
            }
            Self::SourcePrincipal => authenticated(string(value, SPIFFE)),
            Self::RequestPrincipal => request_principal(value),
            Self::RequestAudiences => claim(vec![SmolStr::new_static("aud")], string(value, "")),
            Self::RequestPresenter => claim(vec![SmolStr::new_static("azp")], string(value, "")),
            Self::RequestHeader(name) => {
                RbacExpression::Header(header(in_brackets(name)?, value, Case::Counts))
            }
            Self::RequestClaim(name) => claim(in_nested_brackets(name)?, string(value, "")),
        })
    }
}

fn authenticated(matcher: StringMatcher) -> RbacExpression {
    RbacExpression::Authenticated(Some(matcher))
}

/// Istio's patterns: `*` alone is anything but nothing, `*x` an end, `x*` a beginning; the first star decides.
fn string(value: &str, prefix: &str) -> StringMatcher {
    if value == "*" {
        return regex(".+");
    }
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(end), _) if prefix.is_empty() => StringMatcher::Suffix(end.into()),
        (Some(end), _) => regex(&format!("{prefix}.*{}", quote_meta(end))),
        (None, Some(beginning)) => StringMatcher::Prefix(format_smolstr!("{prefix}{beginning}")),
        (None, None) => StringMatcher::Exact(format_smolstr!("{prefix}{value}")),
    }
}

/// Whether letter case counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Counts,
    Ignored,
}

fn header(name: &str, value: &str, case: Case) -> HeaderMatcher {
    let of = |matcher: StringMatcher| match case {
        Case::Counts => matcher,
        Case::Ignored => StringMatcher::IgnoreCase(Box::new(matcher)),
    };
    let matcher = (value != "*").then(|| of(string(value, "")));
    HeaderMatcher {
        name: name.to_ascii_lowercase().into(),
        matcher,
        invert_match: false,
        treat_missing_header_as_empty: false,
    }
}

fn cidr(value: &str) -> Result<IpNet, Skipped> {
    value.parse::<IpNet>().or_else(|_| value.parse::<IpAddr>().map(IpNet::from)).map_err(|_| Skipped)
}

fn regex(pattern: &str) -> StringMatcher {
    StringMatcher::SafeRegex(SafeRegex::new(pattern).unwrap_or_else(|_| SafeRegex::never(pattern)))
}

fn trust_domain(value: &str) -> StringMatcher {
    match value.split_once('*') {
        _ if value == "*" => StringMatcher::Prefix(SmolStr::new_static(SPIFFE)),
        None => StringMatcher::Prefix(format_smolstr!("{SPIFFE}{value}/")),
        Some((before, after)) => {
            regex(&format!("{SPIFFE}{}[^/]*{}/.*", quote_meta(before), quote_meta(after)))
        }
    }
}

/// `[name]`.
fn in_brackets(text: &str) -> Result<&str, Skipped> {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(Skipped)
}

/// `[a]`, `[a][b]`, …; anything else in one pair of brackets is one name.
fn in_nested_brackets(text: &str) -> Result<Vec<SmolStr>, Skipped> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let part = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match part.filter(|(name, _)| !name.contains('[')) {
            Some((name, tail)) => {
                out.push(name.into());
                rest = tail;
            }
            None => return Ok(vec![in_brackets(text)?.into()]),
        }
    }
    Ok(out)
}

fn claim(names: Vec<SmolStr>, matcher: StringMatcher) -> RbacExpression {
    let mut path = vec![JWT_PAYLOAD];
    path.extend(names);
    RbacExpression::Metadata(MetadataMatcher {
        filter: JWT_FILTER,
        path,
        matcher: Some(matcher),
        or_list: true,
        invert: false,
    })
}

/// `issuer/subject`, taken apart at the last slash.
fn request_principal(value: &str) -> RbacExpression {
    let any = || regex(".+");
    let exact = |text: &str| StringMatcher::Exact(text.into());
    let prefix = |text: &str| StringMatcher::Prefix(text.into());
    let suffix = |text: &str| StringMatcher::Suffix(text.into());
    let parts = value.rsplit_once('/');
    let (issuer, subject) = if value == "*" {
        (any(), any())
    } else if let Some(end) = value.strip_prefix('*') {
        match parts {
            Some(("*", subject)) => (any(), exact(subject)),
            Some((issuer, subject)) => (suffix(issuer.strip_prefix('*').unwrap_or(issuer)), exact(subject)),
            None => (any(), suffix(end)),
        }
    } else if let Some(beginning) = value.strip_suffix('*') {
        match parts {
            Some((issuer, "*")) => (exact(issuer), any()),
            Some((issuer, subject)) => (exact(issuer), prefix(subject.strip_suffix('*').unwrap_or(subject))),
            None => (prefix(beginning), any()),
        }
    } else {
        let (issuer, subject) = parts.unwrap_or((value, ""));
        (exact(issuer), exact(subject))
    };
    let of = |name: &'static str, matcher| {
        RbacExpression::Metadata(MetadataMatcher {
            filter: JWT_FILTER,
            path: vec![JWT_PAYLOAD, SmolStr::new_static(name)],
            matcher: Some(matcher),
            or_list: false,
            invert: false,
        })
    };
    RbacExpression::And(vec![of("iss", issuer), of("sub", subject)])
}

/// `experimental.envoy.filters.a.b[c]`: what a filter left under a key.
fn filter_metadata(key: &str, value: &str) -> Result<MetadataMatcher, Skipped> {
    let key = key.strip_prefix("experimental.").unwrap_or(key);
    let key = key.strip_suffix(']').unwrap_or(key);
    let (filter, name) = key.split_once('[').ok_or(Skipped)?;
    let list = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
    Ok(MetadataMatcher {
        filter: filter.into(),
        path: vec![name.into()],
        matcher: Some(string(list.unwrap_or(value), "")),
        or_list: list.is_some(),
        invert: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_star_of_a_pattern_decides() {
        assert_eq!(string("*x*", ""), StringMatcher::Suffix("x*".into()));
        assert_eq!(string("x*", SPIFFE), StringMatcher::Prefix("spiffe://x".into()));
        assert_eq!(string("x", SPIFFE), StringMatcher::Exact("spiffe://x".into()));
        let StringMatcher::SafeRegex(suffix) = string("*/sa/a.b", SPIFFE) else { panic!("no regex") };
        assert_eq!(suffix.pattern(), r"spiffe://.*/sa/a\.b");
    }

    #[test]
    fn claims_nest_by_brackets() {
        assert_eq!(in_nested_brackets("[a][b]"), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(in_nested_brackets("[a.b]"), Ok(vec!["a.b".into()]));
        assert_eq!(in_nested_brackets("[a]b]"), Ok(vec!["a]b".into()]));
        assert_eq!(in_nested_brackets("a"), Err(Skipped));
    }

    #[test]
    fn tcp_chains_cannot_ask_for_paths() {
        assert_eq!(Field::Path.matches("/a", ChainKind::Tcp), Err(Skipped));
        assert_eq!(
            Field::DestinationPort.matches("80", ChainKind::Tcp),
            Ok(RbacExpression::DestinationPort(80))
        );
        assert_eq!(Field::DestinationPort.matches("x", ChainKind::Http), Err(Skipped));
    }
}
