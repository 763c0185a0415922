//! Which conditions of a route do the decision types not hold?
//!
//! Envoy: `config_impl.cc: RouteEntryImplBase::matchRoute, ConnectRouteEntryImpl::matches`, `config_utility.cc: CookieMatcher`,
//! `common/matchers.cc: ValueMatcher`. Invariant: they are about the request as it arrives, so each is decided before a route is chosen.

use serde_json::Value;
use smol_str::SmolStr;

use super::RouterCheckError;
use super::cases::Case;
use super::fields::Fields;
use super::matchers::{self, HeaderCondition};
use crate::envoy::config::{MetadataMatcher, SafeRegex, StringMatcher};
use crate::envoy::{matching, path};

/// A condition.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// The number in a header.
    Header(HeaderCondition),
    /// A cookie.
    Cookie {
        /// Its name.
        name: SmolStr,
        /// What it has to be.
        expected: Cookie,
        /// Whether the condition is turned round.
        invert: bool,
        /// Whether a missing one counts as an empty one.
        missing_is_empty: bool,
    },
    /// `CONNECT`.
    Connect,
    /// The path without query.
    Path(SafeRegex),
    /// Dynamic metadata that is no text.
    Metadata {
        /// Where it is; its own condition asks for presence.
        place: MetadataMatcher,
        /// What it has to be.
        expected: Expected,
    },
    /// What the check tool has none of: state of filters, a client's certificate. Envoy: `router_check/router.cc: ToolConfig`.
    Absent(bool),
}

/// What a cookie has to be.
#[derive(Clone, Debug)]
pub(super) enum Cookie {
    Text(StringMatcher),
    Range(i64, i64),
    Present(bool),
}

/// What a value of metadata has to be.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Null,
    Number(f64),
    Range(f64, f64),
    Text(StringMatcher),
    Bool(bool),
    Present(bool),
    OneOf(Box<Expected>),
    Or(Vec<Expected>),
}

impl Condition {
    /// Whether a request meets it.
    pub(super) fn is_met(&self, case: &Case) -> bool {
        let request = &case.request;
        match self {
            Self::Header(condition) => condition.is_met(request),
            Self::Cookie { name, expected, invert, missing_is_empty } => {
                let lines = matching::values("cookie", request).map(SmolStr::as_str);
                let value = cookie(lines, name);
                let text = value.or_else(|| missing_is_empty.then_some(""));
                let met = match expected {
                    Cookie::Text(matcher) => text.is_some_and(|text| matching::string(matcher, text)),
                    Cookie::Range(start, end) => text
                        .and_then(|text| text.trim().parse().ok())
                        .is_some_and(|number: i64| (*start..*end).contains(&number)),
                    Cookie::Present(present) => value.is_some() == *present,
                };
                met != *invert
            }
            Self::Connect => request.method == "CONNECT",
            Self::Path(regex) => regex.is_match(path::without_query(&request.path)),
            Self::Metadata { place, expected } => {
                let start = case.metadata.get(place.filter.as_str());
                let value = start.and_then(|start| {
                    place.path.iter().try_fold(start, |value, key| value.as_object()?.get(key.as_str()))
                });
                expected.is_met(value) != place.invert
            }
            Self::Absent(met) => *met,
        }
    }
}

/// The first cookie of a name. Envoy: `http/utility.cc: Utility::parseCookies`.
fn cookie<'a>(lines: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let unquoted =
        |value: &'a str| value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value);
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| unquoted(value))
}

impl Expected {
    fn is_met(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Null => matches!(value, Some(Value::Null)),
            Self::Number(number) => value.and_then(Value::as_f64) == Some(*number),
            Self::Range(start, end) => {
                value.and_then(Value::as_f64).is_some_and(|number| (*start..*end).contains(&number))
            }
            Self::Text(matcher) => {
                value.and_then(Value::as_str).is_some_and(|text| matching::string(matcher, text))
            }
            Self::Bool(expected) => value.and_then(Value::as_bool) == Some(*expected),
            Self::Present(expected) => value.is_some() == *expected,
            Self::OneOf(inner) => value
                .and_then(Value::as_array)
                .is_some_and(|list| list.iter().any(|item| inner.is_met(Some(item)))),
            Self::Or(all) => all.iter().any(|inner| inner.is_met(value)),
        }
    }
}

/// A condition on a cookie.
pub(super) fn read_cookie(mut fields: Fields) -> Result<Condition, RouterCheckError> {
    let name = fields.required("name")?;
    let invert = fields.boolean("invert_match")?.unwrap_or_default();
    let missing_is_empty = fields.boolean("treat_missing_as_empty")?.unwrap_or_default();
    let mut found = Vec::new();
    found.extend(fields.message("string_match")?.map(matchers::string).transpose()?.map(Cookie::Text));
    found.extend(
        fields.message("range_match")?.map(range).transpose()?.map(|(start, end)| Cookie::Range(start, end)),
    );
    found.extend(fields.boolean("present_match")?.map(Cookie::Present));
    let field = fields.path().to_owned();
    fields.finish()?;
    if found.len() > 1 {
        return Err(RouterCheckError::Several { field, what: "condition" });
    }
    let expected = found.pop().unwrap_or(Cookie::Present(true));
    Ok(Condition::Cookie { name, expected, invert, missing_is_empty })
}

/// Beginning and end of a range, the end not in it.
pub(super) fn range(mut fields: Fields) -> Result<(i64, i64), RouterCheckError> {
    let start = fields.integer("start")?.unwrap_or_default();
    let end = fields.integer("end")?.unwrap_or_default();
    fields.finish()?;
    Ok((start, end))
}

/// A condition on the state that filters leave: there is none.
pub(super) fn read_filter_state(mut fields: Fields) -> Result<Condition, RouterCheckError> {
    fields.required("key")?;
    let text = fields.message("string_match")?.map(matchers::string).transpose()?;
    let address = fields.take("address_match");
    let field = fields.at("string_match");
    fields.finish()?;
    if text.is_none() && address.is_none() {
        return Err(RouterCheckError::Missing { field });
    }
    Ok(Condition::Absent(false))
}

/// A condition on the client's certificate: there is none.
pub(super) fn read_tls_context(mut fields: Fields) -> Result<Condition, RouterCheckError> {
    let wanted = [fields.boolean("presented")?, fields.boolean("validated")?];
    fields.finish()?;
    Ok(Condition::Absent(wanted.into_iter().flatten().all(|wanted| !wanted)))
}

/// A condition on dynamic metadata.
pub(super) fn read_metadata(mut fields: Fields) -> Result<Condition, RouterCheckError> {
    let filter = fields.required("filter")?;
    let path = fields.messages("path", |mut segment| {
        let key = segment.required("key")?;
        segment.finish()?;
        Ok(key)
    })?;
    if path.is_empty() {
        return Err(RouterCheckError::Missing { field: fields.at("path") });
    }
    let invert = fields.boolean("invert")?.unwrap_or_default();
    let Some(value) = fields.message("value")? else {
        return Err(RouterCheckError::Missing { field: fields.at("value") });
    };
    fields.finish()?;
    let place = MetadataMatcher { filter, path, matcher: None, or_list: false, invert };
    Ok(Condition::Metadata { place, expected: read_value(value)? })
}

/// A condition on a value. `envoy: type/matcher/v3/value.proto: ValueMatcher`.
fn read_value(mut fields: Fields) -> Result<Expected, RouterCheckError> {
    let mut found = Vec::new();
    if let Some(null) = fields.message("null_match")? {
        null.finish()?;
        found.push(Expected::Null);
    }
    if let Some(mut number) = fields.message("double_match")? {
        let exact = number.number("exact")?.map(Expected::Number);
        let range = match number.message("range")? {
            None => None,
            Some(mut range) => {
                let start = range.number("start")?.unwrap_or_default();
                let end = range.number("end")?.unwrap_or_default();
                range.finish()?;
                Some(Expected::Range(start, end))
            }
        };
        let field = number.at("exact");
        number.finish()?;
        found.push(exact.or(range).ok_or(RouterCheckError::Missing { field })?);
    }
    found.extend(fields.message("string_match")?.map(matchers::string).transpose()?.map(Expected::Text));
    found.extend(fields.boolean("bool_match")?.map(Expected::Bool));
    found.extend(fields.boolean("present_match")?.map(Expected::Present));
    if let Some(mut list) = fields.message("list_match")? {
        let inner = list.message("one_of")?;
        let field = list.at("one_of");
        list.finish()?;
        let inner = inner.ok_or(RouterCheckError::Missing { field })?;
        found.push(Expected::OneOf(Box::new(read_value(inner)?)));
    }
    if let Some(mut or) = fields.message("or_match")? {
        let all = or.messages("value_matchers", read_value)?;
        or.finish()?;
        found.push(Expected::Or(all));
    }
    let field = fields.path().to_owned();
    fields.finish()?;
    if found.len() > 1 {
        return Err(RouterCheckError::Several { field, what: "condition" });
    }
    found.pop().ok_or(RouterCheckError::Missing { field })
}
