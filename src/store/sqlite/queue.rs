//! [`QueueStore`] for [`SqliteStore`]: which lane, which connection, and what is prepared ahead.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::inbox::Lane;
use super::leases::{self, SettledRow};
use super::rows::message_of;
use super::writer::Tx;
use super::{SqliteStore, history, reads};
use crate::clock::Timestamp;
use crate::mail::{Domain, QueueId};
use crate::queue::{
    ClaimTerms, Delayed, Due, DueQuery, Enqueued, Filter, Finish, Lease, LeaseId, ListedRecipient,
    NewMessage, QueueStore, RecipientState, ShownMessage, StoreError, StoreHealth, Suspension, Touched,
    Which,
};

/// Recipients that an operator's command changes in one commit.
const SLICE: usize = 500;

impl QueueStore for SqliteStore {
    fn enqueue(
        &self,
        message: NewMessage,
        claim: Option<ClaimTerms>,
    ) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        Box::pin(self.store_message(message, claim))
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, StoreError>> {
        let now = self.clock.now();
        Box::pin(async move {
            let (due, damaged) = self.readers().read(move |conn| reads::due(conn, &query, now)).await?;
            if !damaged.is_empty() {
                let aside =
                    self.inbox.write(Lane::Work, move |tx| leases::put_damaged_aside(tx, &damaged)).await;
                if let Err(error) = aside {
                    tracing::error!(event = "row-damaged", %error, "damaged rows could not be put aside");
                }
            }
            Ok(due)
        })
    }

    fn claim(
        &self,
        domain: Domain,
        which: Which,
        limit: usize,
        terms: ClaimTerms,
    ) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>> {
        Box::pin(async move {
            match which {
                Which::Due => {
                    let work = move |tx: &mut Tx<'_>| leases::claim_due(tx, &domain, limit, &terms);
                    self.inbox.write(Lane::Work, work).await
                }
                Which::ArrivedBefore { submitted, generated } => {
                    // There is no index for this rare question; a reader has the time that the writer has not.
                    let name = domain.clone();
                    let found = self
                        .readers()
                        .read(move |conn| leases::arrived_before(conn, &name, (submitted, generated), limit))
                        .await?;
                    if found.is_empty() {
                        return Ok(Vec::new());
                    }
                    let work = move |tx: &mut Tx<'_>| leases::claim_messages(tx, &domain, &found, &terms);
                    self.inbox.write(Lane::Work, work).await
                }
            }
        })
    }

    fn content(&self, id: QueueId, part: u32) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.readers().read(move |conn| reads::content(conn, id, part)))
    }

    fn finish(&self, finish: Finish) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let Finish { lease, settled, entry, generated } = finish;
            let generated = self.prepare_all(generated).await?;
            let settled: Vec<_> = settled.iter().map(SettledRow::new).collect();
            let entry = serde_json::to_string(&entry).unwrap_or_default();
            self.inbox
                .write(Lane::Outcome, move |tx| leases::finish(tx, lease, &settled, &entry, &generated))
                .await
        })
    }

    fn release(
        &self,
        lease: LeaseId,
        recipients: Vec<u32>,
        until: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let work = move |tx: &mut Tx<'_>| leases::release(tx, lease, &recipients, until);
        Box::pin(self.inbox.write(Lane::Outcome, work))
    }

    fn suspend(
        &self,
        domain: Domain,
        suspension: Option<Suspension>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let row = suspension
            .map(|s| (s.until.as_millis(), s.step, serde_json::to_string(&s.last).unwrap_or_default()));
        Box::pin(self.inbox.write(Lane::Work, move |tx| {
            match &row {
                Some((until, step, last)) => tx
                    .conn
                    .prepare_cached("INSERT OR REPLACE INTO suspension VALUES (?1, ?2, ?3, ?4)")?
                    .execute((domain.as_str(), until, step, last))?,
                None => tx
                    .conn
                    .prepare_cached("DELETE FROM suspension WHERE domain = ?1")?
                    .execute([domain.as_str()])?,
            };
            Ok(())
        }))
    }

    fn delayed(
        &self,
        arrived_before: Timestamp,
        after: Option<(QueueId, u32)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Delayed>, StoreError>> {
        Box::pin(self.readers().read(move |conn| reads::delayed(conn, arrived_before, after, limit)))
    }

    fn warned(
        &self,
        recipients: Vec<(QueueId, u32)>,
        generated: Vec<NewMessage>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let generated = self.prepare_all(generated).await?;
            self.inbox.write(Lane::Work, move |tx| leases::warned(tx, &recipients, &generated)).await
        })
    }

    fn purge(&self, keep: Duration, limit: u64) -> BoxFuture<'_, Result<bool, StoreError>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Box::pin(self.inbox.write(Lane::Work, move |tx| history::purge(tx, keep, limit)))
    }

    fn heartbeat(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.inbox.write(Lane::Work, |tx| {
            tx.conn
                .prepare_cached("UPDATE owner SET heartbeat = ?2 WHERE id = ?1")?
                .execute((tx.owner, tx.now.as_millis()))?;
            Ok(())
        }))
    }

    fn list(&self, filter: Filter, limit: usize) -> BoxFuture<'_, Result<Vec<ListedRecipient>, StoreError>> {
        Box::pin(self.reader.list(filter, limit))
    }

    fn show(&self, id: QueueId) -> BoxFuture<'_, Result<Option<ShownMessage>, StoreError>> {
        Box::pin(self.reader.show(id))
    }

    fn retry(&self, filter: Filter) -> BoxFuture<'_, Result<Touched, StoreError>> {
        Box::pin(self.retry_in_slices(filter))
    }

    fn health(&self) -> StoreHealth {
        self.health.now()
    }
}

impl SqliteStore {
    async fn retry_in_slices(&self, filter: Filter) -> Result<Touched, StoreError> {
        let mut touched = Touched::default();
        let (mut after, mut last_message) = (-1, -1);
        loop {
            let filter = filter.clone();
            let found = self.readers().read(move |conn| reads::matches(conn, &filter, after, SLICE)).await?;
            let Some(last) = found.last() else { return Ok(touched) };
            after = last.id;
            touched.in_flight +=
                found.iter().filter(|m| m.state == RecipientState::Delivering).count() as u64;
            let waiting: Vec<_> = found.into_iter().filter(|m| m.state.is_waiting()).collect();
            if waiting.is_empty() {
                continue;
            }
            let ids: Vec<i64> = waiting.iter().map(|m| m.id).collect();
            let domains: HashSet<Arc<str>> = waiting.into_iter().map(|m| m.domain).collect();
            let domains: Vec<_> = domains.into_iter().collect();
            let changed =
                self.inbox.write(Lane::Work, move |tx| leases::make_due(tx, &ids, &domains)).await?;
            touched.recipients += changed.len() as u64;
            for message in changed.into_iter().map(message_of) {
                touched.messages += u64::from(message != last_message);
                last_message = message;
            }
        }
    }
}
