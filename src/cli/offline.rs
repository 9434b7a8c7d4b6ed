//! Reading commands without a running relay: its database, opened read-only.

use std::sync::Arc;

use crate::config::Config;
use crate::mtasts::PolicyStore;
use crate::queue::QueueStore;

/// The stores of a relay that does not answer. Only their reading calls work.
pub struct Offline {
    /// The queue.
    pub queue: Arc<dyn QueueStore>,
    /// The policy cache.
    pub policies: Arc<dyn PolicyStore>,
}

// PLACEHOLDER for the integrator: SqliteStore::open_read_only(&config.data_dir), in both roles.
/// Opens the database of `config` read-only.
///
/// # Errors
/// In words.
pub(super) fn open(config: &Config) -> Result<Offline, String> {
    Err(format!("the database in {} cannot be opened by this build", config.data_dir.display()))
}
