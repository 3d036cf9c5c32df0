//! The control log in etcd, for several controllers: any number of handles, on any machine, on one log.
//!
//! An append is one transaction that compares the index of the last record and moves it on together with the
//! records; etcd lets exactly one of several writers with the same index through. Reads are linearizable, so a
//! handle sees whatever was acknowledged to another. Why etcd's JSON gateway, and what is not done: decision
//! 0005. Blocking: a caller that must not wait gives it a thread.
//!
//! An append whose answer is lost may still be on its way when the log is read again. That does no harm: the next
//! append at the same index and the late one exclude each other by the same comparison.

mod address;
mod candidates;
mod gateway;
mod layout;
mod read;
mod records;
mod tls;

pub use address::{EtcdAddress, EtcdLogin, InvalidAddress};
pub use candidates::Candidates;
pub use records::Records;
pub use tls::{EtcdTls, InvalidTls, TlsSource};

use crate::{
    AppendError, KeyDamage, Log, OpenError, ReadError, SnapshotError, check_append, check_snapshot,
    file::format::{HeaderError, encode_frame, encode_snapshot_head},
    is_log_id,
};
use gateway::{Answer, Fault, Gateway, Transaction, delete, get, highest_key, holds, put, unchanged};
use layout::{FORMAT_VERSION, Format, Keys, Parts, Stored, VALUE_BYTES_MAX};
use model::LogIndex;
use read::View;

/// Looks at a new log while others may be making it: each look but the last finds it made by someone.
const OPEN_TRIES: usize = 3;

/// A handle on the control log in etcd.
#[derive(Debug)]
pub struct EtcdLog {
    gateway: Gateway,
    keys: Keys,
    address: EtcdAddress,
    format: Format,
    /// This handle's own name, for the parts it writes.
    writer: String,
    parts_written: u64,
    /// Set once the outcome of an append is unknown.
    stopped: Option<String>,
}

/// What [`EtcdLog::open`] found or did.
#[derive(Debug)]
pub struct Opened {
    pub log: EtcdLog,
    /// There was no log at this address before.
    pub created: bool,
}

impl EtcdLog {
    /// Opens the log at `address`, or makes an empty one there with the id that `new_log_id` gives (32 hex digits).
    ///
    /// `writer` is 32 hex digits that no other handle has. Nothing is changed when the log is refused. The records
    /// themselves are checked when they are read.
    pub fn open(
        address: &EtcdAddress,
        writer: String,
        new_log_id: impl FnOnce() -> String,
    ) -> Result<Opened, OpenError> {
        if !is_log_id(&writer) {
            return Err(OpenError::InvalidLogId { id: writer });
        }
        let gateway = Gateway::new(address);
        let keys = Keys::new(address.prefix());
        let place = Place { address, keys: &keys };
        let mut new_log_id = Some(new_log_id);
        let mut created = false;
        for _ in 0..OPEN_TRIES {
            if let Some(format) = look(&gateway, &place)? {
                let log = Self {
                    gateway,
                    keys,
                    address: address.clone(),
                    format,
                    writer,
                    parts_written: 0,
                    stopped: None,
                };
                return Ok(Opened { log, created });
            }
            if let Some(new_log_id) = new_log_id.take() {
                created = create(&gateway, &place, new_log_id())?;
            }
        }
        Err(place.unreachable("the log that was made there is gone again".to_owned()))
    }

    fn place(&self) -> Place<'_> {
        Place { address: &self.address, keys: &self.keys }
    }

    /// Puts something large into keys of its own, which nothing refers to yet: a fault leaves nothing but space
    /// taken, which the next snapshot frees.
    fn put_parts(&mut self, at: LogIndex, bytes: &[&[u8]]) -> Result<Parts, Fault> {
        self.parts_written += 1;
        let name = format!("{}-{}", self.writer, self.parts_written);
        let pieces: Vec<&[u8]> = bytes.iter().flat_map(|bytes| bytes.chunks(VALUE_BYTES_MAX)).collect();
        let parts = Parts { at, name, count: pieces.len() };
        for (number, piece) in pieces.into_iter().enumerate() {
            let key = self.keys.part(&parts, number);
            self.gateway.write(&Transaction { success: vec![put(&key, piece)], ..Transaction::default() })?;
        }
        Ok(parts)
    }

    /// What an append's value is to be; anything large is put into parts first.
    fn stored(&mut self, at: LogIndex, frame: Vec<u8>) -> Result<Stored, AppendError> {
        if frame.len() < VALUE_BYTES_MAX {
            return Ok(Stored::Frame(frame));
        }
        match self.put_parts(at, &[&frame]) {
            Ok(parts) => Ok(Stored::Parts(parts)),
            Err(Fault::Full(detail)) => Err(AppendError::Full { detail }),
            // A part more or less adds no record.
            Err(Fault::NotDone(detail) | Fault::Unknown(detail)) => Err(AppendError::Io { detail }),
        }
    }

    /// Why a transaction that compared the format and the last index was not carried out.
    fn conflict(&self, expected: LogIndex, answer: &Answer) -> AppendError {
        let place = self.place();
        let detail = match answer.ranges.as_slice() {
            [format, last] => {
                let view = place.format(format).and_then(|format| {
                    let last = place.last(last)?;
                    if format == self.format { Ok(last) } else { Err(place.other_log(&format).into()) }
                });
                match view {
                    Ok(actual) => return AppendError::Conflict { expected, actual },
                    Err(error) => error.to_string(),
                }
            }
            _ => "etcd's answer lacks what was asked for".to_owned(),
        };
        AppendError::Io { detail }
    }
}

impl Log for EtcdLog {
    fn append(&mut self, expected: LogIndex, records: &[Vec<u8>]) -> Result<LogIndex, AppendError> {
        if let Some(detail) = &self.stopped {
            return Err(AppendError::Stopped { detail: detail.clone() });
        }
        let ends = expected.0.checked_add(records.len() as u64).is_some();
        if records.is_empty() || !ends || check_append(expected, expected, records).is_err() {
            let actual = self.view().map_err(|error| AppendError::Io { detail: error.to_string() })?.last;
            check_append(expected, actual, records)?;
            return Ok(expected);
        }
        let (head, frame) = encode_frame(expected.next(), records);
        let last = head.last();
        let value = self.stored(last, frame)?.write();
        let keys = &self.keys;
        let transaction = Transaction {
            compare: vec![
                holds(&keys.format(), &self.format.write()),
                holds(&keys.last(), expected.0.to_string().as_bytes()),
            ],
            success: vec![put(&keys.records(last), &value), put(&keys.last(), last.0.to_string().as_bytes())],
            failure: vec![get(&keys.format()), get(&keys.last())],
        };
        match self.gateway.write(&transaction) {
            Ok(answer) if answer.succeeded => Ok(last),
            Ok(answer) => Err(self.conflict(expected, &answer)),
            Err(Fault::NotDone(detail)) => Err(AppendError::Io { detail }),
            Err(Fault::Full(detail)) => Err(AppendError::Full { detail }),
            Err(Fault::Unknown(detail)) => {
                self.stopped = Some(detail.clone());
                Err(AppendError::Unknown { detail })
            }
        }
    }

    fn read(&self, from: LogIndex, bytes_max: usize) -> Result<Vec<(LogIndex, Vec<u8>)>, ReadError> {
        self.check_running()?;
        self.records(from, bytes_max)
    }

    fn last(&self) -> Result<LogIndex, ReadError> {
        self.check_running()?;
        Ok(self.view()?.last)
    }

    fn snapshot(&mut self, at: LogIndex, state: &[u8]) -> Result<(), SnapshotError> {
        if let Some(detail) = &self.stopped {
            return Err(SnapshotError::Stopped { detail: detail.clone() });
        }
        let io = |error: ReadError| SnapshotError::Io { detail: error.to_string() };
        let View { last, snapshot, snapshot_revision } = self.view().map_err(io)?;
        check_snapshot(at, last, snapshot.map_or(LogIndex(0), |parts| parts.at), state.len())?;
        let head = encode_snapshot_head(&self.format.log_id, at, state);
        let parts = self.put_parts(at, &[&head, state]).map_err(refused)?;
        let keys = &self.keys;
        let own = format!("{}/{}", keys.parts(at), parts.name);
        let transaction = Transaction {
            compare: vec![
                holds(&keys.format(), &self.format.write()),
                unchanged(&keys.snapshot(), snapshot_revision),
            ],
            success: vec![
                put(&keys.snapshot(), &parts.write()),
                delete(&keys.records(LogIndex(0)), &keys.records(at.next())),
                delete(&keys.parts(LogIndex(0)), &format!("{own}/")),
                delete(&format!("{own}0"), &keys.parts(at.next())),
            ],
            failure: Vec::new(),
        };
        if self.gateway.write(&transaction).map_err(refused)?.succeeded {
            return Ok(());
        }
        let latest = self.view().map_err(io)?.snapshot.map_or(LogIndex(0), |parts| parts.at);
        check_snapshot(at, last, latest, state.len())?;
        Err(SnapshotError::Io { detail: "another controller stored a snapshot at the same time".to_owned() })
    }

    fn latest_snapshot(&self) -> Result<Option<(LogIndex, Vec<u8>)>, ReadError> {
        self.check_running()?;
        self.snapshot_state()
    }

    fn recover(&mut self) -> Result<LogIndex, OpenError> {
        let last = self.view().map_err(|error| match error {
            ReadError::KeyDamaged(damage) => OpenError::KeyDamaged(damage),
            error => self.place().unreachable(error.to_string()),
        })?;
        self.stopped = None;
        Ok(last.last)
    }

    fn log_id(&self) -> String {
        self.format.log_id.clone()
    }
}

fn refused(fault: Fault) -> SnapshotError {
    match fault {
        Fault::Full(detail) => SnapshotError::Full { detail },
        Fault::NotDone(detail) | Fault::Unknown(detail) => SnapshotError::Io { detail },
    }
}

/// A log's address and keys, for errors that say where something is.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    address: &'a EtcdAddress,
    keys: &'a Keys,
}

impl Place<'_> {
    fn damage(&self, key: String, what: impl Into<String>) -> KeyDamage {
        KeyDamage { store: self.address.to_string(), key, what: what.into() }
    }

    fn unreachable(&self, detail: String) -> OpenError {
        OpenError::Unreachable { store: self.address.to_string(), detail }
    }

    fn other_log(&self, found: &Format) -> KeyDamage {
        let what = format!("another log, {}, is here now", found.log_id);
        self.damage(self.keys.format(), what)
    }
}

/// The format of the log that is there; `None` when there is none at all. Its end is checked, too.
fn look(gateway: &Gateway, place: &Place<'_>) -> Result<Option<Format>, OpenError> {
    let keys = place.keys;
    let (first, end) = keys.all();
    let asked = vec![
        get(&keys.format()),
        get(&keys.last()),
        get(&keys.snapshot()),
        highest_key(&keys.records(LogIndex(0)), &keys.records_end()),
        highest_key(&first, &end),
    ];
    let answer = gateway.read(asked).map_err(|fault| place.unreachable(fault.detail()))?;
    let [format, last, snapshot, newest, any] = answer.as_slice() else {
        return Err(place.unreachable("etcd's answer lacks what was asked for".to_owned()));
    };
    if let (None, Some(other)) = (format.first(), any.first()) {
        let what = format!("it is missing, though other keys of a log are here ({})", other.key);
        return Err(place.damage(keys.format(), what).into());
    }
    let Some(value) = format.first() else { return Ok(None) };
    let format = match Format::read(&value.value) {
        Ok(format) => format,
        Err(HeaderError::Newer(found)) => {
            let file = format!("{}: key {}", place.address, keys.format()).into();
            return Err(OpenError::NewerFormat { file, found, supported: FORMAT_VERSION });
        }
        Err(HeaderError::Damaged(what)) => return Err(place.damage(keys.format(), what).into()),
    };
    let damaged = |error| match error {
        ReadError::KeyDamaged(damage) => OpenError::KeyDamaged(damage),
        error => place.unreachable(error.to_string()),
    };
    let view = place.view(last, snapshot).map_err(damaged)?;
    let compacted = view.snapshot.map_or(LogIndex(0), |parts| parts.at);
    let newest = newest.first().and_then(|pair| keys.index(&pair.key)).unwrap_or(compacted);
    if newest != view.last || compacted > view.last {
        let what = format!("it names record {}, but the records go up to {newest}", view.last);
        return Err(place.damage(keys.last(), what).into());
    }
    Ok(Some(format))
}

/// Makes an empty log, unless someone else has made one meanwhile. An unknown outcome is for the next look.
fn create(gateway: &Gateway, place: &Place<'_>, log_id: String) -> Result<bool, OpenError> {
    if !is_log_id(&log_id) {
        return Err(OpenError::InvalidLogId { id: log_id });
    }
    let keys = place.keys;
    let format = Format { control_log: FORMAT_VERSION, log_id };
    let transaction = Transaction {
        compare: vec![unchanged(&keys.format(), 0), unchanged(&keys.last(), 0)],
        success: vec![put(&keys.format(), &format.write()), put(&keys.last(), b"0")],
        failure: Vec::new(),
    };
    match gateway.write(&transaction) {
        Ok(answer) => Ok(answer.succeeded),
        Err(Fault::Unknown(_)) => Ok(false),
        Err(Fault::NotDone(detail) | Fault::Full(detail)) => Err(place.unreachable(detail)),
    }
}
