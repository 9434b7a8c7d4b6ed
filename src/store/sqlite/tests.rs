//! What only this store has: files, locks, damage, and how it goes about a full disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::writer::Lane;
use super::*;
use crate::queue::{Filter, QueueStore, RecipientState};
use crate::store::contract::{
    self, Site, all_of, claim, clock, delivered, domain, id, message, stands, terms,
};

/// A directory of its own.
struct Here(tempfile::TempDir);

impl Here {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn settings(&self) -> SqliteSettings {
        SqliteSettings { busy_timeout: Duration::from_millis(50), ..SqliteSettings::new(self.0.path()) }
    }

    fn database(&self) -> PathBuf {
        open::database(self.0.path())
    }

    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.database()).unwrap()
    }

    fn count(&self, sql: &str) -> i64 {
        self.raw().query_row(sql, [], |r| r.get(0)).unwrap()
    }
}

impl Site for Here {
    type Store = SqliteStore;

    fn open(&self, clock: Arc<dyn Clock>) -> SqliteStore {
        SqliteStore::open(&self.settings(), clock).unwrap()
    }

    fn close(&self, store: SqliteStore) -> BoxFuture<'static, ()> {
        Box::pin(async move { store.close().await })
    }

    fn kill(&self, store: SqliteStore) {
        // The writer ends what it has begun, which a killed process would not; nothing else is done. In
        // particular no lease is given back.
        drop(store);
    }
}

#[tokio::test]
async fn the_contract_holds() {
    contract::run(Here::new).await;
}
