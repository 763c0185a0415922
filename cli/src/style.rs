//! How is text set on a terminal?
//!
//! Styles are written always and taken out by the stream where nobody would see them.

use anstyle::{AnsiColor, Style};

pub(crate) const RESET: anstyle::Reset = anstyle::Reset;
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Text in a style.
pub(crate) fn paint(style: Style, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{RESET}") }
}

/// The width of the terminal; 80 where there is none.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout())
        .map_or(80, |(terminal_size::Width(columns), _)| usize::from(columns))
        .max(40)
}

/// How many columns a text takes, without its styles.
pub(crate) fn columns(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

/// `left`, and `right` at the end of the line, or at the end of a line of its own when both do not fit.
pub(crate) fn justify(left: &str, right: &str, width: usize) -> String {
    if right.is_empty() {
        return left.to_owned();
    }
    let (a, b) = (columns(left.lines().last().unwrap_or_default()), columns(right));
    if a + 2 + b <= width {
        format!("{left}{}{right}", " ".repeat(width - a - b))
    } else {
        format!("{left}\n{}{right}", " ".repeat(width.saturating_sub(b)))
    }
}

/// `left`, and `right` at the end of the line, or below it from column `indent` on when both do not fit.
pub(crate) fn beside(left: &str, right: &str, indent: usize, width: usize) -> String {
    let both = columns(left.lines().last().unwrap_or_default()) + 2 + columns(right);
    if both <= width || right.is_empty() {
        justify(left, right, width)
    } else {
        format!("{left}\n{}{}", " ".repeat(indent), wrap(right.split(' '), indent, width))
    }
}

/// Joins words by spaces into lines of `width`; lines after the first start with `indent` spaces.
pub(crate) fn wrap<'a>(words: impl IntoIterator<Item = &'a str>, indent: usize, width: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    let mut first = true;
    for word in words {
        let length = columns(word);
        if first {
            first = false;
        } else if column + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// A probability in percent, with no more digits than it needs.
pub(crate) fn percent(probability: f64) -> String {
    let percent = probability * 100.0;
    let digits = if (percent - percent.round()).abs() < 1e-9 { 0 } else { 2 };
    format!("{percent:.digits$} %")
}

/// A number and what it counts.
pub(crate) fn many(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_beside_goes_below() {
        assert_eq!(justify("ab", "cd", 8), "ab    cd");
        assert_eq!(justify("abcdef", "cd", 8), "abcdef\n      cd");
        assert_eq!(justify(&paint(BOLD, "ab"), "cd", 8), format!("{BOLD}ab{RESET}    cd"));
    }

    #[test]
    fn words_are_wrapped_below_their_first() {
        assert_eq!(wrap(["a", "bb", "ccc"], 2, 7), "a bb\n  ccc");
    }
}
