//! A node's disk that can be full: what would grow is refused, all else goes on.

use engine::Value;
use engine::storage::{Change, IdStats, Query, RestoreId, SnapshotId, Storage, StorageError, TableSchema};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Storage whose disk is full while `full` is set.
pub struct Disk {
    inner: Box<dyn Storage>,
    full: Arc<AtomicBool>,
}

impl Disk {
    pub const fn new(inner: Box<dyn Storage>, full: Arc<AtomicBool>) -> Self {
        Self { inner, full }
    }

    fn room(&self, place: &str) -> Result<(), StorageError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(StorageError::Failed {
                action: "write",
                place: place.to_owned(),
                detail: "database or disk is full".to_owned(),
            });
        }
        Ok(())
    }
}

impl Storage for Disk {
    fn tables(&self) -> Vec<String> {
        self.inner.tables()
    }

    fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        self.inner.schema(table)
    }

    fn create_table(&mut self, table: &str, schema: &TableSchema) -> Result<(), StorageError> {
        self.room(table)?;
        self.inner.create_table(table, schema)
    }

    fn drop_table(&mut self, table: &str) -> Result<(), StorageError> {
        self.inner.drop_table(table)
    }

    fn alter_table(&mut self, table: &str, schema: &TableSchema) -> Result<(), StorageError> {
        self.room(table)?;
        self.inner.alter_table(table, schema)
    }

    fn write(&mut self, table: &str, changes: &[Change], position: Option<u64>) -> Result<u64, StorageError> {
        self.room(table)?;
        self.inner.write(table, changes, position)
    }

    fn position(&mut self, table: &str) -> Result<u64, StorageError> {
        self.inner.position(table)
    }

    fn existing(&mut self, table: &str, ids: &[i64]) -> Result<Vec<i64>, StorageError> {
        self.inner.existing(table, ids)
    }

    fn query(&mut self, table: &str, query: &Query<'_>) -> Result<Vec<Vec<Value>>, StorageError> {
        self.inner.query(table, query)
    }

    fn count(&mut self, table: &str, query: &Query<'_>, limit: u64) -> Result<u64, StorageError> {
        self.inner.count(table, query, limit)
    }

    fn id_stats(&mut self, table: &str) -> Result<IdStats, StorageError> {
        self.inner.id_stats(table)
    }

    fn checksum(&mut self, table: &str) -> Result<u128, StorageError> {
        self.inner.checksum(table)
    }

    fn snapshot_begin(&mut self, table: &str) -> Result<SnapshotId, StorageError> {
        self.inner.snapshot_begin(table)
    }

    fn snapshot_next(&mut self, snapshot: SnapshotId) -> Result<Option<Vec<u8>>, StorageError> {
        self.inner.snapshot_next(snapshot)
    }

    fn snapshot_abort(&mut self, snapshot: SnapshotId) {
        self.inner.snapshot_abort(snapshot);
    }

    fn restore_begin(&mut self, table: &str) -> Result<RestoreId, StorageError> {
        self.room(table)?;
        self.inner.restore_begin(table)
    }

    fn restore_chunk(&mut self, restore: RestoreId, chunk: &[u8]) -> Result<(), StorageError> {
        self.room("a table that is received")?;
        self.inner.restore_chunk(restore, chunk)
    }

    fn restore_finish(&mut self, restore: RestoreId) -> Result<(), StorageError> {
        self.room("a table that is received")?;
        self.inner.restore_finish(restore)
    }

    fn restore_abort(&mut self, restore: RestoreId) {
        self.inner.restore_abort(restore);
    }

    fn has_directory(&self, name: &str) -> bool {
        self.inner.has_directory(name)
    }

    fn make_directory(&mut self, name: &str) -> Result<(), StorageError> {
        self.inner.make_directory(name)
    }

    fn abort_transfers(&mut self) {
        self.inner.abort_transfers();
    }

    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.inner.meta(key)
    }

    fn meta_with_prefix(&mut self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
        self.inner.meta_with_prefix(prefix)
    }

    fn set_meta(&mut self, changes: &[(String, Option<Vec<u8>>)]) -> Result<(), StorageError> {
        // Some room is always found for what takes away.
        if changes.iter().any(|(_, value)| value.is_some()) {
            self.room("the node's own facts")?;
        }
        self.inner.set_meta(changes)
    }
}
