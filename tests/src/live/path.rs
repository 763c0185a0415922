//! Does a whole request go through the mesh as its trace says?
//!
//! Every proxy of the mesh is an Envoy of its own, started with what the model says istiod would tell it. A request is sent
//! where the trace's first leg leads; what each Envoy logged, what arrived at the end and what the client got is compared
//! with the trace, hop by hop. Invariant: the trace is made before anything is sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dryroute::envoy::config::ListenerAddress;
use dryroute::envoy::export::{Certificates, Document, export};
use dryroute::istiod::{Node, NodeType, Proxy};
use dryroute::mesh::Mesh;
use dryroute::trace::{
    Hop, HopKind, LegTransport, OUTSIDE_ADDRESS, Outcome, Query, Trace, Tracer, VerdictKind,
};
use smol_str::SmolStr;

use super::client;
use super::compare::Difference;
use super::lab::VISIT_HEADER;
use super::network::{Door, Network, View};
use super::process::{Process, Scratch};
use super::upstream::{Received, Upstream};
use super::{Binary, hops, log};

/// How long logs may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was compared; what differs, if anything.
    Compared(Vec<(SmolStr, Difference)>),
    /// It could not be sent as the trace has it; the reason.
    NotRun(String),
}

/// A mesh whose proxies run.
#[derive(Debug)]
pub struct RunningMesh {
    tracer: Tracer,
    network: Network,
    upstream: Arc<Upstream>,
    proxies: BTreeMap<SmolStr, Running>,
    sent: usize,
}

#[derive(Debug)]
struct Running {
    log: PathBuf,
    read: usize,
    // What follows ends in this order.
    _process: Process,
    _scratch: Scratch,
}

impl RunningMesh {
    /// Starts an Envoy for every proxy of a mesh.
    ///
    /// # Errors
    ///
    /// An Envoy refuses its configuration, or a socket fails.
    pub fn start(binary: &Binary, mesh: &Arc<Mesh>) -> Result<Self, String> {
        let upstream = Arc::new(Upstream::start().map_err(|e| e.to_string())?);
        let network = Network::open(&upstream).map_err(|e| e.to_string())?;
        let mut proxies = BTreeMap::new();
        for workload in mesh.workloads() {
            let (Some(node), Some(ip)) = (Node::of(mesh, workload), workload.ips.first()) else { continue };
            let router = node.node_type == NodeType::Router;
            let proxy = Proxy::new(Arc::clone(mesh), node);
            let scratch = Scratch::new().map_err(|e| e.to_string())?;
            let log = scratch.path().join("access.log");
            let view = View {
                network: &network,
                source: *ip,
                certificates: certificates(&workload.namespace, &workload.service_account),
                log: log.display().to_string(),
            };
            let snapshot = proxy.snapshot();
            let bootstrap = export(&snapshot, Document::Bootstrap, Some(&view)).document;
            let process = Process::start(binary, &bootstrap, scratch.path())
                .map_err(|e| format!("{}: {e}", workload.full_name()))?;
            for listener in snapshot.listeners.iter().filter(|listener| listener.bind_to_port) {
                let ListenerAddress::Socket(_, number) = listener.address else { continue };
                let Some(socket) = process.listener(&listener.name) else { continue };
                if router {
                    network.add_door(Door { ip: *ip, port: Some(number), socket });
                } else if listener.name == "virtualInbound" {
                    network.add_door(Door { ip: *ip, port: None, socket });
                } else if listener.name == "virtualOutbound" {
                    network.add_door(outbound_door(*ip, socket));
                }
            }
            let running = Running { log, read: 0, _process: process, _scratch: scratch };
            proxies.insert(workload.full_name(), running);
        }
        Ok(Self { tracer: Tracer::new(Arc::clone(mesh)), network, upstream, proxies, sent: 0 })
    }

    /// How many Envoys run.
    pub fn envoys(&self) -> usize {
        self.proxies.len()
    }

    /// Sends a request and compares what happens with its trace.
    ///
    /// # Errors
    ///
    /// The request cannot be traced, or a socket fails.
    pub fn send(&mut self, query: &Query) -> Result<Fate, String> {
        let number = self.sent;
        self.sent += 1;
        let mut query = query.clone();
        query.headers.push((SmolStr::new_static(VISIT_HEADER), Some(number.to_string().into())));
        let trace = self.tracer.trace(&query).map_err(|e| e.to_string())?;
        let (socket, line) = match self.first(&trace) {
            Ok(first) => first,
            Err(reason) => return Ok(Fate::NotRun(reason)),
        };
        let Some(client) = trace.hops.iter().find(|hop| hop.kind == HopKind::Client) else {
            return Ok(Fate::NotRun("the trace has no client".to_owned()));
        };
        let mut bytes = line.into_bytes();
        bytes.extend(request_bytes(client));
        let head = query.method == "HEAD";
        let (_, answer) = client::exchange(socket, &bytes, head).map_err(|e| e.to_string())?;
        let lines = self.new_lines(&trace);
        let received = self.upstream.take(Duration::from_millis(50), |_| false);
        let closest = trace
            .outcomes
            .iter()
            .map(|outcome| {
                // What ends elsewhere is a copy.
                let end = outcome.path.iter().rev().find_map(|id| hop(&trace, outcome, id)?.proxy.as_ref());
                let end = end.and_then(|name| self.address(name));
                let received: Vec<&Received> = received
                    .iter()
                    .filter(|one| one.visit() == Some(number) && self.network.source(one.endpoint) == end)
                    .collect();
                hops::compare(&trace, outcome, &lines, &received, &answer)
            })
            .min_by_key(Vec::len);
        Ok(closest.map_or_else(|| Fate::NotRun("the trace has no outcome".to_owned()), Fate::Compared))
    }

    /// The address of a proxy's workload.
    fn address(&self, name: &str) -> Option<IpAddr> {
        let workloads = self.tracer.mesh().workloads();
        workloads.iter().find(|workload| workload.full_name() == name)?.ips.first().copied()
    }

    /// Where the client's connection really leads, and what it has to begin with.
    fn first(&self, trace: &Trace) -> Result<(SocketAddr, String), String> {
        let outcome = trace.outcomes.first().ok_or("the trace has no outcome")?;
        if trace.outcomes.iter().any(|outcome| outcome.verdict.kind == VerdictKind::Unknown) {
            return Err("its fate is not known".to_owned());
        }
        let id = outcome.path.get(1).ok_or("the request does not leave its client")?;
        let hop = hop(trace, outcome, id).ok_or("the trace lacks a hop")?;
        let leg = trace.legs.iter().find(|leg| leg.from == "client" && leg.to == *id && !leg.mirror);
        let leg = leg.ok_or("the trace lacks a leg")?;
        if leg.transport != LegTransport::Plaintext {
            return Err("the client itself speaks TLS".to_owned());
        }
        let at: SocketAddr = leg.address.parse().map_err(|_| format!("{} is no address", leg.address))?;
        let own = hop.proxy.as_ref().and_then(|name| self.address(name));
        let client = self.address(&trace.source.workload).unwrap_or(OUTSIDE_ADDRESS);
        let (source, door) = match hop.kind {
            HopKind::SidecarOutbound => {
                let own = own.ok_or("the client's address is not known")?;
                (own, self.network.door(outbound_door(own, at).ip, 0))
            }
            HopKind::Gateway | HopKind::SidecarInbound => (client, self.network.door(at.ip(), at.port())),
            _ => return Err("no proxy takes part".to_owned()),
        };
        let door = door.ok_or_else(|| format!("no Envoy listens at {at}"))?;
        Ok((door, client::proxy_line(source, at.ip(), at.port())))
    }

    /// The lines that tell of a request and were not there before; waits until one outcome's proxies have written theirs.
    fn new_lines(&mut self, trace: &Trace) -> BTreeMap<SmolStr, Vec<log::Line>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines: BTreeMap<SmolStr, (usize, Vec<log::Line>)> = self
                .proxies
                .iter()
                .map(|(name, running)| {
                    let all = log::read(&running.log);
                    let count = all.len();
                    (name.clone(), (count, all.into_iter().skip(running.read).filter(tells).collect()))
                })
                .collect();
            let complete = trace.outcomes.iter().any(|outcome| {
                let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
                for hop in outcome.path.iter().filter_map(|id| hop(trace, outcome, id)) {
                    if let Some(proxy) = &hop.proxy {
                        *wanted.entry(proxy.as_str()).or_default() += 1;
                    }
                }
                wanted
                    .iter()
                    .all(|(name, count)| lines.get(*name).is_some_and(|(_, lines)| lines.len() >= *count))
            });
            if complete || Instant::now() > deadline {
                for (name, running) in &mut self.proxies {
                    running.read = lines.get(name).map_or(running.read, |(count, _)| *count);
                }
                return lines.into_iter().map(|(name, (_, lines))| (name, lines)).collect();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A sidecar's outbound side is found by an address that no workload has.
fn outbound_door(ip: IpAddr, socket: SocketAddr) -> Door {
    let text = match ip {
        IpAddr::V4(ip) => std::net::Ipv6Addr::from_bits(u128::from(ip.to_bits()) | (0xfe80 << 112)),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(!ip.to_bits()),
    };
    Door { ip: text.into(), port: None, socket }
}

/// The certificate of a workload of the scenarios.
fn certificates(namespace: &str, service_account: &str) -> Certificates {
    let folder = format!("{}/data/certificates", env!("CARGO_MANIFEST_DIR"));
    let own = format!("{folder}/{namespace}.pem");
    let known = service_account == "default" && std::path::Path::new(&own).exists();
    Certificates {
        certificate: if known { own } else { format!("{folder}/proxy.pem") },
        private_key: format!("{folder}/proxy.key"),
        authority: format!("{folder}/authority.pem"),
    }
}

/// Whether a line tells of a request or of bytes that were passed on, not only of a connection.
fn tells(line: &log::Line) -> bool {
    !line.route_config.is_empty() || !line.cluster.is_empty() || !matches!(line.status.as_str(), "" | "0")
}

/// A hop of an outcome.
pub(super) fn hop<'t>(trace: &'t Trace, outcome: &'t Outcome, id: &str) -> Option<&'t Hop> {
    outcome.hops.iter().chain(&trace.hops).find(|hop| hop.id == id)
}

/// The request as the client sends it.
fn request_bytes(client: &Hop) -> Vec<u8> {
    let lines = &client.request.left;
    let value =
        |name: &str| lines.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let mut out = format!("{} {} HTTP/1.1\r\n", value(":method"), value(":path"));
    for (name, value) in lines.iter().filter(|(name, _)| !name.starts_with(':')) {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    out.push_str("\r\n");
    let length = value("content-length").parse().unwrap_or(0);
    out.push_str(&"x".repeat(length));
    out.into_bytes()
}
