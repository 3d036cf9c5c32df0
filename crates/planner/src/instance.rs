//! The problem in the form the algorithms work on: nodes and units as numbers, copies in flat vectors.
//!
//! A node's number is its position in the problem, a unit's likewise. Decides one thing only: how many copies each
//! unit can have at all.

use crate::{
    names::Names,
    problem::{NodeState, Problem},
};
use std::collections::BTreeMap;

/// A problem with its names taken out.
pub(crate) struct Instance {
    /// Per node: active and of a capacity above 0, so it may be given copies.
    pub usable: Vec<bool>,
    pub usable_count: u32,
    /// Per node, relative to the largest; 0 where not usable.
    pub capacity: Vec<f64>,
    /// Per node; all 0 when zones make no difference.
    pub zone: Vec<u32>,
    /// Usable nodes per zone.
    pub zone_nodes: Vec<u32>,
    /// The live copies of unit `u` (nodes not down, usable or not) are `held[held_start[u]..held_start[u + 1]]`.
    pub held_start: Vec<u32>,
    pub held: Vec<u32>,
    /// Per unit: the copies it shall have on usable nodes. Prefix sums of this are `slot_start`.
    pub want: Vec<u32>,
    pub slot_start: Vec<u32>,
    pub bytes: Vec<u64>,
    pub weight: Vec<f64>,
    /// All units weigh the same.
    pub equal: bool,
    /// Copies that a node may hold.
    pub node_limit: u32,
    /// More copies exist than the nodes may hold together.
    pub crowded: bool,
    /// By number of copies: how many of them one zone may hold.
    pub zone_quota: Vec<u32>,
}

impl Instance {
    pub fn new(problem: &Problem) -> Self {
        let nodes = &problem.nodes;
        let largest = nodes.iter().map(|n| n.capacity).filter(|c| c.is_finite()).fold(0.0, f64::max);
        let usable: Vec<bool> =
            nodes.iter().map(|n| n.state == NodeState::Active && n.capacity > 0.0).collect();
        // Below a billionth of the largest, a capacity only serves to make sums inexact.
        let capacity = nodes
            .iter()
            .zip(&usable)
            .map(|(n, &ok)| if ok { (n.capacity / largest).clamp(1e-9, 1.0) } else { 0.0 })
            .collect();
        let usable_count = usable.iter().filter(|&&ok| ok).count() as u32;
        let (zone, zone_nodes) = number_zones(problem, &usable);
        let (held_start, held) = intern_copies(problem);
        let node_limit = problem.options.max_units_per_node.unwrap_or(u32::MAX);
        let weight: Vec<f64> = problem.units.iter().map(|u| sane_weight(u.weight)).collect();
        let equal = weight.windows(2).all(|w| (w[0] - w[1]).abs() <= f64::EPSILON * w[0]);
        let bytes = problem.units.iter().map(|u| u.bytes).collect();
        let Wanted { want, crowded } = wanted_copies(problem, &held_start, usable_count, node_limit);
        let mut slot_start = Vec::with_capacity(want.len() + 1);
        slot_start.push(0);
        let mut total = 0;
        for &w in &want {
            total += w;
            slot_start.push(total);
        }
        let most = want.iter().copied().max().unwrap_or(0);
        let zone_quota = zone_quotas(&zone_nodes, most);
        Self {
            usable,
            usable_count,
            capacity,
            zone,
            zone_nodes,
            held_start,
            held,
            want,
            slot_start,
            bytes,
            weight,
            equal,
            node_limit,
            crowded,
            zone_quota,
        }
    }

    pub fn units(&self) -> usize {
        self.want.len()
    }

    /// Copies to have in all.
    pub fn total(&self) -> u32 {
        self.slot_start.last().copied().unwrap_or(0)
    }

    /// The nodes that hold unit `u` now.
    pub fn held(&self, u: usize) -> &[u32] {
        &self.held[self.held_start[u] as usize..self.held_start[u + 1] as usize]
    }

    /// Whether zones restrict anything.
    pub fn zoned(&self) -> bool {
        self.zone_nodes.len() > 1
    }

    /// The fewest and the most copies that zone `z` holds of a unit that shall have `want` in all.
    pub fn zone_range(&self, want: u32, z: u32) -> (u32, u32) {
        let quota = self.zone_quota[want as usize];
        let room = self.zone_nodes[z as usize];
        (room.min(quota.saturating_sub(1)), room.min(quota))
    }
}

/// Numbers the zones in the order of their first node. One zone for all when every node is alone in its zone:
/// distinct nodes are distinct zones then.
fn number_zones(problem: &Problem, usable: &[bool]) -> (Vec<u32>, Vec<u32>) {
    let mut numbers: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    let mut zone = Vec::with_capacity(problem.nodes.len());
    let mut nodes: Vec<u32> = Vec::new();
    for (node, &ok) in problem.nodes.iter().zip(usable) {
        let next = numbers.len() as u32;
        let z = *numbers.entry(node.zone.as_deref()).or_insert(next);
        if z == next {
            nodes.push(0);
        }
        nodes[z as usize] += u32::from(ok);
        zone.push(z);
    }
    let used = nodes.iter().filter(|&&n| n > 0).count();
    if used <= 1 || nodes.iter().all(|&n| n <= 1) {
        let all = usable.iter().filter(|&&ok| ok).count() as u32;
        return (vec![0; problem.nodes.len()], vec![all]);
    }
    (zone, nodes)
}

/// Live copies of all units by node number, without doubles.
fn intern_copies(problem: &Problem) -> (Vec<u32>, Vec<u32>) {
    let names = Names::new(problem.nodes.iter().map(|n| n.id.as_str()));
    let copies = problem.units.iter().map(|u| u.replicas.len()).sum();
    let mut held: Vec<u32> = Vec::with_capacity(copies);
    let mut start = Vec::with_capacity(problem.units.len() + 1);
    start.push(0);
    for unit in &problem.units {
        let first = held.len();
        for name in &unit.replicas {
            let Some(node) = names.number(name) else { continue };
            if problem.nodes[node as usize].state != NodeState::Down && !held[first..].contains(&node) {
                held.push(node);
            }
        }
        start.push(held.len() as u32);
    }
    (start, held)
}

fn sane_weight(weight: f64) -> f64 {
    if weight.is_finite() && weight > 0.0 { weight } else { 0.0 }
}

struct Wanted {
    want: Vec<u32>,
    crowded: bool,
}

/// How many copies each unit shall have: its rf, or fewer when nodes or room on them are short. Copies that exist
/// come first, then the first copy of every unit, then the second, and so on. When more exist than there is room for,
/// `crowded` settles which of them find a place.
fn wanted_copies(problem: &Problem, held_start: &[u32], nodes: u32, node_limit: u32) -> Wanted {
    let full: Vec<u32> = problem.units.iter().map(|u| u.rf.min(nodes)).collect();
    let room = u64::from(nodes) * u64::from(node_limit);
    if full.iter().map(|&w| u64::from(w)).sum::<u64>() <= room {
        return Wanted { want: full, crowded: false };
    }
    let mut want: Vec<u32> =
        full.iter().enumerate().map(|(u, &w)| w.min(held_start[u + 1] - held_start[u])).collect();
    let mut used: u64 = want.iter().map(|&w| u64::from(w)).sum();
    if used > room {
        return Wanted { want: full, crowded: true };
    }
    for level in 0..full.iter().copied().max().unwrap_or(0) {
        for (w, &f) in want.iter_mut().zip(&full) {
            if used < room && *w == level && *w < f {
                *w += 1;
                used += 1;
            }
        }
    }
    Wanted { want, crowded: false }
}

/// By number of copies `w`: the smallest quota with which the zones can take `w` copies of one unit.
fn zone_quotas(zone_nodes: &[u32], most: u32) -> Vec<u32> {
    let mut quotas = vec![0; most as usize + 1];
    let mut quota = 0;
    let mut room = 0u64;
    for w in 1..=most {
        while room < u64::from(w) {
            quota += 1;
            room += zone_nodes.iter().filter(|&&n| n >= quota).count() as u64;
        }
        quotas[w as usize] = quota;
    }
    quotas
}
