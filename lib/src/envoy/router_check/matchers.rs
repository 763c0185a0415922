//! How are conditions read?
//!
//! `envoy: type/matcher/v3/string.proto`, `config/route/v3/route_components.proto: HeaderMatcher`.

use smol_str::{SmolStr, StrExt as _, format_smolstr};

use super::fields::Fields;
use super::{RouterCheckError, conditions};
use crate::envoy::config::{HeaderMatcher, QueryParameterMatcher, RegexRewrite, SafeRegex, StringMatcher};
use crate::envoy::matching;
use crate::envoy::request::HttpRequest;
use crate::re2;

/// A condition on a header in a test: the conditions of routes, and ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderCondition {
    /// The header, its text and whether it is turned round.
    pub(super) matcher: HeaderMatcher,
    /// Beginning and end of a range of numbers, the end not in it.
    pub(super) range: Option<(i64, i64)>,
    /// The header's name, as written.
    pub(super) name: SmolStr,
    /// The field that holds the condition, such as `string_match.exact`.
    pub(super) kind: SmolStr,
    /// `invert_match`, as written.
    pub(super) inverted: bool,
}

/// A regular expression.
pub(super) fn regex(mut fields: Fields) -> Result<SafeRegex, RouterCheckError> {
    let pattern = pattern(&mut fields)?;
    let field = fields.at("regex");
    fields.finish()?;
    SafeRegex::new(&pattern).map_err(|reason| RouterCheckError::Invalid { field, reason })
}

fn pattern(fields: &mut Fields) -> Result<SmolStr, RouterCheckError> {
    // The choice of the one engine that there is.
    if let Some(engine) = fields.message("google_re2")? {
        engine.finish()?;
    }
    fields.required("regex")
}

/// A substitution.
pub(super) fn substitution(mut fields: Fields) -> Result<RegexRewrite, RouterCheckError> {
    let Some(mut inner) = fields.message("pattern")? else {
        return Err(RouterCheckError::Missing { field: fields.at("pattern") });
    };
    let pattern = pattern(&mut inner)?;
    let field = inner.at("regex");
    inner.finish()?;
    re2::compile_search(&pattern).map_err(|reason| RouterCheckError::Invalid { field, reason })?;
    let substitution = fields.text("substitution")?.unwrap_or_default();
    fields.finish()?;
    Ok(RegexRewrite::new(pattern, substitution))
}

/// A condition on a text.
pub(super) fn string(mut fields: Fields) -> Result<StringMatcher, RouterCheckError> {
    let ignore_case = fields.boolean("ignore_case")?.unwrap_or_default();
    let path = fields.path().to_owned();
    let matcher = one_string(&mut fields, "")?.ok_or(RouterCheckError::Missing { field: path })?;
    fields.finish()?;
    // Envoy does not look at the setting for regular expressions.
    Ok(if ignore_case && !matches!(matcher, StringMatcher::SafeRegex(_)) {
        StringMatcher::IgnoreCase(Box::new(matcher))
    } else {
        matcher
    })
}

/// The one condition among fields whose names end with `suffix`; the names with a suffix are the older ones.
fn one_string(fields: &mut Fields, suffix: &str) -> Result<Option<StringMatcher>, RouterCheckError> {
    let mut found = Vec::new();
    for kind in ["exact", "prefix", "suffix", "contains"] {
        let name = format!("{kind}{suffix}");
        let Some(text) = fields.text(&name)? else { continue };
        if text.is_empty() && kind != "exact" {
            return Err(RouterCheckError::Missing { field: fields.at(&name) });
        }
        found.push(match kind {
            "exact" => StringMatcher::Exact(text),
            "prefix" => StringMatcher::Prefix(text),
            "suffix" => StringMatcher::Suffix(text),
            _ => StringMatcher::Contains(text),
        });
    }
    if let Some(inner) = fields.message(&format!("safe_regex{suffix}"))? {
        found.push(StringMatcher::SafeRegex(regex(inner)?));
    }
    if found.len() > 1 {
        return Err(RouterCheckError::Several { field: fields.path().to_owned(), what: "condition" });
    }
    Ok(found.pop())
}

impl HeaderCondition {
    /// Whether a message meets it.
    pub(super) fn is_met(&self, message: &HttpRequest) -> bool {
        let Self { matcher, range, .. } = self;
        let Some((start, end)) = range else { return matching::header(matcher, message) };
        // A header that is missing is in no range, inverted or not. Lines are tested as those of other conditions.
        let within = |line: &str| line.parse().is_ok_and(|number| (*start..*end).contains(&number));
        let mut lines = matching::values(&matcher.name, message).peekable();
        if lines.peek().is_none() {
            return matcher.treat_missing_header_as_empty && matcher.invert_match;
        }
        lines.any(|line| within(line)) != matcher.invert_match
    }
}

/// A condition on a header.
pub(super) fn header_condition(mut fields: Fields) -> Result<HeaderCondition, RouterCheckError> {
    let name = fields.required("name")?;
    let inverted = fields.boolean("invert_match")?.unwrap_or_default();
    let treat_missing_header_as_empty = fields.boolean("treat_missing_header_as_empty")?.unwrap_or_default();
    let mut kinds = Vec::new();
    let mut invert_match = inverted;
    let mut matcher = None;
    if let Some(inner) = fields.message("string_match")? {
        let condition = string(inner)?;
        kinds.push(format_smolstr!("string_match.{}", kind(&condition)));
        matcher = Some(condition);
    }
    if let Some(older) = one_string(&mut fields, "_match")? {
        kinds.push(format_smolstr!("{}_match", kind(&older)));
        matcher = Some(older);
    }
    if let Some(present) = fields.boolean("present_match")? {
        invert_match ^= !present;
        kinds.push(PRESENT);
    }
    let mut range = None;
    if let Some(inner) = fields.message("range_match")? {
        range = Some(conditions::range(inner)?);
        kinds.push(SmolStr::new_static("range_match"));
    }
    if kinds.len() > 1 {
        return Err(RouterCheckError::Several { field: fields.path().to_owned(), what: "condition" });
    }
    fields.finish()?;
    let kind = kinds.pop().unwrap_or(PRESENT);
    let lower = name.to_lowercase_smolstr();
    let matcher = HeaderMatcher { name: lower, matcher, invert_match, treat_missing_header_as_empty };
    Ok(HeaderCondition { matcher, range, name, kind, inverted })
}

/// What a condition without a text asks for.
const PRESENT: SmolStr = SmolStr::new_static("present_match");

/// The field of a condition on a text.
fn kind(matcher: &StringMatcher) -> &'static str {
    match matcher {
        StringMatcher::Exact(_) => "exact",
        StringMatcher::Prefix(_) => "prefix",
        StringMatcher::Suffix(_) => "suffix",
        StringMatcher::Contains(_) => "contains",
        StringMatcher::SafeRegex(_) => "safe_regex",
        StringMatcher::IgnoreCase(inner) => kind(inner),
    }
}

/// A condition on a query parameter.
pub(super) fn query(mut fields: Fields) -> Result<QueryParameterMatcher, RouterCheckError> {
    let name = fields.required("name")?;
    let matcher = fields.message("string_match")?.map(string).transpose()?;
    let present = fields.boolean("present_match")?;
    if present == Some(false) {
        return Err(RouterCheckError::Unsupported { field: fields.at("present_match") });
    }
    if present.is_some() && matcher.is_some() {
        return Err(RouterCheckError::Several { field: fields.path().to_owned(), what: "condition" });
    }
    fields.finish()?;
    Ok(QueryParameterMatcher { name, matcher })
}
