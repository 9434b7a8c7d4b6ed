//! Housekeeping, in slices that never hold the writer for long (DUR-03): content nobody refers to, rows left
//! in the future by a clock that went back (DUR-17), SessionRecords to be counted.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::inbox::Inbox;
use super::rows::key;
use super::sessions;
use super::writer::{Fault, Tx};
use crate::clock::Timestamp;

/// Parts of content deleted in one slice: 2 MiB.
const PARTS: i64 = 8;
/// Rows moved in one slice.
const ROWS: i64 = 500;
/// SessionRecords counted in one slice.
const RECORDS: usize = 100;
/// A step back of the wall clock larger than this is a jump and not a correction.
const JUMP: Duration = Duration::from_secs(60);

/// What is left to do.
pub(super) struct Tidy {
    longest_wait: Duration,
    detail_rows: i64,
    /// Wall time of the last look, and the monotonic time that belongs to it.
    seen: Option<(Timestamp, Duration)>,
    /// The domain up to which waiting rows have been looked at for next attempts too far away; `None`: all.
    clamp: Option<String>,
}

impl Tidy {
    /// At the start everything is looked at once.
    pub(super) const fn new(longest_wait: Duration, detail_rows: i64) -> Self {
        Self { longest_wait, detail_rows, seen: None, clamp: Some(String::new()) }
    }

    /// Notices a wall clock that was set back (DUR-17).
    pub(super) fn watch_clock(&mut self, now: Timestamp, monotonic: Duration) {
        if let Some((wall, mono)) = self.seen {
            let expected = wall.after(monotonic.saturating_sub(mono));
            if expected.since(now) > JUMP {
                tracing::warn!(from = %expected, to = %now, "the wall clock went back; waiting mail is brought forward");
                self.clamp = Some(String::new());
            }
        }
        self.seen = Some((now, monotonic));
    }

    /// After a slice that failed: its rows are looked at again.
    pub(super) fn start_over(&mut self) {
        self.clamp = Some(String::new());
    }

    /// Does one slice. `false` when there is nothing left.
    pub(super) fn slice(&mut self, tx: &mut Tx<'_>, inbox: &Inbox) -> Result<bool, Fault> {
        let content = drop_content(tx, inbox)?;
        let records = sessions::fold(tx, RECORDS, self.detail_rows)?;
        self.bring_forward(tx)?;
        Ok(content || records || self.clamp.is_some())
    }

    /// Moves next attempts that lie further away than any wait: the clock has been set back since they were
    /// written. What was never tried becomes due now, the rest within the longest wait, spread.
    fn bring_forward(&mut self, tx: &Tx<'_>) -> Result<(), Fault> {
        let Some(after) = self.clamp.take() else { return Ok(()) };
        let latest = tx.now.after(self.longest_wait);
        // `>=`: a domain with more rows than a slice takes is looked at again.
        let domain: Option<String> = tx
            .conn
            .prepare_cached(
                "SELECT domain FROM recipient INDEXED BY recipient_due WHERE state <= 1 AND domain >= ?1 ORDER BY domain LIMIT 1",
            )?
            .query_row([&after], |r| r.get(0))
            .optional()?;
        let Some(domain) = domain else {
            tx.conn
                .prepare_cached("UPDATE suspension SET until = ?2 WHERE until > ?1")?
                .execute((latest.as_millis(), tx.now.as_millis()))?;
            return Ok(());
        };
        let moved = tx
            .conn
            .prepare_cached(
                "UPDATE recipient SET next_attempt = CASE state WHEN 0 THEN ?3 ELSE ?3 + abs(random() % ?4) END WHERE id IN \
                 (SELECT id FROM recipient INDEXED BY recipient_due WHERE domain = ?1 AND state <= 1 AND next_attempt > ?2 LIMIT ?5)",
            )?
            .execute(params![
                domain,
                latest.as_millis(),
                tx.now.as_millis(),
                i64::try_from(self.longest_wait.as_millis()).unwrap_or(i64::MAX).max(1),
                ROWS
            ])?;
        // NUL sorts after the name itself and before every other.
        self.clamp = Some(if i64::try_from(moved) == Ok(ROWS) { domain } else { format!("{domain}\0") });
        Ok(())
    }
}

/// Deletes the end of some content that nothing refers to. `false` when there is no more.
fn drop_content(tx: &Tx<'_>, inbox: &Inbox) -> Result<bool, Fault> {
    let unused: Vec<i64> = tx
        .conn
        .prepare_cached("SELECT seq FROM unused_content ORDER BY seq")?
        .query_map([], |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let Some(seq) = unused.into_iter().find(|seq| !inbox.is_uploading(*seq)) else { return Ok(false) };
    let deleted = tx
        .conn
        .prepare_cached(
            "DELETE FROM content WHERE id IN (SELECT id FROM content WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3)",
        )?
        .execute((key(seq, 0), key(seq + 1, 0), PARTS))?;
    if deleted == 0 {
        tx.conn.prepare_cached("DELETE FROM unused_content WHERE seq = ?1")?.execute([seq])?;
    }
    Ok(true)
}
