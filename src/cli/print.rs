//! Tables, JSON and times for people.

use std::io::{self, Write};

use serde::Serialize;

use crate::clock::{Timestamp, rough};

/// One JSON document and a line end.
pub(super) fn json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    writeln!(out, "{text}")
}

/// Columns as wide as their widest cell; the last is left as it is.
pub(super) fn table(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let rows: Vec<_> = rows.iter().map(|row| (row.clone(), Vec::new())).collect();
    noted_table(out, head, &rows)
}

/// A table whose rows have lines of their own below them, for what would make it too wide.
pub(super) fn noted_table(
    out: &mut dyn Write,
    head: &[&str],
    rows: &[(Vec<String>, Vec<String>)],
) -> io::Result<()> {
    let cleaned = |cells: &[String]| -> Vec<String> { cells.iter().map(|c| clean(c)).collect() };
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    let rows = rows.iter().map(|(row, notes)| (cleaned(row), cleaned(notes)));
    let rows: Vec<_> = std::iter::once((head, Vec::new())).chain(rows).collect();
    let mut widths: Vec<usize> = Vec::new();
    for (row, _) in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (row, notes) in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
        for note in notes {
            writeln!(out, "        {note}")?;
        }
    }
    Ok(())
}

/// Text of others, made fit for a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `in 20m`, `3h ago`, `now`.
pub(super) fn relative(t: Timestamp, now: Timestamp) -> String {
    let (ahead, behind) = (t.since(now), now.since(t));
    match (ahead.as_secs(), behind.as_secs()) {
        (0, 0) => "now".to_owned(),
        (0, _) => format!("{} ago", rough(behind)),
        _ => format!("in {}", rough(ahead)),
    }
}

/// `2026-11-22T07:38:00Z (3h ago)`.
pub(super) fn moment(t: Timestamp, now: Timestamp) -> String {
    format!("{t} ({})", relative(t, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let now = Timestamp::from_millis(1_000_000_000_000);
        for (ms, want) in [
            (0, "now"),
            (999, "now"),
            (30_000, "in 30s"),
            (20 * 60_000, "in 20m"),
            (-3 * 3_600_000, "3h ago"),
            (36 * 3_600_000, "in 36h"),
            (-5 * 86_400_000, "5d ago"),
            (5 * 86_400_000 - 60_000, "in 5d"),
            (90_000, "in 90s"),
        ] {
            assert_eq!(relative(Timestamp::from_millis(now.as_millis() + ms), now), want);
        }
    }

    #[test]
    fn tables_are_aligned_and_free_of_control_characters() {
        let mut out = Vec::new();
        let rows = [vec!["a".into(), "x\u{1b}[2J".into()], vec!["long".into(), "y".into()]];
        table(&mut out, &["ID", "TEXT"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ID    TEXT\na     x?[2J\nlong  y\n");
    }
}
