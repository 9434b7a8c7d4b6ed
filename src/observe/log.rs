//! The log: lines on stderr, where a service manager or a container runtime picks them up.

use std::fmt::Write as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

use super::fields;
use crate::config::{LogAddresses, LogFormat};

/// Starts logging for the whole process. Without colours, because the journal keeps what it gets.
///
/// # Errors
/// When `level` is no filter, or logging was started before; in words.
pub fn init(format: LogFormat, level: &str, addresses: LogAddresses) -> Result<(), String> {
    fields::show_domain_only(addresses == LogAddresses::Domain);
    let filter = EnvFilter::try_new(level).map_err(|e| format!("log.level: {e}"))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            // One event is one line, whatever a value holds.
            let one_line = debug_fn(|writer, field, value| {
                let text = escape(&format!("{value:?}"));
                if field.name() == "message" {
                    write!(writer, "{text}")
                } else {
                    write!(writer, "{field}={text}")
                }
            });
            builder.fmt_fields(one_line.delimited(" ")).try_init()
        }
    }
    .map_err(|e| e.to_string())
}

/// Control characters as escapes, so that no value can end a line or drive a terminal.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_add_a_line() {
        let got = escape("550 no\r\nqueue_id=forged\u{1b}[31m\u{85}\u{2028}");
        assert!(!got.chars().any(|c| c.is_control() || c == '\u{2028}'), "{got:?}");
        assert!(got.starts_with("550 no\\r\\nqueue_id=forged\\u{1b}"));
        assert_eq!(escape("bücher ok"), "bücher ok");
    }
}
