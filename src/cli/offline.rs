//! Reading commands without a running relay: its database, opened read-only.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::config::Config;
use crate::store::sqlite::{SqliteReader, SqliteStore};

/// Opens the database of `config` for looking only.
///
/// # Errors
/// In words.
pub(super) fn open(config: &Config) -> Result<SqliteReader, String> {
    let file = config.data_dir.join("queue.db");
    match std::fs::File::open(&file) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let place = file.display();
            return Err(format!(
                "there is no queue at {place} yet: no relay has run here, or data_dir is another one's"
            ));
        }
        Err(e) => return Err(unreadable(&file, &e)),
    }
    SqliteStore::open_read_only(&config.data_dir).map_err(|e| e.to_string())
}

/// A file of the relay that is closed to us, or is none, and what helps.
pub(super) fn unreadable(file: &Path, error: &io::Error) -> String {
    let help = match error.kind() {
        ErrorKind::PermissionDenied => "; run this command as the user of the relay, or as root",
        ErrorKind::NotFound => "; the relay makes it at its first start",
        _ => "",
    };
    format!("{} cannot be read: {error}{help}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_is_told_to_be_the_relay_and_not_to_move_the_queue_away() {
        let words = |kind: ErrorKind| unreadable(Path::new("/q/admin.token"), &kind.into());
        let closed = words(ErrorKind::PermissionDenied);
        assert!(closed.starts_with("/q/admin.token cannot be read: "), "{closed}");
        assert!(closed.ends_with("run this command as the user of the relay, or as root"), "{closed}");
        assert!(words(ErrorKind::NotFound).ends_with("at its first start"));
    }
}
