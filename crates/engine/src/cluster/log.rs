//! The ordered entries a member holds: received, applied, and a bounded tail of applied ones for those who return.

use super::entry::Entry;
use std::collections::VecDeque;

/// An entry with what became of it here.
#[derive(Clone, Debug)]
pub struct Logged {
    pub entry: Entry,
    /// The fingerprint of the history up to and with this entry.
    pub digest: u64,
    /// Whether certification let it pass; known once applied.
    pub passed: Option<bool>,
}

/// `applied <= received`; everything between is kept, and of what lies before, the newest `limit` bytes.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Logged>,
    /// The number of the first entry kept (of the next one when none is).
    first: u64,
    /// The digest of the history before `first`.
    base_digest: u64,
    applied: u64,
    bytes: usize,
    limit: usize,
}

/// How many applied entries are kept at most, beside the bound in bytes: small ones cost more than their bytes.
const ENTRIES_MAX: usize = 20_000;

impl Log {
    /// An empty log that continues a history after `seqno`.
    pub fn new(seqno: u64, digest: u64, limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            first: seqno + 1,
            base_digest: digest,
            applied: seqno,
            bytes: 0,
            limit,
        }
    }

    /// The last entry of the unbroken sequence held.
    pub fn received(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The oldest entry still held: `local_cached_downto`.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The fingerprint of the history up to `seqno`, when it is still known.
    pub fn digest_at(&self, seqno: u64) -> Option<u64> {
        if seqno + 1 == self.first {
            return Some(self.base_digest);
        }
        self.get(seqno).map(|logged| logged.digest)
    }

    pub fn get(&self, seqno: u64) -> Option<&Logged> {
        let index = seqno.checked_sub(self.first)?;
        self.entries.get(index as usize)
    }

    /// Takes the next entry. False, and nothing done, when it is not the next.
    pub fn append(&mut self, entry: Entry) -> bool {
        if entry.seqno != self.received() + 1 {
            return false;
        }
        let before = self.entries.back().map_or(self.base_digest, |last| last.digest);
        self.bytes += entry.bytes();
        self.entries.push_back(Logged { digest: entry.digest(before), entry, passed: None });
        true
    }

    /// Notes the verdict on the next unapplied entry.
    pub fn mark_applied(&mut self, passed: bool) {
        let next = self.applied + 1;
        let index = next - self.first;
        if let Some(logged) = self.entries.get_mut(index as usize) {
            logged.passed = Some(passed);
            self.applied = next;
        }
        self.trim();
    }

    /// Forgets what was received after `seqno`; what was applied stays.
    pub fn truncate(&mut self, seqno: u64) {
        while self.received() > self.applied.max(seqno) {
            if let Some(logged) = self.entries.pop_back() {
                self.bytes -= logged.entry.bytes();
            }
        }
    }

    /// Entries from `from` on, about `bytes` of them at most, never none when there is one.
    pub fn slice(&self, from: u64, bytes: usize) -> Vec<(Entry, Option<bool>)> {
        let mut taken = Vec::new();
        let mut size = 0;
        let mut seqno = from;
        while let Some(logged) = self.get(seqno) {
            size += logged.entry.bytes();
            if size > bytes && !taken.is_empty() {
                break;
            }
            taken.push((logged.entry.clone(), logged.passed));
            seqno += 1;
        }
        taken
    }

    /// All entries received and not applied.
    pub fn unapplied(&self) -> impl Iterator<Item = &Entry> {
        let skip = (self.applied + 1 - self.first) as usize;
        self.entries.iter().skip(skip).map(|logged| &logged.entry)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn trim(&mut self) {
        while (self.bytes > self.limit || self.entries.len() > ENTRIES_MAX) && self.first <= self.applied {
            if let Some(logged) = self.entries.pop_front() {
                self.bytes -= logged.entry.bytes();
                self.base_digest = logged.digest;
                self.first += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::entry::tests::entry, *};

    #[test]
    fn entries_come_in_order_and_are_cut_back_to_what_was_applied() {
        let mut log = Log::new(5, 99, 1 << 20);
        assert_eq!((log.received(), log.applied()), (5, 5));
        assert!(!log.append(entry(7, "n:1")));
        assert!(log.append(entry(6, "n:1")) && log.append(entry(7, "n:1")));
        log.mark_applied(true);
        assert_eq!(log.unapplied().count(), 1);
        log.truncate(0);
        assert_eq!((log.received(), log.applied()), (6, 6));
        assert!(log.append(entry(7, "n:2")));
        assert_eq!(log.digest_at(5), Some(99));
        assert!(log.digest_at(4).is_none());
    }

    #[test]
    fn the_tail_is_bounded_and_what_is_not_applied_is_kept() {
        let mut log = Log::new(0, 0, 1_000);
        for seqno in 1..=100 {
            assert!(log.append(entry(seqno, "n:1")));
        }
        assert_eq!(log.first(), 1, "nothing is applied yet");
        for _ in 1..=90 {
            log.mark_applied(true);
        }
        assert!(log.bytes() <= 1_000 + 10 * 200 && log.first() > 80);
        assert_eq!(log.received(), 100);
        assert_eq!(log.slice(91, usize::MAX).len(), 10);
        assert_eq!(log.slice(91, 1).len(), 1);
    }
}
