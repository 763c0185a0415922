//! Stand-ins for everything behind a proxy.
//!
//! One socket takes the connections of every endpoint; which endpoint was meant is told by the loopback address that
//! Envoy connected to. A stand-in keeps what it received and answers.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use smol_str::SmolStr;

use dryroute::envoy::HttpResponse;

/// The first byte of a TLS handshake.
pub(super) const HANDSHAKE: u8 = 0x16;

/// The request header by which a test chooses the answer.
pub const REPLY_HEADER: &str = "x-reply";

/// A request that a stand-in received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The endpoint's number.
    pub endpoint: u16,
    /// The request line; empty for bytes that are not HTTP.
    pub request_line: String,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// The raw bytes when they are not HTTP.
    pub bytes: Vec<u8>,
}

impl Received {
    /// The first line of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The visit that it belongs to, if it says so.
    pub fn visit(&self) -> Option<usize> {
        let bytes = std::str::from_utf8(&self.bytes).ok()?;
        let number = self.header(super::lab::VISIT_HEADER).or_else(|| bytes.strip_prefix("hello "));
        number?.trim().parse().ok()
    }

    /// Whether it is a copy of a request. Only a mirroring proxy writes this header, others remove it.
    pub fn is_mirror(&self) -> bool {
        self.header("x-envoy-internal").is_some()
    }
}

#[derive(Debug, Default)]
struct Inbox {
    requests: Mutex<Vec<Received>>,
    arrived: Condvar,
}

/// The stand-ins of one run.
#[derive(Debug)]
pub struct Upstream {
    port: u16,
    inbox: Arc<Inbox>,
    // The client's end of a connection: its port is nobody else's, and nobody listens there.
    closed: (TcpStream, u16),
}

impl Upstream {
    /// Opens the socket and answers until the process ends.
    ///
    /// # Errors
    ///
    /// The socket cannot be opened.
    pub fn start() -> std::io::Result<Self> {
        // Every address of 127/8 is an endpoint of its own.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = listener.local_addr()?.port();
        let inbox = Arc::new(Inbox::default());
        let shared = Arc::clone(&inbox);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inbox = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &inbox));
            }
        });
        let closed = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let own = closed.local_addr()?.port();
        Ok(Self { port, inbox, closed: (closed, own) })
    }

    /// The address of endpoint `number`.
    pub fn address(&self, number: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([127, 1, high, low], self.port))
    }

    /// An address that refuses connections.
    pub fn refusing(&self) -> SocketAddr {
        // Not the connection's own address: from there to itself it would succeed.
        SocketAddr::from(([127, 2, 0, 1], self.closed.1))
    }

    /// What was received since the last call; waits until `enough`, but not for ever.
    pub fn take(&self, patience: Duration, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let deadline = Instant::now() + patience;
        let mut requests = self.inbox.requests.lock().unwrap_or_else(PoisonError::into_inner);
        while !enough(&requests) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            requests =
                self.inbox.arrived.wait_timeout(requests, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *requests)
    }
}

/// The answer that a stand-in gives to a request with these headers.
pub fn reply<'a>(headers: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> HttpResponse {
    let value = |name: &str| headers.clone().find(|(own, _)| *own == name).map_or("", |(_, value)| value);
    let choice = value(REPLY_HEADER);
    let lines: &[(&'static str, &'static str)] = match choice {
        "own" => &[("server", "app"), ("date", "Thu, 01 Jan 2026 00:00:00 GMT"), ("x-a", "1"), ("x-a", "2")],
        "service-time" => &[
            ("x-envoy-upstream-service-time", "7"),
            ("x-request-id", "from-upstream"),
            ("via", "1.1 app"),
            ("x-envoy-decorator-operation", "from-upstream"),
        ],
        "cors" => &[
            ("access-control-allow-origin", "http://upstream.example"),
            ("vary", "origin"),
            ("vary", "accept"),
            ("cache-control", "no-store"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
        ],
        "cookies" => &[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-b", "upstream"), ("x-empty", "")],
        "429" => &[("x-envoy-ratelimited", "true")],
        "grpc" => &[("grpc-status", "14"), ("grpc-message", "gone")],
        "redirect" => &[("location", "/elsewhere")],
        "close" => &[("connection", "close")],
        "chunked" => &[("transfer-encoding", "chunked")],
        "upgrade" => &[("connection", "Upgrade"), ("upgrade", "websocket")],
        _ => &[("x-from", "upstream")],
    };
    let status = match choice {
        "redirect" => 302,
        // Nobody accepts what was not asked for.
        "upgrade" if !value("upgrade").is_empty() => 101,
        number => number.parse().unwrap_or(200),
    };
    let body = !matches!(status, 101 | 204 | 304);
    let mut all = Vec::new();
    if body {
        all.push(("content-type", "text/plain"));
    }
    if body && choice != "chunked" {
        all.push(("content-length", "3"));
    }
    if choice != "upgrade" || status == 101 {
        all.extend_from_slice(lines);
    }
    HttpResponse {
        status,
        headers: all.into_iter().map(|(k, v)| (SmolStr::new_static(k), SmolStr::new_static(v))).collect(),
        body: if body { SmolStr::new_static("up\n") } else { SmolStr::default() },
    }
}

fn serve(mut stream: TcpStream, inbox: &Inbox) {
    let Ok(SocketAddr::V4(local)) = stream.local_addr() else { return };
    let [_, _, high, low] = local.ip().octets();
    let endpoint = u16::from_be_bytes([high, low]);
    let _ = stream.set_nodelay(true);
    let mut received = Vec::new();
    let mut buffer = [0_u8; 16384];
    loop {
        if received.starts_with(b"hello ") && received.ends_with(b"\n") {
            keep(
                inbox,
                Received { endpoint, request_line: String::new(), headers: Vec::new(), bytes: received },
            );
            let _ = stream.write_all(b"hello back\n");
            return;
        }
        if received.first() == Some(&HANDSHAKE) {
            // As web servers do where they expect a request.
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        if let Some(end) = super::client::find(&received, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).into_owned();
            let mut lines = head.split("\r\n");
            let request_line = lines.next().unwrap_or_default().to_owned();
            let headers = super::client::headers(lines);
            // The last line counts, as it does for who sends the body.
            let value = |name: &str| headers.iter().rfind(|(key, _)| key == name).map(|(_, v)| v.clone());
            let body = &received[end + 4..];
            let chunked = value("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
            // A proxy that reads no HTTP passes on what has no proper end.
            let used = match value("content-length") {
                // What follows an upgrade only follows when it is accepted.
                _ if value("upgrade").is_some() => Some(body.len()),
                None if chunked => super::client::unchunk(body).map(|_| body.len()),
                Some(length) if !chunked => {
                    let length = length.parse().unwrap_or(0_usize);
                    (body.len() >= length).then_some(length)
                }
                _ => Some(body.len()),
            };
            if let Some(used) = used {
                let answer = reply(headers.iter().map(|(k, v)| (k.as_str(), v.as_str())));
                let without_body = request_line.starts_with("HEAD ");
                keep(inbox, Received { endpoint, request_line, headers, bytes: Vec::new() });
                received.drain(..end + 4 + used);
                if stream.write_all(&bytes(&answer, without_body)).is_err() {
                    return;
                }
                continue;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
        }
    }
}

fn keep(inbox: &Inbox, request: Received) {
    inbox.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    inbox.arrived.notify_all();
}

fn bytes(answer: &HttpResponse, without_body: bool) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {} whatever\r\n", answer.status);
    for (name, value) in &answer.headers {
        out.push_str(name);
        out.push_str(": ");
        out.push_str(value);
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    let chunked = answer.headers.iter().any(|(name, _)| name == "transfer-encoding");
    match (without_body, chunked) {
        (true, _) => {}
        (false, true) => {
            let _ = write!(out, "{:x}\r\n{}\r\n0\r\n\r\n", answer.body.len(), answer.body);
        }
        (false, false) => out.push_str(&answer.body),
    }
    out.into_bytes()
}
