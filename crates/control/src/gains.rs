//! Nodes to which copies could not be brought, or that could not be cleaned: they are tried again, but less and less often, for every JOIN makes the
//! donor's writers wait.

use model::{Millis, NodeId};
use std::collections::BTreeMap;

/// Between two tries after the first failure; doubled by each one more.
const PAUSE: Millis = Millis(10_000);
const PAUSE_MAX: Millis = Millis(300_000);

/// Failures, by node.
#[derive(Debug, Default)]
pub struct Gains {
    failed: BTreeMap<NodeId, (u32, Millis)>,
}

impl Gains {
    pub fn fail(&mut self, to: &NodeId, now: Millis) {
        let (count, not_before) = self.failed.entry(to.clone()).or_insert((0, now));
        let pause = Millis(PAUSE.0 << (*count).min(5)).min(PAUSE_MAX);
        *count += 1;
        *not_before = now + pause;
    }

    pub fn succeed(&mut self, to: &NodeId) {
        self.failed.remove(to);
    }

    pub fn forget(&mut self) {
        self.failed.clear();
    }

    /// Whether the node is to be spared for now.
    pub fn is_paused(&self, to: &NodeId, now: Millis) -> bool {
        self.failed.get(to).is_some_and(|(_, not_before)| *not_before > now)
    }

    /// Whether the last gain failed: then the next one is alone, to see whether it works now.
    pub fn is_doubtful(&self, to: &NodeId) -> bool {
        self.failed.contains_key(to)
    }

    pub fn next_wake(&self, now: Millis) -> Option<Millis> {
        self.failed.values().map(|(_, not_before)| *not_before).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_makes_the_pause_longer_until_a_copy_comes() {
        let node = NodeId::new("h:1").expect("valid");
        let mut gains = Gains::default();
        let mut now = Millis(0);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            gains.fail(&node, now);
            let until = gains.next_wake(now).expect("a pause");
            pauses.push(until.since(now).0 / 1_000);
            assert!(gains.is_paused(&node, now) && !gains.is_paused(&node, until));
            now = until;
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        assert!(gains.is_doubtful(&node));
        gains.succeed(&node);
        assert!(!gains.is_doubtful(&node) && gains.next_wake(now).is_none());
    }
}
