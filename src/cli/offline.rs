//! Reading commands without a running relay: its database, opened read-only.

use crate::config::Config;
use crate::store::sqlite::{SqliteReader, SqliteStore};

/// Opens the database of `config` for looking only.
///
/// # Errors
/// In words.
pub(super) fn open(config: &Config) -> Result<SqliteReader, String> {
    let file = config.data_dir.join("queue.db");
    if !file.exists() {
        let place = file.display();
        return Err(format!(
            "there is no queue at {place} yet: no relay has run here, or data_dir is another one's"
        ));
    }
    SqliteStore::open_read_only(&config.data_dir).map_err(|e| e.to_string())
}
