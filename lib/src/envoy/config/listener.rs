//! What does a listener accept, and who handles it?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use smol_str::SmolStr;

use super::http::{HttpConnectionManager, NetworkRbac};
use super::metadata::ConfigInfo;
use crate::origin::Origin;

/// Which way the traffic of a listener flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrafficDirection {
    /// Towards this proxy's own workload.
    Inbound,
    /// Away from it; also every gateway listener.
    Outbound,
}

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenerAddress {
    /// An IP address and port.
    Socket(IpAddr, u16),
    /// A Unix domain socket.
    Pipe(SmolStr),
}

/// On which destination ports a listener filter does not run (`filter_disabled`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FilterDisabled {
    /// On none.
    #[default]
    Never,
    /// On these.
    On(Arc<[u16]>),
    /// On all but these.
    Except(Arc<[u16]>),
}

impl FilterDisabled {
    /// Whether the filter does not run on a destination port.
    pub fn is_disabled(&self, port: u16) -> bool {
        match self {
            Self::Never => false,
            Self::On(ports) => ports.contains(&port),
            Self::Except(ports) => !ports.contains(&port),
        }
    }
}

/// The filters in front of the filter chains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerFilters {
    /// Restores the destination that iptables replaced.
    pub original_dst: bool,
    /// Connects to the workload from the client's address (`TPROXY`).
    pub original_src: bool,
    /// Reads SNI and ALPN; without it every connection counts as plaintext.
    pub tls_inspector: bool,
    /// Ports on which the TLS inspector does not run.
    pub tls_inspector_disabled: FilterDisabled,
    /// Finds out whether plaintext is HTTP.
    pub http_inspector: bool,
    /// Ports on which the HTTP inspector does not run.
    pub http_inspector_disabled: FilterDisabled,
    /// Expects the PROXY protocol.
    pub proxy_protocol: bool,
}

impl ListenerFilters {
    /// Whether SNI and ALPN of connections to a port are read.
    pub fn inspects_tls(&self, port: u16) -> bool {
        self.tls_inspector && !self.tls_inspector_disabled.is_disabled(port)
    }

    /// Whether the first bytes of plaintext connections to a port are read.
    pub fn inspects_http(&self, port: u16) -> bool {
        self.http_inspector && !self.http_inspector_disabled.is_disabled(port)
    }
}

/// A listener (`config.listener.v3.Listener`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Istio's name, such as `0.0.0.0_80` or `virtualOutbound`.
    pub name: SmolStr,
    /// The main address.
    pub address: ListenerAddress,
    /// Further addresses (dual stack).
    pub additional_addresses: Vec<ListenerAddress>,
    /// Whether a real socket is opened; `false` for listeners that `virtualOutbound` hands connections to.
    pub bind_to_port: bool,
    /// Whether connections are handed to the listener of their original destination.
    pub use_original_dst: bool,
    /// Which way its traffic flows.
    pub traffic_direction: TrafficDirection,
    /// Inspectors.
    pub listener_filters: ListenerFilters,
    /// Whether a connection goes on when the inspectors time out.
    pub continue_on_listener_filters_timeout: bool,
    /// How long listener filters may wait for a client's first bytes: zero for as long as it takes, `None` for Envoy's 15 s.
    pub listener_filters_timeout: Option<Duration>,
    /// How many bytes of a connection are kept; `None` is Envoy's mebibyte.
    pub per_connection_buffer_limit_bytes: Option<u32>,
    /// Whether it takes connections to addresses that are not its own (TPROXY).
    pub transparent: bool,
    /// The filter chains, in order; the order has no effect on matching.
    pub filter_chains: Vec<Arc<FilterChain>>,
    /// The chain for connections that match none.
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// Why Envoy would refuse this listener, if it would: its traffic then keeps the previous configuration.
    pub refused: Option<SmolStr>,
    /// Who made it.
    pub origin: Origin,
}

/// A connection's transport, as the TLS inspector names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// `raw_buffer`: no TLS, or no inspector that could tell.
    RawBuffer,
    /// `tls`.
    Tls,
    /// `quic`.
    Quic,
}

/// Where a connection comes from, for `source_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConnectionSourceType {
    /// Anywhere.
    #[default]
    Any,
    /// The same address or loopback.
    SameIpOrLoopback,
    /// Anywhere else.
    External,
}

/// The conditions of a filter chain; empty fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterChainMatch {
    /// Original destination port.
    pub destination_port: Option<u16>,
    /// Original destination addresses.
    pub prefix_ranges: Vec<IpNet>,
    /// SNI names, `*.` wildcards allowed, in lower case.
    pub server_names: Vec<SmolStr>,
    /// Transport.
    pub transport_protocol: Option<TransportProtocol>,
    /// ALPN values, as offered or as the HTTP inspector finds them.
    pub application_protocols: Vec<SmolStr>,
    /// Source type.
    pub source_type: ConnectionSourceType,
    /// Source addresses.
    pub source_prefix_ranges: Vec<IpNet>,
}

/// A filter chain (`config.listener.v3.FilterChain`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterChain {
    /// Istio's name for it, such as `virtualOutbound-catchall-tcp`; often empty.
    pub name: SmolStr,
    /// Its conditions.
    pub filter_chain_match: FilterChainMatch,
    /// TLS termination, if any.
    pub transport_socket: Option<DownstreamTlsContext>,
    /// Network filters in front of the last one that may close the connection, in order.
    pub access_filters: Vec<AccessFilter>,
    /// Who handles the bytes.
    pub terminal: NetworkFilter,
    /// The VirtualService that it was made of, under the name that istiod gives it.
    pub config: Option<ConfigInfo>,
    /// Who made it.
    pub origin: Origin,
}

/// A network filter that may close a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFilter {
    /// Role-based access control, by Istio's policies.
    Rbac(Arc<NetworkRbac>),
    /// A filter whose effect is not modelled (external authorization, Wasm): what lies behind it is unknown.
    Opaque {
        /// The filter's name.
        name: SmolStr,
        /// Who made it.
        origin: Origin,
    },
}

/// The last network filter of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkFilter {
    /// HTTP.
    HttpConnectionManager(Arc<HttpConnectionManager>),
    /// Bytes.
    TcpProxy(Arc<TcpProxy>),
}

/// How a proxy terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamTlsContext {
    /// What is asked of the client.
    pub client_certificate: ClientCertificate,
    /// Whether this is Istio's own mutual TLS (mesh certificates).
    pub istio_mutual: bool,
    /// ALPN values offered.
    pub alpn_protocols: Vec<SmolStr>,
    /// The secret that holds the server certificate, by SDS resource name.
    pub secret_name: SmolStr,
    /// The secrets of further certificates, of which the client's abilities choose one, by SDS resource name.
    pub more_secret_names: Vec<SmolStr>,
    /// The secret that holds the authority of clients' certificates, by SDS resource name.
    pub authority: SmolStr,
    /// SAN values that a client certificate has to have one of; empty accepts any.
    pub match_subject_alt_names: Vec<StringSan>,
    /// Whether the secret is known to exist: `Some(false)` breaks every handshake, `None` is not settled by the input.
    pub secret_exists: Option<bool>,
    /// Versions and ciphers; `None` where Envoy's own hold.
    pub tls_params: Option<TlsParameters>,
    /// Who made it.
    pub origin: Origin,
}

/// Versions of TLS and ciphers (`TlsParameters`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsParameters {
    /// The oldest version, such as `TLSv1_2`; `None` for Envoy's own.
    pub minimum: Option<&'static str>,
    /// The newest version; `None` for Envoy's own.
    pub maximum: Option<&'static str>,
    /// Ciphers of TLS 1.2; empty for BoringSSL's.
    pub cipher_suites: Vec<SmolStr>,
}

/// A subject alternative name as written in `subjectAltNames`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringSan(pub SmolStr);

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientCertificate {
    /// Not asked for.
    None,
    /// Asked for, validated when sent.
    Optional,
    /// Required.
    Required,
}

/// A TCP proxy (`extensions.filters.network.tcp_proxy.v3.TcpProxy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProxy {
    /// The statistics prefix, as istiod writes it.
    pub stat_prefix: SmolStr,
    /// One cluster with weight 1, or several with their weights.
    pub clusters: Vec<WeightedTcpCluster>,
    /// Whether `mongo_proxy` reads along for its statistics; it changes and closes nothing.
    pub mongo_proxy: bool,
    /// The port of the host that the SNI names, where that host is resolved (`sni_dynamic_forward_proxy`).
    pub sni_forward_proxy: Option<u16>,
    /// Whether bytes are carried in a request to another proxy; `None` where they are passed on as they are.
    pub tunneling_config: Option<TunnelingConfig>,
    /// What changes no decision.
    pub tuning: TcpTuning,
    /// Who made it.
    pub origin: Origin,
}

/// How bytes are carried in a request (`TcpProxy.TunnelingConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelingConfig {
    /// Where the other proxy is to send them, with its port.
    pub hostname: SmolStr,
    /// Whether the request is a POST in place of a CONNECT.
    pub use_post: bool,
    /// Where it is written.
    pub origin: Origin,
}

/// Settings of a TCP proxy that decide nothing about a connection: they are kept to be exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpTuning {
    /// How long a connection may be unused; `None` is Envoy's hour.
    pub idle_timeout: Option<Duration>,
    /// How long a client's connection may live.
    pub max_downstream_connection_duration: Option<Duration>,
    /// Whether the client's address chooses the endpoint.
    pub hash_source_ip: bool,
}

/// A cluster of a TCP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedTcpCluster {
    /// The cluster.
    pub name: SmolStr,
    /// Its weight.
    pub weight: u32,
    /// Who made it.
    pub origin: Origin,
}
