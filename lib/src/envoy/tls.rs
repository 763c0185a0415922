//! Does a TLS handshake with a proxy succeed?
//!
//! Measured with Envoy 1.40 (`envoy-semantics`, TLS outcomes); failures are BoringSSL's words.

use smol_str::SmolStr;

use super::config::{ClientCertificate, DownstreamTlsContext};
use super::request::{ApplicationProtocol, Connection, Transport};

/// What a finished handshake tells of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session<'a> {
    /// The URI name of the client's certificate.
    pub(crate) peer: Option<&'a SmolStr>,
}

/// Terminates TLS.
///
/// # Errors
///
/// The failure.
pub(crate) fn terminate<'a>(
    context: &DownstreamTlsContext,
    connection: &'a Connection,
) -> Result<Session<'a>, &'static str> {
    let Transport::Tls { client_certificate, mesh_certificate, .. } = &connection.transport else {
        return Err(match connection.protocol {
            ApplicationProtocol::Http10 | ApplicationProtocol::Http11 => "HTTP_REQUEST",
            ApplicationProtocol::Http2 | ApplicationProtocol::Tcp => "WRONG_VERSION_NUMBER",
        });
    };
    if context.secret_exists == Some(false) {
        return Err("NO_CERTIFICATE_SET");
    }
    let certificate = match context.client_certificate {
        ClientCertificate::None => return Ok(Session { peer: None }),
        ClientCertificate::Optional => client_certificate.as_ref(),
        ClientCertificate::Required => {
            Some(client_certificate.as_ref().ok_or("PEER_DID_NOT_RETURN_A_CERTIFICATE")?)
        }
    };
    let Some(certificate) = certificate else { return Ok(Session { peer: None }) };
    let names = &context.match_subject_alt_names;
    let named = names.is_empty() || names.iter().any(|name| san_matches(&name.0, certificate));
    if (context.istio_mutual && !mesh_certificate) || !named {
        return Err("CERTIFICATE_VERIFY_FAILED");
    }
    Ok(Session { peer: Some(certificate) })
}

fn san_matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => name.ends_with(suffix),
        (None, Some(prefix)) => name.starts_with(prefix),
        (None, None) => pattern == name,
    }
}
