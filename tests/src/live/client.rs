//! A client that sends exactly the bytes it is told to.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long an answer may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who a client was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// Its port; a later client may have it again.
    pub port: u16,
    /// Its place among all clients of this program.
    pub place: usize,
}

impl Caller {
    /// The client of a connection that was just opened.
    fn of(stream: &TcpStream) -> io::Result<Self> {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        Ok(Self { port: stream.local_addr()?.port(), place: PLACES.fetch_add(1, Ordering::SeqCst) })
    }
}

/// What a client received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status; 0 when the connection ended without an answer.
    pub status: u16,
    /// Headers in order, names as received.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// The first line of a connection that stands in for what iptables would have kept.
pub fn proxy_line(source: IpAddr, destination: IpAddr, port: u16) -> String {
    let family = if destination.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {source} {destination} 40000 {port}\r\n")
}

/// Sends `bytes` on a new connection and reads one answer.
///
/// Gives the client, by whose port the access log names the connection.
///
/// # Errors
///
/// The connection cannot be opened, or nothing happens in time.
pub fn exchange(to: SocketAddr, bytes: &[u8], head: bool) -> io::Result<(Caller, Answer)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let caller = Caller::of(&stream)?;
    // A proxy that refuses may close before everything is written; its answer counts.
    let _ = stream.write_all(bytes);
    let answer = read_answer(&mut stream, head)?;
    Ok((caller, answer))
}

/// Sends `bytes` and reads until the connection ends or falls silent.
///
/// # Errors
///
/// The connection cannot be opened.
pub fn raw(to: SocketAddr, bytes: &[u8], silence: Duration) -> io::Result<(Caller, Vec<u8>)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(silence))?;
    let caller = Caller::of(&stream)?;
    let _ = stream.write_all(bytes);
    let mut received = Vec::new();
    let mut buffer = [0_u8; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        received.extend_from_slice(&buffer[..count]);
        if received.ends_with(b"\n") {
            break;
        }
    }
    Ok((caller, received))
}

fn read_answer(stream: &mut TcpStream, head: bool) -> io::Result<Answer> {
    let mut received = Vec::new();
    loop {
        if let Some(end) = find(&received, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&received[..end]).into_owned();
            let mut answer = parse_head(&text);
            if (100..200).contains(&answer.status) && answer.status != 101 {
                received.drain(..end + 4);
                continue;
            }
            let rest = received.split_off(end + 4);
            read_body(stream, &mut answer, rest, head)?;
            return Ok(answer);
        }
        if !more(stream, &mut received)? {
            return Ok(Answer::default());
        }
    }
}

fn read_body(stream: &mut TcpStream, answer: &mut Answer, rest: Vec<u8>, head: bool) -> io::Result<()> {
    let mut body = rest;
    if head || matches!(answer.status, 101 | 204 | 304) {
        return Ok(());
    }
    let value = |name: &str| {
        answer.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    };
    if let Some(length) = value("content-length").and_then(|v| v.parse::<usize>().ok()) {
        while body.len() < length && more(stream, &mut body)? {}
        body.truncate(length);
    } else if value("transfer-encoding").is_some() {
        while unchunk(&body).is_none() && more(stream, &mut body)? {}
        body = unchunk(&body).unwrap_or(body);
    } else {
        while more(stream, &mut body)? {}
    }
    answer.body = body;
    Ok(())
}

/// Reads some bytes; `false` at the end of the connection.
fn more(stream: &mut TcpStream, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0_u8; 16384];
    match stream.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(count) => {
            into.extend_from_slice(&buffer[..count]);
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(e) => Err(e),
    }
}

/// The first place of `needle`.
pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

/// The body behind chunked framing; `None` while its end is missing.
pub(super) fn unchunk(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = find(text, b"\r\n")?;
        let line = std::str::from_utf8(&text[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        text = &text[end + 2..];
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(text.get(..size)?);
        text = text.get(size + 2..)?;
    }
}

fn parse_head(text: &str) -> Answer {
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok());
    Answer { status: status.unwrap_or(0), headers: headers(lines), body: Vec::new() }
}

/// The headers of the lines of a message.
pub(super) fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}
