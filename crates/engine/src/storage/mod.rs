//! Where tables and small durable facts live: the trait [`Storage`] and its one implementation over SQLite.
//!
//! It keeps rows, finds them, and copies tables in chunks. It knows no cluster and no route, and never decides what
//! a statement means: `exec` does.

mod change;
mod error;
mod query;
mod schema;
mod sqlite;
mod words;

pub use change::{Change, Row};
pub use error::StorageError;
pub use query::{Order, Query, Search};
pub use schema::TableSchema;
pub use sqlite::SqliteStorage;

use crate::io::Value;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The largest piece of a table that [`Storage::snapshot_next`] hands out: what one peer message may carry.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A table being read out, chunk by chunk, as it was when the reading began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId(pub u64);

/// A table being received; nothing of it shows before it is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RestoreId(pub u64);

/// What a table's ids say about it, cheap to compare between copies. All zero for an empty table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdStats {
    pub rows: u64,
    /// Wraps around.
    pub sum: i64,
    pub min: i64,
    pub max: i64,
}

/// One node's durable state. Every method that changes something is atomic: after a crash it happened or it did not.
///
/// Reading takes `&mut self` too, because files are opened on demand.
pub trait Storage: Send {
    /// The names of all tables, sorted.
    fn tables(&self) -> Vec<String>;

    fn schema(&self, table: &str) -> Option<Arc<TableSchema>>;

    fn create_table(&mut self, table: &str, schema: &TableSchema) -> Result<(), StorageError>;

    fn drop_table(&mut self, table: &str) -> Result<(), StorageError>;

    /// Rewrites the table under another set of columns: those of the same name and type keep their values, new
    /// ones are empty.
    fn alter_table(&mut self, table: &str, schema: &TableSchema) -> Result<(), StorageError>;

    /// Applies all of `changes`, in order, in one transaction, and sets the table's position when one is given.
    /// Returns how many documents were touched. Applying the same changes again leads to the same rows.
    fn write(&mut self, table: &str, changes: &[Change], position: Option<u64>) -> Result<u64, StorageError>;

    /// The position last written with a change: a number of the caller's, such as that of a replicated transaction. 0
    /// when none was.
    fn position(&mut self, table: &str) -> Result<u64, StorageError>;

    /// Those of `ids` that the table has, in the order given.
    fn existing(&mut self, table: &str, ids: &[i64]) -> Result<Vec<i64>, StorageError>;

    /// Rows of values, one per `query.output`.
    fn query(&mut self, table: &str, query: &Query<'_>) -> Result<Vec<Vec<Value>>, StorageError>;

    /// How many documents match, counting no further than `limit`.
    fn count(&mut self, table: &str, query: &Query<'_>, limit: u64) -> Result<u64, StorageError>;

    fn id_stats(&mut self, table: &str) -> Result<IdStats, StorageError>;

    /// A hash of all documents with all their stored values, by id. Equal tables have equal checksums on any node.
    fn checksum(&mut self, table: &str) -> Result<u128, StorageError>;

    /// Freezes the table as it is now, for [`Self::snapshot_next`]. Later writes do not show in it.
    fn snapshot_begin(&mut self, table: &str) -> Result<SnapshotId, StorageError>;

    /// The next at most [`CHUNK_BYTES_MAX`] bytes; `None` after the last, and the snapshot is gone.
    fn snapshot_next(&mut self, snapshot: SnapshotId) -> Result<Option<Vec<u8>>, StorageError>;

    fn snapshot_abort(&mut self, snapshot: SnapshotId);

    /// Begins to receive a table from a snapshot's chunks. The old table of that name lives until the end.
    fn restore_begin(&mut self, table: &str) -> Result<RestoreId, StorageError>;

    /// Chunks come in the order in which the snapshot gave them.
    fn restore_chunk(&mut self, restore: RestoreId, chunk: &[u8]) -> Result<(), StorageError>;

    /// Checks what came and puts it in the place of the table of that name.
    fn restore_finish(&mut self, restore: RestoreId) -> Result<(), StorageError>;

    fn restore_abort(&mut self, restore: RestoreId);

    /// Whether there is a directory of this name, relative to the data directory, for a cluster's files.
    fn has_directory(&self, name: &str) -> bool;

    /// Makes it; nothing is done when it is there.
    fn make_directory(&mut self, name: &str) -> Result<(), StorageError>;

    /// Forgets all snapshots and restores under way, as a restarted process has.
    fn abort_transfers(&mut self);

    /// A durable fact of the caller's.
    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// All facts whose key begins with `prefix`, by key.
    fn meta_with_prefix(&mut self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StorageError>;

    /// Sets (`Some`) or removes (`None`) several facts at once.
    fn set_meta(&mut self, changes: &[(String, Option<Vec<u8>>)]) -> Result<(), StorageError>;
}
