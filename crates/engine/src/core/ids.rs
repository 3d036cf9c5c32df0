//! Automatic document ids: unique while nodes have distinct server ids and clocks do not go back.

/// Seven bits of server id, the second of the start, then a counter, as searchd makes them.
#[derive(Clone, Debug)]
pub(super) struct DocumentIds {
    next: u64,
}

impl DocumentIds {
    pub fn new(server_id: u8, unix_now: u64) -> Self {
        let server = u64::from(server_id & 0x7f) << 56;
        Self { next: server | (unix_now & 0xffff_ffff) << 24 }
    }

    pub fn next(&mut self) -> i64 {
        self.next += 1;
        self.next as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_two_nodes_and_two_starts_differ_and_are_positive() {
        let mut first = DocumentIds::new(1, 1_700_000_000);
        let mut second = DocumentIds::new(2, 1_700_000_000);
        let mut later = DocumentIds::new(1, 1_700_000_001);
        let ids =
            [first.next(), first.next(), second.next(), later.next(), DocumentIds::new(127, u64::MAX).next()];
        assert!(ids.iter().all(|id| *id > 0));
        assert_eq!(std::collections::BTreeSet::from(ids).len(), ids.len());
        assert!(later.next() - first.next() > 1 << 23, "a start has room for millions");
    }
}
