//! Controllers that nodes must not listen to.

use super::{create, with_tables};
use crate::chance::Chance;
use crate::faults::{self, Turn};
use crate::world::{Event, World};

/// The controller of the nodes is away for some time, and all their sidecars come upon another one, for other nodes.
pub fn two_logs(world: &mut World, chance: &mut Chance) {
    with_tables(world, &[("t0", 2, 2)], chance);
    world.start_foreign();
    world.run_to(world.now + chance.between(3_000, 8_000));
    world.kill_controller(0);
    let away = chance.between(3_000, 15_000);
    world.push(world.now + away, Event::Fault(Turn::StartController { at: 0 }));
    world.run_to(world.now + away + 2_000);
    create(world, "t1", 2, 2);
    let victim = chance.index(world.machines.len());
    world.run_to(world.now + chance.between(500, 5_000));
    faults::happen(world, Turn::KillNode { at: victim });
    world.push(world.now + chance.between(2_000, 15_000), Event::Fault(Turn::StartNode { at: victim }));
    world.run_to(world.now + 20_000);
}
