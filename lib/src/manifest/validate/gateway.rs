//! Gateway, and TLS towards clients. istiod: `validation.go: ValidateGateway, validateTLSOptions`.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use super::report::{At, Report};
use super::{gateway_semantics, names};
use crate::manifest::schema::istio::{Gateway, Port, Server, ServerTlsMode, ServerTlsSettings, TlsProtocol};
use crate::protocol::Protocol;

const UNIX: &str = "unix://";

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, gateway: &Gateway) {
    let by_istiod = gateway_semantics(report.resource());
    let name = &report.resource().meta.name;
    if !names::is_label(name) && !by_istiod {
        let metadata = At::root("metadata");
        report.refuse(&metadata.field("name"), format!("invalid gateway name: \"{name}\""));
    }
    if gateway.servers.is_empty() {
        report.refuse(spec, "gateway must have at least one server");
    }
    let at = spec.field("servers");
    let mut port_names = FxHashSet::default();
    for (index, server) in gateway.servers.iter().enumerate() {
        let at = at.index(index);
        server_of(report, &at, server, by_istiod);
        let Some(port) = &server.port else { continue };
        if !port_names.insert(port.name.as_str()) {
            report.refuse(
                &at.field("port").field("name"),
                format!("port names in servers must be unique: duplicate name {}", port.name),
            );
        }
        let is_http = names::known_protocol(&port.protocol).is_some_and(Protocol::is_http);
        if !is_http && server.tls.as_ref().is_some_and(|tls| tls.https_redirect) {
            report.warn(
                &at.field("tls").field("httpsRedirect"),
                "tls.httpsRedirect should only be used with http servers",
            );
        }
    }
}

fn server_of(report: &mut Report<'_>, at: &At<'_>, server: &Server, by_istiod: bool) {
    if server.hosts.is_empty() {
        report.refuse(at, "server config must contain at least one host");
    }
    let hosts = at.field("hosts");
    for (index, host) in server.hosts.iter().enumerate() {
        report.check(&hosts.index(index), names::namespaced_host(host, true, by_istiod));
    }
    let port_stands = port(report, at, server.port.as_ref(), &server.bind);
    bind(report, at, server.port.as_ref(), &server.bind);
    if let Some(tls) = &server.tls {
        tls_settings(report, &at.field("tls"), tls);
    }
    // What the protocol asks of TLS is only known of a port without faults.
    let Some(protocol) =
        server.port.as_ref().filter(|_| port_stands).and_then(|port| names::known_protocol(&port.protocol))
    else {
        return;
    };
    match &server.tls {
        None if protocol.is_tls() => {
            report.refuse(at, "server must have TLS settings for HTTPS/TLS protocols");
        }
        Some(tls) if !protocol.is_tls() => {
            let redirects_only = passes_through(tls.mode)
                && tls.ca_certificates.is_empty()
                && tls.private_key.is_empty()
                && tls.server_certificate.is_empty();
            if !protocol.is_http() {
                report.refuse(&at.field("tls"), "server cannot have TLS settings for non HTTPS/TLS ports");
            } else if !redirects_only {
                report.refuse(&at.field("tls"), "server cannot have TLS settings for plain text HTTP ports");
            }
        }
        _ => {}
    }
}

fn passes_through(mode: ServerTlsMode) -> bool {
    matches!(mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
}

/// Whether the port has no fault. istiod: `validateServerPort`.
fn port(report: &mut Report<'_>, at: &At<'_>, port: Option<&Port>, bind: &str) -> bool {
    let Some(port) = port else {
        report.refuse(at, "port is required");
        return false;
    };
    let at = at.field("port");
    let before = report.len();
    if names::known_protocol(&port.protocol).is_none() {
        report.refuse(
            &at.field("protocol"),
            format!(
                "invalid protocol \"{}\", supported protocols are HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP",
                port.protocol
            ),
        );
    }
    if port.number > 0 || !bind.starts_with(UNIX) {
        report.check(&at.field("number"), names::port(port.number));
    }
    if port.target_port > 0 {
        report.refuse(&at.field("targetPort"), "targetPort has no impact on Gateways");
    }
    if port.name.is_empty() {
        report.refuse(
            &at,
            format!("port name must be set: number:{} protocol:\"{}\"", port.number, port.protocol),
        );
    }
    report.len() == before
}

/// istiod: `validateServerBind`.
fn bind(report: &mut Report<'_>, at: &At<'_>, port: Option<&Port>, bind: &str) {
    if let Some(path) = bind.strip_prefix(UNIX) {
        report.check(&at.field("bind"), names::unix_address(path));
        if let Some(port) = port.filter(|port| port.number != 0) {
            report.refuse(
                &at.field("port").field("number"),
                format!("port number must be 0 for unix domain socket: number:{}", port.number),
            );
        }
    } else if !bind.is_empty() {
        report.check(&at.field("bind"), names::ip(bind));
    }
}

/// istiod: `validateTLSOptions`.
pub(super) fn tls_settings(report: &mut Report<'_>, at: &At<'_>, tls: &ServerTlsSettings) {
    ciphers(report, at, tls);
    if tls.mode == ServerTlsMode::IstioMutual {
        istio_mutual(report, at, tls);
        return;
    }
    let has_credential = !tls.credential_name.is_empty() || !tls.credential_names.is_empty();
    let has_files = !tls.server_certificate.is_empty()
        || !tls.private_key.is_empty()
        || !tls.ca_certificates.is_empty()
        || !tls.ca_crl.is_empty();
    if passes_through(tls.mode) && (has_files || has_credential || !tls.tls_certificates.is_empty()) {
        // A warning only, for compatibility.
        report
            .warn(at, format!("{} mode does not use certificates, they will be ignored", tls.mode.as_str()));
    }
    let sources = [
        !tls.server_certificate.is_empty() && !tls.private_key.is_empty(),
        !tls.credential_name.is_empty(),
        !tls.credential_names.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    if sources.iter().filter(|set| **set).count() > 1 {
        report.refuse(
            at,
            "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should be specified",
        );
    }
    let mutual = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    if mutual || tls.mode == ServerTlsMode::Simple {
        // The certificates are in the Secret.
        if has_credential {
            return;
        }
        certificates(report, at, tls, if mutual { "MUTUAL TLS" } else { "SIMPLE TLS" }, mutual);
    }
    if !tls.ca_crl.is_empty() {
        let at = at.field("caCrl");
        if !tls.credential_name.is_empty() {
            report.refuse(
                &at,
                "CRL is not supported with credentialName. CRL has to be specified in the credential",
            );
        }
        if tls.mode == ServerTlsMode::Simple {
            report.refuse(&at, "CRL is not supported with SIMPLE TLS");
        }
    }
}

fn ciphers(report: &mut Report<'_>, at: &At<'_>, tls: &ServerTlsSettings) {
    if matches!(tls.min_protocol_version, TlsProtocol::TlsV1_0 | TlsProtocol::TlsV1_1)
        && tls.cipher_suites.is_empty()
    {
        report.warn(
            &at.field("minProtocolVersion"),
            "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include compatible ciphers.",
        );
    }
    let (mut invalid, mut duplicate) = (BTreeSet::new(), BTreeSet::new());
    let mut valid = FxHashSet::default();
    for cipher in &tls.cipher_suites {
        if !is_cipher(cipher) {
            invalid.insert(cipher.as_str());
        } else if !valid.insert(cipher.as_str()) {
            duplicate.insert(cipher.as_str());
        }
    }
    for (found, what) in [(invalid, "invalid"), (duplicate, "duplicate")] {
        if !found.is_empty() {
            let list: Vec<&str> = found.into_iter().collect();
            report.warn(
                &at.field("cipherSuites"),
                format!("ignoring {what} cipher suites: [{}]", list.join(" ")),
            );
        }
    }
}

/// istiod: `security.go: IsValidCipherSuite`; what begins with an operator is not looked into.
pub(crate) fn is_cipher(name: &str) -> bool {
    name == "ALL"
        || name.bytes().next().is_none_or(|b| !b.is_ascii_alphanumeric() && b.is_ascii())
        || CIPHERS.contains(&name)
}

const CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// `ISTIO_MUTUAL` uses the workload's own certificates and no others.
fn istio_mutual(report: &mut Report<'_>, at: &At<'_>, tls: &ServerTlsSettings) {
    for (field, set, what) in [
        ("serverCertificate", !tls.server_certificate.is_empty(), "server certificate"),
        ("privateKey", !tls.private_key.is_empty(), "private key"),
        ("caCertificates", !tls.ca_certificates.is_empty(), "CA bundle"),
        ("tlsCertificates", !tls.tls_certificates.is_empty(), "tlsCertificates"),
        ("credentialName", !tls.credential_name.is_empty(), "credentialName"),
        ("credentialNames", !tls.credential_names.is_empty(), "credentialNames"),
    ] {
        if set {
            report.refuse(&at.field(field), format!("ISTIO_MUTUAL TLS cannot have associated {what}"));
        }
    }
}

fn certificates(report: &mut Report<'_>, at: &At<'_>, tls: &ServerTlsSettings, mode: &str, mutual: bool) {
    if mutual && tls.ca_certificates.is_empty() {
        report.refuse(at, format!("{mode} requires a client CA bundle"));
    }
    if tls.tls_certificates.len() > 2 {
        report.warn(&at.field("tlsCertificates"), format!("{mode} can support up to 2 server certificates"));
    }
    let required = |report: &mut Report<'_>, at: &At<'_>, certificate: &str, key: &str| {
        if certificate.is_empty() {
            report.refuse(at, format!("{mode} requires a server certificate"));
        }
        if key.is_empty() {
            report.refuse(at, format!("{mode} requires a private key"));
        }
    };
    if tls.tls_certificates.is_empty() {
        required(report, at, &tls.server_certificate, &tls.private_key);
    }
    let list = at.field("tlsCertificates");
    for (index, certificate) in tls.tls_certificates.iter().enumerate() {
        required(report, &list.index(index), &certificate.server_certificate, &certificate.private_key);
    }
}
