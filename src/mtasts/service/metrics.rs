//! What is counted of fetches and refreshes.

use std::time::Duration;

use super::NotFetched;
use crate::observe::metrics::{Counters, Registry, Values, table, words};
use crate::tlsrpt::ResultType;

words! {
    /// What a fetch came to.
    enum Fetched {
        Success = "success",
        FetchError = "sts-policy-fetch-error",
        Invalid = "sts-policy-invalid",
        Certificate = "sts-webpki-invalid",
        Busy = "busy",
    }
}

words! {
    /// How much a failed refresh matters (STS-50).
    pub(super) enum Severity {
        Warning = "warning",
        Urgent = "urgent",
    }
}

words! {
    /// How an enforce policy came to hold no more.
    pub(super) enum Downgrade {
        Withdrawn = "withdrawn",
        Expired = "expired",
    }
}

/// The handles of the policy service.
#[derive(Debug, Clone, Default)]
pub struct PolicyMetrics {
    fetches: Counters<Fetched>,
    durations: Values,
    pub(super) refreshes_failed: Counters<Severity>,
    pub(super) downgrades: Counters<Downgrade>,
}

impl PolicyMetrics {
    /// Handles that count.
    pub fn new(registry: &Registry<'_>) -> Self {
        Self {
            fetches: registry.counters(&table::POLICY_FETCHES),
            durations: registry.values(&table::POLICY_FETCH_DURATION),
            refreshes_failed: registry.counters(&table::REFRESHES_FAILED),
            downgrades: registry.counters(&table::DOWNGRADES),
        }
    }

    /// A fetch has ended.
    pub(super) fn fetched<T>(&self, result: &Result<T, NotFetched>, took: Duration) {
        if !matches!(result, Err(NotFetched::NoSlot)) {
            self.durations.took(took);
        }
        self.fetches.count(match result {
            Ok(_) => Fetched::Success,
            Err(NotFetched::NoSlot) => Fetched::Busy,
            Err(NotFetched::Failed(failure)) => match failure.result {
                ResultType::StsPolicyInvalid => Fetched::Invalid,
                ResultType::StsWebpkiInvalid => Fetched::Certificate,
                _ => Fetched::FetchError,
            },
        });
    }
}
