//! Requests that nobody sends on purpose.
//!
//! Each has one thing that is out of place, so that what answers it is known; some have two, so that it is seen which comes first.

use dryroute::envoy::HttpRequest;
use dryroute::strategy::absurd::{hosts, lines, methods, paths};
use smol_str::SmolStr;

/// A path that a route takes.
const PATH: &str = "/productpage";

/// A request and what is absurd about it.
pub type Absurd = (String, HttpRequest);

fn request(method: &str, path: &str, authority: &str, headers: &[(&str, &str)]) -> HttpRequest {
    HttpRequest {
        method: method.into(),
        path: path.into(),
        authority: authority.into(),
        scheme: None,
        headers: headers.iter().map(|(name, value)| (SmolStr::new(name), SmolStr::new(value))).collect(),
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    }
}

/// A text as an error shows it.
fn short(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

/// All of them, for a host that the proxy knows.
pub fn requests(host: &str) -> Vec<Absurd> {
    let mut out: Vec<Absurd> = Vec::new();
    for method in methods() {
        out.push((format!("method {}", short(&method)), request(&method, "/", host, &[])));
        // What is wrong with the method comes first, or last.
        out.push((format!("method {} and host", short(&method)), request(&method, "/a\u{1}", "a b", &[])));
    }
    let many: Vec<(String, &str)> = (0..200).map(|number| (format!("x{number}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let long = "a".repeat(100_000);
    let control = [("x", "a\u{1}b")];
    for (name, lines) in [
        ("many lines", &many[..]),
        ("a long line", &[("x", long.as_str())]),
        ("a control character", &control),
    ] {
        out.push((format!("method get and {name}"), request("get", "/", host, lines)));
        out.push((format!("no path and {name}"), request("GET", "nopath", host, lines)));
        out.push((
            format!("a bad name and {name}"),
            request("GET", "/", host, &[lines, &[("a b", "1")]].concat()),
        ));
        out.push((
            format!("a bad length and {name}"),
            request("GET", "/", host, &[lines, &[("content-length", "x")]].concat()),
        ));
        out.push((
            format!("a bad encoding and {name}"),
            request("GET", "/", host, &[lines, &[("transfer-encoding", "x")]].concat()),
        ));
    }
    // The last length that is read, and the first that is not.
    for length in 61_300..61_420 {
        out.push((format!("{length} characters"), request("GET", PATH, host, &[("x", &"a".repeat(length))])));
    }
    // The last head that the parser has at once, and the first that it has not.
    for length in 16_280..16_400 {
        let line = [("x", "a".repeat(length))];
        let line: Vec<(&str, &str)> = line.iter().map(|(name, value)| (*name, value.as_str())).collect();
        out.push((
            format!("a control character and {length} characters"),
            request("GET", "/a\u{7f}", host, &line),
        ));
    }
    for path in paths() {
        for method in ["GET", "OPTIONS"] {
            out.push((format!("{method} path {}", short(&path)), request(method, &path, host, &[])));
        }
    }
    for absurd in hosts() {
        out.push((format!("host {}", short(&absurd)), request("GET", PATH, &absurd, &[])));
        out.push((format!("host {} and path", short(&absurd)), request("GET", "/a%00b", &absurd, &[])));
    }
    for lines in lines() {
        let shown = short(
            &lines.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", "),
        );
        let lines: Vec<(&str, &str)> =
            lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for method in ["GET", "HEAD"] {
            let name = format!("{method} {} lines, the first {shown}", lines.len());
            out.push((name, request(method, PATH, host, &lines)));
        }
        let name = format!("{} lines, the first {shown}, and host", lines.len());
        out.push((name, request("GET", PATH, "a b", &lines)));
    }
    out
}
