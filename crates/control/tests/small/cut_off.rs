//! Nodes that the controller reaches and the others do not.

use super::world::{World, node};
use control::operation::Kind;
use control::state::{Halt, Member};
use model::wire::{ShardingStatement, StatementReply};
use model::{GroupId, Millis, NodeId};

fn group(world: &World) -> (GroupId, Vec<NodeId>) {
    let (id, group) = world.state().groups.iter().next().expect("a group");
    (id.clone(), group.members.keys().cloned().collect())
}

/// What the alerts of this kind say that fire.
fn alerted(world: &World, kind: &str) -> Vec<String> {
    let StatementReply::Rows { rows, .. } = world.controller.show(&ShardingStatement::ShowAlerts) else {
        panic!("no rows");
    };
    let fires =
        |row: &&Vec<Option<String>>| row[1].as_deref() == Some(kind) && row[5].as_deref() == Some("firing");
    rows.iter().filter(fires).filter_map(|row| row[2].clone()).collect()
}

/// Neither of the two has a quorum, and both have everything.
#[test]
fn of_two_equals_the_one_that_the_others_reach_goes_on() {
    for away in [0, 1] {
        let mut world = World::with_table(4, 3, 1, 2);
        world.settle();
        let (id, members) = group(&world);
        world.cut_off.insert(members[away].clone());
        world.nodes.break_quorum(&id);
        world.until("the word", |world| world.state().groups[&id].told.is_some());
        assert_eq!(world.state().groups[&id].told.as_ref(), Some(&members[1 - away]));
        for _ in 0..20 {
            world.step();
        }
        let told = alerted(&world, "node_cut_off");
        assert!(told.len() == 1 && told[0].starts_with(members[away].as_str()), "{told:?}");
        world.kill(&members[away]);
        for _ in 0..40 {
            world.step();
        }
        assert_eq!(alerted(&world, "node_cut_off"), Vec::<String>::new(), "it answers nobody");
        world.start(&members[away]);
        world.cut_off.clear();
        world.until("the end of it", |world| {
            alerted(world, "node_cut_off").is_empty() && world.controller.suspects().is_empty()
        });
    }
}

/// Sidecars that say nothing are waited for, and not for ever.
#[test]
fn whoever_does_not_say_whom_it_reaches_is_not_waited_for_long() {
    let mut world = World::with_table(4, 3, 1, 2);
    world.settle();
    let (id, members) = group(&world);
    world.wordless.extend((1..=3).map(node));
    world.nodes.break_quorum(&id);
    let began = world.now;
    world.until("the word", |world| world.state().groups[&id].told.is_some());
    assert_eq!(world.state().groups[&id].told.as_ref(), Some(&members[0]), "the lowest name");
    assert!(world.now.since(began) >= Millis(2_000), "they were asked");
    assert!(alerted(&world, "node_cut_off").is_empty());
    world.wordless.clear();
    world.settle();
}

/// Its nodes look emptier than they are while groups have no quorum, and nobody sees to those yet.
#[test]
fn nothing_is_balanced_while_groups_have_stopped() {
    let mut world = World::with_table(5, 4, 12, 2);
    world.settle();
    let of = |world: &World, node: &NodeId| -> Vec<GroupId> {
        let all = world.state().groups.iter();
        all.filter(|(_, group)| group.members.contains_key(node)).map(|(id, _)| id.clone()).collect()
    };
    let stopped = of(&world, &node(1));
    // The next failover of each pauses after this one.
    for id in &stopped {
        world.nodes.break_quorum(id);
    }
    world.until("a failover", |world| world.state().active().next().is_some());
    world.until("its end", |world| world.state().active().next().is_none());
    for id in &stopped {
        world.nodes.break_quorum(id);
        world.nodes.unsynced(id, true);
    }
    let halted =
        |world: &World| stopped.iter().all(|id| world.state().groups[id].halt == Some(Halt::NoQuorum));
    world.until("the halt", |world| halted(world));
    let cares = |world: &World| {
        world.state().active().any(|operation| matches!(operation.kind, Kind::Failover { .. }))
    };
    assert!(!cares(&world), "{:?}", world.state().active().map(|it| it.kind.clone()).collect::<Vec<_>>());
    for _ in 0..40 {
        world.step();
        let kinds: Vec<_> = world.state().active().map(|operation| operation.kind.clone()).collect();
        assert!(kinds.iter().all(|kind| !matches!(kind, Kind::Move { .. })), "{kinds:?}");
    }
    for id in &stopped {
        world.nodes.unsynced(id, false);
    }
    world.settle();
    assert_eq!(of(&world, &node(1)), stopped, "nothing was moved");
}

/// In a cut each group has its own moment; the pause of one is not the pause of all.
#[test]
fn a_group_that_stops_a_moment_later_does_not_wait_for_the_pause_of_another() {
    let mut world = World::with_table(5, 4, 12, 2);
    world.settle();
    let groups: Vec<GroupId> = world.state().groups.keys().cloned().collect();
    let failovers = |world: &World| {
        let all = world.state().active().filter(|it| matches!(it.kind, Kind::Failover { .. }));
        all.count()
    };
    world.nodes.break_quorum(&groups[0]);
    // Nobody is fit: the first failover goes on, and the other group does not wait for it either.
    world.nodes.unsynced(&groups[0], true);
    world.until("a failover", |world| failovers(world) == 1);
    let began = world.now;
    world.nodes.break_quorum(&groups[1]);
    world.until("another", |world| failovers(world) == 2);
    world.until("its end", |world| failovers(world) == 1);
    assert!(world.now.since(began) < Millis(3_000), "{:?}", world.now.since(began));
    for _ in 0..200 {
        world.step();
        assert!(failovers(&world) <= 1, "one is enough");
    }
    world.nodes.unsynced(&groups[0], false);
    world.settle();
}

/// It names members that live and do not know it: it can neither leave nor come back.
#[test]
fn a_node_that_is_left_behind_by_restarted_members_is_to_be_restarted_itself() {
    let mut world = World::with_table(7, 4, 1, 2);
    world.settle();
    let (id, members) = group(&world);
    let behind = &members[0];
    world.kill(behind);
    world.until("another copy", |world| {
        let members = &world.state().groups[&id].members;
        !members.contains_key(behind) && members.len() == 2
    });
    world.nodes.thaw_behind(behind, &id);
    world.until("its return", |world| !world.state().nodes[behind].lost);
    assert!(alerted(&world, "left_behind").is_empty(), "not at once");
    let began = world.now;
    world.until("the alert", |world| !alerted(world, "left_behind").is_empty());
    assert!(world.now.since(began) >= Millis(3_000), "the grace, {:?}", world.now.since(began));
    let told = alerted(&world, "left_behind");
    let expected = format!("{behind} waits without a quorum in {id} for members");
    assert!(told.len() == 1 && told[0].starts_with(&expected), "{told:?}");
    assert!(world.nodes.clusters(behind).contains(&id), "nothing was done to it");
    world.kill(behind);
    world.nodes.forget(behind, &id);
    world.start(behind);
    world.settle();
    assert!(alerted(&world, "left_behind").is_empty());
}

/// Until somebody restarts it, others are given what it should have: also where it has another copy and looks as empty as they.
#[test]
fn a_node_that_is_left_behind_holds_nothing_up() {
    for has_others in [false, true] {
        is_made_good_elsewhere(has_others);
    }
}

fn is_made_good_elsewhere(has_others: bool) {
    let mut world = World::with_table(7, 5, 1, 2);
    world.settle();
    let (id, members) = group(&world);
    let is_whole = |world: &World, without: &NodeId| {
        let members = &world.state().groups[&id].members;
        !members.contains_key(without) && members.values().filter(|it| **it == Member::Serving).count() == 2
    };
    world.kill(&members[0]);
    world.until("another copy", |world| is_whole(world, &members[0]));
    world.nodes.thaw_behind(&members[0], &id);
    world.until("the alert", |world| !alerted(world, "left_behind").is_empty());
    if has_others {
        world.made("u", 1, 5);
    }
    world.kill(&members[1]);
    world.until("yet another copy", |world| is_whole(world, &members[1]));
    assert!(world.state().is_left_over(&id, &members[0]), "not on the node that is to be restarted");
    world.kill(&members[0]);
    world.nodes.forget(&members[0], &id);
    world.start(&members[0]);
    world.start(&members[1]);
    world.settle();
}

/// One that the others still name finds them again, or they it.
#[test]
fn a_node_that_is_named_is_not_left_behind() {
    let mut world = World::with_table(7, 4, 1, 2);
    world.settle();
    let (id, members) = group(&world);
    world.nodes.parted.insert(members[0].clone());
    for _ in 0..100 {
        world.step();
        assert_eq!(alerted(&world, "left_behind"), Vec::<String>::new());
    }
    world.nodes.parted.clear();
    world.settle();
    assert_eq!(group(&world).0, id);
}
