//! The embedded store: the control log in one directory of one machine, in a format of our own.
//!
//! An append writes one checksummed frame and syncs it, then writes the mark of what is acknowledged and syncs
//! that. The mark is what tells the remains of a crash, which are cut, from the loss of an acknowledged record,
//! which is refused: nothing is ever skipped. Why so and not redb: `docs/decisions/0001-control-log.md`.
//!
//! A lock keeps a second process out. On a full disk the log stays readable, and appends are refused until there
//! is room. Only this module of the crate touches files.

mod disk;
pub(crate) mod format;
mod mark;
mod open;
mod segment;
mod snapshot;

#[cfg(test)]
mod sim_disk;
#[cfg(test)]
mod tests_damage;
#[cfg(test)]
mod tests_faults;
#[cfg(test)]
mod tests_real;

use crate::{
    AppendError, Log, OpenError, ReadError, SnapshotError, check_append, check_read, check_snapshot,
};
use disk::{Directory, LockError, RealDirectory, write_all_at};
use format::encode_frame;
use mark::Mark;
use model::LogIndex;
use segment::Segment;
use std::{
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A segment that has reached this size is followed by a new one. It bounds what a snapshot cannot free at once,
/// since only whole segments are removed, and what the frame table of one segment takes in memory.
const SEGMENT_BYTES_MAX: u64 = 4 << 20;

/// The control log in a directory, held by this process alone.
#[derive(Debug)]
pub struct FileLog {
    directory: Arc<dyn Directory>,
    mark: Mark,
    /// In order; the last one takes the appends. Never empty.
    segments: Vec<Segment>,
    segment_bytes_max: u64,
    /// The index of the latest snapshot, 0 without one.
    snapshot: LogIndex,
    /// A new segment was begun and may or may not be there: nothing goes into the old one any more.
    must_roll: bool,
    /// Set once the end of the log is uncertain; only opening anew decides it.
    stopped: Option<String>,
    notes: Vec<Note>,
}

/// What an operator should be told though all is well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    #[error("made a new control log, {log_id}")]
    Created { log_id: String },
    #[error(
        "cut {bytes} bytes off the end of {file}, from byte {offset}: the remains of an append that was under way \
         and never acknowledged ({what})", file = .file.display()
    )]
    TornTailCut { file: PathBuf, offset: u64, bytes: u64, what: String },
    #[error(
        "records {first} to {last} were written but not yet acknowledged when the process ended; they are kept"
    )]
    UnacknowledgedKept { first: LogIndex, last: LogIndex },
    #[error(
        "one of the two marks of the last acknowledged record was damaged and has been written anew: {what}"
    )]
    MarkRenewed { what: String },
    #[error("removed {file}, left over from an interrupted run", file = .file.display())]
    LeftOverRemoved { file: PathBuf },
    #[error("{file} is none of the control log's files and was left alone", file = .file.display())]
    ForeignFile { file: PathBuf },
    #[error("the snapshot of record {at} is stored, but the records before it still take up space: {detail}")]
    CompactionPostponed { at: LogIndex, detail: String },
}

impl FileLog {
    /// Opens the log in `dir`, or makes an empty one there with the id that `new_log_id` gives (32 hex digits).
    ///
    /// `holder` says who holds the log (program, process id), for the message that another process gets.
    /// Nothing is changed on disk when the log is refused.
    pub fn open(dir: &Path, holder: &str, new_log_id: impl FnOnce() -> String) -> Result<Self, OpenError> {
        let directory = RealDirectory::lock(dir, holder).map_err(|error| match error {
            LockError::Held { by } => OpenError::InUse { dir: dir.to_owned(), holder: by },
            LockError::Io { action, error } => {
                OpenError::Io { path: dir.to_owned(), action, detail: error.to_string() }
            }
        })?;
        open::open(Arc::new(directory), SEGMENT_BYTES_MAX, || Some(new_log_id()))
    }

    /// What happened since the last call that an operator should know; first of all while opening.
    pub fn take_notes(&mut self) -> Vec<Note> {
        mem::take(&mut self.notes)
    }

    fn end(&self) -> LogIndex {
        self.segments.last().map_or(LogIndex(0), Segment::last)
    }

    fn tail(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// Lets the next append go into a new segment, unless the last one is empty still.
    fn roll(&mut self) -> io::Result<()> {
        if self.tail().frames.is_empty() {
            return Ok(());
        }
        self.must_roll = true;
        let segment = Segment::create(&*self.directory, &self.mark.log_id, self.end().next())?;
        self.segments.push(segment);
        self.must_roll = false;
        Ok(())
    }

    /// Writes one frame at the end and makes it durable; after an error nothing of it is left, or the log is
    /// stopped.
    fn write_frame(&mut self, frame: &[u8]) -> Result<(), AppendError> {
        let tail = self.tail();
        let written = write_all_at(&mut *tail.file, frame, tail.len).and_then(|()| tail.file.sync());
        let Err(error) = written else { return Ok(()) };
        let detail = format!("{}: {error}", tail.path.display());
        match tail.cut() {
            Ok(()) => Err(AppendError::refused(&error, detail)),
            Err(cut) => Err(self.stop(format!("{detail}; then, cutting it off again: {cut}"))),
        }
    }

    /// Ends the use of this handle: what the disk holds is known only after opening anew.
    fn stop(&mut self, detail: String) -> AppendError {
        self.stopped = Some(detail.clone());
        AppendError::Unknown { detail }
    }

    /// Removes the segments and snapshots that the latest snapshot stands for.
    fn compact(&mut self) -> io::Result<()> {
        if self.snapshot == self.end() {
            self.roll()?;
        }
        while self.segments.len() > 1 && self.segments[1].first <= self.snapshot.next() {
            self.directory.remove(&self.segments[0].name)?;
            self.segments.remove(0);
        }
        for name in self.directory.list()? {
            if snapshot::snapshot_index(&name).is_some_and(|at| at < self.snapshot) {
                self.directory.remove(&name)?;
            }
        }
        self.directory.sync()
    }
}

impl Log for FileLog {
    fn append(&mut self, expected: LogIndex, records: &[Vec<u8>]) -> Result<LogIndex, AppendError> {
        if let Some(detail) = &self.stopped {
            return Err(AppendError::Stopped { detail: detail.clone() });
        }
        check_append(expected, self.end(), records)?;
        if records.is_empty() {
            return Ok(expected);
        }
        if self.must_roll || self.tail().len >= self.segment_bytes_max {
            self.roll().map_err(|error| {
                AppendError::refused(&error, format!("beginning a new file of records: {error}"))
            })?;
        }
        let (head, frame) = encode_frame(expected.next(), records);
        self.write_frame(&frame)?;
        if let Err(error) = self.mark.write(head.last()) {
            // The frame is durable and its mark may be: cutting the frame could leave a mark without its record.
            return Err(self.stop(format!("{}: {error}", self.directory.path(mark::MARK).display())));
        }
        self.tail().push(head);
        Ok(head.last())
    }

    fn read(&self, from: LogIndex, bytes_max: usize) -> Result<Vec<(LogIndex, Vec<u8>)>, ReadError> {
        let from = check_read(from, self.last()?, self.snapshot)?;
        let mut records = Vec::new();
        let mut bytes = 0;
        let segment = self.segments.partition_point(|segment| segment.last() < from);
        for segment in &self.segments[segment..] {
            let frame = segment.frames.partition_point(|frame| frame.head.last() < from);
            for frame in &segment.frames[frame..] {
                for (index, record) in (frame.head.first.0..).map(LogIndex).zip(segment.records(frame)?) {
                    if index < from {
                        continue;
                    }
                    bytes += record.len();
                    if bytes > bytes_max && !records.is_empty() {
                        return Ok(records);
                    }
                    records.push((index, record));
                }
            }
        }
        Ok(records)
    }

    fn last(&self) -> Result<LogIndex, ReadError> {
        match &self.stopped {
            Some(detail) => Err(ReadError::Stopped { detail: detail.clone() }),
            None => Ok(self.end()),
        }
    }

    fn snapshot(&mut self, at: LogIndex, state: &[u8]) -> Result<(), SnapshotError> {
        if let Some(detail) = &self.stopped {
            return Err(SnapshotError::Stopped { detail: detail.clone() });
        }
        check_snapshot(at, self.end(), self.snapshot, state.len())?;
        snapshot::write(&*self.directory, &self.mark.log_id, at, state)
            .map_err(|error| SnapshotError::refused(&error, error.to_string()))?;
        self.snapshot = at;
        if let Err(error) = self.compact() {
            // The next snapshot, or opening, tries again; one note stands for all of them.
            self.notes.retain(|note| !matches!(note, Note::CompactionPostponed { .. }));
            self.notes.push(Note::CompactionPostponed { at, detail: error.to_string() });
        }
        Ok(())
    }

    fn latest_snapshot(&self) -> Result<Option<(LogIndex, Vec<u8>)>, ReadError> {
        if self.snapshot == LogIndex(0) {
            return Ok(None);
        }
        match snapshot::read(&*self.directory, &self.mark.log_id, self.snapshot) {
            Ok(state) => Ok(Some((self.snapshot, state))),
            Err(OpenError::Damaged(damage)) => Err(damage.into()),
            Err(error) => Err(ReadError::Io { detail: error.to_string() }),
        }
    }

    fn recover(&mut self) -> Result<LogIndex, OpenError> {
        if self.stopped.is_some() {
            let mut notes = self.take_notes();
            *self = open::open(Arc::clone(&self.directory), self.segment_bytes_max, || None)?;
            notes.append(&mut self.notes);
            self.notes = notes;
        }
        Ok(self.end())
    }

    fn log_id(&self) -> String {
        self.mark.log_id.clone()
    }
}

fn newer(file: PathBuf, found: u32) -> OpenError {
    OpenError::NewerFormat { file, found, supported: format::FORMAT_VERSION }
}
