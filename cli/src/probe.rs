//! `dryroute probe`: what does one proxy do with one connection?
//!
//! One decision of one proxy, in the vocabulary of `istioctl proxy-config`; `trace` follows a request from proxy to proxy.

mod render;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use clap::ValueEnum;
use dryroute::envoy::request::Preface;
use dryroute::envoy::{ApplicationProtocol, Capture, Connection, HttpRequest, Record, Transport, decide};
use dryroute::istiod::{NodeType, Proxy};
use dryroute::mesh::Mesh;
use smol_str::SmolStr;

use crate::error::{CliError, Output};
use crate::input::Input;
use crate::who;

/// The address of a destination that nobody names; no Service has it.
const ANY_DESTINATION: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proxy: ns/pod, ns/deployment, pod.ns, or router:ns/key=value,… for a gateway by its labels
    #[arg(long)]
    proxy: String,
    /// How the connection reaches the proxy [default: gateway for gateways, else outbound]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Where the client dialled: `ip:port`, or a port; a gateway's is the port of its pod
    #[arg(long, value_name = "IP:PORT")]
    dst: String,
    /// Where the connection comes from
    #[arg(long, value_name = "IP")]
    src: Option<IpAddr>,
    /// The Host header, or `:authority` [default: the destination]
    #[arg(long)]
    host: Option<String>,
    /// The path, with its query
    #[arg(long, default_value = "/")]
    path: String,
    /// The method
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// A header, `name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// What the bytes are
    #[arg(long, value_enum, default_value_t = Protocol::Http)]
    protocol: Protocol,
    /// How the connection is protected
    #[arg(long, value_enum, default_value_t = Protection::Plaintext)]
    tls: Protection,
    /// The server name of TLS [default: the host, without its port]
    #[arg(long)]
    sni: Option<String>,
    /// The ALPN values of TLS, comma separated [default: those of the protocol]
    #[arg(long, value_delimiter = ',')]
    alpn: Option<Vec<String>>,
    /// The name in the client's certificate [default: that of the service account default/default]
    #[arg(long, value_name = "SPIFFE")]
    peer: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    input: Input,
}

/// How a connection reaches a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// From the proxy's own workload, captured.
    Outbound,
    /// To the proxy's own workload, captured.
    Inbound,
    /// To the proxy's own socket.
    Gateway,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// Anything else.
    Tcp,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protection {
    /// Not at all.
    Plaintext,
    /// TLS without a client certificate.
    Tls,
    /// Istio's mutual TLS.
    Mtls,
}

/// Output formats of `probe`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One line for each step.
    Text,
    /// As data.
    Json,
}

pub(crate) fn run(args: &Args) -> Result<Output, CliError> {
    let loaded = args.input.load()?;
    let answer = answer(args, &loaded.mesh);
    Ok(loaded.finish(answer))
}

fn answer(args: &Args, mesh: &Arc<Mesh>) -> Result<Output, CliError> {
    let node = who::node(mesh, &args.proxy, &args.input.namespace()?)?;
    let router = node.node_type == NodeType::Router;
    let proxy = Proxy::new(mesh.clone(), node);
    let mode = args.mode.unwrap_or(if router { Mode::Gateway } else { Mode::Outbound });
    let capture = match mode {
        Mode::Outbound => Capture::Outbound,
        Mode::Inbound => Capture::Inbound,
        Mode::Gateway => Capture::Direct,
    };
    let own = proxy.node().ips.first().copied();
    let connection = connection(args, mode, own, mesh)?;
    let request = (args.protocol != Protocol::Tcp).then(|| request(args, &connection)).transpose()?;
    let mut record = Record::default();
    let decision = decide(&proxy, &proxy.facts(), capture, &connection, request.as_ref(), &mut record);
    let answer = render::Answer::new(&proxy, &decision, &record);
    let output = match args.output {
        Format::Json => Output::json(&answer.as_json(&connection, request.as_ref()))?,
        Format::Text => Output::answer(answer.as_text(&connection, request.as_ref())),
    };
    Ok(output.at_least(answer.exit()))
}

fn connection(args: &Args, mode: Mode, own: Option<IpAddr>, mesh: &Mesh) -> Result<Connection, CliError> {
    let bad = || {
        CliError::new(format!("the destination `{}` cannot be read", args.dst)).help("write it as ip:port")
    };
    let own = own.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (destination, port) = match args.dst.rsplit_once(':') {
        Some((ip, port)) if !ip.is_empty() => {
            (ip.trim_matches(['[', ']']).parse().map_err(|_| bad())?, port.parse().map_err(|_| bad())?)
        }
        Some((_, port)) => (default_destination(mode, own), port.parse().map_err(|_| bad())?),
        None => (default_destination(mode, own), args.dst.parse().map_err(|_| bad())?),
    };
    let transport = match args.tls {
        Protection::Plaintext => Transport::Plaintext,
        tls => {
            let host = args.host.as_deref().unwrap_or_default();
            let mutual = tls == Protection::Mtls;
            let name = args.sni.clone().unwrap_or_else(|| without_port(host).to_owned());
            let alpn = args.alpn.clone().map_or_else(
                || default_alpn(mutual, args.protocol).iter().map(|a| SmolStr::new_static(a)).collect(),
                |alpn| alpn.iter().map(SmolStr::new).collect(),
            );
            let trust_domain = &mesh.config().trust_domain;
            let peer = || format!("spiffe://{trust_domain}/ns/default/sa/default");
            Transport::Tls {
                sni: name.into(),
                alpn,
                client_certificate: mutual.then(|| args.peer.clone().unwrap_or_else(peer).into()),
                mesh_certificate: mutual,
            }
        }
    };
    let source = args.src.unwrap_or(if mode == Mode::Outbound { own } else { ANY_DESTINATION });
    let protocol = match args.protocol {
        Protocol::Http => ApplicationProtocol::Http11,
        Protocol::Http2 => ApplicationProtocol::Http2,
        Protocol::Tcp => ApplicationProtocol::Tcp,
    };
    Ok(Connection { destination, port, source, transport, protocol, preface: Preface::default() })
}

/// A gateway and an inbound listener are reached at the proxy's own address.
fn default_destination(mode: Mode, own: IpAddr) -> IpAddr {
    if mode == Mode::Outbound { ANY_DESTINATION } else { own }
}

/// What an Istio proxy (mutual) or a client of that protocol offers.
fn default_alpn(mutual: bool, protocol: Protocol) -> &'static [&'static str] {
    match (mutual, protocol) {
        (true, Protocol::Http) => &["istio-http/1.1", "istio", "http/1.1"],
        (true, Protocol::Http2) => &["istio-h2", "istio", "h2"],
        (true, Protocol::Tcp) => &["istio-peer-exchange", "istio"],
        (false, Protocol::Http) => &["http/1.1"],
        (false, Protocol::Http2) => &["h2"],
        (false, Protocol::Tcp) => &[],
    }
}

fn request(args: &Args, connection: &Connection) -> Result<HttpRequest, CliError> {
    let authority = args.host.clone().unwrap_or_else(|| destination(connection));
    let mut headers = Vec::with_capacity(args.headers.len());
    for header in &args.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            CliError::new(format!("the header `{header}` cannot be read")).help("write it as `name: value`")
        })?;
        headers.push((name.trim().to_ascii_lowercase().into(), value.trim().into()));
    }
    let http2 = args.protocol == Protocol::Http2;
    let scheme = if args.tls == Protection::Plaintext { "http" } else { "https" };
    Ok(HttpRequest {
        method: args.method.as_str().into(),
        path: args.path.as_str().into(),
        authority: authority.into(),
        scheme: http2.then(|| scheme.into()),
        headers,
        no_host: false,
        body: dryroute::envoy::Body::Declared,
    })
}

/// `ip:port`.
fn destination(connection: &Connection) -> String {
    std::net::SocketAddr::new(connection.destination, connection.port).to_string()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}
