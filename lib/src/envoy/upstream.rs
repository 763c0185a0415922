//! What does a proxy's own connection to an upstream meet, and what does the proxy answer when it fails?
//!
//! The client proxy's TLS mode meets the server proxy's filter chains: plaintext at a port that wants mutual TLS is
//! reset after it was accepted, TLS at a port that speaks plaintext fails in the handshake. Invariant: what is not
//! settled by the two configurations is not answered here. Measured with Envoy 1.40 on both sides.

use smol_str::{SmolStr, format_smolstr};

use super::config::{
    Cluster, LbEndpoint, RetryPolicy, UpstreamTlsContext, UpstreamTlsMode, UpstreamTransport,
};
use super::decision::{ConnectionOutcome, Decision};
use super::reply::ResponseFlag;
use super::request::{ApplicationProtocol, Transport};

/// What a client proxy shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The URI name of its mesh certificate.
    pub identity: &'a SmolStr,
    /// Whether it puts Istio's ALPN values for HTTP in place of the cluster's (the filter `istio.alpn`).
    pub overrides_alpn: bool,
}

/// The transport of a connection to an endpoint of a cluster.
///
/// `protocol` is what is sent inside; HTTP clusters override their ALPN values by it. `host` is the request's, for
/// clusters whose SNI follows it.
pub fn transport(
    cluster: &Cluster,
    endpoint: Option<&LbEndpoint>,
    protocol: ApplicationProtocol,
    host: &str,
    client: Client<'_>,
) -> Transport {
    let context = match &cluster.transport {
        UpstreamTransport::Plaintext => return Transport::Plaintext,
        UpstreamTransport::Tls(context) => context,
        UpstreamTransport::Auto(context) if endpoint.is_some_and(|endpoint| endpoint.istio_mutual) => context,
        UpstreamTransport::Auto(_) => return Transport::Plaintext,
    };
    let mutual = context.mode == UpstreamTlsMode::IstioMutual;
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    Transport::Tls {
        sni: if context.auto_sni && context.sni.is_empty() { host.into() } else { context.sni.clone() },
        alpn: alpn(context, protocol, client.overrides_alpn),
        client_certificate: match context.mode {
            UpstreamTlsMode::IstioMutual => Some(client.identity.clone()),
            // Whose name a user's certificate carries is not in the input.
            UpstreamTlsMode::Mutual => Some(SmolStr::default()),
            UpstreamTlsMode::Simple => None,
        },
        mesh_certificate: mutual,
    }
}

/// The ALPN values of a connection. istiod: `xds/filters/filters.go: Alpn`.
fn alpn(context: &UpstreamTlsContext, protocol: ApplicationProtocol, overrides: bool) -> Vec<SmolStr> {
    let mesh: &[&'static str] = match protocol {
        ApplicationProtocol::Http10 => &["istio-http/1.0", "istio", "http/1.0"],
        ApplicationProtocol::Http11 => &["istio-http/1.1", "istio", "http/1.1"],
        ApplicationProtocol::Http2 => &["istio-h2", "istio", "h2"],
        ApplicationProtocol::Tcp => &[],
    };
    if overrides && context.mode == UpstreamTlsMode::IstioMutual && !mesh.is_empty() {
        return mesh.iter().copied().map(SmolStr::new_static).collect();
    }
    if !context.alpn_protocols.is_empty() {
        return context.alpn_protocols.clone();
    }
    // Envoy's HTTP connection pools offer their own version where nothing is configured: `conn_pool_base.cc:
    // wrapTransportSocketOptions`.
    let own: &[&'static str] = match protocol {
        ApplicationProtocol::Http10 | ApplicationProtocol::Http11 => &["http/1.1"],
        ApplicationProtocol::Http2 => &["h2"],
        ApplicationProtocol::Tcp => &[],
    };
    own.iter().copied().map(SmolStr::new_static).collect()
}

/// Why a connection to an upstream failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was accepted and closed before a response.
    ConnectionTermination,
    /// It could not be set up; the text is the access log's transport failure reason.
    RemoteConnectionFailure(SmolStr),
    /// Nothing answers.
    ConnectionTimeout,
    /// It goes on, but the request's stream was reset before a response.
    StreamReset,
}

/// Nothing listens at the upstream's address.
pub const CONNECTION_REFUSED: Failure =
    Failure::RemoteConnectionFailure(SmolStr::new_static("delayed connect error: Connection refused"));
/// TLS to something that answers in plaintext.
const WRONG_VERSION: &str =
    "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end";
/// TLS that is closed during the handshake.
const RESET_IN_HANDSHAKE: &str =
    "TLS_error:|33554536:system library:OPENSSL_internal:Connection reset by peer:TLS_error_end";
/// The server wants a certificate.
const HANDSHAKE_FAILURE: &str =
    "TLS_error:|268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE:TLS_error_end";
/// The server does not trust who signed the certificate.
const UNKNOWN_CA: &str =
    "TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end";
/// The server does not accept the name in the certificate.
const CERTIFICATE_UNKNOWN: &str =
    "TLS_error:|268436502:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_UNKNOWN:TLS_error_end";

impl Failure {
    const fn remote(reason: &'static str) -> Self {
        Self::RemoteConnectionFailure(SmolStr::new_static(reason))
    }

    /// How a connection that was sent with `sent` fails at a proxy that decides `server` about it; `None` when the
    /// proxy takes it.
    pub fn at(sent: &Transport, server: &Decision) -> Option<Self> {
        let tls = matches!(sent, Transport::Tls { .. });
        match &server.outcome {
            ConnectionOutcome::NoListener => Some(CONNECTION_REFUSED),
            // The client's first bytes are still unread when the proxy closes.
            ConnectionOutcome::Closed { .. } if tls && !terminates_tls(server) => {
                Some(Self::remote(RESET_IN_HANDSHAKE))
            }
            ConnectionOutcome::Closed { .. } => Some(Self::ConnectionTermination),
            ConnectionOutcome::TlsError { failure, .. } if tls => {
                Some(Self::remote(match failure.as_str() {
                    "PEER_DID_NOT_RETURN_A_CERTIFICATE" => HANDSHAKE_FAILURE,
                    "CERTIFICATE_VERIFY_FAILED" if shows_mesh_certificate(sent) => CERTIFICATE_UNKNOWN,
                    "CERTIFICATE_VERIFY_FAILED" => UNKNOWN_CA,
                    _ => RESET_IN_HANDSHAKE,
                }))
            }
            ConnectionOutcome::TlsError { .. } => Some(Self::ConnectionTermination),
            // The proxy reads the handshake as a request and answers 400 in plaintext.
            ConnectionOutcome::Http(_) if tls && !terminates_tls(server) => Some(Self::remote(WRONG_VERSION)),
            ConnectionOutcome::Http(_)
            | ConnectionOutcome::Tcp(_)
            | ConnectionOutcome::Refused { .. }
            | ConnectionOutcome::Unknown { .. } => None,
        }
    }

    /// How TLS fails at a workload that answers in plaintext.
    pub const fn plaintext_server() -> Self {
        Self::remote(WRONG_VERSION)
    }

    /// Whether a retry policy tries again after it. Envoy: `retry_state_impl.cc: wouldRetryFromReset`.
    pub fn is_retried(&self, policy: &RetryPolicy) -> bool {
        match self {
            Self::ConnectionTermination | Self::StreamReset => policy.retries_termination(),
            Self::RemoteConnectionFailure(_) | Self::ConnectionTimeout => policy.retries_connection_failure(),
        }
    }

    /// What the client's proxy logs and answers, after the retries of `policy`: always with status 503.
    pub fn answer(&self, policy: Option<&RetryPolicy>) -> FailureAnswer {
        // Where no retry is left from the beginning, the log still says that the limit is exceeded.
        let retrying = policy.filter(|policy| self.is_retried(policy));
        let retries = retrying.map_or(0, |policy| policy.num_retries);
        let (flag, reason, details) = match self {
            Self::ConnectionTermination => (
                ResponseFlag::UpstreamConnectionTermination,
                "connection termination",
                SmolStr::new_static("connection_termination"),
            ),
            Self::RemoteConnectionFailure(why) => (
                ResponseFlag::UpstreamConnectionFailure,
                "remote connection failure",
                format_smolstr!("remote_connection_failure|{}", why.replace(' ', "_")),
            ),
            Self::ConnectionTimeout => (
                ResponseFlag::UpstreamConnectionFailure,
                "connection timeout",
                SmolStr::new_static("connection_timeout"),
            ),
            Self::StreamReset => {
                (ResponseFlag::UpstreamRemoteReset, "remote reset", SmolStr::new_static("remote_reset"))
            }
        };
        let retried = if retries > 0 { "retried and the latest " } else { "" };
        let exceeded = retrying.map(|_| ResponseFlag::UpstreamRetryLimitExceeded);
        FailureAnswer {
            flags: exceeded.into_iter().chain([flag]).collect(),
            details: format_smolstr!("upstream_reset_before_response_started{{{details}}}"),
            body: format_smolstr!(
                "upstream connect error or disconnect/reset before headers. {retried}reset reason: {reason}"
            ),
            attempts: retries.saturating_add(1),
        }
    }
}

/// What a proxy logs and answers when its upstream fails; the status is 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureAnswer {
    /// Response flags, in the log's order.
    pub flags: Vec<ResponseFlag>,
    /// `response_code_details`.
    pub details: SmolStr,
    /// The body.
    pub body: SmolStr,
    /// How many tries were made.
    pub attempts: u32,
}

/// Whether the mesh's own authority signed the client's certificate.
fn shows_mesh_certificate(sent: &Transport) -> bool {
    matches!(sent, Transport::Tls { mesh_certificate: true, .. })
}

fn terminates_tls(server: &Decision) -> bool {
    server.filter_chain.as_ref().is_some_and(|chain| chain.transport_socket.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    fn decision(outcome: ConnectionOutcome) -> Decision {
        Decision { listener: None, filter_chain: None, outcome }
    }

    fn closed() -> Decision {
        decision(ConnectionOutcome::Closed {
            flags: Vec::new(),
            details: SmolStr::default(),
            origin: Origin::default("a test"),
        })
    }

    fn tls() -> Transport {
        Transport::Tls {
            sni: SmolStr::default(),
            alpn: Vec::new(),
            client_certificate: None,
            mesh_certificate: false,
        }
    }

    fn default_retries() -> RetryPolicy {
        RetryPolicy {
            retry_on: "connect-failure,refused-stream,unavailable,cancelled".into(),
            num_retries: 2,
            per_try_timeout: None,
            base_interval: None,
            retriable_status_codes: Vec::new(),
            previous_hosts: true,
            previous_priorities: false,
            host_selection_retry_max_attempts: 5,
            origin: Origin::default("a test"),
        }
    }

    #[test]
    fn plaintext_at_a_strict_port_ends_after_it_was_accepted() {
        let failure = Failure::at(&Transport::Plaintext, &closed()).unwrap();
        let answer = failure.answer(Some(&default_retries()));
        assert_eq!(answer.flags, [ResponseFlag::UpstreamConnectionTermination]);
        assert_eq!(answer.details, "upstream_reset_before_response_started{connection_termination}");
        assert_eq!(answer.attempts, 1);
    }

    #[test]
    fn tls_that_no_chain_takes_fails_in_the_handshake_and_is_retried() {
        let failure = Failure::at(&tls(), &closed()).unwrap();
        let answer = failure.answer(Some(&default_retries()));
        assert_eq!(
            answer.flags,
            [ResponseFlag::UpstreamRetryLimitExceeded, ResponseFlag::UpstreamConnectionFailure]
        );
        assert_eq!(answer.attempts, 3);
        assert!(answer.body.contains("retried and the latest reset reason: remote connection failure"));
        assert_eq!(failure.answer(None).flags, [ResponseFlag::UpstreamConnectionFailure]);
    }

    #[test]
    fn a_connection_that_times_out_is_tried_again_as_one_that_is_refused() {
        let answer = Failure::ConnectionTimeout.answer(Some(&default_retries()));
        assert_eq!(answer.attempts, 3);
        assert_eq!(answer.details, "upstream_reset_before_response_started{connection_timeout}");
        assert!(answer.body.ends_with("retried and the latest reset reason: connection timeout"));
    }

    #[test]
    fn certificates_are_refused_for_their_signer_or_for_their_name() {
        let refused = |mesh_certificate| {
            let sent = Transport::Tls {
                sni: SmolStr::default(),
                alpn: Vec::new(),
                client_certificate: Some("spiffe://foreign.test/ns/a/sa/b".into()),
                mesh_certificate,
            };
            let server = decision(ConnectionOutcome::TlsError {
                failure: "CERTIFICATE_VERIFY_FAILED".into(),
                origin: Origin::default("a test"),
            });
            Failure::at(&sent, &server).unwrap().answer(None).details
        };
        assert!(
            refused(true).contains("268436502:SSL_routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_UNKNOWN")
        );
        assert!(refused(false).contains("268436504:SSL_routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA"));
    }

    #[test]
    fn a_missing_listener_refuses_the_connection() {
        let failure = Failure::at(&Transport::Plaintext, &decision(ConnectionOutcome::NoListener)).unwrap();
        assert_eq!(
            failure.answer(None).details,
            "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"
        );
    }
}
