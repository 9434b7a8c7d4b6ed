//! When to try again: the retry list of the configuration, evaluated at use (QUE-04, QUE-05).

use std::time::Duration;

/// Waits after the 1st, 2nd, … deferral; the last repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    waits: Vec<Duration>,
}
