//! What clients were told: every acknowledged write by id and content, and how many documents must be seen when.

use crate::documents::Document;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Copies apply a write a moment after it was acknowledged; a reader's floor is what was acknowledged this long ago.
pub const FLOOR_AGE: Duration = Duration::from_secs(3);

/// What happened to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    Acknowledged,
    /// Refused or never sent.
    NotApplied,
    Unknown,
}

/// What is known of one document that writers touched.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The last acknowledged content.
    pub acknowledged: Option<Document>,
    /// Contents that may have come after it.
    pub possible: Vec<Document>,
}

impl Written {
    /// Whether `matches` holds for a content this document may have. `None` in the answer's place of a document
    /// is asked with `absent`.
    pub fn allows(&self, mut matches: impl FnMut(&Document) -> bool) -> bool {
        self.acknowledged.iter().chain(&self.possible).any(&mut matches)
    }

    pub const fn may_be_absent(&self) -> bool {
        self.acknowledged.is_none()
    }
}

#[derive(Debug, Default)]
struct Inner {
    written: BTreeMap<i64, Written>,
    /// Documents acknowledged in all, and when, oldest first; what is older than the floor's age is only kept as
    /// `floor`.
    recent: VecDeque<(Instant, u64)>,
    floor: u64,
    documents: u64,
    acknowledged_writes: u64,
    unknown_writes: u64,
}

/// Shared by all clients of a run.
#[derive(Debug, Default)]
pub struct Record(Mutex<Inner>);

impl Record {
    /// Documents that were loaded and acknowledged, the last of them at `at`.
    pub fn loaded(&self, documents: u64, at: Instant) {
        let mut inner = self.lock();
        inner.documents += documents;
        let documents = inner.documents;
        inner.recent.push_back((at, documents));
    }

    /// The outcome of writing `document`, seen at `at`.
    pub fn wrote(&self, document: Document, outcome: WriteOutcome, at: Instant) {
        let mut inner = self.lock();
        match outcome {
            WriteOutcome::NotApplied => {}
            WriteOutcome::Unknown => {
                inner.unknown_writes += 1;
                inner.written.entry(document.id).or_default().possible.push(document);
            }
            WriteOutcome::Acknowledged => {
                inner.acknowledged_writes += 1;
                let written = inner.written.entry(document.id).or_default();
                let new = written.acknowledged.replace(document).is_none();
                written.possible.clear();
                if new {
                    inner.documents += 1;
                    let documents = inner.documents;
                    inner.recent.push_back((at, documents));
                }
            }
        }
    }

    /// How many documents a read that started at `at` must count at least.
    pub fn floor(&self, at: Instant) -> u64 {
        let mut inner = self.lock();
        let Some(horizon) = at.checked_sub(FLOOR_AGE) else { return inner.floor };
        while let Some((when, documents)) = inner.recent.front().copied().filter(|(when, _)| *when <= horizon)
        {
            inner.floor = documents;
            inner.recent.pop_front();
            debug_assert!(when <= horizon);
        }
        inner.floor
    }

    pub fn acknowledged_writes(&self) -> u64 {
        self.lock().acknowledged_writes
    }

    pub fn unknown_writes(&self) -> u64 {
        self.lock().unknown_writes
    }

    /// Documents acknowledged, loaded ones included.
    pub fn documents(&self) -> u64 {
        self.lock().documents
    }

    /// An acknowledged document of a writer, to write again: the first at or after `id`.
    pub fn acknowledged_from(&self, id: i64) -> Option<i64> {
        let inner = self.lock();
        inner.written.range(id..).find(|(_, written)| written.acknowledged.is_some()).map(|(id, _)| *id)
    }

    /// Everything writers touched.
    pub fn written(&self) -> BTreeMap<i64, Written> {
        self.lock().written.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A client that panicked leaves whole entries behind: each change above is complete or absent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Cell;

    fn document(id: i64, value: i64) -> Document {
        Document { id, cells: vec![Cell::Int(value)] }
    }

    #[test]
    fn the_floor_follows_acknowledgements_three_seconds_late() {
        let record = Record::default();
        let start = Instant::now();
        let after = |seconds: f64| start + Duration::from_secs_f64(seconds);
        record.loaded(100, start);
        assert_eq!(record.floor(after(2.9)), 0);
        record.wrote(document(1, 1), WriteOutcome::Acknowledged, after(1.0));
        record.wrote(document(2, 1), WriteOutcome::Acknowledged, after(2.0));
        record.wrote(document(1, 2), WriteOutcome::Acknowledged, after(2.5));
        record.wrote(document(3, 1), WriteOutcome::Unknown, after(2.6));
        assert_eq!(record.floor(after(3.9)), 100);
        assert_eq!(record.floor(after(4.0)), 101);
        assert_eq!(record.floor(after(6.0)), 102);
        assert_eq!(record.floor(after(60.0)), 102);
        assert_eq!((record.acknowledged_writes(), record.unknown_writes(), record.documents()), (3, 1, 102));
    }

    #[test]
    fn an_unknown_write_leaves_both_contents_possible() {
        let record = Record::default();
        let now = Instant::now();
        record.wrote(document(1, 1), WriteOutcome::Acknowledged, now);
        record.wrote(document(1, 2), WriteOutcome::Unknown, now);
        record.wrote(document(1, 3), WriteOutcome::NotApplied, now);
        let written = &record.written()[&1];
        let allows = |value| written.allows(|document| document.cells == [Cell::Int(value)]);
        assert!(allows(1) && allows(2) && !allows(3));
        assert!(!written.may_be_absent());
        record.wrote(document(1, 4), WriteOutcome::Acknowledged, now);
        let written = &record.written()[&1];
        assert!(!written.allows(|document| document.cells == [Cell::Int(2)]));
        record.wrote(document(9, 1), WriteOutcome::Unknown, now);
        assert!(record.written()[&9].may_be_absent());
    }
}
