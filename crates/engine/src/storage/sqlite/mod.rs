//! [`Storage`] over SQLite: one database per table, and a catalog that says which there are.
//!
//! On disk: `catalog.db` (tables and the caller's facts), `{table}.{n}.db` per table, `*.part` for transfers under
//! way. A table's file is known by its number `n`, never used twice, so that a new file takes the place of an old one
//! in one transaction of the catalog; files the catalog does not name are removed when it is opened.
//! Write-ahead logs without fsync per commit: an acknowledged write survives the death of the process at any moment,
//! though not always that of the machine.

mod catalog;
mod connect;
mod functions;
mod pool;
mod rank;
mod search;
mod select;
mod table;
#[cfg(test)]
mod tests;
mod transfer;
mod translate;

use super::{Change, IdStats, Query, RestoreId, SnapshotId, Storage, StorageError, TableSchema};
use crate::io::Value;
use catalog::Catalog;
use pool::Pool;
use std::path::Path;
use std::sync::Arc;
use transfer::Transfers;

/// File systems allow names of 255 bytes; a number and an ending come behind.
const NAME_BYTES_MAX: usize = 200;

/// Where the databases are.
#[derive(Clone, Debug)]
enum Home {
    Directory(std::path::PathBuf),
    Memory,
}

/// Whether a directory's name stays below the data directory.
fn is_inside(name: &str) -> bool {
    let path = Path::new(name);
    !name.is_empty() && path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[derive(Debug)]
pub struct SqliteStorage {
    home: Home,
    catalog: Catalog,
    pool: Pool,
    transfers: Transfers,
    /// Directories that only a storage in memory has.
    directories: std::collections::BTreeSet<String>,
}

impl SqliteStorage {
    /// Opens or makes the databases under `directory`, which is made too. Refused while another process has it open.
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        std::fs::create_dir_all(directory).map_err(StorageError::io("make directory", directory))?;
        let home = Home::Directory(directory.to_owned());
        let catalog = Catalog::open(&home)?;
        let storage = Self::over(home, catalog);
        storage.remove_strays(directory)?;
        Ok(storage)
    }

    /// A storage in memory, gone when dropped.
    pub fn memory() -> Result<Self, StorageError> {
        let home = Home::Memory;
        let catalog = Catalog::open(&home)?;
        Ok(Self::over(home, catalog))
    }

    fn over(home: Home, catalog: Catalog) -> Self {
        let pool = Pool::new(home.clone());
        Self {
            home,
            catalog,
            pool,
            transfers: Transfers::default(),
            directories: std::collections::BTreeSet::new(),
        }
    }

    /// Files of tables that were dropped, replaced or half received when the last process ended.
    fn remove_strays(&self, directory: &Path) -> Result<(), StorageError> {
        let listing = std::fs::read_dir(directory).map_err(StorageError::io("list", directory))?;
        for entry in listing {
            let entry = entry.map_err(StorageError::io("list", directory))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let stray = match OwnFile::of(name) {
                Some(OwnFile::Table(table, number)) => !self.catalog.has(table, number),
                Some(OwnFile::Part) => true,
                None => false,
            };
            if stray {
                let path = entry.path();
                std::fs::remove_file(&path).map_err(StorageError::io("remove stray file", &path))?;
            }
        }
        Ok(())
    }

    /// Names become file names, and stand in statements without quotes.
    fn check_name(name: &str) -> Result<(), StorageError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.';
        if !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name.bytes().all(plain)
            && !name.starts_with('.')
        {
            return Ok(());
        }
        Err(StorageError::Refused(format!(
            "'{name}' cannot name a table: use up to {NAME_BYTES_MAX} letters, digits and '_'"
        )))
    }

    /// The open table; an error in searchd's words when there is none.
    fn table(&mut self, name: &str) -> Result<&mut table::TableFile, StorageError> {
        let entry = self.catalog.entry(name).ok_or_else(|| StorageError::NoTable(name.to_owned()))?;
        self.pool.table(name, entry)
    }

    /// Puts the file `number` in the place of the table's file, or makes the table with it.
    fn switch_file(&mut self, name: &str, number: u64, schema: TableSchema) -> Result<(), StorageError> {
        let before = self.catalog.entry(name).map(|entry| entry.file);
        self.catalog.put(name, number, schema)?;
        if let Some(before) = before {
            self.pool.remove(name, before)?;
        }
        Ok(())
    }
}

/// What a file's name says, where this program gave it: `{table}.{n}.db` or `{n}.part`, or a companion of these.
enum OwnFile<'a> {
    Table(&'a str, u64),
    Part,
}

impl<'a> OwnFile<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let base = ["-wal", "-shm", "-journal"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        if let Some(number) = base.strip_suffix(".part") {
            return number.parse::<u64>().ok().map(|_| Self::Part);
        }
        let (table, number) = base.strip_suffix(".db")?.rsplit_once('.')?;
        Some(Self::Table(table, number.parse().ok()?))
    }
}

impl Storage for SqliteStorage {
    fn tables(&self) -> Vec<String> {
        self.catalog.names()
    }

    fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        self.catalog.entry(table).map(|entry| Arc::clone(&entry.schema))
    }

    fn create_table(&mut self, table: &str, schema: &TableSchema) -> Result<(), StorageError> {
        if self.catalog.entry(table).is_some() {
            return Err(StorageError::TableExists(table.to_owned()));
        }
        Self::check_name(table)?;
        let number = self.catalog.next_file()?;
        self.pool.create(table, number, schema)?;
        self.catalog.put(table, number, schema.clone())
    }

    fn drop_table(&mut self, table: &str) -> Result<(), StorageError> {
        let file = self.catalog.remove(table)?;
        self.pool.remove(table, file)
    }

    fn alter_table(&mut self, table: &str, schema: &TableSchema) -> Result<(), StorageError> {
        let before = self.schema(table).ok_or_else(|| StorageError::NoTable(table.to_owned()))?;
        let number = self.catalog.next_file()?;
        let mut renewed = self.pool.detached(table, number, schema)?;
        renewed.copy_from(self.table(table)?, &before)?;
        self.pool.attach(number, renewed);
        self.switch_file(table, number, schema.clone())
    }

    fn write(&mut self, table: &str, changes: &[Change], position: Option<u64>) -> Result<u64, StorageError> {
        self.table(table)?.write(changes, position)
    }

    fn position(&mut self, table: &str) -> Result<u64, StorageError> {
        Ok(self.table(table)?.position())
    }

    fn existing(&mut self, table: &str, ids: &[i64]) -> Result<Vec<i64>, StorageError> {
        self.table(table)?.existing(ids)
    }

    fn query(&mut self, table: &str, query: &Query<'_>) -> Result<Vec<Vec<Value>>, StorageError> {
        self.table(table)?.query(query)
    }

    fn count(&mut self, table: &str, query: &Query<'_>, limit: u64) -> Result<u64, StorageError> {
        self.table(table)?.count(query, limit)
    }

    fn id_stats(&mut self, table: &str) -> Result<IdStats, StorageError> {
        self.table(table)?.id_stats()
    }

    fn checksum(&mut self, table: &str) -> Result<u128, StorageError> {
        self.table(table)?.checksum()
    }

    fn snapshot_begin(&mut self, table: &str) -> Result<SnapshotId, StorageError> {
        let number = self.catalog.next_file()?;
        let entry = self.catalog.entry(table).ok_or_else(|| StorageError::NoTable(table.to_owned()))?;
        let source = self.pool.table(table, entry)?;
        self.transfers.snapshot_begin(&self.home, number, source)
    }

    fn snapshot_next(&mut self, snapshot: SnapshotId) -> Result<Option<Vec<u8>>, StorageError> {
        self.transfers.snapshot_next(snapshot)
    }

    fn snapshot_abort(&mut self, snapshot: SnapshotId) {
        self.transfers.snapshot_abort(snapshot);
    }

    fn restore_begin(&mut self, table: &str) -> Result<RestoreId, StorageError> {
        Self::check_name(table)?;
        let number = self.catalog.next_file()?;
        self.transfers.restore_begin(&self.home, number, table)
    }

    fn restore_chunk(&mut self, restore: RestoreId, chunk: &[u8]) -> Result<(), StorageError> {
        self.transfers.restore_chunk(restore, chunk)
    }

    fn restore_finish(&mut self, restore: RestoreId) -> Result<(), StorageError> {
        let received = self.transfers.restore_finish(restore)?;
        let (table, number) = (received.table().to_owned(), restore.0);
        let file = received.install(&self.home, number)?;
        let schema = file.schema().clone();
        self.pool.attach(number, file);
        self.switch_file(&table, number, schema)
    }

    fn restore_abort(&mut self, restore: RestoreId) {
        self.transfers.restore_abort(restore);
    }

    fn has_directory(&self, name: &str) -> bool {
        match &self.home {
            Home::Directory(data) => is_inside(name) && data.join(name).is_dir(),
            Home::Memory => self.directories.contains(name),
        }
    }

    fn make_directory(&mut self, name: &str) -> Result<(), StorageError> {
        if !is_inside(name) {
            return Err(StorageError::Refused(format!("'{name}' is no directory below the data directory")));
        }
        match &self.home {
            Home::Directory(data) => {
                let path = data.join(name);
                std::fs::create_dir_all(&path).map_err(StorageError::io("make directory", &path))
            }
            Home::Memory => {
                self.directories.insert(name.to_owned());
                Ok(())
            }
        }
    }

    fn abort_transfers(&mut self) {
        self.transfers = Transfers::default();
    }

    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.catalog.meta(key)
    }

    fn meta_with_prefix(&mut self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
        self.catalog.meta_with_prefix(prefix)
    }

    fn set_meta(&mut self, changes: &[(String, Option<Vec<u8>>)]) -> Result<(), StorageError> {
        self.catalog.set_meta(changes)
    }
}
