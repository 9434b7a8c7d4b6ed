//! [`Figures`]: counts from indexes and from what is kept, on a reading connection.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension};

use super::SqliteStore;
use super::rows::{count, domain, maybe_time, state};
use crate::clock::Timestamp;
use crate::mtasts::Mode;
use crate::observe::figures::{Figures, Page, Stored};
use crate::queue::{DeferReason, RecipientState, StoreError};

/// The oldest message with recipients that are still owed a delivery: they are numbered as they arrive.
pub(super) const OLDEST: &str =
    "SELECT arrived FROM message INDEXED BY message_finished WHERE finished IS NULL ORDER BY seq LIMIT 1";
/// Domains that are left alone.
pub(super) const SUSPENDED: &str =
    "SELECT count(*) FROM suspension INDEXED BY suspension_until WHERE until > ?1";
/// Policies by mode.
pub(super) const POLICIES: &str = "SELECT mode, count(*) FROM policy INDEXED BY policy_mode GROUP BY mode";
/// Policies whose refreshes fail.
pub(super) const FAILING: &str = "SELECT count(*) FROM policy_memory m INDEXED BY policy_memory_failing \
                                  CROSS JOIN policy p ON p.domain = m.domain WHERE m.refresh_failing_since IS NOT NULL";
/// Reports that are planned.
pub(super) const DUE: &str = "SELECT count(*) FROM report INDEXED BY report_planned WHERE state = 0";
/// Destinations to be tried.
pub(super) const WAITING: &str =
    "SELECT count(*) FROM report_destination INDEXED BY report_destination_due WHERE state = 0";
/// Destinations whose mail lies in the queue.
pub(super) const QUEUED: &str =
    "SELECT count(*) FROM report_destination INDEXED BY report_destination_queued WHERE state = 1";
/// The next domain with waiting recipients.
pub(super) const NEXT: &str = "SELECT domain FROM recipient INDEXED BY recipient_due \
                               WHERE state <= 1 AND domain > ?1 ORDER BY domain LIMIT 1";
/// The first one. A damaged name may be empty, and nothing is before that.
pub(super) const FIRST: &str = "SELECT domain FROM recipient INDEXED BY recipient_due \
                                WHERE state <= 1 ORDER BY domain LIMIT 1";
/// The waiting recipients of a domain.
pub(super) const OF_DOMAIN: &str = "SELECT count(*) FROM (SELECT 1 FROM recipient INDEXED BY recipient_due \
                                    WHERE state <= 1 AND domain = ?1 LIMIT ?2)";

fn stored(conn: &Connection, now: Timestamp) -> rusqlite::Result<Stored> {
    // One moment for all numbers.
    let tx = conn.unchecked_transaction()?;
    let one = |sql: &str| tx.prepare_cached(sql)?.query_row([], |r| count(r, 0));
    Ok(Stored {
        recipients: recipients(&tx)?,
        oldest: tx.prepare_cached(OLDEST)?.query_row([], |r| maybe_time(r, 0)).optional()?.flatten(),
        suspended: tx.prepare_cached(SUSPENDED)?.query_row([now.as_millis()], |r| count(r, 0))?,
        policies: policies(&tx)?,
        failing: one(FAILING)?,
        reports_due: one(DUE)?,
        destinations_waiting: one(WAITING)?,
        destinations_queued: one(QUEUED)?,
        octets: one("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")?,
    })
}

fn recipients(conn: &Connection) -> rusqlite::Result<Vec<(RecipientState, Option<DeferReason>, u64)>> {
    conn.prepare_cached("SELECT state, cause, recipients FROM queue_depth")?
        .query_map([], |r| {
            let cause = r.get_ref(1)?.as_str().ok().and_then(DeferReason::parse);
            Ok((state(r, 0)?, cause, count(r, 2)?))
        })?
        .collect()
}

fn policies(conn: &Connection) -> rusqlite::Result<Vec<(Mode, u64)>> {
    conn.prepare_cached(POLICIES)?
        .query_map([], |r| {
            let mode = match r.get_ref(0)?.as_str()? {
                "enforce" => Mode::Enforce,
                "testing" => Mode::Testing,
                _ => Mode::None,
            };
            Ok((mode, count(r, 1)?))
        })?
        .collect()
}

fn waiting(
    conn: &Connection,
    after: Option<Vec<u8>>,
    most: u64,
    patience: Duration,
) -> rusqlite::Result<Page> {
    let begun = Instant::now();
    let (mut next, mut first) = (conn.prepare_cached(NEXT)?, conn.prepare_cached(FIRST)?);
    let mut of_domain = conn.prepare_cached(OF_DOMAIN)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut page = Page { domains: Vec::new(), next: after };
    loop {
        let read = |r: &rusqlite::Row<'_>| Ok((r.get_ref(0)?.as_bytes()?.to_vec(), domain(r, 0).ok()));
        let found = match &page.next {
            Some(after) => next.query_row([super::rows::Text(after)], read),
            None => first.query_row([], read),
        };
        let Some((octets, name)) = found.optional()? else {
            page.next = None;
            return Ok(page);
        };
        let n = of_domain.query_row((super::rows::Text(&octets), most), |r| count(r, 0))?;
        page.domains.push((name, n));
        page.next = Some(octets);
        if begun.elapsed() >= patience {
            return Ok(page);
        }
    }
}

impl Figures for SqliteStore {
    fn stored(&self, now: Timestamp) -> BoxFuture<'_, Result<Stored, StoreError>> {
        Box::pin(self.readers().read(move |conn| stored(conn, now)))
    }

    fn waiting(
        &self,
        after: Option<Vec<u8>>,
        most: u64,
        patience: Duration,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.readers().read(move |conn| waiting(conn, after, most, patience)))
    }
}
