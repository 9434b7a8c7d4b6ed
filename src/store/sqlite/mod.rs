//! The SQLite store: one writer thread with group commit, WAL, `synchronous=FULL`.
//!
//! [`SqliteStore`] is the face: it prepares what takes time, hands jobs to the writer (`writer`) and looks things
//! up on connections of its own (`readers`). What the jobs do: `intake`, `leases`, `policies`, `sessions`,
//! `reports`, `history`; `tidy` does what nobody asked for, `status` looks over everything.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::clock::{Clock, Timestamp};
use crate::mail::QueueId;
use crate::queue::{Filter, ListedRecipient, ShownMessage, StoreError};

mod depth;
mod exceptions;
mod figures;
mod health;
mod history;
mod inbox;
mod intake;
mod leases;
pub mod metrics;
mod open;
mod policies;
mod queue;
mod readers;
mod reads;
mod reports;
mod rows;
mod sessions;
mod status;
mod tidy;
mod writer;

#[cfg(test)]
mod tests;

pub use leases::Recovered;
pub use open::OpenError;

use health::Health;
use inbox::Inbox;
use metrics::StoreMetrics;
use readers::Readers;
use tidy::Tidy;
use writer::{Counters, Writer};

/// How to open the store.
#[derive(Debug, Clone)]
pub struct SqliteSettings {
    /// Where the database lies. Made when missing.
    pub data_dir: PathBuf,
    /// How long to wait for another process that holds the database (DUR-12).
    pub busy_timeout: Duration,
    /// The longest wait that any retry schedule can give. A next attempt further away than this was written by a
    /// clock that has been set back since (DUR-17).
    pub longest_wait: Duration,
    /// Detail rows of TLS reporting per domain and day (RPT-30).
    pub detail_rows: u32,
    /// What is counted.
    pub metrics: StoreMetrics,
}

impl SqliteSettings {
    /// The defaults for a data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            busy_timeout: Duration::from_secs(5),
            longest_wait: Duration::from_secs(24 * 3600),
            detail_rows: 1000,
            metrics: StoreMetrics::default(),
        }
    }
}

/// The store of one relay on one machine. All ports of the queue, the policy cache and the session records.
pub struct SqliteStore {
    inbox: Arc<Inbox>,
    reader: SqliteReader,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    touched: policies::Touched,
    slices: Arc<Semaphore>,
    detail_rows: i64,
    recovered: Recovered,
    last_written: Option<Timestamp>,
    alive: watch::Receiver<()>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held for as long as the store lives (DUR-14).
    _lock: File,
}

/// A look at a queue, also one that no relay runs on.
pub struct SqliteReader(Readers);

impl SqliteStore {
    /// Opens the store: takes the instance lock, checks and migrates the database, ends the leases of the dead,
    /// and starts the writer. Blocks; meant for the start of the process.
    ///
    /// # Errors
    /// [`OpenError`], whose texts are for operators.
    pub fn open(settings: &SqliteSettings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let lock = open::lock(&settings.data_dir)?;
        let file = open::database(&settings.data_dir);
        let mut conn = open::open(&file, settings.busy_timeout)?;
        let now = clock.now();
        let last_written: Option<i64> = conn.query_row("SELECT last_written FROM meta", [], |r| r.get(0))?;
        let (owner, recovered) = begin(&mut conn, now, settings.longest_wait)?;
        let last_message = conn.query_row(
            "SELECT max((SELECT coalesce(max(seq), 0) FROM message), (SELECT coalesce(max(seq), 0) FROM unused_content))",
            [],
            |r| r.get(0),
        )?;
        let health = Arc::new(Health::new(settings.data_dir.clone(), settings.metrics.errors.clone()));
        let reader = SqliteReader(Readers::open(&file, settings.busy_timeout, Arc::clone(&health))?);
        let inbox = Arc::new(Inbox::default());
        let (alive_here, alive) = watch::channel(());
        let writer = Writer {
            conn,
            inbox: Arc::clone(&inbox),
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
            owner,
            counters: Counters::new(owner, last_message),
            tidy: Tidy::new(settings.longest_wait, i64::from(settings.detail_rows)),
            metrics: settings.metrics.clone(),
            alive: alive_here,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::Io { path: file, error })?;
        Ok(Self {
            inbox,
            reader,
            clock,
            health,
            touched: policies::Touched::default(),
            slices: Arc::new(Semaphore::new(intake::SLICES)),
            detail_rows: i64::from(settings.detail_rows),
            recovered,
            last_written: last_written.map(Timestamp::from_millis),
            alive,
            writer: Mutex::new(Some(thread)),
            _lock: lock,
        })
    }

    /// Opens the database of `data_dir` for looking only, beside a relay or without one.
    ///
    /// # Errors
    /// [`OpenError`]; of another schema version [`OpenError::Newer`] or [`OpenError::Older`].
    pub fn open_read_only(data_dir: &Path) -> Result<SqliteReader, OpenError> {
        let file = open::database(data_dir);
        let health = Arc::new(Health::new(data_dir.to_owned(), StoreMetrics::default().errors));
        let readers = Readers::open(&file, Duration::from_secs(5), health)?;
        readers.look(|conn| open::check_readable(&file, conn))?;
        Ok(SqliteReader(readers))
    }

    /// What the start found in flight.
    pub const fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Wall time of the last commit before this start, for STS-57; `None` for a new database.
    pub const fn last_written(&self) -> Option<Timestamp> {
        self.last_written
    }

    /// Resolves when the writer has ended: after [`SqliteStore::close`], or because it died, and then the process
    /// must not go on (DUR-21).
    pub async fn closed(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Does what waits, empties the WAL and ends. Calls that come later get [`StoreError::Closed`].
    pub async fn close(&self) {
        self.inbox.close();
        self.readers().close();
        self.closed().await;
        self.join();
    }

    fn join(&self) {
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the writer of the store panicked");
        }
    }

    const fn readers(&self) -> &Readers {
        &self.reader.0
    }
}

impl Drop for SqliteStore {
    /// What waits is still done: somebody may count on it.
    fn drop(&mut self) {
        self.inbox.close();
        self.join();
    }
}

impl SqliteReader {
    /// Wall time of the last commit; `None` for a new database.
    ///
    /// # Errors
    /// Of the database.
    pub async fn last_written(&self) -> Result<Option<Timestamp>, StoreError> {
        let look = |conn: &rusqlite::Connection| {
            conn.query_row("SELECT last_written FROM meta", [], |r| r.get::<_, Option<i64>>(0))
        };
        Ok(self.0.read(look).await?.map(Timestamp::from_millis))
    }

    /// [`crate::queue::QueueStore::list`].
    ///
    /// # Errors
    /// Of the database.
    pub async fn list(&self, filter: Filter, limit: usize) -> Result<Vec<ListedRecipient>, StoreError> {
        self.0.read(move |conn| reads::list(conn, &filter, limit)).await
    }

    /// [`crate::queue::QueueStore::show`].
    ///
    /// # Errors
    /// Of the database.
    pub async fn show(&self, id: QueueId) -> Result<Option<ShownMessage>, StoreError> {
        self.0.read(move |conn| reads::show(conn, id)).await
    }
}

/// One commit: a new owner, the end of all others and of their leases.
fn begin(
    conn: &mut rusqlite::Connection,
    now: Timestamp,
    longest_wait: Duration,
) -> rusqlite::Result<(i64, Recovered)> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute("DELETE FROM owner", [])?;
    tx.execute(
        "INSERT INTO owner (pid, started, heartbeat) VALUES (?1, ?2, ?2)",
        (std::process::id(), now.as_millis()),
    )?;
    let owner = tx.last_insert_rowid();
    let recovered = leases::recover(&tx, now, longest_wait)?;
    tx.commit()?;
    Ok((owner, recovered))
}
