//! Opening: the instance lock, the file system, the pragmas, the schema (DUR-01, DUR-14, DUR-15).

use std::cmp::Ordering;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use refinery::{Migration, Runner};
use rusqlite::{Connection, OptionalExtension};

/// The database within the data directory.
const DATABASE: &str = "queue.db";
/// The lock within the data directory. It stays there; what counts is the lock and not the file.
const LOCK: &str = "sealpost.lock";
/// `SEAL`: tells our database from any other (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x5345_414C;
/// A commit that finds the WAL longer than this copies it into the database, and everybody waits for it: 500 pages
/// cost some 4 ms. At 4000 pages the stalls of 30 ms were the 99th percentile of the reply to the final dot.
const CHECKPOINT_PAGES: i64 = 500;
/// The WAL is cut back to this after a checkpoint.
const WAL_KEPT: i64 = 64 << 20;

/// The schema, oldest first. Numbers are never reused, texts never changed: forward only (DUR-15).
const MIGRATIONS: [(&str, &str); 6] = [
    ("V1__initial", include_str!("migrations/V1__initial.sql")),
    ("V2__reports", include_str!("migrations/V2__reports.sql")),
    ("V3__sender_tls", include_str!("migrations/V3__sender_tls.sql")),
    ("V4__exceptions", include_str!("migrations/V4__exceptions.sql")),
    ("V5__figures", include_str!("migrations/V5__figures.sql")),
    ("V6__status", include_str!("migrations/V6__status.sql")),
];

/// Why the store could not be opened. Every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The lock is held.
    #[error("{} is in use by another sealpost{}; only one may run on it", dir.display(), pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The process that holds it, when it could be read.
        pid: Option<u32>,
    },
    /// WAL needs shared memory, and locks that hold.
    #[error("{} lies on a network file system ({kind}); SQLite can lose mail there, use a local disk for data_dir", dir.display())]
    NetworkFileSystem {
        /// The data directory.
        dir: PathBuf,
        /// Its kind.
        kind: &'static str,
    },
    /// The directory or a file in it.
    #[error("cannot use {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Some other program's database.
    #[error("{} is an SQLite database, but not one of sealpost", .0.display())]
    NotOurs(PathBuf),
    /// A newer release has been here (DUR-15).
    #[error(
        "the database has schema version {found}, this release knows up to {known}: use the newer release again, or restore a backup made with this one"
    )]
    Newer {
        /// What the database has.
        found: i64,
        /// What we have.
        known: i64,
    },
    /// An earlier release made it, and who only reads does not bring it up to date.
    #[error(
        "the database has schema version {found} of an earlier release, this one reads {known}: start this release once, which brings it up to date"
    )]
    Older {
        /// What the database has.
        found: i64,
        /// What we have.
        known: i64,
    },
    /// A pragma did not take.
    #[error("the database refuses {pragma}: it says {got}")]
    Pragma {
        /// Which.
        pragma: &'static str,
        /// What it is instead.
        got: String,
    },
    /// Bringing the schema up to date failed; nothing of it was kept.
    #[error("bringing the database schema up to date failed: {0}")]
    Migration(String),
    /// Damage is never repaired by starting over (DUR-13).
    #[error(
        "the database cannot be opened: {0}; nothing was changed. If it is damaged, restore a backup, or move it away to start with an empty queue"
    )]
    Sqlite(#[from] rusqlite::Error),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

/// The file of the database in `data_dir`.
pub(super) fn database(data_dir: &Path) -> PathBuf {
    data_dir.join(DATABASE)
}

/// Makes the directory if need be, refuses a network file system, and takes the lock. The lock lasts as long as
/// the file is open.
pub(super) fn lock(data_dir: &Path) -> Result<File, OpenError> {
    DirBuilder::new().recursive(true).mode(0o750).create(data_dir).map_err(io_error(data_dir))?;
    if let Some(kind) = network_file_system(data_dir)? {
        return Err(OpenError::NetworkFileSystem { dir: data_dir.to_owned(), kind });
    }
    let path = data_dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(&path)
        .map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = (&file).take(32).read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { dir: data_dir.to_owned(), pid });
        }
        Err(TryLockError::Error(e)) => return Err(io_error(&path)(e)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(io_error(&path))?;
    Ok(file)
}

/// The kinds that `statfs` names and that are known to be shared between machines.
fn network_file_system(dir: &Path) -> Result<Option<&'static str>, OpenError> {
    let stat = rustix::fs::statfs(dir).map_err(|e| io_error(dir)(e.into()))?;
    // Magic numbers are 32 bits wide, whatever the type of the field on this platform.
    Ok(network_kind(stat.f_type.cast_unsigned() & 0xFFFF_FFFF))
}

const fn network_kind(magic: u64) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517B => Some("SMB"),
        0xFF53_4D42 => Some("CIFS"),
        0xFE53_4D42 => Some("SMB2"),
        0x0102_1997 => Some("9P"),
        0x00C3_6400 => Some("Ceph"),
        0x5346_414F | 0x6B41_4653 => Some("AFS"),
        0x0BD0_0BD0 => Some("Lustre"),
        0x4750_4653 => Some("GPFS"),
        0x7461_636F => Some("OCFS2"),
        0x0116_1970 => Some("GFS2"),
        _ => None,
    }
}

/// Opens the database for writing, sets and verifies its pragmas, and brings the schema up to date.
pub(super) fn open(file: &Path, busy: Duration) -> Result<Connection, OpenError> {
    // Made here for its mode: mail is nobody else's business. SQLite gives the WAL the same mode.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(file)
        .map_err(io_error(file))?;
    let mut conn = Connection::open(file)?;
    conn.busy_timeout(busy)?;
    conn.set_prepared_statement_cache_capacity(128);
    let pages: i64 = conn.query_row("PRAGMA page_count", [], |r| r.get(0))?;
    if pages == 0 {
        // Pages of 4 KiB: what file systems and disks write at once, and an index entry somewhere in the tree
        // costs one page of WAL.
        conn.execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL")?;
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    } else if conn.query_row("PRAGMA application_id", [], |r| r.get::<_, i64>(0))? != APPLICATION_ID {
        return Err(OpenError::NotOurs(file.to_owned()));
    }
    // FULL syncs the WAL at every commit; NORMAL would lose acknowledged mail at power loss (DUR-01).
    settle(&conn, "journal_mode", "WAL", "wal")?;
    settle(&conn, "synchronous", "FULL", "2")?;
    settle(&conn, "foreign_keys", "OFF", "0")?;
    settle(&conn, "temp_store", "MEMORY", "2")?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
    migrate(&mut conn)?;
    Ok(conn)
}

/// Sets a pragma and reads it back: what SQLite cannot do, it ignores.
fn settle(conn: &Connection, pragma: &'static str, value: &str, want: &str) -> Result<(), OpenError> {
    conn.pragma_update(None, pragma, value)?;
    let got = conn.pragma_query_value(None, pragma, |r| {
        r.get_ref(0).map(|v| v.as_str().map_or_else(|_| v.as_i64().unwrap_or(-1).to_string(), str::to_owned))
    })?;
    if got == want { Ok(()) } else { Err(OpenError::Pragma { pragma, got }) }
}

/// A database as an earlier release left it.
#[cfg(test)]
pub(super) fn migrated_to(file: &Path, version: usize) -> Result<(), OpenError> {
    let mut conn = Connection::open(file)?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    run(&mut conn, MIGRATIONS.get(..version).unwrap_or_default())
}

fn run(conn: &mut Connection, migrations: &[(&str, &str)]) -> Result<(), OpenError> {
    let failed = |e: refinery::Error| OpenError::Migration(e.to_string());
    let migrations: Vec<Migration> = migrations
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    Runner::new(&migrations).run(conn).map_err(failed)?;
    Ok(())
}

fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    let known = MIGRATIONS.len() as i64;
    let found = schema_version(conn)?;
    match found.cmp(&known) {
        Ordering::Greater => Err(OpenError::Newer { found, known }),
        Ordering::Equal => Ok(()),
        Ordering::Less => run(conn, &MIGRATIONS),
    }
}

/// The newest migration that the database has seen; 0 for an empty one.
pub(super) fn schema_version(conn: &Connection) -> rusqlite::Result<i64> {
    let there = conn
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'refinery_schema_history'", [], |_| Ok(()))
        .optional()?;
    match there {
        Some(()) => {
            conn.query_row("SELECT coalesce(max(version), 0) FROM refinery_schema_history", [], |r| r.get(0))
        }
        None => Ok(0),
    }
}

/// Whether this release can read the database as it is.
pub(super) fn check_readable(file: &Path, conn: &Connection) -> Result<(), OpenError> {
    if conn.query_row("PRAGMA application_id", [], |r| r.get::<_, i64>(0))? != APPLICATION_ID {
        return Err(OpenError::NotOurs(file.to_owned()));
    }
    let (found, known) = (schema_version(conn)?, MIGRATIONS.len() as i64);
    match found.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(OpenError::Older { found, known }),
        Ordering::Greater => Err(OpenError::Newer { found, known }),
    }
}
