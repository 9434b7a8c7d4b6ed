//! What is counted of commits and errors.

use crate::observe::metrics::{Counters, Registry, Values, table, words};

words! {
    /// What the database says no with.
    pub(super) enum Trouble {
        Full = "full",
        Busy = "busy",
        Broken = "broken",
    }
}

/// The handles of the store.
#[derive(Debug, Clone, Default)]
pub struct StoreMetrics {
    pub(super) commits: Values,
    pub(super) batches: Values,
    pub(super) errors: Counters<Trouble>,
    pub(super) dropped: Counters<()>,
}

impl StoreMetrics {
    /// Handles that count.
    pub fn new(registry: &Registry<'_>) -> Self {
        Self {
            commits: registry.values(&table::DB_COMMIT_DURATION),
            batches: registry.values(&table::DB_BATCH_JOBS),
            errors: registry.counters(&table::DB_ERRORS),
            dropped: registry.counters(&table::DB_DROPPED),
        }
    }
}
