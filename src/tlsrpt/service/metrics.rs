//! What is counted of reports.

use crate::observe::metrics::{Counters, Registry, table, words};
use crate::tlsrpt::{DestinationState, Way};

words! {
    /// What became of a report.
    pub(super) enum Became {
        Made = "made",
        Unwanted = "unwanted",
        PutOff = "put_off",
        Dropped = "dropped",
    }
}

words! {
    /// How a report goes.
    enum By {
        Mail = "mail",
        Https = "https",
    }
}

words! {
    /// What a try came to.
    enum Tried {
        Queued = "queued",
        Accepted = "accepted",
        Deferred = "deferred",
        Failed = "failed",
    }
}

/// The handles of the report service.
#[derive(Debug, Clone, Default)]
pub struct ReportMetrics {
    pub(super) reports: Counters<Became>,
    deliveries: Counters<(By, Tried)>,
}

impl ReportMetrics {
    /// Handles that count.
    pub fn new(registry: &Registry<'_>) -> Self {
        Self {
            reports: registry.counters(&table::REPORTS),
            deliveries: registry.counters(&table::REPORT_DELIVERIES),
        }
    }

    /// A destination stands so now.
    pub(super) fn tried(&self, way: Way, state: DestinationState) {
        let by = match way {
            Way::Mail => By::Mail,
            Way::Https => By::Https,
        };
        let tried = match state {
            DestinationState::Waiting => Tried::Deferred,
            DestinationState::Queued => Tried::Queued,
            DestinationState::Accepted => Tried::Accepted,
            DestinationState::Failed => Tried::Failed,
        };
        self.deliveries.count((by, tried));
    }
}
