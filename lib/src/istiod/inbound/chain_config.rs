//! Which ports of a workload get filter chains of their own?
//!
//! Those of its services, or those of its Sidecar's `ingress`, which replaces them. Invariant: one for each port of the
//! workload; where several services lead to a port, the oldest decides. istiod: `listener_inbound.go:
//! buildInboundChainConfigs, getFilterChainsByServicePort, getBindToPort`; `context.go: CanBindToPort`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::ServiceTarget;
use crate::istiod::name::{INBOUND_PASSTHROUGH_CLUSTER, inbound_cluster};
use crate::istiod::node::{InterceptionMode, IpMode, Node};
use crate::istiod::proxy::Proxy;
use crate::manifest::schema::istio::{CaptureMode, IstioIngressListener, ServerTlsSettings};
use crate::mesh::Protocol;
use crate::origin::Origin;

/// The filter chains of one port of the workload.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// The cluster that they lead to.
    pub cluster: SmolStr,
    /// The service's port, by which virtual host and decorator are named.
    pub port: u16,
    /// The port of the workload; 0 stands for every other port.
    pub target_port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// The bind address, by which chains are named.
    pub bind: SmolStr,
    /// Further addresses.
    pub extra_binds: Vec<SmolStr>,
    /// Whether it is a real socket.
    pub bind_to_port: bool,
    /// The host that the decorator names; empty for the chains of all other ports.
    pub hostname: SmolStr,
    /// TLS as the Sidecar asks for it.
    pub tls: Option<(ServerTlsSettings, Origin)>,
    /// Whether these are the chains of ports that nothing describes.
    pub passthrough: bool,
    /// Who made it.
    pub origin: Origin,
}

impl ChainConfig {
    /// The chains of a port that nothing describes; 0 for all such ports.
    pub fn passthrough(target_port: u16) -> Self {
        Self {
            cluster: INBOUND_PASSTHROUGH_CLUSTER,
            port: 0,
            target_port,
            protocol: Protocol::Unsupported,
            bind: SmolStr::default(),
            extra_binds: Vec::new(),
            bind_to_port: false,
            hostname: SmolStr::default(),
            tls: None,
            passthrough: true,
            origin: Origin::default("Istio's chains for ports that no service names"),
        }
    }
}

/// The ingress listeners of a proxy's Sidecar.
pub fn ingress(proxy: &Proxy) -> impl Iterator<Item = (&IstioIngressListener, Origin)> {
    let sidecar = proxy.scope().sidecar.as_ref();
    sidecar.into_iter().flat_map(|(sidecar, origin)| {
        sidecar.ingress.iter().enumerate().map(|(i, listener)| (listener, origin.element("spec.ingress", i)))
    })
}

/// The host that stands for a proxy's Sidecar in telemetry: `name.namespace`.
pub fn sidecar_hostname(proxy: &Proxy) -> SmolStr {
    let origin = proxy.scope().sidecar.as_ref().map(|(_, origin)| origin);
    let name = origin
        .and_then(Origin::resource)
        .and_then(|id| proxy.mesh().manifests().get(id))
        .map_or("", |resource| &resource.meta.name);
    format_smolstr!("{name}.{}", proxy.scope().namespace)
}

/// The configurations of a proxy, by port.
pub fn chain_configs(proxy: &Proxy, targets: &[ServiceTarget]) -> Vec<ChainConfig> {
    let none = proxy.node().metadata.interception_mode == InterceptionMode::None;
    let mut by_port: BTreeMap<u16, ChainConfig> = BTreeMap::new();
    let has_ingress = ingress(proxy).next().is_some();
    if !has_ingress {
        // Real sockets would take the application's own ports.
        if !none {
            from_services(proxy, targets, &mut by_port);
        }
    } else {
        if proxy.mesh().features().sidecar_service_inbound_listener_merge {
            from_services(proxy, targets, &mut by_port);
        }
        from_ingress(proxy, &mut by_port);
    }
    by_port.into_values().collect()
}

fn port_of(listener: &IstioIngressListener) -> u16 {
    listener.port.as_ref().and_then(|port| u16::try_from(port.number).ok()).unwrap_or(0)
}

fn from_services(proxy: &Proxy, targets: &[ServiceTarget], by_port: &mut BTreeMap<u16, ChainConfig>) {
    let node = proxy.node();
    let bind_to_port = node.metadata.interception_mode == InterceptionMode::None;
    let taken: Vec<u16> = ingress(proxy).map(|(listener, _)| port_of(listener)).collect();
    for target in targets {
        let wildcards = wildcards(node);
        let config = proxy.mesh().config();
        let virtual_ports = [config.proxy_listen_port, config.proxy_inbound_listen_port];
        if !can_bind(node, bind_to_port, target.target_port, true)
            || virtual_ports.contains(&i32::from(target.target_port))
            || taken.contains(&target.target_port)
        {
            continue;
        }
        by_port.entry(target.target_port).or_insert_with(|| ChainConfig {
            cluster: inbound_cluster(target.target_port),
            port: target.port.number,
            target_port: target.target_port,
            protocol: target.port.protocol,
            bind: node.ip_mode().wildcard().to_smolstr(),
            extra_binds: wildcards.into_iter().skip(1).collect(),
            bind_to_port,
            hostname: target.service.hostname.clone(),
            tls: None,
            passthrough: false,
            origin: target.service.origin.clone(),
        });
    }
}

fn from_ingress(proxy: &Proxy, by_port: &mut BTreeMap<u16, ChainConfig>) {
    let node = proxy.node();
    let wildcard = node.ip_mode().wildcard();
    for (listener, origin) in ingress(proxy) {
        let Some(port) = &listener.port else { continue };
        let number = port_of(listener);
        let mut protocol = Protocol::parse(&port.protocol);
        let bind_to_port = match listener.capture_mode {
            CaptureMode::Default => node.metadata.interception_mode == InterceptionMode::None,
            CaptureMode::Iptables => false,
            CaptureMode::None => true,
        };
        let on_reserved_address = if listener.bind.is_empty() {
            protocol.is_http()
        } else {
            listener.bind == wildcard.to_smolstr()
        };
        if !can_bind(node, bind_to_port, number, on_reserved_address) {
            continue;
        }
        let (bind, extra_binds) = if listener.bind.is_empty() {
            let mut own = bind_addresses(node).into_iter();
            (own.next().unwrap_or_default(), own.collect())
        } else {
            (listener.bind.clone(), Vec::new())
        };
        let mut tls = None;
        if proxy.mesh().features().tls_on_sidecar_ingress
            && let Some(settings) = &listener.tls
        {
            tls = Some((settings.clone(), origin.part("tls")));
            protocol = after_tls_termination(protocol);
        }
        by_port.entry(number).or_insert_with(|| ChainConfig {
            cluster: inbound_cluster(number),
            port: number,
            target_port: number,
            protocol,
            bind,
            extra_binds,
            bind_to_port,
            hostname: sidecar_hostname(proxy),
            tls,
            passthrough: false,
            origin,
        });
    }
}

/// What is spoken inside TLS. istiod: `protocol/instance.go: AfterTLSTermination`.
pub const fn after_tls_termination(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Https => Protocol::Http,
        Protocol::Tls => Protocol::Tcp,
        other => other,
    }
}

/// Whether a port may be bound: privileged ports need privileges, and the proxy's own ports are taken.
fn can_bind(node: &Node, bind_to_port: bool, port: u16, on_reserved_address: bool) -> bool {
    if bind_to_port && (1..1024).contains(&port) && node.metadata.unprivileged {
        return false;
    }
    !on_reserved_address
        || ![node.metadata.envoy_status_port, node.metadata.envoy_prometheus_port].contains(&port)
}

/// The addresses that stand for every address of a proxy's families.
pub fn wildcards(node: &Node) -> Vec<SmolStr> {
    let mut out = vec![node.ip_mode().wildcard().to_smolstr()];
    if node.ip_mode() == IpMode::Dual {
        out.push(SmolStr::new_static("::"));
    }
    out
}

/// Where an ingress listener without `bind` listens: the workload's own address.
/// istiod: `listener_address.go: getSidecarInboundBindIPs`.
fn bind_addresses(node: &Node) -> Vec<SmolStr> {
    match node.ips.iter().find(|ip| is_global_unicast(**ip)) {
        Some(ip) => vec![ip.to_smolstr()],
        None => wildcards(node),
    }
}

/// As Go's `netip.Addr.IsGlobalUnicast`: private addresses count.
fn is_global_unicast(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}
