//! What is only looked up: due work, content, lists.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::leases::Damaged;
use super::rows::{self, META, META_COLUMNS, RECIPIENT, RECIPIENT_COLUMNS, Text, code, key, keys};
use crate::clock::Timestamp;
use crate::mail::QueueId;
use crate::queue::{
    DeferReason, Delayed, Diagnosis, Due, DueDomain, DueQuery, Filter, ListedRecipient, RecipientState,
    ShownMessage, TimelineEntry,
};

/// One seek per domain in the index of waiting recipients (QUE-30, QUE-32): the cost does not depend on how much
/// any of them has waiting. What cannot be read is passed over and named.
pub(super) fn due(conn: &Connection, query: &DueQuery, now: Timestamp) -> rusqlite::Result<(Due, Damaged)> {
    // A damaged name may be empty, and nothing is before that.
    let mut first = conn.prepare_cached(&next_domain(">="))?;
    let mut seek = conn.prepare_cached(&next_domain(">"))?;
    let mut later = conn.prepare_cached(LATER)?;
    let (mut due, mut damaged) = (Due::default(), Damaged::default());
    let mut after = query.after.as_ref().map(|d| d.as_str().as_bytes().to_vec());
    loop {
        let statement = if after.is_none() { &mut first } else { &mut seek };
        let row = statement
            .query_row([Text(after.as_deref().unwrap_or_default())], |r| {
                let name = r.get_ref(0)?.as_bytes()?.to_vec();
                Ok((name, rows::domain(r, 0), rows::time(r, 1)?, rows::suspension(r, 2)))
            })
            .optional()?;
        let Some((name, domain, since, suspension)) = row else { break };
        after = Some(name.clone());
        let Ok(domain) = domain else {
            damaged.domains.push(name);
            continue;
        };
        let suspension = suspension.unwrap_or_else(|_| {
            damaged.suspensions.push(name);
            None
        });
        let open_at = suspension.as_ref().map_or(since, |s| s.until.max(since));
        let mut earliest = |at: Timestamp| due.next = Some(due.next.map_or(at, |n| n.min(at)));
        if open_at > now {
            earliest(open_at);
        } else if due.domains.len() < query.limit {
            // What this domain has for later falls due too, with nobody else to look for it.
            let key = (Text(domain.as_str().as_bytes()), now.as_millis());
            if let Some(at) = later.query_row(key, |r| rows::time(r, 0)).optional()? {
                earliest(at);
            }
            due.domains.push(DueDomain { domain, since, probe: suspension });
        } else {
            // There is more, and it is due now.
            due.next = Some(now);
            break;
        }
    }
    Ok((due, damaged))
}

/// The next moment after a given one at which a domain has work.
pub(super) const LATER: &str = "SELECT next_attempt FROM recipient INDEXED BY recipient_due \
    WHERE state <= 1 AND domain = ?1 AND next_attempt > ?2 ORDER BY next_attempt LIMIT 1";

/// The first waiting recipient of the next domain.
pub(super) fn next_domain(from: &str) -> String {
    format!(
        "SELECT r.domain, r.next_attempt, s.until, s.step, s.last FROM recipient r INDEXED BY recipient_due \
         LEFT JOIN suspension s ON s.domain = r.domain WHERE r.state <= 1 AND r.domain {from} ?1 \
         ORDER BY r.domain, r.next_attempt LIMIT 1"
    )
}

/// One part of a message's content.
pub(super) fn content(conn: &Connection, id: QueueId, part: u32) -> rusqlite::Result<Option<Bytes>> {
    if part >= rows::PLACES {
        return Ok(None);
    }
    let Some(seq) = rows::seq_of(conn, id)? else { return Ok(None) };
    conn.prepare_cached("SELECT bytes FROM content WHERE id = ?1")?
        .query_row([key(seq, part)], |r| r.get::<_, Vec<u8>>(0).map(Bytes::from))
        .optional()
}

/// Recipients that were never warned, after a place in their order.
pub(super) fn unwarned() -> String {
    format!(
        "SELECT {META}, {RECIPIENT}, s.until, s.step, s.last, r.cause FROM recipient r INDEXED BY recipient_unwarned \
         JOIN message m ON m.seq = r.id >> 20 LEFT JOIN suspension s ON s.domain = r.domain \
         WHERE r.state <= 1 AND r.warned = 0 AND r.arrived < ?1 AND (r.arrived, r.id) > (?2, ?3) \
         ORDER BY r.arrived, r.id"
    )
}

/// Recipients whose delay warning is due.
pub(super) fn delayed(
    conn: &Connection,
    arrived_before: Timestamp,
    after: Option<(QueueId, u32)>,
    limit: usize,
) -> rusqlite::Result<Vec<Delayed>> {
    let (arrived, id): (i64, i64) = match after {
        Some((message, no)) => conn
            .prepare_cached(
                "SELECT r.arrived, r.id FROM message m JOIN recipient r ON r.id = (m.seq << 20) + ?2 WHERE m.id = ?1",
            )?
            .query_row((message.as_bytes(), no), |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?
            .unwrap_or((i64::MIN, 0)),
        None => (i64::MIN, 0),
    };
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Delayed {
            message: rows::meta(row)?,
            recipient: rows::recipient(row, META_COLUMNS)?,
            // One that cannot be read says nothing; the next look for due work ends it.
            suspension: rows::suspension(row, META_COLUMNS + RECIPIENT_COLUMNS).ok().flatten(),
            cause: row.get::<_, Option<String>>(META_COLUMNS + RECIPIENT_COLUMNS + 3)?.unwrap_or_default(),
        })
    };
    // Damaged rows do not count, or a page of nothing else would look like the last.
    conn.prepare_cached(&unwarned())?
        .query_map((arrived_before.as_millis(), arrived, id), |row| rows::readable(row, META_COLUMNS, read))?
        .filter_map(Result::transpose)
        .take(limit)
        .collect()
}

/// A filter as SQL over `message m` and `recipient r`.
struct Condition {
    sql: String,
    values: Vec<Value>,
}

impl Condition {
    fn new(conn: &Connection, filter: &Filter) -> rusqlite::Result<Self> {
        let mut this = Self { sql: String::new(), values: Vec::new() };
        match filter.state {
            Some(state) => this.and("r.state = ?", code(state)),
            None => this.sql.push_str("r.state <= 3"),
        }
        // Messages in the queue are few beside those in the history, and have an index.
        if filter.state.is_none_or(|s| !s.is_terminal()) {
            this.sql.push_str(" AND m.finished IS NULL");
        }
        if !filter.ids.is_empty() {
            let mut known = Vec::new();
            for id in &filter.ids {
                known.extend(rows::seq_of(conn, *id)?.map(|seq| seq.to_string()));
            }
            this.sql.push_str(&format!(" AND m.seq IN ({})", known.join(",")));
        }
        for (column, value) in [
            ("r.address = ?", &filter.recipient),
            ("m.sender = ?", &filter.sender),
            // A recipient that was never tried waits for what its domain is suspended for.
            (
                "coalesce(r.cause, (SELECT 'connect' FROM suspension x WHERE x.domain = r.domain)) = ?",
                &filter.cause,
            ),
            ("r.domain = ?", &filter.domain.as_ref().map(|d| d.as_str().to_owned())),
        ] {
            if let Some(value) = value {
                this.and(column, value.clone());
            }
        }
        Ok(this)
    }

    fn and(&mut self, term: &str, value: impl Into<Value>) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.sql.push_str(term);
        self.values.push(value.into());
    }

    fn bound(mut self, more: impl IntoIterator<Item = i64>) -> impl Iterator<Item = Value> {
        self.values.extend(more.into_iter().map(Value::from));
        self.values.into_iter()
    }
}

const LISTED: &str = "r.state, r.cause, s.until, s.last FROM message m CROSS JOIN recipient r ON r.id BETWEEN m.seq << 20 AND (m.seq << 20) + 1048575 \
                      LEFT JOIN suspension s ON s.domain = r.domain";

fn listed(row: &rusqlite::Row<'_>) -> rusqlite::Result<ListedRecipient> {
    let r = rows::recipient(row, META_COLUMNS)?;
    let first = META_COLUMNS + RECIPIENT_COLUMNS;
    let state = rows::state(row, first)?;
    let suspended = rows::maybe_time(row, first + 2)?.filter(|_| state.is_waiting());
    let (mut cause, mut last) = (row.get::<_, Option<String>>(first + 1)?, r.last);
    if let Some(until) = suspended.filter(|_| last.is_none())
        && let Ok(probe) = rows::json::<Diagnosis>(row, first + 3)
    {
        // The probe of its domain speaks for a recipient that was never tried itself (QUE-34).
        let text = format!("{}; the domain is left alone until {until}", probe.text);
        last = Some(Diagnosis { text, ..probe });
        cause = cause.or_else(|| Some(DeferReason::Connect.as_str().to_owned()));
    }
    Ok(ListedRecipient {
        message: rows::meta(row)?,
        no: r.no,
        path: r.path,
        state,
        attempts: r.attempts,
        next_attempt: (!state.is_terminal())
            .then(|| suspended.map_or(r.next_attempt, |until| until.max(r.next_attempt))),
        cause: cause.unwrap_or_default(),
        last,
    })
}

/// `queue list`.
pub(super) fn list(
    conn: &Connection,
    filter: &Filter,
    limit: usize,
) -> rusqlite::Result<Vec<ListedRecipient>> {
    let condition = Condition::new(conn, filter)?;
    let sql =
        format!("SELECT {META}, {RECIPIENT}, {LISTED} WHERE {} ORDER BY m.seq, r.id LIMIT ?", condition.sql);
    let limit = rows::number(limit);
    conn.prepare(&sql)?
        .query_map(params_from_iter(condition.bound([limit])), |r| rows::readable(r, META_COLUMNS, listed))?
        .filter_map(Result::transpose)
        .collect()
}

/// A recipient that an operator's command is about.
pub(super) struct Match {
    pub(super) id: i64,
    pub(super) domain: Arc<str>,
    pub(super) state: RecipientState,
}

/// The next recipients after `after` that match, in order of their keys.
pub(super) fn matches(
    conn: &Connection,
    filter: &Filter,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Match>> {
    let condition = Condition::new(conn, filter)?;
    let sql = format!(
        "SELECT r.id, r.domain, r.state FROM message m CROSS JOIN recipient r ON r.id BETWEEN m.seq << 20 AND \
         (m.seq << 20) + 1048575 WHERE {} AND m.seq >= ? AND r.id > ? ORDER BY m.seq, r.id LIMIT ?",
        condition.sql
    );
    let limit = rows::number(limit);
    let bound = condition.bound([rows::message_of(after.max(0)), after, limit]);
    conn.prepare(&sql)?
        .query_map(params_from_iter(bound), |r| {
            rows::readable(r, 0, |r| {
                Ok(Match { id: r.get(0)?, domain: r.get(1)?, state: rows::state(r, 2)? })
            })
        })?
        .filter_map(Result::transpose)
        .collect()
}

/// `queue show`.
pub(super) fn show(conn: &Connection, id: QueueId) -> rusqlite::Result<Option<ShownMessage>> {
    let sql = format!("SELECT {META}, m.seq, m.submitter FROM message m WHERE m.id = ?1");
    let found = conn
        .prepare_cached(&sql)?
        .query_row([id.as_bytes()], |r| {
            Ok((rows::meta(r)?, r.get::<_, i64>(META_COLUMNS)?, r.get(META_COLUMNS + 1)?))
        })
        .optional()?;
    let Some((message, seq, submitter)) = found else { return Ok(None) };
    let (first, last) = keys(seq);
    let sql = format!(
        "SELECT {META}, {RECIPIENT}, {LISTED} WHERE m.seq = ?1 AND r.id BETWEEN ?2 AND ?3 ORDER BY r.id"
    );
    let recipients = conn
        .prepare_cached(&sql)?
        .query_map((seq, first, last), |r| rows::readable(r, META_COLUMNS, listed))?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<_>>()?;
    let timeline = conn
        .prepare_cached("SELECT entry, id FROM timeline WHERE message = ?1 ORDER BY id")?
        .query_map([seq], |r| rows::readable(r, 1, |r| rows::json::<TimelineEntry>(r, 0)))?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<_>>()?;
    let header = content(conn, id, 0)?.map(|bytes| header_of(&bytes)).unwrap_or_default();
    Ok(Some(ShownMessage { message, submitter, recipients, timeline, header }))
}

/// The header section: up to the empty line, without it.
fn header_of(bytes: &[u8]) -> String {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 2);
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).into_owned()
}
