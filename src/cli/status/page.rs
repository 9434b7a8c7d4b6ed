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
    terminal: bool,
}

impl<'a> Page<'a> {
    /// On a `terminal`, lines are wrapped and cut to [`WIDTH`]; else each text is one line, as long as it is.
    pub(super) const fn new(out: &'a mut dyn Write, terminal: bool) -> Self {
        Self { out, terminal }
    }

    /// A line of its own.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        let text = clean(text);
        let line = if self.terminal { cut(&text, WIDTH) } else { text };
        writeln!(self.out, "{}", line.trim_end())
    }

    /// A row of a table.
    pub(super) fn row(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("{:MARGIN$}{text}", ""))
    }

    /// Text beside the name of its section, on at most `lines` lines.
    pub(super) fn section(&mut self, name: &str, text: &str, lines: usize) -> io::Result<()> {
        self.named(name, text, "", MARGIN, lines)
    }

    /// The same, with a `rest` that is never cut off.
    pub(super) fn section_with(
        &mut self,
        name: &str,
        text: &str,
        rest: &str,
        lines: usize,
    ) -> io::Result<()> {
        self.named(name, text, rest, MARGIN, lines)
    }

    /// Text below a row, set in further.
    pub(super) fn note(&mut self, text: &str, indent: usize, lines: usize) -> io::Result<()> {
        self.named("", text, "", MARGIN + indent, lines)
    }

    /// Text that begins in column `from`, with a name before its first line. It takes at most `lines` lines, and with its
    /// `rest`, where that does not fit there any more, as many more as that needs: the rest is never cut off.
    pub(super) fn named(
        &mut self,
        name: &str,
        text: &str,
        rest: &str,
        from: usize,
        lines: usize,
    ) -> io::Result<()> {
        let (text, rest) = (clean(text), clean(rest));
        let whole = if rest.is_empty() { text.clone() } else { format!("{text} {rest}") };
        if !self.terminal {
            return self.line(&format!("{name:<from$}{whole}"));
        }
        let width = WIDTH.saturating_sub(from);
        let mut wrapped = wrap(&whole, width, usize::MAX);
        if wrapped.len() > lines {
            wrapped = wrap(&text, width, lines);
            if !rest.is_empty() {
                wrapped.extend(wrap(&rest, width, usize::MAX));
            }
        }
        let mut name = name;
        for line in wrapped {
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
        Page::new(&mut out, true).section("queue", &format!("\u{1b}[2J {long}"), 2).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("queue       ?[2J words") && lines[1].starts_with("            words"));
        assert!(lines.len() == 2 && lines.iter().all(|l| l.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn what_to_do_is_never_cut_off_and_a_pipe_gets_whole_lines() {
        let written = |terminal, words: usize, rest: &str| {
            let mut out = Vec::new();
            Page::new(&mut out, terminal).named("BAD", &"word ".repeat(words), rest, 6, 2).unwrap();
            String::from_utf8(out).unwrap()
        };
        let rest = "What to do: ".to_owned() + &"mend it, ".repeat(20) + "or name one in dns.trusted_servers";
        for words in [1, 20, 200] {
            let text = written(true, words, &rest);
            assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
            let all: Vec<&str> = text.split_whitespace().collect();
            let wanted: Vec<&str> = rest.split_whitespace().collect();
            assert!(all.ends_with(&wanted), "{text}");
            assert_eq!(text.contains('…'), words == 200, "{text}");
            let text = written(false, words, &rest);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.ends_with(&format!("{rest}\n")) && text.matches("word").count() == words, "{text}");
        }
        assert_eq!(written(true, 3, "and so on"), "BAD   word word word and so on\n");
    }
}
