//! Notices that the wall clock jumped, so that a broken time server cannot expire every policy (STS-57).

use std::time::Duration;

use crate::clock::Timestamp;

/// The last look at both clocks, and until when the wall clock is doubted.
#[derive(Debug)]
pub(super) struct ClockWatch {
    wall: Timestamp,
    monotonic: Duration,
    doubted_until: Option<Duration>,
    all_due: bool,
}

impl ClockWatch {
    pub(super) const fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { wall, monotonic, doubted_until: None, all_due: false }
    }

    /// Compares how far both clocks went since the last look. True while expiry is suspended.
    pub(super) fn look(
        &mut self,
        wall: Timestamp,
        monotonic: Duration,
        jump: Duration,
        doubt: Duration,
    ) -> bool {
        let ran = monotonic.saturating_sub(self.monotonic);
        let expected = self.wall.after(ran);
        if wall.since(expected).max(expected.since(wall)) > jump {
            tracing::warn!(%wall, %expected, "the clock jumped: all policies are refreshed, none expires for a day");
            self.doubt(monotonic, doubt);
        }
        (self.wall, self.monotonic) = (wall, monotonic);
        if self.doubted_until.is_some_and(|until| monotonic >= until) {
            self.doubted_until = None;
        }
        self.doubted_until.is_some()
    }

    /// Suspends expiry for `doubt` and makes every policy due for refresh.
    pub(super) const fn doubt(&mut self, monotonic: Duration, doubt: Duration) {
        self.doubted_until = Some(monotonic.saturating_add(doubt));
        self.all_due = true;
    }

    /// Whether a doubt began since the last call.
    pub(super) const fn take_all_due(&mut self) -> bool {
        std::mem::replace(&mut self.all_due, false)
    }
}
