//! Is every unit where it may be, as often as it should be?

use super::{
    Violation,
    view::{Pair, View},
};
use crate::problem::NodeState;
use std::collections::BTreeMap;

pub(super) fn check(view: &View, found: &mut Vec<Violation>) {
    let takers = view.takers();
    let limit = view.problem.options.max_units_per_node;
    let mut units = vec![0u32; view.problem.nodes.len()];
    // Copies that no lack of room excuses.
    let mut chosen = units.clone();
    for pair in &view.pairs {
        for &i in &pair.after {
            units[i] += 1;
            chosen[i] += u32::from(!may_stay(pair, i));
        }
    }
    let room = |i: usize| limit.is_none_or(|limit| units[i] < limit);
    let zones = view.zones();
    for pair in &view.pairs {
        nodes(view, pair, found);
        count(view, pair, &takers, &room, zones.len() > 1, found);
        // Where room is short, copies stay in whatever zone they are.
        if zones.len() > 1 && !(pair.reported && limit.is_some()) {
            zone(view, pair, &zones, found);
        }
    }
    if let Some(limit) = limit {
        for (i, &units) in chosen.iter().enumerate().filter(|&(_, &units)| units > limit) {
            found.push(Violation::NodeLimit { node: view.node(i).id.clone(), units, limit });
        }
    }
}

/// Whether lack of room excuses the copy on node `i`: it was there, and the plan tells that it has no better place.
fn may_stay(pair: &Pair, i: usize) -> bool {
    pair.reported && pair.before.contains(&i)
}

fn nodes(view: &View, pair: &Pair, found: &mut Vec<Violation>) {
    let unit = || pair.unit.id.clone();
    for (k, &i) in pair.after.iter().enumerate() {
        let node = view.node(i).id.clone();
        if pair.after[..k].contains(&i) {
            found.push(Violation::NodeTwice { unit: unit(), node });
        } else if view.node(i).state == NodeState::Down {
            found.push(Violation::NodeDown { unit: unit(), node });
        } else if !view.takes(i) && !may_stay(pair, i) {
            found.push(Violation::NodeClosed { unit: unit(), node });
        }
    }
}

fn count(
    view: &View,
    pair: &Pair,
    takers: &[usize],
    room: &impl Fn(usize) -> bool,
    zoned: bool,
    found: &mut Vec<Violation>,
) {
    let (unit, rf, copies) = (pair.unit.id.clone(), pair.unit.rf, pair.after.len());
    let open = pair.after.iter().filter(|&&i| view.takes(i)).count();
    if copies > rf as usize {
        found.push(Violation::TooManyCopies { unit, copies, rf });
    } else if open < rf as usize && !pair.reported {
        found.push(Violation::NotReported { unit, copies: open, rf });
    } else if pair.reported && open < rf as usize {
        // With zones, a node that has room may be in a zone that must not take more.
        let free = takers.iter().find(|&&i| !zoned && room(i) && !pair.after.contains(&i));
        if let Some(&i) = free {
            found.push(Violation::WronglyReported { unit, node: view.node(i).id.clone() });
        }
    } else if pair.reported && view.problem.options.max_units_per_node.is_none() {
        let node = pair.after.first().map_or("no node".to_owned(), |&i| view.node(i).id.clone());
        found.push(Violation::WronglyReported { unit, node });
    }
}

/// Copies are spread over zones as evenly as the zones' nodes allow: moving one to another zone never helps.
fn zone(view: &View, pair: &Pair, zones: &BTreeMap<Option<&str>, Vec<usize>>, found: &mut Vec<Violation>) {
    let of = |i: usize| view.node(i).zone.as_deref();
    let mut copies: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for &i in pair.after.iter().filter(|&&i| view.takes(i)) {
        *copies.entry(of(i)).or_default() += 1;
    }
    let Some((&crowded, &most)) = copies.iter().max_by_key(|(_, count)| **count) else { return };
    if most < 2 {
        return;
    }
    let free = zones.iter().find(|(zone, nodes)| {
        let there = copies.get(*zone).copied().unwrap_or(0);
        there + 2 <= most && there < nodes.len()
    });
    if let Some((free, _)) = free {
        let name = |zone: Option<&str>| zone.unwrap_or("(none)").to_owned();
        let (crowded, free) = (name(crowded), name(*free));
        found.push(Violation::Zone { unit: pair.unit.id.clone(), crowded, free });
    }
}
