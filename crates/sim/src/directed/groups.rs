//! What a group's members can miss.

use super::{create, drop, is, wait, with_tables};
use crate::chance::Chance;
use crate::faults::{self, Fault, Turn};
use crate::invariants::routes;
use crate::play::{Gate, TableIs};
use crate::world::{Event, World};
use model::NodeId;

/// By then a group whose members have died is seen without a quorum for 1.5 s, and no node routes to it.
const WITHDRAWN_AFTER: u64 = 8_000;

/// A table shares its groups with another one. It is dropped and made again, while a member does not hear the others
/// and answers the controller all the same.
pub fn missed_change(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 1, 3), ("t1", 3, 3)], chance);
    // The last of the nodes: the first one makes the tables.
    let at = 2;
    faults::cut_off(world, at, Fault::BetweenNodes);
    world.run_to(world.now + chance.between(2_500, 6_000));
    drop(world, "t0");
    wait(world, 10_000, |world| is(world, "t0", TableIs::Gone));
    create(world, "t0", 1, 3);
    world.run_to(world.now + chance.between(3_000, 10_000));
    faults::happen(world, Turn::Reconnect { at });
    wait(world, 60_000, |world| is(world, "t0", TableIs::Gone) || is(world, "t0", TableIs::There));
    create(world, "t0", 1, 3);
    world.run_to(world.now + 10_000);
}

/// Both nodes of a shard die and are back after a while. Meanwhile UPDATEs reach the other shards.
pub fn no_quorum(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 2)], chance);
    let shards = routes::shown(world, 0, "t0").map(|route| route.shards).unwrap_or_default();
    let number = chance.index(shards.len());
    let of = |node: &NodeId| world.machines.iter().position(|machine| machine.node == *node);
    let mut victims: Vec<usize> = shards.get(number).into_iter().flatten().filter_map(of).collect();
    if chance.hits(500) {
        victims.reverse();
    }
    // What was acknowledged a moment ago is only where it was written.
    world.play.borrow_mut().resting = true;
    world.run_to(world.now + 5_000);
    let away = chance.between(25_000, 45_000);
    let mut back = away + 500;
    let dead = victims.iter().map(|at| world.machines[*at].node.clone()).collect();
    for at in victims {
        faults::happen(world, Turn::KillNode { at });
        let node = world.machines[at].node.clone();
        world.play.borrow_mut().gates.insert(node, Gate::Shut);
        world.push(world.now + back, Event::Fault(Turn::AtGate { at }));
        back += chance.between(500, 3_000);
    }
    {
        let mut play = world.play.borrow_mut();
        play.updates_unsure_until = world.now + WITHDRAWN_AFTER;
        play.only_updates = Some(dead);
        play.resting = false;
    }
    world.run_to(world.now + away);
    // Nobody writes over what was lost.
    let all = world.machines.iter().map(|machine| machine.node.clone()).collect();
    world.play.borrow_mut().only_updates = Some(all);
    world.run_to(world.now + 20_000);
}

/// What was acknowledged long ago is on every copy, and comes back with them.
pub fn power_cut(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 2), ("t1", 2, 1)], chance);
    world.play.borrow_mut().resting = true;
    world.run_to(world.now + chance.between(5_000, 15_000));
    faults::happen(world, Turn::AllDie);
    world.run_to(world.now + 30_000);
}
