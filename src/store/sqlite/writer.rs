//! The writer: one thread owns the write connection and commits whatever is waiting in one go (DUR-03).
//!
//! Callers put jobs into the [`Inbox`]; the thread begins a transaction, takes jobs (outcomes first, each in a
//! savepoint) for as long as there are any, commits once, and only then answers. There is no artificial
//! window: an idle writer commits at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use super::depth::{Changes, Standing};
use super::health::Health;
use super::inbox::{Inbox, Job, Lane, Woken};
use super::metrics::StoreMetrics;
use super::rows::number;
use super::tidy::Tidy;
use crate::clock::{Clock, Timestamp};
use crate::queue::StoreError;

/// The most jobs of one transaction.
const GROUP: usize = 128;
/// After this long a transaction takes no further job, so that nobody waits long for the commit.
const GROUP_TIME: Duration = Duration::from_millis(20);
/// Housekeeping begins after this long without a job.
const IDLE: Duration = Duration::from_millis(50);
/// Housekeeping gets a slice this often while the writer is never idle.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Why a job failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite said no.
    Sqlite(rusqlite::Error),
    /// The job itself said no.
    Refused(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

impl From<StoreError> for Fault {
    fn from(e: StoreError) -> Self {
        Self::Refused(e)
    }
}

/// What a job works with: the open transaction and what belongs to it.
pub(super) struct Tx<'a> {
    /// In a transaction and a savepoint.
    pub(super) conn: &'a Connection,
    /// Wall time of this transaction.
    pub(super) now: Timestamp,
    /// This start of this process.
    pub(super) owner: i64,
    counters: &'a mut Counters,
}

/// Numbers that the writer gives out, and what a transaction adds up.
#[derive(Debug)]
pub(super) struct Counters {
    last_lease: i64,
    last_message: i64,
    timeline_octets: i64,
    depth: Changes,
}

impl Counters {
    /// Leases of `owner` are numbered apart from those of all others.
    pub(super) fn new(owner: i64, last_message: i64) -> Self {
        Self { last_lease: owner << 40, last_message, timeline_octets: 0, depth: Changes::default() }
    }
}

impl Tx<'_> {
    /// A lease number never given out before.
    pub(super) const fn new_lease(&mut self) -> i64 {
        self.counters.last_lease += 1;
        self.counters.last_lease
    }

    /// A message number never given out before by this process, nor in use.
    pub(super) const fn new_message(&mut self) -> i64 {
        self.counters.last_message += 1;
        self.counters.last_message
    }

    /// Counts octets of timeline added or removed.
    pub(super) const fn timeline_grew(&mut self, octets: i64) {
        self.counters.timeline_octets += octets;
    }

    /// Counts recipients that came to stand so. Whoever changes `recipient.state` also calls [`Tx::left`].
    pub(super) fn came(&mut self, standing: Standing, recipients: usize) {
        self.counters.depth.note(standing, number(recipients));
    }

    /// Counts recipients that do not stand so any more.
    pub(super) fn left(&mut self, standing: Standing, recipients: usize) {
        self.counters.depth.note(standing, -number(recipients));
    }
}

/// The thread's own state.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) inbox: Arc<Inbox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: Arc<Health>,
    pub(super) owner: i64,
    pub(super) counters: Counters,
    pub(super) tidy: Tidy,
    pub(super) metrics: StoreMetrics,
    /// Dropped when the thread ends, however it ends.
    pub(super) alive: watch::Sender<()>,
}

struct Done {
    lane: Lane,
    job: Box<dyn Job>,
    failed: Option<StoreError>,
}

impl Done {
    fn answer(self) {
        self.job.answer(self.failed);
    }
}

/// Closes the inbox when the thread ends, also by a panic, so that nobody waits for a dead writer (DUR-21).
struct LastWill(Arc<Inbox>, Arc<Health>);

impl Drop for LastWill {
    fn drop(&mut self) {
        self.0.close();
        self.1.writer_ended();
        drop(self.0.drain());
    }
}

impl Writer {
    /// Works until the inbox is closed and empty, then leaves the WAL empty.
    pub(super) fn run(mut self) {
        let _will = LastWill(Arc::clone(&self.inbox), Arc::clone(&self.health));
        let mut tidied = Instant::now();
        let mut patience = Some(Duration::ZERO);
        loop {
            match self.inbox.wait(patience) {
                Woken::Work => {
                    self.group();
                    patience = Some(IDLE);
                    if tidied.elapsed() < TIDY_EVERY {
                        continue;
                    }
                    let _ = self.tidy(false);
                }
                Woken::Idle => patience = self.tidy(true).then_some(Duration::ZERO),
                Woken::Closed => break,
            }
            tidied = Instant::now();
        }
        if !self.health.is_broken()
            && let Err(e) = self.conn.pragma(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))
        {
            tracing::warn!(error = %e, "the last checkpoint failed; the next start makes it up");
        }
        // Still alive to callers until here.
        drop(self.alive);
    }

    /// One slice of housekeeping. `false` when there is nothing left to do.
    fn tidy(&mut self, idle: bool) -> bool {
        if self.health.is_broken() {
            return false;
        }
        let dropped = self.inbox.take_dropped();
        if dropped > 0 {
            tracing::warn!(dropped, "the store could not keep up; background records were dropped");
            self.metrics.dropped.add((), dropped);
        }
        let now = self.clock.now();
        let result = match self.begin() {
            Ok(()) => {
                let mut tx = Tx { conn: &self.conn, now, owner: self.owner, counters: &mut self.counters };
                self.tidy.slice(&mut tx, &self.inbox).and_then(|more| {
                    self.conn.execute_batch("COMMIT")?;
                    Ok(more)
                })
            }
            Err(e) => Err(e.into()),
        };
        let more = result.unwrap_or_else(|fault| {
            tracing::warn!(error = %self.judge(fault), "housekeeping of the store failed");
            self.rollback();
            self.tidy.start_over();
            false
        });
        if idle && !more {
            // Its own slot, so that no commit has to make it (DUR-16). A reader in the way is no matter.
            let _ = self.conn.pragma(None, "wal_checkpoint", "PASSIVE", |_| Ok(()));
        }
        more
    }

    /// One transaction for everything that waits.
    fn group(&mut self) {
        let begun = match self.health.broken() {
            Some(e) => Err(e),
            None => self.begin().map_err(|e| self.health.judge(&e)),
        };
        if let Err(error) = begun {
            for job in self.inbox.drain() {
                job.answer(Some(error.clone()));
            }
            return;
        }
        let now = self.clock.now();
        self.tidy.watch_clock(now, self.clock.monotonic());
        let started = Instant::now();
        let mut done: Vec<Done> = Vec::new();
        while done.len() < GROUP && (done.is_empty() || started.elapsed() < GROUP_TIME) {
            let Some((lane, mut job)) = self.inbox.pop() else { break };
            let failed = self.in_savepoint(&mut *job, now).err().map(|f| self.judge(f));
            let starved = lane == Lane::Outcome && matches!(failed, Some(StoreError::Full));
            done.push(Done { lane, job, failed });
            if starved || self.conn.is_autocommit() {
                self.rollback();
                return self.redo(done);
            }
        }
        match self.commit(now, done.len()) {
            Ok(()) => done.into_iter().for_each(Done::answer),
            Err(e) => {
                let error = self.health.judge(&e);
                self.rollback();
                if self.health.is_broken() {
                    // A failed sync is never tried again on this handle (DUR-06).
                    done.into_iter().for_each(|d| d.job.answer(Some(error.clone())));
                } else {
                    self.redo(done);
                }
            }
        }
    }

    /// After a transaction was lost: outcomes in one of their own, then the others one by one.
    fn redo(&mut self, done: Vec<Done>) {
        let (mut outcomes, others): (Vec<_>, Vec<_>) =
            done.into_iter().partition(|d| d.lane == Lane::Outcome);
        if self.together(&mut outcomes).is_ok() {
            outcomes.drain(..).for_each(Done::answer);
        }
        for mut one in outcomes.into_iter().chain(others) {
            if let Err(e) = self.together(std::slice::from_mut(&mut one)) {
                one.failed = Some(e);
            }
            one.answer();
        }
    }

    /// These jobs in one transaction; an error when nothing of it was committed.
    fn together(&mut self, jobs: &mut [Done]) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        if let Some(e) = self.health.broken() {
            return Err(e);
        }
        self.begin().map_err(|e| self.health.judge(&e))?;
        let now = self.clock.now();
        for done in &mut *jobs {
            done.failed = self.in_savepoint(&mut *done.job, now).err().map(|f| self.judge(f));
            if self.conn.is_autocommit() {
                return Err(done.failed.clone().unwrap_or(StoreError::Closed));
            }
        }
        self.commit(now, jobs.len()).map_err(|e| {
            let error = self.health.judge(&e);
            self.rollback();
            error
        })
    }

    fn in_savepoint(&mut self, job: &mut dyn Job, now: Timestamp) -> Result<(), Fault> {
        self.conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        let (octets, depth) = (self.counters.timeline_octets, self.counters.depth.mark());
        let mut tx = Tx { conn: &self.conn, now, owner: self.owner, counters: &mut self.counters };
        let result = job.run(&mut tx);
        if result.is_err() {
            self.counters.timeline_octets = octets;
            self.counters.depth.back_to(depth);
            if self.conn.is_autocommit() {
                return result;
            }
            if self.conn.execute_batch("ROLLBACK TO job").is_err() {
                self.rollback();
                return result;
            }
        }
        self.conn.prepare_cached("RELEASE job")?.execute([])?;
        result
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        self.counters.timeline_octets = 0;
        self.counters.depth.back_to(0);
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(|_| ())
    }

    fn commit(&mut self, now: Timestamp, jobs: usize) -> rusqlite::Result<()> {
        let begun = Instant::now();
        self.counters.depth.write(&self.conn)?;
        self.conn
            .prepare_cached("UPDATE meta SET last_written = ?1, timeline_octets = timeline_octets + ?2")?
            .execute((now.as_millis(), self.counters.timeline_octets))?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        self.metrics.commits.took(begun.elapsed());
        self.metrics.batches.were(jobs);
        Ok(())
    }

    fn rollback(&self) {
        if !self.conn.is_autocommit()
            && let Err(e) = self.conn.execute_batch("ROLLBACK")
        {
            self.health.judge(&e);
        }
    }

    fn judge(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Sqlite(e) => self.health.judge(&e),
            Fault::Refused(e) => e,
        }
    }
}
