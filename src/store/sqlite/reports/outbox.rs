//! Reports that were made, and where they go.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{Judged, MADE, Sorted, plan, sorted};
use crate::clock::Timestamp;
use crate::queue::RecipientState;
use crate::store::sqlite::rows::{self, code, day, domain, maybe_time, number, queue_id};
use crate::store::sqlite::writer::{Fault, Tx};
use crate::tlsrpt::{
    Day, DestinationId, DestinationState, DueDestination, Kept, NewDestination, NewReport, ReportNo,
    ReportStoreError, SettledMail, Tried, Way,
};

/// Mails settled in one slice.
const MAILS: i64 = 100;
/// Reports purged in one slice.
const PURGED: i64 = 50;
/// No try waits for longer: what lies further ahead was written by a clock that has been set back.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Codes of `report_destination.state`.
const STATES: [DestinationState; 4] = [
    DestinationState::Waiting,
    DestinationState::Queued,
    DestinationState::Accepted,
    DestinationState::Failed,
];

fn state_code(state: DestinationState) -> i64 {
    STATES.iter().position(|s| *s == state).map_or(-1, number)
}

fn by_mail(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("mailto:"))
}

/// The state behind a code.
pub(super) fn state(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<DestinationState> {
    let code = usize::try_from(row.get::<_, i64>(column)?).ok();
    code.and_then(|code| STATES.get(code)).copied().ok_or_else(|| rows::bad(column, "not a state"))
}

pub(super) fn keep(tx: &Tx<'_>, report: &NewReport, cap: u32) -> Judged<Kept> {
    let (day, domain) = (report.day.to_string(), report.domain.as_str());
    let sessions = (
        i64::try_from(report.sessions.0).unwrap_or(i64::MAX),
        i64::try_from(report.sessions.1).unwrap_or(i64::MAX),
    );
    let no = if report.partial {
        tx.conn
            .prepare_cached(
                "INSERT INTO report (day, domain, partial, state, due, at, success, failure, report_id, file_name, packed) \
                 VALUES (?1, ?2, 1, ?3, ?4, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                day,
                domain,
                MADE,
                report.made.as_millis(),
                sessions.0,
                sessions.1,
                report.report_id,
                report.file_name,
                &*report.packed
            ])?;
        tx.conn.last_insert_rowid()
    } else {
        let planned: Option<i64> = tx
            .conn
            .prepare_cached(
                "SELECT no FROM report WHERE day = ?1 AND domain = ?2 AND partial = 0 AND state = 0",
            )?
            .query_row((&day, domain), |r| r.get(0))
            .optional()?;
        let Some(no) = planned else { return Ok(Err(ReportStoreError::Unknown)) };
        let counted: (i64, i64) = tx
            .conn
            .prepare_cached(
                "SELECT coalesce(sum(p.success), 0), coalesce(sum(p.failure), 0) FROM counted_day c \
                 JOIN counted_policy p ON p.counted = c.id WHERE c.day = ?1 AND c.domain = ?2",
            )?
            .query_row((&day, domain), |r| Ok((r.get(0)?, r.get(1)?)))?;
        if counted != sessions {
            return Ok(Err(ReportStoreError::Changed));
        }
        tx.conn
            .prepare_cached(
                "UPDATE report SET state = ?2, at = ?3, why = '', success = ?4, failure = ?5, report_id = ?6, \
                 file_name = ?7, packed = ?8 WHERE no = ?1",
            )?
            .execute(params![
                no,
                MADE,
                report.made.as_millis(),
                sessions.0,
                sessions.1,
                report.report_id,
                report.file_name,
                &*report.packed
            ])?;
        plan::forget_day(tx, report.day, &report.domain)?;
        no
    };
    let over_cap = insert_destinations(tx, no, 0, &report.destinations, report.made, cap)?;
    Ok(Ok(Kept { no: ReportNo(no), over_cap }))
}

/// Stores destinations as due now, those of receivers that have had their share of the day as failed, which it names
/// (RPT-10).
fn insert_destinations(
    tx: &Tx<'_>,
    report: i64,
    run: u32,
    destinations: &[NewDestination],
    now: Timestamp,
    cap: u32,
) -> rusqlite::Result<Vec<String>> {
    let mut over_cap = Vec::new();
    for (n, to) in (0i64..).zip(destinations) {
        let room = tx
            .conn
            .prepare_cached(
                "INSERT INTO report_receiver (day, receiver, sent) SELECT ?1, ?2, 1 WHERE ?3 > 0 \
                 ON CONFLICT (day, receiver) DO UPDATE SET sent = sent + 1 WHERE sent < ?3",
            )?
            .execute((now.utc_day(), &to.receiver, cap))?;
        let (state, reply) = if room > 0 {
            (DestinationState::Waiting, String::new())
        } else {
            let reply = format!("not sent: {} is sent at most {cap} reports a day", to.receiver);
            over_cap.push(to.uri.clone());
            (DestinationState::Failed, reply)
        };
        tx.conn
            .prepare_cached(
                "INSERT INTO report_destination (report, run, n, uri, receiver, mail, state, next, reply, by_mail) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                report,
                run,
                n,
                to.uri,
                to.receiver,
                Uuid::now_v7().as_bytes(),
                state_code(state),
                now.as_millis(),
                reply,
                by_mail(&to.uri)
            ])?;
    }
    Ok(over_cap)
}

pub(super) fn destinations(
    conn: &Connection,
    way: Way,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<Sorted<DueDestination>> {
    let mut due = conn.prepare_cached(
        "SELECT d.id, d.uri, d.receiver, d.mail, d.run, d.attempts, d.first, d.report, r.day, r.domain, r.report_id, \
         r.file_name, d.reply FROM report_destination d JOIN report r ON r.no = d.report \
         WHERE d.state = 0 AND d.by_mail = ?4 AND (d.next <= ?1 OR d.next > ?2) ORDER BY d.next LIMIT ?3",
    )?;
    let until = (now.as_millis(), now.after(LONGEST).as_millis(), number(limit), way == Way::Mail);
    sorted(&mut due.query(until)?, 0, |r| {
        Ok(DueDestination {
            id: DestinationId(r.get(0)?),
            uri: r.get(1)?,
            receiver: r.get(2)?,
            mail: queue_id(r, 3)?,
            run: r.get(4)?,
            attempts: r.get(5)?,
            first: maybe_time(r, 6)?,
            report: ReportNo(r.get(7)?),
            day: day(r, 8)?,
            domain: domain(r, 9)?,
            report_id: r.get(10)?,
            file_name: r.get(11)?,
            reply: r.get(12)?,
        })
    })
}

/// Ends destinations that cannot be read, or whose report cannot.
pub(super) fn put_aside(tx: &Tx<'_>, damaged: &[i64]) -> rusqlite::Result<()> {
    for id in damaged {
        tx.conn
            .prepare_cached(
                "UPDATE report_destination SET state = ?2, reply = 'its row is damaged' WHERE id = ?1 AND state <= 1",
            )?
            .execute((id, state_code(DestinationState::Failed)))?;
    }
    Ok(())
}

pub(super) fn tried(tx: &Tx<'_>, id: DestinationId, attempt: &Tried) -> Judged<()> {
    let at = attempt.at.as_millis();
    let changed = tx
        .conn
        .prepare_cached(
            "UPDATE report_destination SET state = ?2, attempts = attempts + ?3, \
             first = coalesce(first, iif(?3, ?4, NULL)), next = ?5, reply = ?6 WHERE id = ?1 AND state = 0",
        )?
        .execute(params![
            id.0,
            state_code(attempt.state),
            attempt.counted,
            at,
            attempt.next.map_or(at, Timestamp::as_millis),
            attempt.reply
        ])?;
    Ok(if changed == 0 { Err(ReportStoreError::Unknown) } else { Ok(()) })
}

/// Mails in the queue that have ended since.
pub(super) fn ended_mail(conn: &Connection) -> rusqlite::Result<Sorted<(i64, SettledMail)>> {
    let mut ended = conn.prepare_cached(
        "SELECT d.id, r.day, r.domain, r.report_id, d.uri, x.state, x.cause, x.last \
         FROM report_destination d JOIN report r ON r.no = d.report LEFT JOIN message m ON m.id = d.mail \
         LEFT JOIN recipient x ON x.id = m.seq << 20 \
         WHERE d.state = 1 AND (m.seq IS NULL OR m.finished IS NOT NULL) LIMIT ?1",
    )?;
    sorted(&mut ended.query([MAILS])?, 0, |r| {
        let (accepted, reply) = ending(r, 5)?;
        Ok((
            r.get(0)?,
            SettledMail {
                day: day(r, 1)?,
                domain: domain(r, 2)?,
                report_id: r.get(3)?,
                uri: r.get(4)?,
                accepted,
                reply,
            },
        ))
    })
}

/// How a mail ended, from the columns `state, cause, last` of its recipient: whether it was taken, and the words.
pub(super) fn ending(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<(bool, String)> {
    let ended: Option<i64> = row.get(column)?;
    let said = match (rows::diagnosis(row, column + 2)?, row.get::<_, Option<String>>(column + 1)?) {
        (Some(diagnosis), _) => diagnosis.text,
        (None, Some(cause)) => cause,
        (None, None) => "it is no longer in the queue".to_owned(),
    };
    let deleted = ended == Some(code(RecipientState::Deleted));
    let said =
        if deleted { format!("deleted from the queue by an operator; before that: {said}") } else { said };
    Ok((ended == Some(code(RecipientState::Delivered)), said))
}

/// Writes what [`ended_mail`] has found.
pub(super) fn settle(tx: &Tx<'_>, ended: &[(i64, SettledMail)]) -> Result<(), Fault> {
    for (id, settled) in ended {
        let state = if settled.accepted { DestinationState::Accepted } else { DestinationState::Failed };
        tx.conn
            .prepare_cached(
                "UPDATE report_destination SET state = ?2, reply = ?3 WHERE id = ?1 AND state = 1",
            )?
            .execute((id, state_code(state), &settled.reply))?;
    }
    Ok(())
}

pub(super) fn again(tx: &Tx<'_>, report: ReportNo, now: Timestamp, cap: u32) -> Judged<u32> {
    let made = tx
        .conn
        .prepare_cached("SELECT 1 FROM report WHERE no = ?1 AND state = ?2")?
        .exists((report.0, MADE))?;
    if !made {
        return Ok(Err(ReportStoreError::Unknown));
    }
    let run: u32 = tx
        .conn
        .prepare_cached("SELECT coalesce(max(run), 0) + 1 FROM report_destination WHERE report = ?1")?
        .query_row([report.0], |r| r.get(0))?;
    let destinations: Vec<NewDestination> = tx
        .conn
        .prepare_cached(
            "SELECT uri, receiver FROM report_destination WHERE report = ?1 AND run = 0 ORDER BY n",
        )?
        .query_map([report.0], |r| Ok(NewDestination { uri: r.get(0)?, receiver: r.get(1)? }))?
        .collect::<rusqlite::Result<_>>()?;
    insert_destinations(tx, report.0, run, &destinations, now, cap)?;
    Ok(Ok(run))
}

pub(super) fn purge(tx: &Tx<'_>, oldest: Day) -> Result<bool, Fault> {
    let oldest = oldest.to_string();
    let ended: Vec<i64> = tx
        .conn
        .prepare_cached(
            "SELECT no FROM report r WHERE day < ?1 AND state > 0 AND NOT EXISTS \
             (SELECT 1 FROM report_destination d WHERE d.report = r.no AND d.state <= 1) ORDER BY day LIMIT ?2",
        )?
        .query_map((&oldest, PURGED), |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for no in &ended {
        tx.conn.prepare_cached("DELETE FROM report_destination WHERE report = ?1")?.execute([no])?;
        tx.conn.prepare_cached("DELETE FROM report WHERE no = ?1")?.execute([no])?;
    }
    tx.conn
        .prepare_cached(
            "DELETE FROM report_receiver WHERE (day, receiver) IN \
             (SELECT day, receiver FROM report_receiver WHERE day < ?1 LIMIT ?2)",
        )?
        .execute((&oldest, PURGED))?;
    Ok(number(ended.len()) == PURGED)
}
