//! Which TLS is spoken to a cluster's endpoints?
//!
//! A DestinationRule's mode holds for every endpoint; without one, Istio's mutual TLS is used for endpoints that speak
//! it. istiod: `cluster_tls.go: buildUpstreamTLSSettings, applyUpstreamTLSSettings, constructUpstreamTLS`;
//! `push_context.go: BestEffortInferServiceMTLSMode`.

use std::sync::Arc;

use smol_str::SmolStr;

use super::Target;
use super::endpoint;
use super::traffic_policy::ResolvedPolicy;
use crate::envoy::config::{DiscoveryType, UpstreamTlsContext, UpstreamTlsMode, UpstreamTransport};
use crate::istiod::credential::{
    MESH_AUTHORITY, WORKLOAD_CERTIFICATE, authority_of, file_authority, file_certificate, resource_name,
};
use crate::istiod::node::NodeType;
use crate::istiod::peer_authentication::{MtlsMode, namespace_mode};
use crate::istiod::proxy::Proxy;
use crate::manifest::schema::istio::{ClientTlsSettings, SimpleLb, TlsMode};
use crate::mesh::Resolution;
use crate::origin::Origin;

/// ALPN values of Istio's mutual TLS, for HTTP/2 clusters and for others.
const METADATA_EXCHANGE: &str = "istio-peer-exchange";
const ALPN_MESH_H2: [&str; 3] = [METADATA_EXCHANGE, "istio", "h2"];
const ALPN_MESH: [&str; 2] = [METADATA_EXCHANGE, "istio"];

/// What TLS depends on besides the policies.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// How the cluster finds its endpoints.
    pub discovery_type: DiscoveryType,
    /// The SNI of Istio's mutual TLS; empty where it follows the host.
    pub sni: SmolStr,
    /// Whether it speaks HTTP/2.
    pub http2: bool,
}

/// The transport of an outbound cluster.
pub fn upstream_transport(
    proxy: &Proxy,
    target: &Target<'_>,
    policy: &ResolvedPolicy,
    upstream: Upstream,
) -> UpstreamTransport {
    let service = target.service.service();
    // Nobody knows who answers under a name that the proxy finds out by itself. istiod: `cluster_builder.go: buildDFPCluster`.
    let forward_proxy = upstream.discovery_type == DiscoveryType::DynamicForwardProxy;
    let identities = || if forward_proxy { Vec::new() } else { endpoint::service_accounts(proxy, target) };
    if let Some((settings, origin)) = &policy.tls {
        if is_privileged_lookup(proxy, target, settings) {
            return UpstreamTransport::Plaintext;
        }
        return match settings.mode {
            TlsMode::Disable => UpstreamTransport::Plaintext,
            TlsMode::IstioMutual => {
                let sni = if settings.sni.is_empty() { upstream.sni.clone() } else { settings.sni.clone() };
                let names = if settings.subject_alt_names.is_empty() {
                    identities()
                } else {
                    settings.subject_alt_names.clone()
                };
                let mut context = istio_mutual(proxy, sni, names, &upstream, origin.clone());
                context.auto_sni = forward_proxy && settings.sni.is_empty();
                context.insecure_skip_verify = settings.insecure_skip_verify.unwrap_or(false);
                context.auto_san_validation = forward_proxy && !context.insecure_skip_verify;
                UpstreamTransport::Tls(Arc::new(context))
            }
            TlsMode::Simple | TlsMode::Mutual => {
                let incomplete = settings.mode == TlsMode::Mutual
                    && settings.credential_name.is_empty()
                    && (settings.client_certificate.is_empty() || settings.private_key.is_empty());
                if incomplete {
                    // istiod logs an error and leaves the cluster without TLS.
                    return UpstreamTransport::Plaintext;
                }
                let mut context = user_tls(settings, forward_proxy, origin.clone());
                if !target.service.is_kubernetes() && context.subject_alt_names.is_empty() {
                    context.subject_alt_names = identities();
                }
                if upstream.http2 {
                    context.alpn_protocols = vec![SmolStr::new_static("h2")];
                }
                UpstreamTransport::Tls(Arc::new(context))
            }
        };
    }
    if service.mesh_external
        || !proxy.mesh().config().enable_auto_mtls
        || inferred_mode(proxy, target) == MtlsMode::Disable
    {
        return UpstreamTransport::Plaintext;
    }
    let names = identities();
    let origin = Origin::default("Istio's automatic mutual TLS");
    let mut context = istio_mutual(proxy, upstream.sni.clone(), names, &upstream, origin);
    // istiod: `cluster_tls.go: setAutoSniAndAutoSanValidation`.
    context.auto_sni = forward_proxy;
    context.auto_san_validation = forward_proxy;
    let context = Arc::new(context);
    // Where endpoints are not known there is no telling them apart.
    match upstream.discovery_type {
        DiscoveryType::OriginalDst => UpstreamTransport::Tls(context),
        _ => UpstreamTransport::Auto(context),
    }
}

/// TLS of the cluster that resolves unknown hosts.
pub fn forward_proxy_transport(settings: &ClientTlsSettings) -> UpstreamTransport {
    match settings.mode {
        TlsMode::Disable | TlsMode::IstioMutual => UpstreamTransport::Plaintext,
        TlsMode::Simple | TlsMode::Mutual => {
            let origin = Origin::default("MeshConfig outboundTrafficPolicy.tls");
            UpstreamTransport::Tls(Arc::new(user_tls(settings, true, origin)))
        }
    }
}

/// Whether a credential is named that a sidecar may not read: istiod then leaves TLS out.
fn is_privileged_lookup(proxy: &Proxy, target: &Target<'_>, settings: &ClientTlsSettings) -> bool {
    !settings.credential_name.is_empty()
        && !settings.credential_name.starts_with("configmap://")
        && proxy.node().node_type == NodeType::Sidecar
        && target.rule.is_none_or(|rule| rule.workload_selector.is_none())
        && matches!(settings.mode, TlsMode::Simple | TlsMode::Mutual)
}

/// What istiod takes the whole service for.
fn inferred_mode(proxy: &Proxy, target: &Target<'_>) -> MtlsMode {
    let service = target.service;
    let policy = if target.subset.is_empty() {
        target.rule.and_then(|rule| rule.traffic_policy.as_ref()).map(|(policy, _)| policy)
    } else {
        target.rule.and_then(|rule| rule.subset(target.subset)?.subset.traffic_policy.as_ref())
    };
    let lb = policy.and_then(|policy| policy.load_balancer.as_ref()?.simple);
    if service.resolution() == Resolution::Passthrough || lb == Some(SimpleLb::Passthrough) {
        let speak_mutual_tls = endpoint::all_speak_mutual_tls(proxy, service, target.port);
        if !speak_mutual_tls {
            return MtlsMode::Disable;
        }
    }
    namespace_mode(proxy.mesh(), service.namespace())
}

fn istio_mutual(
    proxy: &Proxy,
    sni: SmolStr,
    names: Vec<SmolStr>,
    upstream: &Upstream,
    origin: Origin,
) -> UpstreamTlsContext {
    let alpn: &[&'static str] = if upstream.http2 { &ALPN_MESH_H2 } else { &ALPN_MESH };
    // istiod: `cluster_tls.go: applyUpstreamTLSSettings`.
    let offered = |name: &&str| proxy.mesh().features().metadata_exchange || *name != METADATA_EXCHANGE;
    UpstreamTlsContext {
        mode: UpstreamTlsMode::IstioMutual,
        sni,
        auto_sni: false,
        auto_san_validation: false,
        subject_alt_names: names,
        certificate: WORKLOAD_CERTIFICATE,
        authority: MESH_AUTHORITY,
        insecure_skip_verify: false,
        alpn_protocols: alpn.iter().copied().filter(offered).map(SmolStr::new_static).collect(),
        origin,
    }
}

fn user_tls(settings: &ClientTlsSettings, forward_proxy: bool, origin: Origin) -> UpstreamTlsContext {
    let skip = settings.insecure_skip_verify.unwrap_or(false);
    let auto_sni = settings.sni.is_empty();
    let (mode, shows) = match settings.mode {
        TlsMode::Mutual => (UpstreamTlsMode::Mutual, true),
        TlsMode::Simple | TlsMode::Disable | TlsMode::IstioMutual => (UpstreamTlsMode::Simple, false),
    };
    let (certificate, authority) = if settings.credential_name.is_empty() {
        let own = file_certificate(&settings.client_certificate, &settings.private_key);
        (own, file_authority(&settings.ca_certificates))
    } else {
        (resource_name(&settings.credential_name), authority_of(&settings.credential_name))
    };
    let certificate = if shows { certificate } else { SmolStr::default() };
    UpstreamTlsContext {
        mode,
        sni: settings.sni.clone(),
        auto_sni,
        auto_san_validation: (forward_proxy || (auto_sni && settings.subject_alt_names.is_empty())) && !skip,
        subject_alt_names: settings.subject_alt_names.clone(),
        certificate,
        authority,
        insecure_skip_verify: skip,
        alpn_protocols: Vec::new(),
        origin,
    }
}
