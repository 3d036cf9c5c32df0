//! The control log: the one place where control state is kept. Append-if-next, read, snapshot.
//!
//! A [`Log`] is synchronous and knows nothing of what its records mean. It never skips a damaged record, never
//! shows a part of an append, and never forgets a record whose append it acknowledged.
//!
//! | store | for | writers |
//! |---|---|---|
//! | [`file::FileLog`] | one controller | one process, held by a lock |
//! | `etcd::EtcdLog` (feature `etcd`) | several controllers | any number, on any machine |
//! | [`memory::MemoryLog`] | simulator and tests, with faults | any number of handles |
//!
//! [`conformance`] is the contract as code: every store passes it. [`bench`] times the file store.

pub mod bench;
pub mod conformance;
mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod file;
pub mod memory;

pub use error::{AppendError, Damage, KeyDamage, OpenError, ReadError, SnapshotError};
use model::LogIndex;
use std::fmt;

/// Bytes of all records of one append. One append is held in memory whole and is verified whole before a part
/// of it is read, so this bounds both; it is some ten times the largest plan record expected.
pub const APPEND_BYTES_MAX: usize = 16 << 20;
/// Records of one append: bounds what a reader must take in one piece.
pub const APPEND_RECORDS_MAX: usize = 10_000;
/// Bytes of one snapshot: 2 KiB for each of 500,000 shards. More means that state leaks.
pub const SNAPSHOT_BYTES_MAX: usize = 1 << 30;
/// Characters of a log id: 128 bits in lower-case hex.
pub const LOG_ID_LEN: usize = 32;

/// An append-only log of records numbered from 1, shared by one writer at a time.
pub trait Log: fmt::Debug + Send {
    /// Appends `records` when `expected` is the index of the last record, and returns the new last index.
    ///
    /// All records are added or none, and they are durable when this returns `Ok`. Of several writers with the
    /// same `expected` exactly one succeeds. No records: only the check is made.
    ///
    /// After [`AppendError::Unknown`] the records may or may not be there. The handle then refuses everything with
    /// `Stopped` until [`Log::recover`] has succeeded; what is read after that decides.
    fn append(&mut self, expected: LogIndex, records: &[Vec<u8>]) -> Result<LogIndex, AppendError>;

    /// Records from index `from` on, in order and without gaps: as many as fit in `bytes_max` bytes of payload,
    /// but at least one when there is one. Empty when `from` is one past the end. `from` 0 is read as 1.
    fn read(&self, from: LogIndex, bytes_max: usize) -> Result<Vec<(LogIndex, Vec<u8>)>, ReadError>;

    /// The index of the last record, 0 when nothing was ever appended. Compaction does not lower it.
    fn last(&self) -> Result<LogIndex, ReadError>;

    /// Stores `state` as the fold of all records up to `at`, durably, and then forgets those records.
    ///
    /// `at` lies in 1..=last and not before the latest snapshot; the same `at` again replaces it. After an `Io`
    /// error the snapshot may be there all the same when the log is opened next.
    fn snapshot(&mut self, at: LogIndex, state: &[u8]) -> Result<(), SnapshotError>;

    /// The latest snapshot and the index it stands for. Reading goes on at the index after it.
    fn latest_snapshot(&self) -> Result<Option<(LogIndex, Vec<u8>)>, ReadError>;

    /// Finds out what the log holds after an append with unknown outcome, and returns the last index. Does nothing
    /// on a handle that is not stopped; after an error the handle is as it was, and this may be tried again.
    fn recover(&mut self) -> Result<LogIndex, OpenError>;

    /// 32 hex digits given when the log was made, the same for all its life. Sidecars bind to it.
    fn log_id(&self) -> String;
}

/// Whether `id` can name a log: 32 lower-case hex digits.
pub fn is_log_id(id: &str) -> bool {
    id.len() == LOG_ID_LEN && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The checks of an append that are the same for every store.
pub(crate) fn check_append(
    expected: LogIndex,
    actual: LogIndex,
    records: &[Vec<u8>],
) -> Result<(), AppendError> {
    if expected != actual {
        return Err(AppendError::Conflict { expected, actual });
    }
    let bytes = records.iter().map(Vec::len).sum();
    if bytes > APPEND_BYTES_MAX || records.len() > APPEND_RECORDS_MAX {
        return Err(AppendError::TooLarge { bytes, records: records.len() });
    }
    Ok(())
}

/// The checks of a snapshot that are the same for every store. `latest` is 0 without a snapshot.
pub(crate) fn check_snapshot(
    at: LogIndex,
    last: LogIndex,
    latest: LogIndex,
    bytes: usize,
) -> Result<(), SnapshotError> {
    if at < LogIndex(1) || at > last {
        return Err(SnapshotError::OutOfRange { at, last });
    }
    if at < latest {
        return Err(SnapshotError::Older { at, latest });
    }
    if bytes > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotError::TooLarge { bytes });
    }
    Ok(())
}

/// The checks of a read that are the same for every store; returns the first index to give.
/// `snapshot` is 0 without a snapshot.
pub(crate) fn check_read(from: LogIndex, last: LogIndex, snapshot: LogIndex) -> Result<LogIndex, ReadError> {
    let from = from.max(LogIndex(1));
    if from > last.next() {
        return Err(ReadError::BeyondEnd { from, last });
    }
    if from <= snapshot {
        return Err(ReadError::Compacted { from, snapshot });
    }
    Ok(from)
}
