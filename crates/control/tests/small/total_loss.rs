//! A whole cluster that was down comes back with the newest copy of everything, in whatever order its nodes start.

use super::world::{World, node, table};
use control::operation::Kind;
use control::state::{Halt, Member};
use model::wire::{ShardingStatement, StatementReply};
use model::{GroupId, NodeId};

pub(super) fn filled(seed: u64, nodes: usize, shards: u32, rf: u32) -> World {
    let mut world = World::warmed_up(seed, nodes);
    world.made("t", shards, rf);
    for _ in 0..100 {
        world.write("t");
        world.step();
    }
    world.settle();
    world
}

pub(super) fn group(world: &World) -> (GroupId, Vec<NodeId>) {
    let (id, group) = world.state().groups.iter().next().expect("a group");
    (id.clone(), group.members.keys().cloned().collect())
}

pub(super) fn steps(world: &mut World, count: usize) {
    for _ in 0..count {
        world.step();
    }
}

fn alerts(world: &World) -> String {
    let StatementReply::Rows { rows, .. } = world.controller.show(&ShardingStatement::ShowAlerts) else {
        return String::new();
    };
    let lines = rows.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" | "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Who waits, and for what; nobody: the node may start.
pub(super) fn gate(world: &mut World, of: &NodeId) -> Vec<String> {
    let request = world.ask(ShardingStatement::Gate { node: of.clone() });
    world.until("the gate's word", |world| world.answers.contains_key(&request));
    let StatementReply::Rows { rows, .. } = world.answers[&request].clone().for_sql() else {
        panic!("no rows")
    };
    rows.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(": ")).collect()
}

#[test]
fn a_cluster_that_was_down_comes_back_by_itself() {
    for seed in super::seeds(6) {
        let mut world = filled(seed, 4, 6, 2);
        world.nodes.second_wins = seed % 2 == 0;
        for n in 1..=4 {
            world.kill(&node(n));
        }
        steps(&mut world, 100);
        let first = 1 + world.random.below(4);
        for n in 0..4 {
            world.start(&node(1 + (first + n) % 4));
            let pause = world.random.below(100);
            steps(&mut world, pause);
        }
        steps(&mut world, 200);
        world.settle();
        for _ in 0..20 {
            world.write("t");
        }
        assert_eq!(world.failed_writes, 0);
        world.settle();
    }
}

/// Of two that were members to the end one has not applied the last writes. It starts second, and wins on its own.
#[test]
fn the_fuller_copy_is_found_whoever_starts_second() {
    for older in 0..2 {
        let mut world = filled(3, 3, 1, 2);
        world.nodes.second_wins = true;
        let (id, members) = group(&world);
        for n in 1..=3 {
            world.kill(&node(n));
        }
        world.nodes.forget_newest(&members[older], "system.t_s0", 5);
        world.start(&members[1 - older]);
        steps(&mut world, 5);
        world.start(&members[older]);
        world.until("the new history", |world| world.state().groups[&id].halt == Some(Halt::Anew));
        for router in world.nodes.live() {
            world.until("no route", |world| world.nodes.route(&router, "t").is_none());
        }
        for n in 1..=3 {
            if !world.nodes.is_live(&node(n)) {
                world.start(&node(n));
            }
        }
        world.until("it to be made anew", |world| world.state().groups[&id].halt.is_none());
        world.settle();
    }
}

/// Down to the last member, by the log: who left before it is older, however long it is waited for.
fn last_member_away(seed: u64) -> (World, GroupId, NodeId, NodeId) {
    let mut world = filled(seed, 3, 1, 2);
    world.nodes.second_wins = true;
    let (id, members) = group(&world);
    let (older, newest) = (members[0].clone(), members[1].clone());
    world.kill(&older);
    world.until("a quorum without it", |world| world.state().groups[&id].newest == [newest.clone()].into());
    world.until("its route", |world| {
        world.nodes.route(&newest, "t").is_some_and(|route| route.shards[0] == [newest.clone()])
    });
    for _ in 0..10 {
        world.write("t");
    }
    for n in 1..=3 {
        world.kill(&node(n));
    }
    steps(&mut world, 20);
    world.start(&older);
    for n in (1..=3).filter(|n| node(*n) != newest && node(*n) != older) {
        world.start(&node(n));
    }
    steps(&mut world, 1_000);
    (world, id, older, newest)
}

#[test]
fn an_older_copy_waits_for_the_newest() {
    let (mut world, id, older, newest) = last_member_away(5);
    assert_eq!(world.state().groups[&id].halt, Some(Halt::Stopped), "{}", alerts(&world));
    assert_eq!(world.nodes.route(&older, "t"), None);
    assert!(alerts(&world).contains(&format!("it waits for: {newest}")), "{}", alerts(&world));
    assert!(gate(&mut world, &newest).is_empty());
    world.start(&newest);
    world.until("it to be made anew", |world| world.state().groups[&id].halt.is_none());
    world.settle();
}

/// Of two one is restarted while the other stands still: it finds nobody, lets go, and waits for that one, which goes on with
/// the group when it is back.
#[test]
fn a_group_goes_on_with_the_member_that_stood_still_after_the_other_has_let_go() {
    for taken_for_lost in [false, true] {
        let mut world = filled(6, 3, 1, 2);
        let (id, members) = group(&world);
        let [restarted, still] = &members[..] else { panic!("{members:?}") };
        world.kill(still);
        world.kill(restarted);
        if taken_for_lost {
            world.until("the loss", |world| world.state().nodes[restarted].lost);
        } else {
            steps(&mut world, 20);
        }
        world.start(restarted);
        world.until("it to let go", |world| !world.nodes.clusters(restarted).contains(&id));
        assert_eq!(world.state().groups[&id].halt, Some(Halt::Stopped), "{}", alerts(&world));
        let state = world.state().groups[&id].members[restarted];
        assert_eq!(state, if taken_for_lost { Member::Returning } else { Member::Serving });
        world.nodes.thaw(still);
        world.settle();
        assert!(world.state().groups[&id].members.values().all(|member| *member == Member::Serving));
    }
}

/// The one that serves dies when the other has just come back and was not compared yet: restarted, it has lost its place, and
/// the other may not go on.
#[test]
fn a_group_that_nobody_may_give_a_quorum_is_made_anew() {
    let mut world = filled(11, 3, 1, 2);
    let (id, members) = group(&world);
    let (other, newest) = (members[0].clone(), members[1].clone());
    world.kill(&other);
    world.until("a quorum without it", |world| world.state().groups[&id].newest == [newest.clone()].into());
    world.until("its route", |world| {
        world.nodes.route(&newest, "t").is_some_and(|route| route.shards[0] == [newest.clone()])
    });
    for _ in 0..10 {
        world.write("t");
    }
    world.start(&other);
    world.until("its return", |world| {
        let status = world.nodes.status(&other, false).expect("it lives");
        status.clusters[&id].is_synced() && world.state().groups[&id].members[&other] == Member::Returning
    });
    world.kill(&newest);
    // Who leads from now on has not seen that the other one has all that was written without it.
    world.restart_controller();
    world.until("its loss", |world| world.state().nodes[&newest].lost);
    steps(&mut world, 400);
    assert_eq!(world.state().groups[&id].halt, Some(Halt::NoQuorum), "{}", alerts(&world));
    world.start(&newest);
    world.until("it to be made anew", |world| world.state().groups[&id].halt.is_none());
    assert_eq!(world.state().groups[&id].newest, [newest].into());
    world.settle();
}

#[test]
fn an_operator_takes_the_copy_that_there_is() {
    let (mut world, id, older, newest) = last_member_away(6);
    let lost: Vec<i64> = {
        let held = world.nodes.rows(&older, "system.t_s0").expect("a copy").clone();
        world.acknowledged["system.t_s0"].difference(&held).copied().collect()
    };
    assert_eq!(lost.len(), 10);
    let other = (1..=3).map(node).find(|n| *n != older && *n != newest).expect("a third");
    for (from, why) in [(&other, "is no member"), (&newest, "does not answer")] {
        let request = world.ask(ShardingStatement::RecoverGroup { group: id.clone(), from: from.clone() });
        world.step();
        let reply = format!("{:?}", world.answers[&request]);
        assert!(reply.contains(why), "{reply}");
    }
    let request = world.ask(ShardingStatement::RecoverGroup { group: id.clone(), from: older.clone() });
    world.step();
    assert_eq!(world.answers[&request], StatementReply::Ok);
    // What only the other one had is given up.
    for id in lost {
        world.acknowledged.get_mut("system.t_s0").expect("known").remove(&id);
    }
    world.until("it to be made anew", |world| world.state().groups[&id].halt.is_none());
    world.settle();
    world.start(&newest);
    world.settle();
}

#[test]
fn copies_that_contradict_each_other_are_left_for_an_operator() {
    let mut world = filled(7, 3, 1, 2);
    let (id, members) = group(&world);
    for n in 1..=3 {
        world.kill(&node(n));
    }
    world.nodes.forget_newest(&members[0], "system.t_s0", 1);
    world.nodes.insert_row(&members[0], "system.t_s0", 100_000);
    for n in 1..=3 {
        world.start(&node(n));
        steps(&mut world, 20);
    }
    steps(&mut world, 1_000);
    assert!(alerts(&world).contains("an operator"), "{}", alerts(&world));
    assert!(world.state().groups[&id].halt.is_some());
    let request = world.ask(ShardingStatement::RecoverGroup { group: id, from: members[1].clone() });
    world.step();
    assert_eq!(world.answers[&request], StatementReply::Ok);
    world.settle();
}

#[test]
fn a_table_can_be_dropped_while_its_group_is_stopped() {
    let mut world = filled(9, 3, 2, 2);
    for n in 1..=3 {
        world.kill(&node(n));
    }
    for n in 1..=3 {
        world.start(&node(n));
    }
    steps(&mut world, 30);
    // Refused until the user's cluster is whole, which comes first.
    world.until("the drop", |world| {
        let request = world.drop("t");
        world.until("a word", |world| world.answers.contains_key(&request));
        world.answers[&request] == StatementReply::Ok
    });
    assert!(!world.state().tables.contains_key(&table("t")));
    world.settle();
}

/// The members live, their connections do not: nobody may be written to, and it is told.
#[test]
fn a_group_without_quorum_is_not_routed_and_alerts() {
    let mut world = filled(10, 3, 1, 2);
    let (id, members) = group(&world);
    world.nodes.break_quorum(&id);
    world.nodes.unsynced(&id, true);
    world.until("the halt", |world| world.state().groups[&id].halt == Some(Halt::NoQuorum));
    steps(&mut world, 60);
    assert_eq!(world.nodes.route(&members[0], "t"), None);
    assert!(alerts(&world).contains("no_quorum"), "{}", alerts(&world));
    world.nodes.unsynced(&id, false);
    world.until("a quorum", |world| world.state().groups[&id].halt.is_none());
    world.settle();
    let fires = |line: &str| line.contains("no_quorum") && line.contains("firing");
    assert!(!alerts(&world).lines().any(fires), "{}", alerts(&world));
}

/// A failover can wait for just that: the operator's word that the lost will not be back.
#[test]
fn the_removal_of_a_lost_node_does_not_wait_for_a_failover() {
    let mut world = filled(5, 4, 1, 2);
    let (id, members) = group(&world);
    world.nodes.unsynced(&id, true);
    world.kill(&members[0]);
    let fails_over = |world: &World| {
        let mut kinds = world.state().active().map(|operation| &operation.kind);
        kinds.any(|kind| matches!(kind, Kind::Failover { .. }))
    };
    world.until("the failover", |world| fails_over(world));
    assert_eq!(world.told(ShardingStatement::RemoveNode { node: members[0].clone() }), StatementReply::Ok);
    world.until("the removal", |world| !world.state().nodes.contains_key(&members[0]));
    assert!(fails_over(&world), "nobody is fit to go on yet");
    world.nodes.unsynced(&id, false);
    world.settle();
    assert_eq!(world.state().groups[&id].serving().count(), 2);
}
