//! Certification: the later of two writes of one document from two nodes fails, on every member alike.
//!
//! A verdict depends on nothing but the sequence of entries since the view began, so all members agree on it.

use std::collections::{BTreeMap, VecDeque};

/// How many keys are remembered. A write that saw less than what is remembered is refused, so the bound must exceed
/// what a loaded cluster has under way: some hundred batches of a thousand rows.
const KEYS_MAX: usize = 400_000;

/// Who wrote each key last, since the view began.
#[derive(Debug, Default)]
pub struct Certifier {
    /// Key → (sequence number, hash of the origin).
    last: BTreeMap<u64, (u64, u64)>,
    /// What to forget first.
    order: VecDeque<(u64, u64)>,
    /// Everything up to here is forgotten.
    floor: u64,
}

impl Certifier {
    /// Forgets all: the next entry follows `start`.
    pub fn reset(&mut self, start: u64) {
        self.last.clear();
        self.order.clear();
        self.floor = start;
    }

    /// Whether a write of `keys` that saw `seen` collides with one of another origin after that. Writers on one
    /// node do not collide: the later one wins, as on the real node.
    pub fn conflicts(&self, keys: &[u64], origin: u64, seen: u64) -> bool {
        seen < self.floor
            || keys
                .iter()
                .any(|key| self.last.get(key).is_some_and(|&(seqno, other)| seqno > seen && other != origin))
    }

    /// Remembers a write that passed as number `seqno`.
    pub fn record(&mut self, keys: &[u64], origin: u64, seqno: u64) {
        for &key in keys {
            self.last.insert(key, (seqno, origin));
            self.order.push_back((key, seqno));
        }
        while self.order.len() > KEYS_MAX {
            if let Some((key, seqno)) = self.order.pop_front() {
                self.floor = self.floor.max(seqno);
                if self.last.get(&key).is_some_and(|&(last, _)| last == seqno) {
                    self.last.remove(&key);
                }
            }
        }
    }

    /// How many keys are remembered: `cert_index_size`.
    pub fn len(&self) -> usize {
        self.last.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_write_of_another_node_collides() {
        let mut certifier = Certifier::default();
        certifier.reset(10);
        certifier.record(&[7], 0, 11);
        assert!(certifier.conflicts(&[7], 1, 10), "it had not seen 11");
        assert!(!certifier.conflicts(&[7], 1, 11));
        assert!(!certifier.conflicts(&[7], 0, 10), "the same node never collides with itself");
        assert!(!certifier.conflicts(&[8], 1, 10));
    }

    #[test]
    fn what_is_forgotten_counts_as_a_collision() {
        let mut certifier = Certifier::default();
        certifier.reset(0);
        let keys: Vec<u64> = (0..KEYS_MAX as u64).collect();
        certifier.record(&keys, 0, 1);
        certifier.record(&[u64::MAX], 0, 2);
        assert_eq!(certifier.len(), KEYS_MAX);
        assert!(certifier.conflicts(&[12], 1, 0));
        assert!(!certifier.conflicts(&[12], 1, 2));
    }
}
