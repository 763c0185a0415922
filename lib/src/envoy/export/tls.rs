//! How are certificates and the names in them written, for listeners and clusters alike?
//!
//! Invariant: secrets are named, never held; files stand in for them on one machine.

use serde_json::{Value, json};
use smol_str::SmolStr;

use super::json::{Object, texts};
use super::{Certificates, Writer};

/// Where an SDS resource name is asked for: cluster resources of istiod, all else of Istio's agent.
///
/// Listeners wait for the agent, except on one machine, where none answers. istiod: `security/model/authentication.go:
/// ConstructSdsSecretConfigForCredential, ConstructSdsSecretConfig`.
pub(super) fn sds(writer: &Writer<'_>, name: &str) -> Value {
    if IN_THE_CLUSTER.iter().any(|scheme| name.starts_with(scheme)) {
        return json!({"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}});
    }
    let mut config = Object::new();
    config.set(
        "api_config_source",
        json!({
            "api_type": "GRPC",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
            "set_node_on_first_message_only": true,
            "transport_api_version": "V3",
        }),
    );
    // Only the workload's own are waited for without an end; what files or others hold may never come.
    let own = matches!(name, "default" | "ROOTCA");
    let patience = if writer.loopback.is_some() { Some("1s") } else { own.then_some("0s") };
    config.set_some("initial_fetch_timeout", patience);
    config.set("resource_api_version", "V3");
    json!({"name": name, "sds_config": Value::from(config)})
}

/// The beginnings of resource names that stand for Secrets and ConfigMaps of the cluster.
const IN_THE_CLUSTER: [&str; 4] = ["kubernetes://", "kubernetes-gateway://", "configmap://", "invalid://"];

/// Who signs the peer's certificate, and the names that it has to have.
pub(super) fn set_validation(writer: &Writer<'_>, common: &mut Object, names: Vec<Value>, authority: &str) {
    let mut validation = Object::new();
    validation.set_nonempty("match_subject_alt_names", names);
    common.set(
        "combined_validation_context",
        json!({
            "default_validation_context": Value::from(validation),
            "validation_context_sds_secret_config": sds(writer, authority),
        }),
    );
}

/// The certificate of stand-in servers and clients on one machine.
pub(super) fn set_certificate_files(common: &mut Object, files: &Certificates) {
    common.set(
        "tls_certificates",
        json!([{
            "certificate_chain": {"filename": files.certificate},
            "private_key": {"filename": files.private_key},
        }]),
    );
}

/// Their authority, and the names that the peer has to have.
pub(super) fn set_validation_file(common: &mut Object, names: Vec<Value>, files: &Certificates) {
    let mut validation = Object::new();
    validation.set("trusted_ca", json!({"filename": files.authority}));
    validation.set_nonempty("match_subject_alt_names", names);
    common.set("validation_context", validation);
}

/// `TlsParameters`.
pub(super) fn tls_params(minimum: Option<&str>, maximum: Option<&str>, ciphers: &[SmolStr]) -> Object {
    let mut out = Object::new();
    out.set_some("tls_minimum_protocol_version", minimum);
    out.set_some("tls_maximum_protocol_version", maximum);
    out.set_nonempty("cipher_suites", texts(ciphers));
    out
}
