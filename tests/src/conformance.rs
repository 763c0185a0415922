//! How does dryroute's answer compare with a recorded one?
//!
//! Third-party suites are data: meshes, requests and the answers that the real programs gave. A suite turns each line
//! into [`Check`]s; the runner prints what differs. Invariant: the library under test never learns that it is tested.

pub mod differential;
pub mod router_check;
pub mod routing;
pub mod simulation;
pub mod simulator;
pub mod summary;
pub mod validation;

use std::fmt;

use serde_json::Value;

/// One compared field that differs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Mismatch {
    /// The field, such as `cluster` or `xds.listeners[0.0.0.0_80]`.
    pub field: String,
    /// What the real program answered.
    pub expected: Value,
    /// What dryroute answered.
    pub got: Value,
}

/// One comparison: a request, or a whole configuration.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Check {
    /// The case, such as `s1`.
    pub case: String,
    /// The request, such as `#3 GET http://a/`.
    pub request: String,
    /// What differs; nothing means that the check passed.
    pub mismatches: Vec<Mismatch>,
}

impl Check {
    /// Whether nothing differs.
    pub fn passed(&self) -> bool {
        self.mismatches.is_empty()
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mismatch in &self.mismatches {
            writeln!(
                f,
                "{} {}\n    {}: expected {}, got {}",
                self.case, self.request, mismatch.field, mismatch.expected, mismatch.got
            )?;
        }
        Ok(())
    }
}

/// What a run compares.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only cases whose name, or requests whose description, contains this text.
    pub filter: Option<String>,
    /// Whether header fields are compared as well.
    pub headers: bool,
}

impl Options {
    /// Whether the filter lets `case` or `request` through.
    pub fn selects(&self, case: &str, request: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| case.contains(filter) || request.contains(filter))
    }
}

/// A suite of recorded answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Istio's simulator.
    Simulation,
    /// Real istiod and Envoy.
    Differential,
    /// Istio's validation webhook.
    Validation,
    /// Istio's end-to-end tests.
    Routing,
    /// Envoy's route table check tool.
    RouterCheck,
}

impl Suite {
    /// The suite of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "simulation" => Some(Self::Simulation),
            "differential" => Some(Self::Differential),
            "validation" => Some(Self::Validation),
            "routing" => Some(Self::Routing),
            "router-check" => Some(Self::RouterCheck),
            _ => None,
        }
    }

    /// Runs every case of `text`, one JSON document a line; for `router-check` one document, the index of files.
    ///
    /// # Errors
    ///
    /// A line is not a case of this suite.
    pub fn run(self, text: &str, options: &Options) -> Result<Vec<Check>, String> {
        let mut out = Vec::new();
        if self == Self::RouterCheck {
            router_check::run(&serde_json::from_str(text).map_err(|e| e.to_string())?, options, &mut out)?;
            return Ok(out);
        }
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let bad = |e: serde_json::Error| format!("line {}: {e}", i + 1);
            match self {
                Self::Simulation => {
                    simulation::run(&serde_json::from_str(line).map_err(bad)?, options, &mut out);
                }
                Self::Differential => {
                    differential::run(&serde_json::from_str(line).map_err(bad)?, options, &mut out);
                }
                Self::Validation => {
                    validation::run(&serde_json::from_str(line).map_err(bad)?, options, &mut out);
                }
                Self::Routing => routing::run(&serde_json::from_str(line).map_err(bad)?, options, &mut out),
                Self::RouterCheck => {}
            }
        }
        Ok(out)
    }

    /// The names of the cases of `text`.
    ///
    /// # Errors
    ///
    /// A line is not a case of this suite.
    pub fn list(self, text: &str) -> Result<Vec<String>, String> {
        if self == Self::RouterCheck {
            let index: router_check::Index = serde_json::from_str(text).map_err(|e| e.to_string())?;
            return Ok(index.titles());
        }
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| match self {
                Self::Simulation => serde_json::from_str::<simulation::Case>(line)
                    .map(|case| format!("{} {} ({} calls)", case.id, case.test, case.requests.len()))
                    .map_err(|e| e.to_string()),
                Self::Differential => serde_json::from_str::<differential::Case>(line)
                    .map(|case| format!("{} ({} requests)", case.id, case.requests.len()))
                    .map_err(|e| e.to_string()),
                Self::Validation => serde_json::from_str::<validation::Case>(line)
                    .map(|case| case.title())
                    .map_err(|e| e.to_string()),
                Self::Routing => serde_json::from_str::<routing::Case>(line)
                    .map(|case| format!("{} ({} calls)", case.name, case.calls.len()))
                    .map_err(|e| e.to_string()),
                Self::RouterCheck => Ok(line.to_owned()),
            })
            .collect()
    }
}
