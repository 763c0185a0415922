//! How does a command end?
//!
//! Invariant: errors are sorted once, here; one sentence, then what could be done.

use std::fmt::Write as _;
use std::process::ExitCode;

use dryroute::manifest::LoadError;
use dryroute::mesh::WorkloadNameError;
use dryroute::trace::{QueryError, TraceError};

use crate::style;

/// The exit codes, the same for every output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// 0: the question was answered.
    #[default]
    Ok,
    /// 3: the input does not settle the answer.
    Unknown,
    /// 1: a check or an expectation failed.
    Failed,
    /// 2: bad usage, or input that cannot be read.
    Unusable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Unusable => 2,
            Exit::Unknown => 3,
        })
    }
}

/// What a command prints, and how it ends.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The answer.
    pub(crate) stdout: String,
    /// What else there is to say.
    pub(crate) stderr: String,
    /// The exit code.
    pub(crate) exit: Exit,
}

impl Output {
    /// An answer.
    pub(crate) fn answer(stdout: String) -> Self {
        Self { stdout, ..Self::default() }
    }

    /// An answer as JSON, or why it cannot be written.
    pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<Self, CliError> {
        let mut text = serde_json::to_string_pretty(value).map_err(|e| CliError::new(e.to_string()))?;
        text.push('\n');
        Ok(Self::answer(text))
    }

    /// Ends with the worse of this code and `exit`.
    pub(crate) fn at_least(mut self, exit: Exit) -> Self {
        self.exit = self.exit.max(exit);
        self
    }
}

/// Why a command could not be run.
#[derive(Debug)]
pub(crate) struct CliError {
    message: String,
    help: Vec<String>,
}

impl CliError {
    /// An error of one sentence.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: Vec::new() }
    }

    /// Adds what to do.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds what could have been meant, if there is something.
    #[must_use]
    pub(crate) fn candidates<S: AsRef<str>>(self, found: impl IntoIterator<Item = S>) -> Self {
        const SHOWN: usize = 12;
        let names: Vec<String> = found.into_iter().map(|name| name.as_ref().to_owned()).collect();
        if names.is_empty() {
            return self;
        }
        let more =
            if names.len() > SHOWN { format!(" … {} more", names.len() - SHOWN) } else { String::new() };
        let shown: Vec<String> = names.into_iter().take(SHOWN).collect();
        self.help(format!("there is: {}{more}", shown.join(", ")))
    }

    /// The error as it is printed.
    pub(crate) fn into_output(self) -> Output {
        let mut stderr = format!("{}error{}: {}\n", style::RED, style::RESET, self.message);
        for help in self.help {
            let _ = writeln!(stderr, "  {}help{}: {help}", style::CYAN, style::RESET);
        }
        Output { stdout: String::new(), stderr, exit: Exit::Unusable }
    }
}

impl From<LoadError> for CliError {
    fn from(error: LoadError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<QueryError> for CliError {
    fn from(error: QueryError) -> Self {
        let help = match &error {
            QueryError::NoHost { .. } => Some("write it as http://host[:port]/path"),
            QueryError::NoPort { .. } => Some("write it as tcp://host:port"),
            _ => None,
        };
        let out = Self::new(error.to_string());
        match help {
            Some(help) => out.help(help),
            None => out,
        }
    }
}

impl From<WorkloadNameError> for CliError {
    fn from(error: WorkloadNameError) -> Self {
        Self::new(error.to_string()).candidates(error.candidates())
    }
}

impl From<TraceError> for CliError {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Query(query) => query.into(),
            TraceError::Source(source) => source.into(),
            other => {
                let candidates = other.candidates().to_vec();
                let out = Self::new(other.to_string()).candidates(candidates);
                match other {
                    TraceError::NoClient => out.help(
                        "add the manifests of Pods or Deployments, or let --assume-platform make up a client and gateways",
                    ),
                    TraceError::OutsideHasNoContainer => {
                        out.help("leave out --container, --uid and --gid, or name a workload with --from")
                    }
                    TraceError::NoEntrance { .. } => out.help(
                        "name one with --to-gateway, or let --assume-platform make up those that Gateways select",
                    ),
                    TraceError::UnknownGateway { candidates, .. } if candidates.is_empty() => {
                        out.help("--assume-platform makes up the gateways that Gateways select")
                    }
                    _ => out,
                }
            }
        }
    }
}
