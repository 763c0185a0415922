//! Compares the model with a real Envoy over random meshes and requests.
//!
//! Exit code 1 on a difference; each is made as small as it gets and printed as a scenario folder.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dryroute_tests::live::Lab;
use dryroute_tests::live::random::{self, Outcome, Plan};

/// Compares the model with a real Envoy over random meshes and requests.
#[derive(Parser)]
struct Args {
    /// How many requests to send.
    #[arg(long, default_value_t = 2000)]
    requests: usize,
    /// What the meshes are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many requests each mesh gets.
    #[arg(long, default_value_t = 250)]
    per_mesh: usize,
    /// After how many differences to stop.
    #[arg(long, default_value_t = 10)]
    most: usize,
    /// The number of the first mesh, to make one of a run again.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Print differences as they were found, without making them small.
    #[arg(long)]
    no_shrink: bool,
    /// A folder to write each difference to, as a scenario folder of its own.
    #[arg(long)]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "differential: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> std::io::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let Some(lab) = Lab::open() else { return Ok(ExitCode::SUCCESS) };
    let started = std::time::Instant::now();
    let plan = Plan {
        seed: args.seed,
        first: args.first,
        requests: args.requests,
        per_mesh: args.per_mesh,
        most: args.most,
        shrink: !args.no_shrink,
    };
    let progress = |outcome: &Outcome| {
        if outcome.meshes.is_multiple_of(20) {
            let _ = writeln!(
                std::io::stderr(),
                "{} meshes, {} requests, {} differ ({:.0?})",
                outcome.meshes,
                outcome.compared,
                outcome.mismatches.len(),
                started.elapsed()
            );
        }
    };
    let outcome = random::run(&lab, plan, progress);
    for (number, mismatch) in outcome.mismatches.iter().enumerate() {
        writeln!(out, "--- difference {number} (seed {}, mesh {})", args.seed, mismatch.mesh)?;
        for difference in &mismatch.differences {
            writeln!(out, "  {difference}")?;
        }
        if let Some(folder) = &args.write {
            let folder = folder.join(format!("difference-{number}"));
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("mesh.yaml"), mismatch.manifests())?;
            std::fs::write(folder.join("scenario.yaml"), mismatch.scenario())?;
            writeln!(out, "  written to {}", folder.display())?;
        } else {
            writeln!(out, "# scenario.yaml\n{}", mismatch.scenario())?;
            writeln!(out, "# mesh.yaml, on top of the platform")?;
            for resource in &mismatch.case.resources {
                writeln!(out, "---\n{}", serde_yaml::to_string(resource).unwrap_or_default())?;
            }
        }
    }
    for reason in &outcome.refused {
        writeln!(out, "not run: {reason}")?;
    }
    let mut unknown: Vec<&String> = outcome.unknown.iter().collect();
    unknown.sort();
    unknown.dedup();
    for reason in unknown {
        writeln!(out, "not decided: {reason}")?;
    }
    writeln!(
        out,
        "{} meshes, {} requests compared in {:.0?}: {} differ; {} not decided; {} meshes not run",
        outcome.meshes,
        outcome.compared,
        started.elapsed(),
        outcome.mismatches.len(),
        outcome.unknown.len(),
        outcome.refused.len()
    )?;
    let good = outcome.mismatches.is_empty() && outcome.refused.is_empty() && outcome.unknown.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
