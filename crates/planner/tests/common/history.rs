//! A cluster that lives: nodes come, go and come back, tables are made and changed, plans are carried out whole or
//! in part.

use planner::{Node, NodeState, Options, Plan, Problem, Unit};
use proptest::prelude::*;

/// One thing that happens. Numbers select among what there is, modulo its count.
#[derive(Clone, Debug)]
pub enum Event {
    AddNodes(u8),
    Lose(u8),
    LoseTwo(u8, u8),
    /// A node that was lost is active again, with the copies it had.
    Return(u8),
    /// A lost node is given up for good.
    Forget(u8),
    Drain(u8),
    Undrain(u8),
    NewTable {
        units: u8,
        rf: u8,
    },
    DropUnits(u8),
    ChangeRf {
        from: u8,
        rf: u8,
    },
    Capacity {
        node: u8,
        capacity: u8,
    },
    Weight {
        unit: u8,
        weight: u8,
    },
}

/// What may happen in a history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// All nodes and all units count the same.
    Equal,
    /// Nodes differ in capacity.
    Capacities,
    /// Units differ in weight.
    Weights,
}

pub fn event(kind: Kind) -> BoxedStrategy<Event> {
    let common = prop_oneof![
        3 => (1..4u8).prop_map(Event::AddNodes),
        4 => any::<u8>().prop_map(Event::Lose),
        2 => any::<(u8, u8)>().prop_map(|(a, b)| Event::LoseTwo(a, b)),
        3 => any::<u8>().prop_map(Event::Return),
        2 => any::<u8>().prop_map(Event::Forget),
        3 => any::<u8>().prop_map(Event::Drain),
        2 => any::<u8>().prop_map(Event::Undrain),
        3 => (1..9u8, 1..5u8).prop_map(|(units, rf)| Event::NewTable { units, rf }),
        1 => any::<u8>().prop_map(Event::DropUnits),
        2 => (any::<u8>(), 1..5u8).prop_map(|(from, rf)| Event::ChangeRf { from, rf }),
    ];
    let capacity = (any::<u8>(), 1..6u8).prop_map(|(node, capacity)| Event::Capacity { node, capacity });
    let weight = (any::<u8>(), 1..30u8).prop_map(|(unit, weight)| Event::Weight { unit, weight });
    match kind {
        Kind::Equal => common.boxed(),
        Kind::Capacities => prop_oneof![4 => common, 1 => capacity].boxed(),
        Kind::Weights => prop_oneof![2 => common, 3 => weight].boxed(),
    }
}

/// A cluster between two plans.
pub struct Cluster {
    pub problem: Problem,
    zones: u32,
    nodes_made: u32,
    units_made: u32,
}

impl Cluster {
    /// Three nodes and nothing on them; zones 0: no zones.
    pub fn new(zones: u32) -> Self {
        let mut cluster = Self {
            problem: Problem { nodes: vec![], units: vec![], options: Options::default() },
            zones,
            nodes_made: 0,
            units_made: 0,
        };
        cluster.add_nodes(3);
        cluster
    }

    fn add_nodes(&mut self, count: u8) {
        for _ in 0..count {
            let mut node = Node::active(format!("n{:04}", self.nodes_made));
            node.zone = (self.zones > 0).then(|| format!("z{}", self.nodes_made % self.zones));
            self.problem.nodes.push(node);
            self.nodes_made += 1;
        }
    }

    fn pick(&self, state: NodeState, k: u8) -> Option<usize> {
        let of: Vec<usize> =
            (0..self.problem.nodes.len()).filter(|&i| self.problem.nodes[i].state == state).collect();
        (!of.is_empty()).then(|| of[k as usize % of.len()])
    }

    fn active(&self) -> usize {
        self.problem.nodes.iter().filter(|n| n.state == NodeState::Active).count()
    }

    fn turn(&mut self, k: u8, from: NodeState, to: NodeState) {
        if from == NodeState::Active && self.active() <= 1 {
            return;
        }
        if let Some(i) = self.pick(from, k) {
            self.problem.nodes[i].state = to;
        }
    }

    pub fn happen(&mut self, event: &Event) {
        match *event {
            Event::AddNodes(count) if self.problem.nodes.len() < 16 => self.add_nodes(count),
            Event::AddNodes(_) => {}
            Event::Lose(k) => self.turn(k, NodeState::Active, NodeState::Down),
            Event::LoseTwo(a, b) => {
                self.turn(a, NodeState::Active, NodeState::Down);
                self.turn(b, NodeState::Active, NodeState::Down);
            }
            Event::Return(k) => self.turn(k, NodeState::Down, NodeState::Active),
            Event::Forget(k) => {
                if let Some(i) = self.pick(NodeState::Down, k) {
                    let gone = self.problem.nodes.remove(i).id;
                    for unit in &mut self.problem.units {
                        unit.replicas.retain(|r| *r != gone);
                    }
                }
            }
            Event::Drain(k) => self.turn(k, NodeState::Active, NodeState::Draining),
            Event::Undrain(k) => self.turn(k, NodeState::Draining, NodeState::Active),
            Event::NewTable { units, rf } => {
                for _ in 0..units {
                    if self.problem.units.len() < 40 {
                        let mut unit = Unit::new(format!("u{:05}", self.units_made), u32::from(rf), []);
                        unit.bytes = u64::from(self.units_made * 7 % 13);
                        self.problem.units.push(unit);
                        self.units_made += 1;
                    }
                }
            }
            Event::DropUnits(k) => {
                let keep = self.problem.units.len() - self.problem.units.len() / 3;
                self.problem.units.rotate_left(usize::from(k) % keep.max(1));
                self.problem.units.truncate(keep);
            }
            Event::ChangeRf { from, rf } => {
                for unit in self.problem.units.iter_mut().skip(usize::from(from) % 40).take(5) {
                    unit.rf = u32::from(rf);
                }
            }
            Event::Capacity { node, capacity } => {
                let count = self.problem.nodes.len();
                self.problem.nodes[usize::from(node) % count].capacity = f64::from(capacity) / 2.0;
            }
            Event::Weight { unit, weight } => {
                let count = self.problem.units.len();
                if count > 0 {
                    self.problem.units[usize::from(unit) % count].weight = f64::from(weight) / 4.0;
                }
            }
        }
    }

    /// Carries out the moves that `chosen` tells. Copies on nodes that are down stay there, forgotten by the plan.
    pub fn carry_out(&mut self, plan: &Plan, chosen: impl Fn(usize) -> bool) {
        for (k, step) in plan.moves.iter().enumerate().filter(|(k, _)| chosen(*k)) {
            let _ = k;
            let unit = self.problem.units.iter_mut().find(|u| u.id == step.unit).expect("known unit");
            if let Some(to) = &step.to {
                assert!(!unit.replicas.contains(to), "{} gains what it has", step.unit);
                unit.replicas.push(to.clone());
            }
            if let Some(from) = &step.from {
                let before = unit.replicas.len();
                unit.replicas.retain(|r| r != from);
                assert_eq!(unit.replicas.len() + 1, before, "{} sheds what it has", step.unit);
            }
        }
    }
}
