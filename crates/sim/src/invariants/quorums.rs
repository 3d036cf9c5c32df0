//! A part of invariant 1: a group has one quorum. Two that acknowledge writes side by side under one history are seen here
//! before anybody writes to the one whose copies will be given up.

use super::clusters;
use crate::world::World;
use model::{ClusterState, ClusterStatus, GroupId, NodeId};

/// A node that goes on hears of the others by then.
const NOTICES_WITHIN: u64 = 5_000;

/// Two nodes that show a quorum of one history each, without a common member. One that has not noticed yet that it was left
/// behind names some of those who went on, and can acknowledge nothing.
pub fn check(world: &mut World) {
    let mut primary: Vec<(GroupId, NodeId, ClusterStatus)> = Vec::new();
    for at in (0..world.machines.len()).filter(|at| !has_stood_still(world, *at)) {
        let node = world.machines[at].node.clone();
        let shown = clusters(world, at).into_iter();
        let shown = shown.filter(|(_, cluster)| cluster.status == ClusterState::Primary && cluster.size > 0);
        primary.extend(shown.map(|(group, cluster)| (group, node.clone(), cluster)));
    }
    for (number, (group, node, own)) in primary.iter().enumerate() {
        let apart = |(of, _, theirs): &&(GroupId, NodeId, ClusterStatus)| {
            of == group
                && theirs.state_uuid == own.state_uuid
                && theirs.nodes_view.is_disjoint(&own.nodes_view)
        };
        if let Some((_, other, theirs)) = primary[..number].iter().find(apart) {
            let (ours, theirs) = (&own.nodes_view, &theirs.nodes_view);
            let detail = format!("{group} has two quorums: {node} shows {ours:?}, {other} shows {theirs:?}");
            return world.violate("1 documents", detail);
        }
    }
}

/// It shows what it was before, and has not heard of anybody yet.
fn has_stood_still(world: &World, at: usize) -> bool {
    let machine = &world.machines[at];
    machine.is_frozen() || world.now < machine.thawed + NOTICES_WITHIN
}
