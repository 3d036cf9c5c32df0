//! Invariant 5: one leader per epoch; no command begins under an epoch that its node knows to be over, or after its
//! deadline.

use crate::world::World;
use control::Record;
use model::{CommandId, Epoch};

/// These records are in the log.
pub fn appended(world: &mut World, at: usize, records: &[Record]) {
    let life = world.seats[at].life;
    for record in records {
        match record {
            Record::LeaderElected { epoch, .. } => {
                let me = (at, life);
                let other = world.watch.leaders.insert(*epoch, me);
                if other.is_some_and(|other| other != me) {
                    world.violate("5 leaders", format!("epoch {epoch} has the leaders {me:?} and {other:?}"));
                }
            }
            Record::StepStarted { operation, step, attempt, deadline_ms, .. } => {
                let id = CommandId { operation: *operation, step: *step, attempt: *attempt };
                world.watch.deadlines.insert(id, world.now + deadline_ms);
            }
            Record::OperationStarted { operation, .. } => super::floor::operation_begins(world, *operation),
            _ => {}
        }
    }
}

/// A sidecar is told an epoch.
pub fn orders_arrive(world: &mut World, at: usize, epoch: Epoch) {
    let known = world.watch.epochs.entry(at).or_default();
    *known = epoch.max(*known);
}

/// A sidecar has decided to carry a command out.
pub fn command_begins(world: &mut World, at: usize, id: CommandId, epoch: Epoch) {
    super::pace::command_begins(world, at, id);
    let known = world.watch.epochs.get(&at).copied().unwrap_or_default();
    let node = world.machines[at].node.clone();
    if epoch < known {
        world
            .violate("5 leaders", format!("{node} begins {id:?} of epoch {epoch} although it knows {known}"));
    }
    match world.watch.deadlines.get(&id) {
        Some(deadline) if world.now <= *deadline => {}
        Some(deadline) => {
            let late = world.now - deadline;
            world.violate("5 leaders", format!("{node} begins {id:?} {late} ms after its deadline"));
        }
        None => world.violate("5 leaders", format!("{node} begins {id:?}, which stands in no log")),
    }
}
