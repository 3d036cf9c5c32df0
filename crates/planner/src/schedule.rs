//! When each move runs: rounds in which no node receives or sends more than its limits.

use crate::{outcome::Move, problem::Problem};
use std::collections::BTreeMap;

/// Puts each move into the first round that has room at both ends.
pub(crate) fn rounds(problem: &Problem, moves: &[Move]) -> Vec<Vec<usize>> {
    let limit_in = problem.options.transfers_in_per_node.max(1);
    let limit_out = problem.options.transfers_out_per_node.max(1);
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut used: Vec<BTreeMap<(bool, &str), u32>> = Vec::new();
    for (k, step) in moves.iter().enumerate() {
        let free = |round: &BTreeMap<(bool, &str), u32>| {
            let fits = |side: bool, node: &Option<String>, limit: u32| {
                node.as_ref().is_none_or(|n| round.get(&(side, n)).copied().unwrap_or(0) < limit)
            };
            fits(true, &step.to, limit_in) && fits(false, &step.from, limit_out)
        };
        let at = used.iter().position(free).unwrap_or(used.len());
        if at == used.len() {
            used.push(BTreeMap::new());
            rounds.push(Vec::new());
        }
        rounds[at].push(k);
        for (side, node) in [(true, &step.to), (false, &step.from)] {
            if let Some(n) = node {
                *used[at].entry((side, n)).or_default() += 1;
            }
        }
    }
    rounds
}
