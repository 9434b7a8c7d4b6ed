//! SessionRecords: appended as they come (RPT-31), folded into counters per UTC day by housekeeping, so that no
//! record counts twice: its row goes in the commit that counts it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{OptionalExtension, params};

use super::SqliteStore;
use super::rows::number;
use super::writer::{Fault, Tx};
use crate::mail::Domain;
use crate::tlsrpt::{Day, FailureDetail, PolicyVerdict, SessionRecord, SessionStore};

/// Distinct policies of a domain on a day. Nobody honest has more; what comes after is not counted.
const POLICIES: i64 = 100;

impl SessionStore for SqliteStore {
    fn record(&self, record: SessionRecord) {
        match serde_json::to_string(&record) {
            Ok(body) => self.inbox.write_later(move |tx| {
                tx.conn.prepare_cached("INSERT INTO session_record (body) VALUES (?1)")?.execute([&body])?;
                Ok(())
            }),
            Err(e) => tracing::warn!(error = %e, "a session record was not stored"),
        }
    }
}

/// A day of a report domain, as far as this slice knows it.
struct CountedDay {
    id: i64,
    policies: i64,
    details: i64,
}

/// Counts up to `limit` records, with at most `detail_rows` detail rows per domain and day. `false` when there are
/// no more.
pub(super) fn fold(tx: &Tx<'_>, limit: usize, detail_rows: i64) -> Result<bool, Fault> {
    let raw: Vec<(i64, String)> = tx
        .conn
        .prepare_cached("SELECT id, body FROM session_record ORDER BY id LIMIT ?1")?
        .query_map([number(limit)], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let Some(&(newest, _)) = raw.last() else { return Ok(false) };
    let mut days = HashMap::new();
    for (_, body) in &raw {
        match serde_json::from_str::<SessionRecord>(body) {
            Ok(record) => {
                let day = match days.entry((Day::of(record.at), record.report_domain.clone())) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let counted = counted_day(tx, new.key().0, &new.key().1)?;
                        new.insert(counted)
                    }
                };
                for verdict in &record.verdicts {
                    count(tx, day, &record, verdict, detail_rows)?;
                }
            }
            Err(e) => tracing::warn!(error = %e, "a session record cannot be read and is not counted"),
        }
    }
    for day in days.values() {
        tx.conn
            .prepare_cached("UPDATE counted_day SET policies = ?2, details = ?3 WHERE id = ?1")?
            .execute((day.id, day.policies, day.details))?;
    }
    tx.conn.prepare_cached("DELETE FROM session_record WHERE id <= ?1")?.execute([newest])?;
    Ok(raw.len() == limit)
}

fn counted_day(tx: &Tx<'_>, day: Day, domain: &Domain) -> Result<CountedDay, Fault> {
    let key = (day.to_string(), domain.as_str());
    let found = tx
        .conn
        .prepare_cached("SELECT id, policies, details FROM counted_day WHERE day = ?1 AND domain = ?2")?
        .query_row((&key.0, key.1), |r| {
            Ok(CountedDay { id: r.get(0)?, policies: r.get(1)?, details: r.get(2)? })
        })
        .optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    tx.conn
        .prepare_cached("INSERT INTO counted_day (day, domain, policies, details) VALUES (?1, ?2, 0, 0)")?
        .execute(key)?;
    Ok(CountedDay { id: tx.conn.last_insert_rowid(), policies: 0, details: 0 })
}

fn count(
    tx: &Tx<'_>,
    day: &mut CountedDay,
    record: &SessionRecord,
    verdict: &PolicyVerdict,
    detail_rows: i64,
) -> Result<(), Fault> {
    let policy = serde_json::to_string(&verdict.policy).unwrap_or_default();
    let known = tx
        .conn
        .prepare_cached(
            "UPDATE counted_policy SET success = success + ?3, failure = failure + ?4 \
             WHERE counted = ?1 AND policy = ?2 RETURNING id",
        )?
        .query_row(params![day.id, policy, verdict.success, !verdict.success], |r| r.get(0))
        .optional()?;
    let id: i64 = match known {
        Some(id) => id,
        None if day.policies >= POLICIES => {
            tracing::warn!(report_domain = %record.report_domain, at = %record.at, "too many policies in one day; a session is not counted");
            return Ok(());
        }
        None => {
            tx.conn
                .prepare_cached(
                    "INSERT INTO counted_policy (counted, policy, success, failure) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![day.id, policy, verdict.success, !verdict.success])?;
            day.policies += 1;
            tx.conn.last_insert_rowid()
        }
    };
    for detail in &verdict.details {
        count_detail(tx, day, id, record, detail, detail_rows)?;
    }
    Ok(())
}

/// Adds one to the row of a failure. When the day's rows for the domain run out, new ones lose first address and
/// greeting, then the host too, and in the end the reason, which may repeat a peer's reply code: what is left is a
/// handful of result types for each policy (RPT-30).
fn count_detail(
    tx: &Tx<'_>,
    day: &mut CountedDay,
    policy: i64,
    record: &SessionRecord,
    detail: &FailureDetail,
    limit: i64,
) -> Result<(), Fault> {
    let text = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let host = record.mx_host.as_ref().map_or("", |h| h.as_str());
    let helo = record.mx_helo.as_deref().unwrap_or_default();
    let (sending, receiving) = (text(record.sending_ip), text(record.receiving_ip));
    let reason = detail.reason.as_deref().unwrap_or_default();
    let merged = [
        (reason, host, helo, &*sending, &*receiving),
        (reason, host, "", "", ""),
        (reason, "", "", "", ""),
        ("", "", "", "", ""),
    ];
    for (level, (reason, host, helo, sending, receiving)) in (1i64..).zip(merged) {
        let key = params![policy, detail.result.as_str(), reason, host, helo, sending, receiving];
        let found = tx
            .conn
            .prepare_cached(
                "UPDATE counted_detail SET count = count + 1 WHERE policy = ?1 AND result = ?2 AND reason = ?3 AND \
                 mx_host = ?4 AND mx_helo = ?5 AND sending_ip = ?6 AND receiving_ip = ?7",
            )?
            .execute(key)?;
        // The last tenth is for rows without addresses, the last twentieth for those without a host, and half of
        // that for those without a reason.
        let room = match level {
            1 => day.details < limit - limit / 10,
            2 => day.details < limit - limit / 20,
            3 => day.details < limit - limit / 40,
            _ => true,
        };
        if found == 0 && room {
            tx.conn
                .prepare_cached("INSERT INTO counted_detail VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)")?
                .execute(key)?;
            day.details += 1;
        }
        if found > 0 || room {
            break;
        }
    }
    Ok(())
}
