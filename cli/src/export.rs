//! `dryroute export`: the Envoy configuration of a proxy, ready to run.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use dryroute::envoy::export::{self, OneMachine};
use dryroute::istiod::{Node, Proxy};
use dryroute::mesh::{Mesh, MeshOptions};

use crate::Input;

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
    /// The workload whose proxy is asked, as `namespace/name` of a pod or controller.
    workload: String,
    #[command(flatten)]
    input: Input,
    /// What to write.
    #[arg(short = 'o', long = "output", default_value = "bootstrap")]
    output: Document,
    /// Make it run on one machine: real sockets on 127.0.0.1 that speak the PROXY protocol, one stand-in for every endpoint.
    #[arg(long)]
    loopback: bool,
    /// The stand-in of every endpoint.
    #[arg(long, value_name = "ADDRESS", requires = "loopback", default_value = "127.0.0.1:18080")]
    upstream: SocketAddr,
    /// The port of the admin interface.
    #[arg(long, value_name = "PORT", requires = "loopback", default_value_t = 15000)]
    admin_port: u16,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let set = args.input.load().map_err(|e| e.to_string())?;
    let mesh = Arc::new(Mesh::new(set, MeshOptions::default()));
    let Some(workload) = mesh.workloads().iter().find(|w| w.full_name() == args.workload) else {
        let known: Vec<String> = mesh.workloads().iter().map(|w| w.full_name().to_string()).collect();
        return Err(format!(
            "there is no workload {}; the manifests have: {}",
            args.workload,
            known.join(", ")
        ));
    };
    let node = Node::of(&mesh, workload)
        .ok_or_else(|| format!("{} has no proxy: {}", args.workload, workload.proxy_reason))?;
    let proxy = Proxy::new(mesh.clone(), node);
    let machine =
        OneMachine { upstream: args.upstream, admin_port: args.admin_port, ..OneMachine::default() };
    let loopback = args.loopback.then_some(&machine as &dyn export::Loopback);
    let out = export::export(&proxy.snapshot(), args.output.into(), loopback);
    for what in &out.left_out {
        anstream::eprintln!("left out: {what}");
    }
    let text = serde_json::to_string_pretty(&out.document).map_err(|e| e.to_string())?;
    anstream::println!("{text}");
    Ok(ExitCode::SUCCESS)
}
