//! Which `%…%` formatters does Envoy take in the value of a header?
//!
//! Envoy: `substitution_formatter.cc: SubstitutionFormatParser::parse`, `substitution_format_utility.cc: CommandSyntaxChecker` and the
//! tables of commands beside them. Measured with Envoy 1.40: one value that it does not take makes it refuse the whole
//! route configuration. Invariant: what is parsed here is what the formatters expand.

use smol_str::{SmolStr, format_smolstr};

/// A piece of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Text that stays.
    Text(&'a str),
    /// A command between percent signs.
    Command(Command<'a>),
}

/// `%NAME(ARGUMENTS):LENGTH%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// What is in parentheses; may be empty.
    pub(crate) arguments: &'a str,
    /// How many bytes are left of its value.
    pub(crate) length: Option<usize>,
}

/// The pieces of a value.
///
/// # Errors
///
/// Envoy refuses the value; the text says why.
pub(crate) fn parse(value: &str) -> Result<Vec<Part<'_>>, SmolStr> {
    let mut out = Vec::new();
    let mut rest = value;
    while let Some((text, after)) = rest.split_once('%') {
        if !text.is_empty() {
            out.push(Part::Text(text));
        }
        if let Some(after) = after.strip_prefix('%') {
            out.push(Part::Text("%"));
            rest = after;
            continue;
        }
        let Some((command, tail)) = command(after) else {
            return Err(format_smolstr!(
                "`%{after}` does not begin with a command, and a percent sign is written `%%`"
            ));
        };
        check(command)?;
        out.push(Part::Command(command));
        rest = tail;
    }
    if !rest.is_empty() {
        out.push(Part::Text(rest));
    }
    Ok(out)
}

/// A command up to its closing percent sign, and what follows; percent signs in its parentheses are its own.
fn command(text: &str) -> Option<(Command<'_>, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let (name, rest) = text.split_at_checked(end)?;
    let (arguments, rest) = match rest.strip_prefix('(') {
        Some(inner) => inner.split_once(')')?,
        None => ("", rest),
    };
    let (length, rest) = match rest.strip_prefix(':') {
        Some(number) => {
            let (digits, _) = number.split_once('%')?;
            // A sign is no part of a number.
            let digits = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
            (Some(digits.parse().ok()?), number.get(digits.len()..)?)
        }
        None => (None, rest),
    };
    let rest = rest.strip_prefix('%')?;
    (!name.is_empty()).then_some((Command { name, arguments, length }, rest))
}

/// What a command may have in parentheses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arguments {
    None,
    Optional,
    Required,
}

/// Commands that take arguments or a length, by name: whether a length, and which arguments.
const WITH_ARGUMENTS: &[(&str, Arguments, bool)] = &[
    ("CEL", Arguments::Required, true),
    ("CLUSTER_METADATA", Arguments::Required, false),
    ("COALESCE", Arguments::Required, true),
    ("COMMON_DURATION", Arguments::Required, false),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", Arguments::Optional, false),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Arguments::Optional, false),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Arguments::Optional, false),
    ("DOWNSTREAM_PEER_CERT_V_END", Arguments::Optional, false),
    ("DOWNSTREAM_PEER_CERT_V_START", Arguments::Optional, false),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Arguments::Optional, false),
    ("DYNAMIC_METADATA", Arguments::Required, false),
    ("EMIT_TIME", Arguments::Optional, false),
    ("EMIT_TIME_LOCAL", Arguments::Optional, false),
    ("ENVIRONMENT", Arguments::Required, true),
    ("FILTER_STATE", Arguments::Optional, true),
    ("GRPC_STATUS", Arguments::Optional, false),
    ("METADATA", Arguments::Optional, true),
    ("PATH", Arguments::Optional, true),
    ("PER_REQUEST_STATE", Arguments::Required, false),
    ("QUERY_PARAM", Arguments::Required, true),
    ("QUERY_PARAMS", Arguments::Optional, true),
    ("REQ", Arguments::Required, true),
    ("REQUESTED_SERVER_NAME", Arguments::Optional, false),
    ("REQUEST_HEADER", Arguments::Required, true),
    ("RESP", Arguments::Required, true),
    ("RESPONSE_CODE_DETAILS", Arguments::Optional, false),
    ("RESPONSE_HEADER", Arguments::Required, true),
    ("RESPONSE_TRAILER", Arguments::Required, true),
    ("START_TIME", Arguments::Optional, false),
    ("START_TIME_LOCAL", Arguments::Optional, false),
    ("STREAM_INFO_REQ", Arguments::Required, true),
    ("TRAILER", Arguments::Required, true),
    ("UPSTREAM_FILTER_STATE", Arguments::Optional, true),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Arguments::Optional, false),
    ("UPSTREAM_METADATA", Arguments::Required, false),
    ("UPSTREAM_PEER_CERT_V_END", Arguments::Optional, false),
    ("UPSTREAM_PEER_CERT_V_START", Arguments::Optional, false),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Arguments::Optional, false),
];

/// Commands that are written alone. Measured with Envoy 1.40, each of them.
const ALONE: &[&str] = &[
    "ACCESS_LOG_TYPE",
    "BYTES_RECEIVED",
    "BYTES_RETRANSMITTED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "CUSTOM_FLAGS",
    "DOWNSTREAM_CX_RTT",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_DIRECT_LOCAL_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER_SERIAL",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_GROUP",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DURATION",
    "FILTER_CHAIN_NAME",
    "GRPC_STATUS_NUMBER",
    "HOSTNAME",
    "LOCAL_REPLY_BODY",
    "PACKETS_RETRANSMITTED",
    "PROTOCOL",
    "REQUEST_DURATION",
    "REQUEST_HEADERS_BYTES",
    "REQUEST_TX_DURATION",
    "RESPONSE_CODE",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION",
    "ROUNDTRIP_DURATION",
    "ROUTE_NAME",
    "ROUTE_RESOLUTION_COUNT",
    "ROUTE_RESOLUTION_TIME_US",
    "SPAN_ID",
    "STREAM_ID",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "TRACE_ID",
    "UNIQUE_ID",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOST",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_LOCAL_DNS_SAN",
    "UPSTREAM_LOCAL_IP_SAN",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_LOCAL_URI_SAN",
    "UPSTREAM_PEER_CERT",
    "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_IP_SAN",
    "UPSTREAM_PEER_ISSUER",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_SERVER_NAME",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_GROUP",
    "UPSTREAM_TLS_SESSION_ID",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
    "VIRTUAL_CLUSTER_NAME",
];

/// Whether Envoy knows a command, and takes it as it is written.
fn check(command: Command<'_>) -> Result<(), SmolStr> {
    let Command { name, arguments, length } = command;
    let place = WITH_ARGUMENTS.binary_search_by(|(known, ..)| (*known).cmp(name));
    let (takes, takes_length) = match place.ok().and_then(|place| WITH_ARGUMENTS.get(place)) {
        Some((_, takes, length)) => (*takes, *length),
        None if ALONE.binary_search(&name).is_ok() => (Arguments::None, false),
        None => return Err(format_smolstr!("`{name}` is not a command that Envoy knows")),
    };
    if takes == Arguments::None && !(arguments.is_empty() && length.is_none()) {
        return Err(format_smolstr!("`{name}` takes neither parameters nor a length"));
    }
    if takes == Arguments::Required && arguments.is_empty() {
        return Err(format_smolstr!("`{name}` needs parameters in parentheses"));
    }
    if length.is_some() && !takes_length {
        return Err(format_smolstr!("`{name}` takes no length"));
    }
    if is_proper(name, arguments) {
        Ok(())
    } else {
        Err(format_smolstr!("`{name}` does not take the parameters `{arguments}`"))
    }
}

/// Whether a command takes its arguments.
fn is_proper(name: &str, arguments: &str) -> bool {
    let mut parts = arguments.split(':');
    let mut part = || parts.next().unwrap_or_default();
    match name {
        "REQ" | "REQUEST_HEADER" | "RESP" | "RESPONSE_HEADER" | "TRAILER" | "RESPONSE_TRAILER"
        | "STREAM_INFO_REQ" => {
            let names: Vec<&str> = arguments.split('?').collect();
            names.len() <= 2 && names.into_iter().all(is_header)
        }
        "START_TIME"
        | "START_TIME_LOCAL"
        | "EMIT_TIME"
        | "EMIT_TIME_LOCAL"
        | "DOWNSTREAM_PEER_CERT_V_START"
        | "DOWNSTREAM_PEER_CERT_V_END"
        | "UPSTREAM_PEER_CERT_V_START"
        | "UPSTREAM_PEER_CERT_V_END" => !breaks_line(arguments),
        "GRPC_STATUS" => matches!(arguments, "" | "CAMEL_STRING" | "SNAKE_STRING" | "NUMBER"),
        "PATH" => {
            matches!(part(), "" | "WQ" | "NQ") && matches!(part(), "" | "ORIG" | "PATH" | "ORIG_OR_PATH")
        }
        "QUERY_PARAMS" => matches!(arguments, "" | "ORIG" | "DECODED"),
        "REQUESTED_SERVER_NAME" => {
            matches!(part(), "" | "SNI_ONLY" | "SNI_FIRST" | "HOST_FIRST")
                && matches!(part(), "" | "ORIG" | "HOST" | "ORIG_OR_HOST")
        }
        "METADATA" => matches!(
            part(),
            "DYNAMIC"
                | "CLUSTER"
                | "ROUTE"
                | "UPSTREAM_HOST"
                | "LISTENER"
                | "LISTENER_FILTER_CHAIN"
                | "VIRTUAL_HOST"
        ),
        "COMMON_DURATION" => {
            (2..=3).contains(&arguments.split(':').count())
                && matches!(arguments.split(':').nth(2), None | Some("ms" | "us" | "ns"))
        }
        "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => {
            let (key, kind, field) = (part(), part(), part());
            !key.is_empty()
                && matches!(kind, "" | "PLAIN" | "TYPED" | "FIELD")
                && (kind == "FIELD") != field.is_empty()
        }
        // Read as `FILTER_STATE(…:PLAIN)`. Envoy: `header_parser_utils.cc: HeaderParser::translatePerRequestState`.
        "PER_REQUEST_STATE" => !arguments.contains(':'),
        "COALESCE" => serde_json::from_str::<serde_json::Value>(arguments)
            .is_ok_and(|json| json.get("operators").is_some_and(serde_json::Value::is_array)),
        _ => true,
    }
}

/// Whether a header can be asked for by this name, in any case; none is fine.
fn is_header(name: &str) -> bool {
    let name = name.strip_prefix(':').unwrap_or(name);
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether a time's format writes a new line: `%n`, with what may stand between.
fn breaks_line(format: &str) -> bool {
    format.match_indices('%').any(|(at, _)| {
        let rest = format.get(at + 1..).unwrap_or_default();
        let rest = rest.trim_start_matches(['-', '_', '0', '^', '#']);
        let rest = rest.trim_start_matches(|c: char| ('1'..='9').contains(&c));
        rest.strip_prefix(['E', 'O']).unwrap_or(rest).starts_with('n')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted() {
        assert!(ALONE.is_sorted());
        assert!(WITH_ARGUMENTS.is_sorted_by_key(|(name, ..)| *name));
    }

    #[test]
    fn commands_have_arguments_and_lengths() {
        let command = |name, arguments, length| Part::Command(Command { name, arguments, length });
        assert_eq!(
            parse("a%%%REQ(x-foo?y):3%b%START_TIME(%s)%%PROTOCOL%").unwrap(),
            [
                Part::Text("a"),
                Part::Text("%"),
                command("REQ", "x-foo?y", Some(3)),
                Part::Text("b"),
                command("START_TIME", "%s", None),
                command("PROTOCOL", "", None),
            ]
        );
    }

    /// Measured with Envoy 1.40.
    #[test]
    fn envoy_refuses_what_it_does_not_know() {
        for value in [
            "plain",
            "100%%",
            "%PROTOCOL()%",
            "%REQ(x-foo?)%",
            "%REQ(:a)%",
            "%PATH%",
            "%PATH(:ORIG)%",
            "%PATH(NQ:PATH):3%",
            "%QUERY_PARAMS(DECODED)%",
            "%QUERY_PARAM(k):2%",
            "%REQUESTED_SERVER_NAME(HOST_FIRST:ORIG)%",
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(x)%",
            "%RESPONSE_CODE_DETAILS(x)%",
            "%FILTER_STATE(a:FIELD:x)%",
            "%PER_REQUEST_STATE(x)%",
            "%METADATA(CLUSTER:a):3%",
            "%METADATA(ROUTE)%",
            "%COMMON_DURATION(a:b)%",
            "%START_TIME(%E)%",
            "%DYNAMIC_METADATA([\"a\",\"b\"])%",
            "%CEL(request.headers[\"x-foo\"])%",
            "%ENVIRONMENT(PATH):4%",
            "%COALESCE({\"operators\":[\"PROTOCOL\"]})%",
            "%UPSTREAM_HOSTS_ATTEMPTED%",
        ] {
            assert!(parse(value).is_ok(), "{value}: {:?}", parse(value));
        }
        for value in [
            "%FOO%",
            "%FOO(x)%",
            "%REQ_WITHOUT_QUERY(:PATH)%",
            "%REQ%",
            "%REQ()%",
            "%REQ(a?b?c)%",
            "%REQ(x foo)%",
            "%REQ(a:b)%",
            "%REQ(x-foo? )%",
            "%REQ((x-foo))%",
            "%req(x)%",
            "%REQ(x-foo)",
            "100%",
            "% %",
            "%REQ(x):-1%",
            "%REQ(x):99999999999999999999%",
            "%REQ(x)x%",
            "%PROTOCOL(x)%",
            "%TRACE_ID(x)%",
            "%SPAN_ID:3%",
            "%START_TIME:3%",
            "%START_TIME(%n)%",
            "%START_TIME(%En)%",
            "%ENVIRONMENT%",
            "%GRPC_STATUS(X)%",
            "%QUERY_PARAMS(X)%",
            "%REQUESTED_SERVER_NAME(HOST_ONLY)%",
            "%REQUESTED_SERVER_NAME(HOST_FIRST):3%",
            "%DOWNSTREAM_REMOTE_ADDRESS(24)%",
            "%FILTER_STATE%",
            "%FILTER_STATE(a:X)%",
            "%FILTER_STATE(a:FIELD)%",
            "%PER_REQUEST_STATE(a:b)%",
            "%METADATA%",
            "%METADATA(FOO:x)%",
            "%COMMON_DURATION(DS_RX_BEG)%",
            "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:xs)%",
            "%COALESCE({})%",
            "%VIRTUAL_HOST_NAME%",
            "%",
        ] {
            assert!(parse(value).is_err(), "{value}");
        }
    }
}
