//! How is a string, header or query parameter compared?

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use smol_str::SmolStr;

/// A regular expression with RE2's syntax that has to match the whole value.
///
/// The pattern is compiled once; a pattern that RE2 refuses, or that cannot be translated, cannot be built.
#[derive(Clone)]
pub struct SafeRegex {
    pattern: SmolStr,
    /// `None` for a pattern that was refused.
    compiled: Option<Arc<regex::Regex>>,
}

impl SafeRegex {
    /// Compiles `pattern` for whole-value matches.
    ///
    /// # Errors
    ///
    /// The pattern is not one that RE2 accepts; the text says why.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let compiled = crate::re2::compile_full(pattern)?;
        Ok(Self { pattern: pattern.into(), compiled: Some(Arc::new(compiled)) })
    }

    /// A pattern that was refused: it keeps its text and matches nothing.
    pub fn never(pattern: &str) -> Self {
        Self { pattern: pattern.into(), compiled: None }
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole of `value` matches.
    pub fn is_match(&self, value: &str) -> bool {
        self.compiled.as_ref().is_some_and(|compiled| compiled.is_match(value))
    }
}

impl fmt::Debug for SafeRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SafeRegex").field(&self.pattern).finish()
    }
}

impl PartialEq for SafeRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for SafeRegex {}

/// A substitution of every match in a text, with RE2's syntax.
///
/// The pattern is compiled once, by the first request that needs it.
#[derive(Clone)]
pub struct RegexRewrite {
    pattern: SmolStr,
    substitution: SmolStr,
    /// `None` for a pattern that was refused.
    compiled: Arc<OnceLock<Option<regex::Regex>>>,
}

impl RegexRewrite {
    /// A substitution of `pattern` (a search, not a whole match); `\1` in `substitution` is a group.
    pub fn new(pattern: impl Into<SmolStr>, substitution: impl Into<SmolStr>) -> Self {
        Self { pattern: pattern.into(), substitution: substitution.into(), compiled: Arc::default() }
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// What is put in its place, as written.
    pub fn substitution(&self) -> &str {
        &self.substitution
    }

    /// The text with every match replaced; `\0` is the whole of it, `\1` to `\9` are its groups. RE2: `RE2::GlobalReplace`.
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let compiled = self.compiled.get_or_init(|| crate::re2::compile_search(&self.pattern).ok());
        let Some(compiled) = compiled else { return Cow::Borrowed(text) };
        compiled.replace_all(text, |captures: &regex::Captures<'_>| {
            let mut out = String::new();
            let mut template = self.substitution.chars();
            while let Some(c) = template.next() {
                match (c, if c == '\\' { template.next() } else { None }) {
                    ('\\', Some(escaped)) => match escaped.to_digit(10) {
                        Some(group) => {
                            out.push_str(captures.get(group as usize).map_or("", |m| m.as_str()));
                        }
                        None => out.push(escaped),
                    },
                    _ => out.push(c),
                }
            }
            out
        })
    }
}

impl fmt::Debug for RegexRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegexRewrite").field(&self.pattern).field(&self.substitution).finish()
    }
}

impl PartialEq for RegexRewrite {
    fn eq(&self, other: &Self) -> bool {
        (&self.pattern, &self.substitution) == (&other.pattern, &other.substitution)
    }
}

impl Eq for RegexRewrite {}

/// A pattern that a string is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatcher {
    /// The whole string.
    Exact(SmolStr),
    /// Its beginning.
    Prefix(SmolStr),
    /// Its end.
    Suffix(SmolStr),
    /// A part of it.
    Contains(SmolStr),
    /// The whole string, by regular expression.
    SafeRegex(SafeRegex),
    /// The same without regard to the letter case of ASCII letters (`ignore_case`).
    IgnoreCase(Box<StringMatcher>),
}

/// A condition on a request header (`config.route.v3.HeaderMatcher`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// The header, in lower case; `:method`, `:authority`, `:scheme` and `:path` for pseudo-headers.
    pub name: SmolStr,
    /// The condition; `None` asks for presence.
    pub matcher: Option<StringMatcher>,
    /// Whether the condition is turned round.
    pub invert_match: bool,
    /// Whether a missing header counts as an empty one.
    pub treat_missing_header_as_empty: bool,
}

/// A condition on a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParameterMatcher {
    /// The parameter's name, compared with case.
    pub name: SmolStr,
    /// The condition; `None` asks for presence.
    pub matcher: Option<StringMatcher>,
}

/// A condition on dynamic metadata, as istiod writes for `@request.auth.claims`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataMatcher {
    /// The filter whose metadata is read, such as `istio_authn`.
    pub filter: SmolStr,
    /// The path of keys.
    pub path: Vec<SmolStr>,
    /// The condition; `None` asks for presence.
    pub matcher: Option<StringMatcher>,
    /// Whether the value is a list of which one element has to match as well as a plain string.
    pub or_list: bool,
    /// Whether the condition is turned round.
    pub invert: bool,
}
