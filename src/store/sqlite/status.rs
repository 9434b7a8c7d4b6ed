//! [`Overview`]: what is stored, counted by indexes on one reading connection. No writer waits for it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension};

use super::policies::mode;
use super::reports::{DROPPED, MADE};
use super::rows::{self, count, day, domain, maybe_time, message_of, number, queue_id, time};
use super::{SqliteReader, SqliteStore, figures};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::mtasts::{FetchFailure, Mode};
use crate::queue::StoreError;
use crate::status::queue::{Census, Count, Example, QueueStanding, Waiting};
use crate::status::{
    FailingPolicy, MOST_COUNTED, NAMED, Overview, PolicyStanding, ReportFailure, ReportStanding, Stored,
};
use crate::tlsrpt::{Day, ReportNo};

/// Rows that are looked up one by one.
const MOST_LOOKED_UP: usize = 10_000;

/// Everything that waits, domain by domain.
pub(super) const WAITING: &str = "SELECT domain, next_attempt, arrived, cause, id FROM recipient INDEXED BY recipient_due \
                                  WHERE state <= 1 ORDER BY domain, next_attempt LIMIT ?1";
/// Domains that were found dead.
pub(super) const SUSPENSIONS: &str = "SELECT domain, until FROM suspension ORDER BY domain";
/// What an attempt is under way for.
pub(super) const DELIVERING: &str = "SELECT count(*), min(arrived) FROM (SELECT arrived FROM recipient \
                                     INDEXED BY recipient_leased WHERE lease IS NOT NULL LIMIT ?1)";
/// What was put aside, by operators or for damage.
pub(super) const HELD: &str =
    "SELECT cause, arrived FROM recipient INDEXED BY recipient_held WHERE state = 3 LIMIT ?1";
/// Policies by mode, and those of them that are over.
pub(super) const POLICIES: &str =
    "SELECT mode, count(*), sum(expires <= ?1) FROM policy INDEXED BY policy_mode GROUP BY mode";
/// Policies whose refreshes fail, for the longest time first.
pub(super) const FAILING: &str = "SELECT p.domain, p.mode, p.max_age, p.expires, m.refresh_failing_since \
                                  FROM policy_memory m INDEXED BY policy_memory_failing CROSS JOIN policy p ON p.domain = m.domain \
                                  WHERE m.refresh_failing_since IS NOT NULL ORDER BY m.refresh_failing_since LIMIT ?1";
/// When a message was last done with.
pub(super) const LAST_FINISHED: &str = "SELECT max(finished) FROM message";
/// Domains that were counted on a day.
pub(super) const TODAY: &str = "SELECT count(*) FROM counted_day WHERE day = ?1";
/// Reports that are planned.
pub(super) const DUE: &str = "SELECT count(*), min(at) FROM report INDEXED BY report_planned WHERE state = 0";
/// Reports that ended in a state on a day or later.
pub(super) const ENDED: &str =
    "SELECT count(*) FROM report INDEXED BY report_state WHERE state = ?1 AND day >= ?2";
/// Destinations of reports that were not reached, the newest reports first.
pub(super) const FAILED: &str = "SELECT r.no, r.day, r.domain, d.uri, d.reply FROM report_destination d \
                                 INDEXED BY report_destination_failed CROSS JOIN report r ON r.no = d.report \
                                 WHERE d.state = 3 AND r.day >= ?1 ORDER BY d.report DESC LIMIT ?2";

fn overview(conn: &Connection, now: Timestamp) -> rusqlite::Result<Stored> {
    // One moment for all numbers.
    let tx = conn.unchecked_transaction()?;
    Ok(Stored { queue: queue(&tx, now)?, policies: policies(&tx, now)?, reports: reports(&tx, now)? })
}

fn queue(conn: &Connection, now: Timestamp) -> rusqlite::Result<QueueStanding> {
    let last_finished = conn.prepare_cached(LAST_FINISHED)?.query_row([], |r| maybe_time(r, 0))?;
    let (mut standing, examples) = waiting(conn, now, last_finished)?;
    for (cause, key) in standing.causes.iter_mut().zip(examples) {
        cause.example = example(conn, key)?;
    }
    standing.states.delivering =
        conn.prepare_cached(DELIVERING)?.query_row([number(MOST_LOOKED_UP)], |r| {
            Ok(Count { recipients: count(r, 0)?, oldest: maybe_time(r, 1)? })
        })?;
    let mut held = conn.prepare_cached(HELD)?;
    let mut held = held.query([number(MOST_LOOKED_UP)])?;
    while let Some(row) = held.next()? {
        standing.states.held.add(1, time(row, 1)?);
        standing.damaged += u64::from(row.get_ref(0)?.as_bytes_or_null()? == Some(b"damaged"));
    }
    Ok(standing)
}

/// One walk over an index in which everything lies that is asked for, beside one over the suspensions, in the same order;
/// the keys are those of the examples.
fn waiting(
    conn: &Connection,
    now: Timestamp,
    last_finished: Option<Timestamp>,
) -> rusqlite::Result<(QueueStanding, Vec<i64>)> {
    let mut census = Census::new(now, last_finished);
    let mut suspensions = conn.prepare_cached(SUSPENSIONS)?;
    let mut suspensions = suspensions.query([])?;
    let mut suspension: Option<(Vec<u8>, Timestamp)> = None;
    let mut walk = conn.prepare_cached(WAITING)?;
    let mut walk = walk.query([number(MOST_COUNTED + 1)])?;
    let (mut rows, mut here, mut readable) = (0, Vec::new(), false);
    while let Some(row) = walk.next()? {
        rows += 1;
        if rows > MOST_COUNTED {
            break;
        }
        let name = row.get_ref(0)?.as_bytes()?;
        if rows == 1 || here != name {
            name.clone_into(&mut here);
            while suspension.as_ref().is_none_or(|(of, _)| *of < here)
                && let Some(row) = suspensions.next()?
            {
                suspension = Some((row.get_ref(0)?.as_bytes()?.to_vec(), time(row, 1)?));
            }
            // What is damaged is put aside by the next look for due work, and counted as held from then on.
            let found = domain(row, 0).ok();
            readable = found.is_some();
            if let Some(found) = found {
                let until = suspension.as_ref().filter(|(of, _)| *of == here).map(|(_, until)| *until);
                census.domain(found, until);
            }
        }
        if readable {
            let cause = row.get_ref(3)?.as_str_or_null().unwrap_or_default();
            let waiting = Waiting { cause, arrived: time(row, 2)?, next_attempt: time(row, 1)? };
            census.count(waiting, || row.get(4).unwrap_or_default());
        }
    }
    let (mut standing, examples) = census.end();
    standing.more = rows > MOST_COUNTED;
    Ok((standing, examples))
}

/// What is known about the last attempt at a recipient; of its domain's probe when it was never tried itself.
fn example(conn: &Connection, key: i64) -> rusqlite::Result<Option<Example>> {
    let sql = "SELECT m.id, r.domain, coalesce(r.last, s.last), r.id FROM recipient r JOIN message m ON m.seq = ?2 \
               LEFT JOIN suspension s ON s.domain = r.domain WHERE r.id = ?1";
    let row = conn.prepare_cached(sql)?.query_row((key, message_of(key)), |r| {
        rows::readable(r, 3, |r| Ok((queue_id(r, 0)?, domain(r, 1)?, rows::diagnosis(r, 2)?)))
    });
    Ok(row.optional()?.flatten().and_then(|(id, domain, last)| Some(Example::new(id, domain, last?))))
}

fn policies(conn: &Connection, now: Timestamp) -> rusqlite::Result<PolicyStanding> {
    let mut standing = PolicyStanding::default();
    let mut modes = conn.prepare_cached(POLICIES)?;
    let mut modes = modes.query([now.as_millis()])?;
    while let Some(row) = modes.next()? {
        let (all, over) = (count(row, 1)?, count(row, 2)?);
        standing.expired += over;
        let here = match mode(row, 0)? {
            Mode::Enforce => &mut standing.enforce,
            Mode::Testing => &mut standing.testing,
            Mode::None => &mut standing.none,
        };
        *here += all.saturating_sub(over);
    }
    let mut failing = conn.prepare_cached(FAILING)?;
    let mut failing = failing.query([number(MOST_LOOKED_UP)])?;
    while let Some(row) = failing.next()? {
        let Ok(domain) = domain(row, 0) else { continue };
        let policy = FailingPolicy {
            domain,
            mode: mode(row, 1)?,
            since: time(row, 4)?,
            expires: time(row, 3)?,
            urgent: false,
            why: String::new(),
        };
        standing.fails(policy, Duration::from_secs(count(row, 2)?), now);
    }
    for policy in &mut standing.failing_first {
        policy.why = failure(conn, &policy.domain)?;
    }
    Ok(standing)
}

/// What the last fetch for a domain ran into.
fn failure(conn: &Connection, of: &Domain) -> rusqlite::Result<String> {
    let found: Option<Option<String>> = conn
        .prepare_cached("SELECT backoff_failure FROM policy_memory WHERE domain = ?1")?
        .query_row([of.as_str()], |r| r.get(0))
        .optional()?;
    let failure = found.flatten().and_then(|text| serde_json::from_str::<FetchFailure>(&text).ok());
    Ok(failure.map_or_else(String::new, |f| if f.detail.is_empty() { f.reason } else { f.detail }))
}

fn reports(conn: &Connection, now: Timestamp) -> rusqlite::Result<ReportStanding> {
    let mut standing = ReportStanding::new(now);
    let (today, since) = (Day::of(now).to_string(), standing.since.to_string());
    let one = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        conn.prepare_cached(sql)?.query_row(values, |r| count(r, 0))
    };
    standing.counted_today = one(TODAY, &[&today])?;
    (standing.due, standing.next) =
        conn.prepare_cached(DUE)?.query_row([], |r| Ok((count(r, 0)?, maybe_time(r, 1)?)))?;
    standing.on_the_way = one(figures::WAITING, &[])?.saturating_add(one(figures::QUEUED, &[])?);
    standing.made = one(ENDED, &[&MADE, &since])?;
    standing.dropped = one(ENDED, &[&DROPPED, &since])?;
    let mut failed = conn.prepare_cached(FAILED)?;
    let mut failed = failed.query((&since, number(MOST_LOOKED_UP)))?;
    while let Some(row) = failed.next()? {
        standing.failed += 1;
        if standing.failures.len() < NAMED
            && let (Ok(day), Ok(domain)) = (day(row, 1), domain(row, 2))
        {
            let failure = ReportFailure {
                no: ReportNo(row.get(0)?),
                day,
                domain,
                uri: row.get(3)?,
                reply: row.get(4)?,
            };
            standing.failures.push(failure);
        }
    }
    Ok(standing)
}

impl Overview for SqliteStore {
    fn overview(&self, now: Timestamp) -> BoxFuture<'_, Result<Stored, StoreError>> {
        Box::pin(self.readers().read(move |conn| overview(conn, now)))
    }
}

impl Overview for SqliteReader {
    fn overview(&self, now: Timestamp) -> BoxFuture<'_, Result<Stored, StoreError>> {
        Box::pin(self.0.read(move |conn| overview(conn, now)))
    }
}
