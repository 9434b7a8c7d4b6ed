//! Leases: taking them, settling them, giving them back, and ending those of the dead (QUE-03, QUE-38, DUR-20).
//!
//! Every change of state is a guarded update: it names the state, or the lease, that it starts from (QUE-02).

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::depth::{self, Standing};
use super::intake::{self, NewLease, Prepared};
use super::rows::{self, META, RECIPIENT, RECIPIENT_COLUMNS, Text, code, is_damage, key, keys, message_of};
use super::writer::{Fault, Tx};
use crate::clock::Timestamp;
use crate::mail::{Domain, QueueId};
use crate::queue::{
    CONTENT_PART, ClaimTerms, DeferReason, Lease, LeaseId, LeasedRecipient, MAX_TRANSACTION, Outcome,
    RecipientState, Settled, StoreError,
};

/// The next attempt after an interruption comes no later than this (DUR-20).
const SOON: Duration = Duration::from_secs(60);
/// So many interruptions in a row, and the full wait is kept: the message may be what kills us (DUR-20).
const POISON: u32 = 3;
/// Content of up to so many parts goes in the commit that ends its message; more goes in slices later.
const PARTS_AT_ONCE: i64 = 8;

/// What the start found of processes that ended without a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Recipients that were in flight and are deferred now.
    pub recipients: u64,
    /// Those among them that were interrupted for at least the third time in a row and keep their full wait.
    pub poisonous: u64,
}

/// The oldest due recipient of a domain.
pub(super) const OLDEST_DUE: &str = "SELECT id FROM recipient INDEXED BY recipient_due WHERE domain = ?1 AND state <= 1 \
                                     AND next_attempt <= ?2 ORDER BY next_attempt LIMIT 1";

/// What waits of one message for one domain.
pub(super) fn transaction() -> String {
    // The rows of a message lie side by side; the other indexes would only be in the way.
    format!(
        "SELECT {RECIPIENT}, r.state, r.cause FROM recipient r NOT INDEXED WHERE r.id BETWEEN ?1 AND ?2 AND r.domain = ?3 AND r.state <= 1 \
         AND r.next_attempt <= ?4 ORDER BY r.id LIMIT {MAX_TRANSACTION}"
    )
}

/// Leases the oldest due transactions of `domain`.
pub(super) fn claim_due(
    tx: &mut Tx<'_>,
    domain: &Domain,
    limit: usize,
    terms: &ClaimTerms,
) -> Result<Vec<Lease>, Fault> {
    let mut leases = Vec::new();
    let mut damaged = 0;
    while leases.len() < limit && damaged < MAX_TRANSACTION {
        let oldest: Option<i64> = tx
            .conn
            .prepare_cached(OLDEST_DUE)?
            .query_row((domain.as_str(), tx.now.as_millis()), |r| r.get(0))
            .optional()?;
        let Some(id) = oldest else { break };
        match lease_of(tx, message_of(id), domain, tx.now, terms)? {
            Some(lease) => leases.push(lease),
            // What was found has been put aside.
            None => damaged += 1,
        }
    }
    Ok(leases)
}

/// Leases what waits for `domain` in these messages, due or not.
pub(super) fn claim_messages(
    tx: &mut Tx<'_>,
    domain: &Domain,
    messages: &[i64],
    terms: &ClaimTerms,
) -> Result<Vec<Lease>, Fault> {
    let mut leases = Vec::new();
    for seq in messages {
        leases.extend(lease_of(tx, *seq, domain, Timestamp::from_millis(i64::MAX), terms)?);
    }
    Ok(leases)
}

/// Messages with recipients of `domain` that wait and arrived before the first moment, or before the second when
/// they are of our own making; at most `limit`.
pub(super) fn arrived_before(
    conn: &Connection,
    domain: &Domain,
    (submitted, generated): (Timestamp, Timestamp),
    limit: usize,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = conn.prepare_cached(
        "SELECT r.id FROM recipient r INDEXED BY recipient_due CROSS JOIN message m ON m.seq = r.id >> 20 \
         WHERE r.domain = ?1 AND r.state <= 1 AND r.arrived < max(?2, ?3) \
         AND r.arrived < iif(m.origin = 'submitted', ?2, ?3) ORDER BY r.next_attempt",
    )?;
    let mut found = Vec::new();
    let mut rows = statement.query((domain.as_str(), submitted.as_millis(), generated.as_millis()))?;
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let seq = message_of(row.get(0)?);
        if !found.contains(&seq) {
            found.push(seq);
        }
    }
    Ok(found)
}

/// Puts a damaged row aside, where an operator finds it, so that it does not keep its domain from being served
/// (OUT-54).
fn put_aside(tx: &mut Tx<'_>, id: i64, from: Standing, why: &rusqlite::Error) -> rusqlite::Result<()> {
    tracing::error!(event = "row-damaged", row = id, error = %why, "a row of the queue cannot be read; it is held");
    let held = tx
        .conn
        .prepare_cached("UPDATE recipient SET state = 3, cause = 'damaged' WHERE id = ?1 AND state <= 1")?
        .execute([id])?;
    tx.left(from, held);
    tx.came(held_as_damaged(), held);
    Ok(())
}

fn held_as_damaged() -> Standing {
    Standing::of(RecipientState::Held, Some(DeferReason::Damaged.as_str()))
}

/// Where a row stands, from its columns `state` and `cause`.
fn standing(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Standing> {
    let cause = row.get_ref(first + 1)?.as_bytes_or_null()?.map(String::from_utf8_lossy);
    Ok(Standing::of(rows::state(row, first)?, cause.as_deref()))
}

/// What a look for due work could not read.
#[derive(Debug, Default)]
pub(super) struct Damaged {
    /// Domains of recipients, octet for octet.
    pub(super) domains: Vec<Vec<u8>>,
    /// Domains whose suspension says nothing.
    pub(super) suspensions: Vec<Vec<u8>>,
}

impl Damaged {
    pub(super) const fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.suspensions.is_empty()
    }
}

/// Puts aside what no domain can be read from, so that no further look stumbles over it.
pub(super) fn put_damaged_aside(tx: &mut Tx<'_>, damaged: &Damaged) -> Result<(), Fault> {
    for domain in &damaged.domains {
        let from: Vec<Standing> = tx
            .conn
            .prepare_cached("SELECT state, cause FROM recipient WHERE domain = ?1 AND state <= 1")?
            .query_map([Text(domain)], |r| standing(r, 0))?
            .collect::<rusqlite::Result<_>>()?;
        for standing in from {
            tx.left(standing, 1);
        }
        let rows = tx
            .conn
            .prepare_cached(
                "UPDATE recipient SET state = 3, cause = 'damaged' WHERE domain = ?1 AND state <= 1",
            )?
            .execute([Text(domain)])?;
        tx.came(held_as_damaged(), rows);
        let domain = String::from_utf8_lossy(domain);
        tracing::error!(event = "row-damaged", %domain, rows, "not a domain; its recipients are held");
    }
    for domain in &damaged.suspensions {
        tx.conn.prepare_cached("DELETE FROM suspension WHERE domain = ?1")?.execute([Text(domain)])?;
        let domain = String::from_utf8_lossy(domain);
        tracing::error!(event = "row-damaged", %domain, "the suspension of a domain cannot be read; it is ended");
    }
    Ok(())
}

/// One lease: at most [`MAX_TRANSACTION`] recipients of one message and domain that wait and are due by `due`.
/// `None` when nothing of it could be read.
fn lease_of(
    tx: &mut Tx<'_>,
    seq: i64,
    domain: &Domain,
    due: Timestamp,
    terms: &ClaimTerms,
) -> Result<Option<Lease>, Fault> {
    let conn = tx.conn;
    let (first, last) = keys(seq);
    let found: Vec<(i64, Standing, rusqlite::Result<LeasedRecipient>)> = conn
        .prepare_cached(&transaction())?
        .query_map(params![first, last, domain.as_str(), due.as_millis()], |r| {
            Ok((r.get(0)?, standing(r, RECIPIENT_COLUMNS)?, rows::recipient(r, 0)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let message = conn
        .prepare_cached(&format!("SELECT {META} FROM message m WHERE m.seq = ?1"))?
        .query_row([seq], rows::meta);
    let message = match message {
        Err(e) if is_damage(&e) => {
            for (id, from, _) in found {
                put_aside(tx, id, from, &e)?;
            }
            return Ok(None);
        }
        message => message?,
    };
    let mut recipients = Vec::with_capacity(found.len());
    for (id, from, row) in found {
        match row {
            Err(e) if is_damage(&e) => put_aside(tx, id, from, &e)?,
            row => {
                recipients.push(row?);
                tx.left(from, 1);
            }
        }
    }
    if recipients.is_empty() {
        return Ok(None);
    }
    let new = NewLease { id: tx.new_lease(), terms };
    let mut update = conn.prepare_cached(
        "UPDATE recipient SET state = 2, attempts = ?2, next_attempt = ?3, lease = ?4 WHERE id = ?1 AND state <= 1",
    )?;
    for r in &mut recipients {
        r.attempts = r.attempts.saturating_add(1);
        r.next_attempt = new.next_attempt(tx.now, r.attempts);
        update.execute((key(seq, r.no), r.attempts, r.next_attempt.as_millis(), new.id))?;
    }
    tx.came(Standing::delivering(), recipients.len());
    // The worker reads the content itself: that is no work for the writer.
    Ok(Some(Lease { id: LeaseId(new.id), message, domain: domain.clone(), recipients, content: None }))
}

/// One settled recipient, as columns.
pub(super) struct SettledRow {
    no: u32,
    state: RecipientState,
    cause: Option<&'static str>,
    last: String,
    next_attempt: Option<i64>,
    uncounted: bool,
}

impl SettledRow {
    /// Does the writing of JSON ahead of the job.
    pub(super) fn new(settled: &Settled) -> Self {
        let (state, cause) = match &settled.outcome {
            Outcome::Delivered(_) => (RecipientState::Delivered, None),
            Outcome::Deferred(reason, _) => (RecipientState::Deferred, Some(reason.as_str())),
            Outcome::Failed(reason, _) => (RecipientState::Bounced, Some(reason.as_str())),
        };
        let deferred = state == RecipientState::Deferred;
        Self {
            no: settled.no,
            state,
            cause,
            last: serde_json::to_string(settled.outcome.diagnosis()).unwrap_or_default(),
            next_attempt: settled.next_attempt.filter(|_| deferred).map(Timestamp::as_millis),
            uncounted: deferred && !settled.counted,
        }
    }
}

/// The message of a lease that is still held.
fn leased_message(tx: &Tx<'_>, lease: LeaseId) -> Result<i64, Fault> {
    tx.conn
        .prepare_cached("SELECT id FROM recipient INDEXED BY recipient_leased WHERE lease = ?1 LIMIT 1")?
        .query_row([lease.0], |r| r.get(0))
        .optional()?
        .map(message_of)
        .ok_or_else(|| StoreError::LeaseLost.into())
}

/// Writes outcomes, the line of timeline, and what follows from them.
pub(super) fn finish(
    tx: &mut Tx<'_>,
    lease: LeaseId,
    settled: &[SettledRow],
    entry: &str,
    generated: &[Prepared],
) -> Result<(), Fault> {
    let seq = leased_message(tx, lease)?;
    let mut ended = 0;
    for s in settled {
        let changed = tx
            .conn
            .prepare_cached(
                "UPDATE recipient SET state = ?3, cause = ?4, last = ?5, next_attempt = coalesce(?6, next_attempt), \
                 attempts = attempts - ?7, interruptions = 0, lease = NULL WHERE id = ?1 AND lease = ?2 AND state = 2",
            )?
            .execute(params![
                key(seq, s.no),
                lease.0,
                code(s.state),
                s.cause,
                s.last,
                s.next_attempt,
                i64::from(s.uncounted)
            ])?;
        if changed == 0 {
            return Err(StoreError::LeaseLost.into());
        }
        if s.state.is_terminal() {
            ended += 1;
        } else {
            tx.came(Standing::of(s.state, s.cause), 1);
        }
    }
    tx.left(Standing::delivering(), settled.len());
    tx.conn.prepare_cached("INSERT INTO timeline (message, entry) VALUES (?1, ?2)")?.execute((seq, entry))?;
    tx.timeline_grew(i64::try_from(entry.len()).unwrap_or(0));
    if ended > 0 {
        close(tx, seq, ended)?;
    }
    for message in generated {
        intake::insert(tx, message, None)?;
    }
    Ok(())
}

/// Counts `ended` recipients out of their message, and drops the content with the last.
fn close(tx: &Tx<'_>, seq: i64, ended: i64) -> Result<(), Fault> {
    let (open, size): (i64, i64) = tx
        .conn
        .prepare_cached(
            "UPDATE message SET open = open - ?2, finished = CASE WHEN open = ?2 THEN ?3 END WHERE seq = ?1 \
             RETURNING open, size",
        )?
        .query_row((seq, ended, tx.now.as_millis()), |r| Ok((r.get(0)?, r.get(1)?)))?;
    if open > 0 {
        return Ok(());
    }
    if size <= PARTS_AT_ONCE * rows::number(CONTENT_PART) {
        let (first, last) = keys(seq);
        tx.conn.prepare_cached("DELETE FROM content WHERE id BETWEEN ?1 AND ?2")?.execute((first, last))?;
    } else {
        tx.conn.prepare_cached("INSERT INTO unused_content (seq) VALUES (?1)")?.execute([seq])?;
    }
    Ok(())
}

/// Undoes the lease of these recipients.
pub(super) fn release(
    tx: &mut Tx<'_>,
    lease: LeaseId,
    recipients: &[u32],
    until: Option<Timestamp>,
) -> Result<(), Fault> {
    let seq = leased_message(tx, lease)?;
    for no in recipients {
        // A recipient without a cause has never been through an attempt: it was queued.
        let back = tx
            .conn
            .prepare_cached(
                "UPDATE recipient SET state = CASE WHEN cause IS NULL THEN 0 ELSE 1 END, attempts = attempts - 1, \
                 next_attempt = ?3, lease = NULL WHERE id = ?1 AND lease = ?2 AND state = 2 RETURNING state, cause",
            )?
            .query_row((key(seq, *no), lease.0, until.unwrap_or(tx.now).as_millis()), |r| standing(r, 0))
            .optional()?;
        tx.came(back.ok_or(StoreError::LeaseLost)?, 1);
    }
    tx.left(Standing::delivering(), recipients.len());
    Ok(())
}

/// Marks recipients as warned and stores the warnings. Asked again after an answer that was lost, it does nothing.
pub(super) fn warned(
    tx: &mut Tx<'_>,
    recipients: &[(QueueId, u32)],
    generated: &[Prepared],
) -> Result<(), Fault> {
    let mut fresh = 0;
    for (id, no) in recipients {
        let Some(seq) = rows::seq_of(tx.conn, *id)? else { continue };
        fresh += tx
            .conn
            .prepare_cached("UPDATE recipient SET warned = 1 WHERE id = ?1 AND warned = 0")?
            .execute([key(seq, *no)])?;
    }
    if fresh > 0 {
        for message in generated {
            intake::insert(tx, message, None)?;
        }
    }
    Ok(())
}

/// At the start: every other owner has ended, and with it its leases. A recipient that was in flight is
/// deferred with its attempt counted, though not completed (QUE-06).
pub(super) fn recover(
    conn: &Connection,
    now: Timestamp,
    longest_wait: Duration,
) -> rusqlite::Result<Recovered> {
    let (soon, latest) = (now.after(SOON), now.after(longest_wait));
    let poisonous: i64 = conn.query_row(
        "SELECT count(*) FROM recipient WHERE lease IS NOT NULL AND interruptions + 1 >= ?1",
        [POISON],
        |r| r.get(0),
    )?;
    let recipients = conn.execute(
        "UPDATE recipient SET state = 1, lease = NULL, cause = ?1, interruptions = interruptions + 1, \
         next_attempt = min(next_attempt, CASE WHEN interruptions + 1 < ?2 THEN ?3 ELSE ?4 END) WHERE lease IS NOT NULL",
        params![DeferReason::Interrupted.as_str(), POISON, soon.as_millis(), latest.as_millis()],
    )?;
    if recipients > 0 {
        let n = rows::number(recipients);
        depth::change(conn, &Standing::delivering(), -n)?;
        let interrupted = Some(DeferReason::Interrupted.as_str());
        depth::change(conn, &Standing::of(RecipientState::Deferred, interrupted), n)?;
    }
    Ok(Recovered { recipients: recipients as u64, poisonous: poisonous.unsigned_abs() })
}

/// Makes these recipients due now, if they still wait, and ends the suspension of `domains`.
pub(super) fn make_due(tx: &Tx<'_>, ids: &[i64], domains: &[Arc<str>]) -> Result<Vec<i64>, Fault> {
    let mut changed = Vec::new();
    for id in ids {
        let n = tx
            .conn
            .prepare_cached("UPDATE recipient SET next_attempt = ?2 WHERE id = ?1 AND state <= 1")?
            .execute((id, tx.now.as_millis()))?;
        if n == 1 {
            changed.push(*id);
        }
    }
    for domain in domains {
        tx.conn.prepare_cached("DELETE FROM suspension WHERE domain = ?1")?.execute([domain])?;
    }
    Ok(changed)
}
