//! What a group's members can miss.

use super::{create, drop, is, wait, with_tables};
use crate::chance::Chance;
use crate::faults::{self, Fault, Turn};
use crate::invariants::routes;
use crate::play::{Gate, TableIs};
use crate::world::{Event, World};
use control::state::Group;
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

/// The nodes that the first one routes this shard of the table to.
fn with_a_copy(world: &mut World, table: &str, number: usize) -> Vec<usize> {
    let shards = routes::shown(world, 0, table).map(|route| route.shards).unwrap_or_default();
    let of = |node: &NodeId| world.machines.iter().position(|machine| machine.node == *node);
    shards.get(number).into_iter().flatten().filter_map(of).collect()
}

/// Both nodes of a shard die and are back after a while. Meanwhile UPDATEs reach the other shards.
pub fn no_quorum(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 2)], chance);
    let number = chance.index(2);
    let mut victims = with_a_copy(world, "t0", number);
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

/// So long a piece takes at least: those of all shards of a group together take longer than a JOIN may stand still.
const PIECE_TAKES: u64 = 10_000;
/// Longer than one try of a JOIN takes, or than all of them.
const SHARDS: [u32; 2] = [24, 72];
const COPIED_WITHIN: u64 = 6_000_000;

/// A node is gone for good, and its copies are made anew on another, slowly; one that is copied from may die meanwhile or right
/// after, and is back soon.
pub fn long_copies(world: &mut World, chance: &mut Chance) {
    let shards = SHARDS[chance.index(SHARDS.len())];
    with_tables(world, &[("t0", shards, 3)], chance);
    // Nobody's statement waits out a copy.
    world.play.borrow_mut().resting = true;
    world.net.piece_takes = PIECE_TAKES + chance.below(3_000);
    let mut copies = with_a_copy(world, "t0", 0);
    let lost = copies.swap_remove(chance.index(copies.len()));
    faults::happen(world, Turn::KillNode { at: lost });
    world.machines[lost].gone = true;
    let copies_now = |world: &World| world.machines.iter().any(|it| it.sidecar.borrow().copying.is_some());
    wait(world, 60_000, copies_now);
    if chance.hits(500) {
        world.run_to(world.now + chance.below(150 * PIECE_TAKES));
        let at = copies[chance.index(copies.len())];
        faults::happen(world, Turn::KillNode { at });
        world.push(world.now + chance.between(500, 20_000), Event::Fault(Turn::StartNode { at }));
    }
    wait(world, COPIED_WITHIN, |world| {
        let whole = |group: &Group| group.serving().count() >= group.rf as usize;
        world.leader().is_some_and(|leader| leader.controller.state().groups.values().all(whole))
    });
    world.play.borrow_mut().resting = false;
    world.run_to(world.now + 10_000);
}

/// What one alone acknowledged is there again with it, and not overwritten by the older copy that waits for it.
pub fn stood_still(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 3, 2), ("t1", 2, 2)], chance);
    let at = chance.index(world.machines.len());
    let lasts = chance.between(2_500, 15_000);
    world.freeze_node(at, lasts);
    let life = world.machines[at].life;
    world.push(world.now + lasts, Event::Fault(Turn::ThawNode { at, life }));
    // While it shows what it was before, or shortly after.
    let dies = world.now + lasts + chance.below(2_500);
    world.push(dies, Event::Fault(Turn::KillBeside { at }));
    world.run_to(world.now + lasts + 40_000);
}

/// What was acknowledged long ago is on every copy, and comes back with them.
pub fn power_cut(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 2), ("t1", 2, 1)], chance);
    world.play.borrow_mut().resting = true;
    world.run_to(world.now + chance.between(5_000, 15_000));
    faults::happen(world, Turn::AllDie);
    world.run_to(world.now + 30_000);
}
