//! How does a message point into a file? As rustc's do.

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use dryroute::diagnostic::{Diagnostic, Location, Place, Severity};
use dryroute::manifest::ManifestSet;

use crate::style;

/// A message with places and what to do.
pub(crate) struct Frame<'a> {
    /// How much it matters.
    pub(crate) severity: Severity,
    /// The stable code; may be empty.
    pub(crate) code: &'a str,
    /// One sentence.
    pub(crate) title: &'a str,
    /// Places and a few words about each; the first is the one that the message is about.
    pub(crate) labels: Vec<(Location, &'a str)>,
    /// What else there is to know.
    pub(crate) note: Option<&'a str>,
    /// What to do.
    pub(crate) help: Option<&'a str>,
}

impl Frame<'_> {
    /// The message with lines of the files around its places; ends in a line break.
    pub(crate) fn render(&self, set: &ManifestSet) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let mut title = level.primary_title(self.title);
        if !self.code.is_empty() {
            title = title.id(self.code);
        }
        let mut elements: Vec<Element<'_>> = Vec::new();
        let mut files: Vec<&str> = Vec::new();
        for (location, _) in &self.labels {
            if !files.contains(&location.file.as_str()) {
                files.push(&location.file);
            }
        }
        for file in files {
            let here = self.labels.iter().enumerate().filter(|(_, (at, _))| at.file == file);
            if let Some(text) = set.source(file) {
                let mut snippet = Snippet::source(text).path(file);
                for (index, (at, label)) in here {
                    let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                    let annotation = kind.span(span(text, at));
                    snippet = snippet.annotation(if label.is_empty() {
                        annotation
                    } else {
                        annotation.label(*label)
                    });
                }
                elements.push(snippet.into());
            } else {
                // Text inside of another text (a ConfigMap's) cannot be shown by its own lines.
                for (_, (at, _)) in here {
                    elements.push(
                        Origin::path(file).line(at.line as usize).char_column(at.column as usize).into(),
                    );
                }
            }
        }
        if let Some(note) = self.note {
            elements.push(Level::NOTE.message(note).into());
        }
        if let Some(help) = self.help {
            elements.push(Level::HELP.message(help).into());
        }
        let report: [Group<'_>; 1] = [title.elements(elements)];
        let mut text = Renderer::styled().term_width(style::width()).render(&report);
        text.push('\n');
        text
    }
}

/// A diagnostic of the library.
pub(crate) fn diagnostic(set: &ManifestSet, diagnostic: &Diagnostic) -> String {
    let labels = diagnostic.labels.iter().filter_map(|label| {
        let at = location(set, &label.at)?;
        // What the title has said needs no label.
        let said = diagnostic.message.ends_with(&label.text);
        Some((at, if said { "" } else { label.text.as_str() }))
    });
    Frame {
        severity: diagnostic.severity,
        code: diagnostic.code.as_str(),
        title: &diagnostic.message,
        labels: labels.collect(),
        note: None,
        help: diagnostic.help.as_deref(),
    }
    .render(set)
}

/// A diagnostic in one line: `file:line:column: severity[code]: message`.
pub(crate) fn line(set: &ManifestSet, diagnostic: &Diagnostic) -> String {
    let at = diagnostic.labels.first().and_then(|label| location(set, &label.at));
    let at = at.map(|l| format!("{}: ", crate::place::column(&l))).unwrap_or_default();
    let code = diagnostic.code.as_str();
    let help = diagnostic.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
    format!("{at}{}[{code}]: {}{help}\n", severity(diagnostic), diagnostic.message)
}

/// Where a place is.
pub(crate) fn location(set: &ManifestSet, place: &Place) -> Option<Location> {
    match place {
        Place::Position(location) => Some(location.clone()),
        Place::Origin(origin) => set.locate(origin),
    }
}

/// How much a diagnostic matters, as a word.
pub(crate) fn severity(diagnostic: &Diagnostic) -> &'static str {
    match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// From a position to the end of what is written on its line, comments left out; as bytes of the text.
fn span(text: &str, at: &Location) -> std::ops::Range<usize> {
    let mut start = 0;
    for _ in 1..at.line {
        let rest = text.get(start..).unwrap_or_default();
        let Some(end) = rest.find('\n') else { break };
        start += end + 1;
    }
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let from = line
        .char_indices()
        .nth(at.column.saturating_sub(1) as usize)
        .map_or_else(|| line.trim_end().len(), |(index, _)| index);
    let rest = line.get(from..).unwrap_or_default();
    let length = rest.find(" #").unwrap_or(rest.len());
    let rest = rest.get(..length).unwrap_or_default().trim_end();
    let in_flow = depth(line.get(..from).unwrap_or_default()) > 0;
    let written = if in_flow { flow_value(rest) } else { rest.len() };
    (start + from)..(start + from + written)
}

/// How many brackets that a line opens are open at its end.
fn depth(line: &str) -> usize {
    let mut depth: usize = 0;
    let mut scan = Scan::default();
    for c in line.chars() {
        match scan.next(c) {
            Some('{' | '[') => depth += 1,
            Some('}' | ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth
}

/// The length of an entry or item of a flow collection: up to the comma or bracket that ends it.
fn flow_value(rest: &str) -> usize {
    let mut depth = 0;
    let mut scan = Scan::default();
    for (index, c) in rest.char_indices() {
        match scan.next(c) {
            Some('{' | '[') => depth += 1,
            Some('}' | ']' | ',') if depth == 0 => {
                return rest.get(..index).unwrap_or_default().trim_end().len();
            }
            Some('}' | ']') => depth -= 1,
            _ => {}
        }
    }
    rest.len()
}

/// Reads a line of YAML, and tells what stands outside of quotes.
#[derive(Default)]
struct Scan {
    quote: Option<char>,
    escaped: bool,
    inside: bool,
}

impl Scan {
    fn next(&mut self, c: char) -> Option<char> {
        match self.quote {
            Some('"') if self.escaped => self.escaped = false,
            Some('"') if c == '\\' => self.escaped = true,
            Some(quote) if c == quote => self.quote = None,
            Some(_) => {}
            // A quote in the middle of a word is a letter.
            None if matches!(c, '"' | '\'') && !self.inside => self.quote = Some(c),
            None => {
                self.inside = !(c.is_whitespace() || "{[,:".contains(c));
                return Some(c);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_ends_before_the_comment() {
        let text = "a:\n  - b: 1 # why\n";
        let at = Location { file: "x".into(), line: 2, column: 5 };
        assert_eq!(text.get(span(text, &at)), Some("b: 1"));
    }

    #[test]
    fn a_span_in_a_flow_collection_ends_with_its_entry() {
        for (text, column, expected) in [
            ("retries: {perTryTimeout: 2x, retryOn: 5xx}", 26, "2x"),
            ("retries: {perTryTimeout: 2x}", 11, "perTryTimeout: 2x"),
            ("- {a: {b: [1, 2]}, c: 3}", 4, "a: {b: [1, 2]}"),
            ("hosts: [\"a,b\", c]", 9, "\"a,b\""),
            ("hosts: [it's, c]", 9, "it's"),
            ("a: b, c", 4, "b, c"),
            ("{a: b}", 1, "{a: b}"),
        ] {
            let at = Location { file: "x".into(), line: 1, column };
            assert_eq!(text.get(span(text, &at)), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_position_behind_the_end_is_the_end() {
        let text = "a: 1\n";
        let at = Location { file: "x".into(), line: 9, column: 9 };
        assert!(text.get(span(text, &at)).is_some());
    }
}
