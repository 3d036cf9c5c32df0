//! Scenarios that lead straight to what one rule of the safety rules prevents: what happens is fixed, when and where is
//! drawn from the seed. Without a bug each must end well.

mod controllers;
mod groups;
mod names;

use crate::bugs::Bug;
use crate::chance::Chance;
use crate::faults;
use crate::invariants::{convergence, documents};
use crate::people;
use crate::play::{self, TableIs};
use crate::report::RunReport;
use crate::run::{build, clients, finish, settings, until};
use crate::story::Story;
use crate::wire::{Owner, Task};
use crate::world::World;

/// What is led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directed {
    /// Rule 7: a table is dropped and made again while a member of its group is out of view.
    MissedChange,
    /// Rule 12: TRUNCATE fails, and others write on.
    Emptied,
    /// Rule 12: somebody has made a table whose name a creation needs.
    MadeByHand,
    /// Rule 8: a table is dropped and made again with another number of shards.
    SameName,
    /// Rule 2: a shard is without a quorum for long, and clients send UPDATEs.
    NoQuorum,
    /// Rule 11: clients write while a node's route is away.
    RouteGaps,
    /// Rule 10: the sidecars reach another controller with another log.
    TwoLogs,
    /// Rule 14: every node dies at once, a while after the last write.
    PowerCut,
    /// Rule 10: another node, with tables of its own, gets the address of one that was lost.
    AnotherNode,
    /// Rule 13: tables are so large that a copy takes longer than a JOIN may stand still, and sources die in the middle.
    LongCopies,
    /// Rule 3: a copy that went on alone dies when the other one goes on, which stood still.
    StoodStill,
}

impl Directed {
    pub const ALL: [Self; 11] = [
        Self::MissedChange,
        Self::Emptied,
        Self::MadeByHand,
        Self::SameName,
        Self::NoQuorum,
        Self::RouteGaps,
        Self::TwoLogs,
        Self::PowerCut,
        Self::AnotherNode,
        Self::LongCopies,
        Self::StoodStill,
    ];

    /// As the scenario is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissedChange => "missed-change",
            Self::Emptied => "emptied",
            Self::MadeByHand => "made-by-hand",
            Self::SameName => "same-name",
            Self::NoQuorum => "no-quorum",
            Self::RouteGaps => "route-gaps",
            Self::TwoLogs => "two-logs",
            Self::PowerCut => "power-cut",
            Self::AnotherNode => "another-node",
            Self::LongCopies => "long-copies",
            Self::StoodStill => "stood-still",
        }
    }

    const fn nodes(self) -> usize {
        match self {
            Self::NoQuorum => 5,
            Self::AnotherNode | Self::LongCopies => 4,
            _ => 3,
        }
    }

    fn happen(self, world: &mut World, chance: &mut Chance) {
        match self {
            Self::MissedChange => groups::missed_change(world, chance),
            Self::Emptied => names::emptied(world, chance),
            Self::MadeByHand => names::made_by_hand(world, chance),
            Self::SameName => names::same_name(world, chance),
            Self::NoQuorum => groups::no_quorum(world, chance),
            Self::RouteGaps => names::route_gaps(world, chance),
            Self::TwoLogs => controllers::two_logs(world, chance),
            Self::PowerCut => groups::power_cut(world, chance),
            Self::AnotherNode => names::another_node(world, chance),
            Self::LongCopies => groups::long_copies(world, chance),
            Self::StoodStill => groups::stood_still(world, chance),
        }
    }
}

/// Runs one seed to its end.
pub fn run(seed: u64, directed: Directed, bug: Option<Bug>, story: bool) -> RunReport {
    let story = Story::told(story);
    RunReport::caught(seed, &story, || play(seed, directed, bug, story.clone()))
}

fn play(seed: u64, directed: Directed, bug: Option<Bug>, story: Story) -> RunReport {
    let mut chance = Chance::new(seed ^ 0x5eed);
    let mut world = match World::new(seed, settings(), 1, bug) {
        Ok(world) => world,
        Err(error) => return RunReport::impossible(seed, error),
    };
    world.story = story;
    build(&mut world, directed.nodes());
    if world.violations.is_empty() {
        directed.happen(&mut world, &mut chance);
    }
    if world.violations.is_empty() {
        documents::check_kept(&mut world, 0);
        faults::end(&mut world);
        world.run_to(world.now + 3_000);
        world.play.borrow_mut().over = true;
        people::tidy(&mut world);
        convergence::reach(&mut world);
    }
    finish(seed, world)
}

/// Tables that are there, and clients that write to them for a while: name, shards and rf of each.
fn with_tables(world: &mut World, tables: &[(&str, u32, u32)], chance: &mut Chance) {
    for (name, shards, rf) in tables {
        create(world, name, *shards, *rf);
        until(world, 60_000, "the table is there", |world| is(world, name, TableIs::There));
    }
    clients(world, 200);
    world.run_to(world.now + chance.between(3_000, 8_000));
}

fn create(world: &mut World, name: &str, shards: u32, rf: u32) {
    let (play, name) = (world.play.clone(), name.to_owned());
    world.spawn(Task::new(Owner::Client, move |wire| play::create(wire, play, name, shards, rf)));
}

fn drop(world: &mut World, name: &str) {
    let (play, name) = (world.play.clone(), name.to_owned());
    world.spawn(Task::new(Owner::Client, |wire| play::drop(wire, play, name)));
}

fn is(world: &World, name: &str, is: TableIs) -> bool {
    world.play.borrow().tables.get(name).is_some_and(|table| table.is == is)
}

/// Runs until `done`, or for this long at most.
fn wait(world: &mut World, limit: u64, done: impl Fn(&World) -> bool) {
    let end = world.now + limit;
    while world.violations.is_empty() && world.now < end && !done(world) {
        world.run_to(world.now + 100);
    }
}
