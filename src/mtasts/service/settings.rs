//! What the policy service is told.

use std::time::Duration;

use super::metrics::PolicyMetrics;
use crate::mtasts::decide::Limits;

/// What the service is told; the defaults are those of the specification.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// `mta_sts.enabled`: false finds no policy anywhere and asks nobody.
    pub enabled: bool,
    /// Grace, back-off and their like.
    pub limits: Limits,
    /// The end of a fetch, whatever the fetcher does (STS-29): 60 s.
    pub fetch_timeout: Duration,
    /// Fetches at the same time (STS-26): 64.
    pub max_fetches: usize,
    /// How long a delivery waits for one of them: 60 s.
    pub slot_wait: Duration,
    /// Size of the rows kept in memory, in bytes: 64 MiB.
    pub memory: u64,
    /// Age at which a policy has been refreshed at the latest (STS-49): 24 h.
    pub refresh_after: Duration,
    /// How far before that a refresh may come; each policy has its own moment: 3 h.
    pub refresh_spread: Duration,
    /// The wait after a refresh that failed: 1 h.
    pub refresh_retry: Duration,
    /// Refreshes at the same time: 8.
    pub refresh_parallel: usize,
    /// Policies that no delivery used for so long lapse unrefreshed: 180 days.
    pub unused_after: Duration,
    /// The pause between unconditional refetches after an enforce failure (STS-55): 1 h.
    pub refetch_pause: Duration,
    /// How long an expired and unused policy is kept (STS-56): 30 days.
    pub keep_expired: Duration,
    /// How often due refreshes are looked for: 1 min.
    pub tick: Duration,
    /// The disagreement of wall and monotonic time that makes the clock doubted (STS-57): 1 h.
    pub clock_jump: Duration,
    /// The like between the last time written and the start: 1 day.
    pub start_gap: Duration,
    /// How long a doubted clock expires nothing: 24 h.
    pub doubt: Duration,
    /// What is counted.
    pub metrics: PolicyMetrics,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        Self {
            enabled: true,
            limits: Limits::default(),
            fetch_timeout: minute,
            max_fetches: 64,
            slot_wait: minute,
            memory: 64 << 20,
            refresh_after: hour * 24,
            refresh_spread: hour * 3,
            refresh_retry: hour,
            refresh_parallel: 8,
            unused_after: hour * 24 * 180,
            refetch_pause: hour,
            keep_expired: hour * 24 * 30,
            tick: minute,
            clock_jump: hour,
            start_gap: hour * 24,
            doubt: hour * 24,
            metrics: PolicyMetrics::default(),
        }
    }
}
