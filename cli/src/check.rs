//! `dryroute check`: what is wrong with these manifests?

use std::fmt::Write as _;

use clap::ValueEnum;
use dryroute::diagnostic::{Diagnostic, Severity};
use dryroute::manifest::ManifestSet;
use serde_json::json;

use crate::error::{CliError, Exit, Output};
use crate::input::{Input, UNREADABLE};
use crate::{frame, style};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    input: Input,
}

/// Output formats of `check`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// With the lines of the files.
    Text,
    /// One line for each, `file:line:column: severity[code]: message`.
    Short,
    /// As data.
    Json,
}

pub(crate) fn run(args: &Args) -> Result<Output, CliError> {
    let mesh = std::sync::Arc::new(args.input.mesh()?);
    let set = mesh.manifests();
    let of_proxies = dryroute::istiod::diagnostics::of_mesh(&mesh);
    let all: Vec<&Diagnostic> = mesh.diagnostics().chain(&of_proxies).collect();
    let count = |severity| all.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let unreadable = all.iter().any(|d| UNREADABLE.contains(&d.code));
    let exit = match (unreadable, errors) {
        (true, _) => Exit::Unusable,
        (false, 0) => Exit::Ok,
        (false, _) => Exit::Failed,
    };
    let resources: usize = set.counts().values().sum();
    if matches!(args.output, Format::Json) {
        let diagnostics: Vec<_> = all.iter().map(|d| as_json(set, d)).collect();
        let kinds: serde_json::Map<_, _> =
            set.counts().iter().map(|(kind, n)| (kind.to_string(), json!(n))).collect();
        let unknown: Vec<_> = set
            .unknown_kinds()
            .iter()
            .map(|((version, kind), n)| json!({"apiVersion": version, "kind": kind, "count": n}))
            .collect();
        return Ok(Output::json(&json!({
            "schema": "dryroute.check/v1",
            "model": {"istio": dryroute::ISTIO_VERSION, "envoy": dryroute::ENVOY_VERSION},
            "resources": kinds, "passedBy": unknown, "diagnostics": diagnostics,
        }))?
        .at_least(exit));
    }
    let mut out = String::new();
    for diagnostic in &all {
        match args.output {
            Format::Short => out.push_str(&frame::line(set, diagnostic)),
            _ => {
                out.push_str(&frame::diagnostic(set, diagnostic));
                out.push('\n');
            }
        }
    }
    let (colour, word) = match exit {
        Exit::Ok => (style::GREEN, "ok"),
        _ => (style::RED, "failed"),
    };
    let _ = writeln!(
        out,
        "{}: {}, {}, {}",
        style::paint(colour, word),
        style::many(resources, "resource"),
        style::many(errors, "error"),
        style::many(warnings, "warning"),
    );
    for ((version, kind), count) in set.unknown_kinds() {
        let _ = writeln!(out, "passed by: {count} {kind} ({version})");
    }
    Ok(Output::answer(out).at_least(exit))
}

fn as_json(set: &ManifestSet, diagnostic: &Diagnostic) -> serde_json::Value {
    let labels: Vec<_> = diagnostic
        .labels
        .iter()
        .filter_map(|label| {
            let at = frame::location(set, &label.at)?;
            Some(json!({"file": at.file, "line": at.line, "column": at.column, "text": label.text}))
        })
        .collect();
    json!({
        "code": diagnostic.code.as_str(), "severity": frame::severity(diagnostic), "message": diagnostic.message,
        "field": diagnostic.field, "labels": labels, "help": diagnostic.help,
    })
}
