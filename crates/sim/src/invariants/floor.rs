//! Invariant 2: no operation sheds a copy below the floor, which is the smaller of rf and the whole copies there were
//! when it began, never under one.

use super::{clusters, documents};
use crate::play::TableIs;
use crate::watch::Begun;
use crate::world::World;
use control::operation::Kind;
use model::{GroupId, OperationId, parse_shard_table};

/// A node that failed this recently may not have been noticed by those who decide.
const UNNOTICED: u64 = 15_000;

/// Counts the whole copies of the group that an operation is about to change.
pub fn operation_begins(world: &mut World, id: OperationId) {
    let kind =
        world.leader().and_then(|leader| Some(leader.controller.state().operations.get(&id)?.kind.clone()));
    let (group, gains) = match kind {
        Some(Kind::Move { group, to, from: Some(_), .. }) => (group, Some(to)),
        Some(Kind::Shed { group, .. }) => (group, None),
        _ => return,
    };
    let whole = (0..world.machines.len()).filter(|at| is_whole(world, *at, &group)).count();
    world.watch.floors.insert(id, Begun { group, whole, gains });
}

fn is_whole(world: &mut World, at: usize, group: &GroupId) -> bool {
    clusters(world, at).get(group).is_some_and(model::ClusterStatus::is_synced)
}

/// A node leaves a group.
pub fn check_exit(world: &mut World, at: usize, group: &str) {
    let Ok(group) = GroupId::new(group) else { return };
    // From a cluster without a quorum a node does not let itself be taken.
    let Some(own) = clusters(world, at).remove(&group).filter(model::ClusterStatus::is_synced) else {
        return;
    };
    let rf = own.tables.iter().filter_map(|table| {
        let (name, _) = parse_shard_table(table)?;
        let play = world.play.borrow();
        let known = play.tables.get(name.as_str())?;
        (known.is == TableIs::There).then_some(known.rf.first().copied()? as usize)
    });
    let Some(rf) = rf.max() else { return };
    // Only a move or a shed takes a trusted copy away; one that missed a change of tables is none.
    let running = |id: &OperationId| {
        world.leader().is_some_and(|leader| leader.controller.state().operations.contains_key(id))
    };
    let own_node = &world.machines[at].node;
    let begun = world.watch.floors.iter().rev().find(|(id, begun)| begun.group == group && running(id));
    let begun = begun.map(|(_, begun)| begun).filter(|begun| begun.gains.as_ref() != Some(own_node));
    let begun = begun.map_or(1, |begun| begun.whole);
    let floor = rf.min(begun).max(1);
    let failed = |world: &World, at: usize| {
        world.machines[at].disturbed + UNNOTICED > world.now || world.machines[at].cut_off
    };
    // One that was itself cut off knows as little of the others as they of it.
    let own_failed = failed(world, at);
    let mut others = 0;
    for other in (0..world.machines.len()).filter(|other| *other != at) {
        let machine = &world.machines[other];
        let failed_now = own_failed || failed(world, other);
        let member =
            own.nodes_view.contains(&machine.node) || failed_now && own.nodes_set.contains(&machine.node);
        if is_whole(world, other, &group) || (member && failed_now) {
            others += 1;
        }
    }
    if others < floor {
        let node = world.machines[at].node.clone();
        world.violate(
            "2 floor",
            format!("{node} leaves {group}: {others} whole copies are left, the floor is {floor}"),
        );
    }
}

/// A copy is dropped: what its clients were told must be somewhere else.
pub fn check_drop(world: &mut World, at: usize, table: &str) {
    let Some((name, shard)) = parse_shard_table(table) else { return };
    let there = world.play.borrow().tables.get(name.as_str()).is_some_and(|table| table.is == TableIs::There);
    if !there {
        return;
    }
    let acknowledged = documents::acknowledged(world, name.as_str(), shard, 0);
    let has = |world: &mut World, at: usize| {
        let existing = world.machines[at].storage().map(|storage| storage.existing(table, &acknowledged));
        existing.and_then(Result::ok).map_or(0, |ids| ids.len())
    };
    let here = has(world, at);
    let most = (0..world.machines.len()).filter(|other| *other != at).map(|other| has(world, other)).max();
    if here > most.unwrap_or(0) {
        let node = world.machines[at].node.clone();
        world.violate(
            "2 floor",
            format!("{node} drops {table} with {here} documents, the best other copy has {most:?}"),
        );
    }
}
