//! Notices that the wall clock jumped forward, so that no half-counted day is taken for a closed one.

use std::time::Duration;

use crate::clock::Timestamp;

/// The last look at both clocks, and until when the wall clock is doubted.
#[derive(Debug)]
pub(super) struct ClockWatch {
    wall: Timestamp,
    monotonic: Duration,
    doubted_until: Option<Duration>,
}

impl ClockWatch {
    pub(super) const fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { wall, monotonic, doubted_until: None }
    }

    /// Compares how far both clocks went since the last look. A jump forward is doubted for `doubt`; a jump back,
    /// which may be its repair, ends the doubt.
    pub(super) fn look(
        &mut self,
        wall: Timestamp,
        monotonic: Duration,
        jump: Duration,
        doubt: Duration,
    ) -> bool {
        let expected = self.wall.after(monotonic.saturating_sub(self.monotonic));
        (self.wall, self.monotonic) = (wall, monotonic);
        if wall.since(expected) > jump {
            tracing::warn!(event = "report-clock-jump", %wall, %expected, ?doubt, "the clock jumped forward: no report is made for a while");
            self.doubted_until = Some(monotonic.saturating_add(doubt));
        } else if expected.since(wall) > jump {
            self.doubted_until = None;
        }
        self.doubted_until = self.doubted_until.filter(|until| monotonic < *until);
        self.doubted_until.is_some()
    }
}
