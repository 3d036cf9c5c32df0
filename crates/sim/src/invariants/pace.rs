//! A part of invariant 8: what cannot be done now is tried again with pauses, so that the work on it is bounded.

use crate::world::World;
use model::CommandId;

const WINDOW: u64 = 10_000;
/// More than the growing pauses between tries leave room for, with turns of leaders among them.
const TRIES_MAX: usize = 30;

/// A sidecar begins a command.
pub fn command_begins(world: &mut World, at: usize, id: CommandId) {
    let now = world.now;
    let tries = world.watch.tries.entry((id.operation, id.step)).or_default();
    tries.push_back(now);
    while tries.front().is_some_and(|first| first + WINDOW < now) {
        tries.pop_front();
    }
    let count = tries.len();
    if count > TRIES_MAX {
        let node = &world.machines[at].node;
        let (operation, step) = (id.operation, id.step);
        let detail = format!("{node} is given step {step:?} of operation {operation} {count} times in 10 s");
        world.violate("8 convergence", detail);
    }
}
