//! `dryroute`: what would my Istio mesh do with this request, and why, without sending it.
//!
//! Invariant: the library decides, this program renders. A command gives its output as a value; only this file prints.

mod check;
mod completions;
mod error;
mod explain;
mod export;
mod frame;
mod input;
mod place;
mod probe;
mod proxy_config;
mod router_check;
mod scenarios;
mod style;
mod table;
mod trace;
mod who;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::{CliError, Output};

/// Where would this request go in my Istio mesh, and why, without sending it
#[derive(Debug, Parser)]
#[command(name = "dryroute", version = VERSION, about, after_help = EXIT_CODES)]
struct Cli {
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (models Istio 1.32, Envoy 1.40)");

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 a check or expectation failed, 2 bad usage or unreadable input, \
                          3 the input does not settle the answer";

/// When to use colour.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow a request from its client to where it ends
    Trace(Box<trace::Args>),
    /// Ask one proxy about one connection: listener, filter chain, virtual host, route, cluster
    Probe(Box<probe::Args>),
    /// Print what a proxy would be told, in the tables of `istioctl proxy-config`
    #[command(visible_alias = "pc")]
    ProxyConfig(Box<proxy_config::Args>),
    /// Write the Envoy configuration of a proxy, ready to run
    Export(Box<export::Args>),
    /// Read manifests and report what is wrong with them
    Check(check::Args),
    /// Test a route table as Envoy's route table check tool does
    RouterCheck(router_check::Args),
    /// Explain a diagnostic code
    Explain(explain::Args),
    /// List the scenarios that `--scenario` knows, or show one
    Scenarios(scenarios::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the manual page
    Man,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Trace(args) => trace::run(args),
        Command::Probe(args) => probe::run(args),
        Command::ProxyConfig(args) => proxy_config::run(args),
        Command::Export(args) => export::run(args),
        Command::Check(args) => check::run(args),
        Command::RouterCheck(args) => Ok(router_check::run(args)),
        Command::Explain(args) => explain::run(args),
        Command::Scenarios(args) => scenarios::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man => completions::man(),
    };
    let choice = match cli.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    print(choice, result)
}

/// Prints a result; the only place that writes to the terminal.
fn print(choice: anstream::ColorChoice, result: Result<Output, CliError>) -> ExitCode {
    let output = result.unwrap_or_else(CliError::into_output);
    // A reader that went away (`| head`) is no error, and there is nobody left to tell.
    let _ = write(anstream::AutoStream::new(std::io::stderr(), choice), &output.stderr);
    let _ = write(anstream::AutoStream::new(std::io::stdout(), choice), &output.stdout);
    output.exit.into()
}

fn write(mut stream: impl std::io::Write, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_the_releases_that_are_modelled() {
        let modelled = format!("Istio {}, Envoy {}", dryroute::ISTIO_VERSION, dryroute::ENVOY_VERSION);
        assert!(VERSION.contains(&modelled), "{VERSION} does not say {modelled}");
    }

    #[test]
    fn the_arguments_are_declared_without_a_conflict() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
