//! How does a gateway end TLS?
//!
//! istiod: `listener.go: BuildListenerTLSContext`; `authentication.go: ApplyCredentialSDSToServerCommonTLSContext`;
//! `credentials/resource.go: ToResourceName`.

use smol_str::{SmolStr, format_smolstr};

use crate::envoy::config::{ClientCertificate, DownstreamTlsContext, StringSan};
use crate::istiod::proxy::Proxy;
use crate::manifest::schema::istio::{ServerTlsMode, ServerTlsSettings};
use crate::mesh::gateway::Server;

/// ALPN values of servers of HTTP, and of all that do not use Istio's mutual TLS.
const ALPN_HTTP: [&str; 2] = ["h2", "http/1.1"];
/// ALPN values of other servers that use Istio's mutual TLS.
const ALPN_MESH: [&str; 3] = ["istio-peer-exchange", "h2", "http/1.1"];
/// The certificate that Istio gives every workload, as an SDS resource.
const WORKLOAD_CERTIFICATE: SmolStr = SmolStr::new_static("default");

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
        return (format_smolstr!("file-cert:{}~{}", tls.server_certificate, tls.private_key), None);
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

/// The SDS resource that a credential's name stands for.
pub fn resource_name(name: &str) -> SmolStr {
    if name.starts_with("builtin://") {
        return WORKLOAD_CERTIFICATE;
    }
    if name.starts_with("invalid://") {
        return SmolStr::new_static("invalid://");
    }
    let typed = ["configmap://", "kubernetes://", "kubernetes-gateway://", "sds://"];
    if typed.iter().any(|kind| name.starts_with(kind)) {
        return name.into();
    }
    format_smolstr!("kubernetes://{name}")
}

/// The namespace and name of the Secret behind an SDS resource, for a proxy of `namespace`.
pub fn secret_of<'a>(resource: &'a str, namespace: &'a str) -> Option<(&'a str, &'a str)> {
    if let Some(name) = resource.strip_prefix("kubernetes://") {
        return Some(name.split_once('/').unwrap_or((namespace, name)));
    }
    resource.strip_prefix("kubernetes-gateway://")?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_credential_is_a_secret_of_the_proxys_namespace() {
        assert_eq!(resource_name("cert"), "kubernetes://cert");
        assert_eq!(secret_of("kubernetes://cert", "istio-ingress"), Some(("istio-ingress", "cert")));
        assert_eq!(secret_of("kubernetes://other/cert", "istio-ingress"), Some(("other", "cert")));
        assert_eq!(resource_name("builtin://"), "default");
    }
}
