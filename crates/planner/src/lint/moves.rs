//! Do the moves lead from the present state to the placement, without giving up what must stay? Are the numbers told
//! the numbers that are?

use super::{Violation, view::View};
use crate::outcome::{Move, Proof};
use std::collections::BTreeMap;

pub(super) fn check(view: &View, found: &mut Vec<Violation>) {
    let mut moves: BTreeMap<&str, Vec<(usize, &Move)>> = BTreeMap::new();
    for (index, step) in view.plan.moves.iter().enumerate() {
        moves.entry(&step.unit).or_default().push((index, step));
    }
    for pair in &view.pairs {
        let unit = || pair.unit.id.clone();
        let mut now = pair.before.clone();
        for &(index, step) in moves.get(pair.unit.id.as_str()).map_or(&[][..], Vec::as_slice) {
            if step.to.is_none() && step.from.is_none() {
                found.push(Violation::MoveEmpty { index });
            }
            let number = |node: &String| view.number.get(node.as_str()).copied();
            if let Some(node) = &step.to {
                match number(node) {
                    Some(i) if !now.contains(&i) => now.push(i),
                    Some(_) => {
                        found.push(Violation::MoveToPresent { index, unit: unit(), node: node.clone() });
                    }
                    None => found.push(Violation::NodeUnknown { unit: unit(), node: node.clone() }),
                }
            }
            if let Some(node) = &step.from {
                // Only a copy that was there before the plan can be given up.
                let at = number(node).filter(|i| pair.before.contains(i));
                match at.and_then(|i| now.iter().position(|&k| k == i)) {
                    Some(at) => {
                        now.remove(at);
                    }
                    None => found.push(Violation::MoveFromAbsent { index, unit: unit(), node: node.clone() }),
                }
            }
        }
        let mut after = pair.after.clone();
        now.sort_unstable();
        after.sort_unstable();
        if now != after {
            found.push(Violation::MovesMissPlacement { unit: unit() });
        }
        let floor = pair.before.len().min(pair.unit.rf as usize);
        if now.len() < floor {
            let (before, left) = (pair.before.len(), now.len());
            found.push(Violation::BelowFloor { unit: unit(), before, left, floor });
        }
    }
}

pub(super) fn numbers(view: &View, found: &mut Vec<Violation>) {
    let plan = view.plan;
    let mut number = |what, told, is| {
        if told != is {
            found.push(Violation::Number { what, told, is });
        }
    };
    let made: u64 =
        view.pairs.iter().map(|p| p.after.iter().filter(|i| !p.before.contains(i)).count() as u64).sum();
    number("copies", plan.copies, made);
    let bytes = view.pairs.iter().fold(0u64, |sum, p| {
        let copies = p.after.iter().filter(|i| !p.before.contains(i)).count() as u64;
        sum.saturating_add(p.unit.bytes.saturating_mul(copies))
    });
    number("bytes", plan.bytes, bytes);
    number("lower_bound", plan.lower_bound, plan.lower_bound.min(made));
    number("gap", plan.gap, made.saturating_sub(plan.lower_bound));
    if plan.proof != Proof::Gap {
        number("the gap of a proven plan", plan.gap, 0);
    }
    for (&failures, &told) in plan.loss_probability.iter().filter(|(_, p)| !(0.0..=1.0).contains(*p)) {
        found.push(Violation::Probability { failures, told });
    }
    loads(view, found);
}

fn loads(view: &View, found: &mut Vec<Violation>) {
    let mut load = vec![0.0; view.problem.nodes.len()];
    for pair in &view.pairs {
        for &i in &pair.after {
            load[i] += pair.unit.weight;
        }
    }
    let total: f64 = load.iter().sum();
    for (node, &is) in view.problem.nodes.iter().zip(&load) {
        let told = view.plan.load.get(&node.id).copied().unwrap_or(0.0);
        // A NaN is wrong as well.
        if (told - is).abs() > 1e-9 * total || told.is_nan() {
            found.push(Violation::Load { node: node.id.clone(), told, is });
        }
    }
}
