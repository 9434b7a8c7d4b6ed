//! When to try again: the retry list of the configuration, evaluated at use (QUE-04, QUE-05).

use std::time::Duration;

/// Waits after the 1st, 2nd, … deferral; the last repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    waits: Vec<Duration>,
}

/// How far jitter moves a wait, as a part of it, so that a restart does not align retries (QUE-04).
const JITTER: f64 = 0.1;

/// From this attempt on, and at the least so long, whatever the list says: in five days no message makes more than
/// 80 attempts at two hosts each, so that a list of seconds cannot hammer anybody (LIM-34).
const GUARDED_AFTER: u32 = 20;
const GUARDED_WAIT: Duration = Duration::from_secs(2 * 3600);

impl RetrySchedule {
    /// A schedule of these waits; the default list when there are none.
    pub fn new(waits: Vec<Duration>) -> Self {
        if waits.is_empty() { Self::default() } else { Self { waits } }
    }

    /// The wait after attempt number `attempts` (1 is the first), moved by up to ten per cent either way.
    /// `random` lies in 0..1; whatever else it is counts as the nearer end.
    pub fn wait(&self, attempts: u32, random: f64) -> Duration {
        let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut base = self.waits.get(index).or_else(|| self.waits.last()).copied().unwrap_or_default();
        if attempts >= GUARDED_AFTER {
            base = base.max(GUARDED_WAIT);
        }
        let random = if random.is_nan() { 0.5 } else { random.clamp(0.0, 1.0) };
        let factor = 1.0 - JITTER + 2.0 * JITTER * random;
        Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(base)
    }

    /// The longest wait that [`RetrySchedule::wait`] can give.
    pub fn longest(&self) -> Duration {
        let base = self.waits.iter().max().copied().unwrap_or_default().max(GUARDED_WAIT);
        Duration::try_from_secs_f64(base.as_secs_f64() * (1.0 + JITTER)).unwrap_or(Duration::MAX)
    }
}

impl Default for RetrySchedule {
    /// 5 m, 10 m, 20 m, 30 m, 1 h, 2 h, then every 3 h.
    fn default() -> Self {
        Self { waits: [5, 10, 20, 30, 60, 120, 180].map(|m| Duration::from_secs(m * 60)).to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // QUE-04
    #[test]
    fn the_list_is_walked_and_its_last_wait_repeats() {
        let minutes: Vec<u128> =
            (1..=9).map(|n| (RetrySchedule::default().wait(n, 0.5).as_millis() + 500) / 60_000).collect();
        assert_eq!(minutes, [5, 10, 20, 30, 60, 120, 180, 180, 180]);
        assert_eq!(RetrySchedule::new(vec![]), RetrySchedule::default());
    }

    // LIM-34
    #[test]
    fn a_list_of_seconds_cannot_hammer_a_host() {
        let hasty = RetrySchedule::new(vec![Duration::from_secs(1)]);
        let (mut age, mut attempts) = (Duration::ZERO, 0);
        while age < Duration::from_secs(5 * 86_400) {
            attempts += 1;
            age += hasty.wait(attempts, 0.0);
        }
        assert!(attempts * 2 <= 200, "{attempts} attempts");
        assert_eq!(hasty.wait(19, 0.5), Duration::from_secs(1), "a short list is honoured first");
    }

    proptest! {
        // QUE-04
        #[test]
        fn jitter_stays_within_ten_per_cent_and_nothing_panics(
            secs in proptest::collection::vec(any::<u64>(), 1..5),
            attempts: u32,
            random: f64,
        ) {
            let schedule = RetrySchedule::new(secs.iter().copied().map(Duration::from_secs).collect());
            let index = (attempts.max(1) as usize - 1).min(secs.len() - 1);
            let wait = schedule.wait(attempts, random).as_secs_f64();
            let base = secs[index] as f64;
            prop_assert!(wait >= base * 0.899 && wait <= base * 1.101 + 0.001, "{wait} of {base}");
            prop_assert!(wait <= schedule.longest().as_secs_f64() * 1.001);
        }
    }

    // QUE-04
    #[test]
    fn a_thousand_retries_spread() {
        let schedule = RetrySchedule::default();
        let waits: std::collections::BTreeSet<_> =
            (0..1000).map(|n| schedule.wait(1, f64::from(n) / 1000.0).as_secs()).collect();
        assert!(waits.len() >= 59, "{}", waits.len());
    }
}
