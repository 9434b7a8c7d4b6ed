//! What is counted of attempts and their outcomes.

use super::ledger::Notice;
use crate::mail::Domain;
use crate::observe::metrics::{Counters, Registry, Values, table};
use crate::queue::{DeferReason, FailReason, Outcome};
use crate::security::Level;
use crate::security::exception::{Allow, Exception, Waived};

/// The handles of the queue.
#[derive(Debug, Clone, Default)]
pub struct QueueMetrics {
    pub(super) attempts: Values,
    pub(super) delays: Values,
    pub(super) notifications: Counters<Notice>,
    pub(super) double_bounces: Counters<()>,
    delivered: Counters<Level>,
    deferred: Counters<DeferReason>,
    bounced: Counters<FailReason>,
    /// One for each `[[exception]]`, and so as many as the operator wrote.
    excepted: Vec<(Domain, Allow, Counters<()>)>,
}

impl QueueMetrics {
    /// Handles that count; `exceptions`: those of the configuration.
    pub fn new(registry: &Registry<'_>, exceptions: &[Exception]) -> Self {
        let excepted = exceptions.iter().map(|e| {
            let labels = [e.domain.to_string(), e.allow.as_str().to_owned()];
            let counter = registry.of_configuration(&table::EXCEPTION_RECIPIENTS, labels);
            (e.domain.clone(), e.allow, counter)
        });
        Self {
            attempts: registry.values(&table::ATTEMPT_DURATION),
            delays: registry.values(&table::DELIVERY_DELAY),
            notifications: registry.counters(&table::NOTIFICATIONS),
            double_bounces: registry.counters(&table::DOUBLE_BOUNCES),
            delivered: registry.counters(&table::DELIVERED),
            deferred: registry.counters(&table::DEFERRED),
            bounced: registry.counters(&table::BOUNCED),
            excepted: excepted.collect(),
        }
    }

    /// Counts what became of one recipient of `domain`.
    pub(super) fn ended(&self, domain: &Domain, outcome: &Outcome) {
        match outcome {
            Outcome::Delivered(d) => {
                self.delivered.count(d.security.unwrap_or(Level::Plain));
                if let Some(waived) = &d.waived {
                    self.needed(domain, waived);
                }
            }
            Outcome::Deferred(reason, _) => self.deferred.count(*reason),
            Outcome::Failed(reason, _) => self.bounced.count(*reason),
        }
    }

    fn needed(&self, domain: &Domain, waived: &Waived) {
        let mut all = self.excepted.iter();
        if let Some((.., counter)) = all.find(|(d, allow, _)| d == domain && *allow == waived.allow) {
            counter.count(());
        }
    }
}
