//! AuthorizationPolicy, PeerAuthentication and RequestAuthentication (security/v1beta1).

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::{PolicyTargetReference, WorkloadSelector};
use crate::manifest::schema::scalar::{Duration, proto_enum, schema};

schema! {
    /// Who may call a workload.
    AuthorizationPolicy {
        selector: Option<WorkloadSelector>, target_ref: Option<PolicyTargetReference>,
        target_refs: Vec<PolicyTargetReference>, rules: Vec<Rule>, action: AuthorizationAction,
        provider: Option<ExtensionProvider>,
    }
    /// The provider of a custom action.
    ExtensionProvider { name: SmolStr }
    /// A rule.
    Rule { from: Vec<RuleFrom>, to: Vec<RuleTo>, when: Vec<Condition> }
    /// Sources of a rule.
    RuleFrom { source: Option<Source> }
    /// Operations of a rule.
    RuleTo { operation: Option<Operation> }
    /// A source.
    Source {
        principals: Vec<SmolStr>, not_principals: Vec<SmolStr>, request_principals: Vec<SmolStr>,
        not_request_principals: Vec<SmolStr>, namespaces: Vec<SmolStr>, not_namespaces: Vec<SmolStr>,
        ip_blocks: Vec<SmolStr>, not_ip_blocks: Vec<SmolStr>, remote_ip_blocks: Vec<SmolStr>,
        not_remote_ip_blocks: Vec<SmolStr>, service_accounts: Vec<SmolStr>, not_service_accounts: Vec<SmolStr>, trust_domains: Vec<SmolStr>,
        not_trust_domains: Vec<SmolStr>,
    }
    /// An operation.
    Operation {
        hosts: Vec<SmolStr>, not_hosts: Vec<SmolStr>, ports: Vec<SmolStr>, not_ports: Vec<SmolStr>,
        methods: Vec<SmolStr>, not_methods: Vec<SmolStr>, paths: Vec<SmolStr>, not_paths: Vec<SmolStr>,
    }
    /// A further condition.
    Condition { key: SmolStr, values: Vec<SmolStr>, not_values: Vec<SmolStr> }

    /// Which TLS a workload accepts.
    PeerAuthentication {
        selector: Option<WorkloadSelector>, mtls: Option<MutualTls>, port_level_mtls: Option<IndexMap<SmolStr, MutualTls>>,
    }
    /// Mutual TLS.
    MutualTls { mode: MutualTlsMode }

    /// Which tokens a workload accepts.
    RequestAuthentication {
        selector: Option<WorkloadSelector>, target_ref: Option<PolicyTargetReference>,
        target_refs: Vec<PolicyTargetReference>, jwt_rules: Vec<JwtRule>,
    }
    /// An issuer.
    JwtRule {
        issuer: SmolStr, audiences: Vec<SmolStr>, jwks_uri: SmolStr, jwks: SmolStr, from_headers: Vec<JwtHeader>,
        from_params: Vec<SmolStr>, from_cookies: Vec<SmolStr>, output_payload_to_header: SmolStr,
        forward_original_token: bool, output_claim_to_headers: Vec<ClaimToHeader>, timeout: Option<Duration>,
        space_delimited_claims: Vec<SmolStr>, presence: JwtRequirement,
    }
    /// A header that carries a token.
    JwtHeader { name: SmolStr, prefix: SmolStr }
    /// A claim that is copied into a header.
    ClaimToHeader { header: SmolStr, claim: SmolStr }
}

proto_enum! {
    /// What an AuthorizationPolicy does.
    AuthorizationAction { #[default] Allow = 0 "ALLOW", Deny = 1 "DENY", Audit = 2 "AUDIT", Custom = 3 "CUSTOM" }
}

proto_enum! {
    /// Mutual TLS mode.
    MutualTlsMode { #[default] Unset = 0 "UNSET", Disable = 1 "DISABLE", Permissive = 2 "PERMISSIVE", Strict = 3 "STRICT" }
}

proto_enum! {
    /// Whether a request must carry a token.
    JwtRequirement { #[default] Optional = 0 "OPTIONAL", Required = 1 "REQUIRED" }
}
