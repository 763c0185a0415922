//! Which request headers does the connection manager set and remove?
//!
//! Envoy: `conn_manager_utility.cc: ConnectionManagerUtility::mutateRequestHeaders`, in its order. Measured with Envoy 1.40
//! (`envoy-semantics`, headers hop by hop).

use std::net::IpAddr;

use smol_str::{SmolStr, ToSmolStr as _};

use super::{codec, referer};
use crate::envoy::config::{ForwardClientCertDetails, HttpConnectionManager};
use crate::envoy::decision::ProxyFacts;
use crate::envoy::headers::{self, Hand, Headers, envoy, literal};
use crate::envoy::ledger::{By, GENERATED, Generated, HeaderValue, Ledger};
use crate::envoy::request::HttpRequest;

/// What is known of the connection.
#[derive(Clone, Copy)]
pub(crate) struct Peer<'a> {
    /// The peer's address.
    pub(crate) address: IpAddr,
    /// The address and port it connected to.
    pub(crate) local: (IpAddr, u16),
    /// Whether this proxy terminated TLS.
    pub(crate) tls: bool,
    /// The URI name of the client's certificate.
    pub(crate) certificate: Option<&'a SmolStr>,
}

/// Headers of internal requests that nobody else may send.
const INTERNAL_ONLY: &[&str] = &[
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-stream-duration-ms",
];

/// Headers that an edge proxy takes from nobody.
const NOT_FROM_OUTSIDE: &[&str] = &[
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
    "x-envoy-original-host",
];

/// Sets and removes headers; the client's address as this proxy trusts it, and whether the request is an internal one.
pub(crate) fn request(
    request: &mut HttpRequest,
    ledger: &mut Ledger,
    options: &HttpConnectionManager,
    facts: &ProxyFacts,
    peer: Peer<'_>,
) -> (IpAddr, bool) {
    let lines = &mut request.headers;
    hop_by_hop(lines, ledger);
    let forwarded = headers::get(lines, "x-forwarded-for").cloned();
    let hops = options.xff_num_trusted_hops as usize;
    let scheme = SmolStr::new_static(if peer.tls { "https" } else { "http" });
    let (client, single) = if options.use_remote_address {
        let trusted = match hops.checked_sub(1) {
            Some(skip) => forwarded.as_deref().and_then(|list| nth_from_right(list, skip)),
            None => None,
        };
        if !options.skip_xff_append {
            // A peer on this machine is written as the proxy's own address.
            let appended = if peer.address.is_loopback() { facts.address } else { peer.address };
            headers::append(
                lines,
                ledger,
                &SmolStr::new_static("x-forwarded-for"),
                literal(appended.to_smolstr()),
                envoy!("HTTP connection manager: useRemoteAddress appends the peer to x-forwarded-for"),
            );
        }
        if hops == 0 || !headers::has(lines, "x-forwarded-proto") {
            let hand = envoy!("HTTP connection manager: useRemoteAddress sets x-forwarded-proto");
            headers::set(lines, ledger, "x-forwarded-proto", literal(scheme.clone()), hand);
        }
        (Some(trusted.unwrap_or(peer.address)), forwarded.is_none())
    } else {
        let list = forwarded.as_deref().unwrap_or_default();
        (nth_from_right(list, hops), !list.is_empty() && !list.contains(','))
    };
    if !headers::has(lines, "x-forwarded-proto") {
        let hand = envoy!("HTTP connection manager: x-forwarded-proto tells whether the connection was TLS");
        headers::set(lines, ledger, "x-forwarded-proto", literal(scheme), hand);
    }
    if options.append_x_forwarded_port
        && ((options.use_remote_address && hops == 0) || !headers::has(lines, "x-forwarded-port"))
    {
        let hand = Hand { by: By::Istio, origin: &options.origin };
        headers::set(lines, ledger, "x-forwarded-port", literal(peer.local.1.to_smolstr()), hand);
    }
    let internal = single
        && client
            .is_some_and(|client| options.internal_addresses.iter().any(|range| range.contains(&client)));
    let edge = options.use_remote_address && !internal;
    if internal {
        let hand = envoy!("HTTP connection manager: the client's address is an internal one");
        headers::set(lines, ledger, "x-envoy-internal", literal(SmolStr::new_static("true")), hand);
    } else {
        let lines_from_envoy = lines.iter().any(|(name, _)| name.starts_with("x-envoy-"));
        if lines_from_envoy {
            if edge {
                let hand = envoy!("HTTP connection manager: an edge proxy takes this header from nobody");
                remove_all(lines, ledger, NOT_FROM_OUTSIDE, hand);
            }
            let hand = envoy!("HTTP connection manager: only internal requests may carry this header");
            remove_all(lines, ledger, INTERNAL_ONLY, hand);
        }
    }
    if edge && let Some(client) = client {
        let hand = envoy!("HTTP connection manager: the client's address at the edge");
        headers::set(lines, ledger, "x-envoy-external-address", literal(client.to_smolstr()), hand);
    }
    request_id(lines, ledger, options, edge);
    client_certificate(lines, ledger, options, facts, peer);
    (client.unwrap_or(peer.address), internal)
}

fn remove_all(lines: &mut Headers, ledger: &mut Ledger, names: &[&str], hand: Hand<'_>) {
    for name in names {
        headers::remove(lines, ledger, name, hand);
    }
}

/// Whether the request asks to upgrade the connection. Envoy: `http/utility.cc: Utility::isUpgrade`.
pub(crate) fn is_upgrade(lines: &[(SmolStr, SmolStr)]) -> bool {
    headers::has(lines, "upgrade")
        && headers::get(lines, "connection").is_some_and(|connection| {
            connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        })
}

fn hop_by_hop(lines: &mut Headers, ledger: &mut Ledger) {
    let hand = envoy!("HTTP connection manager: this header is for one hop only");
    if !is_upgrade(lines) {
        headers::remove(lines, ledger, "connection", hand);
        headers::remove(lines, ledger, "upgrade", hand);
        if let Some(te) = headers::get(lines, "te").cloned()
            && te != "trailers"
        {
            if codec::has_trailers(&te) {
                headers::set(lines, ledger, "te", literal(SmolStr::new_static("trailers")), hand);
            } else {
                headers::remove(lines, ledger, "te", hand);
            }
        }
    }
    headers::remove(
        lines,
        ledger,
        "x-envoy-internal",
        envoy!("HTTP connection manager: only Envoy itself says that a request is internal"),
    );
    remove_all(lines, ledger, &["keep-alive", "proxy-connection", "transfer-encoding"], hand);
    if let Some(referer) = headers::get(lines, "referer")
        && !referer::is_kept(referer)
    {
        headers::remove(lines, ledger, "referer", envoy!("HTTP connection manager: referer is no URL"));
    }
}

/// An address of `x-forwarded-for`, counted from the right; `None` when the list is shorter or it is no address.
fn nth_from_right(list: &str, skip: usize) -> Option<IpAddr> {
    let text = list.rsplit(',').nth(skip)?.trim_matches([' ', '\t']);
    text.parse().ok()
}

fn request_id(lines: &mut Headers, ledger: &mut Ledger, options: &HttpConnectionManager, edge: bool) {
    if !options.generate_request_id {
        return;
    }
    let missing = headers::get(lines, "x-request-id").is_none_or(SmolStr::is_empty);
    if missing || (edge && !options.preserve_external_request_id) {
        let value = HeaderValue::Generated(Generated::RequestId, SmolStr::new_static(GENERATED));
        headers::set(
            lines,
            ledger,
            "x-request-id",
            value,
            envoy!("HTTP connection manager: generateRequestId"),
        );
    }
}

/// Envoy: `conn_manager_utility.cc: mutateXfccRequestHeader`.
fn client_certificate(
    lines: &mut Headers,
    ledger: &mut Ledger,
    options: &HttpConnectionManager,
    facts: &ProxyFacts,
    peer: Peer<'_>,
) {
    const NAME: &str = "x-forwarded-client-cert";
    let details = options.forward_client_cert_details;
    if details == ForwardClientCertDetails::AlwaysForwardOnly {
        return;
    }
    let Some(certificate) = peer.certificate.filter(|_| details != ForwardClientCertDetails::Sanitize) else {
        let hand = envoy!(
            "HTTP connection manager: x-forwarded-client-cert is removed unless the connection is mutual TLS"
        );
        headers::remove(lines, ledger, NAME, hand);
        return;
    };
    if details == ForwardClientCertDetails::ForwardOnly {
        return;
    }
    let set = options.set_current_client_cert_details;
    let mut element = String::new();
    if !facts.identity.is_empty() {
        element.push_str("By=");
        element.push_str(&facts.identity);
        element.push(';');
    }
    element.push_str("Hash=");
    element.push_str(GENERATED);
    let quoted = |on: bool, name: &str| if on { format!(";{name}=\"{GENERATED}\"") } else { String::new() };
    element.push_str(&quoted(set.cert, "Cert"));
    element.push_str(&quoted(set.chain, "Chain"));
    if set.subject {
        // Certificates of the mesh have no subject.
        element.push_str(";Subject=\"\"");
    }
    if set.uri {
        element.push_str(";URI=");
        element.push_str(certificate);
    }
    let value = HeaderValue::Generated(Generated::Certificate, element.into());
    let hand = Hand { by: By::Istio, origin: &options.origin };
    if details == ForwardClientCertDetails::AppendForward {
        headers::append(lines, ledger, &SmolStr::new_static(NAME), value, hand);
    } else {
        headers::set(lines, ledger, NAME, value, hand);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_hops_count_from_the_right() {
        let list = "198.51.100.1, 203.0.113.7,10.0.0.1";
        assert_eq!(nth_from_right(list, 0), "10.0.0.1".parse().ok());
        assert_eq!(nth_from_right(list, 1), "203.0.113.7".parse().ok());
        assert_eq!(nth_from_right(list, 3), None);
        assert_eq!(nth_from_right("unknown", 0), None);
    }
}
