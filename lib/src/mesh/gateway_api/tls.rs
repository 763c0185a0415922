//! Which TLS settings does a listener become?
//!
//! A certificate is a Secret that exists, with the right entries; what its entries hold is never looked at. Invariant: a
//! listener whose certificates are all not valid is not opened. istiod: `pilot/pkg/config/kube/gateway/conversion.go:
//! buildTLS, resolveGatewayTLS, buildSecretReference, buildCaCertificateReference`.

use indexmap::IndexMap;
use smol_str::{SmolStr, format_smolstr};

use super::listener::Owner;
use super::reference::{self, Subject, Target};
use super::{Refusal, Surroundings};
use crate::manifest::schema::Ignored;
use crate::manifest::schema::gateway_api::{
    FrontendTlsConfig, FrontendValidation, GatewayTls, Listener, ListenerTls, ObjectReference,
};
use crate::manifest::schema::istio::{ServerTlsMode, ServerTlsSettings};
use crate::manifest::schema::kubernetes::Secret;
use crate::manifest::validate::is_cipher;
use crate::mesh::locality::NETWORK;

/// Chooses client certificates, or Istio's own certificate, for a listener.
const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";
/// The ciphers of a listener.
const CIPHER_SUITES: &str = "gateway.istio.io/tls-cipher-suites";
/// Says what a listener carries.
const LISTENER_PROTOCOL: &str = "gateway.istio.io/listener-protocol";
/// The port of a gateway between networks that passes Istio's TLS through.
pub(in crate::mesh) const NETWORK_PORT: &str = "networking.istio.io/gatewayPort";
/// How many certificates a listener may have.
const MOST_CERTIFICATES: usize = 2;

/// TLS of a listener; with it, why the listener is not opened.
pub(super) fn settings(
    owner: &Owner<'_>,
    gateway: Option<&GatewayTls>,
    listener: &Listener,
    port: u32,
    around: &Surroundings<'_>,
) -> (Option<ServerTlsSettings>, Option<Refusal>) {
    let Some(tls) = &listener.tls else { return (None, None) };
    let mut out = ServerTlsSettings::default();
    let fault = match tls.mode.as_deref().unwrap_or("Terminate") {
        "Passthrough" => {
            if is_auto_passthrough(owner.labels, tls, port) {
                out.mode = ServerTlsMode::AutoPassthrough;
            }
            None
        }
        _ => match terminate(owner, tls, frontend(gateway, port), &mut out, around) {
            Ok(true) => None,
            Ok(false) => return (Some(out), None),
            Err(fault) => return (Some(out), Some(fault)),
        },
    };
    for cipher in
        option(tls, CIPHER_SUITES).split_terminator(',').map(str::trim).filter(|cipher| is_cipher(cipher))
    {
        if !out.cipher_suites.iter().any(|known| known == cipher) {
            out.cipher_suites.push(cipher.into());
        }
    }
    (Some(out), fault)
}

fn option<'a>(tls: &'a ListenerTls, name: &str) -> &'a str {
    tls.options.get(name).map_or("", SmolStr::as_str)
}

/// Validation of clients' certificates on a port. istiod: `conversion.go: resolveGatewayTLS`.
fn frontend(gateway: Option<&GatewayTls>, port: u32) -> Option<&FrontendTlsConfig> {
    let frontend = gateway?.frontend.as_ref()?;
    match frontend.per_port.iter().find(|own| own.port == port) {
        Some(own) => own.tls.as_ref(),
        None => frontend.default.as_ref(),
    }
}

/// Whether a listener of a gateway with these labels passes Istio's TLS through.
///
/// istiod: `pilot/pkg/serviceregistry/kube/conversion.go: IsAutoPassthrough`.
pub(in crate::mesh) fn is_auto_passthrough(
    labels: &IndexMap<SmolStr, SmolStr>,
    tls: &ListenerTls,
    port: u32,
) -> bool {
    let expected = labels.get(NETWORK_PORT).map_or("15443", SmolStr::as_str);
    option(tls, LISTENER_PROTOCOL) == "auto-passthrough"
        || (labels.contains_key(&NETWORK) && port.to_string() == expected)
}

/// Settings of TLS that ends at the gateway; `false` where nothing else counts.
fn terminate(
    owner: &Owner<'_>,
    tls: &ListenerTls,
    frontend: Option<&FrontendTlsConfig>,
    out: &mut ServerTlsSettings,
    around: &Surroundings<'_>,
) -> Result<bool, Refusal> {
    let asked = match option(tls, TERMINATE_MODE) {
        "ISTIO_SIMPLE" => {
            out.mode = ServerTlsMode::Simple;
            out.credential_name = SmolStr::new_static("builtin://");
            return Ok(false);
        }
        "ISTIO_MUTUAL" => {
            out.mode = ServerTlsMode::IstioMutual;
            return Ok(false);
        }
        "MUTUAL" => Some(ServerTlsMode::Mutual),
        "OPTIONAL_MUTUAL" => Some(ServerTlsMode::OptionalMutual),
        _ => None,
    };
    out.mode = asked.unwrap_or(ServerTlsMode::Simple);
    if tls.certificate_refs.len() > MOST_CERTIFICATES {
        return Err(Refusal::new("a listener has two certificates at most"));
    }
    let certificates: Vec<Result<SmolStr, Refusal>> =
        tls.certificate_refs.iter().map(|reference| certificate(owner, reference, around)).collect();
    let valid = certificates.iter().filter(|certificate| certificate.is_ok()).count();
    if valid == 0 {
        // Without any reference nothing is wrong with one.
        return certificates.into_iter().find_map(Result::err).map_or(Ok(false), Err);
    }
    let mut names: Vec<SmolStr> = certificates.into_iter().map(Result::unwrap_or_default).collect();
    if valid == 1 {
        // istiod takes the first, also where it is the one that is not valid.
        out.credential_name = names.swap_remove(0);
    } else {
        out.credential_names = names;
    }
    let validation = frontend.and_then(|frontend| frontend.validation.as_ref());
    if let Some(validation) = validation.filter(|validation| !validation.ca_certificate_refs.is_empty()) {
        out.ca_cert_credential_name = authority(owner, validation, around)?;
        out.insecure_skip_verify = Some(Ignored);
        let insecure = validation.mode.as_deref() == Some("AllowInsecureFallback");
        let default = if insecure { ServerTlsMode::OptionalMutual } else { ServerTlsMode::Mutual };
        out.mode = asked.unwrap_or(default);
    }
    Ok(true)
}

/// The name of a certificate, by which proxies ask for it.
fn certificate(
    owner: &Owner<'_>,
    reference: &ObjectReference,
    around: &Surroundings<'_>,
) -> Result<SmolStr, Refusal> {
    let ObjectReference { group, kind, name, namespace } = reference;
    let namespace = namespace.as_ref().unwrap_or(owner.namespace);
    granted(owner, "Secret", namespace, name, around)?;
    if group.as_deref().is_some_and(|group| !group.is_empty())
        || kind.as_deref().unwrap_or("Secret") != "Secret"
    {
        return Err(Refusal::new(format!("the certificate {namespace}/{name} is no Secret")));
    }
    let Some(secret) = secret(namespace, name, around) else {
        return Err(Refusal::new(format!("there is no Secret {namespace}/{name}")));
    };
    let has = |key: &str| has_entry(secret, key);
    if (has("cert") && has("key")) || (has("tls.crt") && has("tls.key")) {
        return Ok(format_smolstr!("kubernetes-gateway://{namespace}/{name}"));
    }
    Err(Refusal::new(format!("the Secret {namespace}/{name} has no entries tls.crt and tls.key")))
}

/// The name of the authority that clients' certificates are checked with.
fn authority(
    owner: &Owner<'_>,
    validation: &FrontendValidation,
    around: &Surroundings<'_>,
) -> Result<SmolStr, Refusal> {
    let [reference] = validation.ca_certificate_refs.as_slice() else {
        return Err(Refusal::new("a gateway checks clients' certificates with one authority only"));
    };
    let ObjectReference { group, kind, name, namespace } = reference;
    let namespace = namespace.as_ref().unwrap_or(owner.namespace);
    let kind =
        Some(kind.as_deref().unwrap_or_default()).filter(|_| group.as_deref().is_none_or(str::is_empty));
    let scheme = if kind == Some("Secret") { "kubernetes-gateway" } else { "configmap" };
    let granted_kind = if kind == Some("Secret") { "Secret" } else { "ConfigMap" };
    granted(owner, granted_kind, namespace, name, around)?;
    let known = match kind {
        Some("ConfigMap") => {
            around.config_maps.get(&(namespace.as_str(), name.as_str())).is_some_and(|map| {
                let authority = map.data.get("cacert").or_else(|| map.data.get("ca.crt"));
                authority.is_some_and(|text| text.contains("-----BEGIN CERTIFICATE-----"))
            })
        }
        Some("Secret") => secret(namespace, name, around)
            .is_some_and(|secret| has_entry(secret, "cacert") || has_entry(secret, "ca.crt")),
        _ => return Err(Refusal::new(format!("the authority {namespace}/{name} is no Secret or ConfigMap"))),
    };
    if !known {
        return Err(Refusal::new(format!("there is no authority's certificate in {namespace}/{name}")));
    }
    Ok(format_smolstr!("{scheme}://{namespace}/{name}-cacert"))
}

fn secret<'a>(namespace: &str, name: &str, around: &Surroundings<'a>) -> Option<&'a Secret> {
    let mut secrets = around.policies.secrets.in_namespace(namespace);
    secrets.find(|secret| secret.name == name).map(|secret| &*secret.spec)
}

fn has_entry(secret: &Secret, key: &str) -> bool {
    secret.data.contains_key(key) || secret.string_data.contains_key(key)
}

/// Whether an owner may refer to a Secret or ConfigMap.
fn granted(
    owner: &Owner<'_>,
    kind: &str,
    namespace: &SmolStr,
    name: &SmolStr,
    around: &Surroundings<'_>,
) -> Result<(), Refusal> {
    let from = Subject { kind: owner.kind.as_str(), namespace: owner.namespace };
    reference::granted(&around.policies.reference_grants, from, Target { group: "", kind, namespace, name })
}
