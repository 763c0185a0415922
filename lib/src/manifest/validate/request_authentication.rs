//! RequestAuthentication. istiod: `validation.go: ValidateRequestAuthentication, validateJwtRule`.

use serde_json::Value;

use super::report::{At, Report};
use super::{names, selector};
use crate::manifest::schema::istio::{JwtRule, RequestAuthentication};

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, policy: &RequestAuthentication) {
    selector::targets(
        report,
        spec,
        policy.selector.as_ref(),
        policy.target_ref.as_ref(),
        &policy.target_refs,
    );
    let at = spec.field("jwtRules");
    for (index, rule) in policy.jwt_rules.iter().enumerate() {
        jwt_rule(report, &at.index(index), rule);
    }
}

fn jwt_rule(report: &mut Report<'_>, at: &At<'_>, rule: &JwtRule) {
    for (field, values, reason) in [
        ("audiences", &rule.audiences, "audience must be non-empty string"),
        ("fromParams", &rule.from_params, "location query must be non-empty string"),
        ("fromCookies", &rule.from_cookies, "cookie name must be non-empty string"),
    ] {
        if let Some(index) = values.iter().position(smol_str::SmolStr::is_empty) {
            report.refuse(&at.field(field).index(index), reason);
        }
    }
    if rule.issuer.is_empty() && rule.jwks_uri.is_empty() {
        report.refuse(at, "issuer or jwksUri must be non-empty string");
    }
    if !rule.jwks_uri.is_empty() {
        report.check(&at.field("jwksUri"), jwks_uri(&rule.jwks_uri));
    }
    if !rule.jwks.is_empty() {
        jwks(report, &at.field("jwks"), &rule.jwks);
    }
    let headers = at.field("fromHeaders");
    for (index, header) in rule.from_headers.iter().enumerate() {
        if header.name.is_empty() {
            report.refuse(&headers.index(index), "location header name must be non-empty string");
        }
    }
    let claims = at.field("outputClaimToHeaders");
    for (index, claim) in rule.output_claim_to_headers.iter().enumerate() {
        let at = claims.index(index);
        if claim.claim.is_empty() || claim.header.is_empty() {
            report.refuse(&at, "outputClaimToHeaders header and claim value must be non-empty string");
            continue;
        }
        report.check(&at.field("header"), names::strict_header(&claim.header));
    }
    if let Some(timeout) = rule.timeout {
        report.check(&at.field("timeout"), names::duration(timeout));
    }
}

/// istiod: `security.go: ParseJwksURI`.
fn jwks_uri(uri: &str) -> names::Checked {
    let scheme = uri.split_once("://").map_or("", |(scheme, _)| scheme);
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return Err(format!("URI scheme \"{scheme}\" is not supported"));
    }
    let rest = uri.get(scheme.len() + 3..).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after_address = host.rsplit_once(']').map_or(host, |(_, port)| port);
    match after_address.rsplit_once(':') {
        Some((_, port)) if !port.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("parse \"{uri}\": invalid port \":{port}\" after host"))
        }
        _ if host.bytes().any(|b| b <= b' ' || b == 0x7f) => {
            Err(format!("parse \"{uri}\": invalid character in host name"))
        }
        _ => Ok(()),
    }
}

/// A set of keys, or one key. Keys with their private part are accepted with a warning.
fn jwks(report: &mut Report<'_>, at: &At<'_>, text: &str) {
    let parsed: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            report.refuse(at, format!("jwks parse error: failed to unmarshal JWK set: {error}"));
            return;
        }
    };
    let keys: Vec<&Value> = match parsed.get("keys") {
        Some(Value::Array(keys)) => keys.iter().collect(),
        _ => vec![&parsed],
    };
    for (index, key) in keys.into_iter().enumerate() {
        match key_type(key) {
            Ok(false) => {}
            Ok(true) => report.warn(
                at,
                format!(
                    "jwks key at index {index} contains private key material; only public keys are used for verification"
                ),
            ),
            Err(reason) => report.refuse(at, format!("jwks parse error: {reason}")),
        }
    }
}

/// Whether a key holds a private part.
fn key_type(key: &Value) -> Result<bool, String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    let required: &[&str] = match text("kty") {
        "RSA" => &["n", "e"],
        "EC" => &["crv", "x", "y"],
        "OKP" => &["crv", "x"],
        "oct" => &["k"],
        other => return Err(format!("invalid key type from JSON ({other})")),
    };
    match required.iter().find(|name| text(name).is_empty()) {
        Some(name) => Err(format!("required field {name} is missing")),
        None => Ok(text("kty") == "oct" || !text("d").is_empty()),
    }
}
