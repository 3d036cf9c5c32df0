//! Tables on their way to and from other nodes: pages of the database in chunks.
//!
//! Sent is a copy made by SQLite's backup, so writes go on meanwhile; received is a file that gets its place only when
//! it is whole. In memory a transfer holds the whole table: such tables are small.

use super::table::TableFile;
use super::{Home, connect};
use crate::storage::{CHUNK_BYTES_MAX, RestoreId, SnapshotId, StorageError};
use rusqlite::MAIN_DB;
use rusqlite::backup::Backup;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;

/// Each costs a file and disk space for a table. A node takes and gives a handful of tables at a time.
const TRANSFERS_MAX: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Transfers {
    snapshots: BTreeMap<u64, Snapshot>,
    restores: BTreeMap<u64, Restore>,
}

#[derive(Debug)]
enum Snapshot {
    File { file: File, _part: PartFile },
    Memory(Cursor<Vec<u8>>),
}

#[derive(Debug)]
pub(super) struct Restore {
    table: String,
    received: Received,
}

#[derive(Debug)]
enum Received {
    File { file: File, part: PartFile },
    Memory(Vec<u8>),
}

/// A file that is removed when the transfer ends, however it ends.
#[derive(Debug)]
struct PartFile(PathBuf);

impl Drop for PartFile {
    fn drop(&mut self) {
        // What stays behind is removed at the next start.
        let _ = connect::remove_file(&self.0);
    }
}

impl Transfers {
    fn check_room(&self) -> Result<(), StorageError> {
        let under_way = self.snapshots.len() + self.restores.len();
        if under_way < TRANSFERS_MAX { Ok(()) } else { Err(StorageError::TooManyTransfers(under_way)) }
    }

    pub(super) fn snapshot_begin(
        &mut self,
        home: &Home,
        number: u64,
        source: &mut TableFile,
    ) -> Result<SnapshotId, StorageError> {
        self.check_room()?;
        let snapshot = match home.part_file(number) {
            Some(path) => {
                let part = PartFile(path);
                copy_database(source, &part)?;
                let file = File::open(&part.0).map_err(StorageError::io("open", &part.0))?;
                Snapshot::File { file, _part: part }
            }
            None => Snapshot::Memory(Cursor::new(
                source
                    .connection
                    .serialize(MAIN_DB)
                    .map_err(StorageError::failed("copy", format!("table '{}'", source.name)))?
                    .to_vec(),
            )),
        };
        self.snapshots.insert(number, snapshot);
        Ok(SnapshotId(number))
    }

    pub(super) fn snapshot_next(&mut self, id: SnapshotId) -> Result<Option<Vec<u8>>, StorageError> {
        let snapshot = self.snapshots.get_mut(&id.0).ok_or(StorageError::NoTransfer(id.0))?;
        let reader: &mut dyn Read = match snapshot {
            Snapshot::File { file, .. } => file,
            Snapshot::Memory(bytes) => bytes,
        };
        let mut chunk = Vec::with_capacity(CHUNK_BYTES_MAX);
        let read = reader.take(CHUNK_BYTES_MAX as u64).read_to_end(&mut chunk);
        read.map_err(|error| StorageError::Failed {
            action: "read",
            place: format!("snapshot {}", id.0),
            detail: error.to_string(),
        })?;
        if chunk.is_empty() {
            self.snapshots.remove(&id.0);
            return Ok(None);
        }
        Ok(Some(chunk))
    }

    pub(super) fn snapshot_abort(&mut self, id: SnapshotId) {
        self.snapshots.remove(&id.0);
    }

    pub(super) fn restore_begin(
        &mut self,
        home: &Home,
        number: u64,
        table: &str,
    ) -> Result<RestoreId, StorageError> {
        self.check_room()?;
        let received = match home.part_file(number) {
            Some(path) => {
                let part = PartFile(path);
                let file = File::create(&part.0).map_err(StorageError::io("create", &part.0))?;
                Received::File { file, part }
            }
            None => Received::Memory(Vec::new()),
        };
        self.restores.insert(number, Restore { table: table.to_owned(), received });
        Ok(RestoreId(number))
    }

    pub(super) fn restore_chunk(&mut self, id: RestoreId, chunk: &[u8]) -> Result<(), StorageError> {
        let restore = self.restores.get_mut(&id.0).ok_or(StorageError::NoTransfer(id.0))?;
        match &mut restore.received {
            Received::File { file, part } => {
                file.write_all(chunk).map_err(StorageError::io("write to", &part.0))
            }
            Received::Memory(bytes) => {
                bytes.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    pub(super) fn restore_finish(&mut self, id: RestoreId) -> Result<Restore, StorageError> {
        self.restores.remove(&id.0).ok_or(StorageError::NoTransfer(id.0))
    }

    pub(super) fn restore_abort(&mut self, id: RestoreId) {
        self.restores.remove(&id.0);
    }
}

/// Copies all pages into a file that needs no log beside it.
fn copy_database(source: &mut TableFile, part: &PartFile) -> Result<(), StorageError> {
    let copy = || {
        let mut target = rusqlite::Connection::open(&part.0)?;
        target.execute_batch(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;",
        )?;
        let backup = Backup::new(&source.connection, &mut target)?;
        backup.step(-1)?;
        drop(backup);
        // The copied header asks for a write-ahead log; a table in memory cannot have one.
        target.execute_batch("PRAGMA journal_mode=DELETE;")
    };
    copy().map_err(StorageError::failed("copy", format!("table '{}'", source.name)))
}

impl Restore {
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Opens what was received, checks it, and gives it its final file.
    pub(super) fn install(self, home: &Home, number: u64) -> Result<TableFile, StorageError> {
        let connection = match self.received {
            Received::File { file, part } => {
                file.sync_data().map_err(StorageError::io("sync", &part.0))?;
                drop(file);
                let path = home.table_file(&self.table, number).unwrap_or_else(|| part.0.clone());
                std::fs::rename(&part.0, &path).map_err(StorageError::io("rename", &part.0))?;
                connect::open(Some(&path))
            }
            Received::Memory(bytes) => {
                let mut connection = connect::open(None)?;
                connection
                    .deserialize_read_exact(MAIN_DB, bytes.as_slice(), bytes.len(), false)
                    .map_err(StorageError::failed("read", format!("the received table '{}'", self.table)))?;
                Ok(connection)
            }
        };
        let damaged = |error: StorageError| StorageError::Damaged {
            place: format!("the received table '{}'", self.table),
            detail: error.to_string(),
        };
        let table =
            connection.map_err(damaged).and_then(|connection| TableFile::received(&self.table, connection));
        if table.is_err()
            && let Some(path) = home.table_file(&self.table, number)
        {
            connect::remove_file(&path)?;
        }
        table
    }
}
