//! [`Day`]: the UTC day that a report covers (RFC 8460 §4.1).

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;

/// A UTC day, written `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// The text is not a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a day: write it as YYYY-MM-DD, as in 2026-03-01")]
pub struct BadDay;

impl Day {
    /// The day that `at` lies in (RPT-29).
    pub fn of(at: Timestamp) -> Self {
        at.utc_day().parse().unwrap_or(Self(Date::constant(1970, 1, 1)))
    }

    /// Its first moment, `T00:00:00Z`.
    pub fn begin(self) -> Timestamp {
        let zoned = self.0.to_zoned(jiff::tz::TimeZone::UTC);
        Timestamp::from_millis(zoned.map_or(0, |z| z.timestamp().as_millisecond()))
    }

    /// The last second that a report names, `T23:59:59Z` (RPT-42).
    pub fn end(self) -> Timestamp {
        self.begin().after(std::time::Duration::from_secs(86_399))
    }

    /// The day after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.tomorrow().unwrap_or(Date::MAX))
    }

    /// The day `days` before it.
    #[must_use]
    pub fn earlier(self, days: u32) -> Self {
        Self::of(self.begin().before(std::time::Duration::from_secs(86_400 * u64::from(days))))
    }

    /// `YYYYMMDD`, as in a report-id (RPT-44).
    pub fn compact(self) -> String {
        self.0.strftime("%Y%m%d").to_string()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Day {
    type Err = BadDay;

    fn from_str(text: &str) -> Result<Self, BadDay> {
        // jiff reads more forms than this one.
        let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if !plain {
            return Err(BadDay);
        }
        text.parse().map(Self).map_err(|_| BadDay)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RPT-29, RPT-42
    #[test]
    fn a_day_begins_and_ends_where_rfc_8460_says() {
        let day: Day = "2026-03-01".parse().unwrap();
        assert_eq!(day.begin().to_rfc3339(), "2026-03-01T00:00:00Z");
        assert_eq!(day.end().to_rfc3339(), "2026-03-01T23:59:59Z");
        assert_eq!((day.next().to_string().as_str(), day.compact().as_str()), ("2026-03-02", "20260301"));
        assert_eq!((day.earlier(1).to_string(), day.next().earlier(1)), ("2026-02-28".to_owned(), day));
        let last = Timestamp::from_millis(day.next().begin().as_millis() - 1);
        assert_eq!((Day::of(last), Day::of(day.next().begin())), (day, day.next()));
    }

    #[test]
    fn only_one_form_is_a_day() {
        for text in ["", "2026-3-1", "20260301", "2026-02-30", "2026-03-01T00:00:00Z", "+2026-03-0", "today"]
        {
            assert_eq!(text.parse::<Day>(), Err(BadDay), "{text}");
        }
    }
}
