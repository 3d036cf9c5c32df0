//! How databases are opened, and where their files are.

use super::{Home, functions};
use crate::storage::StorageError;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A page cache per open table, in KiB. Small, for hundreds of tables share one process; the system's file cache is
/// behind it.
const CACHE_KIB: u32 = 256;

/// Pages in the write-ahead log before it is folded into the database: about 8 MiB, so that a busy table does not
/// sync the disk every few batches, and its log stays small.
const CHECKPOINT_PAGES: u32 = 2000;

impl Home {
    /// The file of a table; `None` in memory.
    pub(super) fn table_file(&self, table: &str, number: u64) -> Option<PathBuf> {
        match self {
            Self::Directory(directory) => Some(directory.join(file_name(table, number))),
            Self::Memory => None,
        }
    }

    /// The file of a transfer under way; `None` in memory.
    pub(super) fn part_file(&self, number: u64) -> Option<PathBuf> {
        match self {
            Self::Directory(directory) => Some(directory.join(format!("{number}.part"))),
            Self::Memory => None,
        }
    }

    pub(super) fn catalog_file(&self) -> Option<PathBuf> {
        match self {
            Self::Directory(directory) => Some(directory.join("catalog.db")),
            Self::Memory => None,
        }
    }
}

pub(super) fn file_name(table: &str, number: u64) -> String {
    format!("{table}.{number}.db")
}

/// Opens the database at `path`, or one in memory, for this process alone.
pub(super) fn open(path: Option<&Path>) -> Result<Connection, StorageError> {
    let connection = open_new(path)?;
    set_durable(&connection).map_err(StorageError::failed("open", "a database"))?;
    Ok(connection)
}

/// The same for a database that is made first: nothing waits for the disk until [`set_durable`], since a table that is
/// not whole yet has nothing to keep. Waiting would cost tens of milliseconds a table.
pub(super) fn open_new(path: Option<&Path>) -> Result<Connection, StorageError> {
    let place = path.map_or_else(|| "a database in memory".to_owned(), |path| path.display().to_string());
    let connection = match path {
        Some(path) => Connection::open(path),
        None => Connection::open_in_memory(),
    };
    let connection = connection.map_err(StorageError::failed("open", place.as_str()))?;
    configure(&connection, path.is_some()).map_err(StorageError::failed("open", place))?;
    Ok(connection)
}

fn configure(connection: &Connection, on_disk: bool) -> rusqlite::Result<()> {
    // No other process has any business here: a lock held means a second node on the same directory.
    connection.busy_timeout(Duration::ZERO)?;
    if on_disk {
        // Tables are closed and opened often when there are many; their logs can wait.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch(&format!(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL; \
             PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES};"
        ))?;
    }
    connection.execute_batch(&format!("PRAGMA cache_size=-{CACHE_KIB}; PRAGMA temp_store=MEMORY;"))?;
    functions::register(connection)
}

/// From now on the disk is synced when the log is folded into the database.
pub(super) fn set_durable(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous=NORMAL")
}

/// Removes a database with its companions; one that is not there is well.
pub(super) fn remove_file(path: &Path) -> Result<(), StorageError> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io("remove", &path)(error)),
        }
    }
    Ok(())
}
