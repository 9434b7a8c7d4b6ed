//! How the store feels: damage is remembered, free space is looked up at most once a second (DUR-11, DUR-13).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;

use super::metrics::Trouble;
use crate::observe::metrics::Counters;
use crate::queue::{StoreError, StoreHealth};

/// How long a look at the disk is good for.
const FRESH: Duration = Duration::from_secs(1);

/// Shared by the writer, the readers and the store's face.
pub(super) struct Health {
    dir: PathBuf,
    errors: Counters<Trouble>,
    broken: OnceLock<String>,
    ended: AtomicBool,
    seen: Mutex<Option<(Instant, u64)>>,
}

impl Health {
    pub(super) const fn new(dir: PathBuf, errors: Counters<Trouble>) -> Self {
        Self { dir, errors, broken: OnceLock::new(), ended: AtomicBool::new(false), seen: Mutex::new(None) }
    }

    /// What an error of SQLite means to a caller. Damage and I/O errors are for good: only an operator and a new
    /// start end that state (DUR-13).
    pub(super) fn judge(&self, error: &rusqlite::Error) -> StoreError {
        let text = error.to_string();
        let (trouble, error) = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => (Trouble::Full, StoreError::Full),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (Trouble::Busy, StoreError::Busy),
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly,
            ) => {
                if self.broken.set(text.clone()).is_ok() {
                    tracing::error!(error = %text, "the database failed; no further writes until the relay is started again");
                }
                (Trouble::Broken, StoreError::Broken(text))
            }
            _ => (Trouble::Broken, StoreError::Broken(text)),
        };
        self.errors.count(trouble);
        error
    }

    /// The error that every call gets since the damage.
    pub(super) fn broken(&self) -> Option<StoreError> {
        self.broken.get().cloned().map(StoreError::Broken)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.get().is_some()
    }

    pub(super) fn writer_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn now(&self) -> StoreHealth {
        StoreHealth { writable: !self.is_broken() && !self.ended.load(Ordering::Acquire), free: self.free() }
    }

    fn free(&self) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some((at, free)) if at.elapsed() < FRESH => free,
            _ => {
                let free = rustix::fs::statvfs(&self.dir).map_or(0, |v| {
                    // Some file systems have no fixed number of inodes and say zero (DUR-11).
                    let out_of_inodes = v.f_files > 0 && v.f_favail == 0;
                    if out_of_inodes { 0 } else { v.f_bavail.saturating_mul(v.f_frsize) }
                });
                *seen = Some((Instant::now(), free));
                free
            }
        }
    }
}
