//! `dryroute check`: what is wrong with these manifests?

use std::process::ExitCode;

use dryroute::diagnostic::{Diagnostic, Place, Severity};
use dryroute::manifest::ManifestSet;
use dryroute::mesh::{Mesh, MeshOptions};

use crate::Input;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let set = args.input.load().map_err(|e| e.to_string())?;
    let mesh = Mesh::new(set, MeshOptions::default());
    let mut errors = 0;
    for diagnostic in mesh.diagnostics() {
        errors += usize::from(diagnostic.severity == Severity::Error);
        print(mesh.manifests(), diagnostic);
    }
    let kinds: Vec<String> =
        mesh.manifests().counts().iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    anstream::println!("read {}", if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") });
    for ((version, kind), count) in mesh.manifests().unknown_kinds() {
        anstream::println!("passed by {count} {kind} ({version})");
    }
    Ok(ExitCode::from(u8::from(errors > 0)))
}

/// Prints `file:line:column: severity[code]: message`, and the help below it.
fn print(set: &ManifestSet, diagnostic: &Diagnostic) {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let at = diagnostic.labels.first().and_then(|label| match &label.at {
        Place::Position(location) => Some(location.clone()),
        Place::Origin(origin) => set.locate(origin),
    });
    let place = at.map(|l| format!("{}:{}:{}: ", l.file, l.line, l.column)).unwrap_or_default();
    anstream::println!("{place}{severity}[{}]: {}", diagnostic.code.as_str(), diagnostic.message);
    if let Some(help) = &diagnostic.help {
        anstream::println!("  help: {help}");
    }
}
