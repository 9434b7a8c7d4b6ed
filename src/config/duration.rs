//! Durations (`30s`, `5m`, `4h`, `5d`) and rates (`100/m`).

use std::fmt;
use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];

/// What a duration looks like, for errors.
pub const FORM: &str = "write a whole number and s, m, h or d, as in \"30s\", \"5m\", \"4h\" or \"5d\"";

/// What a rate looks like, for errors.
pub const RATE_FORM: &str = "write a whole number, a slash and s, m, h or d, as in \"100/m\"";

/// Ten years: longer than anything that is meant, short enough for every sum of times.
const LONGEST: u64 = 3650 * 86400;

/// Reads a duration.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit_of(unit.trim())?)?;
    (seconds <= LONGEST).then(|| Duration::from_secs(seconds))
}

fn unit_of(name: &str) -> Option<u64> {
    UNITS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// Writes a duration in the largest unit that divides it; fractions of a second are dropped.
pub fn format(d: Duration) -> String {
    let s = d.as_secs();
    let (name, factor) =
        UNITS.iter().rev().find(|(_, f)| s >= *f && s.is_multiple_of(*f)).unwrap_or(&("s", 1));
    format!("{}{name}", s / factor)
}

/// So many per span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In how long: a second, a minute, an hour or a day.
    pub per: Duration,
}

impl Rate {
    /// Reads a rate.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let count = count.trim().parse().ok().filter(|n| *n > 0)?;
        Some(Self { count, per: Duration::from_secs(unit_of(unit.trim())?) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.per.as_secs();
        let unit = UNITS.iter().find(|(_, s)| *s == per).map_or("s", |(n, _)| n);
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, want) in [
            ("30s", Some(30)),
            ("5m", Some(300)),
            ("4h", Some(14_400)),
            ("5d", Some(432_000)),
            ("5 d", Some(432_000)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("5M", None),
            ("1h30m", None),
            ("-5m", None),
            ("3651d", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(parse(text), want.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn a_written_duration_reads_back() {
        for s in [0, 1, 59, 60, 90, 3600, 86400, 432_000] {
            let d = Duration::from_secs(s);
            assert_eq!(parse(&format(d)), Some(d));
        }
        assert_eq!(format(Duration::from_secs(432_000)), "5d");
    }

    #[test]
    fn rates_read_back() {
        for text in ["100/m", "1/s", "5/h", "7/d"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "100", "0/m", "-1/m", "100/w", "/m"] {
            assert_eq!(Rate::parse(text), None, "{text:?}");
        }
    }
}
