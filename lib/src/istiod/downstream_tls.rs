//! How does a listener end TLS that a Gateway's server or a Sidecar's ingress listener asks for?
//!
//! Invariant: certificates and authorities are named as SDS resources, and never read. istiod: `listener.go:
//! BuildListenerTLSContext`; `authentication.go: ApplyCredentialSDSToServerCommonTLSContext, ApplyToCommonTLSContext`.

use smol_str::SmolStr;

use super::credential::{
    MESH_AUTHORITY, WORKLOAD_CERTIFICATE, authority_of, file_authority, file_certificate, resource_name,
    secret_of,
};
use super::node::NodeType;
use super::proxy::Proxy;
use crate::envoy::config::{ClientCertificate, DownstreamTlsContext, StringSan, TlsParameters};
use crate::manifest::schema::istio::{ServerTlsMode, ServerTlsSettings, TlsProtocol};
use crate::manifest::schema::mesh_config::MeshTlsProtocol;
use crate::origin::Origin;

/// ALPN values of a listener whose TLS ends. istiod: `util.go: ALPNHttp`.
pub const ALPN_HTTP: [SmolStr; 2] = [SmolStr::new_static("h2"), SmolStr::new_static("http/1.1")];

/// The TLS that `settings` ask for.
pub fn context(proxy: &Proxy, settings: &ServerTlsSettings, origin: Origin) -> DownstreamTlsContext {
    let istio_mutual = settings.mode == ServerTlsMode::IstioMutual;
    let client_certificate = match settings.mode {
        ServerTlsMode::Mutual | ServerTlsMode::IstioMutual => ClientCertificate::Required,
        ServerTlsMode::OptionalMutual => ClientCertificate::Optional,
        ServerTlsMode::Simple | ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            ClientCertificate::None
        }
    };
    let mut certificates = certificates(settings).into_iter();
    let secret_name = certificates.next().unwrap_or(WORKLOAD_CERTIFICATE);
    let secret_exists = exists(proxy, &secret_name);
    DownstreamTlsContext {
        client_certificate,
        istio_mutual,
        alpn_protocols: ALPN_HTTP.to_vec(),
        secret_name,
        more_secret_names: certificates.collect(),
        authority: authority(settings),
        match_subject_alt_names: settings.subject_alt_names.iter().cloned().map(StringSan).collect(),
        secret_exists,
        tls_params: parameters(settings),
        origin,
    }
}

/// The versions and ciphers that a server names; Istio's mutual TLS keeps to Envoy's. istiod: `listener.go: applyServerTLSSettings`.
fn parameters(settings: &ServerTlsSettings) -> Option<TlsParameters> {
    let version = |version: TlsProtocol| match version {
        TlsProtocol::TlsAuto => None,
        TlsProtocol::TlsV1_0 => Some("TLSv1_0"),
        TlsProtocol::TlsV1_1 => Some("TLSv1_1"),
        TlsProtocol::TlsV1_2 => Some("TLSv1_2"),
        TlsProtocol::TlsV1_3 => Some("TLSv1_3"),
    };
    let out = TlsParameters {
        minimum: version(settings.min_protocol_version),
        maximum: version(settings.max_protocol_version),
        cipher_suites: settings.cipher_suites.clone(),
    };
    let says_nothing = out.minimum.is_none() && out.maximum.is_none() && out.cipher_suites.is_empty();
    (!says_nothing && settings.mode != ServerTlsMode::IstioMutual).then_some(out)
}

/// Ciphers of TLS 1.2 between workloads. istiod: `authn/utils.go: SupportedCiphers`.
const MESH_CIPHERS: [SmolStr; 6] = [
    SmolStr::new_static("ECDHE-ECDSA-AES256-GCM-SHA384"),
    SmolStr::new_static("ECDHE-RSA-AES256-GCM-SHA384"),
    SmolStr::new_static("ECDHE-ECDSA-AES128-GCM-SHA256"),
    SmolStr::new_static("ECDHE-RSA-AES128-GCM-SHA256"),
    SmolStr::new_static("AES256-GCM-SHA384"),
    SmolStr::new_static("AES128-GCM-SHA256"),
];

/// Versions and ciphers of TLS between workloads. istiod: `authn/utils.go: BuildInboundTLS, GetMinTLSVersion`.
pub fn mesh_parameters(proxy: &Proxy) -> TlsParameters {
    let written = proxy.mesh().config().written.mesh_mtls.as_ref();
    let newest = written.is_some_and(|tls| tls.min_protocol_version == MeshTlsProtocol::TlsV13);
    let ciphers = written.map(|tls| &tls.cipher_suites).filter(|ciphers| !ciphers.is_empty());
    TlsParameters {
        minimum: Some(if newest { "TLSv1_3" } else { "TLSv1_2" }),
        maximum: Some("TLSv1_3"),
        cipher_suites: ciphers.cloned().unwrap_or_else(|| MESH_CIPHERS.to_vec()),
    }
}

/// The server's certificates: files that are not complete are the workload's own.
fn certificates(settings: &ServerTlsSettings) -> Vec<SmolStr> {
    if settings.mode == ServerTlsMode::IstioMutual {
        return vec![WORKLOAD_CERTIFICATE];
    }
    if !settings.credential_names.is_empty() {
        return settings.credential_names.iter().map(|name| resource_name(name)).collect();
    }
    if let Some(name) = credential(settings) {
        return vec![resource_name(name)];
    }
    let of_files = |certificate: &SmolStr, key: &SmolStr| {
        if certificate.is_empty() || key.is_empty() {
            WORKLOAD_CERTIFICATE
        } else {
            file_certificate(certificate, key)
        }
    };
    if settings.tls_certificates.is_empty() {
        return vec![of_files(&settings.server_certificate, &settings.private_key)];
    }
    let listed = settings.tls_certificates.iter();
    listed.map(|own| of_files(&own.server_certificate, &own.private_key)).collect()
}

/// The authority that clients' certificates are checked with, where they are asked for.
fn authority(settings: &ServerTlsSettings) -> SmolStr {
    if settings.mode == ServerTlsMode::IstioMutual {
        return MESH_AUTHORITY;
    }
    match credential(settings) {
        Some(_) if !settings.ca_cert_credential_name.is_empty() => {
            resource_name(&settings.ca_cert_credential_name)
        }
        Some(name) => authority_of(name),
        None if settings.ca_certificates.is_empty() => MESH_AUTHORITY,
        None => file_authority(&settings.ca_certificates),
    }
}

/// The first credential that is named.
fn credential(settings: &ServerTlsSettings) -> Option<&SmolStr> {
    settings.credential_names.first().or(Some(&settings.credential_name)).filter(|name| !name.is_empty())
}

/// Whether the input shows that a certificate exists; nothing shows that one does not.
fn exists(proxy: &Proxy, resource: &SmolStr) -> Option<bool> {
    if *resource == WORKLOAD_CERTIFICATE {
        return Some(true);
    }
    // Istio's installation lets gateways read Secrets, and sidecars not. istiod: `xds/sds.go: filterAuthorizedResources`.
    let node = proxy.node();
    let (namespace, name) =
        secret_of(resource, &node.namespace).filter(|_| node.node_type == NodeType::Router)?;
    let mut secrets = proxy.mesh().policies().secrets.in_namespace(namespace);
    secrets.any(|secret| secret.name == name).then_some(true)
}

#[cfg(test)]
mod tests;
