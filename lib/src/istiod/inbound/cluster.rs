//! What is behind a port of the own workload?
//!
//! The connection's original destination, or the address that MeshConfig or the Sidecar names. Invariant: a cluster
//! is built from its name alone. istiod: `cluster.go: buildInboundClustersFromServiceInstances,
//! buildInboundClustersFromSidecar`; `cluster_builder.go: buildInboundCluster, buildInboundPassthroughCluster`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::chain_config::{self, ingress};
use crate::envoy::config::{
    Cluster, ClusterMetadata, ClusterTuning, DiscoveryType, EndpointAddress, HealthStatus, LbEndpoint,
    LoadAssignment, LocalityEndpoints, UpstreamProtocol, UpstreamTransport,
};
use crate::istiod::cluster::metadata;
use crate::istiod::cluster::traffic_policy::ResolvedPolicy;
use crate::istiod::name::{INBOUND_PASSTHROUGH_CLUSTER, SubsetKey, inbound_cluster};
use crate::istiod::node::{InterceptionMode, IpMode, NodeType};
use crate::istiod::proxy::Proxy;
use crate::manifest::schema::istio::{ConnectionPoolSettings, IstioIngressListener};
use crate::manifest::schema::mesh_config::InboundTrafficPolicyMode;
use crate::mesh::{DestinationRule, Protocol, Registry, Resolution, Service};
use crate::origin::Origin;

/// The source address that iptables lets through to the workload.
const PASSTHROUGH_BIND: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))];

/// The longest duration of a protocol buffer that istiod writes. istiod: `cluster_builder.go: maxSecondsValue`.
const FOREVER: Duration = Duration::from_secs(9_223_372_035);

/// The names of all inbound clusters, in order of ports.
pub fn names(proxy: &Proxy) -> Vec<SmolStr> {
    if proxy.node().node_type != NodeType::Sidecar {
        return Vec::new();
    }
    let mut ports: Vec<u16> = ingress(proxy).filter_map(|(listener, _)| port_of(listener)).collect();
    if uses_services(proxy) {
        ports.extend(proxy.service_targets().iter().map(|target| target.target_port));
    }
    ports.sort_unstable();
    ports.dedup();
    let mut out: Vec<SmolStr> = ports.into_iter().map(inbound_cluster).collect();
    out.push(INBOUND_PASSTHROUGH_CLUSTER);
    out
}

/// Builds the inbound cluster `name`; `None` when the proxy has none of that name.
pub fn build(proxy: &Proxy, name: &str) -> Option<Cluster> {
    if proxy.node().node_type != NodeType::Sidecar {
        return None;
    }
    if name == INBOUND_PASSTHROUGH_CLUSTER {
        let mut out = crate::istiod::cluster::passthrough(proxy, INBOUND_PASSTHROUGH_CLUSTER);
        out.upstream_bind_config = Some(passthrough_bind(proxy));
        let tuning = out.tuning.take().map(Arc::unwrap_or_clone).unwrap_or_default();
        let extra_source_addresses = other_binds(proxy);
        out.tuning = Some(Arc::new(ClusterTuning { extra_source_addresses, ..tuning }));
        return Some(out);
    }
    let key = SubsetKey::parse(name).filter(|key| key.direction == "inbound")?;
    if !key.subset.is_empty() || !key.host.is_empty() {
        return None;
    }
    let of_ingress = ingress(proxy).find(|(listener, _)| port_of(listener) == Some(key.port));
    match of_ingress {
        Some((listener, origin)) => from_ingress(proxy, key.port, listener, origin),
        None if uses_services(proxy) => from_services(proxy, key.port),
        None => None,
    }
}

/// Whether services make clusters: not beside a Sidecar's `ingress`, and not without capture.
fn uses_services(proxy: &Proxy) -> bool {
    if ingress(proxy).next().is_some() {
        return proxy.mesh().features().sidecar_service_inbound_listener_merge;
    }
    proxy.node().metadata.interception_mode != InterceptionMode::None
}

fn passthrough_bind(proxy: &Proxy) -> IpAddr {
    let [v4, v6] = PASSTHROUGH_BIND;
    if proxy.node().ip_mode() == IpMode::V6 { v6 } else { v4 }
}

/// The port of an ingress listener that has a cluster: with a `defaultEndpoint` that cannot be read it has none.
fn port_of(listener: &IstioIngressListener) -> Option<u16> {
    let port = u16::try_from(listener.port.as_ref()?.number).ok()?;
    let endpoint = &listener.default_endpoint;
    (endpoint.is_empty() || endpoint.starts_with("unix://") || split_host_port(endpoint).is_some())
        .then_some(port)
}

fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

fn from_services(proxy: &Proxy, port: u16) -> Option<Cluster> {
    let targets: Vec<_> =
        proxy.service_targets().iter().filter(|target| target.target_port == port).collect();
    let target = *targets.first()?;
    let endpoint = match proxy.mesh().config().inbound_traffic_policy {
        InboundTrafficPolicyMode::Passthrough => None,
        InboundTrafficPolicyMode::Localhost => {
            Some(EndpointAddress::Socket(proxy.node().ip_mode().localhost(), port))
        }
    };
    let service = &target.service;
    let rule = rule_of(proxy, service);
    Some(build_cluster(
        proxy,
        Inbound {
            port,
            service_port: target.port.number,
            protocol: target.port.protocol,
            endpoint,
            metadata: metadata::inbound(&targets, target.port.number, rule.as_deref()),
            rule,
            original_dst_port_override: (service.registry == Registry::External
                && service.resolution == Resolution::Passthrough
                && target.port.target_port != 0)
                .then_some(target.port.target_port),
            origin: service.origin.clone(),
        },
    ))
}

fn from_ingress(
    proxy: &Proxy,
    port: u16,
    listener: &IstioIngressListener,
    origin: Origin,
) -> Option<Cluster> {
    let target = proxy.service_targets().iter().find(|target| target.target_port == port);
    let protocol = Protocol::parse(&listener.port.as_ref()?.protocol);
    let rule = target.and_then(|target| rule_of(proxy, &target.service));
    Some(build_cluster(
        proxy,
        Inbound {
            port,
            service_port: port,
            protocol,
            endpoint: default_endpoint(proxy, &listener.default_endpoint),
            metadata: metadata::ingress(target.map(|target| &*target.service), rule.as_deref()),
            rule,
            original_dst_port_override: None,
            origin,
        },
    ))
}

/// Where an ingress listener's traffic goes; `None` is the original destination.
fn default_endpoint(proxy: &Proxy, endpoint: &str) -> Option<EndpointAddress> {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return Some(EndpointAddress::Pipe(path.into()));
    }
    let (host, port) = split_host_port(endpoint)?;
    let node = proxy.node();
    let own = |wanted: fn(&IpAddr) -> bool| node.ips.iter().copied().find(wanted);
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let address = match host {
        "0.0.0.0" => own(IpAddr::is_ipv4).unwrap_or(v4),
        "::" => own(IpAddr::is_ipv6).unwrap_or(v6),
        "127.0.0.1" => node.ip_mode().localhost(),
        "::1" if node.ip_mode() == IpMode::V4 => v4,
        "::1" => v6,
        // Anything else is the original destination.
        _ => return None,
    };
    Some(EndpointAddress::Socket(address, port))
}

/// The DestinationRule of a service; one with a workload selector is for clients only.
fn rule_of(proxy: &Proxy, service: &Service) -> Option<Arc<DestinationRule>> {
    let scope = proxy.scope();
    let seen = scope.service(&service.hostname)?;
    proxy
        .mesh()
        .destination_rules()
        .find(&scope.namespace, &IndexMap::new(), seen.service())
        .filter(|rule| rule.workload_selector.is_none())
}

/// What an inbound cluster is built for.
struct Inbound {
    port: u16,
    service_port: u16,
    protocol: Protocol,
    endpoint: Option<EndpointAddress>,
    rule: Option<Arc<DestinationRule>>,
    metadata: ClusterMetadata,
    original_dst_port_override: Option<u16>,
    origin: Origin,
}

fn build_cluster(proxy: &Proxy, inbound: Inbound) -> Cluster {
    let config = proxy.mesh().config();
    let mut policy = ResolvedPolicy::of_service(inbound.rule.as_deref(), inbound.service_port, config);
    if let Some((pool, origin)) = connection_pool(proxy, inbound.port) {
        policy.applied.push(origin.clone());
        policy.connection_pool = Some((pool.clone(), origin));
    }
    // Of a rule, only the settings for connections count. istiod: `cluster_traffic_policy.go: applyTrafficPolicy`.
    policy.load_balancer = None;
    let localhost = matches!(&inbound.endpoint, Some(EndpointAddress::Socket(ip, _)) if ip.is_loopback());
    let discovery_type =
        if inbound.endpoint.is_some() { DiscoveryType::Static } else { DiscoveryType::OriginalDst };
    let endpoints = inbound.endpoint.map(|address| LocalityEndpoints {
        locality: SmolStr::default(),
        priority: 0,
        load_balancing_weight: 1,
        lb_endpoints: vec![LbEndpoint {
            address,
            health_status: HealthStatus::Healthy,
            load_balancing_weight: 1,
            istio_mutual: false,
            workload: smol_str::format_smolstr!("{}/{}", proxy.node().namespace, proxy.node().name),
            assumed: false,
            node_assumed: false,
            origin: inbound.origin.clone(),
        }],
    });
    Cluster {
        name: inbound_cluster(inbound.port),
        discovery_type,
        load_assignment: Arc::new(LoadAssignment {
            endpoints: endpoints.into_iter().collect(),
            preference: None,
            assumption: None,
        }),
        lb_policy: if discovery_type == DiscoveryType::OriginalDst {
            "CLUSTER_PROVIDED"
        } else {
            "ROUND_ROBIN"
        },
        transport: UpstreamTransport::Plaintext,
        proxy_protocol: None,
        protocol: upstream_protocol(&policy, inbound.protocol),
        original_dst_port_override: inbound.original_dst_port_override,
        connect_timeout: policy.connect_timeout(config),
        circuit_breakers: policy.circuit_breakers(),
        upstream_bind_config: (!localhost).then(|| passthrough_bind(proxy)),
        outlier_detection: None,
        locality_weighted: false,
        healthy_panic_threshold: None,
        metadata: inbound.metadata,
        tuning: Some(Arc::new(tuning(proxy, &policy, discovery_type, !localhost))),
        patches: Vec::new(),
        opaque: None,
        applied: policy.applied.clone(),
        origin: inbound.origin,
    }
}

/// What decides nothing about a request: nothing is balanced or taken out here.
fn tuning(
    proxy: &Proxy,
    policy: &ResolvedPolicy,
    discovery_type: DiscoveryType,
    binds: bool,
) -> ClusterTuning {
    let tuning = policy.tuning(DiscoveryType::OriginalDst, proxy.mesh().config());
    let mut out = tuning.map(Arc::unwrap_or_clone).unwrap_or_default();
    out.outlier_error_codes = Vec::new();
    // What a connection named is never forgotten: this is the longest time that there is.
    out.cleanup_interval = (discovery_type == DiscoveryType::OriginalDst).then_some(FOREVER);
    if binds && proxy.mesh().features().dual_stack {
        out.extra_source_addresses = other_binds(proxy);
    }
    out
}

/// The source addresses of further families.
fn other_binds(proxy: &Proxy) -> Vec<IpAddr> {
    let [_, v6] = PASSTHROUGH_BIND;
    if proxy.node().ip_mode() == IpMode::Dual { vec![v6] } else { Vec::new() }
}

/// The HTTP version towards the workload: never upgraded.
fn upstream_protocol(policy: &ResolvedPolicy, protocol: Protocol) -> UpstreamProtocol {
    let http = policy.connection_pool.as_ref().and_then(|(pool, _)| pool.http.as_ref());
    if http.is_some_and(|http| http.use_client_protocol) || protocol == Protocol::Unsupported {
        UpstreamProtocol::Downstream
    } else if protocol.is_http2() {
        UpstreamProtocol::Http2
    } else {
        UpstreamProtocol::Http1
    }
}

/// The limits that the Sidecar sets for a port, or for all of them. istiod: `sidecar.go: InboundConnectionPoolForPort`.
fn connection_pool(proxy: &Proxy, port: u16) -> Option<(&ConnectionPoolSettings, Origin)> {
    let of_port = chain_config::ingress(proxy)
        .filter(|(listener, _)| listener.port.as_ref().is_some_and(|own| own.number == u32::from(port)))
        .find_map(|(listener, origin)| {
            Some((listener.connection_pool.as_ref()?, origin.part("connectionPool")))
        });
    of_port.or_else(|| {
        let (sidecar, origin) = proxy.scope().sidecar.as_ref()?;
        Some((sidecar.inbound_connection_pool.as_ref()?, origin.part("spec.inboundConnectionPool")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_split_as_gos_net_does() {
        assert_eq!(split_host_port("127.0.0.1:80"), Some(("127.0.0.1", 80)));
        assert_eq!(split_host_port("[::1]:80"), Some(("::1", 80)));
        assert_eq!(split_host_port("::1:80"), None);
        assert_eq!(split_host_port("127.0.0.1:"), None);
        assert_eq!(split_host_port(":80"), Some(("", 80)));
    }
}
