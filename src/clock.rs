//! Time as a port: pure rooms take a [`Timestamp`] as an argument, everything else asks a [`Clock`].
//!
//! Wall time is kept as whole milliseconds since 1970 UTC, which is also how the store writes it. All
//! arithmetic saturates, so no clock and no configured duration can make it panic.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment of wall-clock time in UTC, to the millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `ms` milliseconds after 1970-01-01T00:00:00Z.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment plus `d`, or the last representable moment.
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment minus `d`, or the first representable moment.
    pub fn before(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `YYYY-MM-DDTHH:MM:SSZ`, RFC 3339 in UTC without a fraction.
    pub fn to_rfc3339(self) -> String {
        let z = self.zoned().strftime("%Y-%m-%dT%H:%M:%SZ");
        z.to_string()
    }

    /// `YYYY-MM-DD`, the UTC day this moment lies in.
    pub fn utc_day(self) -> String {
        self.zoned().strftime("%Y-%m-%d").to_string()
    }

    /// `Sun, 22 Nov 2026 07:38:00 +0000`: the date-time of RFC 5322 §3.3, always in UTC.
    pub fn to_rfc5322(self) -> String {
        self.zoned().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }

    /// Reads an RFC 3339 date-time with any offset; `None` for anything else.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }

    fn zoned(self) -> jiff::Zoned {
        jiff::Timestamp::from_millisecond(self.0)
            .unwrap_or(if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX })
            .to_zoned(jiff::tz::TimeZone::UTC)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 date-time"))
    }
}

/// `20m`, `3h`: whole units, of which there are at least two where that is possible. Below two minutes seconds, below two
/// hours minutes, below two days hours, above that days rounded to the nearest: a fresh lifetime of five days reads `5d`
/// and not `4d`.
pub fn rough(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds.saturating_add(43_200) / 86_400),
    }
}

/// Where the time comes from. The system's clock lives in `app`; tests use [`ManualClock`].
pub trait Clock: Send + Sync {
    /// Wall time. May jump, forwards and backwards.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment of this process. Never goes back and does not follow wall-clock changes.
    fn monotonic(&self) -> Duration;
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub const fn new(now: Timestamp) -> Self {
        Self { state: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves wall time and monotonic time forward together.
    pub fn advance(&self, d: Duration) {
        let mut s = self.lock();
        s.0 = s.0.after(d);
        s.1 = s.1.saturating_add(d);
    }

    /// Sets wall time alone, as an operator or a broken time server does.
    pub fn jump_to(&self, now: Timestamp) {
        self.lock().0 = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_the_rfcs() {
        let t = Timestamp::from_millis(1_795_333_080_123);
        assert_eq!(t.to_rfc3339(), "2026-11-22T07:38:00Z");
        assert_eq!(t.to_rfc5322(), "Sun, 22 Nov 2026 07:38:00 +0000");
        assert_eq!(t.utc_day(), "2026-11-22");
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22T08:38:00+01:00").unwrap().as_secs(), t.as_secs());
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::from_millis(i64::MAX).after(Duration::MAX).as_millis(), i64::MAX);
        assert_eq!(Timestamp::from_millis(i64::MIN).before(Duration::MAX).as_millis(), i64::MIN);
        assert_eq!(Timestamp::from_millis(0).since(Timestamp::from_millis(5)), Duration::ZERO);
        let _ = Timestamp::from_millis(i64::MAX).to_rfc3339();
    }
}
