//! What happened in a run, line by line, for people who look for a cause: faults, statements that change something,
//! their answers, and records of controllers.

use crate::world::World;
use control::Record;
use engine::{Reply, SqlError};

/// Lines in the order of virtual time; kept only when they are asked for.
#[derive(Debug, Default)]
pub struct Story {
    lines: Option<Vec<String>>,
}

impl Story {
    pub fn told(wanted: bool) -> Self {
        Self { lines: wanted.then(Vec::new) }
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    pub fn add(&mut self, now: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:>8} {}", line()));
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
