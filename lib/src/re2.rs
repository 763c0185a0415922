//! Which regular expressions does Envoy accept, and what do they match?
//!
//! Envoy uses RE2; this library has Rust's `regex`, which shares RE2's guarantees but not all of its syntax. A pattern is
//! read with RE2's grammar and written again in Rust's. Invariant: the two agree, or the pattern is refused; they never
//! differ silently. Source: RE2's syntax page; measured with google-re2.

use std::fmt::Write as _;

/// RE2 refuses larger repetition counts.
const MAX_REPEAT: u32 = 1000;
/// RE2 refuses deeper nesting.
const MAX_DEPTH: u32 = 1000;
/// Upper bound of a compiled pattern; stands for RE2's limits on program size.
const SIZE_LIMIT: usize = 1 << 22;

/// Compiles a pattern for matches of a whole value.
pub(crate) fn compile_full(pattern: &str) -> Result<regex::Regex, String> {
    build(&format!(r"\A(?:{})\z", translate(pattern)?))
}

/// Compiles a pattern for a search.
pub(crate) fn compile_search(pattern: &str) -> Result<regex::Regex, String> {
    build(&translate(pattern)?)
}

fn build(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "pattern too large - compile failed".to_owned(),
        other => other.to_string(),
    })
}

/// A pattern for the text itself, as Go's `regexp.QuoteMeta` writes it.
pub(crate) fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Writes an RE2 pattern in Rust's syntax.
///
/// # Errors
///
/// RE2 refuses the pattern, or its meaning cannot be kept.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    let mut reader = Reader::new(pattern);
    reader.pattern()?;
    Ok(reader.out)
}

/// Whether RE2 reads a pattern, also one whose meaning cannot be kept here.
///
/// # Errors
///
/// What RE2 does not accept.
pub(crate) fn syntax(pattern: &str) -> Result<(), String> {
    let mut reader = Reader::new(pattern);
    match reader.pattern() {
        Err(_) if reader.beyond_us => Ok(()),
        outcome => outcome,
    }
}

/// What an operator such as `*` would apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing: the start of an expression.
    Nothing,
    /// Something that may be repeated.
    Atom,
    /// A repetition, which may be followed by `?` only.
    Repeated,
    /// A lazy repetition.
    Done,
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    out: String,
    /// Whether reading ended at something that RE2 reads and this module does not.
    beyond_us: bool,
}

impl<'a> Reader<'a> {
    fn new(pattern: &'a str) -> Self {
        let out = String::with_capacity(pattern.len() + 8);
        Self { rest: pattern.chars().peekable(), out, beyond_us: false }
    }

    fn pattern(&mut self) -> Result<(), String> {
        let mut depth = 0_u32;
        let mut last = Last::Nothing;
        // The biggest product of nested counts; RE2 limits it together.
        let mut counts: Vec<u32> = Vec::new();
        let mut last_count = 1_u32;
        while let Some(c) = self.rest.next() {
            let mut count = 1;
            match c {
                '\\' => {
                    if self.rest.peek() == Some(&'Q') {
                        self.rest.next();
                        last = if self.quoted() { Last::Atom } else { last };
                        continue;
                    }
                    self.escape(false)?;
                    last = Last::Atom;
                }
                '[' => {
                    self.class()?;
                    last = Last::Atom;
                }
                '(' => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err("expression nests too deeply".into());
                    }
                    if self.group()? {
                        counts.push(1);
                    } else {
                        depth -= 1;
                        last = if last == Last::Nothing { Last::Nothing } else { Last::Done };
                        continue;
                    }
                    last = Last::Nothing;
                    continue;
                }
                ')' => {
                    depth = depth.checked_sub(1).ok_or("unexpected )")?;
                    count = counts.pop().unwrap_or(1);
                    self.out.push(')');
                    last = Last::Atom;
                }
                '|' => {
                    self.out.push('|');
                    last = Last::Nothing;
                }
                '*' | '+' | '?' => {
                    last = match (last, c) {
                        (Last::Atom, _) => Last::Repeated,
                        (Last::Repeated, '?') => Last::Done,
                        (Last::Nothing, _) => {
                            return Err(format!("no argument for repetition operator: {c}"));
                        }
                        _ => return Err(format!("bad repetition operator: {c}")),
                    };
                    self.out.push(c);
                    continue;
                }
                '{' => match self.repeat()? {
                    None => {
                        self.out.push_str(r"\{");
                        last = Last::Atom;
                    }
                    Some(times) => {
                        last = match last {
                            Last::Atom => Last::Repeated,
                            Last::Nothing => return Err("no argument for repetition operator: {}".into()),
                            _ => return Err("bad repetition operator: {}".into()),
                        };
                        let total = last_count.saturating_mul(times.max(1));
                        if total > MAX_REPEAT {
                            return Err("bad repetition operator: too many".into());
                        }
                        count = total;
                    }
                },
                '^' | '$' | '.' => {
                    self.out.push(c);
                    last = Last::Atom;
                }
                other => {
                    self.literal(other);
                    last = Last::Atom;
                }
            }
            last_count = count;
            if let Some(outer) = counts.last_mut() {
                *outer = (*outer).max(count);
            }
        }
        if depth > 0 { Err("missing ): not closed".into()) } else { Ok(()) }
    }

    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.out.push_str(&regex::escape(c.encode_utf8(&mut buffer)));
    }

    /// `\Q…\E`, after `\Q`; whether there was any text.
    fn quoted(&mut self) -> bool {
        let mut any = false;
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.peek() == Some(&'E') {
                self.rest.next();
                break;
            }
            self.literal(c);
            any = true;
        }
        any
    }

    /// What follows `(`; `false` for flags that hold to the end of the group, which open none.
    fn group(&mut self) -> Result<bool, String> {
        self.out.push('(');
        if self.rest.peek() != Some(&'?') {
            return Ok(true);
        }
        self.rest.next();
        let mut text = String::new();
        loop {
            let c = self.rest.next().ok_or("missing argument to (?")?;
            match c {
                'P' if text.is_empty() => {
                    if self.rest.next() != Some('<') {
                        return Err("invalid named capture group".into());
                    }
                    return self.name();
                }
                '<' if text.is_empty() => return self.name(),
                ':' | ')' => {
                    let _ = write!(self.out, "?{text}{c}");
                    if text.ends_with('-') || (c == ')' && text.is_empty()) {
                        return Err("invalid perl operator".into());
                    }
                    return Ok(c == ':');
                }
                'i' | 'm' | 's' | 'U' => text.push(c),
                '-' if !text.contains('-') => text.push(c),
                other => return Err(format!("invalid or unsupported Perl syntax: (?{text}{other}")),
            }
        }
    }

    fn name(&mut self) -> Result<bool, String> {
        let mut name = String::new();
        loop {
            match self.rest.next() {
                Some('>') if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) => {
                    let _ = write!(self.out, "?P<{name}>");
                    return Ok(true);
                }
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                _ => return Err("invalid named capture group".into()),
            }
        }
    }

    /// `{n}`, `{n,}` or `{n,m}` after `{`: the larger count; `None` when the brace stands for itself.
    fn repeat(&mut self) -> Result<Option<u32>, String> {
        let mut ahead = self.rest.clone();
        let mut text = String::new();
        loop {
            match ahead.next() {
                Some('}') => break,
                Some(c) if c.is_ascii_digit() || (c == ',' && !text.contains(',')) => text.push(c),
                _ => return Ok(None),
            }
            if text.len() > 64 {
                return Ok(None);
            }
        }
        let (low, high) = match text.split_once(',') {
            None => (text.as_str(), Some(text.as_str())),
            Some((low, "")) => (low, None),
            Some((low, high)) => (low, Some(high)),
        };
        if low.is_empty() {
            return Ok(None);
        }
        let number = |digits: &str| digits.parse::<u32>().unwrap_or(u32::MAX);
        let (min, max) = (number(low), high.map(number));
        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
            return Err(format!("invalid repetition size: {{{text}}}"));
        }
        let _ = write!(self.out, "{{{text}}}");
        self.rest = ahead;
        Ok(Some(max.unwrap_or(min)))
    }

    /// What follows a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let c = self.rest.next().ok_or(r"trailing \")?;
        let text = match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => {
                self.out.push_str(perl_class(c));
                return Ok(());
            }
            'p' | 'P' => return self.unicode(c == 'P'),
            'A' if !in_class => r"\A",
            'z' if !in_class => r"\z",
            'b' if !in_class => r"(?-u:\b)",
            'B' if !in_class => {
                self.beyond_us = true;
                return Err(r"\B works on bytes in RE2 and cannot be translated".into());
            }
            'C' => return Err(r"\C matches a byte and cannot be translated".into()),
            'a' => r"\x07",
            'f' => r"\x0C",
            't' => r"\t",
            'n' => r"\n",
            'r' => r"\r",
            'v' => r"\x0B",
            'x' => {
                let code = self.hex()?;
                return self.code_point(code);
            }
            '0'..='7' => {
                let mut code = u32::from(c) - u32::from('0');
                let mut digits = 1;
                while digits < 3 {
                    match self.rest.peek().and_then(|d| d.to_digit(8)) {
                        Some(digit) => {
                            code = code * 8 + digit;
                            digits += 1;
                            self.rest.next();
                        }
                        None => break,
                    }
                }
                // A single digit other than 0 is a back-reference, which RE2 refuses.
                if c != '0' && digits == 1 {
                    return Err(format!(r"invalid escape sequence: \{c}"));
                }
                return self.code_point(code);
            }
            '_' => "_",
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => {
                let _ = write!(self.out, r"\x{{{:X}}}", u32::from(other));
                return Ok(());
            }
            other => return Err(format!(r"invalid escape sequence: \{other}")),
        };
        self.out.push_str(text);
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, String> {
        let error = || r"invalid escape sequence: \x".to_owned();
        let mut code = 0_u32;
        if self.rest.peek() == Some(&'{') {
            self.rest.next();
            let mut any = false;
            loop {
                match self.rest.next() {
                    Some('}') if any => return Ok(code),
                    Some(c) => {
                        let digit = c.to_digit(16).ok_or_else(error)?;
                        code = code
                            .checked_mul(16)
                            .and_then(|code| code.checked_add(digit))
                            .ok_or_else(error)?;
                        any = true;
                    }
                    None => return Err(error()),
                }
            }
        }
        for _ in 0..2 {
            let digit = self.rest.next().and_then(|c| c.to_digit(16)).ok_or_else(error)?;
            code = code * 16 + digit;
        }
        Ok(code)
    }

    fn code_point(&mut self, code: u32) -> Result<(), String> {
        char::from_u32(code).ok_or("invalid code point")?;
        let _ = write!(self.out, r"\x{{{code:X}}}");
        Ok(())
    }

    fn unicode(&mut self, negated: bool) -> Result<(), String> {
        let error = |name: &str| format!("invalid character class range: \\p{{{name}}}");
        let mut name = String::new();
        match self.rest.next().ok_or_else(|| error(""))? {
            '{' => loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(c) => name.push(c),
                    None => return Err(error(&name)),
                }
            },
            c => name.push(c),
        }
        let (name, inverted) = match name.strip_prefix('^') {
            Some(rest) => (rest.to_owned(), true),
            None => (name, false),
        };
        if name == "Any" {
            return Err(error("Any"));
        }
        let known = GENERAL_CATEGORIES.contains(&name.as_str()) || SCRIPTS.contains(&name.as_str());
        if !known {
            // Other scripts exist; which ones depends on the version of Unicode.
            self.beyond_us = name.len() > 2 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
            return Err(error(&name));
        }
        let letter = if negated == inverted { 'p' } else { 'P' };
        let _ = write!(self.out, r"\{letter}{{{name}}}");
        Ok(())
    }

    /// A character class, after `[`.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.peek() == Some(&'^') {
            self.rest.next();
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next().ok_or("missing ]")?;
            match c {
                ']' if !first => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.rest.peek() == Some(&':') => self.posix()?,
                _ => {
                    if self.class_item(c)? && self.rest.peek() == Some(&'-') {
                        let mut ahead = self.rest.clone();
                        ahead.next();
                        if ahead.peek().is_some_and(|&next| next != ']') {
                            self.rest.next();
                            self.out.push('-');
                            let end = self.rest.next().ok_or("missing ]")?;
                            if !self.class_item(end)? {
                                return Err("invalid character class range".into());
                            }
                        }
                    }
                }
            }
            first = false;
        }
    }

    /// One character or class escape of a class; whether it may begin or end a range.
    fn class_item(&mut self, c: char) -> Result<bool, String> {
        if c != '\\' {
            let _ = write!(self.out, r"\x{{{:X}}}", u32::from(c));
            return Ok(true);
        }
        let single = !matches!(self.rest.peek(), Some('d' | 'D' | 's' | 'S' | 'w' | 'W' | 'p' | 'P'));
        self.escape(true)?;
        Ok(single)
    }

    /// `[:name:]`, after its `[`.
    fn posix(&mut self) -> Result<(), String> {
        let mut ahead = self.rest.clone();
        ahead.next();
        let mut name = String::new();
        loop {
            match ahead.next() {
                Some(':') => break,
                Some(c) if c.is_ascii_lowercase() || c == '^' => name.push(c),
                _ => {
                    // Not a named class after all: the bracket stands for itself.
                    return self.class_item('[').map(|_| ());
                }
            }
        }
        if ahead.next() != Some(']') {
            return self.class_item('[').map(|_| ());
        }
        if !POSIX.contains(&name.trim_start_matches('^')) || name.matches('^').count() > 1 {
            return Err(format!("invalid character class range: [:{name}:]"));
        }
        let _ = write!(self.out, "[:{name}:]");
        self.rest = ahead;
        Ok(())
    }
}

fn perl_class(c: char) -> &'static str {
    match c {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\x0C\r ]",
        'S' => r"[^\t\n\x0C\r ]",
        'w' => "[0-9A-Za-z_]",
        _ => "[^0-9A-Za-z_]",
    }
}

const POSIX: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

const GENERAL_CATEGORIES: &[&str] = &[
    "C", "Cc", "Cf", "Co", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No",
    "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

/// Scripts old enough that no two versions of Unicode differ about their letters in use.
const SCRIPTS: &[&str] = &[
    "Arabic",
    "Armenian",
    "Bengali",
    "Bopomofo",
    "Cherokee",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Kannada",
    "Katakana",
    "Khmer",
    "Lao",
    "Latin",
    "Malayalam",
    "Mongolian",
    "Myanmar",
    "Oriya",
    "Sinhala",
    "Syriac",
    "Tamil",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parenthesis_too_many_does_not_escape_the_anchors() {
        assert!(compile_full("a)(b").is_err());
        assert!(compile_full("a)|(b").is_err());
    }
}
