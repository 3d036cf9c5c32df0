//! What operators order, in the small world.

use super::world::{World, node, table};
use control::operation::{Kind, Status};
use control::state::Hold;
use model::GroupId;
use model::operate::{OrderReply, RebalanceReply};
use model::wire::{RebalanceOrder, ShardingStatement, StatementReply};
use std::collections::BTreeSet;

fn order(world: &mut World, order: RebalanceOrder) {
    let reply = world.told(ShardingStatement::Rebalance { name: table("t"), order });
    let StatementReply::Object(object) = reply else { panic!("{reply:?}") };
    assert!(matches!(*object, OrderReply::Rebalance(RebalanceReply::Done { .. })), "{object:?}");
}

fn holds(world: &World, n: usize) -> usize {
    world.state().groups.values().filter(|group| group.members.contains_key(&node(n))).count()
}

/// Writes all along; at rest.
fn settled_under_writes(world: &mut World) {
    for _ in 0..400 {
        world.write("t");
        world.step();
    }
    world.settle();
}

#[test]
fn a_drained_node_is_emptied_removed_and_may_come_again() {
    let mut world = World::with_table(1, 4, 12, 2);
    let before = world.refused(ShardingStatement::RemoveNode { node: node(2) });
    assert!(before.contains("DRAIN NODE"), "{before}");
    assert_eq!(world.told(ShardingStatement::DrainNode { node: node(2) }), StatementReply::Ok);
    settled_under_writes(&mut world);
    assert_eq!(holds(&world, 2), 0, "it is empty");
    assert_eq!(world.told(ShardingStatement::RemoveNode { node: node(2) }), StatementReply::Ok);
    world.settle();
    assert!(!world.state().nodes.contains_key(&node(2)));
    assert!(world.nodes.clusters(&node(2)).is_empty(), "it left the user's cluster");
    assert!(world.nodes.route(&node(2), "t").is_none(), "it routes nothing");
    let unknown = world.refused(ShardingStatement::DrainNode { node: node(2) });
    assert!(unknown.contains("there is no node"), "{unknown}");

    // Others may name it still in their lists of members; it is none that may be alive with a quorum.
    assert_eq!(world.state().left, [node(2)].into());
    world.add_node(2);
    world.until("its return", |world| world.state().nodes.contains_key(&node(2)));
    assert!(world.state().left.is_empty());
}

/// The failover begins while the removal runs, and writes routes on all nodes.
#[test]
fn a_node_that_is_being_removed_is_given_no_route_any_more() {
    for wait in 0..8 {
        let mut world = World::with_table(10 + wait, 4, 12, 2);
        assert_eq!(world.told(ShardingStatement::DrainNode { node: node(2) }), StatementReply::Ok);
        settled_under_writes(&mut world);
        world.kill(&node(1));
        world.ask(ShardingStatement::RemoveNode { node: node(2) });
        world.until("the removal", |world| {
            world.state().active().any(|operation| operation.name() == "remove node")
        });
        for _ in 0..wait {
            world.step();
        }
        world.until("the end of it", |world| !world.state().nodes.contains_key(&node(2)));
        settled_under_writes(&mut world);
        assert_eq!(world.nodes.route(&node(2), "t"), None, "after {wait} steps");
    }
}

#[test]
fn a_node_taken_back_is_filled_again() {
    let mut world = World::with_table(2, 3, 12, 2);
    assert_eq!(world.told(ShardingStatement::DrainNode { node: node(1) }), StatementReply::Ok);
    settled_under_writes(&mut world);
    assert_eq!(holds(&world, 1), 0);
    let last = world.refused(ShardingStatement::DrainNode { node: node(2) });
    assert!(last.contains("add a node first"), "{last}");
    assert_eq!(world.told(ShardingStatement::UndrainNode { node: node(1) }), StatementReply::Ok);
    settled_under_writes(&mut world);
    assert!(holds(&world, 1) > 0);
    let dropped = world.drop("t");
    world.until("the drop", |world| world.answers.contains_key(&dropped));
    assert_eq!(world.answers[&dropped], StatementReply::Ok);
    world.settle();
}

#[test]
fn a_lost_node_is_given_up_and_not_trusted_when_it_is_back() {
    let mut world = World::with_table(3, 4, 12, 2);
    world.kill(&node(3));
    world.until("the loss", |world| world.state().nodes[&node(3)].lost);
    settled_under_writes(&mut world);
    assert_eq!(world.told(ShardingStatement::RemoveNode { node: node(3) }), StatementReply::Ok);
    for _ in 0..200 {
        world.step();
        assert!(!world.state().nodes.contains_key(&node(3)), "it is taken in again although it is dead");
    }
    world.start(&node(3));
    settled_under_writes(&mut world);
    assert!(world.state().nodes.contains_key(&node(3)), "still a member of the user's cluster: a node again");
}

/// Each would wait for the other: the list of members is changed only with a quorum.
#[test]
fn a_removal_does_not_keep_the_users_cluster_without_a_quorum() {
    let mut world = World::with_table(3, 4, 12, 2);
    world.kill(&node(3));
    world.until("the loss", |world| world.state().nodes[&node(3)].lost);
    settled_under_writes(&mut world);
    world.nodes.break_quorum(&GroupId::new("c").expect("valid"));
    assert_eq!(world.told(ShardingStatement::RemoveNode { node: node(3) }), StatementReply::Ok);
    settled_under_writes(&mut world);
    assert!(!world.state().nodes.contains_key(&node(3)));
}

#[test]
fn a_move_by_hand_stays_or_is_refused() {
    let mut world = World::with_table(4, 3, 12, 2);
    let state = world.state();
    let (group, from, to) = state
        .groups
        .iter()
        .find_map(|(id, group)| {
            let to = state.nodes.keys().find(|node| !group.members.contains_key(*node))?;
            Some((id.clone(), group.serving().next()?.clone(), to.clone()))
        })
        .expect("a group to move");
    let shard =
        state.tables[&table("t")].homes.iter().position(|home| *home == group).expect("a shard") as u32;
    let ordered = ShardingStatement::MoveShard {
        name: table("t"),
        shard,
        from: from.clone(),
        to: to.clone(),
        split: false,
    };
    order(&mut world, RebalanceOrder::Pause);
    let reply = world.told(ordered.clone());
    let StatementReply::Rows { rows, .. } = &reply else { panic!("{reply:?}") };
    assert_eq!(rows[0].last(), Some(&Some("true".to_owned())), "the loads were even: it is pinned");
    let twice = world.refused(ordered.clone());
    assert!(twice.contains("brings shard"), "{twice}");
    for _ in 0..200 {
        world.step();
    }
    assert!(world.state().operations.values().all(|operation| operation.started_at.is_none()), "paused");
    order(&mut world, RebalanceOrder::Resume);
    world.until("the move", |world| {
        world.state().finished.iter().any(|operation| {
            let by_hand = matches!(&operation.kind, Kind::Move { reason, .. } if reason == "ordered by hand");
            by_hand && operation.status == Status::Done
        })
    });
    world.settle();
    let there = |world: &World| world.state().groups[&group].members.contains_key(&to);
    assert!(there(&world), "no plan takes it back");
    let reply = world.told(ShardingStatement::ExplainShard { name: table("t"), shard });
    assert!(format!("{reply:?}").contains("Placed by hand"), "{reply:?}");
    // A loss is made good, pinned or not; until then it stays.
    order(&mut world, RebalanceOrder::Start);
    world.settle();
    let loads: Vec<usize> = (1..=3).map(|n| holds(&world, n)).collect();
    assert_eq!(loads, [8, 8, 8], "an ordered plan evens the loads again");
}

#[test]
fn a_pinned_group_is_made_whole_after_a_loss() {
    let mut world = World::with_table(7, 3, 12, 2);
    let home = world.state().tables[&table("t")].homes[0].clone();
    let members = &world.state().groups[&home].members;
    let (from, to) = (
        members.keys().next().cloned().expect("a member"),
        (1..=3).map(node).find(|n| !members.contains_key(n)).expect("another"),
    );
    let ordered =
        ShardingStatement::MoveShard { name: table("t"), shard: 0, from, to: to.clone(), split: false };
    assert!(matches!(world.told(ordered), StatementReply::Rows { .. }));
    world.until("the move", |world| world.state().groups[&home].pinned);
    world.settle();
    world.kill(&to);
    settled_under_writes(&mut world);
    world.start(&to);
    world.settle();
}

/// What is made good after a loss is no balancing.
#[test]
fn a_pause_does_not_keep_lost_copies_missing() {
    let mut world = World::with_table(8, 4, 12, 2);
    for held in [RebalanceOrder::Pause, RebalanceOrder::Stop] {
        order(&mut world, held);
        world.kill(&node(2));
        world.until("the loss", |world| world.state().nodes[&node(2)].lost);
        world.until("all copies", |world| {
            world.state().operations.is_empty()
                && world.state().groups.values().all(|group| group.serving().count() == 2)
        });
        world.start(&node(2));
        world.settle();
        assert_eq!(holds(&world, 2), 0, "{held:?}: nothing is evened out");
        order(&mut world, RebalanceOrder::Start);
        settled_under_writes(&mut world);
        assert!(holds(&world, 2) > 0);
    }
}

/// A JOIN makes the donor's writers wait: a node that cannot take a copy is not tried every few seconds.
#[test]
fn a_node_that_takes_no_copies_is_tried_less_and_less() {
    let mut world = World::with_table(9, 3, 12, 2);
    world.nodes.refuse_joins(&node(4), true);
    world.add_node(4);
    let began = world.now;
    while world.now.since(began).0 < 600_000 {
        world.step();
    }
    let failed = world.state().operations_failed;
    assert!((3..=8).contains(&failed), "{failed} moves failed within ten minutes");
    world.nodes.refuse_joins(&node(4), false);
    world.until("its share", |world| holds(world, 4) == 6);
    world.settle();
}

#[test]
fn a_node_that_flaps_is_taken_for_lost_until_it_stays_up() {
    let mut world = World::with_table(10, 4, 12, 2);
    let flap = |world: &mut World| {
        world.kill(&node(2));
        world.until("the loss", |world| world.state().nodes[&node(2)].lost);
        world.start(&node(2));
        let began = world.now;
        world.until("its return", |world| !world.state().nodes[&node(2)].lost);
        let took = world.now.since(began).0;
        world.until("rest", |world| world.state().operations.is_empty());
        took / 1_000
    };
    let times: Vec<u64> = (0..4).map(|_| flap(&mut world)).collect();
    assert!(times[0] < 2 && times[1] < 2, "twice is nothing: {times:?}");
    assert!((29..=32).contains(&times[2]) && (59..=62).contains(&times[3]), "{times:?}");
    world.settle();
}

#[test]
fn a_stop_ends_the_queue_and_a_start_goes_on() {
    for now in [RebalanceOrder::Stop, RebalanceOrder::StopNow] {
        let mut world = World::with_table(5, 3, 12, 2);
        world.add_node(4);
        world.until("a move", |world| world.is_under_way(&node(4), "JOIN CLUSTER"));
        order(&mut world, now);
        world.until("quiet", |world| world.state().operations.is_empty());
        assert_eq!(world.state().hold, Some(Hold::Stopped));
        assert_eq!(world.state().operations_failed, 0, "what an operator takes back has not failed");
        let there = holds(&world, 4);
        for _ in 0..400 {
            world.step();
        }
        assert_eq!(holds(&world, 4), there, "{now:?}: nothing more comes");
        assert!(there < 6, "{now:?}: {there} groups of 6 came before the stop");
        order(&mut world, RebalanceOrder::Start);
        settled_under_writes(&mut world);
        assert_eq!(holds(&world, 4), 6, "{now:?}");
    }
}

#[test]
fn explanations_name_the_holders_and_every_other_node() {
    let mut world = World::with_table(6, 3, 12, 2);
    let reply = world.told(ShardingStatement::ExplainShard { name: table("t"), shard: 0 });
    let StatementReply::Rows { rows, .. } = reply else { panic!("{reply:?}") };
    assert_eq!(rows.len(), 2, "a text, and the one node that has no copy: {rows:?}");
    let missing = world.refused(ShardingStatement::ExplainShard { name: table("t"), shard: 12 });
    assert!(missing.contains("0 to 11"), "{missing}");
}

/// Whole copies of each group that `gone` was a whole member of a moment ago and has left now.
fn left_with(world: &World, gone: &model::NodeId, before: &BTreeSet<GroupId>) -> Vec<usize> {
    let whole = |id: &model::NodeId, group: &GroupId| {
        let shown = world.nodes.status(id, false);
        shown.is_some_and(|shown| shown.clusters.get(group).is_some_and(model::ClusterStatus::is_synced))
    };
    let now = world.nodes.clusters(gone);
    let left = before.difference(&now).filter(|group| world.state().groups.contains_key(group));
    left.map(|group| world.nodes.live().iter().filter(|id| whole(id, group)).count()).collect()
}

#[test]
fn what_a_removed_node_brings_back_stays_until_there_are_other_copies() {
    for drained in [false, true] {
        let mut world = World::with_table(7, 4, 12, 2);
        if drained {
            // Nothing of it can go yet.
            order(&mut world, RebalanceOrder::Pause);
            assert_eq!(world.told(ShardingStatement::DrainNode { node: node(2) }), StatementReply::Ok);
        }
        let held = holds(&world, 2);
        assert!(held > 0);
        world.kill(&node(2));
        world.until("the loss", |world| world.state().nodes[&node(2)].lost);
        world.ask(ShardingStatement::RemoveNode { node: node(2) });
        world.until("it is given up", |world| holds(world, 2) == 0);
        // Before any other copy is made; and none can be made for a while.
        world.start(&node(2));
        for n in [1, 3, 4] {
            world.nodes.refuse_joins(&node(n), true);
        }
        let mut left = Vec::new();
        for step in 0..2_000 {
            if step == 1_000 {
                assert!(left.is_empty(), "it left {left:?} while nobody could have another copy");
                let clusters = world.nodes.clusters(&node(2));
                assert_eq!(clusters.len(), held + 1, "it is there with all it had");
                for n in [1, 3, 4] {
                    world.nodes.refuse_joins(&node(n), false);
                }
            }
            let before = world.nodes.clusters(&node(2));
            world.write("t");
            world.step();
            left.extend(left_with(&world, &node(2), &before));
        }
        world.settle();
        assert_eq!(left.len(), held, "all was cleaned");
        assert!(left.iter().all(|whole| *whole >= 2), "so many copies stayed: {left:?}");
        assert!(drained || holds(&world, 2) > 0, "a node that came again is given its share");
    }
}
