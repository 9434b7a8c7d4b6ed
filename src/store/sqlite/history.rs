//! What is kept of finished messages, and for how long.

use std::time::Duration;

use super::rows::keys;
use super::writer::{Fault, Tx};
use crate::queue::Suspension;

/// Messages deleted in one slice.
const MESSAGES: i64 = 50;
/// Lines of timeline deleted in one slice.
const LINES: i64 = 200;
/// Pages given back to the file system in one slice.
const PAGES: i64 = 500;

/// Deletes a slice: first what is too old, then what is too much, then free pages when they are more than a
/// quarter of the file. `false` when nothing is left to do.
pub(super) fn purge(tx: &mut Tx<'_>, keep: Duration, limit: i64) -> Result<bool, Fault> {
    Ok(purge_messages(tx, keep)? || purge_timeline(tx, limit)? || purge_suspensions(tx)? || shrink(tx)?)
}

/// A suspension that ran out long ago and was not renewed: nothing waits for its domain any more.
fn purge_suspensions(tx: &Tx<'_>) -> Result<bool, Fault> {
    let deleted = tx
        .conn
        .prepare_cached(
            "DELETE FROM suspension WHERE domain IN (SELECT domain FROM suspension WHERE until < ?1 LIMIT ?2)",
        )?
        .execute((tx.now.before(Suspension::FORGOTTEN).as_millis(), MESSAGES))?;
    Ok(deleted > 0)
}

fn purge_messages(tx: &mut Tx<'_>, keep: Duration) -> Result<bool, Fault> {
    let old: Vec<i64> = tx
        .conn
        .prepare_cached(
            // A report whose fate has not been taken over yet stays.
            "SELECT seq FROM message m WHERE finished < ?1 AND NOT EXISTS \
             (SELECT 1 FROM report_destination d WHERE d.mail = m.id AND d.state = 1) ORDER BY finished LIMIT ?2",
        )?
        .query_map((tx.now.before(keep).as_millis(), MESSAGES), |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for seq in &old {
        let (first, last) = keys(*seq);
        let octets: i64 = tx
            .conn
            .prepare_cached("SELECT coalesce(sum(octet_length(entry)), 0) FROM timeline WHERE message = ?1")?
            .query_row([seq], |r| r.get(0))?;
        tx.timeline_grew(-octets);
        tx.conn.prepare_cached("DELETE FROM timeline WHERE message = ?1")?.execute([seq])?;
        tx.conn.prepare_cached("DELETE FROM recipient WHERE id BETWEEN ?1 AND ?2")?.execute((first, last))?;
        tx.conn.prepare_cached("DELETE FROM message WHERE seq = ?1")?.execute([seq])?;
    }
    Ok(!old.is_empty())
}

fn purge_timeline(tx: &mut Tx<'_>, limit: i64) -> Result<bool, Fault> {
    let octets: i64 =
        tx.conn.prepare_cached("SELECT timeline_octets FROM meta")?.query_row([], |r| r.get(0))?;
    if octets <= limit {
        return Ok(false);
    }
    let lines: Vec<(i64, i64)> = tx
        .conn
        .prepare_cached("SELECT id, octet_length(entry) FROM timeline ORDER BY id LIMIT ?1")?
        .query_map([LINES], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut left = octets;
    for (id, octets) in &lines {
        if left <= limit {
            break;
        }
        tx.conn.prepare_cached("DELETE FROM timeline WHERE id = ?1")?.execute([id])?;
        tx.timeline_grew(-octets);
        left -= octets;
    }
    Ok(!lines.is_empty() && left > limit)
}

fn shrink(tx: &Tx<'_>) -> Result<bool, Fault> {
    let count = |pragma| tx.conn.query_row(pragma, [], |r| r.get::<_, i64>(0));
    let (free, all) = (count("PRAGMA freelist_count")?, count("PRAGMA page_count")?);
    if free < all / 4 || free < PAGES {
        return Ok(false);
    }
    let mut vacuum = tx.conn.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}
