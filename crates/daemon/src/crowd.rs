//! How many of each there are at this moment, bounded: connections by address, requests by token.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

/// Members by key. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Crowds<K: Ord>(Arc<Mutex<BTreeMap<K, usize>>>);

/// Counts for its key until it is dropped.
#[derive(Debug)]
pub(crate) struct Member<K: Ord + Clone + Debug> {
    crowds: Crowds<K>,
    key: K,
}

impl<K: Ord> Default for Crowds<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Clone + Debug> Crowds<K> {
    /// `None` when there are `max` of this key already.
    pub(crate) fn admit(&self, key: &K, max: usize) -> Option<Member<K>> {
        let mut crowds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = crowds.entry(key.clone()).or_insert(0);
        if *count >= max {
            if *count == 0 {
                crowds.remove(key);
            }
            return None;
        }
        *count += 1;
        Some(Member { crowds: self.clone(), key: key.clone() })
    }
}

impl<K: Ord + Clone + Debug> Drop for Member<K> {
    fn drop(&mut self) {
        let mut crowds = self.crowds.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = crowds.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                crowds.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_bound_and_nothing_is_left_behind() {
        let crowds = Crowds::default();
        let first = crowds.admit(&"a", 2).expect("a place");
        let second = crowds.admit(&"a", 2).expect("a place");
        assert!(crowds.admit(&"a", 2).is_none());
        let other = crowds.admit(&"b", 1).expect("another key");
        drop(second);
        let third = crowds.admit(&"a", 2).expect("a place again");
        assert!(crowds.admit(&"c", 0).is_none());
        drop((first, third, other));
        assert!(crowds.0.lock().expect("whole").is_empty());
    }
}
