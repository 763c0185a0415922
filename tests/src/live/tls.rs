//! Who speaks TLS where neither the client nor the stand-ins do?
//!
//! An Envoy of its own on either side: one that begins TLS for a client that has none, and one that ends it for whatever
//! stands behind the mesh. Invariant: neither looks into what it carries.

use std::net::SocketAddr;

use dryroute::envoy::export::Certificates;
use serde_json::{Value, json};

use super::Binary;
use super::process::{Process, Scratch};

/// The name of the one listener.
const LISTENER: &str = "plain";

/// An Envoy that speaks TLS for somebody.
#[derive(Debug)]
pub struct TlsPeer {
    /// Where it listens.
    pub socket: SocketAddr,
    // What follows ends in this order.
    _process: Process,
    _scratch: Scratch,
}

impl TlsPeer {
    /// Takes plain bytes and sends them to `to` in TLS, with this server name and these protocols; believes every certificate.
    ///
    /// # Errors
    ///
    /// Envoy does not come up.
    pub fn client(binary: &Binary, to: SocketAddr, sni: &str, alpn: &[&str]) -> Result<Self, String> {
        let tls = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": sni,
                "common_tls_context": {"alpn_protocols": alpn},
            },
        });
        let endpoint = json!({"endpoint": {"address": address(to)}});
        let peer = json!({
            "name": "peer",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "peer", "endpoints": [{"lb_endpoints": [endpoint]}]},
            "transport_socket": tls,
        });
        Self::start(binary, &json!({"filters": [tcp_proxy()]}), &json!([]), &peer)
    }

    /// Takes TLS behind a line of the PROXY protocol and sends the bytes in it where that line says.
    ///
    /// # Errors
    ///
    /// Envoy does not come up.
    pub fn server(binary: &Binary, certificates: &Certificates) -> Result<Self, String> {
        let chain = json!({
            "filters": [tcp_proxy()],
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "common_tls_context": {
                        "alpn_protocols": ["http/1.1"],
                        "tls_certificates": [{
                            "certificate_chain": {"filename": certificates.certificate},
                            "private_key": {"filename": certificates.private_key},
                        }],
                    },
                },
            },
        });
        let filters = json!([{
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
            },
        }]);
        let peer = json!({"name": "peer", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"});
        Self::start(binary, &chain, &filters, &peer)
    }

    fn start(binary: &Binary, chain: &Value, listener_filters: &Value, peer: &Value) -> Result<Self, String> {
        let own = SocketAddr::from(([127, 0, 0, 1], 0));
        let bootstrap = json!({
            "admin": {"address": address(own)},
            "static_resources": {
                "listeners": [{
                    "name": LISTENER,
                    "address": address(own),
                    "listener_filters": listener_filters,
                    "filter_chains": [chain],
                }],
                "clusters": [peer],
            },
        });
        let scratch = Scratch::new().map_err(|e| e.to_string())?;
        let process = Process::start(binary, &bootstrap, scratch.path())?;
        let socket = process.listener(LISTENER).ok_or("the TLS peer does not listen")?;
        Ok(Self { socket, _process: process, _scratch: scratch })
    }
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

fn tcp_proxy() -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "peer",
            "cluster": "peer",
        },
    })
}
