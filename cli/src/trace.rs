//! `dryroute trace`: where does this request go, and why?
//!
//! Every format is drawn from the one [`Trace`] that the library gives; `-o json` is that trace itself.

mod dot;
mod expect;
mod headers;
mod mermaid;
mod text;
mod words;

use std::sync::Arc;

use clap::ValueEnum;
use dryroute::mesh::Mesh;
use dryroute::trace::{Choice, HttpVersion, Query, Trace, Tracer, VerdictKind};

use crate::error::{CliError, Exit, Output};
use crate::input::Input;

/// Arguments of `trace`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The method, if it is not GET, and the URL: http, https, tcp or tls
    #[arg(value_name = "[METHOD] URL", num_args = 1..=2, required = true)]
    request: Vec<String>,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    curl: Curl,
    #[command(flatten)]
    show: Show,
    #[command(flatten)]
    expect: expect::Expect,
    #[command(flatten)]
    input: Input,
}

/// Who sends the request, and which way it takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Client")]
struct Client {
    /// Who sends it: [namespace/]name of a pod, controller or service account, also with its kind as in deploy/name or
    /// namespace/sa/name, a SPIFFE identity, or `outside`
    #[arg(long, value_name = "WHO")]
    from: Option<String>,
    /// The container that sends it; traffic of istio-proxy is not captured
    #[arg(long, short = 'c')]
    container: Option<String>,
    /// The user that sends it, in place of the container's; traffic of 1337 is not captured
    #[arg(long)]
    uid: Option<i64>,
    /// The group that sends it, in place of the container's
    #[arg(long)]
    gid: Option<i64>,
    /// The gateway it is sent to, whatever the URL's host resolves to: `namespace/service[:port]`
    #[arg(long, value_name = "GATEWAY")]
    to_gateway: Option<String>,
    /// Follow one way at each fork, drawn by this seed
    #[arg(long, value_name = "N", conflicts_with = "choose")]
    seed: Option<u64>,
    /// Follow one way at each fork, by its number, counted from 0 as written
    #[arg(long, value_name = "N")]
    choose: Option<usize>,
}

/// What is sent, in curl's words.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Request (as curl)")]
struct Curl {
    /// A header, `name: value`; `name:` removes one that the client sends by itself
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The method
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<String>,
    /// User and password, sent as basic authorization, as those of the URL
    #[arg(short = 'u', long, value_name = "USER:PASSWORD")]
    user: Option<String>,
    /// The body, which makes it a POST; `@file` reads one
    #[arg(short = 'd', long = "data")]
    data: Option<String>,
    /// An address for a name: host:port:address
    #[arg(long, value_name = "HOST:PORT:ADDRESS")]
    resolve: Vec<String>,
    /// Another place to connect to: host1:port1:host2:port2
    #[arg(long, value_name = "HOST1:PORT1:HOST2:PORT2")]
    connect_to: Vec<String>,
    /// Take any server certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Speak HTTP/2 from the start
    #[arg(long)]
    http2: bool,
    /// Speak HTTP/1.0
    #[arg(long = "http1.0", conflicts_with = "http2")]
    http10: bool,
    /// The path as it is sent, in place of the URL's
    #[arg(long, value_name = "PATH")]
    request_target: Option<String>,
    /// The server name of TLS, in place of the URL's host
    #[arg(long)]
    sni: Option<String>,
}

/// What is shown.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Show {
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Show what each hop did to the headers, who did it, and where that is written
    #[arg(id = "ledger", long = "headers")]
    headers: bool,
    /// Show everything
    #[arg(short, long)]
    verbose: bool,
}

/// Output formats of `trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One screen: the path, the verdict, what decided, and what could have been meant.
    Text,
    /// Every step, with resource, field, file, line and column.
    Wide,
    /// The contract dryroute.trace/v1.
    Json,
    /// A graph for Graphviz.
    Dot,
    /// A graph for Mermaid.
    Mermaid,
}

pub(crate) fn run(args: &Args) -> Result<Output, CliError> {
    let mut query = query(args)?;
    query.namespace = Some(args.input.namespace()?.into());
    let loaded = args.input.load()?;
    let answer = answer(args, &query, &loaded.mesh);
    Ok(match args.show.output {
        Format::Text | Format::Wide => loaded.finish_told(answer),
        Format::Json | Format::Dot | Format::Mermaid => loaded.finish(answer),
    })
}

fn answer(args: &Args, query: &Query, mesh: &Arc<Mesh>) -> Result<Output, CliError> {
    let tracer = Tracer::new(mesh.clone());
    let trace = tracer.trace(query)?;
    let mut output = match args.show.output {
        Format::Json => Output::json(&trace)?,
        Format::Dot => Output::answer(dot::render(&trace)),
        Format::Mermaid => Output::answer(mermaid::render(&trace)),
        Format::Text | Format::Wide => {
            let detail = text::Detail {
                wide: args.show.verbose || args.show.output == Format::Wide,
                headers: args.show.headers || args.show.verbose,
                messages: args.show.verbose,
            };
            Output::answer(text::render(&trace, mesh.manifests(), detail))
        }
    };
    let expected = args.expect.check(&trace, &mut output.stderr);
    Ok(output.at_least(settled(&trace)).at_least(expected))
}

/// 3 when a way is unknown.
fn settled(trace: &Trace) -> Exit {
    let unknown = trace.outcomes.iter().any(|outcome| outcome.verdict.kind == VerdictKind::Unknown);
    if unknown { Exit::Unknown } else { Exit::Ok }
}

fn query(args: &Args) -> Result<Query, CliError> {
    let (written, url) = match args.request.as_slice() {
        [method, url] => (Some(method.as_str()), url.as_str()),
        [url] => (None, url.as_str()),
        _ => return Err(CliError::new("one URL is expected")),
    };
    let curl = &args.curl;
    let default = if curl.data.is_some() { "POST" } else { "GET" };
    let method = curl.method.as_deref().or(written).unwrap_or(default);
    let mut query = Query::parse(method, url)?;
    for header in &curl.headers {
        query.add_header(header)?;
    }
    if let Some(user) = &curl.user {
        query.user = Some(user.clone().into_bytes());
    }
    if let Some(data) = &curl.data {
        query.body_bytes = Some(match data.strip_prefix('@') {
            Some(file) => std::fs::metadata(file)
                .map_err(|error| CliError::new(format!("cannot read {file}: {error}")))?
                .len(),
            None => data.len() as u64,
        });
    }
    for text in &curl.resolve {
        query.add_resolve(text)?;
    }
    for text in &curl.connect_to {
        query.add_connect_to(text)?;
    }
    query.insecure = curl.insecure;
    if curl.http2 {
        query.http_version = HttpVersion::Http2;
    } else if curl.http10 {
        query.http_version = HttpVersion::Http10;
    }
    query.request_target = curl.request_target.as_deref().map(Into::into);
    query.sni = curl.sni.as_deref().map(Into::into);
    let client = &args.client;
    query.from = client.from.as_deref().map(Into::into);
    query.container = client.container.as_deref().map(Into::into);
    query.uid = client.uid;
    query.gid = client.gid;
    query.to_gateway = client.to_gateway.as_deref().map(str::parse).transpose()?;
    query.choice = match (client.seed, client.choose) {
        (Some(seed), _) => Choice::Seed(seed),
        (None, Some(number)) => Choice::Nth(number),
        (None, None) => Choice::All,
    };
    Ok(query)
}
