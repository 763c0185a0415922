//! `dryroute explain`: what does this code mean?

use std::fmt::Write as _;

use dryroute::diagnostic::{Code, Severity};

use crate::error::{CliError, Output};
use crate::style;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The code, such as `unknown-field`; without one, all are listed
    code: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<Output, CliError> {
    let Some(wanted) = &args.code else {
        let rows = Code::ALL.iter().map(|code| {
            vec![code.as_str().to_owned(), severity(*code).to_owned(), code.description().trim().to_owned()]
        });
        return Ok(Output::answer(crate::table::render(&["CODE", "SEVERITY", "MEANING"], rows.collect())));
    };
    let code = Code::ALL.iter().find(|code| code.as_str() == wanted).ok_or_else(|| {
        CliError::new(format!("there is no code `{wanted}`"))
            .candidates(Code::ALL.iter().map(|code| code.as_str()))
    })?;
    let mut out = String::new();
    let _ = writeln!(out, "{} ({})\n", style::paint(style::BOLD, code.as_str()), severity(*code));
    let text = code.description();
    let _ = writeln!(out, "{}", style::wrap(text.split_whitespace(), 0, style::width()));
    if let Some(page) = code.page() {
        let _ = writeln!(out, "\nExample:\n");
        for line in page.example.lines() {
            let _ = writeln!(out, "    {line}");
        }
        let _ = writeln!(out, "\nWhat to do:\n");
        let _ = writeln!(out, "{}", style::wrap(page.advice.split_whitespace(), 0, style::width()));
    }
    Ok(Output::answer(out))
}

fn severity(code: Code) -> &'static str {
    match code.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}
