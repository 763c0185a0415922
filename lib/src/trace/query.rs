//! What is sent, by whom, and to whom?
//!
//! Texts are read as curl reads them, where curl has such a text. Invariant: a query that was read is complete; whether
//! its client or gateway exists is asked later, of the mesh.

mod basic;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use smol_str::{SmolStr, format_smolstr};
use url::{Host, Url};

/// The address that a client outside of the cluster is taken to have: one of the range for documentation (RFC 5737).
pub const OUTSIDE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

/// A request to ask about.
///
/// ```
/// use dryroute::trace::{HttpVersion, Query};
///
/// let mut query = Query::parse("POST", "https://api.example.com/charge?dry=1")?;
/// query.add_header("x-user: jason")?;
/// query.from = Some("shop/cart".into());
/// assert_eq!((query.target.port, query.target.path.as_str()), (443, "/charge?dry=1"));
/// # Ok::<(), dryroute::trace::QueryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The method.
    pub method: SmolStr,
    /// The URL as given.
    pub url: SmolStr,
    /// What the URL says.
    pub target: Target,
    /// Headers, as curl's `-H`, names in lower case. `host` replaces the URL's; `None` removes a header that the client
    /// would send by itself.
    pub headers: Vec<(SmolStr, Option<SmolStr>)>,
    /// User and password, `user:password`, sent as curl sends them (the URL's, or curl's `--user`).
    pub user: Option<Vec<u8>>,
    /// The size of the body, if there is one (curl's `-d`).
    pub body_bytes: Option<u64>,
    /// Who sends it (`--from`): `namespace/workload`, a workload or service account, or `outside`. `None`: a default is chosen.
    pub from: Option<SmolStr>,
    /// The namespace of names that name none; `None` is `default`.
    pub namespace: Option<SmolStr>,
    /// The container that sends it (`--container`).
    pub container: Option<SmolStr>,
    /// The user that sends it (`--uid`), in place of the container's.
    pub uid: Option<i64>,
    /// The group that sends it, in place of the container's.
    pub gid: Option<i64>,
    /// The gateway it is sent to (`--to-gateway`), whatever the URL's host resolves to.
    pub to_gateway: Option<ToGateway>,
    /// Names that the client resolves by itself (curl's `--resolve`).
    pub resolve: Vec<Resolve>,
    /// Where the client connects instead (curl's `--connect-to`).
    pub connect_to: Vec<ConnectTo>,
    /// Whether the client takes any server certificate (curl's `-k`).
    pub insecure: bool,
    /// The HTTP version.
    pub http_version: HttpVersion,
    /// The server name of TLS, in place of the URL's host.
    pub sni: Option<SmolStr>,
    /// ALPN values of TLS, in place of those of the HTTP version.
    pub alpn: Option<Vec<SmolStr>>,
    /// The URI name of the certificate that the client shows, when it shows one of its own.
    pub client_certificate: Option<SmolStr>,
    /// The path as sent, in place of the URL's (curl's `--request-target`).
    pub request_target: Option<SmolStr>,
    /// Which of several ways to follow.
    pub choice: Choice,
}

impl Query {
    /// A query for a URL with a method.
    ///
    /// # Errors
    ///
    /// The URL cannot be read, has no host, or has a scheme that is neither `http`, `https`, `tcp` nor `tls`; the method is no token.
    pub fn parse(method: &str, url: &str) -> Result<Self, QueryError> {
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(QueryError::Method { method: method.into() });
        }
        let (target, user) = Target::parse_with_user(url)?;
        Ok(Self {
            method: method.into(),
            url: url.into(),
            target,
            headers: Vec::new(),
            user,
            body_bytes: None,
            from: None,
            namespace: None,
            container: None,
            uid: None,
            gid: None,
            to_gateway: None,
            resolve: Vec::new(),
            connect_to: Vec::new(),
            insecure: false,
            http_version: HttpVersion::Http11,
            sni: None,
            alpn: None,
            client_certificate: None,
            request_target: None,
            choice: Choice::All,
        })
    }

    /// A `GET` for a URL.
    ///
    /// # Errors
    ///
    /// As [`Query::parse`].
    pub fn get(url: &str) -> Result<Self, QueryError> {
        Self::parse("GET", url)
    }

    /// The same query for another host; `None` where the URL's host decides nothing.
    pub(super) fn asking(&self, host: &str) -> Option<Self> {
        if !self.connect_to.is_empty() || crate::host::is_wildcard(host) {
            return None;
        }
        let mut out = self.clone();
        out.target.authority = self.target.authority.replacen(self.target.host.as_str(), host, 1).into();
        out.target.host = host.into();
        Some(out)
    }

    /// Adds a header as curl's `-H` writes it: `name: value`, `name:` to remove, `name;` for an empty value.
    ///
    /// # Errors
    ///
    /// The text has neither colon nor semicolon, or its name is no token.
    pub fn add_header(&mut self, text: &str) -> Result<(), QueryError> {
        let bad = || QueryError::Header { text: text.into() };
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.trim()).filter(|value| !value.is_empty())),
            None => (text.strip_suffix(';').ok_or_else(bad)?, Some("")),
        };
        // A space before the colon is sent as it is written; proxies do not take it kindly.
        let name = if value.is_some() { name.trim_start() } else { name.trim() };
        // HTTP/2's pseudo headers are not for users to set.
        let broken = value.is_some_and(|value| value.contains(['\r', '\n', '\0']));
        if name.trim_end().is_empty() || !name.trim_end().bytes().all(is_token) || broken {
            return Err(bad());
        }
        self.headers.push((name.to_ascii_lowercase().into(), value.map(Into::into)));
        Ok(())
    }

    /// The header `authorization` that curl sends for a user, unless another is given.
    pub(super) fn authorization(&self) -> Option<SmolStr> {
        self.user.as_deref().map(basic::authorization)
    }

    /// Adds a text of curl's `--resolve`: `host:port:address[,address…]`.
    ///
    /// # Errors
    ///
    /// The text has another form.
    pub fn add_resolve(&mut self, text: &str) -> Result<(), QueryError> {
        self.resolve.push(text.parse()?);
        Ok(())
    }

    /// Adds a text of curl's `--connect-to`: `host1:port1:host2:port2`.
    ///
    /// # Errors
    ///
    /// The text has another form.
    pub fn add_connect_to(&mut self, text: &str) -> Result<(), QueryError> {
        self.connect_to.push(text.parse()?);
        Ok(())
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A URL's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// Bytes; the client speaks first.
    Tcp,
    /// Bytes over TLS.
    Tls,
}

impl Scheme {
    /// Whether the client speaks TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether the client speaks HTTP.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The scheme.
    pub scheme: Scheme,
    /// The host, in lower case; addresses without brackets.
    pub host: SmolStr,
    /// The port, the scheme's own where none is written.
    pub port: u16,
    /// The host as it is sent: with the port unless it is the scheme's own, addresses of IPv6 in brackets.
    pub authority: SmolStr,
    /// Path and query as they are sent.
    pub path: SmolStr,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// The URL cannot be read, has no host, has no port where its scheme has none, or has a scheme that cannot be traced.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        Self::parse_with_user(text).map(|(target, _)| target)
    }

    /// The same, and the user that the URL names, decoded.
    fn parse_with_user(text: &str) -> Result<(Self, Option<Vec<u8>>), QueryError> {
        let text = text.trim();
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let (scheme_text, rest) = full.split_once("://").unwrap_or(("", ""));
        let scheme = match scheme_text.to_ascii_lowercase().as_str() {
            "http" | "ws" => Scheme::Http,
            "https" | "wss" => Scheme::Https,
            "tcp" => Scheme::Tcp,
            "tls" => Scheme::Tls,
            _ => return Err(QueryError::UnsupportedScheme { scheme: scheme_text.into() }),
        };
        // The schemes without rules of their own are read by http's, which checks hosts.
        let web = if scheme.is_tls() { "https" } else { "http" };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, written_path) = rest.split_at(end);
        let (user, host_text) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(basic::decoded(user)), host),
            None => (None, authority),
        };
        if host_text.is_empty() || host_text.starts_with(':') {
            return Err(QueryError::NoHost { url: text.into() });
        }
        let read = Url::parse(&format!("{web}://{host_text}/"));
        let url = read.map_err(|e| QueryError::Url { url: text.into(), reason: e.to_string() })?;
        let host: SmolStr = match url.host() {
            None => return Err(QueryError::NoHost { url: text.into() }),
            Some(Host::Domain(name)) => name.into(),
            Some(Host::Ipv4(ip)) => format_smolstr!("{ip}"),
            Some(Host::Ipv6(ip)) => format_smolstr!("{ip}"),
        };
        let port = match (scheme, url.port()) {
            (_, Some(port)) => port,
            (Scheme::Http, None) => 80,
            (Scheme::Https, None) => 443,
            // `url` drops a port that is http's or https's own.
            (Scheme::Tcp | Scheme::Tls, None) => {
                let bracket = host_text.rfind(']').unwrap_or(0);
                let written = host_text.rfind(':').filter(|colon| *colon >= bracket);
                let port = written.and_then(|colon| host_text.get(colon + 1..)?.parse().ok());
                port.ok_or_else(|| QueryError::NoPort { url: text.into() })?
            }
        };
        let shown = if host.contains(':') { format_smolstr!("[{host}]") } else { host.clone() };
        let own = match scheme {
            Scheme::Http => port == 80,
            Scheme::Https => port == 443,
            Scheme::Tcp | Scheme::Tls => false,
        };
        let authority = if own { shown } else { format_smolstr!("{shown}:{port}") };
        Ok((Self { scheme, host, port, authority, path: path(written_path) }, user))
    }

    /// The address, when the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// The path as curl sends it: dot segments removed, the fragment dropped, what may not stand in a request line encoded.
fn path(written: &str) -> SmolStr {
    let written = written.split('#').next().unwrap_or_default();
    let (path, query) = match written.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (written, None),
    };
    let mut out = remove_dot_segments(path);
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    if out.bytes().all(|b| b.is_ascii_graphic()) {
        return out.into();
    }
    let mut encoded = String::with_capacity(out.len());
    for byte in out.bytes() {
        if byte.is_ascii_graphic() {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded.into()
}

/// RFC 3986, 5.2.4.
fn remove_dot_segments(path: &str) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    if !path.contains("/.") {
        return path.to_owned();
    }
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => out.push(""),
            "." => {}
            ".." => {
                out.pop();
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

/// An HTTP version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2, without an upgrade over plaintext.
    Http2,
}

/// Which of several ways a walk follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// All, with their probabilities.
    #[default]
    All,
    /// One, drawn by this seed.
    Seed(u64),
    /// At each fork the way of this number, counted from 0 in the order that is written; the last where there are fewer.
    Nth(usize),
}

/// A gateway's Service, and one of its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToGateway {
    /// The namespace; `None` when only a name is given.
    pub namespace: Option<SmolStr>,
    /// The Service's name.
    pub name: SmolStr,
    /// The Service's port; `None` takes the URL's.
    pub port: Option<u16>,
}

impl FromStr for ToGateway {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let bad = || QueryError::Gateway { text: text.into() };
        let (service, port) = match text.rsplit_once(':') {
            Some((service, port)) => (service, Some(port.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let (namespace, name) = match service.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, service),
        };
        if name.is_empty() || name.contains('/') || namespace.is_some_and(str::is_empty) || port == Some(0) {
            return Err(bad());
        }
        Ok(Self { namespace: namespace.map(Into::into), name: name.into(), port })
    }
}

impl fmt::Display for ToGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A name that the client resolves by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// The host; `*` is any.
    pub host: SmolStr,
    /// The port it holds for.
    pub port: u16,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

impl FromStr for Resolve {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let bad = || QueryError::Resolve { text: text.into() };
        let rest = text.strip_prefix('+').unwrap_or(text);
        let (host, rest) = split_host(rest).ok_or_else(bad)?;
        let (port, addresses) = rest.split_once(':').ok_or_else(bad)?;
        let addresses: Option<Vec<IpAddr>> =
            addresses.split(',').map(|a| a.trim_matches(['[', ']']).parse().ok()).collect();
        Ok(Self {
            host: host.to_ascii_lowercase().into(),
            port: port.parse().map_err(|_| bad())?,
            addresses: addresses.filter(|list| !list.is_empty() && !host.is_empty()).ok_or_else(bad)?,
        })
    }
}

/// Where the client connects in place of a host and port; the request itself stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    /// The host that is replaced; empty is any.
    pub host: SmolStr,
    /// The port that is replaced; `None` is any.
    pub port: Option<u16>,
    /// The host instead; empty keeps it.
    pub to_host: SmolStr,
    /// The port instead; `None` keeps it.
    pub to_port: Option<u16>,
}

impl FromStr for ConnectTo {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let bad = || QueryError::ConnectTo { text: text.into() };
        let number = |port: &str| -> Result<Option<u16>, QueryError> {
            if port.is_empty() { Ok(None) } else { port.parse().map(Some).map_err(|_| bad()) }
        };
        let (host, rest) = split_host(text).ok_or_else(bad)?;
        let (port, rest) = rest.split_once(':').ok_or_else(bad)?;
        let (to_host, to_port) = match split_host(rest) {
            Some((to_host, to_port)) => (to_host, to_port),
            None => (rest, ""),
        };
        Ok(Self {
            host: host.to_ascii_lowercase().into(),
            port: number(port)?,
            to_host: to_host.to_ascii_lowercase().into(),
            to_port: number(to_port)?,
        })
    }
}

/// Splits a host, perhaps in brackets, from what follows its colon.
fn split_host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            Some((host, rest.strip_prefix(':')?))
        }
        None => text.split_once(':'),
    }
}

/// A text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The URL has no host.
    #[error("the URL `{url}` has no host")]
    NoHost {
        /// The URL.
        url: String,
    },
    /// The URL's scheme cannot be traced.
    #[error("the scheme `{scheme}` cannot be traced; http, https, tcp and tls can")]
    UnsupportedScheme {
        /// The scheme.
        scheme: String,
    },
    /// The URL has no port, and its scheme has none of its own.
    #[error("the URL `{url}` has no port")]
    NoPort {
        /// The URL.
        url: String,
    },
    /// The URL cannot be read.
    #[error("the URL `{url}` cannot be read: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The method is no token.
    #[error("`{method}` is no HTTP method")]
    Method {
        /// The method.
        method: String,
    },
    /// The header cannot be read.
    #[error("the header `{text}` cannot be read; expected `name: value`")]
    Header {
        /// The text.
        text: String,
    },
    /// The gateway cannot be read.
    #[error("the gateway `{text}` cannot be read; expected `namespace/service[:port]`")]
    Gateway {
        /// The text.
        text: String,
    },
    /// The text of `--resolve` cannot be read.
    #[error("`{text}` cannot be read; expected `host:port:address`")]
    Resolve {
        /// The text.
        text: String,
    },
    /// The text of `--connect-to` cannot be read.
    #[error("`{text}` cannot be read; expected `host1:port1:host2:port2`")]
    ConnectTo {
        /// The text.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn a_url_gives_host_port_authority_and_path() {
        for (url, host, port, authority, path) in [
            ("http://httpbin.org/get", "httpbin.org", 80, "httpbin.org", "/get"),
            ("HTTPS://API.example.com", "api.example.com", 443, "api.example.com", "/"),
            ("http://a:8080?x=1#frag", "a", 8080, "a:8080", "/?x=1"),
            ("reviews:9080/a/./b/../c", "reviews", 9080, "reviews:9080", "/a/c"),
            ("http://user:pw@a/%2e%2e/b c", "a", 80, "a", "/%2e%2e/b%20c"),
            ("http://[2001:db8::1]:81/", "2001:db8::1", 81, "[2001:db8::1]:81", "/"),
            ("http://a/..", "a", 80, "a", "/"),
            ("tcp://db:80", "db", 80, "db:80", "/"),
        ] {
            let got = target(url);
            assert_eq!(
                (got.host.as_str(), got.port, got.authority.as_str(), got.path.as_str()),
                (host, port, authority, path),
                "{url}"
            );
        }
    }

    #[test]
    fn a_url_that_cannot_be_traced_says_why() {
        assert!(matches!(Target::parse("http:///get"), Err(QueryError::NoHost { .. })));
        assert!(matches!(Target::parse("http://"), Err(QueryError::NoHost { .. })));
        assert!(matches!(Target::parse("ftp://a/"), Err(QueryError::UnsupportedScheme { .. })));
        assert!(matches!(Target::parse("tcp://db"), Err(QueryError::NoPort { .. })));
        assert!(matches!(Target::parse("http://a:99999/"), Err(QueryError::Url { .. })));
        assert!(matches!(Query::parse("GE T", "http://a/"), Err(QueryError::Method { .. })));
    }

    #[test]
    fn texts_of_curl_are_read() {
        let mut query = Query::get("http://a/").unwrap();
        query.add_header("X-User:  jason ").unwrap();
        query.add_header("accept:").unwrap();
        query.add_header("x-empty;").unwrap();
        assert_eq!(query.headers.first().unwrap(), &("x-user".into(), Some("jason".into())));
        assert_eq!(query.headers.get(1).unwrap().1, None);
        assert_eq!(query.headers.get(2).unwrap().1.as_deref(), Some(""));
        assert!(query.add_header("no colon").is_err());
        let resolve: Resolve = "httpbin.org:80:192.0.2.7,[2001:db8::1]".parse().unwrap();
        assert_eq!((resolve.port, resolve.addresses.len()), (80, 2));
        let connect: ConnectTo = "::other:81".parse().unwrap();
        assert_eq!((connect.port, connect.to_host.as_str(), connect.to_port), (None, "other", Some(81)));
        let gateway: ToGateway = "istio-system/gw:80".parse().unwrap();
        assert_eq!(gateway.to_string(), "istio-system/gw:80");
        assert!("a/b/c".parse::<ToGateway>().is_err() && "gw:x".parse::<ToGateway>().is_err());
    }
}
