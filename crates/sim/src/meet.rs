//! The table of faults and operations: each fault begins while an operation of each kind is under way, and all must be
//! well afterwards. Cells that nothing can bring about are named with their reason.

use crate::faults::{self, Fault, Turn};
use crate::play::{self, TableIs};
use crate::report::RunReport;
use crate::run::{finish, until};
use crate::story::Story;
use crate::sweep::{self, Operation};
use crate::wire::{Owner, Task};
use crate::world::{Event, World};

/// A copy of each shard may be lost, and another be far away.
const NODES: usize = 5;
/// An operation that has not begun by then never will.
const BEGINS_WITHIN: u64 = 90_000;
/// Until what the fault leads to has happened.
const LASTS: u64 = 30_000;
/// The node is lost, and back before the grace is over.
const EARLY: u64 = 4_000;
/// The node is lost, its copies are made good elsewhere, and it is back.
const LATE: u64 = 30_000;

/// What brings operations of a kind about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    Order(Operation),
    /// A node is back before its copies were made good elsewhere.
    Return,
    /// A node is back after its copies were made good elsewhere.
    LateReturn,
    /// All nodes die, and start through the gate.
    TotalLoss,
}

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// As the controller names it.
    pub kind: &'static str,
    occasion: Occasion,
}

impl Met {
    pub const ALL: [Self; 14] = {
        const fn order(kind: &'static str, operation: Operation) -> Met {
            Met { kind, occasion: Occasion::Order(operation) }
        }
        [
            order("create", Operation::Create),
            order("drop", Operation::Drop),
            order("failover", Operation::Failover),
            order("move", Operation::Move),
            order("shed", Operation::FewerCopies),
            Self { kind: "return", occasion: Occasion::Return },
            Self { kind: "cleanup", occasion: Occasion::LateReturn },
            order("reroute", Operation::Reroute),
            order("remove node", Operation::Remove),
            order("change rf", Operation::MoreCopies),
            order("hand over", Operation::ToOneCopy),
            order("every shard", Operation::EveryShard),
            Self { kind: "let go", occasion: Occasion::TotalLoss },
            Self { kind: "remake", occasion: Occasion::TotalLoss },
        ]
    };

    /// As part of a scenario's name.
    pub fn slug(self) -> String {
        self.kind.replace(' ', "-")
    }

    /// Why no fault of this kind can begin while such an operation is under way.
    pub fn impossible(self, fault: Fault) -> Option<&'static str> {
        let for_good = matches!(fault, Fault::NodeGone | Fault::TwoNodesGone);
        let one_is_away = matches!(self.kind, "failover" | "let go" | "remake");
        (for_good && one_is_away)
            .then_some("a node is away already, and another that never comes back could take the last copy")
    }

    const fn operation(self) -> Operation {
        match self.occasion {
            Occasion::Order(operation) => operation,
            Occasion::Return | Occasion::LateReturn | Occasion::TotalLoss => Operation::Return,
        }
    }

    fn begin(self, world: &mut World) {
        match self.occasion {
            Occasion::Order(operation) => operation.begin(world),
            Occasion::Return | Occasion::LateReturn => {
                let after = if self.occasion == Occasion::Return { EARLY } else { LATE };
                sweep::down(world, 0);
                world.push(world.now + after, Event::Fault(Turn::StartNode { at: 0 }));
            }
            Occasion::TotalLoss => {
                faults::rest_and_die(world);
            }
        }
    }
}

/// One run; a cell that is not hit is a violation.
pub fn run(seed: u64, fault: Fault, met: Met, story: bool) -> RunReport {
    let story = Story::told(story);
    RunReport::caught(seed, &story, || play(seed, fault, met, story.clone()))
}

fn play(seed: u64, fault: Fault, met: Met, story: Story) -> RunReport {
    let mut world = match sweep::prepare(seed, met.operation(), NODES, None, story) {
        Ok(world) => world,
        Err(report) => return *report,
    };
    // Whatever becomes of the first table, there is one for what people do to tables.
    let play = world.play.clone();
    world.spawn(Task::new(Owner::Client, |wire| play::create(wire, play, "t9".to_owned(), 1, 2)));
    until(&mut world, 60_000, "the second table is there", |world| {
        world.play.borrow().tables.get("t9").is_some_and(|table| table.is == TableIs::There)
    });
    met.begin(&mut world);
    let limit = world.now + BEGINS_WITHIN;
    let mut hit = false;
    while world.violations.is_empty() && !hit && world.now < limit {
        world.run_to(world.now + 1);
        let runs = |world: &World| {
            world
                .leader()
                .is_some_and(|leader| leader.controller.state().active().any(|it| it.name() == met.kind))
        };
        hit = runs(&world) && faults::strike(&mut world, fault);
    }
    match (hit, met.impossible(fault)) {
        (false, None) => {
            let detail = format!("no '{}' began while '{}' was under way", fault.name(), met.kind);
            world.violate("coverage", detail);
        }
        (true, Some(reason)) => {
            let detail = format!("'{}' met '{}' although {reason}", fault.name(), met.kind);
            world.violate("coverage", detail);
        }
        _ => {}
    }
    world.run_to(world.now + LASTS);
    sweep::converge(&mut world);
    finish(seed, world)
}
