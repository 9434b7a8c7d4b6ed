//! Lines of bounded width, under the names of sections.

use std::io::{self, Write};

use crate::cli::print::clean;

/// Columns.
pub(super) const WIDTH: usize = 80;
/// Where text begins beside the names of sections.
const MARGIN: usize = 12;

/// A page on its way out.
pub(super) struct Page<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Page<'a> {
    pub(super) const fn new(out: &'a mut dyn Write) -> Self {
        Self { out }
    }

    /// A line of its own.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", cut(&clean(text), WIDTH).trim_end())
    }

    /// A row of a table.
    pub(super) fn row(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("{:MARGIN$}{text}", ""))
    }

    /// Text beside the name of its section, on at most `lines` lines.
    pub(super) fn section(&mut self, name: &str, text: &str, lines: usize) -> io::Result<()> {
        self.named(name, text, MARGIN, lines)
    }

    /// Text below a row, set in further.
    pub(super) fn note(&mut self, text: &str, indent: usize, lines: usize) -> io::Result<()> {
        self.named("", text, MARGIN + indent, lines)
    }

    /// Text that begins in column `from`, with a name before its first line.
    pub(super) fn named(&mut self, name: &str, text: &str, from: usize, lines: usize) -> io::Result<()> {
        let mut name = name;
        for line in wrap(&clean(text), WIDTH.saturating_sub(from), lines) {
            self.line(&format!("{name:<from$}{line}"))?;
            name = "";
        }
        Ok(())
    }
}

/// Words on at most `lines` lines of at most `width` columns; where something was cut off there is an ellipsis.
fn wrap(text: &str, width: usize, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let columns = |text: &str| text.chars().count();
        if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
            wrapped.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    wrapped.push(line);
    let more = wrapped.len() > lines;
    wrapped.truncate(lines);
    if let Some(last) = wrapped.last_mut().filter(|_| more) {
        last.push_str(" …");
    }
    // A word that is longer than a line ends with it.
    wrapped.iter().map(|line| cut(line, width)).collect()
}

/// At most `width` columns; where something was cut off there is an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_and_what_is_cut_off_shows() {
        for (text, width, lines, want) in [
            ("", 10, 2, &[""][..]),
            ("one two three", 20, 2, &["one two three"]),
            ("one two three", 7, 2, &["one two", "three"]),
            ("one two three four", 7, 2, &["one two", "three …"]),
            ("one two seventy four", 7, 2, &["one two", "sevent…"]),
            ("antidisestablishment a", 10, 3, &["antidises…", "a"]),
            ("ünïcödé wörds", 7, 3, &["ünïcödé", "wörds"]),
        ] {
            assert_eq!(wrap(text, width, lines), want, "{text}");
        }
    }

    #[test]
    fn names_stand_before_the_first_line_and_no_line_drives_the_terminal() {
        let mut out = Vec::new();
        let long = "words ".repeat(30);
        Page::new(&mut out).section("queue", &format!("\u{1b}[2J {long}"), 2).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("queue       ?[2J words") && lines[1].starts_with("            words"));
        assert!(lines.len() == 2 && lines.iter().all(|l| l.chars().count() <= WIDTH), "{text}");
    }
}
