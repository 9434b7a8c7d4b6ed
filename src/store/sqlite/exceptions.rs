//! Exceptions that ended early, as rows.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::inbox::Lane;
use super::readers::Readers;
use super::{SqliteReader, SqliteStore};
use crate::clock::Timestamp;
use crate::queue::StoreError;
use crate::security::exception::ExceptionMemory;

/// Longer than anybody grants an exception for; then the row says nothing any more.
const KEPT: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Few rows: one per exception that was ever granted and not needed to its end.
async fn ended(readers: &Readers) -> Result<Vec<String>, StoreError> {
    readers
        .read(|conn| conn.prepare("SELECT key FROM ended_exception")?.query_map([], |r| r.get(0))?.collect())
        .await
}

impl ExceptionMemory for SqliteStore {
    fn remember(&self, key: String, at: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (name, ms) = (key.clone(), at.as_millis());
            let written = self.inbox.write(Lane::Work, move |tx| {
                let before = ms.saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX));
                tx.conn.execute("DELETE FROM ended_exception WHERE ended < ?1", [before])?;
                tx.conn.execute("INSERT OR REPLACE INTO ended_exception VALUES (?1, ?2)", (&key, ms))?;
                Ok(())
            });
            if let Err(error) = written.await {
                tracing::error!(event = "exception-end-not-written", exception = name, %error, "a restart would bring it back");
            }
        })
    }
}

impl SqliteStore {
    /// The keys of exceptions that ended early.
    ///
    /// # Errors
    /// Of the database.
    pub async fn ended_exceptions(&self) -> Result<Vec<String>, StoreError> {
        ended(self.readers()).await
    }
}

impl SqliteReader {
    /// The keys of exceptions that ended early.
    ///
    /// # Errors
    /// Of the database.
    pub async fn ended_exceptions(&self) -> Result<Vec<String>, StoreError> {
        ended(&self.0).await
    }
}
