//! What is behind a cluster's name?
//!
//! One default cluster for each port of a service, one for each subset of its DestinationRule, and Istio's own.
//! Invariant: a cluster is built from its name alone. istiod: `cluster.go: buildOutboundClusters, convertResolution`;
//! `cluster_builder.go: buildCluster, applyDestinationRule, buildSubsetCluster`.

pub mod endpoint;
#[cfg(test)]
mod entry_tests;
pub mod locality;
pub(in crate::istiod) mod metadata;
pub mod sni_dnat;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod traffic_policy;
mod tuning;

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use self::locality::Preferred;
use self::traffic_policy::{ResolvedPolicy, SendsUnhealthy};
use super::name::{
    ALLOW_ANY_DYNAMIC_DNS_CLUSTER, BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, SubsetKey, outbound_cluster,
    outbound_sni,
};
use super::node::NodeType;
use super::proxy::Proxy;
use super::service::ScopedService;
use crate::envoy::config::{
    CircuitBreakers, Cluster, ClusterMetadata, ClusterTuning, DiscoveryType, LoadAssignment,
    UpstreamProtocol, UpstreamTransport,
};
use crate::manifest::Kind;
use crate::manifest::schema::istio::SimpleLb;
use crate::mesh::{DestinationRule, Protocol, Resolution, ServicePort, host};
use crate::origin::Origin;

/// How long a connection may be unused that goes where the application wanted it to. istiod: `cluster_builder.go:
/// passthroughHttpProtocolOptions`.
const PASSTHROUGH_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The names of all clusters of a proxy, in istiod's order.
pub fn names(proxy: &Proxy) -> Vec<SmolStr> {
    let mut out = Vec::new();
    for service in &proxy.scope().services() {
        if service.resolution() == Resolution::Alias {
            continue;
        }
        let rule = proxy.scope().destination_rule(proxy.mesh(), proxy.node(), service.hostname());
        let subsets =
            rule.as_ref().filter(|_| !is_forward_proxy(service)).map_or(&[][..], |rule| &rule.subsets[..]);
        for port in service.ports().iter().filter(|port| port.protocol != Protocol::Udp) {
            out.push(outbound_cluster(service.hostname(), port.number, ""));
            out.extend(
                subsets
                    .iter()
                    .map(|subset| outbound_cluster(service.hostname(), port.number, &subset.subset.name)),
            );
        }
    }
    out.push(BLACK_HOLE_CLUSTER);
    if proxy.node().node_type == NodeType::Sidecar {
        out.push(PASSTHROUGH_CLUSTER);
        if proxy.resolves_unknown_hosts() {
            out.push(ALLOW_ANY_DYNAMIC_DNS_CLUSTER);
        }
    }
    out
}

/// Builds the outbound cluster `name`; `None` when the proxy has none of that name.
pub fn build(proxy: &Proxy, name: &str) -> Option<Cluster> {
    let sidecar = proxy.node().node_type == NodeType::Sidecar;
    if name == BLACK_HOLE_CLUSTER {
        return Some(plain(proxy, BLACK_HOLE_CLUSTER, DiscoveryType::Static));
    }
    if name == PASSTHROUGH_CLUSTER {
        return sidecar.then(|| passthrough(proxy, PASSTHROUGH_CLUSTER));
    }
    if name == ALLOW_ANY_DYNAMIC_DNS_CLUSTER {
        return (sidecar && proxy.resolves_unknown_hosts()).then(|| dynamic_dns(proxy));
    }
    let key = SubsetKey::parse(name).filter(|key| key.direction == "outbound")?;
    let service = &proxy.scope().service(key.host)?;
    let port = service.port(key.port).filter(|port| port.protocol != Protocol::Udp)?;
    if service.resolution() == Resolution::Alias {
        return None;
    }
    let rule = proxy.scope().destination_rule(proxy.mesh(), proxy.node(), service.hostname());
    outbound(proxy, &Target { service, port, rule: rule.as_deref(), subset: key.subset })
}

/// What an outbound cluster is built for.
pub struct Target<'a> {
    /// The service.
    pub service: &'a ScopedService,
    /// Its port.
    pub port: &'a ServicePort,
    /// The DestinationRule that holds for it.
    pub rule: Option<&'a DestinationRule>,
    /// The subset; empty for the whole service.
    pub subset: &'a str,
}

fn outbound(proxy: &Proxy, target: &Target<'_>) -> Option<Cluster> {
    let Target { service, port, .. } = *target;
    let base = ResolvedPolicy::of_service(target.rule, port.number, proxy.mesh().config());
    let forward_proxy = is_forward_proxy(service);
    let mut discovery_type = if forward_proxy {
        let supported =
            matches!(port.protocol, Protocol::Http | Protocol::Tls | Protocol::Grpc | Protocol::Http2);
        if !supported || !target.subset.is_empty() {
            return None;
        }
        DiscoveryType::DynamicForwardProxy
    } else {
        discovery_type(proxy, service)
    };
    // The default cluster has to exist before its subsets do.
    let dns = matches!(discovery_type, DiscoveryType::StrictDns | DiscoveryType::LogicalDns);
    if dns && !endpoint::has_dns_endpoints(proxy, &Target { subset: "", ..*target }) {
        return None;
    }
    if base.is_passthrough() && !forward_proxy {
        discovery_type = DiscoveryType::OriginalDst;
    }
    let mut origin = service.origin().clone();
    let policy = if target.subset.is_empty() {
        base
    } else {
        let subset = target.rule?.subset(target.subset)?;
        origin = subset.origin.clone();
        if subset_is_passthrough(subset.subset.traffic_policy.as_ref()) {
            discovery_type = DiscoveryType::OriginalDst;
        }
        base.with_subset(subset, port.number)
    };
    let dns = matches!(discovery_type, DiscoveryType::StrictDns | DiscoveryType::LogicalDns);
    let mut load_assignment = LoadAssignment::default();
    if dns {
        load_assignment = endpoint::dns_endpoints(proxy, target, &policy);
        if load_assignment.endpoints.is_empty() {
            return None;
        }
    }
    if policy.is_passthrough() && !forward_proxy {
        discovery_type = DiscoveryType::OriginalDst;
        load_assignment = LoadAssignment::default();
    }
    if discovery_type == DiscoveryType::Eds {
        load_assignment = endpoint::eds_endpoints(proxy, target);
    }
    let protocol = policy.upstream_protocol(port.protocol, proxy.node().node_type, proxy.mesh().config());
    let transport = tls::upstream_transport(
        proxy,
        target,
        &policy,
        tls::Upstream {
            discovery_type,
            sni: if forward_proxy {
                SmolStr::default()
            } else {
                outbound_sni(service.hostname(), port.number, target.subset)
            },
            http2: protocol == UpstreamProtocol::Http2,
        },
    );
    // Ports of younger ServiceEntries with the host are added to the oldest, but what they stand for is not. istiod:
    // `sidecar.go: appendSidecarServices`, `cluster_builder.go: buildCluster`.
    let of_oldest = service.service().ports.iter().find(|own| own.number == port.number);
    let original_dst_port_override = (discovery_type == DiscoveryType::OriginalDst
        && service.resolution() == Resolution::Passthrough
        && !service.is_kubernetes())
    .then(|| of_oldest.map_or(0, |own| own.target_port))
    .filter(|target_port| *target_port != 0);
    let rules = target.rule.iter().flat_map(|rule| &rule.from).map(|id| {
        let policy = proxy.mesh().manifests().get(*id).is_some_and(|r| r.kind == Kind::BackendTlsPolicy);
        Origin::field(*id, if policy { "spec.targetRefs" } else { "spec.host" })
    });
    Some(Cluster {
        name: outbound_cluster(service.hostname(), port.number, target.subset),
        discovery_type,
        load_assignment: Arc::new(load_assignment),
        lb_policy: policy.lb_policy(discovery_type),
        transport,
        proxy_protocol: policy.proxy_protocol(),
        protocol,
        original_dst_port_override,
        connect_timeout: policy.connect_timeout(proxy.mesh().config()),
        circuit_breakers: policy.circuit_breakers(),
        upstream_bind_config: None,
        outlier_detection: policy.outlier_limits(),
        locality_weighted: locality::weighs_localities(
            proxy.mesh().features(),
            Preferred::of(proxy, service.service(), policy.load_balancer.as_ref()).as_ref(),
            policy.outlier_detection.is_some(),
        ),
        healthy_panic_threshold: policy
            .healthy_panic_threshold(SendsUnhealthy::of(proxy.mesh(), service.service()))
            .filter(|_| !forward_proxy),
        metadata: metadata::outbound(target, &policy, discovery_type),
        tuning: policy.tuning(discovery_type, proxy.mesh().config()),
        patches: Vec::new(),
        opaque: None,
        applied: rules.chain(policy.applied.iter().cloned()).collect(),
        origin,
    })
}

/// Whether the name in the request is resolved by the proxy.
fn is_forward_proxy(service: &ScopedService) -> bool {
    host::is_wildcard(service.hostname()) && service.resolution() == Resolution::DynamicDns
}

fn subset_is_passthrough(policy: Option<&crate::manifest::schema::istio::TrafficPolicy>) -> bool {
    policy.and_then(|policy| policy.load_balancer.as_ref()?.simple) == Some(SimpleLb::Passthrough)
}

/// How endpoints of a service are found. istiod: `cluster.go: convertResolution`.
fn discovery_type(proxy: &Proxy, service: &ScopedService) -> DiscoveryType {
    match service.resolution() {
        Resolution::ClientSideLb | Resolution::Alias | Resolution::DynamicDns => DiscoveryType::Eds,
        Resolution::DnsLb => DiscoveryType::StrictDns,
        Resolution::DnsRoundRobinLb => DiscoveryType::LogicalDns,
        Resolution::Passthrough if proxy.node().node_type == NodeType::Router => DiscoveryType::Eds,
        Resolution::Passthrough
            if service.is_kubernetes() && proxy.mesh().features().eds_for_headless_services =>
        {
            DiscoveryType::Eds
        }
        Resolution::Passthrough => DiscoveryType::OriginalDst,
    }
}

/// A cluster of Istio's own.
pub fn plain(proxy: &Proxy, name: SmolStr, discovery_type: DiscoveryType) -> Cluster {
    Cluster {
        name,
        discovery_type,
        load_assignment: Arc::default(),
        lb_policy: match discovery_type {
            DiscoveryType::OriginalDst | DiscoveryType::DynamicForwardProxy => "CLUSTER_PROVIDED",
            _ => "ROUND_ROBIN",
        },
        transport: UpstreamTransport::Plaintext,
        proxy_protocol: None,
        protocol: UpstreamProtocol::Http1,
        original_dst_port_override: None,
        connect_timeout: proxy.mesh().config().connect_timeout.to_std(),
        circuit_breakers: CircuitBreakers::default(),
        upstream_bind_config: None,
        outlier_detection: None,
        locality_weighted: false,
        healthy_panic_threshold: None,
        metadata: ClusterMetadata::default(),
        tuning: None,
        patches: Vec::new(),
        opaque: None,
        applied: Vec::new(),
        origin: Origin::default("Istio's own clusters"),
    }
}

/// A cluster that connects to the original destination. istiod: `cluster_builder.go: buildDefaultPassthroughCluster`.
pub fn passthrough(proxy: &Proxy, name: SmolStr) -> Cluster {
    let mut out = plain(proxy, name, DiscoveryType::OriginalDst);
    out.protocol = UpstreamProtocol::Downstream;
    let config = proxy.mesh().config();
    let policy = ResolvedPolicy::of_service(None, 0, config);
    out.connect_timeout = policy.connect_timeout(config);
    out.circuit_breakers = policy.circuit_breakers();
    // Of the settings for connections, only those that are not of HTTP get here.
    let tcp_keepalive = policy
        .tuning(DiscoveryType::OriginalDst, proxy.mesh().config())
        .and_then(|tuning| tuning.tcp_keepalive);
    let idle_timeout = Some(PASSTHROUGH_IDLE_TIMEOUT);
    out.tuning = Some(Arc::new(ClusterTuning { idle_timeout, tcp_keepalive, ..ClusterTuning::default() }));
    out
}

fn dynamic_dns(proxy: &Proxy) -> Cluster {
    let mut out = plain(proxy, ALLOW_ANY_DYNAMIC_DNS_CLUSTER, DiscoveryType::DynamicForwardProxy);
    out.protocol = UpstreamProtocol::Downstream;
    let idle_timeout = Some(PASSTHROUGH_IDLE_TIMEOUT);
    let policy = ResolvedPolicy::default();
    let of_mesh = policy.tuning(DiscoveryType::DynamicForwardProxy, proxy.mesh().config());
    let of_mesh = of_mesh.map(Arc::unwrap_or_clone).unwrap_or_default();
    out.tuning = Some(Arc::new(ClusterTuning { idle_timeout, ..of_mesh.clone() }));
    if let Some(settings) = &proxy.mesh().config().outbound_traffic_policy.tls {
        out.transport = tls::forward_proxy_transport(settings);
        // TLS options of HTTP take the place of those that follow the client. istiod: `cluster_builder.go: build`.
        if let UpstreamTransport::Tls(context) = &out.transport
            && (context.auto_sni || context.auto_san_validation)
        {
            out.protocol = UpstreamProtocol::Http1;
            out.tuning = (of_mesh != ClusterTuning::default()).then(|| Arc::new(of_mesh));
        }
    }
    out
}
