//! Compares dryroute with recorded answers of the real programs.
//!
//! `conformance SUITE FILE…` prints each difference and closes with `N passed, N failed`; exit code 1 on a difference,
//! 2 when a file cannot be read.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dryroute_tests::conformance::{Options, Suite};

/// Compares dryroute with recorded answers of the real programs.
#[derive(Parser)]
struct Args {
    /// The suite whose format the files have: simulation, differential, routing, validation, router-check.
    suite: String,
    /// Files of that format, one case a line; for router-check its index.json.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only list the cases.
    #[arg(long)]
    list: bool,
    /// Only cases or requests that contain this text.
    #[arg(long)]
    filter: Option<String>,
    /// Print the differences as JSON, one check a line.
    #[arg(long)]
    json: bool,
    /// Compare header fields as well.
    #[arg(long)]
    headers: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "conformance: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, String> {
    let suite = Suite::parse(&args.suite).ok_or_else(|| format!("no suite named {:?}", args.suite))?;
    let options = Options { filter: args.filter.clone(), headers: args.headers };
    let mut out = std::io::stdout().lock();
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for file in &args.files {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let named = |e: String| format!("{}: {e}", file.display());
        if args.list {
            for line in suite.list(&text).map_err(named)? {
                writeln!(out, "{line}").map_err(|e| e.to_string())?;
            }
            continue;
        }
        let (mut good, mut bad) = (0_usize, 0_usize);
        for check in suite.run(&text, &options).map_err(named)? {
            if check.passed() {
                good += 1;
                continue;
            }
            bad += 1;
            if args.json {
                let line = serde_json::to_string(&check).map_err(|e| e.to_string())?;
                writeln!(out, "{line}").map_err(|e| e.to_string())?;
            } else {
                write!(out, "{check}").map_err(|e| e.to_string())?;
            }
        }
        if !args.json && args.files.len() > 1 {
            writeln!(out, "{}: {good} passed, {bad} failed", file.display()).map_err(|e| e.to_string())?;
        }
        passed += good;
        failed += bad;
    }
    if !args.list {
        writeln!(out, "{passed} passed, {failed} failed").map_err(|e| e.to_string())?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
