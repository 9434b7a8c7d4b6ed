//! A few read-only connections for everything that only looks. They never wait for the writer, nor it for them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::health::Health;
use crate::queue::StoreError;

/// How many look at once.
const READERS: usize = 3;

/// The pool.
#[derive(Clone)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    health: Arc<Health>,
}

/// Gives the connection back, also after a panic.
struct Borrowed(Option<Connection>, Arc<Mutex<Vec<Connection>>>);

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take() {
            self.1.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
    }
}

impl Readers {
    /// Opens the connections.
    pub(super) fn open(file: &Path, busy: Duration, health: Arc<Health>) -> rusqlite::Result<Self> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags(file, flags)?;
            conn.busy_timeout(busy)?;
            conn.set_prepared_statement_cache_capacity(64);
            Ok(conn)
        };
        let idle: Vec<_> = std::iter::repeat_with(open).take(READERS).collect::<rusqlite::Result<_>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), permits: Arc::new(Semaphore::new(READERS)), health })
    }

    /// Runs `look` on a connection of its own, off the runtime's threads.
    pub(super) async fn read<T, F>(&self, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (idle, health) = (Arc::clone(&self.idle), Arc::clone(&self.health));
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let conn = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let lent = Borrowed(conn, idle);
            let conn = lent.0.as_ref().ok_or(StoreError::Closed)?;
            look(conn).map_err(|e| health.judge(&e))
        })
        .await
        .unwrap_or(Err(StoreError::Closed))
    }

    /// Looks at once, on the calling thread. For the start only.
    pub(super) fn look<T, E: From<rusqlite::Error>>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.first().ok_or_else(|| rusqlite::Error::InvalidQuery.into()).and_then(look)
    }

    /// Ends all reading; calls from now on get [`StoreError::Closed`].
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
