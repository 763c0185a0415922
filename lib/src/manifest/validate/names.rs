//! Which names, addresses and numbers does Istio accept?
//!
//! Source: istiod `pkg/config/validation/agent/validation.go`, `pkg/config/labels/instance.go`. Each check gives Istio's
//! reason. The regular expressions that Istio uses are loops over bytes here: they run for every name of every file.

use std::net::IpAddr;

use crate::manifest::schema::Duration;
use crate::protocol::Protocol;

/// A check's outcome: Istio's reason to refuse.
pub type Checked = Result<(), String>;

const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 255;
const LONGEST_KEY_PREFIX: usize = 253;
const MILLISECOND: i64 = 1_000_000;

/// Whether a text is a label of a DNS name by RFC 1123; capitals are allowed.
pub fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && is_label_of_any_length(text)
}

fn is_label_of_any_length(text: &str) -> bool {
    let (Some(first), Some(last)) = (text.as_bytes().first(), text.as_bytes().last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether a text is a label, `*`, or a label after `*` or `*-`.
fn is_wildcard_label(text: &str) -> bool {
    if text.len() > LONGEST_LABEL {
        return false;
    }
    match text.strip_prefix('*') {
        None => is_label_of_any_length(text),
        Some("") => true,
        Some(rest) => is_label_of_any_length(rest.strip_prefix('-').unwrap_or(rest)),
    }
}

fn length(domain: &str) -> Checked {
    if domain.len() > LONGEST_NAME {
        return Err(format!("domain name \"{domain}\" too long (max {LONGEST_NAME})"));
    }
    if domain.is_empty() {
        return Err("empty domain name not allowed".into());
    }
    Ok(())
}

fn labels_of(domain: &str) -> Checked {
    let top = domain.rsplit('.').next().unwrap_or(domain);
    // Go's Atoi takes a sign, and fails beyond 64 bits.
    if top.parse::<i64>().is_ok() {
        return Err(format!(
            "domain name \"{domain}\" invalid (top level domain \"{top}\" cannot be all-numeric)"
        ));
    }
    // The last part may be empty, for names such as `istio.io.`.
    let domain_without_root = domain.strip_suffix('.').unwrap_or(domain);
    if domain.is_empty() {
        return Ok(());
    }
    match domain_without_root.split('.').find(|label| !is_label(label)) {
        Some(label) => Err(format!("domain name \"{domain}\" invalid (label \"{label}\" invalid)")),
        None => Ok(()),
    }
}

/// Whether a text is a DNS name.
///
/// # Errors
///
/// Istio's reason why not.
pub fn fqdn(domain: &str) -> Checked {
    length(domain)?;
    labels_of(domain)
}

/// Whether a text is a DNS name whose first label may begin with `*`.
///
/// # Errors
///
/// Istio's reason why not.
pub fn wildcard_domain(domain: &str) -> Checked {
    length(domain)?;
    let (first, rest) = match domain.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (domain, None),
    };
    if !is_wildcard_label(first) {
        return Err(format!("domain name \"{domain}\" invalid (label \"{first}\" invalid)"));
    }
    rest.map_or(Ok(()), labels_of)
}

/// Whether a host of a VirtualService bound to gateways is accepted; with `sni`, also `outbound_.80_._.host`.
///
/// # Errors
///
/// Istio's reason why not.
pub fn gateway_host(sni: bool, domain: &str) -> Checked {
    const FORMAT: &str = "outbound_.<PORT>_._.<HOSTNAME>";
    length(domain)?;
    if !sni || !domain.starts_with("outbound_") {
        return wildcard_domain(domain);
    }
    let mut parts = domain.split('_').skip(1);
    let (Some(port), Some(_), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("domain name {domain} invalid, should follow '{FORMAT}' format"));
    };
    let port = port.trim_matches('.');
    if !port.bytes().any(|b| b.is_ascii_digit()) {
        return Err(format!(
            "domain name \"{domain}\" invalid (label \"{port}\" invalid). should follow {FORMAT} format"
        ));
    }
    let host = host.trim_matches('.');
    if !host.bytes().any(|b| b.is_ascii_alphabetic()) {
        return Err(format!(
            "domain name \"{domain}\" invalid (label \"{host}\" invalid). should follow {FORMAT} format"
        ));
    }
    Ok(())
}

/// Whether a wildcard, if there is one, stands for whole labels.
///
/// # Errors
///
/// Istio's reason why not.
pub fn no_partial_wildcard(host: &str) -> Checked {
    if host.contains('*') && host.len() != 1 && !host.starts_with("*.") {
        return Err(format!("partial wildcard \"{host}\" not allowed"));
    }
    Ok(())
}

/// Whether a text is an address, as Go's `netip.ParseAddr` reads them: with a zone for IPv6.
pub fn is_ip(text: &str) -> bool {
    match text.split_once('%') {
        Some((address, zone)) => !zone.is_empty() && address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => text.parse::<IpAddr>().is_ok(),
    }
}

/// Whether a text is an address.
///
/// # Errors
///
/// Istio's reason why not.
pub fn ip(text: &str) -> Checked {
    if is_ip(text) { Ok(()) } else { Err(format!("{text} is not a valid IP")) }
}

/// Whether a text is an address and a prefix length, as Go's `netip.ParsePrefix` reads them.
pub fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.rsplit_once('/') else { return false };
    let plain = bits.len() == 1 || !bits.starts_with('0');
    let digits = !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit());
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(address), Ok(bits)) if plain && digits => bits <= if address.is_ipv4() { 32 } else { 128 },
        _ => false,
    }
}

/// Whether a text is an address or a CIDR block.
///
/// # Errors
///
/// Istio's reason why not.
pub fn subnet(text: &str) -> Checked {
    if text.matches('/').count() != 1 {
        return ip(text);
    }
    if is_cidr(text) { Ok(()) } else { Err(format!("{text} is not a valid CIDR block")) }
}

/// Whether a number is a port.
///
/// # Errors
///
/// Istio's reason why not.
pub fn port(number: u32) -> Checked {
    if (1..=65535).contains(&number) {
        return Ok(());
    }
    Err(format!("port number {number} must be in the range 1..65535"))
}

/// Whether a text names a port.
///
/// # Errors
///
/// Istio's reason why not.
pub fn port_name(name: &str) -> Checked {
    if is_label(name) { Ok(()) } else { Err(format!("invalid port name: {name}")) }
}

/// The protocol that a resource names; `None` where Istio does not know it.
pub(super) fn known_protocol(text: &str) -> Option<Protocol> {
    // HBONE is a protocol of istiod's own, which no resource can name.
    Some(Protocol::parse(text)).filter(|p| !matches!(p, Protocol::Unsupported | Protocol::Hbone))
}

/// Whether a protocol is known; none at all is left to inspection.
///
/// # Errors
///
/// Istio's reason why not.
pub fn protocol(text: &str) -> Checked {
    if text.is_empty() || known_protocol(text).is_some() {
        return Ok(());
    }
    Err(format!("unsupported protocol: {text}"))
}

/// Whether a duration is at least a millisecond, and whole ones.
///
/// # Errors
///
/// Istio's reason why not.
pub fn duration(duration: Duration) -> Checked {
    if duration.0 < MILLISECOND {
        return Err("duration must be greater than 1ms".into());
    }
    if duration.0 % MILLISECOND != 0 {
        return Err("only durations to ms precision are supported".into());
    }
    Ok(())
}

/// Whether a percentage is one.
///
/// # Errors
///
/// Istio's reason why not.
pub fn percent(value: i32) -> Checked {
    if (0..=100).contains(&value) {
        return Ok(());
    }
    Err(format!("percentage {value} is not in range 0..100"))
}

/// Whether a text is a path of a socket, or an abstract name after `@`.
///
/// # Errors
///
/// Istio's reason why not.
pub fn unix_address(address: &str) -> Checked {
    if address.is_empty() {
        return Err("unix address must not be empty".into());
    }
    if address.starts_with('@') || (address.starts_with('/') && !address.ends_with('/')) {
        return Ok(());
    }
    Err(format!("{address} is not an absolute path to a file"))
}

/// Whether a label's key and value are ones that Kubernetes accepts.
///
/// # Errors
///
/// Istio's reason why not.
pub fn tag(key: &str, value: &str) -> Checked {
    let (prefix, name) = match key.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_qualified_name(name) || prefix.is_some_and(|p| !p.split('.').all(is_label_of_any_length)) {
        return Err(format!("invalid tag key: \"{key}\""));
    }
    if prefix.is_some_and(|p| p.len() > LONGEST_KEY_PREFIX) {
        return Err(format!("invalid tag key: \"{key}\" (DNS prefix is too long)"));
    }
    if name.len() > LONGEST_LABEL {
        return Err(format!("invalid tag key: \"{key}\" (name is too long)"));
    }
    if !value.is_empty() && !is_qualified_name(value) {
        return Err(format!("invalid tag value: \"{value}\""));
    }
    Ok(())
}

fn is_qualified_name(text: &str) -> bool {
    let (Some(first), Some(last)) = (text.as_bytes().first(), text.as_bytes().last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether a text is a name of a subset.
///
/// # Errors
///
/// Istio's reason why not.
pub fn subset(name: &str) -> Checked {
    if name.is_empty() {
        return Err("subset name cannot be empty".into());
    }
    if is_label(name) { Ok(()) } else { Err(format!("subset name is invalid: {name}")) }
}

fn header(name: &str, allowed: impl Fn(u8) -> bool) -> Checked {
    if name.is_empty() {
        return Err("header name cannot be empty".into());
    }
    if name.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("header name {name} is not a valid header name"))
}

/// RFC 7230's `tchar`.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Whether a text is a header's name of letters, digits, `-` and `_`.
///
/// # Errors
///
/// Istio's reason why not.
pub fn strict_header(name: &str) -> Checked {
    header(name, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether a text is a header's name of letters, digits and `-`, as probes need it.
///
/// # Errors
///
/// Istio's reason why not.
pub fn probe_header(name: &str) -> Checked {
    header(name, |b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether a text is a header's name or `*`.
///
/// # Errors
///
/// Istio's reason why not.
pub fn cors_header(name: &str) -> Checked {
    header(name, is_token)
}

/// Whether a text is what a match may name: a header, a pseudo header, or a claim.
///
/// # Errors
///
/// Istio's reason why not.
pub fn match_header(name: &str) -> Checked {
    if is_claim(name) || matches!(name, ":method" | ":scheme" | ":authority" | ":path" | ":status") {
        return Ok(());
    }
    header(name, is_token)
}

/// Whether a header's name stands for a claim: `@request.auth.claims.a` or `@request.auth.claims[a]`.
///
/// istiod: `pkg/jwt/routing.go: ToRoutingClaim`.
pub fn is_claim(name: &str) -> bool {
    const PREFIX: &str = "@request.auth.claims";
    let (Some(prefix), Some(rest)) = (name.get(..PREFIX.len()), name.get(PREFIX.len()..)) else {
        return false;
    };
    prefix.eq_ignore_ascii_case(PREFIX)
        && rest.len() > 1
        && (rest.starts_with('.') || (rest.len() > 2 && rest.starts_with('[') && rest.ends_with(']')))
}

/// Whether a header's name means the authority.
pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// Whether a request's header may be set: the authority may, other pseudo headers may not.
///
/// # Errors
///
/// Istio's reason why not.
pub fn set_header(name: &str) -> Checked {
    if name.is_empty() {
        return Err("header name cannot be empty".into());
    }
    if name.starts_with(':') && !is_authority(name) {
        return Err(format!("invalid header \"{name}\": header cannot have \":\" prefix"));
    }
    Ok(())
}

/// Whether a header may be removed, or a response's be set.
///
/// # Errors
///
/// Istio's reason why not.
pub fn remove_header(name: &str) -> Checked {
    if name.is_empty() {
        return Err("header name cannot be empty".into());
    }
    if name.eq_ignore_ascii_case("host") {
        return Err(format!("invalid header \"{name}\": cannot set Host header"));
    }
    if name.starts_with(':') {
        return Err(format!("invalid header \"{name}\": header cannot have \":\" prefix"));
    }
    Ok(())
}

/// What is expected next of a header's value with `%VARIABLES%`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Literal,
    Name,
    Array,
    String,
    InString,
    Delimiter,
    ArgumentsEnd,
    VariableEnd,
}

/// Whether a header's value is one that Envoy's formatter reads.
///
/// istiod: `header_value_validator.go: validateHeaderValue`.
///
/// # Errors
///
/// Istio's reason why not.
pub fn header_value(value: &str) -> Checked {
    if value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err(format!("header value configuration {value} is invalid"));
    }
    // Most values have no variable.
    if !value.contains('%') {
        return Ok(());
    }
    let wrong = |what: &str| Err(format!("header value configuration: invalid header configuration. {what}"));
    let mut state = Expect::Literal;
    let mut bytes = value.bytes().peekable();
    while let Some(b) = bytes.next() {
        state = match (state, b) {
            (Expect::Literal, b'%') => match bytes.peek() {
                None => return wrong("Un-escaped %"),
                Some(b'%') => {
                    bytes.next();
                    Expect::Literal
                }
                Some(_) => Expect::Name,
            },
            (Expect::Name | Expect::VariableEnd, b'%') => Expect::Literal,
            (Expect::Name, b'(') => Expect::Array,
            (Expect::Array, b'[') | (Expect::Delimiter, b',') => Expect::String,
            (Expect::Array | Expect::Delimiter | Expect::String, b' ') => state,
            (Expect::ArgumentsEnd | Expect::VariableEnd, b' ') => state,
            (Expect::Array, _) | (Expect::String, b'"') => Expect::InString,
            (Expect::Delimiter, b']') => Expect::ArgumentsEnd,
            (Expect::Delimiter, _) => return wrong("Expecting ',', ']', or whitespace"),
            (Expect::String, _) => return wrong("Expecting '\"'"),
            (Expect::InString, b'\\') => {
                if bytes.next().is_none() {
                    return wrong("Un-terminated backslash in JSON string");
                }
                Expect::InString
            }
            (Expect::InString | Expect::ArgumentsEnd, b')') => Expect::VariableEnd,
            (Expect::InString, b'"') => Expect::Delimiter,
            (Expect::ArgumentsEnd, _) => return wrong("Expecting ')' or whitespace"),
            (Expect::VariableEnd, _) => return wrong("Expecting '%' or whitespace after"),
            (Expect::Literal | Expect::Name | Expect::InString, _) => state,
        };
    }
    if state == Expect::Literal {
        return Ok(());
    }
    wrong(&format!("Un-terminated variable expression '{value}'"))
}

/// Whether a status can be answered.
///
/// # Errors
///
/// Istio's reason why not.
pub fn http_status(status: i64) -> Checked {
    if (200..=600).contains(&status) {
        return Ok(());
    }
    Err(format!("HTTP status {status} is not in range 200-599"))
}

/// Whether a regular expression is one that RE2 reads, and short enough; `place` is how Istio names the field.
///
/// # Errors
///
/// Istio's reason why not.
pub fn regex(pattern: &str, place: &str) -> Checked {
    const LONGEST: usize = 1024;
    if pattern.len() > LONGEST {
        return Err(format!("\"{place}\": regex is too large, max length allowed is {LONGEST}"));
    }
    // Plain text needs no parser.
    if pattern.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b' ')) {
        return Ok(());
    }
    crate::re2::syntax(pattern).map_err(|why| {
        format!(
            "\"{place}\": error parsing regexp: {why}: `{pattern}`; Istio uses RE2 style regex-based match (https://github.com/google/re2/wiki/Syntax)"
        )
    })
}

/// Whether a host of a Gateway (`in_gateway`) or Sidecar is accepted: `namespace/name`, in Gateways also the name alone.
///
/// # Errors
///
/// Istio's reasons why not.
pub fn namespaced_host(host: &str, in_gateway: bool, gateway_semantics: bool) -> Checked {
    let Some((namespace, name)) = host.split_once('/') else {
        if in_gateway {
            return dns_name(host, true);
        }
        return Err("host must be of form namespace/dnsName".into());
    };
    if namespace.is_empty() || name.is_empty() {
        return Err("config namespace and dnsName in host entry cannot be empty".into());
    }
    if in_gateway {
        let made = namespace == "~" && gateway_semantics;
        if namespace != "*" && namespace != "." && !made && !is_label(namespace) {
            return Err(format!("invalid namespace value \"{namespace}\" in gateway"));
        }
    } else {
        let included = namespace.strip_prefix('~').unwrap_or(namespace);
        if !matches!(included, "" | "*" | ".") && !is_label(included) {
            return Err(format!("invalid namespace value \"{namespace}\" in sidecar"));
        }
    }
    dns_name(name, in_gateway)
}

/// The part of such a host after the slash.
fn dns_name(name: &str, in_gateway: bool) -> Checked {
    if name != "*" && !name.contains('.') {
        // An IPv6 address has no dot, and is refused with this reason as well.
        return Err("short names (non FQDN) are not allowed".into());
    }
    if let Err(reason) = wildcard_domain(name)
        && !(in_gateway && is_ip(name))
    {
        return Err(reason);
    }
    no_partial_wildcard(name)
}
