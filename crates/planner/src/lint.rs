//! Checks a plan with code of its own, sharing nothing with the planner but the types.

use crate::{outcome::Plan, problem::Problem};
use std::collections::BTreeSet;

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("unit {unit}: it is not in the placement")]
    UnitMissing { unit: String },
    #[error("unit {unit}: {node} is listed twice")]
    NodeTwice { unit: String, node: String },
    #[error("the plan was made from another state: make a new one")]
    Stale,
}

/// Checks all rules; all violations are reported.
pub fn check(problem: &Problem, plan: &Plan) -> Result<(), Vec<Violation>> {
    let mut found = Vec::new();
    if plan.made_from != problem.fingerprint() {
        found.push(Violation::Stale);
    }
    for unit in &problem.units {
        let Some(nodes) = plan.placement.get(&unit.id) else {
            found.push(Violation::UnitMissing { unit: unit.id.clone() });
            continue;
        };
        let mut seen = BTreeSet::new();
        for node in nodes.iter().filter(|&n| !seen.insert(n)) {
            found.push(Violation::NodeTwice { unit: unit.id.clone(), node: node.clone() });
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}
