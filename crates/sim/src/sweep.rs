//! One operation, and something dies at one of its boundaries: the controller before a record, after it, after the
//! command or before the reply; or the node that is told something, before it did it or after. With every boundary in
//! turn, every operation survives a crash anywhere.

use crate::bugs::Bug;
use crate::faults::{self, Fault, Turn};
use crate::invariants::{convergence, routes};
use crate::people;
use crate::play::{self, TableIs};
use crate::report::RunReport;
use crate::run::{build, clients, finish, settings, until};
use crate::story::Story;
use crate::wire::{Owner, Task};
use crate::world::{Event, World};
use model::NodeId;
use model::wire::ShardingStatement;

/// Operations that are swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Failover,
    Growth,
    Drop,
    Drain,
    Remove,
    GiveUp,
    Move,
    MoveAlone,
    MoreCopies,
    FewerCopies,
    ToOneCopy,
    FromOneCopy,
    Split,
    Return,
    Reroute,
    EveryShard,
}

/// Who dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Victim {
    #[default]
    Controller,
    /// The node that a sidecar tells something that changes it, as often before as after it did so.
    Node,
}

impl Victim {
    pub const ALL: [Self; 2] = [Self::Controller, Self::Node];

    /// Of the scenario's name.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Controller => "sweep-",
            Self::Node => "nodes-",
        }
    }
}

/// Until a fault of a node has led to everything it leads to.
const LASTS: u64 = 45_000;

impl Operation {
    pub const ALL: [Self; 17] = [
        Self::Create,
        Self::Failover,
        Self::Growth,
        Self::Drop,
        Self::Drain,
        Self::Remove,
        Self::GiveUp,
        Self::Move,
        Self::MoveAlone,
        Self::MoreCopies,
        Self::FewerCopies,
        Self::ToOneCopy,
        Self::FromOneCopy,
        Self::Split,
        Self::Return,
        Self::Reroute,
        Self::EveryShard,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Failover => "failover",
            Self::Growth => "growth",
            Self::Drop => "drop",
            Self::Drain => "drain",
            Self::Remove => "remove",
            Self::GiveUp => "give-up",
            Self::Move => "move",
            Self::MoveAlone => "move-alone",
            Self::MoreCopies => "more-copies",
            Self::FewerCopies => "fewer-copies",
            Self::ToOneCopy => "to-one-copy",
            Self::FromOneCopy => "from-one-copy",
            Self::Split => "split",
            Self::Return => "return",
            Self::Reroute => "reroute",
            Self::EveryShard => "every-shard",
        }
    }

    /// Copies of each shard of the first table.
    const fn rf(self) -> u32 {
        match self {
            Self::MoveAlone | Self::FromOneCopy => 1,
            Self::FewerCopies => 3,
            _ => 2,
        }
    }

    const fn shards(self) -> u32 {
        match self {
            // Alone in its group, on one node more than have to have it.
            Self::Move | Self::MoveAlone => 1,
            // More than there may be groups, so that some share one.
            Self::Split => 6,
            _ => 2,
        }
    }

    const fn nodes(self) -> usize {
        match self {
            Self::Drain | Self::Remove | Self::Move | Self::MoveAlone | Self::Split => 4,
            Self::GiveUp => 5,
            _ => 3,
        }
    }

    const fn lasts(self) -> u64 {
        match self {
            Self::Failover | Self::GiveUp | Self::Remove | Self::Return => LASTS,
            _ => LASTS / 3,
        }
    }

    pub(crate) fn begin(self, world: &mut World) {
        let play = world.play.clone();
        let node = world.machines[0].node.clone();
        let task = match self {
            Self::Create => Task::new(Owner::Client, |wire| play::create(wire, play, "t1".to_owned(), 2, 2)),
            Self::Drop => Task::new(Owner::Client, |wire| play::drop(wire, play, "t0".to_owned())),
            Self::Failover => return down(world, 0),
            Self::Return => {
                down(world, 0);
                return world.push(world.now + 12_000, Event::Fault(Turn::StartNode { at: 0 }));
            }
            Self::Growth => {
                let at = world.add_node();
                let (first, node) = (node, world.machines[at].node.clone());
                Task::new(Owner::Client, |wire| play::join_user_cluster(wire, play, node, first))
            }
            Self::Drain => Task::new(Owner::Client, |wire| {
                people::once(wire, play, ShardingStatement::DrainNode { node })
            }),
            Self::Remove => Task::new(Owner::Client, |wire| people::drain_and_remove(wire, play, node)),
            Self::GiveUp => {
                down(world, 0);
                world.machines[0].gone = true;
                Task::new(Owner::Client, |wire| async move {
                    wire.sleep(20_000).await;
                    people::once(wire, play, ShardingStatement::RemoveNode { node }).await
                })
            }
            Self::Move | Self::MoveAlone | Self::Split => return moved(world, self == Self::Split),
            Self::MoreCopies | Self::FewerCopies | Self::FromOneCopy | Self::ToOneCopy => {
                let rf = match self {
                    Self::MoreCopies => 3,
                    Self::ToOneCopy => 1,
                    _ => 2,
                };
                Task::new(Owner::Client, move |wire| people::change_rf(wire, play, "t0".to_owned(), rf))
            }
            Self::Reroute => {
                world.peek(1, "DROP TABLE t0 OPTION force=1");
                return;
            }
            Self::EveryShard => Task::new(Owner::Client, |wire| people::empty(wire, play, "t0".to_owned())),
        };
        world.spawn(task);
    }
}

/// The node dies.
pub fn down(world: &mut World, at: usize) {
    world.machines[at].disturbed = world.now;
    world.kill_node(at);
    faults::refresh_live(world);
}

/// A shard goes to a node that has none of it: the first of those moves that the controller does not refuse.
fn moved(world: &mut World, split: bool) {
    let Some(route) = routes::shown(world, 0, "t0") else { return };
    let nodes: Vec<NodeId> = world.machines.iter().map(|machine| machine.node.clone()).collect();
    let mut orders = Vec::new();
    for (shard, copies) in route.shards.iter().enumerate() {
        for from in copies {
            for to in nodes.iter().filter(|node| !copies.contains(node)) {
                let (name, from, to) = (route.table.clone(), from.clone(), to.clone());
                orders.push(ShardingStatement::MoveShard { name, shard: shard as u32, from, to, split });
            }
        }
    }
    let play = world.play.clone();
    world.spawn(Task::new(Owner::Client, |wire| people::first_of(wire, play, orders)));
}

/// What has been passed, and where somebody dies.
#[derive(Debug, Default)]
pub struct Sweep {
    pub victim: Victim,
    /// Boundaries passed so far.
    pub passed: u64,
    /// The process dies at this one, counted from 1.
    pub crash_at: Option<u64>,
    pub crashed: bool,
    /// Boundaries count only while this is set.
    pub armed: bool,
}

impl Sweep {
    /// One boundary more; whether this is the one.
    pub fn passes(&mut self, victim: Victim) -> bool {
        if !self.armed || self.victim != victim {
            return false;
        }
        self.passed += 1;
        self.crash_at == Some(self.passed)
    }
}

/// A node is about to do what its sidecar tells it, or has just done it; `true`: it dies here.
pub fn node_passes(world: &mut World, at: usize) -> bool {
    if !world.sweep.passes(Victim::Node) || !faults::may_be_killed(world, at) {
        return false;
    }
    world.sweep.crashed = true;
    world.machines[at].disturbed = world.now;
    world.count_fault(Fault::NodeCrash.name());
    world.push(world.now, Event::Fault(Turn::KillNode { at }));
    // Back before it counts as lost, or after its copies were made good elsewhere.
    let down = if world.sweep.passed.is_multiple_of(2) { 3_000 } else { 20_000 };
    world.push(world.now + down, Event::Fault(Turn::StartNode { at }));
    true
}

/// One run; without a point nobody dies and the boundaries are counted.
pub fn run(
    seed: u64,
    swept: (Victim, Operation),
    point: Option<u64>,
    bug: Option<Bug>,
    story: bool,
) -> RunReport {
    let story = Story::told(story);
    RunReport::caught(seed, &story, || play(seed, swept, point, bug, story.clone()))
}

fn play(
    seed: u64,
    (victim, operation): (Victim, Operation),
    point: Option<u64>,
    bug: Option<Bug>,
    story: Story,
) -> RunReport {
    let mut world = match prepare(seed, operation, operation.nodes(), bug, story) {
        Ok(world) => world,
        Err(report) => return *report,
    };
    world.sweep = Sweep { victim, crash_at: point, armed: true, ..Sweep::default() };
    operation.begin(&mut world);
    world.run_to(world.now + operation.lasts());
    world.sweep.armed = false;
    converge(&mut world);
    finish(seed, world)
}

/// Nodes with a table and clients, as the operation wants to find them.
pub fn prepare(
    seed: u64,
    operation: Operation,
    nodes: usize,
    bug: Option<Bug>,
    story: Story,
) -> Result<World, Box<RunReport>> {
    // Every other seed has a standby, which takes over before the dead one is back.
    let controllers = 1 + (seed % 2) as usize;
    let mut world = World::new(seed, settings(), controllers, bug)
        .map_err(|error| Box::new(RunReport::impossible(seed, error)))?;
    world.story = story;
    build(&mut world, nodes);
    let (play, shards, rf) = (world.play.clone(), operation.shards(), operation.rf());
    world.spawn(Task::new(Owner::Client, |wire| play::create(wire, play, "t0".to_owned(), shards, rf)));
    until(&mut world, 60_000, "the first table is there", |world| {
        world.play.borrow().tables.get("t0").is_some_and(|table| table.is == TableIs::There)
    });
    clients(&mut world, 400);
    world.run_to(world.now + 2_000);
    Ok(world)
}

/// Faults end, and all must become well.
pub fn converge(world: &mut World) {
    if world.violations.is_empty() {
        faults::end(world);
        world.play.borrow_mut().over = true;
        people::tidy(world);
        convergence::reach(world);
    }
}
