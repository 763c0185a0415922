//! Which rules of a VirtualService can never be used? Istio warns of them.
//!
//! istiod: `validation.go: analyzeUnreachableHTTPRules` and its siblings for TCP and TLS. Invariant: the time grows with
//! the number of matches, not with its square; of several earlier matches that cover a later one, the first is named.

use std::hash::{Hash, Hasher};

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHasher};
use smol_str::SmolStr;

use super::report::{At, Report};
use crate::manifest::schema::istio::{
    HttpMatchRequest, L4MatchAttributes, StringMatch, TlsMatchAttributes, VirtualService,
};

/// Prefixes longer than this are not compared.
const LONGEST_PREFIX: usize = 2048;
/// Earlier matches that a later one is compared with.
const MOST_COMPARED: usize = 256;

pub(super) fn check(report: &mut Report<'_>, spec: &At<'_>, vs: &VirtualService) {
    let lists: Vec<&[HttpMatchRequest]> = vs.http.iter().map(|r| r.match_.as_slice()).collect();
    let at = spec.field("http");
    let first = rules(report, &at, &lists, &Names::Http(vs));
    prefixes(report, &at, vs, &first);
    let lists: Vec<&[L4MatchAttributes]> = vs.tcp.iter().map(|r| r.match_.as_slice()).collect();
    rules(report, &spec.field("tcp"), &lists, &Names::Numbers);
    let lists: Vec<&[TlsMatchAttributes]> = vs.tls.iter().map(|r| r.match_.as_slice()).collect();
    rules(report, &spec.field("tls"), &lists, &Names::Numbers);
}

/// What rules and matches are called: by name where they have one, else by number.
enum Names<'v> {
    Http(&'v VirtualService),
    Numbers,
}

impl Names<'_> {
    fn rule(&self, rule: usize) -> String {
        match self {
            Self::Http(vs) => quoted(vs.http.get(rule).map(|route| &route.name), rule),
            Self::Numbers => format!("#{rule}"),
        }
    }

    fn condition(&self, rule: usize, index: usize) -> String {
        match self {
            Self::Http(vs) => {
                let condition = vs.http.get(rule).and_then(|route| route.match_.get(index));
                quoted(condition.map(|c| &c.name), index)
            }
            Self::Numbers => format!("#{index}"),
        }
    }
}

fn quoted(name: Option<&SmolStr>, number: usize) -> String {
    match name {
        Some(name) if !name.is_empty() => format!("\"{name}\""),
        _ => format!("#{number}"),
    }
}

/// A match's identity without its name.
trait Condition {
    /// A number that equal conditions share.
    fn fingerprint(&self) -> u64;
    /// Whether two conditions are equal.
    fn same(&self, other: &Self) -> bool;
}

impl Condition for HttpMatchRequest {
    fn fingerprint(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for value in [&self.uri, &self.scheme, &self.method, &self.authority] {
            text(value.as_ref()).hash(&mut hasher);
        }
        (self.port, &self.source_namespace, &self.gateways, self.ignore_uri_case).hash(&mut hasher);
        for map in [&self.headers, &self.query_params, &self.without_headers] {
            // The order of a map's entries does not count.
            let entries = map.iter().map(|(name, value)| {
                let mut hasher = FxHasher::default();
                (name, text(value.as_ref())).hash(&mut hasher);
                hasher.finish()
            });
            entries.fold(0, u64::wrapping_add).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn same(&self, other: &Self) -> bool {
        let nameless = |m: &Self| Self { name: SmolStr::default(), ..m.clone() };
        self == other || nameless(self) == nameless(other)
    }
}

fn text(value: Option<&StringMatch>) -> (u8, &str) {
    match value {
        None => (0, ""),
        Some(StringMatch::Unset) => (1, ""),
        Some(StringMatch::Exact(text)) => (2, text),
        Some(StringMatch::Prefix(text)) => (3, text),
        Some(StringMatch::Regex(text)) => (4, text),
    }
}

impl Condition for L4MatchAttributes {
    fn fingerprint(&self) -> u64 {
        let mut hasher = FxHasher::default();
        (self.port, &self.source_namespace, &self.gateways, &self.destination_subnets).hash(&mut hasher);
        hasher.finish()
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Condition for TlsMatchAttributes {
    fn fingerprint(&self) -> u64 {
        let mut hasher = FxHasher::default();
        (self.port, &self.source_namespace, &self.gateways, &self.destination_subnets, &self.sni_hosts)
            .hash(&mut hasher);
        hasher.finish()
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// Rules behind one that matches everything, and matches that stand in an earlier rule already.
///
/// Returns the matches that are neither, as rule and index.
fn rules<M: Condition>(
    report: &mut Report<'_>,
    at: &At<'_>,
    rules: &[&[M]],
    names: &Names<'_>,
) -> Vec<(usize, usize)> {
    let unused = |report: &mut Report<'_>, rule: usize, reason: &str| {
        let name = names.rule(rule);
        report.warn(&at.index(rule), format!("virtualService rule {name} not used ({reason})"));
    };
    let mut first = Vec::new();
    let mut seen: FxHashMap<u64, Vec<(usize, &M)>> = FxHashMap::default();
    let mut catch_all = false;
    for (rule, matches) in rules.iter().enumerate() {
        if matches.is_empty() {
            if catch_all {
                unused(report, rule, "only the last rule can have no matches");
            }
            catch_all = true;
            continue;
        }
        if catch_all {
            unused(report, rule, "route without matches defined before");
            continue;
        }
        // Nothing stands before a single match.
        if rules.len() == 1 && matches.len() == 1 {
            first.push((rule, 0));
            continue;
        }
        let mut duplicates = 0;
        for (index, condition) in matches.iter().enumerate() {
            let alike = seen.entry(condition.fingerprint()).or_default();
            match alike.iter().take(MOST_COMPARED).find(|(_, earlier)| earlier.same(condition)) {
                Some((earlier, _)) => {
                    report.warn(
                        &at.index(rule).field("match").index(index),
                        format!(
                            "virtualService rule {} match {} is not used (duplicate/overlapping match in rule {})",
                            names.rule(rule),
                            names.condition(rule, index),
                            names.rule(*earlier)
                        ),
                    );
                    duplicates += 1;
                }
                None => {
                    alike.push((rule, condition));
                    first.push((rule, index));
                }
            }
        }
        if duplicates == matches.len() {
            unused(report, rule, "all matches used by prior rules");
        }
    }
    first
}

/// A match by prefix.
struct Prefix<'m> {
    rule: usize,
    index: usize,
    prefix: &'m str,
    condition: &'m HttpMatchRequest,
}

/// Prefixes that a shorter one before them covers.
fn prefixes(report: &mut Report<'_>, at: &At<'_>, vs: &VirtualService, matches: &[(usize, usize)]) {
    if matches.len() < 2 {
        return;
    }
    let names = Names::Http(vs);
    let by_prefix = matches.iter().filter_map(|(rule, index)| {
        let condition = vs.http.get(*rule)?.match_.get(*index)?;
        match &condition.uri {
            Some(StringMatch::Prefix(prefix)) if (1..=LONGEST_PREFIX).contains(&prefix.len()) => {
                Some(Prefix { rule: *rule, index: *index, prefix, condition })
            }
            _ => None,
        }
    });
    let mut lengths = std::collections::BTreeSet::new();
    let mut earlier: FxHashMap<&str, Vec<Prefix<'_>>> = FxHashMap::default();
    for later in by_prefix {
        let cover = lengths
            .range(..later.prefix.len())
            .filter_map(|length| later.prefix.get(..*length).and_then(|start| earlier.get(start)))
            .flatten()
            .take(MOST_COMPARED)
            .filter(|first| covers(first.condition, later.condition))
            .min_by_key(|first| (first.rule, first.index));
        if let Some(cover) = cover {
            report.warn(
                &at.index(later.rule).field("match").index(later.index),
                format!(
                    "virtualService rule {} match {} of prefix {} is not used (duplicate/overlapping match in rule {} of prefix {} on {})",
                    names.rule(later.rule),
                    names.condition(later.rule, later.index),
                    later.prefix,
                    names.condition(cover.rule, cover.index),
                    cover.prefix,
                    names.rule(cover.rule)
                ),
            );
        }
        lengths.insert(later.prefix.len());
        earlier.entry(later.prefix).or_default().push(later);
    }
}

/// Whether the other conditions of `later` are at least as narrow. istiod: `coveredValidation`.
fn covers(earlier: &HttpMatchRequest, later: &HttpMatchRequest) -> bool {
    // A match without a method is taken for one of GET.
    let method = |m: &HttpMatchRequest| match exact_or_prefix(m.method.as_ref()) {
        text if text.is_empty() => "exact:GET".to_owned(),
        text => text,
    };
    earlier.port == later.port
        && method(earlier).starts_with(&method(later))
        && exact_or_prefix(earlier.authority.as_ref()).starts_with(&exact_or_prefix(later.authority.as_ref()))
        && covers_map(&earlier.headers, &later.headers)
        && covers_map(&earlier.query_params, &later.query_params)
        && covers_map(&earlier.without_headers, &later.without_headers)
}

fn exact_or_prefix(value: Option<&StringMatch>) -> String {
    match value {
        Some(StringMatch::Exact(text)) if !text.is_empty() => format!("exact:{text}"),
        Some(StringMatch::Prefix(text)) if !text.is_empty() => format!("prefix:{text}"),
        _ => String::new(),
    }
}

fn covers_map(
    a: &IndexMap<SmolStr, Option<StringMatch>>,
    b: &IndexMap<SmolStr, Option<StringMatch>>,
) -> bool {
    a.len() == b.len()
        && a.iter().all(|(name, value)| {
            b.get(name).is_some_and(|other| {
                exact_or_prefix(value.as_ref()).starts_with(&exact_or_prefix(other.as_ref()))
            })
        })
}
