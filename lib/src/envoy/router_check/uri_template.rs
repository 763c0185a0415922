//! How is a path compared with a URI template, and rewritten by one?
//!
//! Envoy: `path/uri_template_lib/uri_template_internal.cc: parseURLPatternSyntax, toRegexPattern`, `uri_template.cc: parseRewritePattern`:
//! both become regular expressions. Invariant: a template that was read has a pattern that matches whole paths.

use std::fmt::Write as _;

use smol_str::SmolStr;

use super::RouterCheckError;
use super::fields::Fields;
use crate::envoy::config::{RegexRewrite, SafeRegex};

/// Characters of a literal.
const LITERAL: &str = "a-zA-Z0-9-._~%!$&'()+,;:@";
/// Variables of a template at most.
const MAX_VARIABLES: usize = 5;
/// Letters of a variable's name at most.
const MAX_NAME: usize = 16;

/// A template that paths are compared with.
#[derive(Clone, Debug)]
pub(super) struct UriTemplate {
    pattern: String,
    /// The names of its variables, in the order of their groups.
    variables: Vec<String>,
}

/// What is wrong with a template.
type Wrong = &'static str;

impl UriTemplate {
    /// Reads the extension of a path matcher.
    pub(super) fn read(fields: Fields) -> Result<Self, RouterCheckError> {
        let (field, text) = config(fields, "path_template", "UriTemplateMatchConfig")?;
        Self::parse(&text).map_err(|reason| RouterCheckError::Invalid { field, reason: reason.to_owned() })
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let mut rest = text.strip_prefix('/').ok_or("a template begins with /")?;
        let mut out = Self { pattern: "/".to_owned(), variables: Vec::new() };
        let mut text_glob = false;
        while !rest.is_empty() {
            rest = match rest.strip_prefix('{') {
                Some(variable) => {
                    let (inner, behind) = variable.split_once('}').ok_or("a variable has no end")?;
                    out.variable(inner, &mut text_glob)?;
                    behind
                }
                None => out.segment(rest, &mut text_glob)?,
            };
            if rest == "/" {
                out.pattern.push('/');
                break;
            }
            if let Some(behind) = rest.strip_prefix('/') {
                out.pattern.push('/');
                rest = behind;
            } else if !rest.is_empty() {
                // What follows without a slash is the end.
                if rest.contains('/') {
                    return Err("a segment is one glob, variable or literal");
                }
                out.literal(rest)?;
                break;
            }
        }
        Ok(out)
    }

    /// A glob or a literal at the beginning of `rest`; what is behind it.
    fn segment<'a>(&mut self, rest: &'a str, text_glob: &mut bool) -> Result<&'a str, Wrong> {
        if let Some(behind) = rest.strip_prefix("**") {
            self.glob(true, text_glob)?;
            return Ok(behind);
        }
        if let Some(behind) = rest.strip_prefix('*') {
            self.glob(false, text_glob)?;
            return Ok(behind);
        }
        let end = rest.find('/').unwrap_or(rest.len());
        let (literal, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        self.literal(literal)?;
        Ok(behind)
    }

    fn glob(&mut self, text: bool, text_glob: &mut bool) -> Result<(), Wrong> {
        if *text_glob {
            return Err("nothing but literals follows **");
        }
        *text_glob = text;
        let (slash, often) = if text { ("/", '*') } else { ("", '+') };
        let _ = write!(self.pattern, "[{LITERAL}{slash}]{often}");
        Ok(())
    }

    fn literal(&mut self, text: &str) -> Result<(), Wrong> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@".contains(&byte);
        if text.is_empty() || !text.bytes().all(valid) {
            return Err("a literal has letters, digits and some signs");
        }
        for letter in text.chars() {
            if "$()+.".contains(letter) {
                self.pattern.push('\\');
            }
            self.pattern.push(letter);
        }
        Ok(())
    }

    fn variable(&mut self, inner: &str, text_glob: &mut bool) -> Result<(), Wrong> {
        let (name, pattern) = inner.split_once('=').map_or((inner, None), |(name, p)| (name, Some(p)));
        if !is_name(name) || name.len() > MAX_NAME {
            return Err("a variable's name has a letter and then letters, digits and underscores");
        }
        if self.variables.iter().any(|known| known == name) || self.variables.len() >= MAX_VARIABLES {
            return Err("variables have different names, and there are five at most");
        }
        self.variables.push(name.to_owned());
        self.pattern.push('(');
        match pattern {
            None if *text_glob => return Err("nothing but literals follows **"),
            None => self.glob(false, &mut false)?,
            Some(pattern) => {
                for (place, part) in pattern.split('/').enumerate() {
                    if place > 0 {
                        self.pattern.push('/');
                    }
                    if !self.segment(part, text_glob)?.is_empty() {
                        return Err("a variable's segment is one glob or literal");
                    }
                }
            }
        }
        self.pattern.push(')');
        Ok(())
    }

    /// The condition on a whole path.
    pub(super) fn regex(&self) -> Result<SafeRegex, RouterCheckError> {
        let invalid = |reason| RouterCheckError::Invalid { field: "path_match_policy".into(), reason };
        SafeRegex::new(&self.pattern).map_err(invalid)
    }

    /// The rewrite of paths that match; reads the extension of a path rewriter.
    pub(super) fn rewrite(&self, fields: Fields) -> Result<RegexRewrite, RouterCheckError> {
        let (field, text) = config(fields, "path_template_rewrite", "UriTemplateRewriteConfig")?;
        let substitution = self
            .substitution(&text)
            .map_err(|reason| RouterCheckError::Invalid { field, reason: reason.to_owned() })?;
        Ok(RegexRewrite::new(format!("^{}$", self.pattern), substitution))
    }

    fn substitution(&self, text: &str) -> Result<String, Wrong> {
        if !text.starts_with('/') || text.contains("//") {
            return Err("a rewrite begins with /, and has no // in it");
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((literal, variable)) = rest.split_once('{') {
            out.push_str(literal);
            let (name, behind) = variable.split_once('}').ok_or("a variable has no end")?;
            let place = self.variables.iter().position(|known| known == name);
            let group = place.ok_or("the path's template has no such variable")? + 1;
            let _ = write!(out, "\\{group}");
            rest = behind;
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The one text of an extension's configuration, and its path.
fn config(
    mut fields: Fields,
    name: &'static str,
    kind: &'static str,
) -> Result<(String, SmolStr), RouterCheckError> {
    fields.text("name")?;
    let Some(mut config) = fields.message("typed_config")? else {
        return Err(RouterCheckError::Missing { field: fields.at("typed_config") });
    };
    fields.finish()?;
    let typed = config.text("@type")?.unwrap_or_default();
    if !typed.ends_with(kind) {
        return Err(RouterCheckError::Unsupported { field: config.at("@type") });
    }
    let text = config.required(name)?;
    let field = config.at(name);
    config.finish()?;
    Ok((field, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_and_rewrite_whole_paths() {
        for (template, path, rewrite, expected) in [
            ("/t/{a}/*", "/t/x/y", "/{a}", Some("/x")),
            ("/t/{a}/*", "/t/x/y/z", "/{a}", None),
            ("/t/{a=x/*}/b", "/t/x/y/b", "/n/{a}/m", Some("/n/x/y/m")),
            ("/**.m3u8", "/a/b.m3u8", "/c", Some("/c")),
            ("/{p=**}", "/a/b", "/v1/{p}", Some("/v1/a/b")),
            ("/a.b/", "/a.b/", "/", Some("/")),
            ("/a.b", "/axb", "/", None),
        ] {
            let template = UriTemplate::parse(template).unwrap();
            let matches = template.regex().unwrap().is_match(path);
            assert_eq!(matches, expected.is_some(), "{path}");
            let rewrite = template.substitution(rewrite).unwrap();
            let rewrite = RegexRewrite::new(format!("^{}$", template.pattern), rewrite);
            if let Some(expected) = expected {
                assert_eq!(rewrite.apply(path), expected);
            }
        }
        for wrong in ["a", "/{a", "/{1a}", "/{a}/{a}", "/**/*", "/{a}b/c", "/a*", "/ä"] {
            assert!(UriTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
