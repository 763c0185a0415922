//! Does a request meet a route's conditions?
//!
//! Envoy: `config_impl.cc: RouteEntryImplBase::matchRoute`, `header_utility.cc`. Measured with Envoy 1.40: each line of a
//! header is tested alone, any hit counts; query parameters are not decoded and the first value counts.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::config::{
    HeaderMatcher, MetadataMatcher, PathSpecifier, QueryParameterMatcher, Route, RouteMatch, StringMatcher,
};
use super::path;
use super::recorder::{FailedCondition, NearMiss, NearMissKind};
use super::request::HttpRequest;

/// Values that filters leave for each other: filter name, then a JSON object.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// What conditions are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The request, with `:scheme` set.
    pub request: &'a HttpRequest,
    /// Dynamic metadata.
    pub metadata: &'a Metadata,
}

/// The first condition of a route that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmet {
    /// The path.
    Path,
    /// A header, by its place.
    Header(usize),
    /// A query parameter, by its place.
    Query(usize),
    /// Metadata, by its place.
    Metadata(usize),
}

/// Whether a text meets a condition.
pub fn string(matcher: &StringMatcher, text: &str) -> bool {
    match matcher {
        StringMatcher::Exact(value) => text == value,
        StringMatcher::Prefix(value) => text.starts_with(value.as_str()),
        StringMatcher::Suffix(value) => text.ends_with(value.as_str()),
        StringMatcher::Contains(value) => text.contains(value.as_str()),
        StringMatcher::SafeRegex(regex) => regex.is_match(text),
        StringMatcher::IgnoreCase(inner) => string_in_any_case(inner, text),
    }
}

fn string_in_any_case(matcher: &StringMatcher, text: &str) -> bool {
    let bytes = text.as_bytes();
    match matcher {
        StringMatcher::Exact(value) => text.eq_ignore_ascii_case(value),
        StringMatcher::Prefix(value) => {
            bytes.get(..value.len()).is_some_and(|start| start.eq_ignore_ascii_case(value.as_bytes()))
        }
        StringMatcher::Suffix(value) => bytes
            .len()
            .checked_sub(value.len())
            .and_then(|at| bytes.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(value.as_bytes())),
        StringMatcher::Contains(value) => text.to_ascii_lowercase().contains(&value.to_ascii_lowercase()),
        // Envoy does not look at the setting for regular expressions.
        StringMatcher::SafeRegex(_) | StringMatcher::IgnoreCase(_) => string(matcher, text),
    }
}

/// Whether the request meets all conditions of a route.
///
/// # Errors
///
/// The first condition that it does not meet.
pub(crate) fn route(conditions: &RouteMatch, subject: Subject<'_>) -> Result<(), Unmet> {
    // Envoy looks at the path last; the order cannot be seen, and the path rules out most routes.
    if !path_matches(conditions, path::without_query(&subject.request.path)) {
        return Err(Unmet::Path);
    }
    if let Some(i) = conditions.headers.iter().position(|matcher| !header(matcher, subject.request)) {
        return Err(Unmet::Header(i));
    }
    if let Some(i) =
        conditions.query_parameters.iter().position(|matcher| !query(matcher, &subject.request.path))
    {
        return Err(Unmet::Query(i));
    }
    if let Some(i) =
        conditions.dynamic_metadata.iter().position(|matcher| !metadata(matcher, subject.metadata))
    {
        return Err(Unmet::Metadata(i));
    }
    Ok(())
}

fn path_matches(conditions: &RouteMatch, path: &str) -> bool {
    let prefix = |text: &str| {
        if conditions.case_sensitive {
            path.starts_with(text)
        } else {
            path.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
        }
    };
    match &conditions.path {
        PathSpecifier::Prefix(text) => prefix(text),
        PathSpecifier::Path(text) if conditions.case_sensitive => path == text,
        PathSpecifier::Path(text) => path.eq_ignore_ascii_case(text),
        PathSpecifier::SafeRegex(regex) => regex.is_match(path),
        PathSpecifier::PathSeparatedPrefix(text) => {
            prefix(text) && matches!(path.as_bytes().get(text.len()), None | Some(b'/'))
        }
    }
}

/// The values of a header, or of a pseudo-header, line by line.
pub(crate) fn values<'a>(name: &'a str, request: &'a HttpRequest) -> impl Iterator<Item = &'a SmolStr> {
    let pseudo = match name {
        ":method" => Some(&request.method),
        ":authority" | "host" => Some(&request.authority),
        ":path" => Some(&request.path),
        ":scheme" => request.scheme.as_ref(),
        _ => None,
    };
    // No line has the name of a pseudo-header.
    let lines = request.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value);
    pseudo.into_iter().chain(lines)
}

/// Whether the request meets a condition on a header.
pub fn header(matcher: &HeaderMatcher, request: &HttpRequest) -> bool {
    lines(matcher, values(&matcher.name, request).map(SmolStr::as_str))
}

fn lines<'a>(matcher: &HeaderMatcher, values: impl Iterator<Item = &'a str>) -> bool {
    let mut values = values.peekable();
    let present = values.peek().is_some();
    let Some(condition) = &matcher.matcher else { return present != matcher.invert_match };
    let hit = if present {
        values.any(|value| string(condition, value))
    } else if matcher.treat_missing_header_as_empty {
        string(condition, "")
    } else {
        // A missing header meets no condition, not even an inverted one.
        return false;
    };
    hit != matcher.invert_match
}

/// The first value of a query parameter; not decoded.
pub(crate) fn query_parameter<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    let query = query.split_once('#').map_or(query, |(before, _)| before);
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| v)
}

fn query(matcher: &QueryParameterMatcher, path: &str) -> bool {
    let value = query_parameter(path, &matcher.name);
    match (&matcher.matcher, value) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(condition), Some(value)) => string(condition, value),
    }
}

/// Whether metadata meets a condition.
pub fn metadata(matcher: &MetadataMatcher, metadata: &Metadata) -> bool {
    use serde_json::Value;
    let value = metadata.get(matcher.filter.as_str()).and_then(|start| {
        matcher.path.iter().try_fold(start, |value, key| value.as_object()?.get(key.as_str()))
    });
    let text = |value: &Value, condition: &StringMatcher| match value {
        Value::String(text) => string(condition, text),
        _ => false,
    };
    let hit = match (value, &matcher.matcher) {
        (None | Some(Value::Null), _) => false,
        (Some(_), None) => true,
        (Some(Value::Array(list)), Some(condition)) => {
            matcher.or_list && list.iter().any(|item| text(item, condition))
        }
        (Some(value), Some(condition)) => text(value, condition),
    };
    hit != matcher.invert
}

/// The routes that came closest to a match, the closest first: those whose path fits, then those whose path has most in
/// common with the request's.
pub(crate) fn near_misses(routes: &[Arc<Route>], subject: Subject<'_>) -> Vec<NearMiss> {
    const SHOWN: usize = 8;
    let path = path::without_query(&subject.request.path);
    let common = |conditions: &RouteMatch| match &conditions.path {
        PathSpecifier::Prefix(text)
        | PathSpecifier::Path(text)
        | PathSpecifier::PathSeparatedPrefix(text) => {
            text.bytes().zip(path.bytes()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
        }
        PathSpecifier::SafeRegex(_) => 0,
    };
    let mut close: Vec<(usize, usize, &Route, Unmet)> = Vec::new();
    for (index, found) in routes.iter().enumerate() {
        if let Err(unmet) = route(&found.route_match, subject) {
            let rank = if unmet == Unmet::Path { common(&found.route_match) } else { usize::MAX };
            close.push((rank, index, found, unmet));
        }
    }
    close.sort_by_key(|(rank, index, ..)| (std::cmp::Reverse(*rank), *index));
    close
        .into_iter()
        .take(SHOWN)
        .map(|(_, index, found, unmet)| near_miss(index, found, unmet, subject))
        .collect()
}

/// A route that did not match, with the condition that failed, for display.
fn near_miss(index: usize, route: &Route, unmet: Unmet, subject: Subject<'_>) -> NearMiss {
    let conditions = &route.route_match;
    let (h, q) = (conditions.headers.len(), conditions.query_parameters.len());
    let (place, condition, got, expected) = match unmet {
        Unmet::Path => (
            0,
            SmolStr::new_static("path"),
            show_path(conditions),
            path::without_query(&subject.request.path).into(),
        ),
        Unmet::Header(i) => {
            let matcher = conditions.headers.get(i);
            let name = matcher.map(|m| m.name.clone()).unwrap_or_default();
            let expected = match name.as_str() {
                ":method" => subject.request.method.clone(),
                ":authority" | "host" => subject.request.authority.clone(),
                ":scheme" => subject.request.scheme.clone().unwrap_or_default(),
                name => super::headers::joined(&subject.request.headers, name).unwrap_or_default(),
            };
            let shown = match name.strip_prefix(':') {
                Some(pseudo) => pseudo.into(),
                None => format_smolstr!("header {name}"),
            };
            let got = matcher.map(|m| show(m.matcher.as_ref(), m.invert_match)).unwrap_or_default();
            (1 + i, shown, got, expected)
        }
        Unmet::Query(i) => {
            let matcher = conditions.query_parameters.get(i);
            let name = matcher.map(|m| m.name.clone()).unwrap_or_default();
            let expected = query_parameter(&subject.request.path, &name).unwrap_or_default().into();
            let got = matcher.map(|m| show(m.matcher.as_ref(), false)).unwrap_or_default();
            (1 + h + i, format_smolstr!("query parameter {name}"), got, expected)
        }
        Unmet::Metadata(i) => {
            let matcher = conditions.dynamic_metadata.get(i);
            let path = matcher.map(|m| m.path.join(".")).unwrap_or_default();
            let got = matcher.map(|m| show(m.matcher.as_ref(), m.invert)).unwrap_or_default();
            (1 + h + q + i, format_smolstr!("metadata {path}"), got, SmolStr::default())
        }
    };
    NearMiss {
        kind: NearMissKind::Route,
        index,
        name: route.name.clone(),
        origin: route.origin.clone(),
        failed: FailedCondition {
            condition,
            expected,
            got,
            origin: conditions.origins.get(place).unwrap_or(&route.origin).clone(),
        },
    }
}

fn show_path(conditions: &RouteMatch) -> SmolStr {
    let case = if conditions.case_sensitive { "" } else { " (any case)" };
    match &conditions.path {
        PathSpecifier::Prefix(text) => format_smolstr!("{text}*{case}"),
        PathSpecifier::Path(text) => format_smolstr!("{text}{case}"),
        PathSpecifier::SafeRegex(regex) => format_smolstr!("regex {}", regex.pattern()),
        PathSpecifier::PathSeparatedPrefix(text) => format_smolstr!("{text}[/*]{case}"),
    }
}

fn show(matcher: Option<&StringMatcher>, invert: bool) -> SmolStr {
    let not = if invert { "not " } else { "" };
    match matcher {
        None if invert => SmolStr::new_static("absent"),
        None => SmolStr::new_static("present"),
        Some(StringMatcher::Exact(text)) => format_smolstr!("{not}{text}"),
        Some(StringMatcher::Prefix(text)) => format_smolstr!("{not}{text}*"),
        Some(StringMatcher::Suffix(text)) => format_smolstr!("{not}*{text}"),
        Some(StringMatcher::Contains(text)) => format_smolstr!("{not}*{text}*"),
        Some(StringMatcher::SafeRegex(regex)) => format_smolstr!("{not}regex {}", regex.pattern()),
        Some(StringMatcher::IgnoreCase(inner)) => format_smolstr!("{} (any case)", show(Some(inner), invert)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::SafeRegex;

    fn request(path: &str, headers: &[(&str, &str)]) -> HttpRequest {
        HttpRequest {
            method: "GET".into(),
            path: path.into(),
            authority: "a.test:80".into(),
            scheme: Some("http".into()),
            headers: headers.iter().map(|(k, v)| (SmolStr::new(k), SmolStr::new(v))).collect(),
            no_host: false,
            body: crate::envoy::Body::Declared,
        }
    }

    fn matcher(name: &str, matcher: Option<StringMatcher>, invert: bool, empty: bool) -> HeaderMatcher {
        HeaderMatcher {
            name: name.into(),
            matcher,
            invert_match: invert,
            treat_missing_header_as_empty: empty,
        }
    }

    #[test]
    fn headers_are_tested_line_by_line() {
        let two = request("/", &[("x-a", "a"), ("x-a", "b"), ("x-e", "")]);
        let exact = |text: &str| Some(StringMatcher::Exact(text.into()));
        for (expected, condition) in [
            (true, matcher("x-a", exact("b"), false, false)),
            (false, matcher("x-a", exact("a,b"), false, false)),
            (false, matcher("x-a", exact("b"), true, true)),
            (true, matcher("x-a", exact("c"), true, true)),
            (true, matcher("x-none", exact("c"), true, true)),
            (false, matcher("x-none", exact("c"), true, false)),
            (false, matcher("x-none", exact(""), false, false)),
            (true, matcher("x-e", exact(""), false, false)),
            (true, matcher("x-e", None, false, false)),
            (true, matcher("x-none", None, true, false)),
            (false, matcher("x-e", None, true, false)),
            (true, matcher(":authority", exact("a.test:80"), false, false)),
            (true, matcher("host", exact("a.test:80"), false, false)),
        ] {
            assert_eq!(header(&condition, &two), expected, "{condition:?}");
        }
    }

    #[test]
    fn paths() {
        let check = |path: PathSpecifier, case: bool, sent: &str| {
            let conditions = RouteMatch {
                path,
                case_sensitive: case,
                headers: Vec::new(),
                query_parameters: Vec::new(),
                dynamic_metadata: Vec::new(),
                origins: Vec::new(),
            };
            let request = request(sent, &[]);
            route(&conditions, Subject { request: &request, metadata: &Metadata::new() }).is_ok()
        };
        assert!(check(PathSpecifier::Prefix("/pre".into()), true, "/prefixed"));
        assert!(!check(PathSpecifier::Prefix("/dir/".into()), true, "/dir"));
        assert!(check(PathSpecifier::Path("/Exact".into()), false, "/exact?q"));
        assert!(!check(PathSpecifier::Path("/exact".into()), true, "/exact/"));
        for (sent, expected) in [("/psp", true), ("/psp/", true), ("/psp?x", true), ("/pspx", false)] {
            assert_eq!(check(PathSpecifier::PathSeparatedPrefix("/psp".into()), true, sent), expected);
        }
        assert!(!check(PathSpecifier::SafeRegex(SafeRegex::new("/v[0-9]").unwrap()), true, "/v10"));
    }

    #[test]
    fn query_parameters_are_not_decoded_and_the_first_counts() {
        assert_eq!(query_parameter("/?a=1&a=2&e&f=#x", "a"), Some("1"));
        assert_eq!(query_parameter("/?a=%31", "a"), Some("%31"));
        assert_eq!(query_parameter("/?e", "e"), Some(""));
        assert_eq!(query_parameter("/?A=1", "a"), None);
    }
}
