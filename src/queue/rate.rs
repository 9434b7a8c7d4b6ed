//! How fast mail of one domain may leave (`destination.rate`): a token bucket, as the moment when it is full again.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::Rate;

/// Messages that may leave one domain's queue now.
///
/// One token per message and `per / count` of time each; it holds as many as come in a second, and one at least, so
/// that a rate per hour is spread over the hour. In microseconds, for rates above a thousand a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Time of one token.
    step: i64,
    /// Time of all tokens that it holds.
    depth: i64,
    /// When it is full again.
    full_at: i64,
}

const MICROS: i64 = 1000;

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate) -> Self {
        let per = i64::try_from(rate.per.as_micros()).unwrap_or(i64::MAX);
        let step = (per / i64::from(rate.count)).max(1);
        let holds = (1_000_000 / step).max(1);
        Self { step, depth: step.saturating_mul(holds), full_at: i64::MIN }
    }

    /// How far it is from full. A clock that was set back never makes it emptier than empty (DUR-17).
    fn missing(&self, now: Timestamp) -> i64 {
        self.full_at.saturating_sub(micros(now)).clamp(0, self.depth)
    }

    /// Tokens in it.
    pub fn tokens(&self, now: Timestamp) -> usize {
        usize::try_from(self.depth.saturating_sub(self.missing(now)) / self.step).unwrap_or(0)
    }

    /// Takes up to `wanted` tokens and says how many it got.
    pub fn take(&mut self, wanted: usize, now: Timestamp) -> usize {
        let got = wanted.min(self.tokens(now));
        let cost = self.step.saturating_mul(i64::try_from(got).unwrap_or(i64::MAX));
        self.full_at = micros(now).saturating_add(self.missing(now)).saturating_add(cost);
        got
    }

    /// Puts back tokens that no message was sent for.
    pub fn put_back(&mut self, tokens: usize) {
        let cost = self.step.saturating_mul(i64::try_from(tokens).unwrap_or(i64::MAX));
        self.full_at = self.full_at.saturating_sub(cost);
    }

    /// When there is a token; at once, where there is one.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let lacking = self.missing(now).saturating_sub(self.depth - self.step).max(0);
        now.after(
            Duration::from_micros(lacking.unsigned_abs()).max(Duration::from_millis(u64::from(lacking > 0))),
        )
    }

    /// Whether it says nothing that a new one would not say.
    pub fn is_full(&self, now: Timestamp) -> bool {
        self.missing(now) == 0
    }
}

const fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(MICROS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_795_333_080_000 + ms)
    }

    #[test]
    fn a_rate_is_spread_over_its_time() {
        for (rate, burst, next_ms) in
            [("600/m", 10, 100), ("100/h", 1, 36_000), ("1/d", 1, 86_400_000), ("5000/s", 5000, 1)]
        {
            let mut bucket = Bucket::new(Rate::parse(rate).unwrap());
            assert_eq!(bucket.take(1_000_000, at(0)), burst, "{rate}");
            assert_eq!((bucket.tokens(at(0)), bucket.next(at(0))), (0, at(next_ms)), "{rate}");
            assert!(bucket.tokens(at(next_ms)) >= 1, "{rate}");
            assert!(!bucket.is_full(at(0)) && bucket.is_full(at(86_400_000)), "{rate}");
        }
    }

    #[test]
    fn what_was_not_used_goes_back() {
        let mut bucket = Bucket::new(Rate::parse("1/h").unwrap());
        assert_eq!(bucket.take(1, at(0)), 1);
        bucket.put_back(1);
        assert_eq!(bucket.take(2, at(0)), 1);
    }

    // DUR-17
    #[test]
    fn a_clock_set_back_costs_one_filling_at_most() {
        let mut bucket = Bucket::new(Rate::parse("60/m").unwrap());
        assert_eq!(bucket.take(1, at(86_400_000)), 1);
        assert_eq!(bucket.next(at(0)), at(1000));
        assert_eq!(bucket.tokens(at(1000)), 0, "the bound goes by the clock as it is when asked");
        assert_eq!(bucket.take(1, at(1000)), 0);
        assert_eq!(bucket.tokens(at(2000)), 1, "whoever asks sets it right");
    }

    proptest! {
        // Whatever the moments and the wishes: never more than the rate and one filling.
        #[test]
        fn never_faster_than_the_rate(count in 1_u32..1000, asks in prop::collection::vec((0_i64..5000, 0_usize..50), 1..100)) {
            let mut bucket = Bucket::new(Rate::parse(&format!("{count}/m")).unwrap());
            let burst = bucket.tokens(at(0));
            let (mut now, mut got) = (0_i64, 0);
            for (wait, wanted) in asks {
                now += wait;
                got += bucket.take(wanted, at(now));
            }
            let earned = usize::try_from(now * i64::from(count) / 60_000 + 1).unwrap();
            prop_assert!(got <= burst + earned + 1);
        }
    }
}
