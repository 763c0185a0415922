//! Which servers of which Gateways does a proxy open, and which lose?
//!
//! Gateways are taken in order of age, name and namespace, their servers as written. Servers of one port share it when
//! both speak plain HTTP or both are told apart by SNI; otherwise the first wins. Invariant: what is left out is kept in
//! [`MergedGateway::skipped`], with the reason. istiod: `push_context.go: mergeGateways, filterStrictGatewayMerging`;
//! `gateway.go: mergeGateways, resolvePorts, canMergeProtocols, addPlainTextServer`.

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::{SmolStr, format_smolstr};

use crate::istiod::inbound::ServiceTarget;
use crate::istiod::node::Node;
use crate::manifest::schema::istio::ServerTlsMode;
use crate::mesh::gateway::Server;
use crate::mesh::{Gateway, GatewaySelector, Generator, Mesh, Protocol, selects};
use crate::origin::Origin;

/// Marks a Service whose ports are not translated.
const DISABLE_PORT_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// A server that a proxy opens.
#[derive(Clone, Debug)]
pub struct MergedServer {
    /// Its Gateway.
    pub gateway: Arc<Gateway>,
    /// The server.
    pub server: Arc<Server>,
    /// Its route configuration; empty when it does not speak HTTP.
    pub route_name: SmolStr,
}

/// A port that a proxy opens for servers of one protocol and address.
#[derive(Clone, Debug)]
pub struct ServerPort {
    /// The port that is listened on.
    pub number: u16,
    /// The protocol as written.
    pub protocol_name: SmolStr,
    /// The protocol.
    pub protocol: Protocol,
    /// The address; empty for all.
    pub bind: SmolStr,
    /// The route configuration of its plain HTTP servers.
    pub route_name: SmolStr,
    /// Its servers, by number in [`MergedGateway::servers`].
    pub servers: Vec<u32>,
}

/// Why a server is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// A server of the port has one of its hosts already.
    DuplicateHost,
    /// A plaintext server has the port, and the two cannot share it.
    ProtocolConflict,
    /// An HTTPS server of the port has the same name already.
    DuplicatePortName,
    /// The Service that the Gateway names has no such port.
    NoServicePort,
    /// The proxy cannot open ports below 1024.
    Privileged,
    /// The proxy belongs to a Gateway API gateway of another namespace.
    ForeignNamespace,
}

/// A server that is not opened.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// Its Gateway.
    pub gateway: Arc<Gateway>,
    /// The server.
    pub server: Arc<Server>,
    /// The port that would have been listened on.
    pub port: u16,
    /// Why.
    pub reason: SkipReason,
    /// The host or server that was there before.
    pub winner: Option<Origin>,
}

/// All servers of a proxy.
#[derive(Clone, Debug, Default)]
pub struct MergedGateway {
    /// The servers that are opened.
    pub servers: Vec<MergedServer>,
    /// The ports, in order.
    pub ports: Vec<ServerPort>,
    /// Servers by route configuration.
    pub by_route: IndexMap<SmolStr, Vec<u32>>,
    /// Route configurations that announce HTTP/3.
    pub http3_routes: FxHashSet<SmolStr>,
    /// Whether some server passes Istio's mutual TLS through by SNI.
    pub auto_passthrough: bool,
    /// Servers that are not opened.
    pub skipped: Vec<Skipped>,
    /// The Gateways that choose the proxy, in order.
    pub gateways: Vec<Arc<Gateway>>,
}

/// A Gateway that chooses the proxy, and the services that its ports are resolved by.
struct Chosen<'a> {
    gateway: &'a Arc<Gateway>,
    targets: Vec<&'a ServiceTarget>,
    by_selector: bool,
}

/// What is known while servers are merged.
#[derive(Default)]
struct State {
    ports: FxHashSet<u16>,
    /// Of each port, the last plaintext server.
    plaintext: FxHashMap<u16, usize>,
    /// Of each port, hosts of TLS servers: the address and who has it.
    tls_hosts: FxHashMap<u16, FxHashMap<SmolStr, (SmolStr, Origin)>>,
    by_key: FxHashMap<(u16, SmolStr, SmolStr), usize>,
}

impl MergedGateway {
    /// Merges the Gateways that choose a proxy.
    pub fn new(mesh: &Mesh, node: &Node, targets: &[ServiceTarget]) -> Self {
        let mut out = Self::default();
        let mut chosen = choose(mesh, node, targets);
        if mesh.features().strict_gateway_merging {
            drop_foreign(&mut chosen, &mut out.skipped);
        }
        out.gateways = chosen.iter().map(|chosen| Arc::clone(chosen.gateway)).collect();
        let mut state = State::default();
        for chosen in &chosen {
            for server in &chosen.gateway.servers {
                let ports = resolve_ports(server.number, chosen);
                if ports.is_empty() {
                    out.skip(chosen.gateway, server, server.number, SkipReason::NoServicePort, None);
                }
                for port in ports {
                    let http3 = mesh.features().quic_listeners
                        && server.terminates_https()
                        && chosen.targets.iter().any(|target| {
                            target.port.number == server.number && target.port.protocol == Protocol::Udp
                        });
                    if let Some(route_name) = out.add(&mut state, chosen.gateway, server, port)
                        && http3
                    {
                        out.http3_routes.insert(route_name);
                    }
                }
            }
        }
        if node.metadata.unprivileged {
            out.drop_privileged();
        }
        out
    }

    /// The server of a number.
    pub fn server(&self, number: u32) -> Option<&MergedServer> {
        self.servers.get(number as usize)
    }

    /// The servers of a port, in order.
    pub fn servers_of<'a>(&'a self, port: &'a ServerPort) -> impl Iterator<Item = &'a MergedServer> {
        port.servers.iter().filter_map(|number| self.server(*number))
    }

    fn skip(
        &mut self,
        gateway: &Arc<Gateway>,
        server: &Arc<Server>,
        port: u16,
        reason: SkipReason,
        winner: Option<Origin>,
    ) {
        let (gateway, server) = (Arc::clone(gateway), Arc::clone(server));
        self.skipped.push(Skipped { gateway, server, port, reason, winner });
    }

    /// Adds a server on a port; the name of its route configuration, if it is opened.
    fn add(
        &mut self,
        state: &mut State,
        gateway: &Arc<Gateway>,
        server: &Arc<Server>,
        port: u16,
    ) -> Option<SmolStr> {
        let route_name = route_name(gateway, server, port);
        if let Some(tls) = &server.tls {
            let known = state.tls_hosts.entry(port).or_default();
            let duplicate = server.hosts.iter().find_map(|host| {
                known.get(host).filter(|(bind, _)| *bind == server.bind).map(|(_, origin)| origin.clone())
            });
            if duplicate.is_some() {
                self.skip(gateway, server, port, SkipReason::DuplicateHost, duplicate);
                return None;
            }
            for host in &server.hosts {
                known.insert(host.clone(), (server.bind.clone(), server.origin.clone()));
            }
            self.auto_passthrough |= tls.mode == ServerTlsMode::AutoPassthrough;
        }
        let merged = MergedServer {
            gateway: Arc::clone(gateway),
            server: Arc::clone(server),
            route_name: route_name.clone(),
        };
        let key = (port, server.protocol_name.clone(), server.bind.clone());
        if state.ports.insert(port) {
            self.open(state, merged, key);
            return Some(route_name);
        }
        if let Some(&current) = state.plaintext.get(&port) {
            let (current_protocol, same_bind, winner) = {
                let existing = self.ports.get(current)?;
                let winner = self.servers_of(existing).next().map(|winner| winner.server.origin.clone());
                (existing.protocol, existing.bind == server.bind, winner)
            };
            let can_merge = current_protocol.is_http()
                && (server.protocol.is_http() || server.protocol == current_protocol);
            if same_bind && (!can_merge || route_name.is_empty()) {
                self.skip(gateway, server, port, SkipReason::ProtocolConflict, winner);
                return None;
            }
            if same_bind {
                self.join(current, merged, &route_name);
            } else if let Some(&existing) = state.by_key.get(&key) {
                if let Some(existing) = self.ports.get_mut(existing) {
                    existing.route_name.clone_from(&route_name);
                }
                self.join(existing, merged, &route_name);
            } else {
                self.open(state, merged, key);
            }
            return Some(route_name);
        }
        if !server.is_tls() {
            // The first plaintext server beside TLS servers: its chain asks for no SNI.
            self.open(state, merged, key);
            return Some(route_name);
        }
        if server.is_http() {
            if let Some(existing) = self.by_route.get(&route_name) {
                let winner = existing.first().and_then(|n| self.server(*n)).map(|s| s.server.origin.clone());
                self.skip(gateway, server, port, SkipReason::DuplicatePortName, winner);
                return None;
            }
            self.by_route.insert(route_name.clone(), vec![self.next_number()]);
        }
        let number = self.push(merged);
        match state.by_key.get(&key).and_then(|at| self.ports.get_mut(*at)) {
            Some(existing) => existing.servers.push(number),
            None => {
                self.new_port(state, number, key, SmolStr::default());
            }
        }
        Some(route_name)
    }

    fn next_number(&self) -> u32 {
        u32::try_from(self.servers.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, merged: MergedServer) -> u32 {
        let number = self.next_number();
        self.servers.push(merged);
        number
    }

    fn new_port(
        &mut self,
        state: &mut State,
        number: u32,
        key: (u16, SmolStr, SmolStr),
        route_name: SmolStr,
    ) -> usize {
        let at = self.ports.len();
        self.ports.push(ServerPort {
            number: key.0,
            protocol: Protocol::parse(&key.1),
            protocol_name: key.1.clone(),
            bind: key.2.clone(),
            route_name,
            servers: vec![number],
        });
        state.by_key.insert(key, at);
        at
    }

    /// Opens a port for a server, which becomes the plaintext server of its number unless it speaks TLS.
    fn open(&mut self, state: &mut State, merged: MergedServer, key: (u16, SmolStr, SmolStr)) {
        let port = key.0;
        let (plaintext, http) = (!merged.server.is_tls(), merged.server.is_http());
        let route_name = merged.route_name.clone();
        let number = self.push(merged);
        let at = self.new_port(state, number, key, route_name.clone());
        if plaintext {
            state.plaintext.insert(port, at);
        }
        if http {
            // Servers that had the name before are forgotten, as in istiod.
            self.by_route.insert(route_name, vec![number]);
        }
    }

    /// Adds a server to a port with plaintext servers.
    fn join(&mut self, port: usize, merged: MergedServer, route_name: &SmolStr) {
        let number = self.push(merged);
        if let Some(port) = self.ports.get_mut(port) {
            port.servers.push(number);
        }
        self.by_route.entry(route_name.clone()).or_default().push(number);
    }

    /// Leaves out ports that an unprivileged proxy cannot open. istiod: `gateway.go: buildGatewayListeners`.
    fn drop_privileged(&mut self) {
        let (kept, dropped): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ports).into_iter().partition(|port| port.number >= 1024);
        self.ports = kept;
        for port in dropped {
            for number in port.servers {
                let Some(merged) = self.server(number).cloned() else { continue };
                self.skip(&merged.gateway, &merged.server, port.number, SkipReason::Privileged, None);
            }
        }
    }
}

/// The Gateways that choose a proxy, oldest first.
fn choose<'a>(mesh: &'a Mesh, node: &Node, targets: &'a [ServiceTarget]) -> Vec<Chosen<'a>> {
    let scoped = mesh.features().scope_gateway_to_namespace;
    let mut out = Vec::new();
    for gateway in mesh.gateways() {
        if scoped && gateway.namespace != node.namespace {
            continue;
        }
        match &gateway.selector {
            GatewaySelector::Services { hosts, namespace } => {
                let of_gateway = |target: &&ServiceTarget| {
                    hosts.contains(&target.service.hostname) && target.service.namespace == *namespace
                };
                let targets: Vec<_> = targets.iter().filter(of_gateway).collect();
                if !targets.is_empty() {
                    out.push(Chosen { gateway, targets, by_selector: false });
                }
            }
            GatewaySelector::Labels(labels) => {
                if selects(labels, &node.labels) {
                    out.push(Chosen { gateway, targets: targets.iter().collect(), by_selector: true });
                }
            }
        }
    }
    out
}

/// Leaves out Gateways of other namespaces on proxies that istiod deploys for a Gateway API gateway.
fn drop_foreign(chosen: &mut Vec<Chosen<'_>>, skipped: &mut Vec<Skipped>) {
    let managed: FxHashSet<SmolStr> = chosen
        .iter()
        .filter(|chosen| chosen.gateway.managed)
        .map(|chosen| chosen.gateway.namespace.clone())
        .collect();
    if managed.is_empty() {
        return;
    }
    chosen.retain(|chosen| {
        let gateway = chosen.gateway;
        let stays = gateway.generator == Generator::GatewayApi || managed.contains(&gateway.namespace);
        if !stays {
            skipped.extend(gateway.servers.iter().map(|server| Skipped {
                gateway: Arc::clone(gateway),
                server: Arc::clone(server),
                port: server.number,
                reason: SkipReason::ForeignNamespace,
                winner: None,
            }));
        }
        stays
    });
}

/// The ports that are listened on for a server's port.
fn resolve_ports(number: u16, chosen: &Chosen<'_>) -> Vec<u16> {
    let mut out = Vec::new();
    for target in &chosen.targets {
        if chosen.by_selector && target.service.labels.contains_key(DISABLE_PORT_TRANSLATION) {
            continue;
        }
        if target.port.number == number {
            if chosen.by_selector {
                return vec![target.target_port];
            }
            out.push(target.target_port);
        }
    }
    if chosen.by_selector {
        return vec![number];
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// The name of a server's route configuration. istiod: `gateway.go: gatewayRDSRouteName`.
fn route_name(gateway: &Gateway, server: &Server, port: u16) -> SmolStr {
    let (dot, bind) = if server.bind.is_empty() { ("", "") } else { (".", server.bind.as_str()) };
    if server.protocol.is_http() {
        return format_smolstr!("http.{port}{dot}{bind}");
    }
    if server.protocol == Protocol::Https && !server.is_passthrough() {
        return format_smolstr!(
            "https.{}.{}.{}.{}{dot}{bind}",
            server.number,
            server.port_name,
            gateway.name,
            gateway.namespace
        );
    }
    SmolStr::default()
}
