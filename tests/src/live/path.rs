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

use super::client::{self, Answer};
use super::compare::Difference;
use super::lab::VISIT_HEADER;
use super::network::{Door, Network, View};
use super::process::{Process, Scratch};
use super::tls::TlsPeer;
use super::upstream::{Received, Upstream};
use super::{Binary, hops, lab, log};

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
    binary: Binary,
    tracer: Tracer,
    network: Network,
    upstream: Arc<Upstream>,
    proxies: BTreeMap<SmolStr, Running>,
    sent: usize,
    /// Ends TLS for stand-ins.
    _tls: TlsPeer,
}

/// A client's connection.
#[derive(Debug)]
struct Dialled {
    /// The Envoy that takes it; `None` where no proxy takes part.
    door: Option<SocketAddr>,
    /// The client's address.
    source: IpAddr,
    /// What it dialled.
    address: (IpAddr, u16),
    /// Server name and protocols of its TLS.
    tls: Option<(SmolStr, Vec<SmolStr>)>,
}

#[derive(Debug)]
struct Running {
    log: PathBuf,
    read: usize,
    /// Where a sidecar takes the traffic of its own workload.
    outbound: Option<SocketAddr>,
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
        let tls = TlsPeer::server(binary, &lab::certificate_of("server"))?;
        network.end_tls(tls.socket);
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
            let mut outbound = None;
            for listener in snapshot.listeners.iter().filter(|listener| listener.bind_to_port) {
                let ListenerAddress::Socket(_, number) = listener.address else { continue };
                let Some(socket) = process.listener(&listener.name) else { continue };
                if router {
                    network.add_door(Door { ip: *ip, port: Some(number), socket });
                } else if listener.name == "virtualInbound" {
                    network.add_door(Door { ip: *ip, port: None, socket });
                } else if listener.name == "virtualOutbound" {
                    outbound = Some(socket);
                }
            }
            let running = Running { log, read: 0, outbound, _process: process, _scratch: scratch };
            proxies.insert(workload.full_name(), running);
        }
        let (binary, tracer) = (binary.clone(), Tracer::new(Arc::clone(mesh)));
        Ok(Self { binary, tracer, network, upstream, proxies, sent: 0, _tls: tls })
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
        let dialled = match self.first(&trace) {
            Ok(dialled) => dialled,
            Err(reason) => return Ok(Fate::NotRun(reason)),
        };
        let Some(client) = trace.hops.iter().find(|hop| hop.kind == HopKind::Client) else {
            return Ok(Fate::NotRun("the trace has no client".to_owned()));
        };
        let answer = self.exchange(&dialled, &request_bytes(client), query.method == "HEAD")?;
        let lines = self.new_lines(&trace);
        let received = self.upstream.take(Duration::from_millis(50), |_| false);
        let closest = trace
            .outcomes
            .iter()
            .map(|outcome| {
                // What ends elsewhere is a copy.
                let end = outcome.path.iter().rev().find_map(|id| hop(&trace, outcome, id)?.proxy.as_ref());
                let end = end.map_or(Some(dialled.source), |name| self.address(name));
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

    /// Sends a client's bytes where it dialled, in TLS if it spoke it.
    fn exchange(&self, dialled: &Dialled, bytes: &[u8], head: bool) -> Result<Answer, String> {
        let Dialled { door, source, address, tls } = dialled;
        let to = self.network.dial(*door, *source, *address);
        let sent = match tls {
            None => client::exchange(to, bytes, head),
            Some((sni, alpn)) => {
                let alpn: Vec<&str> = alpn.iter().map(SmolStr::as_str).collect();
                let peer = TlsPeer::client(&self.binary, to, sni, &alpn)?;
                client::exchange(peer.socket, bytes, head)
            }
        };
        sent.map(|(_, answer)| answer).map_err(|e| e.to_string())
    }

    /// Where the client's connection really leads.
    fn first(&self, trace: &Trace) -> Result<Dialled, String> {
        let outcome = trace.outcomes.first().ok_or("the trace has no outcome")?;
        if trace.outcomes.iter().any(|outcome| outcome.verdict.kind == VerdictKind::Unknown) {
            return Err("its fate is not known".to_owned());
        }
        let id = outcome.path.get(1).ok_or("the request does not leave its client")?;
        let hop = hop(trace, outcome, id).ok_or("the trace lacks a hop")?;
        let leg = trace.legs.iter().find(|leg| leg.from == "client" && leg.to == *id && !leg.mirror);
        let leg = leg.ok_or("the trace lacks a leg")?;
        let at: SocketAddr = leg.address.parse().map_err(|_| format!("{} is no address", leg.address))?;
        let own = hop.proxy.as_ref().and_then(|name| self.address(name));
        let client = self.address(&trace.source.workload).unwrap_or(OUTSIDE_ADDRESS);
        let (source, door) = match hop.kind {
            HopKind::SidecarOutbound => {
                let own = own.ok_or("the client's address is not known")?;
                (own, hop.proxy.as_ref().and_then(|name| self.proxies.get(name)?.outbound))
            }
            _ => (client, self.network.door(at.ip(), at.port())),
        };
        if hop.proxy.is_some() && door.is_none() {
            return Err(format!("no Envoy listens at {at}"));
        }
        let door = door.filter(|_| hop.proxy.is_some());
        let tls = (leg.transport != LegTransport::Plaintext).then(|| (leg.sni.clone(), leg.alpn.clone()));
        Ok(Dialled { door, source, address: (at.ip(), at.port()), tls })
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

/// The certificate of a workload of the scenarios.
fn certificates(namespace: &str, service_account: &str) -> Certificates {
    let own = lab::certificate_of(namespace);
    let known = service_account == "default" && std::path::Path::new(&own.certificate).exists();
    if known { own } else { lab::certificates() }
}

/// Whether a line tells what became of a request or of bytes, not only that there was a connection.
fn tells(line: &log::Line) -> bool {
    [&line.route_config, &line.cluster, &line.details].into_iter().any(|text| !text.is_empty())
        || !matches!(line.status.as_str(), "" | "0")
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
