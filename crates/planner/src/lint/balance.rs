//! Does every node hold its share?
//!
//! Where all nodes and all units are the same and nothing else binds: the floor or the ceiling of the average. Else:
//! no node holds a whole unit more than its part by capacity while another lacks one, with a unit that could move
//! between them. Plans whose units do not all fit are not judged, nor those where the zones cannot hold the parts of
//! their nodes (what does not fit is spread over others by no simple rule), nor those whose search ran into its limit,
//! which they tell by their proof.

use super::{Violation, view::View};
use crate::outcome::Proof;

/// What balance is measured in.
struct Scale {
    /// All units weigh the same: copies are counted, whatever they weigh.
    equal: bool,
    /// The most that one copy counts.
    heaviest: f64,
}

pub(super) fn check(view: &View, found: &mut Vec<Violation>) {
    let takers = view.takers();
    let placed = |after: &[usize]| after.iter().filter(|&&i| view.takes(i)).count();
    let all_fit = view.pairs.iter().all(|p| !p.reported || placed(&p.after) >= takers.len());
    if takers.len() < 2 || view.pairs.is_empty() || !all_fit {
        return;
    }
    let heaviest = view.pairs.iter().map(|p| p.unit.weight).fold(0.0, f64::max);
    let lightest = view.pairs.iter().map(|p| p.unit.weight).fold(f64::INFINITY, f64::min);
    let equal = heaviest <= lightest * (1.0 + 1e-12);
    if equal && view.plan.proof == Proof::Gap {
        return;
    }
    let scale = Scale { equal, heaviest: if equal { 1.0 } else { heaviest } };
    let mut load = vec![0.0; view.problem.nodes.len()];
    for pair in &view.pairs {
        for &i in &pair.after {
            load[i] += if equal { 1.0 } else { pair.unit.weight };
        }
    }
    let (above, below) = extremes(view, &takers, &load, &scale);
    if !above.is_empty() && !below.is_empty() {
        movable(view, &above, &below, &scale, found);
    }
}

/// The nodes that hold too much and those that hold too little.
fn extremes(view: &View, takers: &[usize], load: &[f64], scale: &Scale) -> (Vec<usize>, Vec<usize>) {
    let pick = |wanted: &dyn Fn(usize) -> bool| takers.iter().copied().filter(|&i| wanted(i)).collect();
    let largest = takers.iter().map(|&i| view.node(i).capacity).fold(0.0, f64::max);
    let alike = takers.iter().all(|&i| (view.node(i).capacity - largest).abs() <= f64::EPSILON * largest);
    if scale.equal && alike && view.zones().len() <= 1 {
        let most = takers.iter().map(|&i| load[i]).fold(0.0, f64::max);
        let least = takers.iter().map(|&i| load[i]).fold(f64::INFINITY, f64::min);
        if most - least <= 1.0 {
            return (Vec::new(), Vec::new());
        }
        return (pick(&|i| load[i] >= most), pick(&|i| load[i] <= least));
    }
    let total: f64 = takers.iter().map(|&i| load[i]).sum();
    let Some(part) = parts(view, takers, total, scale) else { return (Vec::new(), Vec::new()) };
    // A share that is a whole number in truth may come out a little above or below.
    let unit = scale.heaviest + 1e-6 * (total / takers.len() as f64 + scale.heaviest);
    (pick(&|i| load[i] > part[i] + unit), pick(&|i| load[i] < part[i] - unit))
}

/// What each node should hold of `total`, by position in the problem.
fn parts(view: &View, takers: &[usize], total: f64, scale: &Scale) -> Option<Vec<f64>> {
    let mut part = vec![0.0; view.problem.nodes.len()];
    let largest_first = |nodes: &[usize]| {
        let mut nodes = nodes.to_vec();
        nodes.sort_by(|&a, &b| view.node(b).capacity.total_cmp(&view.node(a).capacity));
        nodes
    };
    let zones = view.zones();
    if zones.len() <= 1 {
        level(view, &largest_first(takers), scale, &mut part);
        return Some(part);
    }
    let largest = takers.iter().map(|&i| view.node(i).capacity).fold(0.0, f64::max);
    let capacity: f64 = takers.iter().map(|&i| view.node(i).capacity / largest).sum();
    for &i in takers {
        part[i] = total * (view.node(i).capacity / largest) / capacity;
    }
    for nodes in zones.values() {
        let nodes = largest_first(nodes);
        let most = together(view, &nodes, scale);
        let mut sum = 0.0;
        for (k, &i) in nodes.iter().enumerate() {
            sum += part[i];
            if sum > most[k + 1] * (1.0 + 1e-9) {
                return None;
            }
        }
    }
    Some(part)
}

/// By number of nodes `k`: the most that `k` of `nodes` hold together, since a unit's copies are on distinct nodes.
fn together(view: &View, nodes: &[usize], scale: &Scale) -> Vec<f64> {
    let mut is_here = vec![false; view.problem.nodes.len()];
    for &i in nodes {
        is_here[i] = true;
    }
    // By number of copies: what the units with so many here count.
    let mut with = vec![0.0; nodes.len() + 1];
    for pair in &view.pairs {
        let copies = pair.after.iter().filter(|&&i| is_here[i]).count();
        with[copies.min(nodes.len())] += if scale.equal { 1.0 } else { pair.unit.weight };
    }
    let limit = match view.problem.options.max_units_per_node {
        Some(limit) if scale.equal => f64::from(limit),
        _ => f64::INFINITY,
    };
    let mut more: f64 = with.iter().sum();
    let (mut most, mut sum) = (vec![0.0], 0.0);
    for k in 1..=nodes.len() {
        more -= with[k - 1];
        sum += more.max(0.0);
        most.push(if limit.is_finite() { f64::min(sum, limit * k as f64) } else { sum });
    }
    most
}

/// Divides what `nodes` (the largest first) hold by capacity. Where the largest cannot hold their part together, they
/// get what they can, and the others divide the rest, by the same rule.
fn level(view: &View, nodes: &[usize], scale: &Scale, part: &mut [f64]) {
    let most = together(view, nodes, scale);
    // Relative to the largest, so that no sum overflows.
    let capacity_of = |i: usize| view.node(i).capacity / view.node(nodes[0]).capacity;
    let mut done = 0;
    while done < nodes.len() {
        let (mut capacity, mut lowest, mut end) = (0.0, f64::INFINITY, done);
        for k in done..nodes.len() {
            capacity += capacity_of(nodes[k]);
            let height = (most[k + 1] - most[done]) / capacity;
            if height <= lowest {
                (lowest, end) = (height, k + 1);
            }
        }
        for &i in &nodes[done..end] {
            part[i] = lowest * capacity_of(i);
        }
        done = end;
    }
}

/// Reports the first unit that could move from a node above to a node below, within zones and limits.
fn movable(view: &View, above: &[usize], below: &[usize], scale: &Scale, found: &mut Vec<Violation>) {
    let zoned = view.zones().len() > 1;
    let mut units = vec![0; view.problem.nodes.len()];
    for &i in view.pairs.iter().flat_map(|pair| &pair.after) {
        units[i] += 1;
    }
    let limit = view.problem.options.max_units_per_node.unwrap_or(u32::MAX);
    let open: Vec<usize> = below.iter().copied().filter(|&i| units[i] < limit).collect();
    for pair in view.pairs.iter().filter(|p| scale.equal || p.unit.weight > 0.0) {
        for &from in pair.after.iter().filter(|i| above.contains(i)) {
            let fits = |to: &&usize| {
                let same = view.node(from).zone == view.node(**to).zone;
                !pair.after.contains(to) && (!zoned || same)
            };
            if let Some(&to) = open.iter().find(fits) {
                let name = |i: usize| view.node(i).id.clone();
                let (from, to) = (name(from), name(to));
                found.push(Violation::Unbalanced { from, to, unit: pair.unit.id.clone() });
                return;
            }
        }
    }
}
