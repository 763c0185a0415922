//! `dryroute proxy-config`: what would this sidecar be told?

use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use comfy_table::Table;
use dryroute::envoy::config::ListenerAddress;
use dryroute::istiod::node::Node;
use dryroute::istiod::proxy::Proxy;
use dryroute::mesh::{Mesh, MeshOptions, ProxyKind};
use dryroute::origin::Origin;

use crate::Input;

/// What to print.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Section {
    Listeners,
    Routes,
    Clusters,
}

/// Arguments of `proxy-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to print.
    section: Section,
    /// The workload whose sidecar is asked, as `namespace/name` of a pod or controller.
    workload: String,
    #[command(flatten)]
    input: Input,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let set = args.input.load().map_err(|e| e.to_string())?;
    let mesh = Arc::new(Mesh::new(set, MeshOptions::default()));
    let found = mesh.workloads().iter().find(|w| w.full_name() == args.workload);
    let Some(workload) = found else {
        let known: Vec<String> = mesh.workloads().iter().map(|w| w.full_name().to_string()).collect();
        return Err(format!(
            "there is no workload {}; the manifests have: {}",
            args.workload,
            known.join(", ")
        ));
    };
    if workload.proxy != ProxyKind::Sidecar {
        return Err(format!("{} has no sidecar: {}", args.workload, workload.proxy_reason));
    }
    let mut node = Node::sidecar(workload.namespace.clone(), workload.name.clone(), workload.ips.clone());
    node.labels.clone_from(&workload.labels);
    node.service_account = workload.service_account.clone();
    let proxy = Proxy::new(mesh.clone(), node);
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    match args.section {
        Section::Listeners => {
            table.set_header(["NAME", "ADDRESS", "CHAINS", "ORIGIN"]);
            for l in proxy.listeners() {
                let address = match &l.address {
                    ListenerAddress::Socket(ip, port) => format!("{ip}:{port}"),
                    ListenerAddress::Pipe(path) => path.to_string(),
                };
                table.add_row([
                    l.name.to_string(),
                    address,
                    l.filter_chains.len().to_string(),
                    origin(&mesh, &l.origin),
                ]);
            }
        }
        Section::Routes => {
            table.set_header(["NAME", "VIRTUAL HOST", "DOMAINS", "ROUTES", "ORIGIN"]);
            for config in proxy.route_configurations() {
                for host in &config.virtual_hosts {
                    table.add_row([
                        config.name.to_string(),
                        host.name.to_string(),
                        host.domains.join(", "),
                        host.routes.len().to_string(),
                        origin(&mesh, &host.origin),
                    ]);
                }
            }
        }
        Section::Clusters => {
            table.set_header(["CLUSTER", "TYPE", "ENDPOINTS", "ORIGIN"]);
            for c in proxy.clusters() {
                let endpoints: usize = c.load_assignment.endpoints.iter().map(|l| l.lb_endpoints.len()).sum();
                table.add_row([
                    c.name.to_string(),
                    format!("{:?}", c.discovery_type),
                    endpoints.to_string(),
                    origin(&mesh, &c.origin),
                ]);
            }
        }
    }
    anstream::println!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// Who made it: `kind name (file:line)`, or the default that did.
fn origin(mesh: &Mesh, origin: &Origin) -> String {
    match origin {
        Origin::Default(text) => text.to_string(),
        Origin::Field { resource, .. } => {
            let at = mesh
                .manifests()
                .locate(origin)
                .map(|l| format!(" ({}:{})", l.file, l.line))
                .unwrap_or_default();
            format!("{}{at}", mesh.manifests().describe(*resource))
        }
    }
}
