//! Opening: finds what is there, proves that every acknowledged record is sound, and only then tidies up.
//!
//! A crash can leave exactly these traces: files not yet put into place; the remains of one frame behind the last
//! acknowledged record, or that frame whole; one unsound slot of the mark, and then the frame it was for is whole;
//! files that a compaction had not removed yet. Anything else is damage and is refused with nothing changed.

use super::{
    FileLog, Note,
    disk::{Directory, UNFINISHED},
    format::FRAME_LEN_MAX,
    mark::{FoundMark, MARK, Mark},
    segment::{BrokenEnd, SEGMENT, Segment, segment_name},
    snapshot::{self, snapshot_index},
};
use crate::{Damage, OpenError, is_log_id};
use model::LogIndex;
use std::{io, path::PathBuf, sync::Arc};

/// The files of a log by kind, each list in order.
#[derive(Debug, Default)]
struct Found {
    mark: bool,
    segments: Vec<LogIndex>,
    snapshots: Vec<LogIndex>,
    unfinished: Vec<String>,
    foreign: Vec<String>,
}

/// The number in a name like `records-00000000000000000001`.
pub(super) fn index_in(name: &str, prefix: &str) -> Option<LogIndex> {
    let digits = name.strip_prefix(prefix)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits { digits.parse().ok().map(LogIndex) } else { None }
}

impl Found {
    fn of(names: Vec<String>) -> Self {
        let mut found = Self::default();
        for name in names {
            if name == MARK {
                found.mark = true;
            } else if let Some(first) = index_in(&name, SEGMENT) {
                found.segments.push(first);
            } else if let Some(at) = snapshot_index(&name) {
                found.snapshots.push(at);
            } else if name.ends_with(UNFINISHED) {
                found.unfinished.push(name);
            } else if name != super::disk::LOCK {
                found.foreign.push(name);
            }
        }
        found.segments.sort_unstable();
        found.snapshots.sort_unstable();
        found
    }

    /// Takes out the segments whose records all lie before or in the snapshot: they are no longer part of the log.
    fn take_obsolete(&mut self, snapshot: LogIndex) -> Vec<LogIndex> {
        let needed = self.segments.partition_point(|first| *first <= snapshot.next()).saturating_sub(1);
        self.segments.drain(..needed).collect()
    }
}

/// Opens the log in `directory`. When there is none, one is made if `new_log_id` gives an id for it.
pub(super) fn open(
    directory: Arc<dyn Directory>,
    segment_bytes_max: u64,
    new_log_id: impl FnOnce() -> Option<String>,
) -> Result<FileLog, OpenError> {
    let io = |action, name: &str| {
        let path = directory.path(name);
        move |error: io::Error| OpenError::Io { path, action, detail: error.to_string() }
    };
    let mut notes = Vec::new();
    let mut found = Found::of(directory.list().map_err(io("list", ""))?);
    let FoundMark { mut mark, damaged_slot } = if found.mark {
        Mark::open(&*directory)?
    } else {
        let log_id = prove_empty(&*directory, &found, new_log_id)?;
        notes.push(Note::Created { log_id: log_id.clone() });
        let mark = Mark::create(&*directory, &log_id).map_err(io("create", MARK))?;
        FoundMark { mark, damaged_slot: None }
    };
    let snapshot = found.snapshots.pop().unwrap_or_default();
    if snapshot > LogIndex(0) {
        snapshot::read(&*directory, &mark.log_id, snapshot)?;
    }
    let obsolete = found.take_obsolete(snapshot);
    if found.segments.is_empty() && mark.acknowledged == LogIndex(0) && snapshot == LogIndex(0) {
        // The mark was made, and the process ended before the first segment was.
        let first = LogIndex(1);
        Segment::create(&*directory, &mark.log_id, first).map_err(io("create", &segment_name(first)))?;
        found.segments.push(first);
    }
    let (mut segments, broken_end) = open_segments(&*directory, &mark.log_id, &found.segments, snapshot)?;
    let unacknowledged = judge(&segments, broken_end.as_ref(), &mark, damaged_slot.as_ref(), snapshot)?;

    // From here on the log is known to be sound, and may be changed. First, names that a failed or missing sync left
    // only in the cache: no record may come to lie in a file whose name can vanish.
    directory.sync().map_err(io("sync", ""))?;
    for segment in &mut segments {
        settle(segment, mark.acknowledged).map_err(io("write", &segment.name))?;
    }
    let end = segments.last().map_or(LogIndex(0), Segment::last);
    if let (Some(broken), Some(tail)) = (broken_end, segments.last_mut()) {
        tail.cut().map_err(io("cut", &tail.name))?;
        notes.push(Note::TornTailCut {
            file: tail.path.clone(),
            offset: tail.len,
            bytes: broken.bytes,
            what: broken.what,
        });
    }
    if unacknowledged {
        notes.push(Note::UnacknowledgedKept { first: mark.acknowledged.next(), last: end });
    }
    mark.write(end).map_err(io("write", MARK))?;
    notes.extend(damaged_slot.map(|damage| Note::MarkRenewed { what: damage.what }));
    let old = obsolete.into_iter().map(segment_name);
    let old = old.chain(found.snapshots.into_iter().map(snapshot::snapshot_name));
    for name in old.chain(found.unfinished) {
        match directory.remove(&name) {
            Ok(()) => notes.push(Note::LeftOverRemoved { file: directory.path(&name) }),
            // An unfinished file that was put into place since, when a new log's first files were made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("remove", &name)(error)),
        }
    }
    notes.extend(found.foreign.iter().map(|name| Note::ForeignFile { file: directory.path(name) }));
    Ok(FileLog {
        directory,
        mark,
        segments,
        segment_bytes_max,
        snapshot,
        must_roll: false,
        stopped: None,
        notes,
    })
}

/// Without a mark there must be no log at all; gives the id for the new one.
fn prove_empty(
    directory: &dyn Directory,
    found: &Found,
    new_log_id: impl FnOnce() -> Option<String>,
) -> Result<String, OpenError> {
    let missing =
        |what: &str| Err(Damage { file: directory.path(MARK), offset: 0, what: what.to_owned() }.into());
    if !found.segments.is_empty() || !found.snapshots.is_empty() {
        return missing("it is missing, though the records or snapshots of a log are here");
    }
    match new_log_id() {
        Some(id) if is_log_id(&id) => Ok(id),
        Some(id) => Err(OpenError::InvalidLogId { id }),
        None => missing("it is missing, and so is all of the log that was open here"),
    }
}

/// Opens the segments and proves that they follow one another without a gap. Only the last may have a broken end.
fn open_segments(
    directory: &dyn Directory,
    log_id: &str,
    firsts: &[LogIndex],
    snapshot: LogIndex,
) -> Result<(Vec<Segment>, Option<BrokenEnd>), OpenError> {
    let missing = |index: LogIndex, path: PathBuf| {
        let what = format!("record {index} is missing: neither a file of records nor a snapshot holds it");
        Err(Damage { file: path, offset: 0, what }.into())
    };
    match firsts.first() {
        Some(first) if *first <= snapshot.next() => {}
        _ => return missing(snapshot.next(), directory.path("")),
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut broken_end: Option<BrokenEnd> = None;
    for first in firsts {
        if let Some(before) = segments.last() {
            if let Some(BrokenEnd { what, .. }) = broken_end {
                return Err(Damage { file: before.path.clone(), offset: before.len, what }.into());
            }
            if before.last().next() != *first {
                return missing(before.last().next(), directory.path(&segment_name(*first)));
            }
        }
        let (segment, broken) = Segment::open(directory, log_id, *first)?;
        segments.push(segment);
        broken_end = broken;
    }
    Ok((segments, broken_end))
}

/// Decides whether what was found can be the work of a crash, and whether an append that was not acknowledged is
/// there whole.
fn judge(
    segments: &[Segment],
    broken_end: Option<&BrokenEnd>,
    mark: &Mark,
    damaged_slot: Option<&Damage>,
    snapshot: LogIndex,
) -> Result<bool, Damage> {
    let Some(tail) = segments.last() else { return Ok(false) };
    let (end, acknowledged) = (tail.last(), mark.acknowledged);
    let at_end = |what: String| Err(Damage { file: tail.path.clone(), offset: tail.len, what });
    if end < acknowledged.max(snapshot) {
        let missing = broken_end.map_or("the file ends", |broken| &broken.what);
        let known = acknowledged.max(snapshot);
        return at_end(format!("{missing}, but records up to {known} were acknowledged"));
    }
    let frames = segments.iter().flat_map(|segment| &segment.frames);
    let behind: Vec<_> = frames.filter(|frame| frame.head.last() > acknowledged).collect();
    if let Some(broken) = broken_end {
        if let Some(slot) = damaged_slot {
            let (slot_what, file, offset) = (&slot.what, slot.file.display(), slot.offset);
            return at_end(format!(
                "{}, and whether that was acknowledged cannot be told, since {file} is damaged too, at byte {offset}: \
                 {slot_what}",
                broken.what
            ));
        }
        if !behind.is_empty() || broken.bytes > FRAME_LEN_MAX {
            return at_end(format!(
                "{}, and more lies there than one interrupted append leaves",
                broken.what
            ));
        }
    }
    let allowed = if damaged_slot.is_some() { 2 } else { 1 };
    let within_frame = behind.first().is_some_and(|frame| frame.head.first != acknowledged.next());
    let before_snapshot = acknowledged < snapshot && damaged_slot.is_none();
    if behind.len() > allowed || within_frame || before_snapshot {
        return at_end(format!(
            "the records go on to {end}, but the file '{MARK}' knows them up to {acknowledged} only: the files are of \
             different times"
        ));
    }
    Ok(!behind.is_empty())
}

/// Makes frames durable that no mark covers yet.
fn settle(segment: &mut Segment, acknowledged: LogIndex) -> io::Result<()> {
    let frames = segment.frames.clone();
    frames
        .iter()
        .filter(|frame| frame.head.last() > acknowledged)
        .try_for_each(|frame| segment.write_again(frame))
}
