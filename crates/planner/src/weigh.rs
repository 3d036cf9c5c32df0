//! Evens the load when units differ in weight.
//!
//! Perfect balance is a partition problem, and chasing it costs copies; so a node counts as even when it is within
//! half an average copy of its share. Local search with single moves and exchanges, as known from load balancing on
//! uniform machines (surveyed by E. H. L. Aarts and J. K. Lenstra, "Local Search in Combinatorial Optimization",
//! 1997): each step lowers the squared deviations, so it ends.
//! It never makes a unit's zones worse and never fills a node beyond its limit of units.

use crate::{fill::Layout, instance::Instance};
use std::{cmp::Ordering, collections::BTreeSet};

/// Exchanges are tried with that many of the most different nodes: beyond them the gain is small, and every pair
/// costs a pass over both nodes' units.
const PARTNERS_MAX: usize = 8;
/// A step must lower the difference of two nodes by more than rounding can, in relation to the whole weight: else
/// units of a billionth of it go to and fro between two nodes for as long as there are steps.
const ROUNDING: f64 = 1e-12;

pub(crate) struct Weigh<'a> {
    instance: &'a Instance,
    share: &'a [f64],
    layout: &'a mut Layout,
    /// Deviation that is left alone.
    tolerance: f64,
    /// What rounding can make of a difference of two loads.
    rounding: f64,
    /// Units on each node, by weight.
    units: Vec<Vec<u32>>,
    /// Nodes by deviation relative to their capacity.
    ranked: BTreeSet<Rank>,
    steps_left: u64,
}

#[derive(Clone, Copy, PartialEq)]
struct Rank {
    deviation: f64,
    node: u32,
}

impl Eq for Rank {}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.deviation.total_cmp(&other.deviation).then(self.node.cmp(&other.node))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How far from its share a node may be: half an average copy.
pub(crate) fn tolerance(instance: &Instance, share: &[f64]) -> f64 {
    0.5 * share.iter().sum::<f64>() / f64::from(instance.total()).max(1.0)
}

/// Evens the layout as far as `steps` allow.
pub(crate) fn even(instance: &Instance, share: &[f64], layout: &mut Layout, steps: u64) {
    let mut steps_left = steps;
    loop {
        layout.sum_weights(instance);
        let mut weigh = Weigh::new(instance, share, layout, steps_left);
        // Once more after any change, with sums made anew: what ends here changes nothing when it is solved again.
        if !weigh.settle() || weigh.steps_left == 0 {
            return;
        }
        steps_left = weigh.steps_left;
    }
}

impl<'a> Weigh<'a> {
    fn new(instance: &'a Instance, share: &'a [f64], layout: &'a mut Layout, steps_left: u64) -> Self {
        let mut units = vec![Vec::new(); share.len()];
        let mut by_weight: Vec<u32> = (0..instance.units() as u32).collect();
        by_weight.sort_by(|&a, &b| instance.weight[a as usize].total_cmp(&instance.weight[b as usize]));
        for u in by_weight {
            for &i in layout.nodes(instance, u as usize) {
                units[i as usize].push(u);
            }
        }
        let tolerance = tolerance(instance, share);
        let rounding = ROUNDING * share.iter().sum::<f64>();
        let ranked = BTreeSet::new();
        let mut weigh = Self { instance, share, layout, tolerance, rounding, units, ranked, steps_left };
        weigh.ranked =
            (0..share.len() as u32).filter(|&i| instance.usable[i as usize]).map(|i| weigh.rank(i)).collect();
        weigh
    }

    fn above(&self, i: u32) -> f64 {
        self.layout.weight[i as usize] - self.share[i as usize]
    }

    fn rank(&self, i: u32) -> Rank {
        Rank { deviation: self.above(i) / self.instance.capacity[i as usize], node: i }
    }

    fn weight(&self, u: u32) -> f64 {
        self.instance.weight[u as usize]
    }

    /// Single moves and exchanges until none helps; tells whether any did.
    fn settle(&mut self) -> bool {
        let mut changed = false;
        loop {
            let uneven: Vec<u32> = self.uneven();
            let mut moved = false;
            for i in uneven {
                while self.steps_left > 0 && self.above(i).abs() > self.tolerance && self.relieve(i) {
                    moved = true;
                }
            }
            if !moved || self.steps_left == 0 {
                return changed;
            }
            changed = true;
        }
    }

    /// Nodes outside the tolerance, the most uneven first.
    fn uneven(&self) -> Vec<u32> {
        let mut uneven: Vec<Rank> =
            self.ranked.iter().copied().filter(|r| self.above(r.node).abs() > self.tolerance).collect();
        uneven.sort_by(|a, b| b.deviation.abs().total_cmp(&a.deviation.abs()).then(a.node.cmp(&b.node)));
        uneven.into_iter().map(|r| r.node).collect()
    }

    /// One step that brings node `i` nearer to its share.
    fn relieve(&mut self, i: u32) -> bool {
        let gives = self.above(i) > 0.0;
        let pair = |other: u32| if gives { (i, other) } else { (other, i) };
        let mut others: Vec<u32> = self.ranked.iter().map(|rank| rank.node).collect();
        self.spend(others.len());
        if !gives {
            others.reverse();
        }
        others.retain(|&other| other != i);
        others.truncate(others.partition_point(|&other| {
            let (from, to) = pair(other);
            self.room(from, to) > self.rounding
        }));
        for &other in &others {
            let (from, to) = pair(other);
            if let Some(u) = self.best_move(from, to) {
                self.carry(u, from, to);
                return true;
            }
        }
        others.iter().take(PARTNERS_MAX).any(|&other| {
            let (from, to) = pair(other);
            self.exchange(from, to)
        })
    }

    fn spend(&mut self, steps: usize) {
        self.steps_left = self.steps_left.saturating_sub(steps as u64);
    }

    /// A weight below this may go from one node to the other and leaves the squared deviations smaller.
    fn room(&self, from: u32, to: u32) -> f64 {
        let inverse = |i: u32| 1.0 / self.instance.capacity[i as usize];
        2.0 * (self.above(from) * inverse(from) - self.above(to) * inverse(to))
            / (inverse(from) + inverse(to))
    }

    /// The copy on `from` whose weight is nearest to what both nodes need, among those that may go to `to`.
    fn best_move(&mut self, from: u32, to: u32) -> Option<u32> {
        if self.layout.load[to as usize] >= self.instance.node_limit {
            return None;
        }
        let room = self.room(from, to);
        let (surplus, lack) = (self.above(from), -self.above(to));
        let ideal = if surplus > 0.0 && lack > 0.0 { surplus.min(lack) } else { room / 2.0 };
        let list = &self.units[from as usize];
        let first = list.partition_point(|&u| self.weight(u) <= 0.0);
        let end = list.partition_point(|&u| self.weight(u) < room - self.rounding);
        let mut above = list.partition_point(|&u| self.weight(u) < ideal).clamp(first, end.max(first));
        let mut below = above;
        let mut looked = 0;
        let mut found = None;
        while found.is_none() && (below > first || above < end) {
            let off = |k: usize| (self.weight(list[k]) - ideal).abs();
            let upward = above < end && (below == first || off(above) <= off(below - 1));
            let u = if upward { list[above] } else { list[below - 1] };
            if upward {
                above += 1;
            } else {
                below -= 1;
            }
            looked += 1;
            if self.may_go(u, from, to) {
                found = Some(u);
            }
        }
        self.spend(looked);
        found
    }

    fn may_go(&self, u: u32, from: u32, to: u32) -> bool {
        !self.layout.nodes(self.instance, u as usize).contains(&to) && self.zones_allow(u, from, to)
    }

    fn zones_allow(&self, u: u32, from: u32, to: u32) -> bool {
        let zone = |i: u32| self.instance.zone[i as usize];
        if zone(from) == zone(to) {
            return true;
        }
        let nodes = self.layout.nodes(self.instance, u as usize);
        let there = |z: u32| nodes.iter().filter(|&&i| zone(i) == z).count() as u32;
        let want = self.instance.want[u as usize];
        there(zone(to)) < self.instance.zone_range(want, zone(to)).1
            && there(zone(from)) > self.instance.zone_range(want, zone(from)).0
    }

    /// Exchanges two copies whose difference takes at least half of the unevenness of two nodes away.
    fn exchange(&mut self, from: u32, to: u32) -> bool {
        let room = self.room(from, to);
        let (least, most) = ((room * 0.25).max(self.rounding), room * 0.75);
        let mut found = None;
        let mut looked = 0;
        let partners = &self.units[to as usize];
        for &u in self.units[from as usize].iter().rev() {
            looked += 1;
            if !self.may_go(u, from, to) {
                continue;
            }
            let lightest = self.weight(u) - most;
            let first = partners.partition_point(|&v| self.weight(v) < lightest);
            let near = partners[first..].iter().take_while(|&&v| self.weight(u) - self.weight(v) >= least);
            for &v in near {
                looked += 1;
                if self.may_go(v, to, from) {
                    found = Some((u, v));
                    break;
                }
            }
            if found.is_some() {
                break;
            }
        }
        self.spend(looked);
        if let Some((u, v)) = found {
            self.carry(u, from, to);
            self.carry(v, to, from);
        }
        found.is_some()
    }

    fn carry(&mut self, u: u32, from: u32, to: u32) {
        let weight = self.weight(u);
        for i in [from, to] {
            self.ranked.remove(&self.rank(i));
        }
        self.layout.replace(self.instance, u as usize, from, to);
        let list = &mut self.units[from as usize];
        list.retain(|&other| other != u);
        let at = self.units[to as usize].partition_point(|&v| self.instance.weight[v as usize] < weight);
        self.units[to as usize].insert(at, u);
        for i in [from, to] {
            self.ranked.insert(self.rank(i));
        }
        let shifted = self.units[from as usize].len() + self.units[to as usize].len();
        self.spend(shifted / 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Node, NodeState, Options, Problem, Unit, fill, share};

    /// Rounding made a move of a billionth look like a gain in both directions, so that it went to and fro until the
    /// steps were used up.
    #[test]
    fn units_of_a_billionth_of_the_weight_do_not_go_to_and_fro() {
        let node = |id: &str, zone: Option<&str>| Node { zone: zone.map(str::to_owned), ..Node::active(id) };
        let unit =
            |id: &str, rf, weight, on: &[&str]| Unit { weight, ..Unit::new(id, rf, on.iter().copied()) };
        let draining = Node { state: NodeState::Draining, ..node("n0", None) };
        let problems = [
            Problem {
                nodes: vec![draining, node("n1", None), node("n2", Some("x")), node("n3", Some("x"))],
                units: vec![
                    unit("u0", 1, 1e-9, &["n2"]),
                    unit("u1", 2, 1.0, &["n1", "n3", "n0"]),
                    unit("u2", 1, 3.0, &[]),
                ],
                options: Options { max_units_per_node: Some(2), ..Options::default() },
            },
            Problem {
                nodes: vec![node("n0", Some("y")), node("n1", Some("x")), node("n2", None)],
                units: vec![
                    unit("u0", 2, 1e-9, &["n1"]),
                    unit("u1", 1, 0.0, &["n1"]),
                    unit("u2", 2, 1.0, &[]),
                ],
                options: Options { max_units_per_node: Some(3), ..Options::default() },
            },
        ];
        for problem in problems {
            let instance = Instance::new(&problem);
            let share = share::exact(&instance, |u| instance.weight[u]);
            let mut layout = fill::fill_weighted(&instance, share.clone());
            let rounds = (0..100).take_while(|_| {
                layout.sum_weights(&instance);
                let mut weigh = Weigh::new(&instance, &share, &mut layout, 10_000);
                let changed = weigh.settle();
                assert!(weigh.steps_left > 0, "a few steps are enough");
                changed
            });
            assert!(rounds.count() < 10, "it ends");
        }
    }
}
