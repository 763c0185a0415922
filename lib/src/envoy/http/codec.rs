//! Which requests does the codec refuse, and what does it make of the rest?
//!
//! Envoy: `http1/codec_impl.cc`, `header_utility.cc`. Measured with Envoy 1.40 (`envoy-semantics`, local replies). Invariant: limits come first, so
//! the work that follows is bounded.

use smol_str::{SmolStr, StrExt as _};

use crate::envoy::config::HttpConnectionManager;
use crate::envoy::headers::{self, Headers};
use crate::envoy::request::HttpRequest;

/// Bytes of a request's headers that Envoy reads.
const MAX_HEADER_BYTES: usize = 60 * 1024;
/// Header lines that Envoy reads, the host among them.
const MAX_HEADERS: usize = 100;
/// Header names that `connection` may nominate.
const MAX_NOMINATED: usize = 10;

/// A request that the codec answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Status.
    pub(crate) status: u16,
    /// Body.
    pub(crate) body: &'static str,
    /// `response_code_details`.
    pub(crate) details: &'static str,
    /// Whether the log has the flag `DPE`.
    pub(crate) protocol_error: bool,
}

impl Refusal {
    const fn bad_request(details: &'static str) -> Self {
        Self { status: 400, body: "Bad Request", details, protocol_error: true }
    }

    /// Bytes that are no HTTP.
    pub(crate) const GARBAGE: Self = Self::bad_request("http1.codec_error");

    /// HTTP/1.0 where it is not accepted.
    pub(crate) const LOW_VERSION: Self =
        Self { status: 426, body: "Upgrade Required", details: "low_version", protocol_error: true };
}

/// Reads a request as the codec does: checks it, joins lines, drops what `connection` nominates.
///
/// # Errors
///
/// The codec answers it.
pub(crate) fn read(
    request: &mut HttpRequest,
    options: &HttpConnectionManager,
    http2: bool,
) -> Result<(), Refusal> {
    let line = |(name, value): &(SmolStr, SmolStr)| name.len() + value.len();
    let bytes = request.path.len() + request.authority.len() + "host".len() + request.method.len();
    if bytes + request.headers.iter().map(line).sum::<usize>() > MAX_HEADER_BYTES {
        return Err(too_large(if http2 { "http2.headers_too_large" } else { "http1.headers_too_large" }));
    }
    if request.headers.len() + 1 > MAX_HEADERS {
        return Err(too_large(if http2 { "http2.too_many_headers" } else { "http1.too_many_headers" }));
    }
    if !http2 && !is_method(&request.method) {
        return Err(Refusal::GARBAGE);
    }
    for (name, value) in &mut request.headers {
        check_name(name, options)?;
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            *name = name.to_lowercase_smolstr();
        }
        let trimmed = value.trim_matches([' ', '\t']);
        if trimmed.len() != value.len() {
            *value = trimmed.into();
        }
        if value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return Err(Refusal::bad_request("http1.invalid_characters"));
        }
    }
    if !request.authority.bytes().all(is_authority) {
        return Err(Refusal::bad_request("http.invalid_authority"));
    }
    if !http2 {
        absolute_form(request)?;
        framing(&request.headers)?;
    }
    headers::join_inline(&mut request.headers);
    if headers::get(&request.headers, "upgrade").is_some_and(|kind| kind.eq_ignore_ascii_case("h2c")) {
        // HTTP/2 is never spoken after an upgrade; the request is served as it is.
        request.headers.retain(|(name, _)| name != "upgrade" && name != "http2-settings");
    }
    nominated(&mut request.headers)
}

fn too_large(details: &'static str) -> Refusal {
    Refusal { status: 431, body: "Request Header Fields Too Large", details, protocol_error: true }
}

/// The methods that Envoy's HTTP/1 parser knows. Envoy: `http1/balsa_parser.cc: isMethodValid`.
fn is_method(method: &str) -> bool {
    const METHODS: &[&str] = &[
        "ACL",
        "BIND",
        "CHECKOUT",
        "CONNECT",
        "COPY",
        "DELETE",
        "GET",
        "HEAD",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "MSEARCH",
        "NOTIFY",
        "OPTIONS",
        "PATCH",
        "POST",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "PUT",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "TRACE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ];
    METHODS.binary_search(&method).is_ok()
}

fn check_name(name: &str, options: &HttpConnectionManager) -> Result<(), Refusal> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Refusal::GARBAGE);
    }
    if options.reject_headers_with_underscores && name.contains('_') {
        return Err(Refusal::bad_request("http1.unexpected_underscore"));
    }
    Ok(())
}

fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]@".contains(&byte)
}

/// A target with scheme and host: its host replaces the Host header.
///
/// Envoy: `http1/codec_impl.cc: ServerConnectionImpl::handlePath`.
fn absolute_form(request: &mut HttpRequest) -> Result<(), Refusal> {
    if request.path.starts_with('/') || request.method == "CONNECT" {
        return Ok(());
    }
    if request.path == "*" && request.method == "OPTIONS" {
        return Ok(());
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| request.path.strip_prefix(scheme));
    let Some(rest) = rest.filter(|rest| !rest.is_empty()) else { return Err(Refusal::GARBAGE) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or(Refusal::GARBAGE)?;
    if authority.is_empty() || !authority.bytes().all(is_authority) {
        return Err(Refusal::GARBAGE);
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let path = smol_str::format_smolstr!("{slash}{path}");
    request.authority = authority.into();
    request.path = path;
    Ok(())
}

/// Lengths that cannot be right.
fn framing(lines: &[(SmolStr, SmolStr)]) -> Result<(), Refusal> {
    let mut lengths = lines.iter().filter(|(name, _)| name == "content-length").map(|(_, value)| value);
    let length = lengths.next();
    if lengths.next().is_some()
        || length.is_some_and(|l| l.is_empty() || !l.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(Refusal::GARBAGE);
    }
    let Some(encoding) = headers::joined(lines, "transfer-encoding") else { return Ok(()) };
    if !encoding.eq_ignore_ascii_case("chunked") {
        return Err(Refusal {
            status: 501,
            body: "Not Implemented",
            details: "http1.invalid_transfer_encoding",
            protocol_error: true,
        });
    }
    if length.is_some() {
        return Err(Refusal::bad_request("http1.content_length_and_chunked_not_allowed"));
    }
    Ok(())
}

/// Removes the headers that `connection` names. Envoy: `http/utility.cc: Utility::sanitizeConnectionHeader`.
fn nominated(lines: &mut Headers) -> Result<(), Refusal> {
    let Some(connection) = headers::get(lines, "connection").cloned() else { return Ok(()) };
    let tokens = || connection.split(',').map(str::trim).filter(|token| !token.is_empty());
    if tokens().count() >= MAX_NOMINATED {
        return Err(Refusal::GARBAGE);
    }
    for token in tokens() {
        let name = token.to_lowercase_smolstr();
        match name.as_str() {
            "close" | "keep-alive" | "upgrade" | "http2-settings" | "connection" => {}
            "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" => return Err(Refusal::GARBAGE),
            name if name.starts_with(':') => return Err(Refusal::GARBAGE),
            "te" if headers::get(lines, "te").is_some_and(|te| has_trailers(te)) => {
                if let Some((_, te)) = lines.iter_mut().find(|(key, _)| key == "te") {
                    *te = SmolStr::new_static("trailers");
                }
            }
            name => lines.retain(|(key, _)| key != name),
        }
    }
    Ok(())
}

/// Whether `trailers` is one of the values of `te`.
pub(crate) fn has_trailers(te: &str) -> bool {
    te.split(',').any(|value| value.trim().eq_ignore_ascii_case("trailers"))
}

/// Whether an HTTP/1 request without a body has no `content-length`. Envoy: `header_utility.cc: requestShouldHaveNoBody`.
pub(crate) fn is_bodiless(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "DELETE" | "TRACE" | "CONNECT")
}
