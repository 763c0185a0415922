//! What does the HTTP/2 codec make of a request?
//!
//! Envoy: `http2/codec_impl.cc: ConnectionImpl::saveHeader, onInvalidFrame`, over nghttp2's `nghttp2_http.c`. Measured with Envoy 1.40.
//! A field is looked at before the next one arrives, so the first fault in order counts. Invariant: limits end the walk over the fields,
//! so its work is bounded.

use smol_str::SmolStr;

use super::class::{AUTHORITY, CONTROL, TOKEN};
use super::codec;
use crate::envoy::config::{HeadersWithUnderscores, HttpConnectionManager};
use crate::envoy::decision::{Ends, Reset};
use crate::envoy::headers::{self, Headers};
use crate::envoy::ledger::Ledger;
use crate::envoy::reply::ResponseFlag;
use crate::envoy::request::{Body, HttpRequest};
use crate::origin::Origin;

/// Fields that Envoy reads, pseudo headers among them.
const MAX_FIELDS: usize = 100;

/// Fields of the connection, which HTTP/2 does not have. nghttp2: `nghttp2_http.c: http_request_on_header`.
const CONNECTION: &[&str] = &["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Why the codec does not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A field that may not be there, or with that value.
    Field,
    /// Fields that are proper one by one, and not together.
    Messaging,
    /// A name with an underscore, where these are refused.
    Underscore,
    /// Too many bytes.
    TooLarge,
    /// Too many fields.
    TooMany,
}

impl From<Fault> for Reset {
    fn from(fault: Fault) -> Self {
        let broken = (Ends::Connection, ResponseFlag::DownstreamProtocolError);
        let refused = (Ends::Stream, ResponseFlag::DownstreamRemoteReset);
        let ((ends, flag), details, rule) = match fault {
            Fault::Field => (broken, "http2.invalid.header.field", "HTTP/2 codec: an improper field"),
            Fault::Messaging => (
                broken,
                "http2.violation.of.messaging.rule",
                "HTTP/2 codec: fields that make no proper request together",
            ),
            Fault::Underscore => (
                refused,
                "http2.unexpected_underscore",
                "HTTP/2 codec: a name with an underscore, which this proxy refuses",
            ),
            Fault::TooLarge => {
                (refused, "http2.header_list_size_too_large", "HTTP/2 codec: fields of too many bytes")
            }
            Fault::TooMany => (refused, "http2.too_many_headers", "HTTP/2 codec: too many fields"),
        };
        Self {
            ends,
            status: 0,
            flags: vec![flag],
            details: SmolStr::new_static(details),
            origin: Origin::default(rule),
        }
    }
}

/// A body that is not as long as `content-length` says; what the proxy has done with the head is undone.
pub(crate) fn mismatch() -> Reset {
    Reset {
        ends: Ends::Stream,
        status: 0,
        flags: vec![ResponseFlag::DownstreamProtocolError],
        details: SmolStr::new_static("http2.remote_reset"),
        origin: Origin::default("HTTP/2 codec: a body that is not as long as content-length says"),
    }
}

/// Reads a request as the codec does: checks it, joins lines and cookies, drops a host that comes besides `:authority`.
///
/// # Errors
///
/// The codec does not take it.
pub(crate) fn read(
    request: &mut HttpRequest,
    options: &HttpConnectionManager,
    ledger: &mut Ledger,
) -> Result<(), Fault> {
    let mut limits = Limits { bytes: 0, fields: 0, most: options.max_request_headers_kb as usize * 1024 };
    pseudo(request, &mut limits)?;
    let mut out = Headers::with_capacity(request.headers.len());
    let mut cookies: Option<SmolStr> = None;
    let mut host = false;
    for (name, value) in std::mem::take(&mut request.headers) {
        let again = match name.as_str() {
            "host" => std::mem::replace(&mut host, true),
            "content-length" => headers::has(&out, "content-length"),
            _ => false,
        };
        if again || !is_field(&name, &value) {
            return Err(Fault::Field);
        }
        if name.contains('_') {
            match options.headers_with_underscores_action {
                HeadersWithUnderscores::Allow => {}
                HeadersWithUnderscores::RejectRequest => return Err(Fault::Underscore),
                HeadersWithUnderscores::DropHeader => {
                    codec::note_dropped(ledger, name, value, options);
                    continue;
                }
            }
        }
        match name.as_str() {
            "host" => limits.field(name.len() + value.len())?,
            "cookie" => {
                let all = match cookies.take().filter(|before| !before.is_empty()) {
                    Some(before) => {
                        limits.field("; ".len() + value.len())?;
                        smol_str::format_smolstr!("{before}; {value}")
                    }
                    None => {
                        limits.field(value.len())?;
                        value
                    }
                };
                cookies = Some(all);
            }
            _ => match out.iter_mut().find(|(key, _)| headers::is_inline(key) && *key == name) {
                Some((_, line)) => {
                    let before = line.len();
                    *line = headers::join(line, &value);
                    limits.bytes(line.len().saturating_sub(before))?;
                }
                None => {
                    limits.field(name.len() + value.len())?;
                    out.push((name, value));
                }
            },
        }
    }
    if let Some(cookies) = cookies {
        out.push((SmolStr::new_static("cookie"), cookies));
    }
    request.headers = out;
    if is_message(request) { Ok(()) } else { Err(Fault::Messaging) }
}

/// The pseudo headers, in the order in which clients send them.
fn pseudo(request: &HttpRequest, limits: &mut Limits) -> Result<(), Fault> {
    let HttpRequest { method, path, authority, scheme, .. } = request;
    let connect = method == "CONNECT";
    let scheme = scheme.as_deref().or((!connect).then_some("http"));
    let fields = [
        (":method", Some(method.as_str()), is_method as fn(&str) -> bool),
        (":scheme", scheme, is_scheme),
        (":authority", Some(authority.as_str()).filter(|_| !request.no_host), is_authority),
        (":path", Some(path.as_str()).filter(|path| !connect || !path.is_empty()), is_path),
    ];
    for (name, value, is_proper) in fields {
        let Some(value) = value else { continue };
        if value.is_empty() || !is_proper(value) {
            return Err(Fault::Field);
        }
        limits.field(name.len() + value.len())?;
    }
    Ok(())
}

fn is_method(text: &str) -> bool {
    TOKEN.holds_all(text)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// nghttp2: `nghttp2_http.c: nghttp2_check_authority`: nobody's name goes with a host.
fn is_authority(text: &str) -> bool {
    AUTHORITY.holds_all(text) && !text.contains('@')
}

fn is_path(text: &str) -> bool {
    text.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}

/// Whether a field may be there with its value. nghttp2: `nghttp2_http.c: nghttp2_http_on_header, http_request_on_header`.
fn is_field(name: &str, value: &str) -> bool {
    let token = !name.is_empty() && TOKEN.holds_all(name) && !name.bytes().any(|b| b.is_ascii_uppercase());
    if !token || CONNECTION.contains(&name) || CONTROL.holds_any(value) || value.contains(['\r', '\n']) {
        return false;
    }
    match name {
        "host" => !value.is_empty() && is_authority(value),
        "te" => value.eq_ignore_ascii_case("trailers"),
        "content-length" => length(value).is_some(),
        _ => true,
    }
}

/// A length, which fits into 63 bits.
fn length(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits)?;
    i64::try_from(number).is_ok().then_some(number)
}

/// Whether proper fields make a request. nghttp2: `nghttp2_http.c: nghttp2_http_on_request_headers, nghttp2_http_on_remote_end_stream`.
fn is_message(request: &HttpRequest) -> bool {
    let HttpRequest { method, path, scheme, .. } = request;
    if request.no_host {
        return false;
    }
    if method == "CONNECT" {
        return scheme.is_none() && path.is_empty();
    }
    let http = scheme
        .as_ref()
        .is_none_or(|scheme| ["http", "https"].into_iter().any(|known| scheme.eq_ignore_ascii_case(known)));
    if http && !path.starts_with('/') && !(method == "OPTIONS" && path == "*") {
        return false;
    }
    request.body != Body::Bytes(0) || declared(request).is_none_or(|length| length == 0)
}

fn declared(request: &HttpRequest) -> Option<u64> {
    headers::get(&request.headers, "content-length").and_then(|value| length(value))
}

/// Whether the body that follows has another length than the one that was declared.
pub(crate) fn is_mismatched(request: &HttpRequest) -> bool {
    match request.body {
        Body::Bytes(bytes) if bytes > 0 => declared(request).is_some_and(|length| length != bytes),
        Body::Bytes(_) | Body::Declared | Body::Stream => false,
    }
}

/// What has been read so far, and how much may be.
///
/// Envoy counts what it keeps: a cookie without its name, a line that is joined to one before as no further field; and a host that it
/// drops.
struct Limits {
    bytes: usize,
    fields: usize,
    most: usize,
}

impl Limits {
    fn field(&mut self, bytes: usize) -> Result<(), Fault> {
        self.fields += 1;
        self.bytes(bytes)
    }

    fn bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes;
        if self.bytes > self.most {
            return Err(Fault::TooLarge);
        }
        if self.fields > MAX_FIELDS { Err(Fault::TooMany) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
