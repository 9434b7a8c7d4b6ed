//! The log: lines on stderr, where a service manager or a container runtime picks them up.

use std::fmt::Write as _;
use std::sync::Arc;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::fields;
use super::limit::{self, Limit, Limiter};
use crate::config::{LogAddresses, LogFormat};

/// Starts logging for the whole process. Without colours, because the journal keeps what it gets.
///
/// # Errors
/// When `level` is no filter, or logging was started before; in words.
pub fn init(format: LogFormat, level: &str, addresses: LogAddresses) -> Result<(), String> {
    fields::show_domain_only(addresses == LogAddresses::Domain);
    let filter = EnvFilter::try_new(directives(level)).map_err(|e| format!("log.level: {e}"))?;
    subscriber(format, filter, std::io::stderr, limit::of_process()).try_init().map_err(|e| e.to_string())
}

/// `log.level` as the filter's directives. A level alone is about this program. What its libraries tell beside errors is for
/// their authors, in structures of their own (a whole DNS message for each name that does not validate), and what follows
/// from it is said by this program; who wants it all the same names the library.
fn directives(level: &str) -> String {
    let one = |part: &str| match part.trim() {
        "off" => "off".to_owned(),
        word if word.parse::<LevelFilter>().is_ok() => format!("{}={word}", env!("CARGO_CRATE_NAME")),
        named => named.to_owned(),
    };
    // What the DNS library calls an error is what a stranger's zone says, a thousand times for one name if it likes.
    let quiet = "error,hickory_net=off,hickory_proto=off,hickory_resolver=off";
    level.split(',').fold(quiet.to_owned(), |all, part| all + "," + &one(part))
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    writer: W,
    limiter: Arc<Limiter>,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer);
    let limit = Limit(limiter);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish().with(limit)),
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
            Box::new(builder.fmt_fields(one_line.delimited(" ")).finish().with(limit))
        }
    }
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
    use std::sync::Mutex;

    /// What is written for one event with hostile values.
    fn written(format: LogFormat) -> String {
        caught(format, "info", || {
            let evil = "550 no\r\nevent=forged\u{2028}";
            tracing::info!(event = "probe", text = evil, shown = %evil, number = 7, "in\nwords");
        })
    }

    /// What is written under this `log.level` of what is told.
    fn caught(format: LogFormat, level: &str, tell: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Sheet(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Sheet {
            fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(octets);
                Ok(octets.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let sheet = Sheet::default();
        let writer = sheet.clone();
        let filter = EnvFilter::new(directives(level));
        let subscriber = subscriber(format, filter, move || writer.clone(), Arc::default());
        tracing::subscriber::with_default(subscriber, tell);
        let octets = sheet.0.lock().unwrap().clone();
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn an_event_is_one_line_in_both_formats() {
        let text = written(LogFormat::Text);
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        for part in [" in\\nwords", "event=\"probe\"", "number=7", "shown=550 no\\r\\n"] {
            assert!(text.contains(part), "{part}: {text:?}");
        }
        assert!(!text.contains('\r') && !text.contains('\u{2028}'), "{text:?}");
        let json = written(LogFormat::Json);
        assert_eq!(json.matches('\n').count(), 1, "{json:?}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((value["event"].as_str(), value["number"].as_i64()), (Some("probe"), Some(7)));
    }

    #[test]
    fn libraries_tell_of_errors_only_unless_they_are_named() {
        let tell = || {
            tracing::error!(target: "rusqlite", "library error");
            tracing::error!(target: "hickory_net::dnssec", "stranger's error");
            tracing::warn!(target: "hickory_net::dnssec", "library warning");
            tracing::info!(target: "refinery_core", "library word");
            tracing::warn!("our warning");
            tracing::info!("our word");
            tracing::debug!("our detail");
        };
        let all = [
            "library error",
            "stranger's error",
            "library warning",
            "library word",
            "our warning",
            "our word",
            "our detail",
        ];
        for (level, want) in [
            ("info", &["library error", "our warning", "our word"][..]),
            ("WARN", &["library error", "our warning"]),
            ("debug", &["library error", "our warning", "our word", "our detail"]),
            ("warn, sealpost::observe=debug", &["library error", "our warning", "our word", "our detail"]),
            (
                "info,hickory_net=warn",
                &["library error", "stranger's error", "library warning", "our warning", "our word"],
            ),
            ("off", &[]),
            ("off,sealpost=warn", &["our warning"]),
        ] {
            let text = caught(LogFormat::Text, level, tell);
            let found: Vec<&str> = all.into_iter().filter(|words| text.contains(words)).collect();
            assert_eq!(found, want, "{level}");
        }
    }

    #[test]
    fn no_value_can_add_a_line() {
        let got = escape("550 no\r\nqueue_id=forged\u{1b}[31m\u{85}\u{2028}");
        assert!(!got.chars().any(|c| c.is_control() || c == '\u{2028}'), "{got:?}");
        assert!(got.starts_with("550 no\\r\\nqueue_id=forged\\u{1b}"));
        assert_eq!(escape("bücher ok"), "bücher ok");
    }
}
