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
