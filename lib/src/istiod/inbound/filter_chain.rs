//! Which connections does each chain of a port take?
//!
//! A table by protocol and TLS mode: PERMISSIVE tells Istio's mutual TLS from other TLS by its ALPN values.
//! istiod: `filterchain_options.go: getFilterChainMatchOptions`; `listener.go: mtlsHTTPALPNs, allIstioMtlsALPNs`.

use smol_str::SmolStr;

use crate::envoy::config::TransportProtocol;
use crate::istiod::outbound::listener::ListenerProtocol;
use crate::istiod::peer_authentication::MtlsMode;

/// ALPN values of HTTP in Istio's mutual TLS.
const MTLS_HTTP: &[&str] = &["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// ALPN values of bytes in Istio's mutual TLS.
const MTLS_TCP: &[&str] = &["istio-peer-exchange", "istio"];
/// All ALPN values of Istio's mutual TLS.
const MTLS: &[&str] = &["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// What the HTTP inspector finds.
const PLAINTEXT_HTTP: &[&str] = &["http/1.1", "h2c"];
/// The same where HTTP/1.0 is served.
const PLAINTEXT_HTTP_10: &[&str] = &["http/1.0", "http/1.1", "h2c"];

/// What a chain does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainProtocol {
    /// HTTP.
    Http,
    /// Bytes.
    Tcp,
}

/// The conditions of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainMatch {
    /// ALPN values; empty takes all.
    pub application_protocols: &'static [&'static str],
    /// The transport.
    pub transport_protocol: TransportProtocol,
    /// What it does.
    pub protocol: ChainProtocol,
    /// Whether it terminates TLS.
    pub tls: bool,
}

impl ChainMatch {
    /// The ALPN values as they are configured.
    pub fn protocols(&self) -> Vec<SmolStr> {
        self.application_protocols.iter().copied().map(SmolStr::new_static).collect()
    }
}

const fn chain(
    protocol: ChainProtocol,
    transport_protocol: TransportProtocol,
    application_protocols: &'static [&'static str],
    tls: bool,
) -> ChainMatch {
    ChainMatch { application_protocols, transport_protocol, protocol, tls }
}

/// The chain of TLS that a Sidecar asks for.
pub fn user_tls(protocol: ListenerProtocol) -> Option<ChainMatch> {
    let protocol = match protocol {
        ListenerProtocol::Http => ChainProtocol::Http,
        ListenerProtocol::Tcp => ChainProtocol::Tcp,
        // istiod makes an empty chain of it, which Envoy refuses.
        ListenerProtocol::Auto => return None,
    };
    Some(chain(protocol, TransportProtocol::Tls, &[], true))
}

/// The chains of a port.
pub fn chain_matches(mode: MtlsMode, protocol: ListenerProtocol, http10: bool) -> Vec<ChainMatch> {
    use ChainProtocol::{Http, Tcp};
    use TransportProtocol::{RawBuffer, Tls};
    let plaintext_http = if http10 { PLAINTEXT_HTTP_10 } else { PLAINTEXT_HTTP };
    match (protocol, mode) {
        (ListenerProtocol::Http, MtlsMode::Strict) => vec![chain(Http, Tls, &[], true)],
        (ListenerProtocol::Http, MtlsMode::Permissive) => {
            vec![chain(Http, Tls, MTLS, true), chain(Http, RawBuffer, &[], false)]
        }
        (ListenerProtocol::Http, MtlsMode::Disable) => vec![chain(Http, RawBuffer, &[], false)],
        (ListenerProtocol::Auto, MtlsMode::Strict) => {
            vec![chain(Http, Tls, MTLS_HTTP, true), chain(Tcp, Tls, &[], true)]
        }
        (ListenerProtocol::Auto, MtlsMode::Permissive) => vec![
            chain(Http, Tls, MTLS_HTTP, true),
            chain(Http, RawBuffer, plaintext_http, false),
            chain(Tcp, Tls, MTLS_TCP, true),
            chain(Tcp, RawBuffer, &[], false),
            chain(Tcp, Tls, &[], false),
        ],
        (ListenerProtocol::Auto, MtlsMode::Disable) => {
            vec![chain(Http, RawBuffer, plaintext_http, false), chain(Tcp, RawBuffer, &[], false)]
        }
        (ListenerProtocol::Tcp, MtlsMode::Strict) => vec![chain(Tcp, Tls, &[], true)],
        (ListenerProtocol::Tcp, MtlsMode::Permissive) => {
            vec![chain(Tcp, Tls, MTLS, true), chain(Tcp, Tls, &[], false), chain(Tcp, RawBuffer, &[], false)]
        }
        (ListenerProtocol::Tcp, MtlsMode::Disable) => vec![chain(Tcp, RawBuffer, &[], false)],
    }
}
