//! What do the `%…%` formatters of a header value stand for?
//!
//! Envoy: `formatter/stream_info_formatter.cc`, `http_specific_formatter.cc`. Measured with Envoy 1.40 (`envoy-semantics`, substitution
//! formatters): what is missing is empty. Invariant: what only a running proxy knows is typed as generated, never invented.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use smol_str::SmolStr;

use super::local_reply;
use crate::envoy::config::Route;
use crate::envoy::decision::Downstream;
use crate::envoy::headers;
use crate::envoy::ledger::{GENERATED, Generated, HeaderValue};
use crate::envoy::path;
use crate::envoy::reply::ResponseFlag;
use crate::envoy::request::HttpRequest;
use crate::envoy::substitution::{self, Command, Part};
use crate::grpc;

/// What formatters can ask for.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    /// The request, as it is now.
    pub(crate) request: &'a HttpRequest,
    /// The response so far; `None` on the way in.
    pub(crate) response: Option<Response<'a>>,
    /// The connection.
    pub(crate) downstream: &'a Downstream,
    /// The route.
    pub(crate) route: Option<&'a Route>,
    /// The cluster's name; empty when there is none.
    pub(crate) cluster: &'a str,
    /// How many tries were made so far.
    pub(crate) attempts: u32,
    /// Whether spans are made, by whichever tracer.
    pub(crate) traced: bool,
    /// Flags so far; on the way in only that of an injected delay.
    pub(crate) flags: &'a [ResponseFlag],
}

/// A response on its way back.
#[derive(Clone, Copy)]
pub(crate) struct Response<'a> {
    /// Status.
    pub(crate) status: u16,
    /// Headers.
    pub(crate) headers: &'a [(SmolStr, SmolStr)],
    /// Details.
    pub(crate) details: &'a str,
    /// The upstream that sent it; `None` when the proxy answers by itself.
    pub(crate) upstream: Option<Upstream>,
}

/// What is known of the connection that a response came on.
#[derive(Clone, Copy)]
pub(crate) struct Upstream {
    /// Whether it may have been TLS.
    pub(crate) tls: bool,
    /// `HTTP/1.1` or `HTTP/2`.
    pub(crate) protocol: &'static str,
}

/// The text of a header value.
pub(crate) fn format(template: &SmolStr, values: &Values<'_>) -> HeaderValue {
    if !template.contains('%') {
        return HeaderValue::Literal(template.clone());
    }
    // Envoy takes no route configuration with a value that it cannot read; such a value is shown as it stands.
    let Ok(parts) = substitution::parse(template) else { return HeaderValue::Literal(template.clone()) };
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Command(command) => expand(command, values, &mut out),
        }
    }
    if out.contains(GENERATED) {
        HeaderValue::Generated(Generated::Formatter, out.into())
    } else {
        HeaderValue::Literal(out.into())
    }
}

fn expand(command: Command<'_>, values: &Values<'_>, out: &mut String) {
    let start = out.len();
    expand_whole(command, values, out);
    let value = out.get(start..).unwrap_or_default();
    if let Some(length) = command.length
        && value != GENERATED
        && value.len() > length
    {
        // Envoy cuts bytes; half a character cannot be shown.
        let end = (0..=length).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
        out.truncate(start + end);
    }
}

fn expand_whole(command: Command<'_>, values: &Values<'_>, out: &mut String) {
    let Command { name, arguments, .. } = command;
    if let Some(value) = of_request(command, values) {
        out.push_str(&value);
        return;
    }
    let downstream = values.downstream;
    let upstream = values.response.and_then(|response| response.upstream);
    // No host is chosen when request headers are written; one that cannot be connected to was. Measured with Envoy 1.40.
    let tried = upstream.is_some() || values.flags.contains(&ResponseFlag::UpstreamConnectionFailure);
    let known = values.response.is_some() && tried;
    let mut generated = |is: bool| {
        if is {
            out.push_str(GENERATED);
        }
    };
    match name {
        "RESP" | "RESPONSE_HEADER" => {
            if let Some(response) = values.response {
                let value =
                    either(arguments, |name| headers::get(response.headers, name).map(SmolStr::as_str));
                out.push_str(value.unwrap_or_default());
            }
        }
        "RESPONSE_CODE" => {
            let _ = write!(out, "{}", values.response.map_or(0, |response| response.status));
        }
        "RESPONSE_CODE_DETAILS" => out.push_str(values.response.map_or("", |response| response.details)),
        "RESPONSE_FLAGS" => flags(values.flags, out, |flag| flag.to_string()),
        // Envoy's long names are those of the flags here.
        "RESPONSE_FLAGS_LONG" => flags(values.flags, out, |flag| format!("{flag:?}")),
        "ROUTE_NAME" => out.push_str(values.route.map_or("", |route| &route.name)),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => out.push_str(values.cluster),
        "UPSTREAM_HOST"
        | "UPSTREAM_HOST_NAME"
        | "UPSTREAM_HOST_NAME_WITHOUT_PORT"
        | "UPSTREAM_CONNECTION_POOL_READY_DURATION" => generated(known),
        "UPSTREAM_DETECTED_CLOSE_TYPE" if known => out.push_str("Normal"),
        "DOWNSTREAM_DETECTED_CLOSE_TYPE" => out.push_str("Normal"),
        "UPSTREAM_REMOTE_ADDRESS"
        | "UPSTREAM_LOCAL_ADDRESS"
        | "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
        | "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT"
        | "UPSTREAM_REMOTE_PORT"
        | "UPSTREAM_LOCAL_PORT"
        | "UPSTREAM_HOSTS_ATTEMPTED"
        | "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT"
        | "UPSTREAM_HOST_NAMES_ATTEMPTED"
        | "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT"
        | "UPSTREAM_CONNECTION_IDS_ATTEMPTED"
        | "RESPONSE_DURATION"
        | "REQUEST_TX_DURATION" => generated(upstream.is_some()),
        "UPSTREAM_PROTOCOL" => out.push_str(upstream.map_or("", |upstream| upstream.protocol)),
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => {
            let _ = write!(out, "{}", values.attempts);
        }
        "UPSTREAM_CONNECTION_ID" | "BYTES_RECEIVED" if values.response.is_none() => out.push('0'),
        // Headers are written before any of the body.
        "BYTES_SENT" | "RESPONSE_TRAILERS_BYTES" => out.push('0'),
        "RESPONSE_HEADERS_BYTES" if values.response.is_none() => out.push('0'),
        "ACCESS_LOG_TYPE" => out.push_str("NotSet"),
        "FILTER_CHAIN_NAME" => out.push_str(&downstream.filter_chain),
        "TRACE_ID" | "SPAN_ID" => generated(values.traced),
        // What istiod, or Envoy for it, writes is not followed; nobody else writes any.
        "METADATA" | "CLUSTER_METADATA" | "UPSTREAM_METADATA" => {
            let (kind, filter) = match name {
                "METADATA" => arguments.split_once(':').unwrap_or((arguments, "")),
                "CLUSTER_METADATA" => ("CLUSTER", arguments),
                _ => ("UPSTREAM_HOST", arguments),
            };
            let there = match kind {
                "CLUSTER" => !values.cluster.is_empty(),
                "UPSTREAM_HOST" => known,
                kind => kind != "DYNAMIC",
            };
            let filter = filter.split(':').next().unwrap_or_default();
            generated(there && (filter == "istio" || filter.starts_with("envoy.")));
        }
        "COMMON_DURATION" => {
            let reached = |point: &str| {
                matches!(point, "DS_RX_BEG" | "DS_RX_END") || (upstream.is_some() && point.starts_with("US_"))
            };
            generated(arguments.split(':').take(2).all(reached));
        }
        "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => {
            if let Some(status) = values.response.filter(|_| downstream.grpc).and_then(grpc_status) {
                let arguments = if name == "GRPC_STATUS" { arguments } else { "NUMBER" };
                grpc_status_text(status, arguments, out);
            }
        }
        "DOWNSTREAM_PEER_URI_SAN" => out.push_str(downstream.peer.as_deref().unwrap_or_default()),
        name if is_never_there(name) => {}
        "DOWNSTREAM_HANDSHAKE_DURATION" => generated(downstream.tls),
        name if is_of_tls(name, "DOWNSTREAM_") => generated(downstream.tls),
        "UPSTREAM_SERVER_NAME" => generated(upstream.is_some_and(|upstream| upstream.tls)),
        name if is_of_tls(name, "UPSTREAM_") => generated(upstream.is_some_and(|upstream| upstream.tls)),
        _ => out.push_str(GENERATED),
    }
}

/// Whether nothing that Istio configures gives a command a value while headers are written. Measured with Envoy 1.40.
fn is_never_there(name: &str) -> bool {
    matches!(
        name,
        "CONNECTION_TERMINATION_DETAILS"
            | "CUSTOM_FLAGS"
            | "DOWNSTREAM_LOCAL_CLOSE_REASON"
            | "DOWNSTREAM_TRANSPORT_FAILURE_REASON"
            | "DYNAMIC_METADATA"
            | "FILTER_STATE"
            | "LOCAL_REPLY_BODY"
            | "PER_REQUEST_STATE"
            | "RESPONSE_TRAILER"
            | "RESPONSE_TX_DURATION"
            | "ROUNDTRIP_DURATION"
            | "TLS_JA3_FINGERPRINT"
            | "TLS_JA4_FINGERPRINT"
            | "TRAILER"
            | "UPSTREAM_DETECTED_CLOSE_TYPE"
            | "UPSTREAM_FILTER_STATE"
            | "UPSTREAM_LOCAL_CLOSE_REASON"
            | "UPSTREAM_TRANSPORT_FAILURE_REASON"
            | "VIRTUAL_CLUSTER_NAME"
    ) || name.ends_with("_ENDPOINT_ID")
}

/// Whether a command is about the TLS of one side's connection.
fn is_of_tls(name: &str, side: &str) -> bool {
    name.strip_prefix(side).is_some_and(|what| {
        what.starts_with("PEER_")
            || what.starts_with("TLS_")
            || (what.starts_with("LOCAL_") && (what.ends_with("_SAN") || what == "LOCAL_SUBJECT"))
    })
}

/// What is known of the request and of the connection that it came on.
fn of_request<'a>(command: Command<'_>, values: &Values<'a>) -> Option<Cow<'a, str>> {
    let Command { name, arguments, .. } = command;
    let (downstream, request) = (values.downstream, values.request);
    let header = |arguments: &str| Cow::Borrowed(request_header(arguments, request).unwrap_or_default());
    let address = |address: IpAddr| Cow::Owned(masked(address, arguments));
    let path = || Cow::Borrowed(request.path.as_str());
    Some(match name {
        "REQ" | "REQUEST_HEADER" | "STREAM_INFO_REQ" => header(arguments),
        "PATH" => {
            let (query, source) = arguments.split_once(':').unwrap_or((arguments, ""));
            let original =
                headers::get(&request.headers, "x-envoy-original-path").filter(|it| !it.is_empty());
            let whole = match (source, original) {
                ("PATH", _) => path(),
                ("ORIG", None) => Cow::Borrowed(""),
                (_, Some(original)) => Cow::Borrowed(original.as_str()),
                (_, None) => path(),
            };
            match (query, whole) {
                ("NQ", Cow::Borrowed(whole)) => Cow::Borrowed(path::split_query(whole).0),
                (_, whole) => whole,
            }
        }
        "QUERY_PARAM" => Cow::Owned(decoded_parameter(&request.path, arguments)),
        "QUERY_PARAMS" => match query_of(&request.path) {
            query if arguments == "DECODED" && query.contains('%') => Cow::Borrowed(GENERATED),
            query => Cow::Borrowed(query),
        },
        "REQUESTED_SERVER_NAME" => {
            let (order, source) = arguments.split_once(':').unwrap_or((arguments, ""));
            let host = || match source {
                // It asks for the stream's headers, which it has none of before they are accepted. Measured with Envoy 1.40.
                _ if !downstream.accepted => Cow::Borrowed(""),
                "ORIG" => header("x-envoy-original-host"),
                "HOST" => header(":authority"),
                _ => header("x-envoy-original-host?:authority"),
            };
            let server = Cow::Borrowed(downstream.sni.as_str());
            match order {
                "HOST_FIRST" => Some(host()).filter(|host| !host.is_empty()).unwrap_or(server),
                "SNI_FIRST" if server.is_empty() => host(),
                _ => server,
            }
        }
        "PROTOCOL" => Cow::Borrowed(downstream.protocol),
        "DOWNSTREAM_REMOTE_ADDRESS" => Cow::Owned(format!("{}:{GENERATED}", downstream.remote_address)),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => address(downstream.remote_address),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
            Cow::Owned(format!("{}:{GENERATED}", downstream.direct_remote_address))
        }
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => address(downstream.direct_remote_address),
        "DOWNSTREAM_LOCAL_ADDRESS" => {
            Cow::Owned(format!("{}:{}", downstream.local_address, downstream.local_port))
        }
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => address(downstream.local_address),
        "DOWNSTREAM_LOCAL_PORT" => Cow::Owned(downstream.local_port.to_string()),
        _ => return None,
    })
}

/// An address, or its network where a prefix length is asked for.
///
/// Envoy: `stream_info/utility.cc: Utility::formatDownstreamAddressNoPort`. Measured with Envoy 1.40: a length that is too long is the
/// longest, and what is no number asks for nothing.
fn masked(address: IpAddr, arguments: &str) -> String {
    let Ok(length) = arguments.parse::<u8>() else { return address.to_string() };
    let length = length.min(if address.is_ipv4() { 32 } else { 128 });
    match ipnet::IpNet::new(address, length) {
        Ok(network) => network.trunc().to_string(),
        Err(_) => address.to_string(),
    }
}

/// The first value of a query parameter, decoded as its name is. Envoy: `http/utility.cc: QueryParamsMulti::parseAndDecodeQueryString`.
fn decoded_parameter(path: &str, name: &str) -> String {
    let mut pairs = query_of(path).split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(key, _)| percent_decode(key) == name.as_bytes());
    found.map(|(_, value)| String::from_utf8_lossy(&percent_decode(value)).into_owned()).unwrap_or_default()
}

/// What follows the question mark.
fn query_of(path: &str) -> &str {
    path.split_once('?').map_or("", |(_, query)| query)
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        match bytes.get(i + 1..i + 3).filter(|_| byte == b'%').and_then(path::hex) {
            Some(decoded) => {
                out.push(decoded);
                i += 3;
            }
            None => {
                out.push(byte);
                i += 1;
            }
        }
    }
    out
}

fn flags(flags: &[ResponseFlag], out: &mut String, name: impl Fn(ResponseFlag) -> String) {
    if flags.is_empty() {
        out.push('-');
    }
    for (i, flag) in flags.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&name(*flag));
    }
}

/// The gRPC status of a response's headers, or else of its status; an answer that the proxy is still making has none of either.
///
/// Envoy: `grpc/common.cc: Common::getGrpcStatus`.
fn grpc_status(response: Response<'_>) -> Option<u32> {
    let sent = headers::get(response.headers, "grpc-status").and_then(|text| text.parse().ok());
    sent.or_else(|| (response.status != 0).then(|| local_reply::to_grpc_status(response.status)))
}

/// Envoy: `substitution_formatter.cc: GrpcStatusFormatter`, `grpc/status.cc`.
fn grpc_status_text(status: u32, format: &str, out: &mut String) {
    let named = grpc::status_names(status);
    match named.filter(|_| format != "NUMBER") {
        Some((_, snake)) if format == "SNAKE_STRING" => out.push_str(snake),
        Some((camel, _)) => out.push_str(camel),
        None => {
            let _ = write!(out, "{status}");
        }
    }
}

fn request_header<'a>(arguments: &str, request: &'a HttpRequest) -> Option<&'a str> {
    either(arguments, |name| match name {
        ":method" => Some(request.method.as_str()),
        ":path" => Some(request.path.as_str()),
        ":authority" | "host" => Some(request.authority.as_str()),
        ":scheme" => request.scheme.as_deref(),
        name => headers::get(&request.headers, name).map(SmolStr::as_str),
    })
}

/// The value of the first name of `a?b` that has one.
fn either<'a>(arguments: &str, get: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    let (first, second) = arguments.split_once('?').unwrap_or((arguments, ""));
    let named = |name: &str| if name.is_empty() { None } else { get(&name.to_ascii_lowercase()) };
    named(first).or_else(|| named(second))
}
