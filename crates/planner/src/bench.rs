//! Problems for `bench planner`: seeded and pure, so that every machine measures the same work.
//!
//! Holds no clock and prints nothing; the command takes the time of [`crate::plan`] on each [`Case`] and prints the
//! table.

use crate::problem::{Node, NodeState, Options, Problem, Unit};

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    /// Nodes, units and copies per unit.
    pub nodes: u32,
    pub units: u32,
    pub rf: u32,
    pub event: Event,
    /// What the plan may take on one core of a small machine, where a goal is set.
    pub goal_ms: Option<u32>,
}

/// What has happened to a cluster that was even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing is placed yet.
    Empty,
    /// So many nodes came.
    Added(u32),
    /// So many nodes went.
    Lost(u32),
    Drained(u32),
    /// One node went and one came.
    Replaced,
}

/// All cases, the goals first, then the curve from 10^3 to 10^7 copies.
pub fn cases() -> Vec<Case> {
    let case = |name, nodes, units, rf, event, goal_ms| Case { name, nodes, units, rf, event, goal_ms };
    let million = |name, event| case(name, 1000, 333_334, 3, event, Some(1000));
    let curve = |nodes, units| case("curve, a node added", nodes, units, 3, Event::Added(1), None);
    vec![
        million("1,000 nodes, 10^6 copies, a node added", Event::Added(1)),
        million("1,000 nodes, 10^6 copies, a node lost", Event::Lost(1)),
        million("1,000 nodes, 10^6 copies, a node drained", Event::Drained(1)),
        million("1,000 nodes, 10^6 copies, a node replaced", Event::Replaced),
        million("1,000 nodes, 10^6 copies, three nodes lost", Event::Lost(3)),
        case("50 nodes, 1,000 units of rf 2, from empty", 50, 1000, 2, Event::Empty, Some(5)),
        case("3 nodes, 30,000 units of rf 1, three added", 3, 30_000, 1, Event::Added(3), Some(100)),
        case("3 nodes, 30,000 units of rf 2, three added", 3, 30_000, 2, Event::Added(3), Some(100)),
        curve(10, 334),
        curve(10, 3_334),
        curve(100, 33_334),
        curve(1000, 333_334),
        curve(1000, 3_333_334),
    ]
}

impl Case {
    /// The problem to solve.
    pub fn problem(&self) -> Problem {
        let mut problem = if self.event == Event::Empty {
            empty(self.nodes, self.units, self.rf)
        } else {
            even(self.nodes, self.units, self.rf, 1)
        };
        let state = |problem: &mut Problem, count: u32, state| {
            for node in problem.nodes.iter_mut().take(count as usize) {
                node.state = state;
            }
        };
        match self.event {
            Event::Empty => {}
            Event::Added(count) => problem.nodes.extend((self.nodes..self.nodes + count).map(node)),
            Event::Lost(count) => state(&mut problem, count, NodeState::Down),
            Event::Drained(count) => state(&mut problem, count, NodeState::Draining),
            Event::Replaced => {
                state(&mut problem, 1, NodeState::Down);
                problem.nodes.push(node(self.nodes));
            }
        }
        problem
    }

    pub fn copies(&self) -> u64 {
        u64::from(self.units) * u64::from(self.rf)
    }
}

fn node(number: u32) -> Node {
    Node::active(format!("n{number:04}:9308"))
}

/// Equal nodes and equal units that are nowhere yet.
pub fn empty(nodes: u32, units: u32, rf: u32) -> Problem {
    Problem {
        nodes: (0..nodes).map(node).collect(),
        units: (0..units).map(|u| Unit::new(format!("u{u:07}"), rf, [])).collect(),
        options: Options::default(),
    }
}

/// Equal nodes and equal units, spread by chance and evenly to a copy.
pub fn even(nodes: u32, units: u32, rf: u32, seed: u64) -> Problem {
    let mut problem = empty(nodes, units, rf);
    let rf = rf.min(nodes) as usize;
    let copies = units as usize * rf;
    let mut slots: Vec<u32> = (0..copies).map(|k| (k % nodes.max(1) as usize) as u32).collect();
    let mut random = SplitMix(seed);
    for k in (1..copies).rev() {
        slots.swap(k, random.below(k + 1));
    }
    // A unit that drew a node twice trades with another unit where that makes no new double.
    for k in 0..copies {
        let unit = |k: usize| k / rf * rf..k / rf * rf + rf;
        while slots[unit(k)].iter().filter(|&&s| s == slots[k]).count() > 1 {
            let other = random.below(copies);
            if !slots[unit(k)].contains(&slots[other]) && !slots[unit(other)].contains(&slots[k]) {
                slots.swap(k, other);
            } else if unit(other).len() == copies {
                break;
            }
        }
    }
    for (unit, nodes) in problem.units.iter_mut().zip(slots.chunks_exact(rf.max(1))) {
        unit.replicas = nodes.iter().map(|&i| problem.nodes[i as usize].id.clone()).collect();
    }
    problem
}

/// S. Vigna's `SplitMix64`: a seed gives the same numbers everywhere.
struct SplitMix(u64);

impl SplitMix {
    /// A number from 0 to `bound − 1`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, lint, plan};

    #[test]
    fn problems_are_even_and_stay_as_they_are() {
        for (nodes, units, rf) in [(3, 100, 2), (10, 333, 3), (3, 7, 3), (5, 0, 2), (7, 20, 1)] {
            let problem = even(nodes, units, rf, 5);
            problem.check().expect("sensible");
            let made = plan(&problem, &Limits::default());
            assert_eq!(made.moves, [], "{nodes} nodes, {units} units of rf {rf}");
        }
    }

    #[test]
    fn events_of_the_cases_meet_their_bounds() {
        for mut case in cases() {
            case.nodes = case.nodes.min(20);
            case.units = case.units.min(200);
            let problem = case.problem();
            let made = plan(&problem, &Limits::default());
            lint::check(&problem, &made).expect("valid");
            assert_eq!(made.gap, 0, "{}", case.name);
            assert!(!made.moves.is_empty(), "{}", case.name);
        }
    }
}
