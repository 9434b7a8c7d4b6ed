//! What is only read: counters, lists, octets.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};

use super::outbox::{ending, state};
use super::{DROPPED, MADE, PLANNED, UNWANTED};
use crate::mail::Domain;
use crate::store::sqlite::rows::{self, bad, count, day, domain, json, maybe_time, number, queue_id, time};
use crate::tlsrpt::{
    Day, DayCounters, DestinationState, DetailCounter, ListedDestination, ListedReport, NextDue,
    PolicyCounters, ReportFilter, ReportNo, ReportState, ResultType,
};

pub(super) fn counters(
    conn: &Connection,
    of: Day,
    of_domain: Domain,
) -> rusqlite::Result<Option<DayCounters>> {
    // One statement each for policies and details: a reader sees both of the same commit only within a transaction.
    let tx = conn.unchecked_transaction()?;
    let counted: Option<i64> = tx
        .prepare_cached("SELECT id FROM counted_day WHERE day = ?1 AND domain = ?2")?
        .query_row((of.to_string(), of_domain.as_str()), |r| r.get(0))
        .optional()?;
    let Some(counted) = counted else { return Ok(None) };
    let mut policies: Vec<(i64, PolicyCounters)> = tx
        .prepare_cached(
            "SELECT id, policy, success, failure FROM counted_policy WHERE counted = ?1 ORDER BY id",
        )?
        .query_map([counted], |r| {
            let policy = json(r, 1)?;
            Ok((
                r.get(0)?,
                PolicyCounters { policy, success: count(r, 2)?, failure: count(r, 3)?, details: vec![] },
            ))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut details = tx.prepare_cached(
        "SELECT result, reason, mx_host, mx_helo, sending_ip, receiving_ip, count FROM counted_detail WHERE policy = ?1",
    )?;
    for (id, policy) in &mut policies {
        policy.details = details.query_map([*id], detail)?.collect::<rusqlite::Result<_>>()?;
    }
    let policies: Vec<_> = policies.into_iter().map(|(_, policy)| policy).collect();
    Ok(Some(DayCounters { day: of, domain: of_domain, policies }).filter(|c| !c.policies.is_empty()))
}

fn detail(row: &rusqlite::Row<'_>) -> rusqlite::Result<DetailCounter> {
    let text =
        |column| Ok::<_, rusqlite::Error>(Some(row.get::<_, String>(column)?).filter(|t| !t.is_empty()));
    let ip = |column| Ok::<_, rusqlite::Error>(text(column)?.and_then(|t| t.parse().ok()));
    Ok(DetailCounter {
        result: text(0)?.as_deref().and_then(ResultType::parse).ok_or_else(|| bad(0, "not a result type"))?,
        reason: text(1)?,
        mx_host: text(2)?.and_then(|t| Domain::parse_host(&t).ok()),
        mx_helo: text(3)?,
        sending_ip: ip(4)?,
        receiving_ip: ip(5)?,
        count: count(row, 6)?,
    })
}

pub(super) fn counted(
    conn: &Connection,
    of: Day,
    after: Option<&Domain>,
    limit: usize,
) -> rusqlite::Result<Vec<Domain>> {
    conn.prepare_cached(
        "SELECT domain, id FROM counted_day WHERE day = ?1 AND domain > ?2 ORDER BY domain LIMIT ?3",
    )?
    .query_map((of.to_string(), after.map_or("", |d| d.as_str()), number(limit)), |r| {
        rows::readable(r, 1, |r| domain(r, 0))
    })?
    .filter_map(Result::transpose)
    .collect()
}

pub(super) fn next_due(conn: &Connection) -> rusqlite::Result<NextDue> {
    conn.prepare_cached(
        "SELECT (SELECT min(at) FROM report WHERE state = 0), \
         (SELECT min(next) FROM report_destination WHERE state = 0 AND by_mail = 1), \
         (SELECT min(next) FROM report_destination WHERE state = 0 AND by_mail = 0)",
    )?
    .query_row([], |r| {
        Ok(NextDue { report: maybe_time(r, 0)?, mail: maybe_time(r, 1)?, https: maybe_time(r, 2)? })
    })
}

pub(super) fn octets(conn: &Connection, no: ReportNo) -> rusqlite::Result<Option<Bytes>> {
    let packed: Option<Option<Vec<u8>>> = conn
        .prepare_cached("SELECT packed FROM report WHERE no = ?1")?
        .query_row([no.0], |r| r.get(0))
        .optional()?;
    Ok(packed.flatten().map(Bytes::from))
}

pub(super) fn reports(
    conn: &Connection,
    filter: &ReportFilter,
    limit: usize,
) -> rusqlite::Result<Vec<ListedReport>> {
    let mut sql = "SELECT no, coalesce(report_id, ''), day, domain, partial, state, at, success, failure, why FROM report \
                   WHERE true"
        .to_owned();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut also = |condition: &str, value: Box<dyn ToSql>| {
        values.push(value);
        sql.push_str(&condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(id) = &filter.id {
        match id.parse::<i64>() {
            Ok(no) => also(" AND no = ?", Box::new(no)),
            Err(_) => also(" AND report_id = ?", Box::new(id.clone())),
        }
    }
    if let Some(day) = filter.day {
        also(" AND day = ?", Box::new(day.to_string()));
    }
    if let Some(domain) = &filter.domain {
        also(" AND domain = ?", Box::new(domain.as_str().to_owned()));
    }
    also(" ORDER BY day DESC, domain, no LIMIT ?", Box::new(number(limit)));
    let tx = conn.unchecked_transaction()?;
    let mut listed: Vec<(ListedReport, i64)> = tx
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), |r| {
            rows::readable(r, 0, |r| {
                let report = ListedReport {
                    no: ReportNo(r.get(0)?),
                    report_id: r.get(1)?,
                    day: day(r, 2)?,
                    domain: domain(r, 3)?,
                    partial: r.get(4)?,
                    state: ReportState::Due,
                    at: time(r, 6)?,
                    sessions: (count(r, 7)?, count(r, 8)?),
                    why: r.get(9)?,
                    destinations: Vec::new(),
                };
                Ok((report, r.get(5)?))
            })
        })?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<_>>()?;
    let mut sum = tx.prepare_cached(
        "SELECT coalesce(sum(p.success), 0), coalesce(sum(p.failure), 0) FROM counted_day c \
         JOIN counted_policy p ON p.counted = c.id WHERE c.day = ?1 AND c.domain = ?2",
    )?;
    let mut goes_to = tx.prepare_cached(
        "SELECT d.uri, d.run, d.state, d.attempts, d.reply, d.next, d.mail, d.by_mail, m.finished IS NOT NULL, x.state, \
         x.cause, x.last, d.id FROM report_destination d LEFT JOIN message m ON m.id = d.mail AND d.state = 1 \
         LEFT JOIN recipient x ON x.id = m.seq << 20 WHERE d.report = ?1 ORDER BY d.run, d.n",
    )?;
    for (report, code) in &mut listed {
        report.destinations = goes_to
            .query_map([report.no.0], |r| rows::readable(r, 12, destination))?
            .filter_map(Result::transpose)
            .collect::<rusqlite::Result<_>>()?;
        report.state = match *code {
            MADE => standing(&report.destinations),
            UNWANTED => ReportState::Unwanted,
            DROPPED => ReportState::Dropped,
            _ => ReportState::Due,
        };
        if *code == PLANNED {
            let of = (report.day.to_string(), report.domain.as_str());
            report.sessions = sum.query_row(of, |r| Ok((count(r, 0)?, count(r, 1)?)))?;
        }
    }
    Ok(listed.into_iter().map(|(report, _)| report).collect())
}

/// One receiver is enough (RPT-08).
fn standing(destinations: &[ListedDestination]) -> ReportState {
    let any = |wanted: &[DestinationState]| destinations.iter().any(|d| wanted.contains(&d.state));
    if any(&[DestinationState::Accepted]) {
        ReportState::Delivered
    } else if any(&[DestinationState::Waiting, DestinationState::Queued]) {
        ReportState::Sending
    } else {
        ReportState::Failed
    }
}

fn destination(row: &rusqlite::Row<'_>) -> rusqlite::Result<ListedDestination> {
    let (mut state, mut reply) = (state(row, 2)?, row.get(4)?);
    // What the queue knows counts from the moment it knows it, not from the next `settle_mail` on.
    if row.get::<_, bool>(8)? {
        let (accepted, said) = ending(row, 9)?;
        state = if accepted { DestinationState::Accepted } else { DestinationState::Failed };
        reply = said;
    }
    let (next, mail) = (maybe_time(row, 5)?, queue_id(row, 6)?);
    // Only what has been handed over has a mail that `queue show` could know.
    let handed_over =
        row.get::<_, bool>(7)? && state != DestinationState::Waiting && row.get::<_, i64>(3)? > 0;
    Ok(ListedDestination {
        uri: row.get(0)?,
        run: row.get(1)?,
        state,
        attempts: row.get(3)?,
        reply,
        next: next.filter(|_| state == DestinationState::Waiting),
        mail: Some(mail).filter(|_| handed_over),
    })
}
