//! Does a route table do with requests what its tests say?
//!
//! The question of Envoy's route table check tool, for an Envoy v3 `RouteConfiguration` as JSON or YAML, and tests in the tool's format as
//! JSON, YAML or protobuf text. Matching, rewrites, redirects and header operations are those of every other decision. Invariant: a field
//! that matters to an expectation and is not supported is an error that names it, never passed over.

mod action;
mod cases;
mod conditions;
mod config;
mod coverage;
mod fields;
mod host_matcher;
mod matchers;
mod schema;
mod text_format;
mod text_print;
mod uri_template;
mod weights;

pub use self::coverage::CoverageMeasure;

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::Value;
use smol_str::{SmolStr, ToSmolStr as _};

use self::cases::{Case, Expected};
use self::config::Table;
use self::coverage::{Aspect, Coverage};
use self::matchers::HeaderCondition;
use super::config::{Action, Route, StringMatcher};
use super::headers::Headers;
use super::http::routed::{self, Question, Routed, Taken, WeightedChoice};
use super::matching;
use super::request::HttpRequest;

/// Why a route configuration or its tests cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouterCheckError {
    /// The text is not in the format that it is taken for.
    #[error("{reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// A field is not supported, or there is no such field.
    #[error("{field}: there is no such field, or it is not supported")]
    Unsupported {
        /// The field's path.
        field: String,
    },
    /// A field has the wrong type.
    #[error("{field}: {expected} is expected")]
    WrongType {
        /// The field's path.
        field: String,
        /// What is expected.
        expected: &'static str,
    },
    /// A field has to be there and is not.
    #[error("{field}: this field is missing or empty")]
    Missing {
        /// The field's path.
        field: String,
    },
    /// Fields exclude each other.
    #[error("{field}: only one {what} can be given")]
    Several {
        /// The path of the message.
        field: String,
        /// What the fields are.
        what: &'static str,
    },
    /// Envoy refuses the value.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's path.
        field: String,
        /// Why.
        reason: String,
    },
}

/// A route configuration that can be tested.
#[derive(Clone, Debug)]
pub struct RouteTable(Table);

impl RouteTable {
    /// Reads an Envoy v3 `RouteConfiguration`, as JSON or YAML.
    ///
    /// # Errors
    ///
    /// The text cannot be read, Envoy would refuse it, or it has a field that is not supported.
    pub fn parse(text: &str) -> Result<Self, RouterCheckError> {
        config::table(parse(text)?).map(Self)
    }
}

/// Tests of a route configuration.
#[derive(Clone, Debug)]
pub struct RouteTests(Vec<Case>);

impl RouteTests {
    /// Reads tests in the format of Envoy's tool, as JSON or YAML.
    ///
    /// # Errors
    ///
    /// The text cannot be read, or it has a field that is not supported.
    pub fn parse(text: &str) -> Result<Self, RouterCheckError> {
        cases::cases(parse(text)?).map(Self)
    }

    /// Reads tests in the format of Envoy's tool, as protobuf text.
    ///
    /// # Errors
    ///
    /// The text cannot be read, or it has a field that is not supported; line and column are said for what is not in the format.
    pub fn parse_text_format(text: &str) -> Result<Self, RouterCheckError> {
        cases::cases(text_format::read(text, &schema::VALIDATION)?).map(Self)
    }
}

/// YAML reads JSON as well, and is as lenient with it as Envoy (commas at the end of lists).
fn parse(text: &str) -> Result<Value, RouterCheckError> {
    serde_json::from_str(text)
        .or_else(|_| serde_yaml::from_str(text))
        .map_err(|error| RouterCheckError::Syntax { reason: error.to_string() })
}

/// What came of the tests.
#[derive(Clone, Debug)]
pub struct RouterCheckReport {
    /// One for each test, in order.
    pub tests: Vec<RouteTestResult>,
    /// How many per cent of the routes some expectation that held was about; not a number for a table without routes.
    pub coverage: f64,
    /// The routes without tests, where the measure names them.
    pub missing: Vec<String>,
}

impl RouterCheckReport {
    /// Whether every test passed.
    pub fn passed(&self) -> bool {
        self.tests.iter().all(|test| test.failures.is_empty())
    }

    /// The report as Envoy's tool prints it: names of tests, what failed under them, and the coverage if all passed.
    /// The tool prints what failed on its other output; here it stays in order under the names.
    ///
    /// `envoy: router_check/router.cc: RouterCheckTool::printResults`, `router_check.cc: main`.
    pub fn text(&self, shown: ShownTests) -> String {
        let mut out = String::new();
        for test in &self.tests {
            let show = match shown {
                ShownTests::None => false,
                ShownTests::All => true,
                ShownTests::Failed => !test.failures.is_empty(),
            };
            if show {
                let _ = writeln!(out, "{}", test.name);
                for failure in &test.failures {
                    let _ = writeln!(out, "{failure}");
                }
            }
        }
        if self.passed() {
            for missing in &self.missing {
                let _ = writeln!(out, "Missing test for {missing}");
            }
            let _ = writeln!(out, "Current route coverage: {}%", percentage(self.coverage));
        }
        out
    }
}

/// Which tests a report shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShownTests {
    /// None.
    #[default]
    None,
    /// All (`--details`).
    All,
    /// Those that failed (`--only-show-failures`).
    Failed,
}

/// A number of per cent with six digits at most, as C++ prints one.
pub fn percentage(number: f64) -> String {
    if number.is_nan() {
        return "-nan".into();
    }
    let whole = number.abs().trunc().to_string().len();
    let text = format!("{number:.0$}", 6_usize.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTestResult {
    /// Its name.
    pub name: String,
    /// What was not as expected; nothing means that the test passed.
    pub failures: Vec<RouteTestFailure>,
}

/// An expectation that did not hold; shown as Envoy's tool shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTestFailure {
    /// What was expected; `None` where the tool does not say it.
    pub expected: Option<String>,
    /// What is the case.
    pub actual: String,
    /// Whether the case is the one that must not be.
    pub inverted: bool,
    /// The expectation's field, such as `cluster_name`.
    pub test_type: String,
}

impl fmt::Display for RouteTestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(expected) = &self.expected {
            write!(f, "expected: [{expected}], ")?;
        }
        let not = if self.inverted { "NOT " } else { "" };
        write!(f, "actual: {not}[{}], test type: {}", self.actual, self.test_type)
    }
}

/// Runs tests of a route configuration.
pub fn check(table: &RouteTable, tests: &RouteTests, measure: CoverageMeasure) -> RouterCheckReport {
    let table = &table.0;
    let mut coverage = Coverage::default();
    let mut results = Vec::with_capacity(tests.0.len());
    for case in &tests.0 {
        let configuration = table.active(case);
        let routed = routed::ask(Question {
            configuration: &configuration,
            request: case.request.clone(),
            response: case.response.clone(),
            metadata: &case.metadata,
            host: table
                .vhost_header
                .as_ref()
                .map(|header| matching::values(header, &case.request).next().cloned().unwrap_or_default()),
            most_specific_wins: table.most_specific_wins,
            weights: &Chosen { table, case },
        });
        let mut run = Run { table, case, routed: &routed, failures: Vec::new(), coverage: &mut coverage };
        run.expectations();
        results.push(RouteTestResult { name: case.name.clone(), failures: run.failures });
    }
    RouterCheckReport {
        tests: results,
        coverage: coverage.percentage(table, measure),
        missing: coverage.missing(table, measure),
    }
}

/// What chooses weighted clusters in a test.
struct Chosen<'a> {
    table: &'a Table,
    case: &'a Case,
}

impl WeightedChoice for Chosen<'_> {
    fn number(&self, route: &Arc<Route>) -> u64 {
        let random = self.case.random_value;
        self.table.route(route).map_or(random, |entry| entry.weights.number(&self.case.request, random))
    }

    fn cluster(&self, route: &Arc<Route>, place: usize) -> Option<SmolStr> {
        self.table.route(route)?.weights.cluster(place, &self.case.request)
    }
}

/// One test on its way.
struct Run<'a> {
    table: &'a Table,
    case: &'a Case,
    routed: &'a Routed,
    failures: Vec<RouteTestFailure>,
    coverage: &'a mut Coverage,
}

impl Run<'_> {
    fn expectations(&mut self) {
        let Expected {
            cluster_name,
            virtual_cluster_name,
            virtual_host_name,
            path_rewrite,
            host_rewrite,
            path_redirect,
            code_redirect,
            timeout,
            route_metadata,
            request_fields,
            response_fields,
            request_headers,
            response_headers,
        } = &self.case.expected;
        let routed = self.routed;
        // Only a route to a cluster has these names and rewrites. Envoy: `router_check/router.cc`, which asks its `routeEntry()`.
        let (entry, cluster) = match &routed.taken {
            Taken::Forward { route, cluster, .. } => (Some(&route.1), cluster.clone()),
            _ => (None, SmolStr::default()),
        };
        let entry_text = |text: SmolStr| if entry.is_some() { text } else { SmolStr::default() };
        let host = routed.virtual_host.as_ref().map(|host| host.name.clone()).unwrap_or_default();
        let texts = [
            (cluster_name, cluster, "cluster_name", Aspect::Cluster),
            (
                virtual_cluster_name,
                entry_text(self.virtual_cluster()),
                "virtual_cluster_name",
                Aspect::VirtualCluster,
            ),
            (virtual_host_name, entry_text(host), "virtual_host_name", Aspect::VirtualHost),
            (path_rewrite, entry_text(routed.request.path.clone()), "path_rewrite", Aspect::PathRewrite),
            (host_rewrite, entry_text(routed.request.authority.clone()), "host_rewrite", Aspect::HostRewrite),
        ];
        for (expected, actual, test_type, aspect) in texts {
            if self.same(expected.as_deref(), &actual, test_type) && entry.is_some() {
                self.coverage.mark(self.table, &routed.taken, aspect);
            }
        }
        let (location, status) = match &routed.taken {
            Taken::TlsRedirect { location } => (location.as_str(), 301),
            Taken::Answer { location, status, .. } => (location.as_str(), *status),
            Taken::Forward { .. } | Taken::Nothing => ("", 0),
        };
        let code = code_redirect.map(|code| code.to_smolstr());
        let answers = matches!(routed.taken, Taken::TlsRedirect { .. } | Taken::Answer { .. });
        if self.same(path_redirect.as_deref(), location, "path_redirect") && answers {
            self.coverage.mark(self.table, &routed.taken, Aspect::RedirectPath);
        }
        if self.same(code.as_deref(), &status.to_smolstr(), "code_redirect") && answers {
            self.coverage.mark(self.table, &routed.taken, Aspect::RedirectCode);
        }
        let response = response(&routed.response);
        let subjects = [
            (
                &routed.request,
                request_headers,
                "request_header_matches",
                request_fields,
                "request_header_fields",
            ),
            (
                &response,
                response_headers,
                "response_header_matches",
                response_fields,
                "response_header_fields",
            ),
        ];
        for (subject, conditions, condition_type, fields, field_type) in subjects {
            for condition in conditions {
                self.header(condition, subject, condition_type);
            }
            for (name, value) in fields {
                let actual = matching::values(name, subject).next().cloned().unwrap_or_default();
                self.same(Some(value), &actual, field_type);
            }
        }
        if let Some(timeout) = timeout {
            let actual = match entry.map(|route| &route.action) {
                Some(Action::Route(action)) => seconds(action.timeout),
                _ => String::new(),
            };
            self.same(Some(&seconds(*timeout)), &actual, "timeout");
        }
        for (namespace, key, value) in route_metadata {
            let actual = self.metadata(namespace, key).unwrap_or_default();
            self.same(Some(value), &actual, "route_metadata");
        }
    }

    /// Compares what is expected, if anything is; whether it is so.
    fn same(&mut self, expected: Option<&str>, actual: &str, test_type: &str) -> bool {
        let Some(expected) = expected else { return false };
        if expected != actual {
            self.failures.push(RouteTestFailure {
                expected: Some(expected.into()),
                actual: actual.into(),
                inverted: false,
                test_type: test_type.into(),
            });
        }
        expected == actual
    }

    /// The virtual cluster of the request after the route's rewrites, which is when the tool looks for it.
    ///
    /// Envoy: `config_impl.cc: VirtualHostImpl::virtualClusterFromEntries`: the first whose headers match, else `other`, if there are any.
    fn virtual_cluster(&self) -> SmolStr {
        let host = self.routed.virtual_host.as_ref().and_then(|host| self.table.host(host));
        let clusters = host.map_or(&[][..], |host| &host.virtual_clusters);
        let request = &self.routed.request;
        let fits = clusters.iter().find(|cluster| cluster.headers.iter().all(|m| m.is_met(request)));
        match fits {
            Some(cluster) => cluster.name.clone(),
            None if clusters.is_empty() => SmolStr::default(),
            None => SmolStr::new_static("other"),
        }
    }

    fn metadata(&self, namespace: &str, key: &str) -> Option<SmolStr> {
        let (Taken::Forward { route, .. } | Taken::Answer { route, .. }) = &self.routed.taken else {
            return None;
        };
        let found = self.table.route(&route.1)?;
        found.metadata.get(namespace)?.get(key)?.as_str().map(SmolStr::new)
    }

    /// Compares a header. Envoy: `router_check/router.cc: RouterCheckTool::matchHeaderField`.
    fn header(&mut self, condition: &HeaderCondition, subject: &HttpRequest, test_type: &str) {
        if condition.is_met(subject) {
            return;
        }
        let HeaderCondition { matcher, range, name, kind, inverted } = condition;
        // What is shown is the first line.
        let value = matching::values(&matcher.name, subject).next();
        let actual = format!("{name}: {}", value.map_or("NULL", SmolStr::as_str));
        let (expected, actual, inverted) = match (&matcher.matcher, range) {
            (Some(StringMatcher::Exact(text)), None) => (Some(format!("{name}: {text}")), actual, *inverted),
            (None, None) => {
                (Some(format!("has({name}):{}", !inverted)), format!("has({name}):{inverted}"), false)
            }
            _ => (None, actual, false),
        };
        let test_type = format!("{test_type}.{kind}");
        self.failures.push(RouteTestFailure { expected, actual, inverted, test_type });
    }
}

/// A response's headers, as conditions read them.
fn response(lines: &Headers) -> HttpRequest {
    HttpRequest {
        method: SmolStr::default(),
        path: SmolStr::default(),
        authority: SmolStr::default(),
        scheme: None,
        headers: lines.clone(),
        no_host: false,
        body: crate::envoy::Body::Declared,
    }
}

/// A duration in seconds, without zeros at its end.
fn seconds(duration: std::time::Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
