//! Invariant 8: when faults stop, everything becomes what it should be in bounded time, and stays so.

use super::{documents, leftovers, quorums, routes};
use crate::people;
use crate::world::World;
use model::wire::{ShardingStatement, StatementReply};

/// Nothing to do for this long counts as rest.
const REST: u64 = 15_000;
/// By then everything must be at rest: the longest deadline of a command, twice, and the graces of a failure.
const LIMIT: u64 = 900_000;
/// What is wrong at rest stays wrong after this.
const PATIENCE: u64 = 120_000;
/// People do what alerts ask of them that need no decision, when nothing else has come of it for so long.
const OBEYED_AFTER: u64 = 60_000;
const LOOK_INTERVAL: u64 = 500;
/// An alert that is not over says so in its last column.
const FIRING: &str = "firing";
/// The first says what was, until somebody takes note of it. Copies are counted by `routes`: there can be too few nodes for more.
const JUDGED_ELSEWHERE: [&str; 2] = ["multiple_failures", "under_replicated"];
/// By then people do what alerts have been telling them.
const DECIDED_AFTER: u64 = 300_000;

/// Runs until all is at rest, then checks what holds only there.
pub fn reach(world: &mut World) {
    let limit = world.now + LIMIT;
    let mut decided_at = Some(world.now + DECIDED_AFTER);
    let mut quiet_since = world.now;
    let mut last = None;
    while world.violations.is_empty() {
        world.run_to(world.now + LOOK_INTERVAL);
        quorums::check(world);
        let at = world.leader().map(|leader| {
            let state = leader.controller.state();
            (state.last, state.operations.is_empty())
        });
        let quiet = at.is_some_and(|(_, idle)| idle) && world.play.borrow().asking == 0;
        if !quiet || at != last {
            quiet_since = world.now;
            last = at;
        }
        if world.now >= quiet_since + REST {
            match wrong(world) {
                None => return,
                // Leftovers of a node that gives its old group up only after a while.
                Some(_) if world.now < quiet_since + PATIENCE => {
                    if world.now >= quiet_since + OBEYED_AFTER {
                        people::restart_the_named(world);
                    }
                }
                Some((invariant, detail)) => return world.violate(invariant, detail),
            }
        }
        if decided_at.take_if(|at| world.now >= *at).is_some() {
            people::decide(world);
        }
        if world.now >= limit {
            let open = open_operations(world);
            return world.violate("8 convergence", format!("not at rest after {} s: {open}", LIMIT / 1_000));
        }
    }
}

fn wrong(world: &mut World) -> Option<(&'static str, String)> {
    if let Some(detail) = routes::converged(world) {
        return Some(("3 routes", detail));
    }
    if let Some(detail) = documents::converged(world) {
        return Some(("1 documents", detail));
    }
    if let Some(detail) = leftovers::converged(world) {
        return Some(("6 leftovers", detail));
    }
    let alerts = shown(world, &ShardingStatement::ShowAlerts);
    let stays =
        |row: &String| row.ends_with(FIRING) && !JUDGED_ELSEWHERE.iter().any(|kind| row.contains(kind));
    let firing = alerts.into_iter().find(stays)?;
    Some(("8 convergence", format!("an alert that stays: {firing}")))
}

/// What the controller itself says of its queue, and what people must know.
fn open_operations(world: &World) -> String {
    let shown = |statement| shown(world, statement).join("; ");
    format!("{}; alerts: {}", shown(&ShardingStatement::ShowQueue), shown(&ShardingStatement::ShowAlerts))
}

/// The rows of what the controller shows, as text.
fn shown(world: &World, statement: &ShardingStatement) -> Vec<String> {
    let Some(leader) = world.leader() else { return vec!["nobody leads".to_owned()] };
    let StatementReply::Rows { rows, .. } = leader.controller.show(statement) else {
        return vec!["nothing is shown".to_owned()];
    };
    let row = |row: Vec<Option<String>>| row.into_iter().flatten().collect::<Vec<_>>().join(" | ");
    rows.into_iter().map(row).collect()
}
