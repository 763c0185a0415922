//! Runs one proxy's configuration and compares each request with the model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dryroute::envoy::config::{Cluster, EndpointAddress, Listener, ListenerAddress};
use dryroute::envoy::export::{Certificates, Document, export};
use dryroute::envoy::{
    ApplicationProtocol, Capture, Connection, ConnectionOutcome, Decision, HttpRequest, NoRecord, ProxyFacts,
    Transport, decide,
};
use dryroute::istiod::Proxy;
use dryroute::strategy::CLOSED;
use smol_str::{SmolStr, format_smolstr};

use super::client::{Answer, Caller};
use super::compare::{self, Difference, Seen};
use super::process::{Process, Scratch};
use super::stand_ins::StandIns;
use super::upstream::{Received, Upstream};
use super::{Binary, client, log};

/// The header that tells which visit a request belongs to.
pub const VISIT_HEADER: &str = "x-visit";

/// How long copies of a request may take on a machine under load.
const COPY_PATIENCE: Duration = Duration::from_secs(20);
/// How long copies are waited for that may not come at all.
const CHANCE_PATIENCE: Duration = Duration::from_millis(300);
/// How many clients there are at a time.
const AT_A_TIME: usize = 12;
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
}

impl Places<'_> {
    /// The stand-in of a cluster's endpoint, or of the original destination.
    fn place(&self, cluster: &Cluster, endpoint: Option<&EndpointAddress>) -> SocketAddr {
        if matches!(endpoint, Some(EndpointAddress::Socket(CLOSED, _))) {
            return self.upstream.refusing();
        }
        let endpoint = match endpoint {
            Some(EndpointAddress::Socket(ip, port)) => format_smolstr!("{ip}:{port}"),
            Some(EndpointAddress::Name(name, port)) => format_smolstr!("{name}:{port}"),
            Some(EndpointAddress::Pipe(path)) => path.clone(),
            None => SmolStr::default(),
        };
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (cluster.name.clone(), endpoint);
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
        let places = Places { upstream: &self.upstream, endpoints: Mutex::default() };
        let stand_ins = StandIns::at(|cluster, endpoint| places.place(cluster, endpoint)).log(&log_path);
        let snapshot = proxy.snapshot();
        let bootstrap = export(&snapshot, Document::Bootstrap, Some(&stand_ins)).document;
        let process = Process::start(&self.binary, &bootstrap, scratch.path())?;
        // Envoy takes this machine's address for its own.
        let facts = ProxyFacts { address: own_address(), ..proxy.stock_envoy_facts() };
        self.upstream.take(Duration::ZERO, |_| true);
        let mut seen = Vec::with_capacity(visits.len());
        for (number, visit) in visits.iter().enumerate() {
            let visit = numbered(visit, number);
            let request = visit.request.as_ref();
            let decision = decide(proxy, &facts, visit.capture, &visit.connection, request, &mut NoRecord);
            let socket = bound(&snapshot.listeners, &visit)
                .map(|name| process.listener(&name).ok_or_else(|| format!("Envoy has no listener {name}")))
                .transpose()?;
            seen.push((visit, decision, socket, Seen::default()));
        }
        visit_all(&mut seen)?;
        self.sort_out(&mut seen, &places);
        process.settle();
        process.quit();
        let callers: Vec<(Caller, bool)> =
            seen.iter().map(|(_, _, _, what)| (what.caller, what.answer.status != 0)).collect();
        let mut lines = lines_of(callers, log::read(&log_path));
        Ok(seen
            .into_iter()
            .map(|(visit, decision, _, mut what)| {
                // A request's line says more than its connection's.
                what.line = lines.get_mut(&what.caller).and_then(|lines| {
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

    /// Gives every visit what stand-ins received for it.
    fn sort_out(&self, seen: &mut [Made], places: &Places<'_>) {
        let copies: Vec<(usize, bool)> =
            seen.iter().map(|(_, decision, _, _)| expected_copies(decision)).collect();
        let certain: usize = copies.iter().map(|(count, _)| count).sum();
        let by_chance = copies.iter().any(|(_, by_chance)| *by_chance);
        if by_chance {
            std::thread::sleep(CHANCE_PATIENCE);
        }
        let received = self.upstream.take(COPY_PATIENCE, |received| {
            certain == 0 || {
                let mut count = vec![0_usize; copies.len()];
                for number in received.iter().filter(|r| r.is_mirror()).filter_map(Received::visit) {
                    if let Some(count) = count.get_mut(number) {
                        *count += 1;
                    }
                }
                copies.iter().zip(count).all(|((certain, _), count)| count >= *certain)
            }
        });
        for one in received {
            let place = one.visit().and_then(|number| seen.get_mut(number));
            if let Some((_, _, _, what)) = place {
                what.received.push((places.cluster(one.endpoint).unwrap_or_default(), one));
            }
        }
    }
}

/// The address by which this machine is known, as Envoy finds it: the first that is not loopback.
fn own_address() -> std::net::IpAddr {
    // No packet is sent: connecting a datagram socket only chooses a route.
    std::net::UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()))
        .map_or(std::net::Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// The certificate that every proxy of a run has.
pub fn certificates() -> Certificates {
    certificate_of("proxy")
}

/// One of the certificates of `data/certificates`.
pub(super) fn certificate_of(name: &str) -> Certificates {
    let file = |name: &str| format!("{}/data/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
    Certificates {
        certificate: file(&format!("{name}.pem")),
        private_key: file("proxy.key"),
        authority: file("authority.pem"),
    }
}

/// What the log says of each client, whose flag tells whether it was answered: those who had one port in turn have its connections in turn.
fn lines_of(mut callers: Vec<(Caller, bool)>, log: Vec<log::Line>) -> BTreeMap<Caller, Vec<log::Line>> {
    let mut connections: BTreeMap<u16, BTreeMap<u64, Vec<log::Line>>> = BTreeMap::new();
    for line in log {
        if let Some(port) = line.port() {
            connections.entry(port).or_default().entry(line.connection).or_default().push(line);
        }
    }
    callers.sort_unstable();
    let mut out = BTreeMap::new();
    for group in callers.chunk_by(|(one, _), (other, _)| one.port == other.port) {
        let logged =
            group.first().and_then(|(caller, _)| connections.remove(&caller.port)).unwrap_or_default();
        // A connection that ends while it is inspected is not logged, nor answered.
        let silent = logged.len() < group.len();
        let callers = group.iter().filter(|(_, answered)| *answered || !silent);
        out.extend(callers.map(|(caller, _)| *caller).zip(logged.into_values()));
    }
    out
}

/// A visit, what the model says, where it goes and what was seen.
type Made = (Visit, Decision, Option<SocketAddr>, Seen);

/// Makes all visits, several at a time.
fn visit_all(seen: &mut [Made]) -> Result<(), String> {
    let size = seen.len().div_ceil(AT_A_TIME).max(1);
    std::thread::scope(|scope| {
        let mut start = 0;
        let workers: Vec<_> = seen
            .chunks_mut(size)
            .map(|chunk| {
                let first = start;
                start += chunk.len();
                scope.spawn(move || -> Result<(), String> {
                    for (offset, (visit, _, socket, what)) in chunk.iter_mut().enumerate() {
                        *what = make(visit, first + offset, *socket)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a client panicked".to_owned())?)
    })
}

/// Makes one visit.
fn make(visit: &Visit, number: usize, socket: Option<SocketAddr>) -> Result<Seen, String> {
    let Some(socket) = socket else { return Ok(Seen { no_listener: true, ..Seen::default() }) };
    let connection = &visit.connection;
    let mut bytes =
        client::proxy_line(connection.source, connection.destination, connection.port).into_bytes();
    let (caller, answer) = match &visit.request {
        Some(request) => {
            bytes.extend(request_bytes(request));
            client::exchange(socket, &bytes, request.method == "HEAD")
                .map_err(|e| format!("visit {number} {:.2000}: {e}", String::from_utf8_lossy(&bytes)))?
        }
        None => {
            bytes.extend(format!("hello {number}\n").into_bytes());
            let (caller, body) = client::raw(socket, &bytes, SILENCE).map_err(|e| e.to_string())?;
            (caller, Answer { body, ..Answer::default() })
        }
    };
    Ok(Seen { caller, answer, ..Seen::default() })
}

/// How many copies of a request stand-ins will surely receive, and whether more may come.
fn expected_copies(decision: &Decision) -> (usize, bool) {
    let ConnectionOutcome::Http(http) = &decision.outcome else { return (0, false) };
    let sure = |branch: &dryroute::envoy::HttpBranch| {
        branch.mirrors.iter().filter(|m| m.probability >= 1.0 && m.found.is_some()).count()
    };
    let certain = http.branches.iter().map(sure).min().unwrap_or(0);
    let by_chance = http.branches.iter().any(|branch| branch.mirrors.len() > certain);
    (certain, by_chance)
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
    if request.headers.iter().any(|(name, _)| name == "transfer-encoding") {
        out.push_str("0\r\n\r\n");
    }
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
        preface: dryroute::envoy::request::Preface::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_had_one_port_in_turn_have_its_lines_in_turn() {
        let line = |port: u16, connection, details: &str| log::Line {
            peer: format!("127.0.0.1:{port}"),
            connection,
            details: details.to_owned(),
            ..log::Line::default()
        };
        let log =
            vec![line(7, 12, "second"), line(8, 11, "other"), line(7, 9, "first"), line(7, 9, "its end")];
        let [silent, early, other, late] =
            [(7, 0), (7, 1), (8, 2), (7, 3)].map(|(port, place)| Caller { port, place });
        let lines = lines_of(vec![(late, true), (other, false), (early, true), (silent, false)], log);
        assert!(!lines.contains_key(&silent));
        let details =
            |caller| -> Vec<&str> { lines[&caller].iter().map(|line| line.details.as_str()).collect() };
        assert_eq!(details(early), ["first", "its end"]);
        assert_eq!((details(other), details(late)), (vec!["other"], vec!["second"]));
    }
}
