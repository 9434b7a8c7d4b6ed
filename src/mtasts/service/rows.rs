//! The rows of the store as they are kept in memory, and the pauses that an operator has lifted.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::Inner;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::mtasts::{DomainMemory, PolicyRow, StoreFailed, StoredPolicy};

/// A row in memory; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) policy: Option<Arc<StoredPolicy>>,
    pub(super) memory: DomainMemory,
}

impl Row {
    /// About the bytes it occupies.
    pub(super) fn weight(&self) -> u32 {
        let texts = |lines: &[String]| lines.iter().map(|l| l.len() + 32).sum::<usize>();
        let policy = self.policy.as_ref().map_or(0, |p| texts(&p.policy.lines) + texts(&p.policy.mx));
        let failure =
            self.memory.backoff.as_ref().map_or(0, |b| texts(&b.failure.lines) + b.failure.detail.len());
        u32::try_from(512 + policy + failure).unwrap_or(u32::MAX)
    }
}

/// Until when the pauses of STS-25 and STS-55 are void, because an operator wants it tried (`queue retry`).
#[derive(Debug, Default)]
pub(super) struct Lifted {
    pub(super) all: Option<Timestamp>,
    pub(super) domains: HashMap<Domain, Timestamp>,
}

impl Lifted {
    fn of(&self, domain: &Domain) -> Option<Timestamp> {
        self.all.max(self.domains.get(domain).copied())
    }
}

impl Inner {
    /// The row of `domain`, from memory or the store, without limits that an operator has lifted.
    pub(super) async fn load(&self, domain: &Domain) -> Result<Row, StoreFailed> {
        let mut row = self.load_row(domain).await?;
        let lifted = self.lifted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = lifted.of(domain) {
            let memory = &mut row.memory;
            memory.backoff = memory.backoff.take().filter(|b| b.until.before(b.step) > since);
            memory.last_refetch = memory.last_refetch.filter(|at| *at > since);
        }
        Ok(row)
    }

    async fn load_row(&self, domain: &Domain) -> Result<Row, StoreFailed> {
        if let Some(row) = self.rows.get(domain) {
            return Ok(row);
        }
        let PolicyRow { policy, memory } = self.store.load(domain).await.inspect_err(|e| {
            tracing::error!(%domain, error = %e, "stored policy not readable");
        })?;
        let unsaved = self.unsaved().get(domain).map(|(policy, _)| policy.clone());
        let row = Row { policy: unsaved.or(policy).map(Arc::new), memory };
        let _writer = self.row_writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.rows.entry(domain.clone()).or_insert(row).into_value())
    }

    /// Changes the row in memory; `base` stands in for one that was evicted meanwhile.
    pub(super) fn change(&self, domain: &Domain, base: &Row, change: impl FnOnce(&mut Row)) -> Row {
        let _writer = self.row_writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut row = self.rows.get(domain).unwrap_or_else(|| base.clone());
        change(&mut row);
        self.rows.insert(domain.clone(), row.clone());
        row
    }

    /// Changes the memory of `domain` here and in the store.
    pub(super) async fn remember(&self, domain: &Domain, base: &Row, change: impl FnOnce(&mut DomainMemory)) {
        let row = self.change(domain, base, |row| change(&mut row.memory));
        self.write_memory(domain, row.memory).await;
    }

    pub(super) async fn write_memory(&self, domain: &Domain, memory: DomainMemory) {
        if let Err(e) = self.store.remember(domain.clone(), memory).await {
            tracing::error!(%domain, error = %e, "back-off and grace are kept in memory only");
        }
    }
}
