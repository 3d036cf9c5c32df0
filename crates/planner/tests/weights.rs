//! Units of different weight: how even, and how few copies.

mod common;

use common::history::{Cluster, Event, Kind, event};
use planner::{Limits, Node, NodeState, Options, Plan, Problem, Unit, plan};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

/// Loads of the active nodes.
fn loads(problem: &Problem, made: &Plan) -> Vec<f64> {
    let active = problem.nodes.iter().filter(|n| n.state == NodeState::Active);
    active.map(|n| made.load[&n.id]).collect()
}

/// Over a long life of small clusters with weights from 1/4 to 7, every plan is even to one unit, and all plans
/// together make few copies more than their bounds.
#[test]
fn plans_are_even_and_near_their_bounds() {
    let mut runner = TestRunner::deterministic();
    let events =
        prop::collection::vec(event(Kind::Weights), 1500).new_tree(&mut runner).expect("events").current();
    let mut cluster = Cluster::new(0);
    let (mut copies, mut bound, mut uneven) = (0, 0, 0.0f64);
    for event in &events {
        cluster.happen(event);
        let made = plan(&cluster.problem, &Limits::default());
        let active = loads(&cluster.problem, &made);
        let most = active.iter().copied().fold(0.0, f64::max);
        let least = active.iter().copied().fold(f64::INFINITY, f64::min);
        let heaviest = cluster.problem.units.iter().map(|u| u.weight).fold(0.0, f64::max);
        // A unit on every node evens nothing, and some units have as many copies as there are nodes.
        assert!(most - least <= heaviest + 1e-9, "{event:?}: {active:?} {:#?}", cluster.problem);
        let share = active.iter().sum::<f64>() / active.len() as f64;
        uneven += if share > 0.0 { most / share - 1.0 } else { 0.0 };
        copies += made.copies;
        bound += made.lower_bound;
        cluster.carry_out(&made, |_| true);
    }
    println!("{copies} copies, bound {bound}, {:.1} % above the share", 100.0 * uneven / events.len() as f64);
    assert!(copies as f64 <= 1.25 * bound as f64, "{copies} copies, bound {bound}");
}

/// One node more: what it gets comes in few, heavy units.
#[test]
fn a_new_node_is_filled_with_few_copies() {
    let mut cluster = Cluster::new(0);
    cluster.happen(&Event::NewTable { units: 40, rf: 2 });
    for (k, unit) in cluster.problem.units.iter_mut().enumerate() {
        unit.weight = 1.0 + (k % 10) as f64;
    }
    let first = plan(&cluster.problem, &Limits::default());
    cluster.carry_out(&first, |_| true);
    cluster.happen(&Event::AddNodes(1));
    let made = plan(&cluster.problem, &Limits::default());
    let total: f64 = made.load.values().sum();
    let new = made.load["n0003"];
    assert!((new - total / 4.0).abs() <= 10.0, "{new} of {total}");
    assert!(made.gap <= 2, "{} copies, bound {}", made.copies, made.lower_bound);
}

/// Where no single unit can move, two change places.
#[test]
fn two_units_change_places() {
    let mut units = Vec::new();
    for (id, weight, node) in [("u9", 9.0, "a"), ("u8", 8.0, "a"), ("u6", 6.0, "b"), ("u3", 3.0, "b")] {
        units.push(Unit { weight, ..Unit::new(id, 1, [node]) });
    }
    let problem =
        Problem { nodes: ["a", "b"].map(Node::active).to_vec(), units, options: Options::default() };
    let made = plan(&problem, &Limits::default());
    assert_eq!(made.load.values().copied().collect::<Vec<_>>(), [11.0, 15.0], "from 17 and 9");
    assert_eq!(made.copies, 2);
}
