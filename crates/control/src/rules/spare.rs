//! The floor of a clean-up: a copy that is left over on a node and is as good as those that serve stays until these are as
//! many as there can be.

use super::is_left_behind;
use crate::observed::Observed;
use crate::operation::{Kind, Status};
use crate::state::{Group, Leftover, Shard, State, TableStatus};
use model::{GroupId, NodeId};

/// Whether what is left over of the group on `node` is a whole copy, and the others are fewer than are wanted and than there
/// are nodes for. Not where the node is to be given this copy again, for that it must be clean; nor when an operator's removal
/// of it has begun.
pub fn is_spare(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    // One without shards is being dissolved, after its shards were handed over, and one whose tables are being dropped goes
    // with them: their copies stand for nothing.
    let stays = |shard: &Shard| {
        state.tables.get(&shard.table).is_some_and(|table| table.status != TableStatus::Dropping)
    };
    let kept = |known: &&Group| known.is_clustered() && known.shards.iter().any(stays);
    let Some(known) = state.groups.get(group).filter(kept) else { return false };
    let whole_on =
        |node: &NodeId| observed.cluster(node, group).filter(|it| it.is_synced() && it.size > 1).cloned();
    let Some(own) = whole_on(node) else { return false };
    let tables = known.tables();
    let left = state.leftovers.get(node).into_iter().flatten();
    let is_left = left
        .into_iter()
        .any(|left| matches!(left, Leftover::Group { group: g, tables } if g == group && !tables.is_empty()));
    let is_same = known.is_history(&own.state_uuid) && tables.iter().all(|table| own.tables.contains(table));
    if !is_left || !is_same || !is_given_nothing(state, node) || is_being_removed(state, node) {
        return false;
    }
    let others = known.serving().filter(|other| *other != node && state.is_live(other));
    let whole = others.filter(|other| whole_on(other).is_some_and(|it| it.nodes_view.contains(node))).count();
    whole < known.rf.min(places_besides(state, known, node)) as usize
}

/// Whether the group has a quorum without the node, and as many whole copies as are wanted or as there are nodes for.
pub fn is_whole_without(state: &State, observed: &Observed, node: &NodeId, group: &GroupId) -> bool {
    let Some(known) = state.groups.get(group) else { return false };
    let whole_on = |other: &&NodeId| {
        let own = observed.cluster(other, group);
        **other != *node
            && state.is_live(other)
            && own.is_some_and(|own| {
                own.is_synced() && known.is_history(&own.state_uuid) && !own.nodes_view.contains(node)
            })
    };
    let whole = known.serving().filter(whole_on).count();
    whole > 0 && whole >= known.rf.min(places_besides(state, known, node)) as usize
}

/// Whether the node has whole copies that must wait for others.
pub fn holds_spares(state: &State, observed: &Observed, node: &NodeId) -> bool {
    let mut left = state.leftovers.get(node).into_iter().flatten();
    left.any(|left| matches!(left, Leftover::Group { group, .. } if is_spare(state, observed, node, group)))
}

/// Whether what is left over of the group on the node stays there for now: until others are whole, or somebody restarts it.
fn waits(state: &State, observed: &Observed, node: &NodeId, left: &Leftover) -> bool {
    matches!(left, Leftover::Group { group, .. }
        if is_spare(state, observed, node, group) || is_left_behind(state, observed, node, group))
}

/// Whether the node has to be cleaned of something that stays there for now.
pub fn holds_what_waits(state: &State, observed: &Observed, node: &NodeId) -> bool {
    state.leftovers.get(node).into_iter().flatten().any(|left| waits(state, observed, node, left))
}

/// Whether all that the node has to be cleaned of stays there for now: what is planned need not wait for that.
pub fn holds_only_what_waits(state: &State, observed: &Observed, node: &NodeId) -> bool {
    let left = || state.leftovers.get(node).into_iter().flatten();
    let waits = |left: &&Leftover| waits(state, observed, node, left);
    let kept: Vec<&String> = left()
        .filter(waits)
        .flat_map(|left| match left {
            Leftover::Group { tables, .. } => tables.as_slice(),
            Leftover::Tables { .. } | Leftover::Route { .. } => &[],
        })
        .collect();
    left().all(|left| match left {
        // The node is removed when nothing else is left.
        Leftover::Group { group, .. } if state.cluster.as_ref() == Some(group) => true,
        Leftover::Group { .. } => waits(&left),
        // They go with their group.
        Leftover::Tables { tables } => tables.iter().all(|table| kept.contains(&table)),
        Leftover::Route { .. } => false,
    })
}

/// No plan brings a copy to it: it is to be emptied, or has none, and is passed over while it has to be cleaned.
fn is_given_nothing(state: &State, node: &NodeId) -> bool {
    state.nodes.get(node).is_some_and(|known| known.draining)
        || !state.groups.values().any(|group| group.members.contains_key(node))
}

fn is_being_removed(state: &State, node: &NodeId) -> bool {
    state.active().any(|operation| {
        operation.status == Status::Running
            && matches!(&operation.kind, Kind::RemoveNode { node: leaving } if leaving == node)
    })
}

/// The nodes besides this one that have the group or can be given it: not those that have copies left over themselves, which
/// must be cleaned first, or two of them would wait for each other.
fn places_besides(state: &State, known: &Group, node: &NodeId) -> u32 {
    let has_left = |other: &NodeId| {
        let left = state.leftovers.get(other).into_iter().flatten();
        left.into_iter().any(|left| matches!(left, Leftover::Group { tables, .. } if !tables.is_empty()))
    };
    let places = state.live_nodes().filter(|other| *other != node).filter(|other| {
        known.members.contains_key(*other)
            || state.placing_nodes().any(|placing| placing == *other) && !has_left(other)
    });
    places.count() as u32
}
