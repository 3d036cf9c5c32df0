//! What holds for operations of every kind: each of their steps can be done twice and can fail, and so can each undo.
//! Hand-overs, which have more ways, are in `hand_over`.

use super::world::{Refused, World, node};
use control::operation::Status;
use model::StepId;
use model::wire::ShardingStatement;

/// A kind of operation, and how it comes about in a cluster of three nodes.
struct Case {
    kind: &'static str,
    begin: fn(&mut World),
}

const CASES: [Case; 10] = [
    Case { kind: "create", begin: create },
    Case { kind: "drop", begin: drop_table },
    Case { kind: "failover", begin: lose_a_node },
    Case { kind: "return", begin: lose_and_return },
    Case { kind: "cleanup", begin: lose_for_long },
    Case { kind: "move", begin: grow },
    Case { kind: "remove node", begin: remove },
    Case { kind: "let go", begin: lose_all },
    Case { kind: "remake", begin: lose_all },
    Case { kind: "user cluster", begin: lose_all },
];

fn filled(nodes: usize) -> World {
    World::warmed_up(7, nodes)
}

fn table(world: &mut World) {
    world.made("u", 4, 2);
    for _ in 0..40 {
        world.write("u");
        world.step();
    }
    world.settle();
}

fn create(world: &mut World) {
    world.create("t", 4, 2);
}

fn drop_table(world: &mut World) {
    table(world);
    world.drop("u");
}

fn lose_a_node(world: &mut World) {
    table(world);
    world.kill(&node(2));
}

fn lose_and_return(world: &mut World) {
    lose_a_node(world);
    world.until("the loss", |world| world.state().nodes[&node(2)].lost);
    world.start(&node(2));
}

fn lose_for_long(world: &mut World) {
    lose_a_node(world);
    world.until("copies elsewhere", |world| world.state().leftovers.contains_key(&node(2)));
    world.until("rest", |world| world.state().operations.is_empty());
    world.start(&node(2));
}

fn grow(world: &mut World) {
    table(world);
    world.add_node(4);
}

fn remove(world: &mut World) {
    table(world);
    world.ask(ShardingStatement::DrainNode { node: node(3) });
    world.until("an empty node", |world| {
        let holds = world.state().groups.values().any(|group| group.members.contains_key(&node(3)));
        !holds && world.state().operations.is_empty()
    });
    world.ask(ShardingStatement::RemoveNode { node: node(3) });
}

fn lose_all(world: &mut World) {
    table(world);
    for n in 1..=3 {
        world.kill(&node(n));
    }
    for n in 1..=3 {
        world.start(&node(n));
    }
}

impl Case {
    /// A cluster in which the operation is about to begin.
    fn world(&self) -> World {
        // A drained node must leave enough of them.
        filled(if self.kind == "remove node" || self.kind == "cleanup" { 4 } else { 3 })
    }

    /// The steps of its longest operation.
    fn steps(&self) -> usize {
        let mut world = self.world();
        (self.begin)(&mut world);
        let mut most = 0;
        self.watch(&mut world, |world| {
            let of_kind = world.state().operations.values().filter(|it| it.name() == self.kind);
            most = of_kind.map(|it| it.steps.len()).max().unwrap_or(0).max(most);
        });
        assert!(most > 0, "no {} came", self.kind);
        most
    }

    /// Until one is over and all is at rest.
    fn watch(&self, world: &mut World, mut seen: impl FnMut(&World)) {
        world.until(self.kind, |world| {
            seen(world);
            let over = world.state().finished.iter().any(|it| it.name() == self.kind);
            over && world.state().operations.is_empty()
        });
        world.settle();
    }
}

#[test]
fn every_step_of_every_kind_can_be_done_twice() {
    for case in &CASES {
        let mut world = case.world();
        world.twice = true;
        (case.begin)(&mut world);
        case.watch(&mut world, |_| ());
    }
}

#[test]
fn every_step_of_every_kind_can_fail() {
    for case in &CASES {
        for step in 0..case.steps() {
            let mut world = case.world();
            let step = StepId(step as u64);
            (case.begin)(&mut world);
            world.refused = Some(Refused { kind: case.kind, step, undo: false, times: 12 });
            case.watch(&mut world, |_| ());
            world.refused = None;
            world.settle();
        }
    }
}

#[test]
fn every_undo_can_be_done_twice_and_fail() {
    for case in CASES.iter().filter(|case| ["create", "move"].contains(&case.kind)) {
        let count = case.steps();
        let mut undone = 0;
        for last in 1..count {
            for undo in [0, last / 2, last - 1] {
                let mut world = case.world();
                world.twice = true;
                (case.begin)(&mut world);
                let (kind, undo) = (case.kind, StepId(undo as u64));
                // Two of a kind can run side by side.
                world.refused = Some(Refused { kind, step: StepId(last as u64), undo: false, times: 10 });
                let back = |world: &World| {
                    world.state().operations.values().any(|it| it.status == Status::Unwinding)
                };
                world.until("a way back, or an end", |world| {
                    let over = world.state().finished.iter().any(|it| it.name() == kind);
                    back(world) || over && world.state().operations.is_empty()
                });
                if back(&world) {
                    undone += 1;
                    world.refused = Some(Refused { kind, step: undo, undo: true, times: 3 });
                }
                case.watch(&mut world, |_| ());
            }
        }
        assert!(undone > 2, "{}: {undone} were taken back", case.kind);
    }
}
