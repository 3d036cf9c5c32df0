//! Which mirror to ask: those that failed a moment ago come last, this node's own copy first.

use super::route::Mirror;
use model::{Millis, NodeId};
use std::collections::BTreeMap;

/// How long a mirror that could not be reached is passed over while another one can serve: the real node's
/// `ha_strategy=nodeads` does so until the host answers again, and pings it every `ha_ping_interval`, 1 s. So one that comes
/// back with an old copy can be read from before the routing tables are written anew without it.
const AVOID: Millis = Millis(1_000);

#[derive(Debug, Default)]
pub struct Health {
    /// Nodes that failed, and until when they are avoided. One success does not undo it.
    avoided: BTreeMap<NodeId, Millis>,
    turn: usize,
}

impl Health {
    pub fn failed(&mut self, node: &NodeId, now: Millis) {
        self.avoided.insert(node.clone(), now + AVOID);
    }

    /// The index of the mirror to ask next; `None` when all were tried.
    pub fn choose(
        &mut self,
        mirrors: &[Mirror],
        tried: &[usize],
        own: &NodeId,
        now: Millis,
    ) -> Option<usize> {
        self.turn = self.turn.wrapping_add(1);
        let count = mirrors.len();
        (0..count).filter(|at| !tried.contains(at)).min_by_key(|&at| {
            let node = mirrors[at].node.as_ref();
            let avoided = node.and_then(|node| self.avoided.get(node)).is_some_and(|until| *until > now);
            let here = node.is_none_or(|node| node == own);
            (avoided, !here, (at + self.turn) % count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> NodeId {
        NodeId::new(format!("n:{port}")).expect("valid")
    }

    #[test]
    fn own_first_then_in_turn_and_the_failed_last() {
        let mirrors: Vec<Mirror> =
            (1..=3).map(|port| Mirror { node: Some(node(port)), table: "t".into() }).collect();
        let mut health = Health::default();
        let now = Millis(0);
        assert_eq!(health.choose(&mirrors, &[], &node(2), now), Some(1));
        assert_ne!(
            health.choose(&mirrors, &[1], &node(2), now),
            health.choose(&mirrors, &[1], &node(2), now)
        );
        health.failed(&node(2), now);
        health.failed(&node(1), now);
        assert_eq!(health.choose(&mirrors, &[], &node(2), now), Some(2));
        assert_eq!(health.choose(&mirrors, &[], &node(2), Millis(999)), Some(2), "not yet");
        assert_eq!(health.choose(&mirrors, &[], &node(2), Millis(1_001)), Some(1), "it is tried again");
        assert_eq!(health.choose(&mirrors, &[0, 1, 2], &node(2), now), None);
    }
}
