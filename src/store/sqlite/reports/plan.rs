//! From counters to plans, and what ends them without a report.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DROPPED, Judged, PLANNED, Sorted, UNWANTED, sorted};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::store::sqlite::rows::{day, domain, number, time};
use crate::store::sqlite::writer::{Fault, Tx};
use crate::tlsrpt::{Day, DroppedDays, Planned, PlannedReport, ReportStoreError};

/// Reports planned in one slice.
const PLANS: i64 = 200;
/// Days of domains looked at in one slice of dropping, and rows after which it ends early.
const DAYS: i64 = 100;
const ROWS: u64 = 2000;
/// The day's reports begin so long after its end (RPT-70).
const AFTER_MIDNIGHT: Duration = Duration::from_secs(5 * 60);
/// No obstacle puts a report off for longer: what lies further ahead was written by a clock that has been set back.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(super) fn plan(tx: &Tx<'_>, today: Day, window: Duration) -> Result<Planned, Fault> {
    let mut unplanned = tx.conn.prepare_cached(
        "SELECT id, day, domain FROM counted_day WHERE planned = 0 AND day < ?1 ORDER BY day LIMIT ?2",
    )?;
    let (open, damaged): Sorted<(i64, Day, Domain)> =
        sorted(&mut unplanned.query((today.to_string(), PLANS))?, 0, |r| {
            Ok((r.get(0)?, day(r, 1)?, domain(r, 2)?))
        })?;
    for id in &damaged {
        forget(tx, *id)?;
    }
    let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut planned = 0;
    for (id, day, domain) in &open {
        let delay = u64::try_from(rand::random_range(0..window)).unwrap_or_default();
        let due = day.next().begin().after(AFTER_MIDNIGHT).after(Duration::from_millis(delay)).as_millis();
        // A day that has its report gets no second one, whatever was counted late.
        planned += tx
            .conn
            .prepare_cached(
                "INSERT INTO report (day, domain, partial, state, due, at) VALUES (?1, ?2, 0, ?3, ?4, ?4) \
                 ON CONFLICT (day, domain) WHERE partial = 0 DO NOTHING",
            )?
            .execute(params![day.to_string(), domain.as_str(), PLANNED, due])?;
        tx.conn.prepare_cached("UPDATE counted_day SET planned = 1 WHERE id = ?1")?.execute([id])?;
    }
    Ok(Planned { planned, more: number(open.len() + damaged.len()) == PLANS })
}

pub(super) fn drop_old(tx: &Tx<'_>, oldest: Day) -> Result<DroppedDays, Fault> {
    let mut counted = tx.conn.prepare_cached(
        "SELECT id, day, domain FROM counted_day WHERE day < ?1 ORDER BY day, domain LIMIT ?2",
    )?;
    let (old, damaged): Sorted<(i64, Day, Domain)> =
        sorted(&mut counted.query((oldest.to_string(), DAYS))?, 0, |r| {
            Ok((r.get(0)?, day(r, 1)?, domain(r, 2)?))
        })?;
    let more = number(old.len() + damaged.len()) == DAYS;
    let mut dropped = DroppedDays { days: Vec::new(), more };
    let before = tx.conn.total_changes();
    for id in damaged {
        forget(tx, id)?;
    }
    for (id, day, domain) in old {
        forget(tx, id)?;
        tx.conn
            .prepare_cached(
                "INSERT INTO report (day, domain, partial, state, due, at) VALUES (?1, ?2, 0, ?3, ?4, ?4) \
                 ON CONFLICT (day, domain) WHERE partial = 0 DO NOTHING",
            )?
            .execute(params![day.to_string(), domain.as_str(), PLANNED, tx.now.as_millis()])?;
        // None: its report was made before this was counted, which takes a clock that went back.
        let why: Option<String> = tx
            .conn
            .prepare_cached(
                "UPDATE report SET state = ?3, at = ?4 WHERE day = ?1 AND domain = ?2 AND partial = 0 AND state = ?5 \
                 RETURNING why",
            )?
            .query_row(
                params![day.to_string(), domain.as_str(), DROPPED, tx.now.as_millis(), PLANNED],
                |r| r.get(0),
            )
            .optional()?;
        let why = why.unwrap_or_else(|| "counted after its report was made".to_owned());
        dropped.days.push((day, domain, why));
        if tx.conn.total_changes() - before > ROWS {
            dropped.more = true;
            break;
        }
    }
    Ok(dropped)
}

/// Deletes a day of a domain with all that was counted for it.
fn forget(tx: &Tx<'_>, counted: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM counted_detail WHERE policy IN (SELECT id FROM counted_policy WHERE counted = ?1)",
        "DELETE FROM counted_policy WHERE counted = ?1",
        "DELETE FROM counted_day WHERE id = ?1",
    ] {
        tx.conn.prepare_cached(sql)?.execute([counted])?;
    }
    Ok(())
}

/// The same by its name.
pub(super) fn forget_day(tx: &Tx<'_>, day: Day, domain: &Domain) -> rusqlite::Result<()> {
    let id = tx
        .conn
        .prepare_cached("SELECT id FROM counted_day WHERE day = ?1 AND domain = ?2")?
        .query_row((day.to_string(), domain.as_str()), |r| r.get(0))
        .optional()?;
    id.map_or(Ok(()), |id| forget(tx, id))
}

fn read(row: &Row<'_>) -> rusqlite::Result<PlannedReport> {
    Ok(PlannedReport { day: day(row, 0)?, domain: domain(row, 1)?, due: time(row, 2)?, put_off: row.get(3)? })
}

pub(super) fn due(
    conn: &Connection,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<Sorted<PlannedReport>> {
    let mut due = conn.prepare_cached(
        "SELECT day, domain, due, put_off, no FROM report WHERE state = 0 AND \
         (at <= ?1 OR (at > ?2 AND due <= ?1)) ORDER BY at LIMIT ?3",
    )?;
    sorted(&mut due.query((now.as_millis(), now.after(LONGEST).as_millis(), number(limit)))?, 4, read)
}

/// Ends plans that cannot be read.
pub(super) fn put_aside(tx: &Tx<'_>, damaged: &[i64]) -> rusqlite::Result<()> {
    for no in damaged {
        tx.conn
            .prepare_cached(
                "UPDATE report SET state = ?2, why = 'its row is damaged' WHERE no = ?1 AND state = 0",
            )?
            .execute((no, DROPPED))?;
    }
    Ok(())
}

pub(super) fn planned(
    conn: &Connection,
    day: Day,
    domain: &Domain,
) -> rusqlite::Result<Option<PlannedReport>> {
    conn.prepare_cached(
        "SELECT day, domain, due, put_off FROM report WHERE day = ?1 AND domain = ?2 AND partial = 0 AND state = 0",
    )?
    .query_row((day.to_string(), domain.as_str()), read)
    .optional()
}

pub(super) fn put_off(tx: &Tx<'_>, planned: &PlannedReport, until: Timestamp, why: &str) -> Judged<()> {
    let changed = tx
        .conn
        .prepare_cached(
            "UPDATE report SET at = ?3, why = ?4, put_off = put_off + 1 \
             WHERE day = ?1 AND domain = ?2 AND partial = 0 AND state = 0",
        )?
        .execute((planned.day.to_string(), planned.domain.as_str(), until.as_millis(), why))?;
    Ok(if changed == 0 { Err(ReportStoreError::Unknown) } else { Ok(()) })
}

pub(super) fn unwanted(tx: &Tx<'_>, planned: &PlannedReport, why: &str) -> Judged<()> {
    let changed = tx
        .conn
        .prepare_cached(
            "UPDATE report SET state = ?3, at = ?4, why = ?5 \
             WHERE day = ?1 AND domain = ?2 AND partial = 0 AND state = 0",
        )?
        .execute((planned.day.to_string(), planned.domain.as_str(), UNWANTED, tx.now.as_millis(), why))?;
    if changed == 0 {
        return Ok(Err(ReportStoreError::Unknown));
    }
    forget_day(tx, planned.day, &planned.domain)?;
    Ok(Ok(()))
}
