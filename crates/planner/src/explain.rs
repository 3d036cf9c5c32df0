//! Words for people: why a copy is where it is, what would move it, what forbids each other node.

use crate::{
    outcome::{Move, Plan},
    problem::{NodeState, Problem},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::fmt::Write as _;

/// What the texts need to know of the problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    nodes: Vec<NodeFacts>,
}

#[derive(Clone, Debug, PartialEq)]
struct NodeFacts {
    id: String,
    state: NodeState,
}

impl Facts {
    pub(crate) fn new(problem: &Problem) -> Self {
        let nodes = problem.nodes.iter().map(|n| NodeFacts { id: n.id.clone(), state: n.state }).collect();
        Self { nodes }
    }
}

/// All texts of a plan, made while they are written.
pub(crate) struct All<'a>(pub &'a Plan);

impl Serialize for All<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut of_unit: Vec<&Move> = self.0.moves.iter().collect();
        of_unit.sort_by(|a, b| a.unit.cmp(&b.unit));
        let mut rest = of_unit.as_slice();
        let mut map = serializer.serialize_map(Some(self.0.placement.len()))?;
        for (unit, nodes) in &self.0.placement {
            let count = rest.iter().take_while(|m| m.unit == *unit).count();
            let (mine, others) = rest.split_at(count);
            rest = others;
            map.serialize_entry(unit, &text(&self.0.facts, nodes, mine))?;
        }
        map.end()
    }
}

/// The text of one unit that shall be on `nodes` by way of `moves`.
pub(crate) fn text(facts: &Facts, nodes: &[String], moves: &[&Move]) -> String {
    let mut text = String::new();
    for node in nodes {
        let gained = moves.iter().find(|m| m.to.as_ref() == Some(node));
        let draining = facts.nodes.iter().any(|n| n.id == *node && n.state == NodeState::Draining);
        let _ = match gained {
            Some(step) => write!(text, "{node}: {}. ", step.reason),
            None if draining => write!(text, "{node}: stays, nothing can replace it yet. "),
            None => write!(text, "{node}: was there already. "),
        };
    }
    text.trim_end().to_owned()
}
