//! [`ReportStore`] for [`SqliteStore`]: `plan` leads to the making of a report, `outbox` away from it, and `look`
//! only reads.
//!
//! The instance lock keeps other processes away, so that what is due need not be leased.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::inbox::Lane;
use super::writer::{Fault, Tx};
use super::{SqliteReader, SqliteStore, rows, sessions};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue::StoreError;
use crate::tlsrpt::{
    Day, DayCounters, DestinationId, DroppedDays, DueDestination, Kept, ListedReport, NewReport, NextDue,
    Planned, PlannedReport, ReportFilter, ReportNo, ReportStore, ReportStoreError, SettledMail, Tried, Way,
};

mod look;
mod outbox;
mod plan;

/// Session records counted in one slice.
const RECORDS: usize = 100;

/// Codes of `report.state`.
const PLANNED: i64 = 0;
pub(super) const MADE: i64 = 1;
const UNWANTED: i64 = 2;
pub(super) const DROPPED: i64 = 3;

impl From<StoreError> for ReportStoreError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Full => Self::Full,
            e => Self::Failed(e.to_string()),
        }
    }
}

/// What a job answers: its own refusal is no fault of the store, and comes before anything was written.
type Judged<T> = Result<Result<T, ReportStoreError>, Fault>;

type Answer<'a, T> = BoxFuture<'a, Result<T, ReportStoreError>>;

impl SqliteStore {
    /// Has `work` committed.
    fn commit<T, F>(&self, work: F) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Judged<T> + Send + 'static,
    {
        Box::pin(async move { self.inbox.write(Lane::Work, work).await? })
    }

    /// Has `work` committed if there is any: what is asked every minute costs an idle disk nothing.
    fn commit_if_any<T, F>(&self, any: &'static str, day: Option<Day>, work: F) -> Answer<'_, T>
    where
        T: Default + Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        Box::pin(async move {
            let day = day.map(|d| d.to_string());
            let found = self
                .readers()
                .read(move |conn| conn.prepare_cached(any)?.exists(rusqlite::params_from_iter(day)));
            if !found.await? {
                return Ok(T::default());
            }
            Ok(self.inbox.write(Lane::Work, move |tx| work(tx)).await?)
        })
    }

    /// Has `look` done aside.
    fn look<T, F>(&self, look: F) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        Box::pin(async move { Ok(self.readers().read(look).await?) })
    }
}

impl SqliteStore {
    /// Has `look` done aside, and what it could not read put out of its way, so that no look stumbles over it again.
    fn look_and_put_aside<T, F>(&self, look: F, put_aside: PutAside) -> Answer<'_, Vec<T>>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<Sorted<T>> + Send + 'static,
    {
        Box::pin(async move {
            let (read, damaged) = self.readers().read(look).await?;
            if !damaged.is_empty() {
                self.inbox.write(Lane::Work, move |tx| Ok(put_aside(tx, &damaged)?)).await?;
            }
            Ok(read)
        })
    }
}

/// The rows that were read, and the keys of those that could not be.
type Sorted<T> = (Vec<T>, Vec<i64>);

type PutAside = fn(&Tx<'_>, &[i64]) -> rusqlite::Result<()>;

/// Sorts rows of which `column` holds the key.
fn sorted<T>(
    rows: &mut rusqlite::Rows<'_>,
    column: usize,
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Sorted<T>> {
    let (mut good, mut damaged) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match rows::readable(row, column, &read)? {
            Some(row) => good.push(row),
            None => damaged.push(row.get(column)?),
        }
    }
    Ok((good, damaged))
}

impl ReportStore for SqliteStore {
    fn fold(&self) -> Answer<'_, bool> {
        let detail_rows = self.detail_rows;
        let any = "SELECT 1 FROM session_record";
        self.commit_if_any(any, None, move |tx| sessions::fold(tx, RECORDS, detail_rows))
    }

    fn plan(&self, today: Day, window: Duration) -> Answer<'_, Planned> {
        let any = "SELECT 1 FROM counted_day WHERE planned = 0 AND day < ?1";
        self.commit_if_any(any, Some(today), move |tx| plan::plan(tx, today, window))
    }

    fn drop_old(&self, oldest: Day) -> Answer<'_, DroppedDays> {
        let any = "SELECT 1 FROM counted_day WHERE day < ?1";
        self.commit_if_any(any, Some(oldest), move |tx| plan::drop_old(tx, oldest))
    }

    fn due_reports(&self, now: Timestamp, limit: usize) -> Answer<'_, Vec<PlannedReport>> {
        self.look_and_put_aside(move |conn| plan::due(conn, now, limit), plan::put_aside)
    }

    fn planned(&self, day: Day, domain: Domain) -> Answer<'_, Option<PlannedReport>> {
        self.look(move |conn| plan::planned(conn, day, &domain))
    }

    fn counters(&self, day: Day, domain: Domain) -> Answer<'_, Option<DayCounters>> {
        self.look(move |conn| look::counters(conn, day, domain))
    }

    fn counted(&self, day: Day, after: Option<Domain>, limit: usize) -> Answer<'_, Vec<Domain>> {
        self.look(move |conn| look::counted(conn, day, after.as_ref(), limit))
    }

    fn keep(&self, report: NewReport, cap: u32) -> Answer<'_, Kept> {
        self.commit(move |tx| outbox::keep(tx, &report, cap))
    }

    fn put_off(&self, planned: PlannedReport, until: Timestamp, why: String) -> Answer<'_, ()> {
        self.commit(move |tx| plan::put_off(tx, &planned, until, &why))
    }

    fn unwanted(&self, planned: PlannedReport, why: String) -> Answer<'_, ()> {
        self.commit(move |tx| plan::unwanted(tx, &planned, &why))
    }

    fn destinations(&self, way: Way, now: Timestamp, limit: usize) -> Answer<'_, Vec<DueDestination>> {
        self.look_and_put_aside(move |conn| outbox::destinations(conn, way, now, limit), outbox::put_aside)
    }

    fn tried(&self, id: DestinationId, attempt: Tried) -> Answer<'_, ()> {
        self.commit(move |tx| outbox::tried(tx, id, &attempt))
    }

    fn settle_mail(&self) -> Answer<'_, Vec<SettledMail>> {
        Box::pin(async move {
            let ended = self.look_and_put_aside(outbox::ended_mail, outbox::put_aside).await?;
            if ended.is_empty() {
                return Ok(Vec::new());
            }
            let marked = ended.clone();
            self.inbox.write(Lane::Work, move |tx| outbox::settle(tx, &marked)).await?;
            Ok(ended.into_iter().map(|(_, settled)| settled).collect())
        })
    }

    fn next_due(&self) -> Answer<'_, NextDue> {
        self.look(look::next_due)
    }

    fn again(&self, id: ReportNo, now: Timestamp, cap: u32) -> Answer<'_, u32> {
        self.commit(move |tx| outbox::again(tx, id, now, cap))
    }

    fn purge_reports(&self, oldest: Day) -> Answer<'_, bool> {
        self.commit(move |tx| outbox::purge(tx, oldest).map(Ok))
    }

    fn reports(&self, filter: ReportFilter, limit: usize) -> Answer<'_, Vec<ListedReport>> {
        self.look(move |conn| look::reports(conn, &filter, limit))
    }

    fn octets(&self, id: ReportNo) -> Answer<'_, Option<Bytes>> {
        self.look(move |conn| look::octets(conn, id))
    }
}

impl SqliteReader {
    /// [`ReportStore::counted`].
    ///
    /// # Errors
    /// Of the database.
    pub async fn counted(
        &self,
        day: Day,
        after: Option<Domain>,
        limit: usize,
    ) -> Result<Vec<Domain>, StoreError> {
        self.0.read(move |conn| look::counted(conn, day, after.as_ref(), limit)).await
    }

    /// [`ReportStore::counters`].
    ///
    /// # Errors
    /// Of the database.
    pub async fn counters(&self, day: Day, domain: Domain) -> Result<Option<DayCounters>, StoreError> {
        self.0.read(move |conn| look::counters(conn, day, domain)).await
    }

    /// [`ReportStore::reports`].
    ///
    /// # Errors
    /// Of the database.
    pub async fn reports(&self, filter: ReportFilter, limit: usize) -> Result<Vec<ListedReport>, StoreError> {
        self.0.read(move |conn| look::reports(conn, &filter, limit)).await
    }

    /// [`ReportStore::octets`].
    ///
    /// # Errors
    /// Of the database.
    pub async fn report_octets(&self, id: ReportNo) -> Result<Option<Bytes>, StoreError> {
        self.0.read(move |conn| look::octets(conn, id)).await
    }
}
