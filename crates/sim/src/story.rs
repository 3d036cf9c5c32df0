//! What happened in a run, line by line, for people who look for a cause: faults, statements that change something,
//! their answers, and records of controllers.

use crate::world::World;
use control::Record;
use engine::{Reply, SqlError};
use std::cell::RefCell;
use std::rc::Rc;

/// Lines in the order of virtual time; kept only when they are asked for. Clones share them: a program that panics takes
/// its world along, and not what happened in it.
#[derive(Clone, Debug, Default)]
pub struct Story {
    lines: Option<Rc<RefCell<Vec<String>>>>,
}

impl Story {
    pub fn told(wanted: bool) -> Self {
        Self { lines: wanted.then(Rc::default) }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.as_ref().map(|lines| lines.borrow().clone()).unwrap_or_default()
    }

    pub fn add(&self, now: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().push(format!("{now:>8} {}", line()));
        }
    }
}

pub fn records(world: &mut World, at: usize, records: &[Record]) {
    for record in records {
        let text = || format!("controller {at}: {}", serde_json::to_string(record).unwrap_or_default());
        world.story.add(world.now, text);
    }
}

/// What nodes show of their clusters, and what the controller that leads knows.
pub fn state(world: &mut World) {
    for at in 0..world.machines.len() {
        let (node, clusters) = (world.machines[at].node.clone(), crate::invariants::clusters(world, at));
        let threads = world.peek(at, "SHOW THREADS");
        world.story.add(world.now, || format!("{node} shows {clusters:?}, and runs {threads:?}"));
    }
    for (at, seat) in world.seats.iter().enumerate() {
        let leads = seat.process.as_ref().map(|process| (process.epoch(), process.due));
        let frozen = seat.frozen;
        world.story.add(world.now, || {
            format!("controller {at} leads with, and is due: {leads:?}, frozen: {frozen}")
        });
    }
    for machine in &world.machines {
        let sidecar = machine.sidecar.borrow();
        let (controller, epoch, polls) = (sidecar.controller, sidecar.disk.epoch, sidecar.polls_under_way);
        let node = &machine.node;
        world.story.add(world.now, || {
            format!("the sidecar of {node} has epoch {epoch}, asks controller {controller}, {polls} polls under way")
        });
    }
    let Some(leader) = world.leader() else { return };
    let state = serde_json::to_string(leader.controller.state()).unwrap_or_default();
    world.story.add(world.now, || format!("the leader's state: {state}"));
}

/// A statement that changes something arrives at a node.
pub fn statement(world: &mut World, at: usize, from: &str, sql: &str) {
    if changes(sql) {
        let node = &world.machines[at].node;
        world.story.add(world.now, || format!("{node} from {from}: {sql}"));
    }
}

pub fn reply(world: &mut World, at: usize, sql: &str, reply: &Result<Reply, SqlError>) {
    if changes(sql) {
        let node = &world.machines[at].node;
        let came = || reply.as_ref().map_or_else(|error| format!("{error:?}"), |_| "done".to_owned());
        world.story.add(world.now, || format!("{node}: {} <- {sql}", came()));
    }
}

/// Whether it does more than look.
pub fn changes(sql: &str) -> bool {
    !["SELECT", "SHOW", "DESC"].iter().any(|word| sql.starts_with(word))
}
