//! `dryroute router-check`: does a route table do with requests what its tests say?
//!
//! Output and exit codes are those of Envoy's route table check tool: nothing but the coverage when all is well, 1 otherwise, also
//! when a file cannot be used. What failed stands on standard output, under the name of its test.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dryroute::envoy::router_check::{self, RouteTable, RouteTests, RouterCheckError, ShownTests};

use crate::error::{CliError, Exit, Output};

/// Arguments of `router-check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An Envoy v3 RouteConfiguration, JSON or YAML
    config: PathBuf,
    /// Tests in the format of Envoy's tool, JSON or YAML
    tests: PathBuf,
    /// Show every test
    #[arg(short, long)]
    details: bool,
    /// Show the tests that failed
    #[arg(long)]
    only_show_failures: bool,
    /// Fail when less of the routes is covered
    #[arg(short, long, value_name = "PERCENT")]
    fail_under: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Output {
    compare(args).unwrap_or_else(|error| Output { exit: Exit::Failed, ..error.into_output() })
}

fn compare(args: &Args) -> Result<Output, CliError> {
    let table = read(&args.config, "envoy.config.route.v3.RouteConfiguration", RouteTable::parse)?;
    let tests = read(&args.tests, "tests of a route table", RouteTests::parse)?;
    let report = router_check::check(&table, &tests).map_err(|e| CliError::new(e.to_string()))?;
    let shown = match (args.only_show_failures, args.details) {
        (true, _) => ShownTests::Failed,
        (false, true) => ShownTests::All,
        (false, false) => ShownTests::None,
    };
    let mut output = Output::answer(report.text(shown));
    if !report.passed() {
        return Ok(output.at_least(Exit::Failed));
    }
    if let Some(least) = args.fail_under.filter(|least| report.coverage < *least) {
        let least = router_check::percentage(least);
        let _ = writeln!(output.stderr, "Failed to meet coverage requirement: {least}%");
        return Ok(output.at_least(Exit::Failed));
    }
    Ok(output)
}

fn read<T>(
    path: &Path,
    what: &str,
    parse: impl Fn(&str) -> Result<T, RouterCheckError>,
) -> Result<T, CliError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| CliError::new(format!("{shown}: {e}")))?;
    parse(&text).map_err(|e| CliError::new(format!("{shown}: as {what}: {e}")))
}
