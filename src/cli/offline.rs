//! Reading commands without a running relay: its database, opened read-only.

use crate::config::Config;
use crate::store::sqlite::{SqliteReader, SqliteStore};

/// Opens the database of `config` for looking only.
///
/// # Errors
/// In words.
pub(super) fn open(config: &Config) -> Result<SqliteReader, String> {
    SqliteStore::open_read_only(&config.data_dir).map_err(|e| e.to_string())
}
