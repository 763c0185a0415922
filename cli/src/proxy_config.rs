//! `dryroute proxy-config`: what would this proxy be told?
//!
//! The tables are those of `istioctl proxy-config`, cell for cell; `-o wide` adds who made each line.
//! istioctl: `pkg/writer/envoy/configdump`; names of the sections: `pkg/proxyconfig/proxyconfig.go`.

mod clusters;
mod endpoints;
mod listeners;
mod routes;

use std::sync::Arc;

use clap::{Subcommand, ValueEnum};
use dryroute::envoy::config::ConfigInfo;
use dryroute::envoy::export::{self, Document, Snapshot};
use dryroute::istiod::Proxy;
use dryroute::mesh::Mesh;
use dryroute::origin::Origin;

use crate::error::{CliError, Output};
use crate::input::Input;
use crate::{place, who};

/// Arguments of `proxy-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    section: Section,
}

/// What to print.
#[derive(Debug, Subcommand)]
enum Section {
    /// Listeners and where their filter chains lead
    #[command(visible_aliases = ["listener", "l", "lds"])]
    Listeners(listeners::Args),
    /// Route configurations, their virtual hosts and routes
    #[command(visible_aliases = ["route", "r", "rds"])]
    Routes(routes::Args),
    /// Clusters
    #[command(visible_aliases = ["cluster", "c", "cds"])]
    Clusters(clusters::Args),
    /// Endpoints that Envoy has
    #[command(visible_aliases = ["endpoint", "ep"])]
    Endpoints(endpoints::Args),
    /// Endpoints as istiod tells them, with their localities
    Eds(endpoints::Args),
}

/// What every table needs to know.
#[derive(Debug, clap::Args)]
struct Common {
    /// The proxy: ns/pod, ns/deployment, pod.ns, or router:ns/key=value,… for a gateway by its labels
    proxy: String,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Short)]
    output: Format,
    #[command(flatten)]
    input: Input,
}

/// How much of listeners and routes is shown.
#[derive(Debug, clap::Args)]
struct Detail {
    /// Show filter chains of listeners and routes of virtual hosts, as by default; =false shows one line for each
    #[arg(
        long,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    verbose: bool,
    /// The same as --verbose=false
    #[arg(long)]
    summary: bool,
}

impl Detail {
    fn is_summary(&self) -> bool {
        self.summary || !self.verbose
    }
}

/// Output formats of `proxy-config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The table of istioctl.
    Short,
    /// With the resource, field, file, line and column that made each line.
    Wide,
    /// As Envoy's API has it.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Format {
    fn is_table(self) -> bool {
        matches!(self, Self::Short | Self::Wide)
    }
}

/// A table being made.
struct Rows<'a> {
    mesh: &'a Mesh,
    wide: bool,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl<'a> Rows<'a> {
    /// A table with istioctl's columns, and with `more` and where each line comes from behind them if it is to be wide.
    fn new(mesh: &'a Mesh, format: Format, header: &[&'static str], more: &[&'static str]) -> Self {
        let wide = format == Format::Wide;
        let mut header = header.to_vec();
        if wide {
            header.extend(more);
            header.push("ORIGIN");
        }
        Self { mesh, wide, header, rows: Vec::new() }
    }

    fn push(&mut self, cells: Vec<String>, origin: &Origin) {
        self.push_with(cells, Vec::new(), origin);
    }

    fn push_with(&mut self, mut cells: Vec<String>, more: Vec<String>, origin: &Origin) {
        if self.wide {
            cells.extend(more);
            cells.push(place::full(self.mesh, origin));
        }
        self.rows.push(cells);
    }

    fn finish(self, gap: usize) -> String {
        crate::table::columns(&self.header, &self.rows, gap)
    }
}

pub(crate) fn run(args: &Args) -> Result<Output, CliError> {
    let common = match &args.section {
        Section::Listeners(args) => &args.common,
        Section::Routes(args) => &args.common,
        Section::Clusters(args) => &args.common,
        Section::Endpoints(args) | Section::Eds(args) => &args.common,
    };
    let loaded = common.input.load()?;
    let answer = answer(args, common, &loaded.mesh);
    Ok(loaded.finish(answer.map(Output::answer)))
}

fn answer(args: &Args, common: &Common, mesh: &Arc<Mesh>) -> Result<String, CliError> {
    let node = who::node(mesh, &common.proxy, &common.input.namespace()?)?;
    let proxy = Proxy::new(mesh.clone(), node);
    let format = common.output;
    let section = &args.section;
    let stdout = match section {
        Section::Listeners(args) => {
            let listeners = listeners::select(&proxy, args);
            if format.is_table() {
                listeners::table(&proxy, &listeners, args)
            } else {
                resources(&Snapshot { listeners, ..Snapshot::default() }, Document::Lds, format)?
            }
        }
        Section::Routes(args) => {
            let route_configurations = routes::select(&proxy, args);
            if format.is_table() {
                routes::table(&proxy, &route_configurations, args)
            } else {
                resources(&Snapshot { route_configurations, ..Snapshot::default() }, Document::Rds, format)?
            }
        }
        Section::Clusters(args) => {
            let clusters = clusters::select(&proxy, args);
            if format.is_table() {
                clusters::table(&proxy, &clusters, args)
            } else {
                resources(
                    &Snapshot {
                        clusters,
                        dns_lookup_family: proxy.dns_lookup_family(),
                        dns_refresh_rate: proxy.dns_refresh_rate(),
                        ..Snapshot::default()
                    },
                    Document::Cds,
                    format,
                )?
            }
        }
        Section::Endpoints(args) | Section::Eds(args) => {
            let clusters = endpoints::select(&proxy, args);
            if format.is_table() {
                let told = matches!(section, Section::Eds(_));
                let table = if told { endpoints::told } else { endpoints::table };
                table(&proxy, &clusters, args)
            } else {
                resources(
                    &Snapshot {
                        clusters,
                        dns_lookup_family: proxy.dns_lookup_family(),
                        dns_refresh_rate: proxy.dns_refresh_rate(),
                        ..Snapshot::default()
                    },
                    Document::Eds,
                    format,
                )?
            }
        }
    };
    Ok(stdout)
}

/// The resources of a discovery response, as a list.
fn resources(snapshot: &Snapshot, document: Document, format: Format) -> Result<String, CliError> {
    let exported = export::export(snapshot, document, None).document;
    let list = exported.get("resources").cloned().unwrap_or_default();
    if format == Format::Yaml {
        return serde_yaml::to_string(&list).map_err(|error| CliError::new(error.to_string()));
    }
    Ok(Output::json(&list)?.stdout)
}

/// Who made it, as istioctl names resources: `name.namespace`. istioctl: `route.go: describeManagement`.
fn managed_by(config: Option<&ConfigInfo>) -> String {
    config.map(|of| format!("{}.{}", of.name, of.namespace)).unwrap_or_default()
}

/// Direction, subset, host and port of `outbound|80|v1|host`; `None` for other names.
/// istiod: `push_context.go: ParseSubsetKey`.
fn parse_subset_key(name: &str) -> Option<(&str, &str, &str, u16)> {
    let mut parts = name.splitn(4, '|');
    let (direction, port, subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some((direction, subset, host, port.parse().unwrap_or(0)))
}

/// The order of istioctl: by host, subset, port, direction.
fn sort_key(name: &str) -> (String, String, u16, String) {
    match parse_subset_key(name) {
        Some((direction, subset, host, port)) => (host.into(), subset.into(), port, direction.into()),
        None => (name.into(), String::new(), 0, String::new()),
    }
}
