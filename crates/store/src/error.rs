//! What a log can answer instead of success. Errors that leave the outcome open are their own variants, so that
//! nobody mistakes "refused" for "maybe done". All are plain values: the simulator compares and prints them.

use crate::{APPEND_BYTES_MAX, APPEND_RECORDS_MAX, SNAPSHOT_BYTES_MAX};
use model::LogIndex;
use std::{io, path::PathBuf};

/// Why an append did not succeed. Only `Unknown` leaves open whether the records are in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error(
        "the control log has moved on: its last record is {actual}, this writer expected {expected}; read on from \
         there and stop if another leader has taken over"
    )]
    Conflict { expected: LogIndex, actual: LogIndex },
    #[error(
        "an append of {bytes} bytes in {records} records is larger than the control log takes \
         ({APPEND_BYTES_MAX} bytes, {APPEND_RECORDS_MAX} records); nothing was written, split it"
    )]
    TooLarge { bytes: usize, records: usize },
    #[error(
        "no space left for the control log: {detail}; nothing was written and the log can be read; free space and \
         the append is tried again"
    )]
    Full { detail: String },
    #[error(
        "the control log could not be written: {detail}; nothing was added, the append may be tried again"
    )]
    Io { detail: String },
    #[error(
        "the control log failed while writing: {detail}; the records may or may not be in it; recover \
         the log and read on before acting on them"
    )]
    Unknown { detail: String },
    #[error("the control log is stopped until it is recovered; its last append failed: {detail}")]
    Stopped { detail: String },
}

impl AppendError {
    /// Whether it is certain that nothing was added.
    pub const fn nothing_added(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }
}

/// Why records or a snapshot could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("record {from} is compacted: load the snapshot of record {snapshot} and read on after it")]
    Compacted { from: LogIndex, snapshot: LogIndex },
    #[error(
        "record {from} was asked for but the control log ends at {last}: it is older than what this reader has \
         seen; it was replaced by an older copy, stop and restore the newest"
    )]
    BeyondEnd { from: LogIndex, last: LogIndex },
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error(transparent)]
    KeyDamaged(#[from] KeyDamage),
    #[error("the control log could not be read: {detail}")]
    Io { detail: String },
    #[error("the control log's end is uncertain until it is recovered; its last append failed: {detail}")]
    Stopped { detail: String },
}

/// Why a snapshot was not stored. The log is as it was; the same snapshot may be tried again after `Full` and `Io`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("a snapshot of record {at} was offered but the control log holds records 1 to {last}")]
    OutOfRange { at: LogIndex, last: LogIndex },
    #[error("a snapshot of record {at} is older than the one there is, of record {latest}; it is not needed")]
    Older { at: LogIndex, latest: LogIndex },
    #[error("a snapshot of {bytes} bytes is larger than the control log takes ({SNAPSHOT_BYTES_MAX} bytes)")]
    TooLarge { bytes: usize },
    #[error("no space left for a snapshot of the control log: {detail}; the log is as it was, free space")]
    Full { detail: String },
    #[error("a snapshot of the control log could not be written: {detail}; no record was removed")]
    Io { detail: String },
    #[error("the control log is stopped until it is recovered; its last append failed: {detail}")]
    Stopped { detail: String },
}

/// Something that was written is not as it was written, or is gone. Never repaired by guessing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the control log is damaged: {file} at byte {offset}: {what}. It was left as it is and will not be used. \
     To restore: make sure that no controller runs, keep a copy of the directory, put the newest backup of the whole \
     directory in its place (never single files) and start again", file = .file.display()
)]
pub struct Damage {
    pub file: PathBuf,
    /// Where the damaged part begins, in bytes from the start of the file.
    pub offset: u64,
    pub what: String,
}

/// The same for a log in etcd, where a key is the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the control log is damaged: key {key} of {store}: {what}. It was left as it is and will not be used. To restore: \
     stop all controllers, keep a copy (etcdctl snapshot save), restore etcd from its newest sound snapshot (etcdctl \
     snapshot restore; the whole log, never single keys) and start them again"
)]
pub struct KeyDamage {
    /// The log's address, `etcd://…`.
    pub store: String,
    pub key: String,
    pub what: String,
}

/// Why a log could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the control log in {dir} is in use by {holder}; stop that process or give this one another directory",
        dir = .dir.display()
    )]
    InUse { dir: PathBuf, holder: String },
    #[error(
        "{file} has format version {found}, this program reads up to {supported}: a newer shardwright wrote it; \
         start that version or a newer one", file = .file.display()
    )]
    NewerFormat { file: PathBuf, found: u32, supported: u32 },
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error(transparent)]
    KeyDamaged(#[from] KeyDamage),
    #[error(
        "the control log at {store} cannot be read: {detail}; nothing was done. Check that etcd runs there and has a \
         majority of its members"
    )]
    Unreachable { store: String, detail: String },
    #[error("'{id}' cannot be the id of a control log: it must be 32 lower-case hex digits")]
    InvalidLogId { id: String },
    #[error("{path}: cannot {action}: {detail}", path = .path.display())]
    Io { path: PathBuf, action: &'static str, detail: String },
}

/// Whether `error` says that there is no room, as opposed to a disk that fails.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl AppendError {
    /// The error for an append of which nothing is left in the log.
    pub(crate) fn refused(error: &io::Error, detail: String) -> Self {
        if is_full(error) { Self::Full { detail } } else { Self::Io { detail } }
    }
}

impl SnapshotError {
    pub(crate) fn refused(error: &io::Error, detail: String) -> Self {
        if is_full(error) { Self::Full { detail } } else { Self::Io { detail } }
    }
}
