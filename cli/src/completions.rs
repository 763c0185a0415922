//! `dryroute completions` and `dryroute man`: how do shells and readers learn the arguments?

use clap::CommandFactory;

use crate::error::{CliError, Output};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args) -> Result<Output, CliError> {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "dryroute", &mut bytes);
    text(bytes)
}

pub(crate) fn man() -> Result<Output, CliError> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(crate::Cli::command())
        .render(&mut bytes)
        .map_err(|error| CliError::new(error.to_string()))?;
    text(bytes)
}

fn text(bytes: Vec<u8>) -> Result<Output, CliError> {
    String::from_utf8(bytes).map(Output::answer).map_err(|error| CliError::new(error.to_string()))
}
