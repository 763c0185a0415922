//! How does a gateway end TLS?
//!
//! istiod: `listener.go: BuildListenerTLSContext`; `authentication.go: ApplyCredentialSDSToServerCommonTLSContext`.

use smol_str::SmolStr;

use crate::envoy::config::{ClientCertificate, DownstreamTlsContext, StringSan};
use crate::istiod::credential::{WORKLOAD_CERTIFICATE, file_certificate, resource_name, secret_of};
use crate::istiod::proxy::Proxy;
use crate::manifest::schema::istio::{ServerTlsMode, ServerTlsSettings};
use crate::mesh::gateway::Server;

/// ALPN values of servers of HTTP, and of all that do not use Istio's mutual TLS.
const ALPN_HTTP: [&str; 2] = ["h2", "http/1.1"];
/// ALPN values of other servers that use Istio's mutual TLS.
const ALPN_MESH: [&str; 3] = ["istio-peer-exchange", "h2", "http/1.1"];
/// The TLS of a server; `None` when it has none or passes it through.
pub fn downstream_context(proxy: &Proxy, server: &Server) -> Option<DownstreamTlsContext> {
    if server.is_passthrough() {
        return None;
    }
    let tls = server.tls.as_ref()?;
    let http = server.protocol.is_http() || server.protocol == crate::mesh::Protocol::Https;
    let istio_mutual = tls.mode == ServerTlsMode::IstioMutual;
    let alpn: &[&'static str] = if istio_mutual && !http { &ALPN_MESH } else { &ALPN_HTTP };
    let (secret_name, secret_exists) = certificate(proxy, tls);
    Some(DownstreamTlsContext {
        client_certificate: match tls.mode {
            ServerTlsMode::Mutual | ServerTlsMode::IstioMutual => ClientCertificate::Required,
            ServerTlsMode::OptionalMutual => ClientCertificate::Optional,
            ServerTlsMode::Simple | ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
                ClientCertificate::None
            }
        },
        istio_mutual,
        alpn_protocols: alpn.iter().copied().map(SmolStr::new_static).collect(),
        secret_name,
        match_subject_alt_names: tls.subject_alt_names.iter().cloned().map(StringSan).collect(),
        secret_exists,
        origin: server.origin.part("tls"),
    })
}

/// Where the server's certificate comes from, and whether it is known to exist.
fn certificate(proxy: &Proxy, tls: &ServerTlsSettings) -> (SmolStr, Option<bool>) {
    if tls.mode == ServerTlsMode::IstioMutual {
        return (WORKLOAD_CERTIFICATE, Some(true));
    }
    let Some(name) = credential_names(tls).next() else {
        // Files of the proxy's container, which no manifest shows.
        return (file_certificate(&tls.server_certificate, &tls.private_key), None);
    };
    let resource = resource_name(name);
    if resource == WORKLOAD_CERTIFICATE {
        return (resource, Some(true));
    }
    let exists = secret_of(&resource, &proxy.node().namespace).is_some_and(|(namespace, name)| {
        proxy.mesh().policies().secrets.in_namespace(namespace).any(|secret| secret.name == name)
    });
    // Secrets are seldom among manifests: one that is not there may still exist.
    (resource, exists.then_some(true))
}

/// The credentials that a server names.
pub fn credential_names(tls: &ServerTlsSettings) -> impl Iterator<Item = &SmolStr> {
    let single =
        Some(&tls.credential_name).filter(|name| tls.credential_names.is_empty() && !name.is_empty());
    tls.credential_names.iter().chain(single)
}
