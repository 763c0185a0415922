//! How are conditions read?
//!
//! `envoy: type/matcher/v3/string.proto`, `config/route/v3/route_components.proto: HeaderMatcher`.

use smol_str::{SmolStr, StrExt as _, format_smolstr};

use super::RouterCheckError;
use super::fields::Fields;
use crate::envoy::config::{
    HeaderMatcher, MetadataMatcher, QueryParameterMatcher, RegexRewrite, SafeRegex, StringMatcher,
};
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

/// A condition on a header of a route.
pub(super) fn header(fields: Fields) -> Result<HeaderMatcher, RouterCheckError> {
    let range = fields.at("range_match");
    let condition = header_condition(fields)?;
    match condition.range {
        None => Ok(condition.matcher),
        Some(_) => Err(RouterCheckError::Unsupported { field: range }),
    }
}

/// A condition on a header of a test.
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
    if let Some(mut inner) = fields.message("range_match")? {
        let start = inner.integer("start")?.unwrap_or_default();
        let end = inner.integer("end")?.unwrap_or_default();
        inner.finish()?;
        range = Some((start, end));
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

/// A condition on dynamic metadata.
pub(super) fn metadata(mut fields: Fields) -> Result<MetadataMatcher, RouterCheckError> {
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
    let Some(mut value) = fields.message("value")? else {
        return Err(RouterCheckError::Missing { field: fields.at("value") });
    };
    fields.finish()?;
    let matcher = value.message("string_match")?.map(string).transpose()?;
    let present = value.boolean("present_match")?;
    let (at, present_at) = (value.path().to_owned(), value.at("present_match"));
    value.finish()?;
    match (present, &matcher) {
        (Some(true), None) | (None, Some(_)) => {}
        (None, None) => return Err(RouterCheckError::Missing { field: at }),
        (Some(_), Some(_)) => return Err(RouterCheckError::Several { field: at, what: "condition" }),
        (Some(false), None) => return Err(RouterCheckError::Unsupported { field: present_at }),
    }
    Ok(MetadataMatcher { filter, path, matcher, or_list: false, invert })
}
