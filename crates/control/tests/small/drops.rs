//! The drop of a table that groups were made for: it goes first, then the groups, which are empty.

use super::world::{Refused, Slow, World, node, table};
use control::RequestId;
use control::operation::{Kind, Step, StepStatus};
use model::wire::{ShardingStatement, StatementReply};
use model::{Action, GroupId, Millis, NodeId, OperationId, Settings, StepId};
use std::collections::BTreeSet;

fn filled(seed: u64) -> World {
    let mut world = World::warmed_up(seed, 3);
    world.made("t", 12, 2);
    for _ in 0..40 {
        world.write("t");
        world.step();
    }
    world.settle();
    world
}

fn groups(world: &World) -> BTreeSet<GroupId> {
    world.state().groups.keys().cloned().collect()
}

/// The groups of a table that was just made and dropped.
fn emptied(world: &mut World) -> BTreeSet<GroupId> {
    world.made("t", 24, 2);
    world.settle();
    let before = groups(world);
    let drop = world.drop("t");
    assert_eq!(world.answer_to(drop), StatementReply::Ok);
    before
}

/// What was done by the drop itself.
fn done(world: &World) -> Vec<Action> {
    let drops = world.state().finished.iter().filter(|it| matches!(it.kind, Kind::DropTable { .. }));
    let steps = drops.flat_map(|it| &it.steps).filter(|step| step.status == StepStatus::Done);
    steps.filter_map(|step| step.work.action().cloned()).collect()
}

fn leaves(action: &Action) -> bool {
    matches!(action, Action::ExitCluster { .. } | Action::DeleteCluster { .. })
}

fn nodes() -> [NodeId; 3] {
    [node(1), node(2), node(3)]
}

#[test]
fn a_table_is_gone_before_its_groups_are() {
    let mut world = filled(11);
    let all = groups(&world);
    assert!(all.len() > 1, "{all:?}");
    let request = world.drop("t");
    assert_eq!(world.answer_to(request), StatementReply::Ok);
    assert!(nodes().iter().all(|node| world.nodes.shards(node).is_empty()), "copies are left");
    assert!(groups(&world).is_empty() && world.state().tables.is_empty());
    assert!(!done(&world).iter().any(leaves), "nobody waited for an EXIT");
    let there = nodes().iter().flat_map(|node| world.nodes.clusters(node)).collect::<BTreeSet<_>>();
    assert!(there.is_superset(&all), "the clusters go afterwards");
    world.settle();
    assert!(nodes().iter().all(|node| world.nodes.clusters(node).len() == 1), "only the user's is left");
}

/// A node does one command of a cluster at a time, so the groups are not all told by the same.
#[test]
fn the_members_share_the_work_of_emptying_groups() {
    let mut world = filled(12);
    let request = world.drop("t");
    world.answer_to(request);
    let drop = world.state().finished.back().cloned().expect("the drop");
    let told =
        drop.steps.iter().filter(|step| matches!(step.work.action(), Some(Action::RemoveTables { .. })));
    let told: BTreeSet<NodeId> = told.filter_map(|step| step.node.clone()).collect();
    assert_eq!(told, nodes().into());
}

/// Tables leave a group only while all its members are there; without one it ends with its tables in it.
#[test]
fn a_group_that_is_not_whole_ends_with_its_tables_in_it() {
    let mut world = filled(13);
    let request = world.drop("t");
    world.until("its beginning", |world| world.is_under_way(&node(1), "DROP TABLE"));
    world.kill(&node(2));
    assert_eq!(world.answer_to(request), StatementReply::Ok);
    assert!(done(&world).iter().any(leaves));
    world.start(&node(2));
    world.settle();
    assert!(nodes().iter().all(|node| world.nodes.clusters(node).len() == 1));
}

/// It waits for a move, the move for the routes of a node that was away: nobody else would take those away.
#[test]
fn a_drop_does_not_wait_for_the_old_route_of_a_node_that_was_away() {
    let mut world = World::with_table(18, 4, 1, 2);
    let group = world.state().groups.values().next().expect("a group").clone();
    let from = group.serving().next().expect("a copy").clone();
    let mut others = world.nodes.all().into_iter().filter(|node| !group.members.contains_key(node));
    let (to, away) = (others.next().expect("a node"), others.next().expect("a router"));
    let order = ShardingStatement::MoveShard {
        name: table("t"),
        shard: 0,
        from: from.clone(),
        to: to.clone(),
        split: false,
    };
    world.slow = Some(Slow { takes: Millis(4_000), goes_on: Millis(4_000) });
    world.told(order);
    world.until("the JOIN", |world| world.is_under_way(&to, "JOIN CLUSTER"));
    let drop = world.drop("t");
    for _ in 0..40 {
        world.step();
    }
    let routed = |node: &NodeId| world.nodes.route(node, "t").is_some();
    assert!(world.nodes.all().iter().all(routed), "clients keep what nobody waits for");
    world.nodes.kill(&away);
    world.until("its loss", |world| world.state().nodes[&away].lost);
    world.until("all but the EXIT", |world| {
        let moves = world.state().operations.values().find(|it| it.name() == "move").expect("the move");
        moves.steps.iter().any(|step| step.work.class() == "AWAIT QUIET" && step.status == StepStatus::Done)
    });
    world.nodes.thaw(&away);
    let routed = world.nodes.route(&away, "t").expect("the old route").clone();
    assert!(routed.shards[0].contains(&from), "{routed:?}");
    assert_eq!(world.answer_to(drop), StatementReply::Ok);
    world.settle();
}

/// Its group stops as a whole, with the shard of another table in it, and is let go of only where nobody routes to it.
#[test]
fn a_waiting_drop_keeps_no_route_to_a_group_that_has_stopped() {
    let mut world = World::warmed_up(21, 4);
    world.made("t", 24, 2);
    world.made("u", 1, 2);
    world.settle();
    let home = world.state().tables[&table("u")].homes[0].clone();
    let place = world.state().tables[&table("t")].homes.iter().position(|other| *other == home);
    let shard = place.expect("they share a group") as u32;
    let members: Vec<NodeId> = world.state().groups[&home].members.keys().cloned().collect();
    let to = world.nodes.all().into_iter().find(|node| !members.contains(node)).expect("another");
    world.slow = Some(Slow { takes: Millis(4_000), goes_on: Millis(4_000) });
    let from = members[0].clone();
    let split = false;
    world.told(ShardingStatement::MoveShard { name: table("t"), shard, from, to: to.clone(), split });
    world.until("the JOIN", |world| world.is_under_way(&to, "JOIN CLUSTER"));
    let drop = world.drop("u");
    world.step();
    for node in members.iter().chain([&to]) {
        world.kill(node);
    }
    for node in members.iter().chain([&to]) {
        world.start(node);
    }
    world.until("the stop", |world| world.state().groups[&home].halt.is_some());
    assert_eq!(world.answer_to(drop), StatementReply::Ok);
    world.settle();
}

/// It answers, and will not be synced any more.
#[test]
fn a_member_whose_replication_stopped_does_not_hold_a_drop_up() {
    let mut world = filled(16);
    world.nodes.fill_disk(&node(1));
    let request = world.drop("t");
    assert_eq!(world.answer_to(request), StatementReply::Ok);
    world.settle();
}

#[test]
fn a_group_without_quorum_ends_with_its_tables_in_it() {
    let mut world = filled(14);
    let broken = groups(&world).pop_first().expect("a group");
    world.nodes.unsynced(&broken, true);
    world.nodes.break_quorum(&broken);
    let request = world.drop("t");
    for _ in 0..20 {
        world.step();
    }
    world.nodes.unsynced(&broken, false);
    assert_eq!(world.answer_to(request), StatementReply::Ok);
    world.settle();
}

/// Then its members leave it, as if it were not whole.
#[test]
fn tables_that_cannot_be_taken_out_of_a_group_go_with_it() {
    let mut world = filled(17);
    let request = world.drop("t");
    world.until("its steps", |world| world.state().operations.values().any(|it| it.name() == "drop"));
    let drop = world.state().operations.values().find(|it| it.name() == "drop").expect("it");
    let takes_out = |step: &Step| matches!(step.work.action(), Some(Action::RemoveTables { .. }));
    let step = StepId(drop.steps.iter().position(takes_out).expect("one") as u64);
    world.refused = Some(Refused { kind: "drop", step, undo: false, times: u32::MAX });
    assert_eq!(world.answer_to(request), StatementReply::Ok);
    assert_eq!(
        done(&world).iter().filter(|action| leaves(action)).count(),
        2,
        "of one group with two members"
    );
    world.settle();
}

/// A member dies at any moment of it.
#[test]
fn a_drop_ends_whoever_dies_meanwhile() {
    for seed in super::seeds(20) {
        let mut world = filled(seed);
        world.drop("t");
        for _ in 0..seed {
            world.step();
        }
        let victim = node(1 + (seed % 3) as usize);
        world.kill(&victim);
        world.until("the end of it", |world| world.state().tables.is_empty());
        world.start(&victim);
        world.settle();
    }
}

fn leave_few_ports(world: &mut World) {
    let wanted = Settings::default().replication_groups_per_node;
    for machine in world.machines.values_mut() {
        // The user's cluster and the groups, and one cluster more.
        machine.replication_ports = Some(2 * (2 + wanted));
    }
    for _ in 0..3 {
        world.step();
    }
}

/// The groups before cannot take it, for its copies are more: else it would get fewer groups than there is room for in a
/// moment, for good.
#[test]
fn a_table_made_at_once_waits_for_the_ports_of_the_groups_before() {
    let mut world = World::warmed_up(15, 3);
    leave_few_ports(&mut world);
    let before = emptied(&mut world);
    world.made("u", 24, 3);
    let wanted = Settings::default().replication_groups_per_node as usize;
    assert_eq!(groups(&world).len(), wanted, "each node has as many as it should");
    assert!(groups(&world).is_disjoint(&before));
    world.settle();
}

/// Nothing is to be joined, and no port is waited for.
#[test]
fn a_table_made_at_once_goes_into_the_groups_that_a_drop_has_emptied() {
    let mut world = World::warmed_up(19, 3);
    leave_few_ports(&mut world);
    let before = emptied(&mut world);
    world.made("u", 24, 2);
    assert_eq!(groups(&world), before);
    let joins = |action: &Action| matches!(action, Action::JoinCluster { .. } | Action::CreateCluster { .. });
    let made = world.state().finished.back().expect("the creation");
    assert!(!made.steps.iter().filter_map(|step| step.work.action()).any(joins));
    for _ in 0..40 {
        world.write("u");
        world.step();
    }
    world.settle();
}

/// It could take no table, and it ends as it would have.
#[test]
fn an_emptied_group_that_is_not_whole_is_not_used_again() {
    let mut world = World::warmed_up(20, 3);
    let broken = emptied(&mut world).pop_first().expect("one");
    world.nodes.break_quorum(&broken);
    for _ in 0..20 {
        world.step();
    }
    world.made("u", 24, 2);
    assert!(!groups(&world).contains(&broken));
    world.settle();
}

/// Groups that were taken up and whose table is not made after all are left over again.
#[test]
fn a_creation_that_is_taken_back_leaves_no_emptied_group_behind() {
    let mut world = World::warmed_up(21, 3);
    let before = emptied(&mut world);
    let request = world.create("u", 24, 2);
    world.until("its steps", |world| world.state().operations.values().any(|it| it.name() == "create"));
    assert_eq!(groups(&world), before);
    world.kill(&node(2));
    assert!(matches!(world.answer_to(request), StatementReply::Error { .. }));
    world.start(&node(2));
    world.settle();
    assert!(groups(&world).is_empty());
    assert!(nodes().iter().all(|node| world.nodes.clusters(node).len() == 1), "only the user's is left");
}

/// A drop that does not get on: `told` is to take the table out of `home`, in which there are shards of `u`, too.
struct Stuck {
    request: RequestId,
    home: GroupId,
    drop: OperationId,
    step: StepId,
    told: NodeId,
}

impl Stuck {
    fn is_ordered(&self, world: &mut World) {
        world.until("the order", |world| {
            let step = world.state().operations[&self.drop].step(self.step);
            step.is_some_and(|step| step.status == StepStatus::Started)
        });
    }
}

fn stuck_drop(seed: u64) -> (World, Stuck) {
    let mut world = World::warmed_up(seed, 3);
    world.made("t", 12, 2);
    world.made("u", 12, 2);
    world.settle();
    let home = world.state().tables[&table("t")].homes[0].clone();
    assert!(world.state().groups[&home].shards.len() > 1, "it is not alone in its group");
    let request = world.drop("t");
    world.until("its steps", |world| world.state().operations.values().any(|it| it.name() == "drop"));
    let operation = world.state().operations.values().find(|it| it.name() == "drop").expect("it");
    let takes_out = |step: &Step| matches!(step.work.action(), Some(Action::RemoveTables { group, .. }) if *group == home);
    let at = operation.steps.iter().position(takes_out).expect("one");
    let (drop, step) = (operation.id, StepId(at as u64));
    let told = operation.steps[at].node.clone().expect("a member");
    world.refused = Some(Refused { kind: "drop", step, undo: false, times: u32::MAX });
    world.lost = true;
    (world, Stuck { request, home, drop, step, told })
}

/// The group stays, for another table's sake: its tables are taken out by another member.
#[test]
fn a_drop_from_a_group_that_stays_ends_though_the_member_dies_that_was_told() {
    let (mut world, stuck) = stuck_drop(18);
    stuck.is_ordered(&mut world);
    let Stuck { request, told, .. } = stuck;
    world.kill(&told);
    world.until("its loss", |world| world.state().nodes[&told].lost);
    world.refused = None;
    assert_eq!(world.answer_to(request), StatementReply::Ok);
    world.start(&told);
    world.settle();
}

/// All members of a group that stays die, the newest last: nobody is left behind, and no older copy becomes the group.
#[test]
fn a_drop_from_a_group_that_stays_gives_nobody_up_when_all_its_members_are_lost() {
    for sent in [true, false] {
        let (mut world, stuck) = stuck_drop(19);
        if sent {
            stuck.is_ordered(&mut world);
        }
        let Stuck { request, home, told, .. } = stuck;
        let members = &world.state().groups[&home].members;
        let older = members.keys().find(|node| **node != told).cloned().expect("another");
        world.kill(&older);
        world.until("a quorum without it", |world| {
            world.state().groups[&home].newest == [told.clone()].into()
        });
        for _ in 0..40 {
            world.write("u");
            world.step();
        }
        world.kill(&told);
        world.until("its loss", |world| world.state().nodes[&told].lost);
        world.start(&older);
        for _ in 0..400 {
            world.step();
        }
        world.refused = None;
        let known = &world.state().groups[&home];
        assert!(known.newest_holders().contains(&told) && known.members.contains_key(&told), "{known:?}");
        assert_eq!(world.answer_to(request), StatementReply::Ok, "it waits for nobody");
        world.start(&told);
        world.settle();
        assert_eq!(world.state().groups[&home].serving().count(), 2, "both have it again");
    }
}
