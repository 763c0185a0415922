//! By which names does a proxy ask for certificates?
//!
//! Secrets of the cluster, files of its container, and what Istio's agent gives every workload: all are SDS resources.
//! Invariant: only names are made here; contents are never read. istiod: `credentials/resource.go: ToResourceName`;
//! `security/security.go: SdsCertificateConfig.GetResourceName, GetRootResourceName`.

use smol_str::{SmolStr, format_smolstr};

/// The certificate that Istio gives every workload.
pub const WORKLOAD_CERTIFICATE: SmolStr = SmolStr::new_static("default");
/// The authority that signed the workloads' certificates.
pub const MESH_AUTHORITY: SmolStr = SmolStr::new_static("ROOTCA");

/// The credential that stands for [`WORKLOAD_CERTIFICATE`].
const BUILTIN: &str = "builtin://";

/// A certificate and its key in files of the proxy's container.
pub fn file_certificate(certificate: &str, private_key: &str) -> SmolStr {
    format_smolstr!("file-cert:{certificate}~{private_key}")
}

/// An authority in a file; without a name, the ones that the container's system trusts.
pub fn file_authority(file: &str) -> SmolStr {
    format_smolstr!("file-root:{}", if file.is_empty() { "system" } else { file })
}

/// The authority that stands beside the certificate of a credential.
/// istiod: `authentication.go: ConstructSdsSecretConfigForCredential, SdsCaSuffix`.
pub fn authority_of(credential: &str) -> SmolStr {
    if credential == BUILTIN {
        MESH_AUTHORITY
    } else {
        resource_name(&format_smolstr!("{credential}-cacert"))
    }
}

/// The SDS resource that a credential's name stands for.
pub fn resource_name(name: &str) -> SmolStr {
    if name.starts_with(BUILTIN) {
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

    #[test]
    fn the_authority_of_a_credential_is_named_after_it() {
        assert_eq!(authority_of("cert"), "kubernetes://cert-cacert");
        assert_eq!(authority_of("kubernetes-gateway://g/cert"), "kubernetes-gateway://g/cert-cacert");
        assert_eq!(authority_of("builtin://"), "ROOTCA");
    }
}
