//! Who is in: members, views, and whether some of them may go on without the rest.

use model::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One process of a node. A restarted node is another member: it has forgotten what it had received.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    pub node: NodeId,
    pub incarnation: u64,
    /// `host:port` of the replication listener, for `nodes_view`.
    pub replication: String,
}

/// Names one attempt to agree on a view: higher deposes lower.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Round {
    pub number: u64,
    pub initiator: NodeId,
}

impl Round {
    pub fn zero(node: &NodeId) -> Self {
        Self { number: 0, initiator: node.clone() }
    }
}

/// Names a view; along one history, later views have higher names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ViewId {
    /// Counts the views of the cluster from 1: `conf_id`.
    pub conf: u64,
    pub round: Round,
}

/// The members that order and acknowledge together. The first sequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub id: ViewId,
    /// The history this cluster writes: a new one when it was formed anew.
    pub uuid: String,
    /// A number drawn when a view came into force without a majority of the one before (`pc.bootstrap`): views of
    /// two branches have nothing to say to each other.
    pub branch: u64,
    /// Ordered by node id.
    pub members: Vec<Member>,
    /// The last sequence number of the view before; this one's writes follow it.
    pub start: u64,
}

impl View {
    pub fn contains(&self, member: &Member) -> bool {
        self.members.contains(member)
    }

    pub fn has_node(&self, node: &NodeId) -> bool {
        self.members.iter().any(|member| member.node == *node)
    }

    pub fn position(&self, node: &NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.node == *node)
    }

    /// The member that gives writes their order.
    pub fn sequencer(&self) -> &NodeId {
        &self.members[0].node
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.members.iter().map(|member| member.node.clone()).collect()
    }

    /// Whether `present` are a strict majority of those who have not left cleanly: two disjoint sets of members
    /// can never both be.
    pub fn majority(&self, present: &BTreeSet<Member>, left: &BTreeSet<Member>) -> bool {
        let mut base = 0;
        let mut here = 0;
        for member in self.members.iter().filter(|member| !left.contains(*member)) {
            base += 1;
            here += usize::from(present.contains(member));
        }
        2 * here > base
    }

    /// Whether all who have not left cleanly are there.
    pub fn is_whole(&self, left: &BTreeSet<Member>, is_there: &dyn Fn(&Member) -> bool) -> bool {
        self.members.iter().all(|member| left.contains(member) || is_there(member))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn member(port: u16) -> Member {
        Member {
            node: NodeId::new(format!("n:{port}")).expect("valid"),
            incarnation: 1,
            replication: format!("n:{}", port + 1),
        }
    }

    fn view(ports: &[u16]) -> View {
        let members: Vec<Member> = ports.iter().map(|&port| member(port)).collect();
        let round = Round { number: 1, initiator: members[0].node.clone() };
        View { id: ViewId { conf: 1, round }, uuid: "u".into(), branch: 0, members, start: 0 }
    }

    fn set(ports: &[u16]) -> BTreeSet<Member> {
        ports.iter().map(|&port| member(port)).collect()
    }

    #[test]
    fn half_is_no_majority_and_the_cleanly_left_do_not_count() {
        let two = view(&[1, 2]);
        assert!(!two.majority(&set(&[1]), &set(&[])));
        assert!(two.majority(&set(&[1]), &set(&[2])));
        let three = view(&[1, 2, 3]);
        assert!(three.majority(&set(&[2, 3]), &set(&[])));
        assert!(!three.majority(&set(&[3]), &set(&[])));
        let mut restarted = member(2);
        restarted.incarnation = 2;
        assert!(!two.majority(&BTreeSet::from([restarted]), &set(&[])), "another process is another member");
    }
}
