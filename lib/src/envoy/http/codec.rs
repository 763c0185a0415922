//! Which requests does the HTTP/1 codec refuse, and what does it make of the rest?
//!
//! Envoy: `http1/codec_impl.cc`, `header_utility.cc`. Measured with Envoy 1.40 (`envoy-semantics`, local replies). Invariant: limits come first, so
//! the work that follows is bounded.

use indexmap::IndexMap;
use smol_str::{SmolStr, StrExt as _, format_smolstr};

use super::class::{AUTHORITY, CONTROL, TARGET, TOKEN, is_ordinary};
use super::sanitize;
use crate::envoy::config::{HeadersWithUnderscores, HttpConnectionManager};
use crate::envoy::headers::{self, Headers, envoy};
use crate::envoy::ledger::{By, HeaderChange, Ledger, Op};
use crate::envoy::request::HttpRequest;

/// Bytes that Envoy's parser is given at a time. Envoy: `buffer_impl.h: Slice::default_slice_size_`.
const MAX_AT_ONCE: usize = 16 * 1024;
/// Bytes of a first line that the HTTP inspector reads.
const MAX_INSPECTED_BYTES: usize = 64 * 1024;
/// Header lines that Envoy reads, the host among them.
const MAX_HEADERS: usize = 100;
/// What stands around the target in a first line, however much of it. Measured with Envoy 1.40.
const BLANK: [char; 2] = [' ', '\t'];
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

    /// Nothing says which host is meant.
    const MISSING_HOST: Self =
        Self { status: 400, body: "", details: "missing_host_header", protocol_error: false };

    /// HTTP/1.0 where it is not accepted.
    pub(crate) const LOW_VERSION: Self =
        Self { status: 426, body: "Upgrade Required", details: "low_version", protocol_error: true };
}

/// Reads a request as the codec does: checks it, joins lines, drops what `connection` nominates and what has a name that is not wanted.
/// `tls`: whether its bytes were protected.
///
/// # Errors
///
/// The codec answers it.
pub(crate) fn read(
    request: &mut HttpRequest,
    options: &HttpConnectionManager,
    tls: bool,
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    let most = options.max_request_headers_kb as usize * 1024;
    let size = head_size(request);
    let first = request.method.len() + request.path.len();
    if request.path.starts_with(BLANK) || request.path.ends_with(BLANK) {
        request.path = request.path.trim_matches(BLANK).into();
    }
    // What stands before a method is never read; what ends it, blank or control character, is found only when all is there.
    if request.method.starts_with(is_separator) {
        return Err(Refusal::GARBAGE);
    }
    // The first line is looked at as soon as it is there; what arrives with the end of the head is looked at as a whole.
    let early = size > most || (size > MAX_AT_ONCE && first < MAX_AT_ONCE);
    if early && first < most {
        let proper = is_first_line(request) && !request.path.contains('\u{7f}');
        if !proper {
            return Err(Refusal::GARBAGE);
        }
    }
    if size > most {
        return Err(too_large("http1.headers_too_large"));
    }
    let ordinary = request.headers.iter().all(|(name, value)| is_ordinary(name, value));
    if has_control_characters(request, ordinary) {
        return Err(Refusal::bad_request("http1.invalid_characters"));
    }
    if !is_first_line(request) {
        return Err(Refusal::GARBAGE);
    }
    if request.method.ends_with(is_separator) {
        request.method = request.method.trim_end_matches(is_separator).into();
    }
    unfold(request);
    join_hosts(request);
    // What is joined counts as one.
    let too_many = || too_large("http1.too_many_headers");
    let (mut counted, mut joined) = (1, Vec::new());
    drop_underscores(&mut request.headers, options, ledger);
    let underscores = options.headers_with_underscores_action == HeadersWithUnderscores::RejectRequest;
    let lines = request.headers.iter_mut().filter(|_| !ordinary || underscores);
    for (name, value) in lines {
        // The parser sees to the ASCII of names; what else is wrong with them is seen while lines are counted. A line is
        // counted once the name of the next one is seen to be proper.
        let counts_first = counted > MAX_HEADERS + 1 && !name.is_ascii();
        check_name(name, options).map_err(|refusal| if counts_first { too_many() } else { refusal })?;
        if !headers::is_inline(name) {
            counted += 1;
        } else if !joined.contains(name) {
            counted += 1;
            joined.push(name.clone());
        }
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            *name = name.to_lowercase_smolstr();
        }
        let trimmed = value.trim_matches([' ', '\t']);
        if trimmed.len() != value.len() {
            *value = trimmed.into();
        }
        // A lone carriage return is dropped as those of a folded line are.
        if value.contains('\r') {
            *value = value.replace_smolstr("\r", "");
        }
    }
    if !has_length(&request.headers) {
        return Err(Refusal::GARBAGE);
    }
    if request.headers.iter().filter(|(name, _)| !headers::is_inline(name)).count() + 1 > MAX_HEADERS {
        return Err(too_many());
    }
    headers::join_inline(&mut request.headers);
    if request.headers.len() + 1 > MAX_HEADERS {
        return Err(too_many());
    }
    framing(request)?;
    if headers::get(&request.headers, "upgrade").is_some_and(|kind| kind.eq_ignore_ascii_case("h2c")) {
        // HTTP/2 is never spoken after an upgrade; the request is served as it is.
        request.headers.retain(|(name, _)| name != "upgrade" && name != "http2-settings");
    }
    // What follows an upgrade or CONNECT is another protocol's. Envoy: `http1/codec_impl.cc: ServerConnectionImpl::onHeadersCompleteBase`.
    let upgrades = request.method == "CONNECT" || sanitize::is_upgrade(&request.headers);
    let hostless = !upgrades && nominated(&mut request.headers, ledger)?;
    let first = options.use_remote_address && options.xff_num_trusted_hops == 0;
    let named = target(request, tls, first)?;
    request.no_host = (hostless || request.no_host) && !named;
    if request.no_host {
        request.authority = SmolStr::default();
        return Err(Refusal::MISSING_HOST);
    }
    if !AUTHORITY.holds_all(&request.authority) {
        return Err(Refusal::bad_request("http.invalid_authority"));
    }
    Ok(())
}

/// Drops headers by their names, where the listener is told to; a name's lines are one entry of the ledger.
///
/// Envoy: `http1/codec_impl.cc: ServerConnectionImpl::checkHeaderNameForUnderscores`.
fn drop_underscores(lines: &mut Headers, options: &HttpConnectionManager, ledger: &mut Ledger) {
    if options.headers_with_underscores_action != HeadersWithUnderscores::DropHeader {
        return;
    }
    let mut dropped: IndexMap<SmolStr, Vec<SmolStr>> = IndexMap::new();
    lines.retain(|(name, value)| {
        let kept = !name.contains('_') || !TOKEN.holds_all(name);
        if !kept && ledger.is_on() {
            dropped.entry(name.to_lowercase_smolstr()).or_default().push(value.trim_matches(BLANK).into());
        }
        kept
    });
    for (name, values) in dropped {
        note_dropped(ledger, name, values.join(",").into(), options);
    }
}

/// Notes a header that is dropped by its name.
pub(super) fn note_dropped(
    ledger: &mut Ledger,
    name: SmolStr,
    value: SmolStr,
    options: &HttpConnectionManager,
) {
    ledger.note(|| HeaderChange {
        op: Op::Remove,
        name,
        old: Some(headers::literal(value)),
        new: None,
        by: By::Istio,
        origin: options.origin.clone(),
    });
}

/// Makes one host of all lines.
fn join_hosts(request: &mut HttpRequest) {
    let HttpRequest { authority, headers, .. } = request;
    headers.retain(|(name, value)| {
        let host = name.eq_ignore_ascii_case("host");
        if host {
            let comma = if authority.is_empty() { "" } else { "," };
            *authority = format_smolstr!("{authority}{comma}{}", value.trim_matches([' ', '\t']));
        }
        !host
    });
}

/// How many bytes a request's head has on the wire, where the limit is one of reading.
fn head_size(request: &HttpRequest) -> usize {
    let HttpRequest { method, path, authority, headers, .. } = request;
    let line = |name: &str, value: &str| name.len() + value.len() + ": \r\n".len();
    let lines: usize = headers.iter().map(|(name, value)| line(name, value)).sum();
    method.len() + path.len() + "  HTTP/1.1\r\n\r\n".len() + line("host", authority) + lines
}

/// Whether there are characters that no part of a request may have; `ordinary` lines have none.
fn has_control_characters(request: &HttpRequest, ordinary: bool) -> bool {
    let HttpRequest { method, path, authority, headers, .. } = request;
    [method, path, authority].into_iter().any(|text| CONTROL.holds_any(text))
        || (!ordinary
            && headers.iter().any(|(name, value)| CONTROL.holds_any(name) || CONTROL.holds_any(value)))
}

/// Whether the parser takes the first line. Envoy: `http1/balsa_parser.cc: isMethodValid, isUrlValid`.
fn is_first_line(request: &HttpRequest) -> bool {
    is_method(request.method.trim_end_matches(is_separator)) && is_target(request)
}

/// Whether a character ends a word of the first line. Measured with Envoy 1.40.
fn is_separator(character: char) -> bool {
    character <= ' '
}

/// What the HTTP inspector makes of a first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// A request's; any method will do.
    Request,
    /// Something else's.
    Other,
    /// It has not ended when the inspector has read all that it does.
    Endless,
}

/// Looks at a first line as the HTTP inspector does. Envoy: `http_inspector.cc: Filter::parseHttpHeader`. Measured with Envoy 1.40.
pub(crate) fn beginning(request: &HttpRequest) -> Beginning {
    const SPACE: [char; 4] = [' ', '\t', '\u{b}', '\u{c}'];
    let HttpRequest { method, path, .. } = request;
    let method = method.trim_end_matches(SPACE);
    // What follows a space is a part of the target.
    let word = method.split(SPACE).next().unwrap_or_default();
    if word.is_empty() || !TOKEN.holds_all(word) {
        Beginning::Other
    } else if request.method.len() + path.len() + "  HTTP/1.1\r\n".len() > MAX_INSPECTED_BYTES {
        // The target is looked at when the line has ended.
        Beginning::Endless
    } else if word.len() < method.len() || path.contains('\u{7f}') || !is_target(request) {
        Beginning::Other
    } else {
        Beginning::Request
    }
}

fn is_target(request: &HttpRequest) -> bool {
    let path = request.path.trim_matches(BLANK);
    if !TARGET.holds_all(path) {
        return false;
    }
    if path.starts_with(['/', '*']) {
        return true;
    }
    let place = if request.method == "CONNECT" {
        path
    } else {
        match path.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphabetic()) => {
                rest
            }
            _ => return false,
        }
    };
    let host = place.split(['/', '?']).next().unwrap_or_default();
    AUTHORITY.holds_all(host) && !host.contains("@@")
}

/// Puts a line that begins with a space behind the one before it.
fn unfold(request: &mut HttpRequest) {
    let continues = |(name, _): &(SmolStr, SmolStr)| name.starts_with([' ', '\t']);
    if !request.headers.iter().any(continues) {
        return;
    }
    let mut out = Headers::with_capacity(request.headers.len());
    for line in std::mem::take(&mut request.headers) {
        if continues(&line) {
            let before = out.last_mut().map_or(&mut request.authority, |(_, value)| value);
            *before = format_smolstr!("{before}{}: {}", line.0, line.1);
        } else {
            out.push(line);
        }
    }
    request.headers = out;
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
        "QUERY",
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
    if name.is_empty() || !TOKEN.holds_all(name) {
        return Err(Refusal::GARBAGE);
    }
    if options.headers_with_underscores_action == HeadersWithUnderscores::RejectRequest && name.contains('_')
    {
        return Err(Refusal::bad_request("http1.unexpected_underscore"));
    }
    Ok(())
}

/// Where a request is for: the host of a target with scheme and host replaces the Host header. Tells whether there is one.
///
/// Envoy: `http1/codec_impl.cc: ServerConnectionImpl::handlePath`.
fn target(request: &mut HttpRequest, tls: bool, first: bool) -> Result<bool, Refusal> {
    let invalid = Err(Refusal::bad_request("http1.invalid_url"));
    if request.method == "CONNECT" {
        let port = request.path.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
        let valid =
            port.is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        return if valid { Ok(false) } else { invalid };
    }
    if request.path.starts_with('/') || (request.path.starts_with('*') && request.method == "OPTIONS") {
        return Ok(false);
    }
    let Some((scheme, rest)) = request.path.split_once("://") else { return invalid };
    let https = scheme.eq_ignore_ascii_case("https");
    if !https && !scheme.eq_ignore_ascii_case("http") {
        return Err(Refusal::bad_request("http1.invalid_scheme"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((authority, path)) = rest.split_at_checked(end) else { return invalid };
    // The name of a user is nobody's host.
    let authority = authority.split_once('@').map_or(authority, |(_, host)| host);
    if authority.is_empty() || authority.contains('@') || !AUTHORITY.holds_all(authority) {
        return invalid;
    }
    // Measured with Envoy 1.40: only a proxy that is the first one asks for it.
    if https && !tls && first {
        return Err(Refusal {
            status: 403,
            body: "Forbidden",
            details: "http1.https_url_on_plaintext_connection",
            protocol_error: true,
        });
    }
    let path = if path.is_empty() { SmolStr::new_static("/") } else { path.into() };
    request.authority = authority.into();
    request.path = path;
    Ok(true)
}

/// What a line says about the length of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Valid,
    Overflow,
    /// The number that it begins with is all that is known of it.
    Invalid(u64),
}

impl Length {
    /// Envoy: quiche's `balsa_frame.cc: ProcessContentLengthLine`.
    fn of(text: &str) -> Self {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        match text.get(..digits).map(str::parse) {
            Some(Ok(number)) if digits < text.len() => Self::Invalid(number),
            Some(Ok(_)) => Self::Valid,
            Some(Err(_)) if digits > 0 => Self::Overflow,
            _ => Self::Invalid(0),
        }
    }
}

/// Whether a request has one length at most, and one that can be right; with chunks it does not count, but lines must be wrong alike.
///
/// Envoy: quiche's `balsa_frame.cc: ProcessHeaderLines`. Measured with Envoy 1.40: the last transfer encoding counts.
fn has_length(lines: &[(SmolStr, SmolStr)]) -> bool {
    let encoding = lines.iter().rfind(|(name, _)| name == "transfer-encoding");
    let chunked = encoding.is_some_and(|(_, value)| value.eq_ignore_ascii_case("chunked"));
    let mut lengths =
        lines.iter().filter(|(name, _)| name == "content-length").map(|(_, value)| Length::of(value));
    let Some(first) = lengths.next() else { return true };
    (first == Length::Valid || chunked) && lengths.all(|other| other == first && other != Length::Valid)
}

/// Refuses a body that nobody knows the end of. Envoy: `http1/codec_impl.cc: ConnectionImpl::onHeadersCompleteImpl`, in its order.
fn framing(request: &mut HttpRequest) -> Result<(), Refusal> {
    let connect = request.method == "CONNECT";
    let lines = &mut request.headers;
    if connect && let Some(length) = headers::get(lines, "content-length") {
        if length != "0" {
            return Err(Refusal::bad_request("http1.body_disallowed"));
        }
        lines.retain(|(name, _)| name != "content-length");
    }
    let Some(encoding) = headers::get(lines, "transfer-encoding") else { return Ok(()) };
    if headers::has(lines, "content-length") {
        return Err(Refusal::bad_request("http1.content_length_and_chunked_not_allowed"));
    }
    if connect || !encoding.eq_ignore_ascii_case("chunked") {
        return Err(Refusal {
            status: 501,
            body: "Not Implemented",
            details: "http1.invalid_transfer_encoding",
            protocol_error: true,
        });
    }
    Ok(())
}

/// Removes the headers that `connection` names, and tells whether the host is one of them.
///
/// Envoy: `http/utility.cc: Utility::sanitizeConnectionHeader`.
fn nominated(lines: &mut Headers, ledger: &mut Ledger) -> Result<bool, Refusal> {
    let mut hostless = false;
    let hand = envoy!("HTTP/1 codec: `connection` names this header");
    let Some(connection) = headers::get(lines, "connection").cloned() else { return Ok(hostless) };
    let tokens = || connection.split(',').map(str::trim).filter(|token| !token.is_empty());
    let rejected = Refusal::bad_request("http1.connection_header_rejected");
    if tokens().count() >= MAX_NOMINATED {
        return Err(rejected);
    }
    for token in tokens() {
        let name = token.to_lowercase_smolstr();
        match name.as_str() {
            "close" | "keep-alive" | "upgrade" | "http2-settings" | "connection" => {}
            "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" => return Err(rejected),
            name if name.starts_with(':') => return Err(rejected),
            "host" => hostless = true,
            "te" if headers::get(lines, "te").is_some_and(|te| has_trailers(te)) => {
                if let Some((_, te)) = lines.iter_mut().find(|(key, _)| key == "te") {
                    *te = SmolStr::new_static("trailers");
                }
            }
            name => headers::remove(lines, ledger, name, hand),
        }
    }
    Ok(hostless)
}

/// Whether `trailers` is one of the values of `te`.
pub(crate) fn has_trailers(te: &str) -> bool {
    te.split(',').any(|value| value.trim().eq_ignore_ascii_case("trailers"))
}

/// Whether an HTTP/1 request without a body has no `content-length`. Envoy: `header_utility.cc: requestShouldHaveNoBody`.
pub(crate) fn is_bodiless(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "DELETE" | "TRACE" | "CONNECT")
}

#[cfg(test)]
pub(super) mod tests;
