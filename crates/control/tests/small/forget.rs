//! What a node is to forget before it starts: groups that have gone on without it.

use super::world::{Fault, World, node};
use model::operate::{GateReply, OrderReply};
use model::wire::{ShardingStatement, StatementReply};
use model::{Action, GroupId, NodeId, RouteSpec};
use std::collections::BTreeSet;

fn gate(world: &mut World, of: &NodeId) -> GateReply {
    let request = world.ask(ShardingStatement::Gate { node: of.clone() });
    world.until("the gate's word", |world| world.answers.contains_key(&request));
    match world.answers[&request].clone() {
        StatementReply::Object(object) => match *object {
            OrderReply::Gate(gate) => gate,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// What it may forget; none while it is held back.
fn forget(world: &mut World, of: &NodeId) -> BTreeSet<GroupId> {
    gate(world, of).forget.into_iter().collect()
}

/// A node is gone for so long that all its copies were made elsewhere.
fn without_one(seed: u64) -> (World, NodeId, BTreeSet<GroupId>) {
    let mut world = World::with_table(seed, 4, 6, 2);
    world.settle();
    let away = node(1);
    let groups = world.state().groups.iter();
    let of: BTreeSet<GroupId> =
        groups.filter(|(_, group)| group.members.contains_key(&away)).map(|(id, _)| id.clone()).collect();
    assert!(!of.is_empty());
    world.kill(&away);
    world.until("its loss", |world| world.state().nodes[&away].lost);
    assert_eq!(forget(&mut world, &away), BTreeSet::new(), "it is a member");
    world.until("other copies", |world| {
        let groups = &world.state().groups;
        of.iter().all(|id| groups[id].serving().count() == 2 && !groups[id].members.contains_key(&away))
            && world.state().active().next().is_none()
    });
    (world, away, of)
}

#[test]
fn groups_that_have_gone_on_are_forgotten() {
    for seed in super::seeds(4) {
        let (mut world, away, of) = without_one(seed);
        assert_eq!(forget(&mut world, &away), of);
        assert_eq!(forget(&mut world, &node(2)), BTreeSet::new(), "a member of all of its own");
        // A copy of a group without a quorum may be needed.
        let stopped = of.first().expect("one").clone();
        world.nodes.break_quorum(&stopped);
        world.until("it to be kept", |world| !forget(world, &away).contains(&stopped));
    }
}

/// Rule 4: a plain copy would acknowledge what comes to it.
#[test]
fn no_group_is_forgotten_while_somebody_may_route_to_the_copy() {
    let (mut world, away, of) = without_one(3);
    let (asked, table) = (node(2), super::world::table("t"));
    let mut route = world.nodes.route(&asked, "t").expect("a route").clone();
    let right = route.clone();
    let schema = world.state().tables[&table].spec.schema.clone();
    for copies in &mut route.shards {
        copies.push(away.clone());
        copies.sort();
    }
    let write = |world: &mut World, route| {
        let routes = vec![RouteSpec { route, schema: schema.clone() }];
        world.nodes.run(&asked, &Action::SetRoutes { routes }, Fault::None);
    };
    write(&mut world, route);
    world.until("the old route to be seen", |world| forget(world, &away).is_empty());
    write(&mut world, right);
    world.until("the new one to be seen", |world| forget(world, &away) == of);
}
