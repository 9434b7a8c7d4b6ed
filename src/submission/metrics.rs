//! What is counted on the way in.

use crate::observe::metrics::{Counters, Gauge, Registry, table, words};
use crate::smtp::session::Verdict;

words! {
    /// What became of a connection.
    pub(super) enum Connected {
        Accepted = "accepted",
        TurnedAway = "turned_away",
    }
}

words! {
    /// What became of an AUTH command.
    pub(super) enum Authenticated {
        Success = "success",
        Failure = "failure",
        Error = "error",
    }
}

impl From<Verdict> for Authenticated {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Right => Self::Success,
            Verdict::Wrong => Self::Failure,
            Verdict::Unknown => Self::Error,
        }
    }
}

words! {
    /// Where something was refused.
    pub(super) enum Stage {
        Command = "command",
        Content = "content",
    }
}

words! {
    /// Whether it may be tried again.
    pub(super) enum Reply {
        Temporary = "4xx",
        Permanent = "5xx",
    }
}

impl Reply {
    /// The class of a refusal.
    pub(super) const fn of(code: u16) -> Self {
        if code < 500 { Self::Temporary } else { Self::Permanent }
    }
}

/// The handles of all listeners.
#[derive(Debug, Clone, Default)]
pub struct SubmissionMetrics {
    pub(super) connections: Counters<Connected>,
    pub(super) open: Gauge,
    pub(super) auth: Counters<Authenticated>,
    pub(super) refusals: Counters<(Stage, Reply)>,
    pub(super) accepted: Counters<()>,
    pub(super) octets: Counters<()>,
}

impl SubmissionMetrics {
    /// Handles that count.
    pub fn new(registry: &Registry<'_>) -> Self {
        Self {
            connections: registry.counters(&table::SUBMISSION_CONNECTIONS),
            open: registry.gauge(&table::SUBMISSION_OPEN),
            auth: registry.counters(&table::SUBMISSION_AUTH),
            refusals: registry.counters(&table::SUBMISSION_REFUSALS),
            accepted: registry.counters(&table::MESSAGES_ACCEPTED),
            octets: registry.counters(&table::BYTES_ACCEPTED),
        }
    }
}
