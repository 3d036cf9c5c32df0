//! A shard without others that loses its source in the middle of a move.

use super::world::{World, node, table};
use control::operation::{Kind, StepStatus, Work};
use control::state::Member;
use model::wire::{ShardingStatement, StatementReply};
use model::{Action, GroupId, NodeId};

struct Moving {
    world: World,
    group: GroupId,
    from: NodeId,
    to: NodeId,
}

/// The copy has come, and is not compared yet.
fn moving(seed: u64) -> Moving {
    let mut world = World::with_table(seed, 3, 1, 1);
    for _ in 0..20 {
        world.write("t");
        world.step();
    }
    let (group, known) = world.state().groups.iter().next().expect("a group");
    let (group, from) = (group.clone(), known.members.keys().next().expect("a member").clone());
    let to = (1..=3).map(node).find(|node| *node != from).expect("another");
    let (name, shard, split) = (table("t"), 0, false);
    world.told(ShardingStatement::MoveShard { name, shard, from: from.clone(), to: to.clone(), split });
    world.until("the copy", |world| {
        let joins = world.state().operations.values().flat_map(|it| &it.steps).any(|step| {
            matches!(step.work.action(), Some(Action::JoinCluster { .. })) && step.status == StepStatus::Done
        });
        if !joins {
            world.write("t");
        }
        joins
    });
    assert_eq!(world.state().groups[&group].members[&to], Member::Joining, "it is not compared yet");
    Moving { world, group, from, to }
}

fn waits(world: &World) -> String {
    format!("{:?}", world.controller.show(&ShardingStatement::ShowQueue))
}

fn rows(world: &World, node: &NodeId) -> usize {
    let shard = table("t").shard_table(0);
    world.nodes.rows(node, &shard).map_or(0, std::collections::BTreeSet::len)
}

fn acknowledged(world: &World) -> usize {
    world.acknowledged.values().map(std::collections::BTreeSet::len).sum()
}

#[test]
fn a_new_copy_that_has_everything_serves_when_its_source_is_lost() {
    let Moving { mut world, group, from, to } = moving(1);
    // The last look at the source shows both in one quorum.
    world.until("a look", |world| {
        world.state().operations.values().all(|it| {
            it.steps
                .iter()
                .all(|step| !matches!(step.work, Work::Verify { .. }) || step.status == StepStatus::Pending)
        })
    });
    world.kill(&from);
    world.until("its routes", |world| {
        let route = world.nodes.route(&to, "t");
        route.is_some_and(|route| route.shards[0] == [to.clone()])
    });
    world.until("the end of the move", |world| world.state().operations.is_empty());
    assert_eq!(world.state().groups[&group].members.keys().collect::<Vec<_>>(), [&to]);
    assert_eq!(rows(&world, &to), acknowledged(&world));
    for _ in 0..20 {
        world.write("t");
        world.step();
    }
    // It comes back, and is no copy any more.
    world.start(&from);
    world.settle();
    assert_eq!(world.state().groups[&group].members.keys().collect::<Vec<_>>(), [&to]);
}

/// Its new copy goes on, and there is nobody to make primary again.
#[test]
fn a_source_that_is_parted_from_its_new_copy_begins_no_failovers() {
    let Moving { mut world, group, from, to } = moving(3);
    world.until("the source to leave", |world| {
        world.state().groups[&group].members[&from] == Member::Leaving
            && world.state().groups[&group].members[&to] == Member::Serving
    });
    world.mute.insert(from.clone());
    world.nodes.parted.insert(from.clone());
    let mut begun = std::collections::BTreeSet::new();
    for _ in 0..600 {
        world.step();
        let failovers = world.state().active().filter(|it| matches!(it.kind, Kind::Failover { .. }));
        begun.extend(failovers.map(|it| it.id));
    }
    assert_eq!(world.state().groups[&group].members[&from], Member::Leaving, "it had no way to leave");
    assert!(begun.is_empty(), "{begun:?}");
    world.nodes.parted.clear();
    world.mute.clear();
    world.settle();
    assert_eq!(world.state().groups[&group].members.keys().collect::<Vec<_>>(), [&to]);
}

#[test]
fn a_new_copy_that_may_lack_a_write_is_kept_until_its_source_is_back() {
    let Moving { mut world, group, from, to } = moving(2);
    world.nodes.forget_newest(&to, &table("t").shard_table(0), 1);
    world.nodes.unsynced(&group, true);
    world.kill(&from);
    world.until("the loss", |world| world.state().nodes[&from].lost);
    // Not even an operator who stops all moves means that.
    let order = model::wire::RebalanceOrder::StopNow;
    world.told(ShardingStatement::Rebalance { name: table("t"), order });
    for _ in 0..2_000 {
        world.step();
        assert!(rows(&world, &to) > 0, "the only copy that there is was dropped");
        let route = world.nodes.route(&to, "t");
        assert!(route.is_none_or(|route| !route.shards[0].contains(&to)), "it is not routed by itself");
    }
    let told = waits(&world);
    assert!(
        told.contains("group recover") && told.contains(to.as_str()) && told.contains(from.as_str()),
        "{told}"
    );
    world.start(&from);
    world.settle();
    let moved = |world: &World| world.state().finished.iter().any(|it| matches!(it.kind, Kind::Move { .. }));
    assert!(moved(&world));
    let holders: Vec<&NodeId> = world.state().groups[&group].serving().collect();
    assert_eq!(holders, [&from], "the source has all");
}

#[test]
fn an_operator_takes_the_new_copy_as_it_is() {
    let Moving { mut world, group, from, to } = moving(3);
    world.nodes.unsynced(&group, true);
    world.kill(&from);
    world.until("the loss", |world| world.state().nodes[&from].lost);
    world.until("the question", |world| waits(world).contains("group recover"));
    let other = (1..=3).map(node).find(|node| *node != from && *node != to).expect("a third");
    world.refused(ShardingStatement::RecoverGroup { group: group.clone(), from: other });
    world.nodes.unsynced(&group, false);
    let order = ShardingStatement::RecoverGroup { group: group.clone(), from: to.clone() };
    assert_eq!(world.told(order), StatementReply::Ok);
    world.until("its routes", |world| {
        world.nodes.route(&to, "t").is_some_and(|route| route.shards[0] == [to.clone()])
    });
    world.start(&from);
    world.settle();
    assert_eq!(world.state().groups[&group].members.keys().collect::<Vec<_>>(), [&to]);
}

/// One of the two nodes of a move is lost at some moment of it, and back after so many steps. Whether the new copy served without
/// its source.
fn lost_and_back(seed: u64, is_source: bool, away: &[usize]) -> bool {
    let mut world = World::with_table(seed, 3, 1, 1);
    let (group, known) = world.state().groups.iter().next().expect("a group");
    let (group, from) = (group.clone(), known.members.keys().next().expect("a member").clone());
    let to = (1..=3).map(node).find(|node| *node != from).expect("another");
    let (name, shard, split) = (table("t"), 0, false);
    world.told(ShardingStatement::MoveShard { name, shard, from: from.clone(), to: to.clone(), split });
    for _ in 0..world.random.below(60) {
        world.write("t");
        world.step();
    }
    let lost = if is_source { &from } else { &to };
    world.kill(lost);
    if world.random.chance(20) {
        world.restart_controller();
    }
    for _ in 0..away[world.random.below(away.len())] {
        world.write("t");
        world.step();
    }
    let kept = is_source && world.state().groups[&group].serving().any(|node| *node == to);
    world.start(lost);
    world.settle();
    kept
}

/// At whatever moment the source is lost, and whenever it is back: nothing that was acknowledged is missing.
#[test]
fn a_source_may_be_lost_at_any_moment_of_a_move() {
    // From well before its loss is proven to long after what follows from it is over.
    let kept = super::seeds(120).filter(|seed| lost_and_back(*seed, true, &[10, 80, 400])).count();
    assert!(kept > 0 || std::env::var("SHARDWRIGHT_SEEDS").is_ok(), "a new copy served without its source");
}

/// The same of the new copy's node, which may be back before anybody has seen it lost.
#[test]
fn a_new_node_may_be_lost_at_any_moment_of_a_move() {
    for seed in super::seeds(120) {
        lost_and_back(seed, false, &[0, 10, 80, 400]);
    }
}

/// The routes are on the new copy, and its node is started anew before anybody has seen it lost.
#[test]
fn a_source_that_only_its_new_copy_could_replace_stays_when_that_was_started_anew() {
    let Moving { mut world, group, from, to } = moving(6);
    world.until("the routes", |world| {
        let on_it = |at: &NodeId| world.nodes.route(at, "t").is_some_and(|it| it.shards[0] == [to.clone()]);
        (1..=3).map(node).all(|at| on_it(&at))
    });
    assert_eq!(world.state().groups[&group].members[&from], Member::Leaving);
    world.kill(&to);
    world.start(&to);
    world.settle();
    assert!(!world.state().nodes[&to].lost);
    let known = &world.state().groups[&group];
    let holders: Vec<&NodeId> = known.serving().collect();
    assert_eq!(holders.len(), 1, "{:?}", known.members);
    assert_eq!(rows(&world, holders[0]), acknowledged(&world));
    for _ in 0..20 {
        world.write("t");
        world.step();
    }
    assert!(acknowledged(&world) > 0);
}
