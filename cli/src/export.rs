//! `dryroute export`: the Envoy configuration of a proxy, ready to run.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::ValueEnum;
use dryroute::envoy::export::{self, OneMachine};
use dryroute::istiod::Proxy;
use dryroute::mesh::Mesh;

use crate::error::{CliError, Output};
use crate::input::Input;
use crate::who;

/// What to write.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Document {
    /// A file for `envoy --config-path`.
    Bootstrap,
    /// A discovery response with the listeners.
    Lds,
    /// A discovery response with the route configurations.
    Rds,
    /// A discovery response with the clusters.
    Cds,
    /// A discovery response with the endpoints.
    Eds,
    /// What `/config_dump?include_eds` answers.
    #[value(name = "config_dump")]
    ConfigDump,
}

impl From<Document> for export::Document {
    fn from(document: Document) -> Self {
        match document {
            Document::Bootstrap => Self::Bootstrap,
            Document::Lds => Self::Lds,
            Document::Rds => Self::Rds,
            Document::Cds => Self::Cds,
            Document::Eds => Self::Eds,
            Document::ConfigDump => Self::ConfigDump,
        }
    }
}

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proxy: ns/pod, ns/deployment, pod.ns, or router:ns/key=value,… for a gateway by its labels
    proxy: String,
    #[command(flatten)]
    input: Input,
    /// What to write
    #[arg(short = 'o', long = "output", default_value = "bootstrap")]
    output: Document,
    /// Make it run on one machine: real sockets on 127.0.0.1 that speak the PROXY protocol, one stand-in for every endpoint
    #[arg(long)]
    loopback: bool,
    /// The stand-in of every endpoint
    #[arg(long, value_name = "ADDRESS", requires = "loopback", default_value = "127.0.0.1:18080")]
    upstream: SocketAddr,
    /// The port of the admin interface
    #[arg(long, value_name = "PORT", requires = "loopback", default_value_t = 15000)]
    admin_port: u16,
}

pub(crate) fn run(args: &Args) -> Result<Output, CliError> {
    let loaded = args.input.load()?;
    let answer = answer(args, &loaded.mesh);
    Ok(loaded.finish(answer))
}

fn answer(args: &Args, mesh: &Arc<Mesh>) -> Result<Output, CliError> {
    let node = who::node(mesh, &args.proxy, &args.input.namespace()?)?;
    let proxy = Proxy::new(mesh.clone(), node);
    let machine =
        OneMachine { upstream: args.upstream, admin_port: args.admin_port, ..OneMachine::default() };
    let loopback = args.loopback.then_some(&machine as &dyn export::Loopback);
    let out = export::export(&proxy.snapshot(), args.output.into(), loopback);
    let mut output = Output::json(&out.document)?;
    for what in &out.left_out {
        let _ = writeln!(output.stderr, "left out: {what}");
    }
    Ok(output)
}
