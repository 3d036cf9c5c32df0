//! The controller dies at a step boundary of one operation: before the record, after it, after the command, before
//! the reply. With every boundary in turn, every operation survives a crash anywhere.

use crate::bugs::Bug;
use crate::faults;
use crate::invariants::convergence;
use crate::play::{self, TableIs};
use crate::report::RunReport;
use crate::run::{build, clients, finish, settings, until};
use crate::story::Story;
use crate::wire::{Owner, Task};
use crate::world::World;

/// Operations that are swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Failover,
    Growth,
    Drop,
}

/// Until a fault of a node has led to everything it leads to.
const LASTS: u64 = 45_000;

impl Operation {
    pub const ALL: [Self; 4] = [Self::Create, Self::Failover, Self::Growth, Self::Drop];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Failover => "failover",
            Self::Growth => "growth",
            Self::Drop => "drop",
        }
    }

    fn begin(self, world: &mut World) {
        let play = world.play.clone();
        match self {
            Self::Create => {
                world.spawn(Task::new(Owner::Client, |wire| play::create(wire, play, "t1".to_owned(), 2, 2)));
            }
            Self::Drop => {
                world.spawn(Task::new(Owner::Client, |wire| play::drop(wire, play, "t0".to_owned())));
            }
            Self::Failover => {
                world.machines[0].disturbed = world.now;
                world.kill_node(0);
                faults::refresh_live(world);
            }
            Self::Growth => {
                let first = world.machines[0].node.clone();
                let at = world.add_node();
                let node = world.machines[at].node.clone();
                world
                    .spawn(Task::new(Owner::Client, |wire| play::join_user_cluster(wire, play, node, first)));
            }
        }
    }
}

/// One run; without a point nobody dies and the boundaries are counted.
pub fn run(seed: u64, operation: Operation, point: Option<u64>, bug: Option<Bug>, story: bool) -> RunReport {
    // Every other seed has a standby, which takes over before the dead one is back.
    let controllers = 1 + (seed % 2) as usize;
    let mut world = match World::new(seed, settings(), controllers, bug) {
        Ok(world) => world,
        Err(error) => return RunReport::impossible(seed, error),
    };
    world.story = Story::told(story);
    build(&mut world, 3);
    let play = world.play.clone();
    world.spawn(Task::new(Owner::Client, |wire| play::create(wire, play, "t0".to_owned(), 2, 2)));
    until(&mut world, 60_000, "the first table is there", |world| {
        world.play.borrow().tables.get("t0").is_some_and(|table| table.is == TableIs::There)
    });
    clients(&mut world, 400);
    world.run_to(world.now + 2_000);
    world.sweep.armed = true;
    world.sweep.crash_at = point;
    operation.begin(&mut world);
    world.run_to(world.now + if operation == Operation::Failover { LASTS } else { LASTS / 3 });
    world.sweep.armed = false;
    if world.violations.is_empty() {
        faults::end(&mut world);
        world.play.borrow_mut().over = true;
        convergence::reach(&mut world);
    }
    finish(seed, world)
}
