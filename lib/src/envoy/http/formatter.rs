//! What do the `%…%` formatters of a header value stand for?
//!
//! Envoy: `formatter/stream_info_formatter.cc`, `http_formatter_impl`. Measured with Envoy 1.40 (`envoy-semantics`, substitution
//! formatters): what is missing is empty. Invariant: what only a running proxy knows is typed as generated, never invented.

use std::fmt::Write as _;

use smol_str::SmolStr;

use super::local_reply;
use crate::envoy::config::Route;
use crate::envoy::decision::Downstream;
use crate::envoy::headers;
use crate::envoy::ledger::{GENERATED, Generated, HeaderValue};
use crate::envoy::path;
use crate::envoy::reply::ResponseFlag;
use crate::envoy::request::HttpRequest;
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
    /// Whether an upstream sent it.
    pub(crate) upstream: bool,
}

/// The text of a header value.
pub(crate) fn format(template: &SmolStr, values: &Values<'_>) -> HeaderValue {
    if !template.contains('%') {
        return HeaderValue::Literal(template.clone());
    }
    let mut out = String::new();
    let mut rest = template.as_str();
    while let Some((text, after)) = rest.split_once('%') {
        out.push_str(text);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let Some((command, tail)) = split_command(after) else {
            // Envoy refuses a value with a lone percent sign; it is shown as it stands.
            out.push('%');
            rest = after;
            continue;
        };
        expand(command, values, &mut out);
        rest = tail;
    }
    out.push_str(rest);
    if out.contains(GENERATED) {
        HeaderValue::Generated(Generated::Formatter, out.into())
    } else {
        HeaderValue::Literal(out.into())
    }
}

/// A command and what follows its closing percent sign; percent signs in its parentheses are its own.
fn split_command(text: &str) -> Option<(&str, &str)> {
    let close = match (text.find('('), text.find('%')) {
        (Some(open), Some(percent)) if open < percent => {
            let end = open + text.get(open..)?.find(')')?;
            end + text.get(end..)?.find('%')?
        }
        (_, percent) => percent?,
    };
    Some((text.get(..close)?, text.get(close + 1..)?))
}

/// One command: a name, arguments in parentheses, a length.
fn expand(command: &str, values: &Values<'_>, out: &mut String) {
    let (name, arguments, length) = match command.split_once('(') {
        None => match command.split_once(':') {
            Some((name, length)) => (name, "", length.parse::<usize>().ok()),
            None => (command, "", None),
        },
        Some((name, rest)) => match rest.rsplit_once(')') {
            Some((arguments, after)) => {
                (name, arguments, after.strip_prefix(':').and_then(|n| n.parse::<usize>().ok()))
            }
            None => (name, rest, None),
        },
    };
    let start = out.len();
    expand_whole(name, arguments, values, out);
    if let Some(length) = length {
        let end = out.get(start..).and_then(|text| text.char_indices().nth(length));
        if let Some((at, _)) = end {
            out.truncate(start + at);
        }
    }
}

fn expand_whole(name: &str, arguments: &str, values: &Values<'_>, out: &mut String) {
    let downstream = values.downstream;
    match name {
        "REQ" => out.push_str(request_header(arguments, values.request).unwrap_or_default()),
        "REQ_WITHOUT_QUERY" => {
            let value = request_header(arguments, values.request).unwrap_or_default();
            out.push_str(path::split_query(value).0);
        }
        "RESP" => {
            if let Some(response) = values.response {
                let value =
                    either(arguments, |name| headers::get(response.headers, name).map(SmolStr::as_str));
                out.push_str(value.unwrap_or_default());
            }
        }
        "PROTOCOL" => out.push_str(downstream.protocol),
        "RESPONSE_CODE" => {
            let _ = write!(out, "{}", values.response.map_or(0, |response| response.status));
        }
        "RESPONSE_CODE_DETAILS" => out.push_str(values.response.map_or("", |response| response.details)),
        "RESPONSE_FLAGS" => {
            let flags = values.flags;
            if flags.is_empty() {
                out.push('-');
            }
            for (i, flag) in flags.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                let _ = write!(out, "{comma}{flag}");
            }
        }
        "ROUTE_NAME" => out.push_str(values.route.map_or("", |route| &route.name)),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => out.push_str(values.cluster),
        // No host is chosen when request headers are written; one that cannot be connected to was. Measured with Envoy 1.40.
        "UPSTREAM_HOST" => {
            let tried = |response: Response<'_>| {
                response.upstream || values.flags.contains(&ResponseFlag::UpstreamConnectionFailure)
            };
            if values.response.is_some_and(tried) {
                out.push_str(GENERATED);
            }
        }
        "UPSTREAM_REMOTE_ADDRESS"
        | "UPSTREAM_LOCAL_ADDRESS"
        | "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
        | "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT"
        | "UPSTREAM_REMOTE_PORT"
        | "UPSTREAM_LOCAL_PORT" => {
            if values.response.is_some_and(|response| response.upstream) {
                out.push_str(GENERATED);
            }
        }
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => {
            let _ = write!(out, "{}", values.attempts);
        }
        "DOWNSTREAM_REMOTE_ADDRESS" => {
            let _ = write!(out, "{}:{GENERATED}", downstream.remote_address);
        }
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
            let _ = write!(out, "{}", downstream.remote_address);
        }
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
            let _ = write!(out, "{}:{GENERATED}", downstream.direct_remote_address);
        }
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            let _ = write!(out, "{}", downstream.direct_remote_address);
        }
        "DOWNSTREAM_LOCAL_ADDRESS" => {
            let _ = write!(out, "{}:{}", downstream.local_address, downstream.local_port);
        }
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
            let _ = write!(out, "{}", downstream.local_address);
        }
        "DOWNSTREAM_LOCAL_PORT" => {
            let _ = write!(out, "{}", downstream.local_port);
        }
        "DOWNSTREAM_PEER_URI_SAN" => out.push_str(downstream.peer.as_deref().unwrap_or_default()),
        "REQUESTED_SERVER_NAME" => out.push_str(&downstream.sni),
        "DYNAMIC_METADATA"
        | "FILTER_STATE"
        | "VIRTUAL_CLUSTER_NAME"
        | "TRAILER"
        | "UPSTREAM_TRANSPORT_FAILURE_REASON"
        | "CONNECTION_TERMINATION_DETAILS"
        | "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => {}
        name if name.starts_with("DOWNSTREAM_PEER") || name.starts_with("DOWNSTREAM_TLS") => {
            if downstream.tls {
                out.push_str(GENERATED);
            }
        }
        "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => {
            if let Some(status) = values.response.filter(|_| downstream.grpc).and_then(grpc_status) {
                let arguments = if name == "GRPC_STATUS" { arguments } else { "NUMBER" };
                grpc_status_text(status, arguments, out);
            }
        }
        _ => out.push_str(GENERATED),
    }
}

/// The gRPC status of a response's headers; what the proxy answers itself has no status yet.
///
/// Envoy: `grpc/common.cc: Common::getGrpcStatus`.
fn grpc_status(response: Response<'_>) -> Option<u32> {
    let sent = headers::get(response.headers, "grpc-status").and_then(|text| text.parse().ok());
    sent.or_else(|| response.upstream.then(|| local_reply::to_grpc_status(response.status)))
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
