//! The text of a scrape for what is looked up when it is asked for: a line for each series, and none where nothing was
//! found out, so that a query sees the gap.

use std::fmt::Write as _;

use super::{Kind, Metric};

/// A scrape being written.
#[derive(Debug, Default)]
pub struct Sheet {
    text: String,
}

impl Sheet {
    /// Goes on after `text`, which ends a line.
    pub const fn after(text: String) -> Self {
        Self { text }
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, metric: &Metric, value: f64) {
        self.gauges(metric, [([], value)]);
    }

    /// A gauge that is 1 or 0.
    pub fn flag(&mut self, metric: &Metric, yes: bool) {
        self.gauge(metric, f64::from(u8::from(yes)));
    }

    /// A gauge with labels: their values in the order of the table. No combination may come twice.
    pub fn gauges<'v, const N: usize>(
        &mut self,
        metric: &Metric,
        rows: impl IntoIterator<Item = ([&'v str; N], f64)>,
    ) {
        debug_assert!(metric.labels.len() == N && metric.kind == Kind::Gauge, "{}", metric.name);
        let (name, out) = (metric.name, &mut self.text);
        let _ = writeln!(out, "# HELP {name} {}", metric.help);
        let _ = writeln!(out, "# TYPE {name} gauge");
        for (values, value) in rows {
            out.push_str(name);
            for (i, (label, text)) in metric.labels.iter().zip(values).enumerate() {
                let _ = write!(out, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, Escaped(text));
            }
            let _ = writeln!(out, "{} {value}", if N == 0 { "" } else { "}" });
        }
        out.push('\n');
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// A label's value as the format wants it.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::table;

    #[test]
    fn a_family_is_its_help_its_type_and_a_line_for_each_series() {
        let mut sheet = Sheet::after("# before\n".to_owned());
        sheet.flag(&table::DB_WRITABLE, true);
        sheet.gauges(
            &table::EXCEPTION_END,
            [(["a.example", "plain"], 1_798_156_799.0), (["q\"\\\n", "encrypt"], 0.5)],
        );
        sheet.gauges::<1>(&table::POLICIES, []);
        let text = sheet.into_text();
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("# HELP")).collect();
        assert_eq!(
            lines,
            [
                "# before",
                "# TYPE sealpost_db_writable gauge",
                "sealpost_db_writable 1",
                "",
                "# TYPE sealpost_exception_end_timestamp_seconds gauge",
                "sealpost_exception_end_timestamp_seconds{domain=\"a.example\",allow=\"plain\"} 1798156799",
                "sealpost_exception_end_timestamp_seconds{domain=\"q\\\"\\\\\\n\",allow=\"encrypt\"} 0.5",
                "",
                "# TYPE sealpost_policies gauge",
                "",
            ]
        );
    }
}
