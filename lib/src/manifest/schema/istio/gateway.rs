//! Gateway (networking/v1alpha3/gateway.proto).

use smol_str::SmolStr;

use super::Labels;
use crate::manifest::schema::scalar::{Ignored, proto_enum, schema};

schema! {
    /// Servers of the proxies that a selector chooses.
    Gateway { servers: Vec<Server>, selector: Labels }
    /// A port and hosts.
    Server {
        port: Option<Port>, bind: SmolStr, hosts: Vec<SmolStr>, tls: Option<ServerTlsSettings>, default_endpoint: SmolStr,
        name: SmolStr,
    }
    /// A port.
    Port { number: u32, protocol: SmolStr, name: SmolStr, target_port: u32 }
    /// TLS towards clients.
    ServerTlsSettings {
        https_redirect: bool, mode: ServerTlsMode, server_certificate: SmolStr, private_key: SmolStr,
        ca_certificates: SmolStr, credential_name: SmolStr, credential_names: Vec<SmolStr>,
        subject_alt_names: Vec<SmolStr>, verify_certificate_spki: Vec<SmolStr>, verify_certificate_hash: Vec<SmolStr>,
        min_protocol_version: TlsProtocol, max_protocol_version: TlsProtocol, cipher_suites: Vec<SmolStr>,
        ca_crl: SmolStr, ca_cert_credential_name: SmolStr, tls_certificates: Vec<TlsCertificate>,
        ecdh_curves: Option<Ignored>, insecure_skip_verify: Option<Ignored>,
    }
    /// One of several certificates.
    TlsCertificate { server_certificate: SmolStr, private_key: SmolStr, ca_certificates: SmolStr }
}

proto_enum! {
    /// TLS mode towards clients.
    ServerTlsMode {
        #[default] Passthrough = 0 "PASSTHROUGH", Simple = 1 "SIMPLE", Mutual = 2 "MUTUAL",
        AutoPassthrough = 3 "AUTO_PASSTHROUGH", IstioMutual = 4 "ISTIO_MUTUAL", OptionalMutual = 5 "OPTIONAL_MUTUAL",
    }
}

proto_enum! {
    /// A version of TLS.
    TlsProtocol {
        #[default] TlsAuto = 0 "TLS_AUTO", TlsV1_0 = 1 "TLSV1_0", TlsV1_1 = 2 "TLSV1_1", TlsV1_2 = 3 "TLSV1_2", TlsV1_3 = 4 "TLSV1_3",
    }
}
