//! Runs one proxy's configuration and compares each request with the model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dryroute::envoy::config::{Cluster, EndpointAddress, Listener, ListenerAddress};
use dryroute::envoy::export::{Certificates, Document, Loopback, export};
use dryroute::envoy::{
    ApplicationProtocol, Capture, Connection, ConnectionOutcome, Decision, HttpOutcome, HttpRequest,
    NoRecord, Transport, decide,
};
use dryroute::istiod::Proxy;
use smol_str::{SmolStr, format_smolstr};

use super::client::Answer;
use super::compare::{self, Difference, Seen};
use super::process::{Process, Scratch};
use super::upstream::{Received, Upstream};
use super::{Binary, client, log};

/// The header that tells which visit a request belongs to.
pub const VISIT_HEADER: &str = "x-visit";

/// How long copies of a request may take on a machine under load.
const MIRROR_PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection without an answer is listened to.
const SILENCE: Duration = Duration::from_millis(1500);

/// A connection to a proxy and what is sent over it.
#[derive(Clone, Debug)]
pub struct Visit {
    /// How the connection reaches the proxy.
    pub capture: Capture,
    /// The connection.
    pub connection: Connection,
    /// The request; without one, the bytes `hello` are sent.
    pub request: Option<HttpRequest>,
}

/// What came of a visit.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What the model said.
    pub decision: Decision,
    /// What differs; empty when Envoy did what the model said.
    pub differences: Vec<Difference>,
    /// Why nothing was compared, if nothing was.
    pub not_compared: Option<String>,
    /// What was seen.
    pub seen: Seen,
}

/// An Envoy and stand-ins, ready to run configurations.
#[derive(Debug)]
pub struct Lab {
    binary: Binary,
    upstream: Upstream,
}

/// Where everything lies in a run.
struct Places<'a> {
    upstream: &'a Upstream,
    /// The cluster and endpoint behind each number.
    endpoints: Mutex<Vec<(SmolStr, SmolStr)>>,
    log: String,
}

impl Places<'_> {
    fn number(&self, cluster: &SmolStr, endpoint: SmolStr) -> SocketAddr {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (cluster.clone(), endpoint);
        let place = endpoints.iter().position(|known| *known == key);
        let place = place.unwrap_or_else(|| {
            endpoints.push(key);
            endpoints.len() - 1
        });
        self.upstream.address(u16::try_from(place + 1).unwrap_or(u16::MAX))
    }

    fn cluster(&self, number: u16) -> Option<SmolStr> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        Some(endpoints.get(usize::from(number).checked_sub(1)?)?.0.clone())
    }
}

impl Loopback for Places<'_> {
    fn listener(&self, _: &Listener) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn endpoint(&self, cluster: &Cluster, endpoint: &EndpointAddress) -> Option<SocketAddr> {
        let text = match endpoint {
            EndpointAddress::Socket(ip, port) => format_smolstr!("{ip}:{port}"),
            EndpointAddress::Name(name, port) => format_smolstr!("{name}:{port}"),
            EndpointAddress::Pipe(path) => path.clone(),
        };
        Some(self.number(&cluster.name, text))
    }

    fn original_destination(&self, cluster: &Cluster) -> Option<SocketAddr> {
        Some(self.number(&cluster.name, SmolStr::default()))
    }

    fn certificates(&self) -> Option<&Certificates> {
        None
    }

    fn access_log(&self) -> Option<&str> {
        Some(&self.log)
    }
}

impl Lab {
    /// A lab with its own stand-ins; `None` when the user asked to go without Envoy.
    ///
    /// # Panics
    ///
    /// There is no Envoy and it cannot be installed, or no socket can be opened.
    pub fn open() -> Option<Self> {
        let binary = Binary::find()?;
        let upstream = Upstream::start().unwrap_or_else(|e| panic!("no stand-in can be opened: {e}"));
        Some(Self { binary, upstream })
    }

    /// Runs the proxy's configuration and makes the visits, one after the other.
    ///
    /// # Errors
    ///
    /// Envoy refuses the configuration or a socket fails.
    pub fn run(&self, proxy: &Proxy, visits: &[Visit]) -> Result<Vec<Verdict>, String> {
        let scratch = Scratch::new().map_err(|e| e.to_string())?;
        let log_path = scratch.path().join("access.log");
        let places = Places {
            upstream: &self.upstream,
            endpoints: Mutex::default(),
            log: log_path.display().to_string(),
        };
        let snapshot = proxy.snapshot();
        let bootstrap = export(&snapshot, Document::Bootstrap, Some(&places)).document;
        let process = Process::start(&self.binary, &bootstrap, scratch.path())?;
        let facts = proxy.stock_envoy_facts();
        self.upstream.take(0, Duration::ZERO);
        let mut seen = Vec::with_capacity(visits.len());
        for (number, visit) in visits.iter().enumerate() {
            let visit = numbered(visit, number);
            let connection = &visit.connection;
            let decision =
                decide(proxy, &facts, visit.capture, connection, visit.request.as_ref(), &mut NoRecord);
            let socket = bound(&snapshot.listeners, &visit)
                .map(|name| process.listener(&name).ok_or_else(|| format!("Envoy has no listener {name}")))
                .transpose()?;
            let what = self.make(&visit, number, &decision, socket, &places)?;
            seen.push((visit, decision, what));
        }
        process.quit();
        let mut lines: BTreeMap<u16, Vec<log::Line>> = BTreeMap::new();
        for line in log::read(&log_path) {
            if let Some(port) = line.port() {
                lines.entry(port).or_default().push(line);
            }
        }
        Ok(seen
            .into_iter()
            .map(|(visit, decision, mut what)| {
                // A request's line says more than its connection's.
                what.line = lines.get_mut(&what.port).and_then(|lines| {
                    let best = lines.iter().position(|line| {
                        !line.route_config.is_empty()
                            || !line.cluster.is_empty()
                            || !matches!(line.status.as_str(), "" | "0")
                    });
                    (!lines.is_empty()).then(|| lines.remove(best.unwrap_or(0)))
                });
                let (differences, not_compared) = match compare::compare(&visit, &decision, &what) {
                    Ok(differences) => (differences, None),
                    Err(reason) => (Vec::new(), Some(reason)),
                };
                Verdict { decision, differences, not_compared, seen: what }
            })
            .collect())
    }

    fn make(
        &self,
        visit: &Visit,
        number: usize,
        decision: &Decision,
        socket: Option<SocketAddr>,
        places: &Places<'_>,
    ) -> Result<Seen, String> {
        let Some(socket) = socket else { return Ok(Seen { no_listener: true, ..Seen::default() }) };
        let connection = &visit.connection;
        let mut bytes =
            client::proxy_line(connection.source, connection.destination, connection.port).into_bytes();
        let mut seen = Seen::default();
        match &visit.request {
            Some(request) => {
                bytes.extend(request_bytes(request));
                let (port, answer) = client::exchange(socket, &bytes, request.method == "HEAD")
                    .map_err(|e| format!("visit {number} {} {}: {e}", request.method, request.path))?;
                seen.port = port;
                seen.answer = answer;
            }
            None => {
                bytes.extend_from_slice(b"hello\n");
                let (port, received) = client::raw(socket, &bytes, SILENCE).map_err(|e| e.to_string())?;
                seen.port = port;
                seen.answer = Answer { body: received, ..Answer::default() };
            }
        }
        let (count, patience) = expected_arrivals(decision);
        let mine = number.to_string();
        seen.received = self
            .upstream
            .take(count, patience)
            .into_iter()
            .filter(|r| r.header(VISIT_HEADER).is_none_or(|visit| visit == mine))
            .map(|r| (places.cluster(r.endpoint).unwrap_or_default(), r))
            .collect::<Vec<(SmolStr, Received)>>();
        Ok(seen)
    }
}

/// How many requests stand-ins will surely receive, and how long to wait for them.
fn expected_arrivals(decision: &Decision) -> (usize, Duration) {
    let ConnectionOutcome::Http(http) = &decision.outcome else { return (0, Duration::ZERO) };
    let forwards = |outcome: &HttpOutcome| matches!(outcome, HttpOutcome::Forward(_));
    let copies = http
        .branches
        .iter()
        .map(|branch| {
            let certain = branch.mirrors.iter().filter(|m| m.probability >= 1.0 && m.found.is_some());
            usize::from(forwards(&branch.outcome)) + certain.count()
        })
        .min()
        .unwrap_or(0);
    let mirrored = http.branches.iter().any(|branch| !branch.mirrors.is_empty());
    match (mirrored, http.branches.len()) {
        (false, _) => (0, Duration::ZERO),
        (true, 1) => (copies, MIRROR_PATIENCE),
        (true, _) => (copies, Duration::from_millis(200)),
    }
}

fn numbered(visit: &Visit, number: usize) -> Visit {
    let mut visit = visit.clone();
    if let Some(request) = &mut visit.request {
        request.headers.push((SmolStr::new_static(VISIT_HEADER), number.to_string().into()));
    }
    visit
}

/// The listener with the real socket that a visit reaches.
fn bound(listeners: &[std::sync::Arc<Listener>], visit: &Visit) -> Option<String> {
    let name = |name: &str| listeners.iter().find(|l| l.name == name).map(|l| l.name.to_string());
    match visit.capture {
        Capture::Outbound => name("virtualOutbound"),
        Capture::Inbound => name("virtualInbound"),
        Capture::Direct => listeners
            .iter()
            .find(|l| {
                l.bind_to_port
                    && !l.name.starts_with("virtual")
                    && matches!(l.address, ListenerAddress::Socket(ip, port)
                        if port == visit.connection.port
                            && (ip.is_unspecified() || ip == visit.connection.destination))
            })
            .map(|l| l.name.to_string()),
    }
}

fn request_bytes(request: &HttpRequest) -> Vec<u8> {
    let mut out = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.path, request.authority);
    let mut length = 0;
    for (name, value) in &request.headers {
        let _ = write!(out, "{name}: {value}\r\n");
        if name == "content-length" {
            length = value.parse().unwrap_or(0);
        }
    }
    out.push_str("\r\n");
    out.push_str(&"x".repeat(length));
    out.into_bytes()
}

/// A plaintext HTTP/1.1 connection.
pub fn plaintext(destination: std::net::IpAddr, port: u16, source: std::net::IpAddr) -> Connection {
    Connection {
        destination,
        port,
        source,
        transport: Transport::Plaintext,
        protocol: ApplicationProtocol::Http11,
    }
}
