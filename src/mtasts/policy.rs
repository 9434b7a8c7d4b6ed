//! The policy file (RFC 8461 §3.2).

use std::fmt;
use std::time::Duration;

use super::record::{WSP, is_field_name};
use crate::mail::Domain;

/// What a policy asks of senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Deliver only over verified TLS to a listed host.
    Enforce,
    /// Evaluate and report, deliver anyway.
    Testing,
    /// As if there were no policy.
    None,
}

impl Mode {
    /// The word of the policy file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A parsed policy together with the text it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `mode:`.
    pub mode: Mode,
    /// `mx:` patterns in canonical form (`mx.example.com`, `*.example.com`), in file order.
    pub mx: Vec<String>,
    /// `max_age:`, clamped to 31557600 s.
    pub max_age: Duration,
    /// The lines as fetched, without terminators, unknown keys and all (RPT-47).
    pub lines: Vec<String>,
}

/// Why a body is no policy: the reason token of RPT §1.2.4 (`missing-max_age`, `policy-bom`…) .
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an MTA-STS policy: {token}")]
pub struct PolicyError {
    /// Short stable token.
    pub token: String,
}

impl Policy {
    /// Reads the body of a policy file as it came over HTTPS.
    ///
    /// # Errors
    /// [`PolicyError`]; nothing is repaired beyond what RFC 8461 lets pass.
    pub fn parse(body: &[u8]) -> Result<Self, PolicyError> {
        if body.starts_with(b"\xEF\xBB\xBF") {
            return Err(error("policy-bom"));
        }
        if body.contains(&0) {
            return Err(error("policy-nul"));
        }
        let text = std::str::from_utf8(body).map_err(|_| error("not-utf8"))?;
        let mut keys = Keys::default();
        let lines = split_lines(text);
        for line in lines.iter().filter(|l| !l.is_empty()) {
            keys.read(line)?;
        }
        keys.version.ok_or_else(|| error("missing-version"))?;
        let mode = keys.mode.ok_or_else(|| error("missing-mode"))?;
        let max_age = keys.max_age.ok_or_else(|| error("missing-max_age"))?;
        if keys.mx.is_empty() && mode != Mode::None {
            return Err(error("missing-mx"));
        }
        let lines = lines.into_iter().map(str::to_owned).collect();
        Ok(Self { mode, mx: keys.mx, max_age, lines })
    }
}

/// The lines of a body that is no policy, as far as a report can use them: cut at 100 lines and 1 KiB each,
/// octets that are not UTF-8 replaced.
pub fn raw_lines(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    split_lines(&text).into_iter().take(100).map(|l| l.chars().take(1024).collect()).collect()
}

/// Lines end in LF or CRLF, and the last terminator is optional (STS-31).
fn split_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l)).collect();
    if lines.last() == Some(&"") {
        lines.pop();
    }
    lines
}

/// What was found so far; of every key but `mx` the first value counts (STS-36).
#[derive(Default)]
struct Keys {
    version: Option<()>,
    mode: Option<Mode>,
    max_age: Option<Duration>,
    mx: Vec<String>,
}

impl Keys {
    fn read(&mut self, line: &str) -> Result<(), PolicyError> {
        let (key, value) = line.split_once(':').ok_or_else(|| error("bad-line"))?;
        if !is_field_name(key) {
            return Err(error("bad-line"));
        }
        let value = value.trim_matches(WSP);
        // A bare CR is no terminator, so it lands here as well.
        if value.chars().any(char::is_control) {
            return Err(error("control-character"));
        }
        match key {
            "version" if self.version.is_none() => {
                self.version = Some((value == "STSv1").then_some(()).ok_or_else(|| error("bad-version"))?);
            }
            "mode" if self.mode.is_none() => self.mode = Some(parse_mode(value)?),
            "max_age" if self.max_age.is_none() => self.max_age = Some(parse_max_age(value)?),
            "mx" => self.mx.push(parse_pattern(value).ok_or_else(|| error("bad-mx"))?),
            "version" | "mode" | "max_age" => {}
            _ if value.is_empty() => return Err(error("bad-line")),
            _ => {}
        }
        Ok(())
    }
}

fn parse_mode(value: &str) -> Result<Mode, PolicyError> {
    [Mode::Enforce, Mode::Testing, Mode::None]
        .into_iter()
        .find(|m| m.as_str() == value)
        .ok_or_else(|| error("bad-mode"))
}

/// 1 to 10 digits; more than a year is a year (RFC 8461 §3.2).
fn parse_max_age(value: &str) -> Result<Duration, PolicyError> {
    if !(1..=10).contains(&value.len()) || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error("bad-max_age"));
    }
    let seconds: u64 = value.parse().map_err(|_| error("bad-max_age"))?;
    Ok(Duration::from_secs(seconds).min(MAX_AGE))
}

/// `sts-policy-mx`: a domain, or `*.` and a domain, in A-labels. A trailing dot and underscores are let pass
/// (STS-42).
fn parse_pattern(value: &str) -> Option<String> {
    let (wildcard, base) = value.strip_prefix("*.").map_or(("", value), |base| ("*.", base));
    Domain::parse_host(base).ok().map(|base| format!("{wildcard}{base}"))
}

fn error(token: &str) -> PolicyError {
    PolicyError { token: token.to_owned() }
}

/// The longest life of a policy (RFC 8461 §3.2).
pub const MAX_AGE: Duration = Duration::from_secs(31_557_600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 86400\n";

    fn token(text: &str) -> String {
        Policy::parse(text.as_bytes()).expect_err(text).token
    }

    #[test]
    fn the_policy_of_the_rfc_is_read() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.NET\r\n\
                    mx: backupmx.example.com.\r\nmax_age: 604800\r\n";
        let policy = Policy::parse(text.as_bytes()).unwrap();
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.mx, ["mail.example.com", "*.example.net", "backupmx.example.com"]);
        assert_eq!(policy.max_age, Duration::from_secs(604_800));
        assert_eq!(policy.lines.len(), 6);
        assert_eq!(policy.lines[3], "mx: *.Example.NET", "raw lines stay raw (RPT-47)");
    }

    // STS-31..37, STS-42
    #[test]
    fn what_the_rfc_lets_pass_is_a_policy() {
        for (what, text) in [
            ("LF", GOOD.to_owned()),
            ("CRLF", GOOD.replace('\n', "\r\n")),
            ("mixed", GOOD.replacen('\n', "\r\n", 2)),
            ("no last terminator", GOOD.trim_end().to_owned()),
            ("empty lines", GOOD.replace("\nmode", "\n\n\nmode") + "\n\n"),
            ("no blank after the colon", GOOD.replace(": ", ":")),
            ("tabs and trailing blanks", GOOD.replace(": enforce", ":\tenforce  ")),
            ("mode before version", format!("mode: enforce\n{GOOD}")),
            ("a second mode, malformed", format!("{GOOD}mode: bogus\n")),
            ("a second max_age, malformed", format!("{GOOD}max_age: x\n")),
            ("a second version, empty", format!("{GOOD}version:\n")),
            ("an unknown key", format!("{GOOD}note: grüße aus Köln\n")),
            ("an underscore in a host", format!("{GOOD}mx: mx_1.example.com\n")),
        ] {
            let policy = Policy::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!((policy.mode, policy.max_age.as_secs()), (Mode::Enforce, 86400), "{what}");
        }
        assert!(Policy::parse(b"version: STSv1\nmode: none\nmax_age: 1").is_ok(), "none needs no mx");
        assert_eq!(Policy::parse(format!("mode: testing\n{GOOD}").as_bytes()).unwrap().mode, Mode::Testing);
    }

    // STS-31..43
    #[test]
    fn what_is_no_policy_says_which_rule_it_breaks() {
        let with = |from: &str, to: &str| GOOD.replace(from, to);
        for (text, want) in [
            (GOOD.replace('\n', "\r"), "control-character"),
            (format!("{GOOD}garbage\n"), "bad-line"),
            (format!("{GOOD} \n"), "bad-line"),
            (with("mode:", "Mode:"), "missing-mode"),
            (with("mode:", "mode :"), "bad-line"),
            (with("mode:", " mode:"), "bad-line"),
            (with("enforce", "Enforce"), "bad-mode"),
            (with("enforce", "report"), "bad-mode"),
            (with("version: STSv1\n", ""), "missing-version"),
            (with("STSv1", "STSv2"), "bad-version"),
            (with("mode: enforce\n", ""), "missing-mode"),
            (with("max_age: 86400\n", ""), "missing-max_age"),
            (with("mx: mx.example.com\n", ""), "missing-mx"),
            (with("mx.example.com", "a.example, b.example"), "bad-mx"),
            (format!("{GOOD}note: a\u{7}b\n"), "control-character"),
            (format!("{GOOD}note:\n"), "bad-line"),
            (format!("{GOOD}{}: x\n", "n".repeat(33)), "bad-line"),
            (format!("\u{feff}{GOOD}"), "policy-bom"),
            (format!("\0{GOOD}"), "policy-nul"),
            (String::new(), "missing-version"),
        ] {
            assert_eq!(token(&text), want, "{text:?}");
        }
        assert_eq!(Policy::parse(b"version: STSv1\nx: \xff\n").unwrap_err().token, "not-utf8");
    }

    // STS-39
    #[test]
    fn max_age_is_digits_and_at_most_a_year() {
        for (text, want) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("31557600", Some(31_557_600)),
            ("31557601", Some(31_557_600)),
            ("9999999999", Some(31_557_600)),
            ("0000000060", Some(60)),
            ("99999999999", None),
            ("86400s", None),
            ("-1", None),
            ("+5", None),
            ("1e5", None),
            ("", None),
            ("8 6", None),
        ] {
            let got = Policy::parse(GOOD.replace("86400", text).as_bytes()).map(|p| p.max_age.as_secs());
            assert_eq!(got.ok(), want, "{text:?}");
        }
    }

    // STS-40, STS-41
    #[test]
    fn patterns_are_a_domain_or_one_whole_wildcard_label() {
        for bad in [
            "*",
            "*.",
            "*.*.a.example",
            "mx*.a.example",
            "a.*.example",
            "[192.0.2.1]",
            "mail.bücher.example",
            "",
            ".",
            "a..b",
        ] {
            assert_eq!(token(&GOOD.replace("mx.example.com", bad)), "bad-mx", "{bad:?}");
        }
    }

    #[test]
    fn lines_of_a_broken_body_are_kept_within_bounds() {
        assert_eq!(raw_lines(b"a: b\r\n\xff\n"), ["a: b", "\u{fffd}"]);
        let huge = "x\n".repeat(30_000);
        assert_eq!(raw_lines(huge.as_bytes()).len(), 100);
    }

    proptest! {
        // STS-36, RPT-47: lines read back to the same policy.
        #[test]
        fn any_body_is_read_without_panic_and_its_lines_read_back(body in "[a-zA-Z0-9_:.* \t\r\nü]{0,200}") {
            let text = format!("version: STSv1\nmode: none\nmax_age: 5\n{body}");
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                let again: String = policy.lines.iter().map(|l| format!("{l}\n")).collect();
                prop_assert_eq!(Policy::parse(again.as_bytes()).unwrap(), policy);
            }
        }
    }
}
