//! What Envoy's route table check tool says about its own cases.
//!
//! The index names pairs of a route configuration and tests. Pairs that pass are compared test by test; pairs that fail, and the
//! coverage, by what is printed. Files are looked for in the suite's folder.

use std::fmt::Write as _;
use std::path::Path;

use dryroute::envoy::router_check::{
    self, CoverageMeasure, RouteTable, RouteTests, RouterCheckReport, ShownTests,
};
use serde_json::{Value, json};

use super::{Check, Mismatch, Options};

/// The index of the suite.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Index {
    /// Pairs of which every test passes.
    pub pass: Vec<Pair>,
    /// Pairs with the output that failures give.
    pub fail: Vec<Pair>,
    /// Pairs with the output about coverage.
    pub coverage: Vec<Pair>,
    /// Pairs of a later release.
    pub later: Vec<Pair>,
}

/// A route configuration and tests.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Pair {
    /// The route configuration.
    pub config: String,
    /// The tests.
    pub tests: String,
    /// How many tests there are.
    #[serde(default)]
    pub count: usize,
    /// Flags of the tool.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Whether every test passes.
    #[serde(default)]
    pub passes: Option<bool>,
    /// The tests that pass where others do not.
    #[serde(default)]
    pub passing: Vec<String>,
    /// Texts of the output.
    #[serde(default)]
    pub output_contains: Vec<String>,
    /// Texts of the output, one after the other.
    #[serde(default)]
    pub output_contains_in_order: Vec<String>,
    /// Whole lines of the output.
    #[serde(default)]
    pub output_has_lines: Vec<String>,
    /// Texts that are not in the output.
    #[serde(default)]
    pub output_lacks: Vec<String>,
    /// Regular expressions of lines of the output.
    #[serde(default)]
    pub output_matches: Vec<String>,
    /// Says that the configuration is a bad one.
    #[serde(default)]
    pub note: Option<String>,
}

impl Pair {
    fn title(&self) -> String {
        let words = [self.config.as_str(), self.tests.as_str()];
        let flags = self.flags.iter().map(String::as_str);
        words.into_iter().chain(flags).collect::<Vec<_>>().join(" ")
    }

    fn report(&self, folder: &Path, measure: CoverageMeasure) -> Result<RouterCheckReport, String> {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|e| e.to_string());
        let table = RouteTable::parse(&read(&self.config)?).map_err(|e| format!("{}: {e}", self.config))?;
        let parse =
            if self.tests.ends_with(".pb_text") { RouteTests::parse_text_format } else { RouteTests::parse };
        let tests = parse(&read(&self.tests)?).map_err(|e| format!("{}: {e}", self.tests))?;
        Ok(router_check::check(&table, &tests, measure))
    }
}

impl Index {
    /// How the pairs are called.
    pub fn titles(&self) -> Vec<String> {
        [&self.pass, &self.fail, &self.coverage, &self.later].into_iter().flatten().map(Pair::title).collect()
    }
}

/// Runs the suite; without its folder there is nothing to run.
///
/// # Errors
///
/// The folder with the files of the index is absent.
pub fn run(index: &Index, options: &Options, out: &mut Vec<Check>) -> Result<(), String> {
    let folder = super::super::conformance("router-check").ok_or("the folder of the suite is absent")?;
    for pair in &index.pass {
        tests(pair, &folder, options, out);
    }
    for pair in &index.later {
        tests(pair, &folder, options, out);
    }
    for pair in index.fail.iter().chain(&index.coverage).filter(|pair| options.selects(&pair.title(), "")) {
        let mismatches = printed(pair, &folder);
        out.push(Check { case: pair.title(), request: "output".into(), mismatches });
    }
    Ok(())
}

fn mismatch(field: &str, expected: impl Into<Value>, got: impl Into<Value>) -> Mismatch {
    Mismatch { field: field.into(), expected: expected.into(), got: got.into() }
}

/// One check for each test of a pair, and one for their number if it is not the index's.
fn tests(pair: &Pair, folder: &Path, options: &Options, out: &mut Vec<Check>) {
    let case = pair.title();
    let report = match pair.report(folder, CoverageMeasure::Routes) {
        Ok(report) => report,
        Err(error) => {
            // Every test of a pair that cannot be read counts as failed.
            for number in 1..=pair.count {
                let request = format!("#{number}");
                if options.selects(&case, &request) {
                    let mismatches = vec![mismatch("read", true, error.as_str())];
                    out.push(Check { case: case.clone(), request, mismatches });
                }
            }
            return;
        }
    };
    for (place, test) in report.tests.iter().enumerate() {
        let request = format!("#{} {}", place + 1, test.name);
        if !options.selects(&case, &request) {
            continue;
        }
        let expected = pair.passes.unwrap_or(true) || pair.passing.contains(&test.name);
        let failures: Vec<String> = test.failures.iter().map(ToString::to_string).collect();
        let mut mismatches = Vec::new();
        if expected != failures.is_empty() {
            mismatches.push(mismatch("passes", expected, json!(failures)));
        }
        out.push(Check { case: case.clone(), request, mismatches });
    }
    if report.tests.len() != pair.count && options.selects(&case, "count") {
        let mismatches = vec![mismatch("count", pair.count, report.tests.len())];
        out.push(Check { case, request: "count".into(), mismatches });
    }
}

/// What differs in what is printed.
fn printed(pair: &Pair, folder: &Path) -> Vec<Mismatch> {
    let mut shown = ShownTests::None;
    let mut measure = CoverageMeasure::Routes;
    let mut least = None;
    let mut flags = pair.flags.iter();
    while let Some(flag) = flags.next() {
        match flag.as_str() {
            "--details" if shown == ShownTests::None => shown = ShownTests::All,
            "--details" => {}
            "--only-show-failures" => shown = ShownTests::Failed,
            "-f" => least = flags.next().and_then(|least| least.parse::<f64>().ok()),
            "--covall" => measure = CoverageMeasure::Expectations,
            "--detailed-coverage" if measure == CoverageMeasure::Routes => {
                measure = CoverageMeasure::RoutesByName;
            }
            other => return vec![mismatch("flag", other, "not supported")],
        }
    }
    let report = match (pair.report(folder, measure), &pair.note) {
        (Ok(report), None) => report,
        (Ok(_), Some(note)) => return vec![mismatch("refused", note.as_str(), "accepted")],
        (Err(error), Some(_)) if error.contains(": tests: ") => return Vec::new(),
        (Err(error), note) => return vec![mismatch("read", json!(note), error)],
    };
    let mut output = report.text(shown);
    if let Some(least) = least.filter(|least| report.coverage < *least) {
        let least = router_check::percentage(least);
        let _ = writeln!(output, "Failed to meet coverage requirement: {least}%");
    }
    let mut out = Vec::new();
    let mut miss = |field: &str, text: &str| out.push(mismatch(field, text, output.as_str()));
    let mut rest = output.as_str();
    for text in &pair.output_contains_in_order {
        match rest.split_once(text.as_str()) {
            Some((_, after)) => rest = after,
            None => miss("contains in order", text),
        }
    }
    for text in pair.output_contains.iter().filter(|text| !output.contains(text.as_str())) {
        miss("contains", text);
    }
    for text in pair.output_lacks.iter().filter(|text| output.contains(text.as_str())) {
        miss("lacks", text);
    }
    for text in pair.output_has_lines.iter().filter(|text| !output.lines().any(|line| line == text.as_str()))
    {
        miss("has line", text);
    }
    for text in &pair.output_matches {
        match regex::Regex::new(text) {
            Ok(regex) if output.lines().any(|line| regex.is_match(line)) => {}
            Ok(_) => miss("has no line that matches", text),
            Err(_) => miss("is no regular expression", text),
        }
    }
    out
}
