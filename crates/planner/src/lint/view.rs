//! Problem and plan side by side: for each unit where it was and where it shall be. Finds names that match nothing.

use super::Violation;
use crate::{
    outcome::Plan,
    problem::{Node, NodeState, Problem, Unit},
};
use std::collections::{BTreeMap, BTreeSet};

/// A unit before and after.
pub(super) struct Pair<'a> {
    pub unit: &'a Unit,
    /// Nodes that hold it and are not down, by position in the problem.
    pub before: Vec<usize>,
    /// Nodes that shall hold it.
    pub after: Vec<usize>,
    /// The plan reports that it does not get what its rf asks for.
    pub reported: bool,
}

pub(super) struct View<'a> {
    pub problem: &'a Problem,
    pub plan: &'a Plan,
    pub number: BTreeMap<&'a str, usize>,
    pub pairs: Vec<Pair<'a>>,
}

impl<'a> View<'a> {
    pub fn new(problem: &'a Problem, plan: &'a Plan, found: &mut Vec<Violation>) -> Self {
        let number: BTreeMap<&str, usize> = problem.nodes.iter().map(|n| n.id.as_str()).zip(0..).collect();
        let ids: BTreeSet<&str> = problem.units.iter().map(|u| u.id.as_str()).collect();
        let told = plan.placement.keys().chain(plan.moves.iter().map(|m| &m.unit));
        for unit in told.chain(plan.unplaceable.iter().map(|u| &u.unit)) {
            if !ids.contains(unit.as_str()) {
                found.push(Violation::UnitUnknown { unit: unit.clone() });
            }
        }
        let reported: BTreeSet<&str> = plan.unplaceable.iter().map(|u| u.unit.as_str()).collect();
        let mut pairs = Vec::with_capacity(problem.units.len());
        for unit in &problem.units {
            let Some(nodes) = plan.placement.get(&unit.id) else {
                found.push(Violation::UnitMissing { unit: unit.id.clone() });
                continue;
            };
            let mut after = Vec::with_capacity(nodes.len());
            for node in nodes {
                match number.get(node.as_str()) {
                    Some(&i) => after.push(i),
                    None => found.push(Violation::NodeUnknown { unit: unit.id.clone(), node: node.clone() }),
                }
            }
            let known = unit.replicas.iter().filter_map(|r| number.get(r.as_str()).copied());
            let mut before: Vec<usize> =
                known.filter(|&i| problem.nodes[i].state != NodeState::Down).collect();
            before.sort_unstable();
            before.dedup();
            pairs.push(Pair { unit, before, after, reported: reported.contains(unit.id.as_str()) });
        }
        Self { problem, plan, number, pairs }
    }

    pub fn node(&self, i: usize) -> &'a Node {
        &self.problem.nodes[i]
    }

    /// Whether node `i` may be given copies.
    pub fn takes(&self, i: usize) -> bool {
        self.node(i).state == NodeState::Active && self.node(i).capacity > 0.0
    }

    /// Nodes that may be given copies.
    pub fn takers(&self) -> Vec<usize> {
        (0..self.problem.nodes.len()).filter(|&i| self.takes(i)).collect()
    }

    /// Whether the nodes that take copies are in several zones.
    pub fn zones(&self) -> BTreeMap<Option<&'a str>, Vec<usize>> {
        let mut zones: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for i in self.takers() {
            zones.entry(self.node(i).zone.as_deref()).or_default().push(i);
        }
        zones
    }
}
