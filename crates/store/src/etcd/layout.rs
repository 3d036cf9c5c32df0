//! The keys of a log in etcd, format version 1, and what their values are. Pure.
//!
//! ```text
//! PREFIX/format                 JSON: format version and the log's id; written once, when the log is made
//! PREFIX/last                   the index of the last record, decimal: an append compares it and moves it on
//! PREFIX/records/{last:020}     one append, named by its last record: 'F' and its frame, or 'P' and JSON of parts
//! PREFIX/snapshot               JSON: the record it stands for, and its parts
//! PREFIX/parts/{at:020}/{name}/{number:06}    pieces of what is larger than one request to etcd may be
//! PREFIX/candidates/{host:port} a controller that may lead; no part of the log
//! PREFIX/backups/{name}         what a backup recorded of its table, for every controller; no part of the log
//! ```
//!
//! Frames and snapshots are, byte for byte, those of the file store, checksums included.

use crate::{LOG_ID_LEN, file::format::HeaderError};
use model::LogIndex;
use serde::{Deserialize, Serialize};

/// The version this program writes, and the newest it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes of one value. etcd takes requests of 1.5 MiB unless it is told otherwise.
pub(super) const VALUE_BYTES_MAX: usize = 1 << 20;

/// The names of a log's keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// `PREFIX/format`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    pub(super) control_log: u32,
    pub(super) log_id: String,
}

/// Where the pieces of something large are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parts {
    pub(super) at: LogIndex,
    /// Given once and never again, so that nobody writes over another's pieces.
    pub(super) name: String,
    pub(super) count: usize,
}

/// The value of a record's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Frame(Vec<u8>),
    Parts(Parts),
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn format(&self) -> String {
        format!("{}/format", self.prefix)
    }

    pub(super) fn last(&self) -> String {
        format!("{}/last", self.prefix)
    }

    pub(super) fn snapshot(&self) -> String {
        format!("{}/snapshot", self.prefix)
    }

    /// The append whose last record is `last`. Of all appends the first from this key on holds record `last`.
    pub(super) fn records(&self, last: LogIndex) -> String {
        format!("{}/records/{:020}", self.prefix, last.0)
    }

    /// Behind every key of records.
    pub(super) fn records_end(&self) -> String {
        // '0' follows '/'.
        format!("{}/records0", self.prefix)
    }

    /// Where parts for record `at` and those after it begin.
    pub(super) fn parts(&self, at: LogIndex) -> String {
        format!("{}/parts/{:020}", self.prefix, at.0)
    }

    pub(super) fn part(&self, parts: &Parts, number: usize) -> String {
        format!("{}/{}/{number:06}", self.parts(parts.at), parts.name)
    }

    pub(super) fn candidate(&self, name: &str) -> String {
        format!("{}/candidates/{name}", self.prefix)
    }

    /// From the first key of candidates up to but without what is behind the last.
    pub(super) fn candidates(&self) -> (String, String) {
        (format!("{}/candidates/", self.prefix), format!("{}/candidates0", self.prefix))
    }

    pub(super) fn backup(&self, name: &str) -> String {
        format!("{}/backups/{name}", self.prefix)
    }

    /// As [`Self::candidates`].
    pub(super) fn backups(&self) -> (String, String) {
        (format!("{}/backups/", self.prefix), format!("{}/backups0", self.prefix))
    }

    /// The record that a key of records is named by.
    pub(super) fn index(&self, key: &str) -> Option<LogIndex> {
        let digits = key.strip_prefix(&self.prefix)?.strip_prefix("/records/")?;
        digits.parse().ok().filter(|_| digits.len() == 20).map(LogIndex)
    }

    /// All keys of the log: from the first up to but without the second.
    pub(super) fn all(&self) -> (String, String) {
        (format!("{}/", self.prefix), format!("{}0", self.prefix))
    }
}

impl Format {
    /// Reads the value, and checks that this program can read the log.
    pub(super) fn read(value: &[u8]) -> Result<Self, HeaderError> {
        #[derive(Deserialize)]
        struct Version {
            control_log: u32,
        }
        let damaged = |what: String| HeaderError::Damaged(what);
        // The version first: the rest may look different in a newer one.
        let version: Version = serde_json::from_slice(value)
            .map_err(|error| damaged(format!("it does not say which format this is ({error})")))?;
        match version.control_log {
            FORMAT_VERSION => {}
            0 => return Err(damaged("it names format version 0, which there never was".to_owned())),
            newer => return Err(HeaderError::Newer(newer)),
        }
        let format: Self = serde_json::from_slice(value)
            .map_err(|error| damaged(format!("it does not name the log ({error})")))?;
        if crate::is_log_id(&format.log_id) {
            Ok(format)
        } else {
            Err(damaged(format!("the log's id is not {LOG_ID_LEN} hex digits")))
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        format!(r#"{{"control_log":{},"log_id":"{}"}}"#, self.control_log, self.log_id).into_bytes()
    }
}

impl Parts {
    /// JSON. The name is hex digits and a dash, so that nothing in it wants quoting.
    pub(super) fn write(&self) -> Vec<u8> {
        format!(r#"{{"at":{},"name":"{}","count":{}}}"#, self.at.0, self.name, self.count).into_bytes()
    }
}

impl Stored {
    pub(super) fn write(&self) -> Vec<u8> {
        match self {
            Self::Frame(frame) => [b"F", frame.as_slice()].concat(),
            Self::Parts(parts) => [b"P", parts.write().as_slice()].concat(),
        }
    }

    pub(super) fn read(value: &[u8]) -> Result<Self, String> {
        match value.split_first() {
            Some((b'F', frame)) => Ok(Self::Frame(frame.to_vec())),
            Some((b'P', parts)) => serde_json::from_slice(parts)
                .map(Self::Parts)
                .map_err(|error| format!("where its parts are cannot be read ({error})")),
            _ => Err("it begins with neither 'F' nor 'P'".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_records_do() {
        let keys = Keys::new("p");
        assert!(keys.records(LogIndex(9)) < keys.records(LogIndex(10)));
        assert!(keys.records(LogIndex(u64::MAX)) < keys.records_end());
        assert_eq!(keys.index(&keys.records(LogIndex(12))), Some(LogIndex(12)));
        assert_eq!(keys.index("p/records/12"), None);
        let (from, to) = keys.all();
        for key in [keys.format(), keys.last(), keys.records_end(), keys.parts(LogIndex(1))] {
            assert!(from < key && key < to, "{key}");
        }
        assert!(!(from..to).contains(&"p2/format".to_owned()), "another log");
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let format = |text: &str| Format::read(text.as_bytes());
        let id = "0".repeat(32);
        assert!(format(&format!(r#"{{"control_log":1,"log_id":"{id}"}}"#)).is_ok());
        assert_eq!(format(r#"{"control_log":2,"other":1}"#), Err(HeaderError::Newer(2)));
        for damaged in
            ["", "{}", r#"{"control_log":0}"#, r#"{"control_log":1}"#, r#"{"control_log":1,"log_id":"x"}"#]
        {
            assert!(matches!(format(damaged), Err(HeaderError::Damaged(_))), "{damaged}");
        }
    }

    #[test]
    fn values_are_read_as_they_were_written() {
        let parts = Parts { at: LogIndex(7), name: "w-1".to_owned(), count: 3 };
        for stored in [Stored::Frame(vec![1, 2]), Stored::Parts(parts)] {
            assert_eq!(Stored::read(&stored.write()), Ok(stored));
        }
        for damaged in [&b""[..], b"X", b"P{}"] {
            assert!(Stored::read(damaged).is_err());
        }
    }
}
