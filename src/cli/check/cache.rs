//! The relay's policy cache, for looking only.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::mtasts::{DomainMemory, PolicyChange, PolicyRow, PolicyStore, StoreFailed, StoredPolicy};
use crate::store::sqlite::SqliteReader;

/// Reads what a relay stored, if one did; what is to be written is dropped, because `check` stores nothing.
pub(super) struct ReadOnly(pub(super) Option<SqliteReader>);

impl PolicyStore for ReadOnly {
    fn load<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<PolicyRow, StoreFailed>> {
        async move {
            match &self.0 {
                Some(reader) => reader.policy(domain.clone()).await.map_err(|e| StoreFailed(e.to_string())),
                None => Ok(PolicyRow::default()),
            }
        }
        .boxed()
    }

    fn save(&self, _: StoredPolicy, _: Option<String>) -> BoxFuture<'_, Result<(), StoreFailed>> {
        async { Ok(()) }.boxed()
    }

    fn remember(&self, _: Domain, _: DomainMemory) -> BoxFuture<'_, Result<(), StoreFailed>> {
        async { Ok(()) }.boxed()
    }

    fn touch(&self, _: &Domain, _: Timestamp) {}

    fn due_for_refresh(
        &self,
        _: Timestamp,
        _: Timestamp,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredPolicy>, StoreFailed>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn purge(&self, _: Timestamp) -> BoxFuture<'_, Result<usize, StoreFailed>> {
        async { Ok(0) }.boxed()
    }

    fn failing(&self) -> BoxFuture<'_, Result<Vec<(Domain, Timestamp)>, StoreFailed>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn list(&self, _: Option<Domain>, _: usize) -> BoxFuture<'_, Result<Vec<StoredPolicy>, StoreFailed>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn history<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Result<Vec<PolicyChange>, StoreFailed>> {
        async { Ok(Vec::new()) }.boxed()
    }
}
