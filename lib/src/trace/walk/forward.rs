//! Which endpoint is chosen, and what runs at an address?

use std::net::IpAddr;
use std::sync::Arc;

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::ending::Failure;
use super::{Flight, Walk};
use crate::envoy::cluster::{Tier, tiers};
use crate::envoy::config::{
    Cluster, DiscoveryType, EndpointAddress, LbEndpoint, ProxyProtocolVersion, TunnelingConfig,
    UpstreamProtocol, UpstreamTransport,
};
use crate::envoy::request::{ApplicationProtocol, Preface, Transport};
use crate::envoy::upstream::{Client, transport};
use crate::envoy::xds::Capture;
use crate::istiod::name::SubsetKey;
use crate::mesh::{Address, Endpoint, Health, INVALID_AUTHORITY, ProxyKind, Service};
use crate::origin::Origin;
use crate::trace::address::{Known, with_port};
use crate::trace::contract::{HopKind, StepKind};
use crate::trace::dns::{self, Answer, Found, Resolver};
use crate::trace::tracer::Member;

/// Endpoints that nothing tells apart, by their first.
struct Group<T> {
    first: T,
    weight: f64,
    size: usize,
}

/// Puts what is alike together, in the order of the first of each.
fn groups<T>(all: impl Iterator<Item = (T, f64)>, same: impl Fn(&T, &T) -> bool) -> Vec<Group<T>> {
    let mut out: Vec<Group<T>> = Vec::new();
    for (item, weight) in all {
        match out.iter_mut().find(|group| same(&group.first, &item)) {
            Some(group) => {
                group.weight += weight;
                group.size += 1;
            }
            None => out.push(Group { first: item, weight, size: 1 }),
        }
    }
    out
}

impl<'t> Walk<'t> {
    /// Sends a connection to a cluster's endpoint.
    pub(super) fn forward(
        &mut self,
        cluster: &Arc<Cluster>,
        member: &Member,
        mut flight: Flight,
        auto_host_rewrite: bool,
    ) {
        self.rest_on_policies(&cluster.applied);
        if let UpstreamTransport::Tls(context) = &cluster.transport
            && context.authority == INVALID_AUTHORITY
        {
            let rule = self.located(&context.origin);
            self.unknown(format!(
                "Envoy is never told whose certificates {rule} trusts, and sends nothing before"
            ));
            return;
        }
        let http = self.path.last().is_some_and(|visit| visit.turn.is_some() || visit.begins_tunnel);
        if http {
            flight.protocol = match (cluster.protocol, flight.protocol) {
                (UpstreamProtocol::Http2, _) => ApplicationProtocol::Http2,
                (UpstreamProtocol::Downstream, ApplicationProtocol::Http2) => ApplicationProtocol::Http2,
                _ => ApplicationProtocol::Http11,
            };
        }
        self.announce(cluster, &mut flight);
        flight.source = cluster.upstream_bind_config.unwrap_or(member.facts.address);
        if let Some(key) = SubsetKey::parse(&cluster.name).filter(|key| !key.host.is_empty()) {
            let wildcard = key.host.starts_with('*');
            if !wildcard && cluster.discovery_type != DiscoveryType::OriginalDst {
                flight.name = key.host.into();
            }
        }
        match cluster.discovery_type {
            DiscoveryType::OriginalDst => {
                flight.port = cluster.original_dst_port_override.unwrap_or(flight.port);
                let address = super::socket(flight.address, flight.port);
                let note = "the original destination".to_owned();
                self.step(StepKind::Endpoint, &address, &cluster.origin, Some(note));
                protect(cluster, None, member, &mut flight, http);
                self.dial(flight);
            }
            DiscoveryType::DynamicForwardProxy => self.forward_by_name(cluster, member, flight, http),
            DiscoveryType::Eds
            | DiscoveryType::StrictDns
            | DiscoveryType::LogicalDns
            | DiscoveryType::Static => {
                self.forward_to_endpoint(cluster, member, &flight, http, auto_host_rewrite);
            }
        }
    }

    /// Puts in front of a connection what the cluster's endpoints are to be told first: where it comes from.
    ///
    /// Envoy: `upstream_proxy_protocol` tells the client's address of bytes and of requests. Measured with Envoy 1.40.
    fn announce(&mut self, cluster: &Cluster, flight: &mut Flight) {
        flight.preface = Preface::Nothing;
        flight.announced_by = None;
        let Some(config) = &cluster.proxy_protocol else { return };
        let version = match config.version {
            ProxyProtocolVersion::V1 => "1",
            ProxyProtocolVersion::V2 => "2",
        };
        let name = format_smolstr!("PROXY protocol, version {version}");
        let note = format!("tells that it comes from {}", flight.source);
        self.step(StepKind::Preface, &name, &config.origin, Some(note));
        flight.preface = Preface::ProxyProtocol { source: flight.source };
        flight.announced_by = Some(config.origin.clone());
    }

    /// Sends bytes to a cluster's endpoint in a request, which whoever gets it has to accept.
    pub(super) fn forward_in_tunnel(
        &mut self,
        tunnel: &TunnelingConfig,
        cluster: &Arc<Cluster>,
        member: &Member,
        flight: &Flight,
    ) {
        let name = format_smolstr!("{} {}", tunnel.method(), tunnel.hostname);
        self.step(StepKind::Tunnel, &name, &tunnel.origin, None);
        if let Some(visit) = self.path.last_mut() {
            visit.begins_tunnel = true;
        }
        let protocol = tunnel.protocol(cluster);
        let next = Flight {
            layers: Vec::new(),
            tls_origin: None,
            protocol,
            message: Some(tunnel.request(protocol)),
            unread: None,
            tunnel: Some(Arc::new(tunnel.clone())),
            ..flight.clone()
        };
        self.forward(cluster, member, next, false);
    }

    fn forward_to_endpoint(
        &mut self,
        cluster: &Arc<Cluster>,
        member: &Member,
        flight: &Flight,
        http: bool,
        auto_host_rewrite: bool,
    ) {
        let tiers = tiers(cluster);
        let used: Vec<&Tier<'_>> = tiers.iter().filter(|tier| !tier.members.is_empty()).collect();
        if used.is_empty() {
            self.no_endpoint(&cluster.name);
            return;
        }
        if let Some(assumption) = &cluster.load_assignment.assumption {
            self.rest_on(assumption.to_string());
        }
        if let Some(assumption) = self.unknown_locality(cluster) {
            self.rest_on(assumption);
        }
        let shares: Vec<f64> = used.iter().map(|tier| f64::from(tier.share)).collect();
        self.fork(&shares, |walk, way| {
            let Some(tier) = used.get(way) else { return };
            walk.tier_step(cluster, &tiers, tier);
            walk.forward_within(cluster, tier, member, flight, http, auto_host_rewrite);
        });
    }

    /// What the choice between endpoints rests on, where it makes a difference which is chosen.
    fn unknown_locality(&self, cluster: &Cluster) -> Option<String> {
        let assumption = cluster.load_assignment.preference.as_ref()?.assumption.as_ref()?;
        let mut all = cluster.load_assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints);
        let first = all.next()?;
        let differ =
            all.any(|other| other.health_status != first.health_status || !self.same_endpoint(first, other));
        differ.then(|| assumption.to_string())
    }

    /// Notes which priority is taken and why, where there is a choice.
    fn tier_step(&mut self, cluster: &Cluster, tiers: &[Tier<'_>], tier: &Tier<'_>) {
        let assignment = &cluster.load_assignment;
        let Some(preference) = &assignment.preference else { return };
        if !self.explain || assignment.endpoints.iter().filter(|g| !g.lb_endpoints.is_empty()).count() < 2 {
            return;
        }
        let note = tier_note(&preference.client, tiers, tier);
        let name = tier.priority.to_smolstr();
        self.step(StepKind::Priority, &name, &preference.origin, Some(note));
    }

    fn forward_within(
        &mut self,
        cluster: &Arc<Cluster>,
        tier: &Tier<'_>,
        member: &Member,
        flight: &Flight,
        http: bool,
        auto_host_rewrite: bool,
    ) {
        let usable = tier.members.iter().map(|chosen| (chosen.endpoint, chosen.weight));
        let found = groups(usable, |a: &&LbEndpoint, b| self.same_endpoint(a, b));
        let shares: Vec<f64> = found.iter().map(|group| group.weight).collect();
        self.fork(&shares, |walk, way| {
            let Some(group) = found.get(way) else { return };
            let endpoint: &LbEndpoint = group.first;
            let mut next = flight.clone();
            let note = (group.size > 1).then(|| format!("one of {} that are alike", group.size));
            let assumption = assumption(endpoint, &cluster.name);
            match &endpoint.address {
                EndpointAddress::Socket(ip, port) => {
                    let address = super::socket(*ip, *port);
                    walk.assumed_step(StepKind::Endpoint, &address, &endpoint.origin, note, assumption);
                    (next.address, next.port) = (*ip, *port);
                }
                EndpointAddress::Pipe(path) => {
                    walk.step(StepKind::Endpoint, path, &endpoint.origin, note);
                    protect(cluster, Some(endpoint), member, &mut next, http);
                    walk.own_application(next);
                    return;
                }
                EndpointAddress::Name(name, port) => {
                    let place = (name, *port);
                    if auto_host_rewrite && let Some(message) = &mut next.message {
                        message.authority = name.clone();
                    }
                    walk.forward_to_name(cluster, Some(endpoint), member, (next, http), place, note);
                    return;
                }
            }
            protect(cluster, Some(endpoint), member, &mut next, http);
            walk.dial(next);
        });
    }

    fn same_endpoint(&self, a: &LbEndpoint, b: &LbEndpoint) -> bool {
        let place = |e: &LbEndpoint| match &e.address {
            EndpointAddress::Socket(ip, port) => Some((self.mesh.workload_index_at(*ip), *port)),
            EndpointAddress::Name(..) | EndpointAddress::Pipe(_) => None,
        };
        match (place(a), place(b)) {
            (Some((first, port)), Some((second, other_port))) => {
                port == other_port
                    && a.istio_mutual == b.istio_mutual
                    && match (first, second) {
                        (Some(first), Some(second)) => {
                            self.alike(first, second) && self.same_way_on(first, second)
                        }
                        (None, None) => true,
                        _ => false,
                    }
            }
            _ => a.address == b.address,
        }
    }

    fn alike(&self, first: usize, second: usize) -> bool {
        let workload = |index| self.mesh.workloads().get(index);
        workload(first).zip(workload(second)).is_some_and(|(first, second)| first.is_like(second))
    }

    /// Whether what two workloads send on goes the same way: where a gateway runs decides which endpoints it prefers.
    fn same_way_on(&self, first: usize, second: usize) -> bool {
        let place = |index: usize| {
            let workload = self.mesh.workloads().get(index)?;
            (workload.proxy == ProxyKind::Gateway).then_some((&workload.locality, workload.locality_known))
        };
        place(first) == place(second)
    }

    /// Sends a connection to the host that the request names.
    fn forward_by_name(&mut self, cluster: &Arc<Cluster>, member: &Member, mut flight: Flight, http: bool) {
        let asked: SmolStr = match (&flight.message, flight.layers.last()) {
            (Some(message), _) if http => message.authority.clone(),
            (_, Some(Transport::Tls { sni, .. })) => sni.clone(),
            _ => flight.name.clone(),
        };
        let (host, port) = match asked.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (SmolStr::new(host), port.parse().ok()),
            _ => (asked.clone(), None),
        };
        let tls = !matches!(cluster.transport, UpstreamTransport::Plaintext);
        let port = port.unwrap_or(if http { if tls { 443 } else { 80 } } else { flight.port });
        let note = Some("the proxy resolves the host that is asked for".to_owned());
        let Ok(ip) = host.parse::<IpAddr>() else {
            self.forward_to_name(cluster, None, member, (flight, http), (&host, port), note);
            return;
        };
        self.step(StepKind::Endpoint, &format_smolstr!("{host}:{port}"), &cluster.origin, note);
        (flight.address, flight.port, flight.name) = (ip, port, host);
        protect(cluster, None, member, &mut flight, http);
        self.dial(flight);
    }

    /// Sends a connection to a name that the proxy resolves.
    fn forward_to_name(
        &mut self,
        cluster: &Arc<Cluster>,
        endpoint: Option<&LbEndpoint>,
        member: &Member,
        (flight, http): (Flight, bool),
        (name, port): (&SmolStr, u16),
        note: Option<String>,
    ) {
        let resolver =
            Resolver { mesh: self.mesh, namespace: Some(&member.proxy.node().namespace), agent: None };
        let address = format_smolstr!("{name}:{port}");
        let origin = endpoint.map_or(&cluster.origin, |endpoint| &endpoint.origin);
        let answer = match resolver.resolve(name) {
            Answer::Found(answer) => answer,
            Answer::NotFound(_) => {
                let note = Some("the name cannot be resolved".to_owned());
                self.step(StepKind::Endpoint, &address, origin, note);
                self.no_endpoint(&cluster.name);
                return;
            }
            Answer::Unsettled(reason) => {
                self.step(StepKind::Endpoint, &address, origin, note);
                self.unknown(reason);
                return;
            }
        };
        self.assumed_step(StepKind::Endpoint, &address, origin, note, answer.assumption.clone());
        self.each_address(&answer, |walk, ip| {
            let mut next = flight.clone();
            (next.address, next.port, next.name) = (ip, port, name.clone());
            protect(cluster, endpoint, member, &mut next, http);
            walk.dial(next);
        });
    }

    /// Follows what DNS answers: each pod of a headless Service is as likely to come first, of other addresses one does.
    pub(super) fn each_address(&mut self, answer: &Found, mut follow: impl FnMut(&mut Self, IpAddr)) {
        let pods = answer.pods.iter().map(|pod| (pod, 1.0));
        let found = groups(pods, |a, b| match (a.workload, b.workload) {
            (Some(x), Some(y)) => !a.named && !b.named && self.alike(x, y),
            _ => false,
        });
        let Some(first) = answer.addresses.first().filter(|_| found.is_empty()) else {
            let shares: Vec<f64> = found.iter().map(|group| group.weight).collect();
            self.fork(&shares, |walk, way| {
                let Some(pod) = found.get(way).map(|group| group.first) else { return };
                if let Some(assumption) = &pod.assumption {
                    walk.rest_on(assumption.clone());
                }
                follow(walk, pod.ip);
            });
            return;
        };
        follow(self, *first);
    }

    /// Connects to an address.
    pub(super) fn dial(&mut self, flight: Flight) {
        let at_server = self.path.last().is_some_and(|visit| visit.hop.kind == HopKind::SidecarInbound);
        if at_server || flight.address.is_loopback() {
            self.own_application(flight);
            return;
        }
        // What a node takes to a Service comes before the pods that have the node's own address.
        let known = self.known_outside(&flight);
        if let Some((known, asked)) = &known
            && known.service.port(flight.port).is_some()
        {
            if let Some(assumption) = known.assumption(asked, true) {
                self.rest_on(assumption);
            }
            self.kubernetes_service(&known.service, flight);
            return;
        }
        if let Some(index) = self.mesh.workload_index_at(flight.address) {
            let Some(workload) = self.mesh.workloads().get(index) else { return };
            self.rest_on_proxy(workload);
            let member = self.member(index);
            let inbound = member
                .as_deref()
                .filter(|member| member.captures(flight.address))
                .and_then(|member| member.capture.as_ref())
                .is_some_and(|rules| rules.inbound(flight.port));
            match workload.proxy {
                ProxyKind::Gateway => self.at_proxy(HopKind::Gateway, index, Capture::Direct, flight),
                ProxyKind::Sidecar if inbound => {
                    self.at_proxy(HopKind::SidecarInbound, index, Capture::Inbound, flight);
                }
                ProxyKind::None if workload.ambient.is_some() => self.at_ztunnel(index, &flight),
                ProxyKind::Sidecar | ProxyKind::None => self.application(index, flight),
            }
            return;
        }
        let in_cluster = self.tracer.addresses().in_cluster(flight.address);
        if let Some(service) = in_cluster.or(known.as_ref().map(|(known, _)| known.service.as_ref())) {
            self.kubernetes_service(service, flight);
            return;
        }
        let name = flight.name.clone();
        self.enter(HopKind::External, &name, None, &flight);
        self.served(&name, &flight);
    }

    /// The Service that is known outside of the cluster by an address, or by the name that the address stands for.
    fn known_outside(&self, flight: &Flight) -> Option<(&'t Known, SmolStr)> {
        let addresses = self.tracer.addresses();
        let mut asked = flight.address.to_smolstr();
        if addresses.outside(&asked).is_empty() && dns::stands_for(flight.address, &flight.name) {
            asked.clone_from(&flight.name);
        }
        let known = with_port(addresses.outside(&asked), flight.port)?;
        Some((known, asked))
    }

    /// Connects to a Service as Kubernetes does: any ready endpoint of the port.
    pub(super) fn kubernetes_service(&mut self, service: &Service, flight: Flight) {
        let Some(port) = service.port(flight.port) else {
            let reason = format!("{} has no port {}", service.hostname, flight.port);
            self.failed(&Failure::timeout(reason));
            return;
        };
        let ready = |e: &&Endpoint| e.port_name == port.name && e.health == Health::Healthy;
        let endpoints = self.mesh.endpoints(&service.hostname, &service.namespace);
        let usable = endpoints.iter().filter(ready).map(|endpoint| (endpoint, 1.0));
        let found = groups(usable, |a, b| match (a.workload, b.workload) {
            (Some(x), Some(y)) => a.port == b.port && self.alike(x as usize, y as usize),
            _ => a.address == b.address && a.port == b.port,
        });
        if found.is_empty() {
            let reason = format!("{} has no ready endpoint for port {}", service.hostname, flight.port);
            self.failed(&Failure::refused(reason));
            return;
        }
        let shares: Vec<f64> = found.iter().map(|group| group.weight).collect();
        self.fork(&shares, |walk, way| {
            let Some(group) = found.get(way) else { return };
            let endpoint = group.first;
            let Address::Ip(ip) = endpoint.address else { return };
            let address = super::socket(ip, endpoint.port);
            let note = match group.size {
                1 => format!("Kubernetes chooses it for {}", service.hostname),
                n => format!("Kubernetes chooses one of {n} that are alike for {}", service.hostname),
            };
            let assumption =
                endpoint.assumed.then(|| format!("{} has a ready endpoint", workload_or(endpoint, service)));
            walk.assumed_step(StepKind::Endpoint, &address, &endpoint.origin, Some(note), assumption);
            let mut next = flight.clone();
            (next.address, next.port, next.name) = (ip, endpoint.port, service.hostname.clone());
            walk.dial(next);
        });

        fn workload_or(endpoint: &Endpoint, service: &Service) -> SmolStr {
            match &endpoint.address {
                Address::Ip(ip) if endpoint.workload.is_none() => ip.to_smolstr(),
                _ => service.hostname.clone(),
            }
        }
    }

    /// The application beside the last proxy.
    fn own_application(&mut self, flight: Flight) {
        match self.path.last().and_then(|visit| visit.workload) {
            Some(index) => self.application(index, flight),
            None => self.failed(&Failure::refused("nothing listens there".to_owned())),
        }
    }

    /// Arrives at a workload's application.
    pub(super) fn application(&mut self, index: usize, flight: Flight) {
        let Some(workload) = self.mesh.workloads().get(index) else { return };
        if self.repeats(HopKind::Workload, Some(index), &flight) {
            self.looped();
            return;
        }
        let mesh_tls = matches!(flight.layers.last(), Some(Transport::Tls { mesh_certificate: true, .. }));
        self.enter(HopKind::Workload, &workload.full_name(), Some(index), &flight);
        if mesh_tls {
            let reason = format!("{} has no proxy that could speak Istio's mutual TLS", workload.full_name());
            self.failed(&Failure::plaintext_server(reason));
            return;
        }
        self.served(&workload.full_name(), &flight);
    }

    /// Arrives at a server behind all proxies, which ends TLS once at most.
    fn served(&mut self, server: &str, flight: &Flight) {
        if let Some(tunnel) = &flight.tunnel {
            let (method, host) = (tunnel.method(), &tunnel.hostname);
            self.rest_on(format!("{server} accepts {method} {host} and passes the bytes on to there"));
        }
        if let Some(origin) = flight.announced_by.as_ref().or(flight.unread.as_ref()) {
            let rule = self.located(origin);
            self.rest_on(format!("{server} reads the PROXY protocol's header that {rule} sends first"));
        }
        if flight.layers.len() < 2 {
            self.delivered();
            return;
        }
        self.rest_on(format!("{server} speaks no TLS within TLS"));
        let rule = flight.tls_origin.as_ref().map(|origin| self.located(origin));
        let rule = rule.unwrap_or_else(|| "a proxy".to_owned());
        let reason = format!("what had TLS already was wrapped in TLS by {rule}; {server} would not read it");
        self.failed(&Failure::within(reason));
    }

    /// A place and where it is written.
    fn located(&self, origin: &Origin) -> String {
        let place = self.place(origin);
        let at = place.location().map(|at| format!(" ({}:{})", at.file, at.line)).unwrap_or_default();
        format!("{place}{at}")
    }

    /// The cluster exists and has nobody to send to.
    fn no_endpoint(&mut self, cluster: &str) {
        self.failed(&Failure::no_endpoint(format!("{cluster} has no endpoint to connect to")));
    }
}

/// Where the endpoints of a priority run, and why others do or do not take part.
fn tier_note(client: &str, tiers: &[Tier<'_>], tier: &Tier<'_>) -> String {
    let named = |place: &'_ str| if place.is_empty() { "no locality".to_owned() } else { place.to_owned() };
    let mut places: Vec<String> = tier.members.iter().map(|member| named(&member.group.locality)).collect();
    places.dedup();
    let mut out = vec![format!("{} for a client in {}", places.join(", "), named(client))];
    if tier.panic {
        out.push("all of it, because too few endpoints are ready".to_owned());
    }
    if tier.share < 100 {
        out.push(format!("{} % of requests", tier.share));
    }
    let short = tiers.iter().filter(|other| other.priority <= tier.priority && other.healthy < other.size);
    out.extend(short.map(|Tier { priority, healthy, size, .. }| {
        format!("priority {priority} has {healthy} of {size} ready")
    }));
    out.join("; ")
}

/// What the choice of an endpoint rests on.
fn assumption(endpoint: &LbEndpoint, cluster: &SmolStr) -> Option<String> {
    let what = match (endpoint.assumed, endpoint.node_assumed) {
        (false, false) => return None,
        (true, false) => "has a ready endpoint",
        (true, true) => "has a ready endpoint on the client's node, where its Service wants it",
        (false, true) => "runs on the client's node, where its Service wants it",
    };
    Some(format!("{} {what}", shown(endpoint, cluster)))
}

fn shown(endpoint: &LbEndpoint, cluster: &SmolStr) -> SmolStr {
    if endpoint.workload.is_empty() { cluster.clone() } else { endpoint.workload.clone() }
}

/// Wraps a connection in the TLS that a cluster asks for.
fn protect(
    cluster: &Cluster,
    endpoint: Option<&LbEndpoint>,
    member: &Member,
    flight: &mut Flight,
    http: bool,
) {
    let protocol = if http { flight.protocol } else { ApplicationProtocol::Tcp };
    let host = flight.message.as_ref().filter(|_| http).map(|m| m.authority.as_str()).unwrap_or_default();
    // Istio's filter for ALPN is one of requests that come in, not of those that carry bytes.
    let client = Client { identity: &member.facts.identity, overrides_alpn: flight.tunnel.is_none() };
    match transport(cluster, endpoint, protocol, host, client) {
        Transport::Plaintext => {}
        tls @ Transport::Tls { .. } => {
            flight.layers.push(tls);
            flight.tls_origin = match &cluster.transport {
                UpstreamTransport::Plaintext => None,
                UpstreamTransport::Tls(context) | UpstreamTransport::Auto(context) => {
                    Some(context.origin.clone())
                }
            };
        }
    }
}
