//! What a group's members can miss.

use super::{create, drop, is, wait, with_tables};
use crate::chance::Chance;
use crate::faults::{self, Fault, Turn};
use crate::play::TableIs;
use crate::world::World;

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
