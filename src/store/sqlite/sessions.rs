//! SessionRecords: appended as they come (RPT-31), folded into counters per UTC day by housekeeping, so that no
//! record counts twice: its row goes in the commit that counts it.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::SqliteStore;
use super::rows::number;
use super::writer::{Fault, Tx};
use crate::tlsrpt::{FailureDetail, PolicyVerdict, SessionRecord, SessionStore};

/// Counters are kept for so long; nothing reads them after the report of their day.
const KEPT: Duration = Duration::from_secs(2 * 24 * 3600);
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

/// Counts up to `limit` records, with at most `detail_rows` detail rows per domain and day. `false` when there are
/// no more.
pub(super) fn fold(tx: &Tx<'_>, limit: usize, detail_rows: i64) -> Result<bool, Fault> {
    let raw: Vec<(i64, String)> = tx
        .conn
        .prepare_cached("SELECT id, body FROM session_record ORDER BY id LIMIT ?1")?
        .query_map([number(limit)], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let Some(&(newest, _)) = raw.last() else { return Ok(false) };
    for (_, body) in &raw {
        match serde_json::from_str::<SessionRecord>(body) {
            Ok(record) => {
                for verdict in &record.verdicts {
                    count(tx, &record, verdict, detail_rows)?;
                }
            }
            Err(e) => tracing::warn!(error = %e, "a session record cannot be read and is not counted"),
        }
    }
    tx.conn.prepare_cached("DELETE FROM session_record WHERE id <= ?1")?.execute([newest])?;
    let oldest = tx.now.before(KEPT).utc_day();
    tx.conn
        .prepare_cached(
            "DELETE FROM session_detail WHERE policy IN (SELECT id FROM session_policy WHERE day < ?1)",
        )?
        .execute([&oldest])?;
    tx.conn.prepare_cached("DELETE FROM session_policy WHERE day < ?1")?.execute([&oldest])?;
    Ok(raw.len() == limit)
}

fn count(
    tx: &Tx<'_>,
    record: &SessionRecord,
    verdict: &PolicyVerdict,
    detail_rows: i64,
) -> Result<(), Fault> {
    let (day, domain) = (record.at.utc_day(), record.report_domain.as_str());
    let policy = serde_json::to_string(&verdict.policy).unwrap_or_default();
    let known = tx
        .conn
        .prepare_cached(
            "UPDATE session_policy SET success = success + ?4, failure = failure + ?5 \
             WHERE day = ?1 AND domain = ?2 AND policy = ?3 RETURNING id",
        )?
        .query_row(params![day, domain, policy, verdict.success, !verdict.success], |r| r.get(0))
        .optional()?;
    let id: i64 = match known {
        Some(id) => id,
        None => {
            let policies: i64 = tx
                .conn
                .prepare_cached("SELECT count(*) FROM session_policy WHERE day = ?1 AND domain = ?2")?
                .query_row((&day, domain), |r| r.get(0))?;
            if policies >= POLICIES {
                tracing::warn!(%domain, %day, "too many policies in one day; a session is not counted");
                return Ok(());
            }
            tx.conn
                .prepare_cached(
                    "INSERT INTO session_policy (day, domain, policy, success, failure) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![day, domain, policy, verdict.success, !verdict.success])?;
            tx.conn.last_insert_rowid()
        }
    };
    for detail in &verdict.details {
        count_detail(tx, (id, &day, domain), record, detail, detail_rows)?;
    }
    Ok(())
}

/// Adds one to the row of a failure. When the day's rows for the domain run out, new ones lose first address and
/// greeting, then the host too: what is left is a handful of result types (RPT-30).
fn count_detail(
    tx: &Tx<'_>,
    (policy, day, domain): (i64, &str, &str),
    record: &SessionRecord,
    detail: &FailureDetail,
    limit: i64,
) -> Result<(), Fault> {
    let text = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let host = record.mx_host.as_ref().map_or("", |h| h.as_str());
    let helo = record.mx_helo.as_deref().unwrap_or_default();
    let (sending, receiving) = (text(record.sending_ip), text(record.receiving_ip));
    let rows: i64 = tx
        .conn
        .prepare_cached(
            "SELECT count(*) FROM session_policy p JOIN session_detail d ON d.policy = p.id WHERE p.day = ?1 AND p.domain = ?2",
        )?
        .query_row((day, domain), |r| r.get(0))?;
    let merged = [(host, helo, &*sending, &*receiving), (host, "", "", ""), ("", "", "", "")];
    for (level, (host, helo, sending, receiving)) in (1i64..).zip(merged) {
        let key = params![
            policy,
            detail.result.as_str(),
            detail.reason.as_deref().unwrap_or_default(),
            host,
            helo,
            sending,
            receiving
        ];
        let found = tx
            .conn
            .prepare_cached(
                "UPDATE session_detail SET count = count + 1 WHERE policy = ?1 AND result = ?2 AND reason = ?3 AND \
                 mx_host = ?4 AND mx_helo = ?5 AND sending_ip = ?6 AND receiving_ip = ?7",
            )?
            .execute(key)?;
        // The last tenth is for rows without addresses, the last twentieth for those without a host.
        let room = match level {
            1 => rows < limit - limit / 10,
            2 => rows < limit - limit / 20,
            _ => true,
        };
        if found == 0 && room {
            tx.conn
                .prepare_cached("INSERT INTO session_detail VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)")?
                .execute(key)?;
        }
        if found > 0 || room {
            break;
        }
    }
    Ok(())
}
