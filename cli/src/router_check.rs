//! `dryroute router-check`: does a route table do with requests what its tests say?
//!
//! Flags, output and exit codes are those of Envoy's route table check tool: nothing but the coverage when all is well, 1 otherwise, also
//! when a file cannot be used. What failed stands on standard output, under the name of its test.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dryroute::envoy::router_check::{
    self, CoverageMeasure, RouteTable, RouteTests, RouterCheckError, ShownTests,
};

use crate::error::{CliError, Exit, Output};

/// Arguments of `router-check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An Envoy v3 RouteConfiguration, JSON or YAML
    #[arg(required_unless_present = "config_path")]
    config: Option<PathBuf>,
    /// Tests in the format of Envoy's tool, JSON or YAML; protobuf text in a .pb_text file
    #[arg(required_unless_present = "test_path")]
    tests: Option<PathBuf>,
    /// The same as CONFIG, as Envoy's tool has it
    #[arg(short, long, value_name = "CONFIG", requires = "test_path", conflicts_with = "config")]
    config_path: Option<PathBuf>,
    /// The same as TESTS, as Envoy's tool has it
    #[arg(short, long, value_name = "TESTS", requires = "config_path", conflicts_with = "tests")]
    test_path: Option<PathBuf>,
    /// Show every test
    #[arg(short, long)]
    details: bool,
    /// Show the tests that failed
    #[arg(long)]
    only_show_failures: bool,
    /// Fail when less of the routes is covered
    #[arg(short, long, value_name = "PERCENT")]
    fail_under: Option<f64>,
    /// Measure for each route how much of it is tested, and show the routes without tests
    #[arg(long)]
    covall: bool,
    /// Show the names of routes without tests
    #[arg(long)]
    detailed_coverage: bool,
    /// Accepted as Envoy's tool has it: no field that is read here is one that Envoy refuses as deprecated
    #[arg(long)]
    disable_deprecation_check: bool,
    /// Accepted from the time when Envoy's tool had two formats of tests
    #[arg(short = 'p', long, hide = true)]
    useproto: bool,
}

pub(crate) fn run(args: &Args) -> Output {
    compare(args).unwrap_or_else(|error| Output { exit: Exit::Failed, ..error.into_output() })
}

fn compare(args: &Args) -> Result<Output, CliError> {
    let [Some(config), Some(tests)] =
        [args.config.as_ref().or(args.config_path.as_ref()), args.tests.as_ref().or(args.test_path.as_ref())]
    else {
        return Err(CliError::new("both CONFIG and TESTS are needed"));
    };
    let table = read(config, "envoy.config.route.v3.RouteConfiguration", RouteTable::parse)?;
    let parse = match tests.extension().and_then(OsStr::to_str) {
        Some("pb_text") => RouteTests::parse_text_format,
        _ => RouteTests::parse,
    };
    let tests = read(tests, "envoy.RouterCheckToolSchema.Validation", parse)?;
    let measure = match (args.covall, args.detailed_coverage) {
        (true, _) => CoverageMeasure::Expectations,
        (false, true) => CoverageMeasure::RoutesByName,
        (false, false) => CoverageMeasure::Routes,
    };
    let report = router_check::check(&table, &tests, measure);
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
    parse(&text).map_err(|e| CliError::new(format!("INVALID_ARGUMENT: {shown}: as {what}: {e}")))
}
