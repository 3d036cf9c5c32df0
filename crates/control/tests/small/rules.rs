//! Rules of safety that no other test here is about: see docs/safety.md.

use super::world::{Fault, Refused, World, node, table};
use control::operation::{Operation, StepStatus, Work};
use model::wire::{ShardingStatement, StatementReply};
use model::{Action, Millis, StepId};
use std::collections::BTreeSet;

/// Rule 8: what a node may still hold of an earlier table keeps its name from being used.
#[test]
fn a_name_is_made_again_only_when_no_node_can_hold_the_old_one() {
    let mut world = World::warmed_up(1, 3);
    world.create("t", 4, 2);
    world.until("copies on a node", |world| !world.nodes.shards(&node(2)).is_empty());
    world.kill(&node(2));
    world.until("the undo", |world| world.state().tables.is_empty() && world.state().operations.is_empty());
    let request = world.create("t", 4, 2);
    world.until("a word", |world| world.answers.contains_key(&request));
    let reply = format!("{:?}", world.answers[&request]);
    assert!(reply.contains(&format!("{} may still hold", node(2))), "{reply}");
    world.start(&node(2));
    world.until("the cleaning", |world| world.state().leftovers.is_empty());
    world.made("t", 4, 2);
    world.settle();
}

/// Rule 10: an address is used only while the node behind it is the one that the log knows.
#[test]
fn another_node_under_a_known_address_is_given_no_orders_and_alerts() {
    let mut world = World::warmed_up(2, 3);
    world.made("t", 4, 2);
    world.settle();
    world.kill(&node(3));
    world.until("the loss", |world| world.state().nodes[&node(3)].lost);
    world.impostors.insert(node(3));
    world.start(&node(3));
    for _ in 0..400 {
        world.step();
        assert!(world.state().nodes[&node(3)].lost, "another node is taken for the one that was lost");
    }
    let alerts = format!("{:?}", world.controller.show(&ShardingStatement::ShowAlerts));
    assert!(alerts.contains("node_replaced"), "{alerts}");
    world.impostors.clear();
    world.until("its return", |world| !world.state().nodes[&node(3)].lost);
    world.settle();
}

/// Rule 12: what would undo later writes is not repeated, whatever became of it.
#[test]
fn a_truncate_is_never_repeated() {
    let mut world = World::warmed_up(3, 3);
    world.made("t", 4, 2);
    world.settle();
    // These nodes refuse it.
    let request = world.ask(ShardingStatement::TruncateTable { name: table("t") });
    world.until("its end", |world| world.answers.contains_key(&request));
    assert!(matches!(world.answers[&request], StatementReply::Error { .. }));
    let operation = world.state().finished.back().expect("it is over");
    assert_eq!(operation.name(), "every shard");
    assert!(operation.steps.iter().all(|step| step.attempts <= 1), "{operation:?}");
    world.settle();
}

/// Its node was told to, and lost before anybody heard of it: back in time it would still do it.
#[test]
fn a_truncate_on_a_lost_node_is_not_said_to_be_done() {
    let mut world = World::with_table(7, 3, 1, 2);
    world.refused = Some(Refused { kind: "every shard", step: StepId(0), undo: false, times: 1 });
    world.lost = true;
    let request = world.ask(ShardingStatement::TruncateTable { name: table("t") });
    let told = |world: &World| {
        let mut steps = world.state().operations.values().flat_map(|operation| &operation.steps);
        steps.find(|step| step.status == StepStatus::Started).and_then(|step| step.node.clone())
    };
    world.until("the word to it", |world| told(world).is_some());
    let (lost, began) = (told(&world).expect("told"), world.now);
    world.kill(&lost);
    world.until("its end", |world| world.answers.contains_key(&request));
    let answer = &world.answers[&request];
    assert!(
        matches!(answer, StatementReply::Error { message } if message.contains("was lost")),
        "{answer:?}"
    );
    assert!(world.now.since(began) >= Millis(19_000), "its time is not over yet");
    world.settle();
}

/// Rule 13: EXITs of different nodes and groups wait for each other on real nodes, so there is one at a time.
#[test]
fn one_copy_leaves_its_group_at_a_time() {
    let mut world = World::with_table(4, 3, 12, 3);
    let groups = world.state().groups.len();
    assert!(groups > 1, "{groups} groups");
    let statement = ShardingStatement::SetRf { name: table("t"), cluster: Some("c".to_owned()), rf: 2 };
    world.told(statement);
    let mut exits = BTreeSet::new();
    world.until("two copies of everything", |world| {
        let steps = world.state().operations.values().flat_map(Operation::numbered);
        let exiting: Vec<_> = steps
            .filter(|(_, step)| step.status == StepStatus::Started)
            .filter_map(|(_, step)| match &step.work {
                Work::Command { action: Action::ExitCluster { group, .. } } => Some(group.clone()),
                _ => None,
            })
            .collect();
        assert!(exiting.len() <= 1, "at once: {exiting:?}");
        exits.extend(exiting);
        world.state().groups.values().all(|group| group.members.len() == 2)
    });
    assert_eq!(exits.len(), groups);
    world.settle();
}

/// A node that was being given a route dies with its controller. When it is back its sidecar has seen the new leader and
/// runs nothing: nobody waits for what it was given before.
#[test]
fn a_route_of_an_earlier_leader_holds_nothing_up_once_its_sidecar_is_back() {
    let mut world = World::with_table(22, 3, 4, 2);
    world.refused = Some(Refused { kind: "reroute", step: StepId(0), undo: false, times: 1 });
    world.lost = true;
    let by_hand = Action::DropRoutes { tables: vec![table("t")] };
    world.nodes.run(&node(1), &by_hand, Fault::None);
    world.until("a route", |world| world.is_under_way(&node(1), "CREATE TABLE"));
    world.kill(&node(1));
    world.restart_controller();
    world.until("its loss", |world| world.state().nodes[&node(1)].lost);
    world.start(&node(1));
    world.until("its return", |world| !world.state().nodes[&node(1)].lost);
    let (id, group) = world.state().groups.iter().next().expect("a group");
    let (id, from) = (id.clone(), group.serving().next().expect("a member").clone());
    let to = (1..=3).map(node).find(|node| !group.members.contains_key(node)).expect("another node");
    let shard = group.shards.iter().next().expect("a shard").number;
    let (name, split, left) = (table("t"), false, from.clone());
    world.told(ShardingStatement::MoveShard { name, shard, from, to, split });
    world.until("the move", |world| {
        let waits = world.controller.show(&ShardingStatement::ShowQueue);
        assert!(!format!("{waits:?}").contains("may still be given a route"), "{waits:?}");
        !world.state().groups[&id].members.contains_key(&left)
    });
    world.settle();
}
