//! Is every move in one round, and is no node in a round busier than its limits?

use super::Violation;
use crate::{outcome::Plan, problem::Problem};
use std::collections::BTreeMap;

pub(super) fn check(problem: &Problem, plan: &Plan, found: &mut Vec<Violation>) {
    let mut count = vec![0; plan.moves.len()];
    for (round, moves) in plan.rounds.iter().enumerate() {
        let mut busy: BTreeMap<(&str, &'static str), u32> = BTreeMap::new();
        for &index in moves {
            let Some(step) = plan.moves.get(index) else {
                found.push(Violation::RoundUnknown { round, index });
                continue;
            };
            count[index] += 1;
            for (node, direction) in [(&step.to, "receives"), (&step.from, "sends")] {
                if let Some(node) = node {
                    *busy.entry((node, direction)).or_default() += 1;
                }
            }
        }
        for ((node, direction), count) in busy {
            let limit = match direction {
                "receives" => problem.options.transfers_in_per_node,
                _ => problem.options.transfers_out_per_node,
            };
            if count > limit.max(1) {
                let node = node.to_owned();
                found.push(Violation::RoundLimit { round, node, direction, count, limit });
            }
        }
    }
    for (index, &count) in count.iter().enumerate().filter(|&(_, &count)| count != 1) {
        found.push(Violation::RoundCount { index, count });
    }
}
