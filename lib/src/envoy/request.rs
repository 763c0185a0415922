//! What arrives at a proxy?

use std::net::IpAddr;

use smol_str::SmolStr;

/// The application protocol of a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplicationProtocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// Anything else, with the client speaking first.
    Tcp,
}

/// ALPN values, as offered.
pub type AlpnList = Vec<SmolStr>;

/// The transport of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// No TLS.
    Plaintext,
    /// TLS.
    Tls {
        /// Server name; empty when none is sent.
        sni: SmolStr,
        /// ALPN values offered.
        alpn: AlpnList,
        /// The URI name of the client's certificate, when it shows one.
        client_certificate: Option<SmolStr>,
        /// Whether that certificate is signed by the mesh's authority (for Istio's mutual TLS).
        mesh_certificate: bool,
    },
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Original destination address.
    pub destination: IpAddr,
    /// Original destination port.
    pub port: u16,
    /// Source address.
    pub source: IpAddr,
    /// Transport.
    pub transport: Transport,
    /// What its bytes are (inside TLS, where there is TLS).
    pub protocol: ApplicationProtocol,
    /// What comes before them.
    pub preface: Preface,
}

/// What comes before a connection's own bytes, its TLS included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preface {
    /// What the listener wants: whoever connects from outside goes through something that was made for it.
    #[default]
    AsExpected,
    /// Nothing.
    Nothing,
    /// A header of the PROXY protocol.
    ProxyProtocol {
        /// The source address that it tells.
        source: IpAddr,
    },
}

/// What follows a request's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// What the headers say.
    #[default]
    Declared,
    /// So many bytes, whatever the headers say; none ends the request with its head.
    Bytes(u64),
    /// Bytes of which nobody says how many they are.
    Stream,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Method, as sent.
    pub method: SmolStr,
    /// Path with query, as sent.
    pub path: SmolStr,
    /// Host or `:authority`, as sent.
    pub authority: SmolStr,
    /// `:scheme` of an HTTP/2 request, if sent.
    pub scheme: Option<SmolStr>,
    /// Headers without host, in order, names in lower case.
    pub headers: Vec<(SmolStr, SmolStr)>,
    /// Whether no host is sent at all; `authority` is empty then, as it is for an empty host.
    pub no_host: bool,
    /// What follows the head.
    pub body: Body,
}
