//! The MTA-STS policy cache as rows (STS-48).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::inbox::Lane;
use super::readers::Readers;
use super::rows::{domain, json, maybe_time, number, time};
use super::writer::{Fault, Tx};
use super::{SqliteReader, SqliteStore};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::mtasts::{
    Backoff, DomainMemory, Mode, Policy, PolicyChange, PolicyRow, PolicyStore, StoreFailed, StoredPolicy,
};
use crate::queue::StoreError;

/// Lines of history per domain.
const HISTORY: i64 = 100;
/// Domains purged in one go.
const SLICE: i64 = 100;
/// A use is written down this often; a month decides about a purge (STS-56).
const TOUCH: Duration = Duration::from_secs(3600);
/// Uses remembered so as not to write them again.
const TOUCHED: usize = 10_000;

/// The uses that were written down lately.
#[derive(Default)]
pub(super) struct Touched(Mutex<HashMap<Domain, Timestamp>>);

impl Touched {
    /// Whether this use is worth a write.
    fn note(&self, domain: &Domain, at: Timestamp) -> bool {
        let mut touched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.get(domain).is_some_and(|last| at.since(*last) < TOUCH && last.since(at) < TOUCH) {
            return false;
        }
        if touched.len() >= TOUCHED {
            touched.clear();
        }
        touched.insert(domain.clone(), at);
        true
    }
}

impl From<StoreError> for StoreFailed {
    fn from(e: StoreError) -> Self {
        Self(e.to_string())
    }
}

const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Testing => "testing",
        Mode::None => "none",
    }
}

const COLUMNS: &str = "p.domain, p.id, p.mode, p.mx, p.max_age, p.lines, p.fetched, p.expires, p.last_used";

pub(super) fn mode(row: &Row<'_>, column: usize) -> rusqlite::Result<Mode> {
    Ok(match row.get_ref(column)?.as_str()? {
        "enforce" => Mode::Enforce,
        "testing" => Mode::Testing,
        // The column's CHECK admits no fourth word.
        _ => Mode::None,
    })
}

fn policy(row: &Row<'_>) -> rusqlite::Result<StoredPolicy> {
    let mode = mode(row, 2)?;
    let max_age = Duration::from_secs(row.get::<_, i64>(4)?.try_into().unwrap_or_default());
    Ok(StoredPolicy {
        domain: domain(row, 0)?,
        id: row.get(1)?,
        policy: Policy { mode, mx: json(row, 3)?, max_age, lines: json(row, 5)? },
        fetched: time(row, 6)?,
        expires: time(row, 7)?,
        last_used: time(row, 8)?,
    })
}

fn load(conn: &Connection, domain: &Domain) -> rusqlite::Result<PolicyRow> {
    let stored = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM policy p WHERE p.domain = ?1"))?
        .query_row([domain.as_str()], policy)
        .optional()?;
    let memory = conn
        .prepare_cached(
            "SELECT grace_started, backoff_id, backoff_until, backoff_step, backoff_failure, last_refetch, \
             refresh_failing_since, refresh_tried FROM policy_memory WHERE domain = ?1",
        )?
        .query_row([domain.as_str()], |row| {
            let backoff = match (row.get(1)?, maybe_time(row, 2)?) {
                (Some(id), Some(until)) => Some(Backoff {
                    id,
                    until,
                    step: Duration::from_millis(row.get::<_, i64>(3)?.try_into().unwrap_or_default()),
                    failure: json(row, 4)?,
                }),
                _ => None,
            };
            Ok(DomainMemory {
                grace_started: maybe_time(row, 0)?,
                backoff,
                last_refetch: maybe_time(row, 5)?,
                refresh_failing_since: maybe_time(row, 6)?,
                refresh_tried: maybe_time(row, 7)?,
            })
        })
        .optional()?;
    Ok(PolicyRow { policy: stored, memory: memory.unwrap_or_default() })
}

fn save(tx: &Tx<'_>, stored: &StoredPolicy, change: Option<&str>) -> Result<(), Fault> {
    let json = |v: &Vec<String>| serde_json::to_string(v).unwrap_or_default();
    let name = stored.domain.as_str();
    tx.conn
        .prepare_cached("INSERT OR REPLACE INTO policy VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
        .execute(params![
            name,
            stored.id,
            mode_word(stored.policy.mode),
            json(&stored.policy.mx),
            i64::try_from(stored.policy.max_age.as_secs()).unwrap_or(i64::MAX),
            json(&stored.policy.lines),
            stored.fetched.as_millis(),
            stored.expires.as_millis(),
            stored.last_used.as_millis(),
        ])?;
    if let Some(what) = change {
        tx.conn
            .prepare_cached("INSERT INTO policy_change (domain, at, what) VALUES (?1, ?2, ?3)")?
            .execute((name, tx.now.as_millis(), what))?;
        tx.conn
            .prepare_cached(
                "DELETE FROM policy_change WHERE id IN \
                 (SELECT id FROM policy_change WHERE domain = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute((name, HISTORY))?;
    }
    Ok(())
}

fn remember(tx: &Tx<'_>, domain: &Domain, memory: &DomainMemory) -> Result<(), Fault> {
    if *memory == DomainMemory::default() {
        tx.conn.prepare_cached("DELETE FROM policy_memory WHERE domain = ?1")?.execute([domain.as_str()])?;
        return Ok(());
    }
    let ms = |t: Option<Timestamp>| t.map(Timestamp::as_millis);
    let backoff = memory.backoff.as_ref();
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO policy_memory VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            domain.as_str(),
            ms(memory.grace_started),
            backoff.map(|b| &*b.id),
            backoff.map(|b| b.until.as_millis()),
            backoff.map(|b| i64::try_from(b.step.as_millis()).unwrap_or(i64::MAX)),
            backoff.map(|b| serde_json::to_string(&b.failure).unwrap_or_default()),
            ms(memory.last_refetch),
            ms(memory.refresh_failing_since),
            ms(memory.refresh_tried),
            tx.now.as_millis(),
        ])?;
    Ok(())
}

/// Deletes a slice of policies that expired and were last used before `before`, with all that belongs to them, and
/// of memories of domains without a policy that nobody has written to since.
fn purge(tx: &Tx<'_>, before: Timestamp) -> Result<usize, Fault> {
    let before = before.as_millis();
    let expired: Vec<String> = tx
        .conn
        .prepare_cached("SELECT domain FROM policy WHERE expires < ?1 AND last_used < ?1 LIMIT ?2")?
        .query_map((before, SLICE), |r| r.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in &expired {
        for sql in [
            "DELETE FROM policy WHERE domain = ?1",
            "DELETE FROM policy_memory WHERE domain = ?1",
            "DELETE FROM policy_change WHERE domain = ?1",
        ] {
            tx.conn.prepare_cached(sql)?.execute([name])?;
        }
    }
    tx.conn
        .prepare_cached(
            "DELETE FROM policy_memory WHERE domain IN (SELECT domain FROM policy_memory n WHERE written < ?1 AND \
             NOT EXISTS (SELECT 1 FROM policy p WHERE p.domain = n.domain) LIMIT ?2)",
        )?
        .execute((before, SLICE))?;
    Ok(expired.len())
}

pub(super) async fn list(
    readers: &Readers,
    after: Option<Domain>,
    limit: usize,
) -> Result<Vec<StoredPolicy>, StoreError> {
    readers
        .read(move |conn| {
            let after = after.as_ref().map_or("", |d| d.as_str());
            let sql =
                format!("SELECT {COLUMNS} FROM policy p WHERE p.domain > ?1 ORDER BY p.domain LIMIT ?2");
            conn.prepare_cached(&sql)?.query_map((after, number(limit)), policy)?.collect()
        })
        .await
}

/// Few rows: one per domain whose policy is stored or was looked for lately.
pub(super) async fn failing(readers: &Readers) -> Result<Vec<(Domain, Timestamp)>, StoreError> {
    readers
        .read(move |conn| {
            conn.prepare_cached(
                "SELECT domain, refresh_failing_since FROM policy_memory WHERE refresh_failing_since IS NOT NULL",
            )?
            .query_map([], |r| Ok((domain(r, 0)?, time(r, 1)?)))?
            .collect()
        })
        .await
}

pub(super) async fn history(readers: &Readers, domain: Domain) -> Result<Vec<PolicyChange>, StoreError> {
    readers
        .read(move |conn| {
            conn.prepare_cached("SELECT at, what FROM policy_change WHERE domain = ?1 ORDER BY id")?
                .query_map([domain.as_str()], |r| Ok(PolicyChange { at: time(r, 0)?, what: r.get(1)? }))?
                .collect()
        })
        .await
}

impl PolicyStore for SqliteStore {
    fn load<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<PolicyRow, StoreFailed>> {
        let name = domain.clone();
        Box::pin(async move { Ok(self.readers().read(move |conn| load(conn, &name)).await?) })
    }

    fn save(&self, policy: StoredPolicy, change: Option<String>) -> BoxFuture<'_, Result<(), StoreFailed>> {
        Box::pin(async move {
            Ok(self.inbox.write(Lane::Work, move |tx| save(tx, &policy, change.as_deref())).await?)
        })
    }

    fn remember(&self, domain: Domain, memory: DomainMemory) -> BoxFuture<'_, Result<(), StoreFailed>> {
        Box::pin(
            async move { Ok(self.inbox.write(Lane::Work, move |tx| remember(tx, &domain, &memory)).await?) },
        )
    }

    fn touch(&self, domain: &Domain, at: Timestamp) {
        if !self.touched.note(domain, at) {
            return;
        }
        let name = domain.clone();
        self.inbox.write_later(move |tx| {
            tx.conn
                .prepare_cached("UPDATE policy SET last_used = max(last_used, ?2) WHERE domain = ?1")?
                .execute((name.as_str(), at.as_millis()))?;
            Ok(())
        });
    }

    fn due_for_refresh(
        &self,
        fetched_before: Timestamp,
        tried_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredPolicy>, StoreFailed>> {
        Box::pin(async move {
            let found = self.readers().read(move |conn| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM policy p LEFT JOIN policy_memory m ON m.domain = p.domain \
                     WHERE p.fetched < ?1 AND (m.refresh_tried IS NULL OR m.refresh_tried < ?2) ORDER BY p.fetched LIMIT ?3"
                );
                conn.prepare_cached(&sql)?
                    .query_map((fetched_before.as_millis(), tried_before.as_millis(), number(limit)), policy)?
                    .collect()
            });
            Ok(found.await?)
        })
    }

    fn purge(&self, before: Timestamp) -> BoxFuture<'_, Result<usize, StoreFailed>> {
        Box::pin(async move { Ok(self.inbox.write(Lane::Work, move |tx| purge(tx, before)).await?) })
    }

    fn list(
        &self,
        after: Option<Domain>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredPolicy>, StoreFailed>> {
        Box::pin(async move { Ok(list(self.readers(), after, limit).await?) })
    }

    fn failing(&self) -> BoxFuture<'_, Result<Vec<(Domain, Timestamp)>, StoreFailed>> {
        Box::pin(async move { Ok(failing(self.readers()).await?) })
    }

    fn history<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<PolicyChange>, StoreFailed>> {
        Box::pin(async move { Ok(history(self.readers(), domain.clone()).await?) })
    }
}

impl SqliteReader {
    /// All stored policies by name, at most `limit`, starting after `after`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn policies(
        &self,
        after: Option<Domain>,
        limit: usize,
    ) -> Result<Vec<StoredPolicy>, StoreError> {
        list(&self.0, after, limit).await
    }

    /// Domains whose refreshes fail, and since when.
    ///
    /// # Errors
    /// Of the database.
    pub async fn failing_refreshes(&self) -> Result<Vec<(Domain, Timestamp)>, StoreError> {
        failing(&self.0).await
    }

    /// The stored policy of a domain and the memory beside it.
    ///
    /// # Errors
    /// Of the database.
    pub async fn policy(&self, domain: Domain) -> Result<PolicyRow, StoreError> {
        self.0.read(move |conn| load(conn, &domain)).await
    }

    /// The history of a domain's policy, oldest first.
    ///
    /// # Errors
    /// Of the database.
    pub async fn policy_history(&self, domain: Domain) -> Result<Vec<PolicyChange>, StoreError> {
        history(&self.0, domain).await
    }
}
