//! One run: a cluster is made, people use it, things go wrong, faults end, and all must be well.

use crate::bugs::Bug;
use crate::chance::Chance;
use crate::faults::{self, Fault, Turn};
use crate::invariants::{convergence, quorums};
use crate::people;
use crate::play::{self, TableIs};
use crate::report::RunReport;
use crate::story::Story;
use crate::wire::{Owner, Task};
use crate::world::{Event, World};
use model::Settings;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub faults: Vec<Fault>,
    pub bug: Option<Bug>,
    /// Whether the report tells what happened.
    pub story: bool,
}

const CLIENTS: i64 = 4;
/// How often the quorums of all groups are looked at, ms.
const QUORUMS_EVERY: u64 = 1_000;
/// A cluster that is not ready by then never will be.
const READY_LIMIT: u64 = 120_000;

pub fn settings() -> Settings {
    Settings { node_loss_grace_seconds: 8, replication_groups_per_node: 2, ..Settings::development() }
}

/// Runs one seed to its end.
pub fn run(plan: &Plan) -> RunReport {
    let story = Story::told(plan.story);
    RunReport::caught(plan.seed, &story, || play(plan, story.clone()))
}

fn play(plan: &Plan, story: Story) -> RunReport {
    let mut shape = Chance::new(plan.seed ^ 0x5eed);
    let controllers = 1 + shape.index(3);
    let mut world = match World::new(plan.seed, settings(), controllers, plan.bug) {
        Ok(world) => world,
        Err(error) => return RunReport::impossible(plan.seed, error),
    };
    world.story = story;
    let nodes = 3 + shape.index(3);
    build(&mut world, nodes);
    if world.violations.is_empty() {
        create_first(&mut world, &mut shape);
    }
    if world.violations.is_empty() {
        trouble(&mut world, plan, &mut shape);
    }
    if world.violations.is_empty() {
        faults::end(&mut world);
        world.run_to(world.now + 3_000);
        world.play.borrow_mut().over = true;
        people::tidy(&mut world);
        convergence::reach(&mut world);
    }
    finish(plan.seed, world)
}

/// What a run came to.
pub fn finish(seed: u64, mut world: World) -> RunReport {
    if !world.violations.is_empty() {
        crate::story::state(&mut world);
    }
    let acknowledged = world.play.borrow().acknowledged;
    RunReport {
        seed,
        violations: world.violations,
        crash_points: world.sweep.passed,
        crashed: world.sweep.crashed,
        faults: world.faults,
        coverage: world.coverage,
        virtual_ms: world.now,
        steps: world.steps,
        story: world.story.lines(),
        acknowledged,
    }
}

/// Nodes that are members of the user's cluster and known to the controller.
pub fn build(world: &mut World, nodes: usize) {
    world.play.borrow_mut().controllers = world.seats.len();
    for _ in 0..nodes {
        world.add_node();
    }
    faults::refresh_live(world);
    world.run_to(world.now + 1_000);
    let first = world.machines[0].node.clone();
    for at in 0..nodes {
        let (node, first, play) = (world.machines[at].node.clone(), first.clone(), world.play.clone());
        world.spawn(Task::new(Owner::Client, |wire| play::join_user_cluster(wire, play, node, first)));
    }
    until(world, READY_LIMIT, "the controller knows all nodes", |world| {
        world.leader().is_some_and(|leader| leader.controller.state().nodes.len() == nodes)
    });
}

/// Tables and the clients that write to them.
fn create_first(world: &mut World, shape: &mut Chance) {
    let tables = 1 + shape.below(3);
    for number in 0..tables {
        let (shards, rf) = (shape.between(1, 3) as u32, shape.between(1, 3) as u32);
        let play = world.play.clone();
        world.spawn(Task::new(Owner::Client, |wire| {
            play::create(wire, play, format!("t{number}"), shards, rf)
        }));
    }
    until(world, READY_LIMIT, "the first tables are there", |world| {
        world.play.borrow().tables.values().filter(|table| table.is == TableIs::There).count() as u64
            == tables
    });
    clients(world, shape.between(100, 800));
}

pub fn clients(world: &mut World, pause_max: u64) {
    for number in 0..CLIENTS {
        let (play, seed) = (world.play.clone(), world.chance.draw());
        world.spawn(Task::new(Owner::Client, |wire| play::client(wire, play, number, seed, pause_max)));
    }
}

/// Faults of the plan, at moments drawn from the seed; now and then two at once.
fn trouble(world: &mut World, plan: &Plan, shape: &mut Chance) {
    let begins = world.now;
    let lasts = shape.between(20_000, 70_000);
    let strikes = 2 + shape.below(8);
    for _ in 0..strikes {
        let at = begins + shape.below(lasts);
        let fault = shape.pick(&plan.faults);
        if let Some(fault) = fault {
            world.push(at, Event::Fault(Turn::Strike(*fault)));
        }
        // What is being made meets faults, too.
        if shape.hits(if fault == Some(&Fault::TableCreated) { 700 } else { 300 })
            && let Some(fault) = shape.pick(&plan.faults)
        {
            world.push(at + shape.below(1_500), Event::Fault(Turn::Strike(*fault)));
        }
    }
    while world.violations.is_empty() && world.now < begins + lasts {
        world.run_to((begins + lasts).min(world.now + QUORUMS_EVERY));
        quorums::check(world);
    }
}

/// Runs until `done`, with a limit.
pub fn until(world: &mut World, limit: u64, what: &str, mut done: impl FnMut(&mut World) -> bool) {
    let end = world.now + limit;
    while world.violations.is_empty() && !done(world) {
        if world.now >= end {
            return world.violate("8 convergence", format!("not within {} s: {what}", limit / 1_000));
        }
        world.run_to(world.now + 100);
    }
}
