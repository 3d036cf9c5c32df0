//! Makes a placement of equal units optimal: least distance from the shares, then fewest copies, then fewest bytes.
//!
//! The problem is a transport problem with convex costs on the nodes, so a placement is optimal exactly when no
//! cycle of exchanges lowers the cost (M. Klein, "A primal method for minimal cost flows", 1967). An exchange
//! `a → b` moves one copy of some unit from `a` to `b`; one extra vertex, the pool, lets a chain begin at one node
//! and end at another. Cycles are found by Bellman–Ford with a look at the parent pointers after each round.
//!
//! There are far too many exchanges to list (every copy can go nearly everywhere). But a node's few cheapest copies
//! that no other node holds together stand for all of them: these are its offers. Only the way back to a node that
//! gave its copy up is listed one by one.

use crate::{fill::Layout, instance::Instance, share::Shares};
use std::collections::{BTreeMap, BTreeSet};

/// How the search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is cheaper.
    Optimal,
    /// The steps are used up, or an improvement could not be applied.
    Unknown,
}

/// What a step is worth, the most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// Squared distance from the range of the shares.
    imbalance: i64,
    copies: i64,
    bytes: i128,
}

impl Cost {
    fn plus(self, other: Self) -> Self {
        Self {
            imbalance: self.imbalance + other.imbalance,
            copies: self.copies + other.copies,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// A copy that a node can give to (nearly) any node of a zone.
#[derive(Clone, Copy)]
struct Offer {
    unit: u32,
    cost: Cost,
}

/// The step by which a vertex was reached.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Arc {
    from: u32,
    /// [`POOL_STEP`] for steps to and from the pool.
    unit: u32,
}

const POOL_STEP: u32 = u32::MAX;
const NO_ARC: Arc = Arc { from: u32::MAX, unit: POOL_STEP };

/// Offers are kept per node and zone; beyond this many pairs they would cost more memory than the problem itself.
const OFFER_LISTS_MAX: usize = 4_000_000;

pub(crate) struct Search<'a> {
    instance: &'a Instance,
    shares: &'a Shares,
    layout: &'a mut Layout,
    /// Whether bytes count.
    bytes: bool,
    steps_left: u64,
    /// Units on each node.
    units: Vec<Vec<u32>>,
    /// By node × zones + zone.
    offers: Vec<Vec<Offer>>,
    /// By (from, to): units that gave their copy on `to` up and could go back there from `from`, the cheapest first.
    returns: BTreeMap<(u32, u32), BTreeSet<(Cost, u32)>>,
    nodes_of_zone: Vec<Vec<u32>>,
    /// Per vertex (nodes, then the pool).
    distance: Vec<Cost>,
    arc: Vec<Arc>,
}

impl<'a> Search<'a> {
    pub fn new(
        instance: &'a Instance,
        shares: &'a Shares,
        layout: &'a mut Layout,
        bytes: bool,
        steps: u64,
    ) -> Self {
        let n = instance.usable.len();
        let mut units = vec![Vec::new(); n];
        for (list, &load) in units.iter_mut().zip(&layout.load) {
            list.reserve_exact(load as usize + 1);
        }
        for u in 0..instance.units() {
            let nodes = layout.nodes(instance, u);
            for &i in nodes {
                units[i as usize].push(u as u32);
            }
        }
        let mut nodes_of_zone = vec![Vec::new(); instance.zone_nodes.len()];
        for i in (0..n).filter(|&i| instance.usable[i]) {
            nodes_of_zone[instance.zone[i] as usize].push(i as u32);
        }
        Self {
            instance,
            shares,
            layout,
            bytes,
            steps_left: steps,
            units,
            offers: Vec::new(),
            returns: BTreeMap::new(),
            nodes_of_zone,
            distance: vec![Cost::default(); n + 1],
            arc: vec![NO_ARC; n + 1],
        }
    }

    /// Improves the layout until it is optimal or the steps are used up; tells the steps left.
    pub fn run(mut self) -> (End, u64) {
        let n = self.instance.usable.len();
        let zones = self.nodes_of_zone.len();
        if n.saturating_mul(zones) > OFFER_LISTS_MAX {
            return (End::Unknown, self.steps_left);
        }
        self.offers = vec![Vec::new(); n * zones];
        for i in (0..n).filter(|&i| self.instance.usable[i]) {
            self.list_offers(i);
        }
        for u in 0..self.instance.units() as u32 {
            self.list_returns(u, true);
        }
        loop {
            let cycles = self.negative_cycles();
            if self.steps_left == 0 {
                return (End::Unknown, 0);
            }
            if cycles.is_empty() {
                return (End::Optimal, self.steps_left);
            }
            let mut applied = false;
            for cycle in cycles {
                applied |= self.exhaust(cycle);
            }
            if !applied {
                return (End::Unknown, self.steps_left);
            }
        }
    }

    /// Carries a cycle out, and again with other copies on the same nodes as long as that pays.
    fn exhaust(&mut self, mut cycle: Vec<(Arc, u32)>) -> bool {
        let mut applied = false;
        while self.steps_left > 0 && self.apply(&cycle) {
            applied = true;
            match self.again(&cycle) {
                Some(next) => cycle = next,
                None => break,
            }
        }
        applied
    }

    /// The cheapest cycle through the same nodes, if its cost is negative.
    fn again(&mut self, cycle: &[(Arc, u32)]) -> Option<Vec<(Arc, u32)>> {
        let pool = self.instance.usable.len() as u32;
        let mut cost = Cost::default();
        let mut next = Vec::with_capacity(cycle.len());
        for &(arc, to) in cycle {
            let (unit, step) = if to == pool {
                (POOL_STEP, self.penalty_step(arc.from as usize, 1))
            } else if arc.from == pool {
                (POOL_STEP, self.penalty_step(to as usize, -1))
            } else {
                self.cheapest(arc.from, to)?
            };
            cost = cost.plus(step);
            next.push((Arc { from: arc.from, unit }, to));
        }
        self.spend(cycle.len());
        (cost < Cost::default()).then_some(next)
    }

    /// The cheapest unit that can go from one node to another.
    fn cheapest(&self, from: u32, to: u32) -> Option<(u32, Cost)> {
        let zones = self.nodes_of_zone.len();
        let offers = &self.offers[from as usize * zones + self.instance.zone[to as usize] as usize];
        let free = |o: &&Offer| !self.layout.nodes(self.instance, o.unit as usize).contains(&to);
        let offer = offers.iter().find(free).map(|o| (o.cost, o.unit));
        let back = self.returns.get(&(from, to)).and_then(|units| units.first().copied());
        let (cost, unit) = offer.into_iter().chain(back).min()?;
        Some((unit, cost))
    }

    fn spend(&mut self, steps: usize) {
        self.steps_left = self.steps_left.saturating_sub(steps as u64);
    }

    fn is_original(&self, u: u32, i: u32) -> bool {
        self.instance.held(u as usize).contains(&i)
    }

    fn bytes_of(&self, u: u32) -> i128 {
        if self.bytes { i128::from(self.instance.bytes[u as usize]) } else { 0 }
    }

    /// Whether one copy of `u` may go from node `i` into zone `z` by the rule of zones.
    fn zones_allow(&self, u: u32, i: u32, z: u32) -> bool {
        let from = self.instance.zone[i as usize];
        if from == z {
            return true;
        }
        let want = self.instance.want[u as usize];
        let there = |zone: u32| self.in_zone(u, zone);
        there(z) < self.instance.zone_range(want, z).1 && there(from) > self.instance.zone_range(want, from).0
    }

    fn in_zone(&self, u: u32, z: u32) -> u32 {
        let nodes = self.layout.nodes(self.instance, u as usize);
        nodes.iter().filter(|&&i| self.instance.zone[i as usize] == z).count() as u32
    }

    /// Lists the offers of node `i` to each zone: its cheapest copies, until no node of the zone holds all of them.
    fn list_offers(&mut self, i: usize) {
        let mut units = std::mem::take(&mut self.units[i]);
        if self.bytes {
            units.sort_by_cached_key(|&u| (self.is_original(u, i as u32), self.bytes_of(u), u));
        } else {
            let mut new = 0;
            for k in 0..units.len() {
                if !self.is_original(units[k], i as u32) {
                    units.swap(new, k);
                    new += 1;
                }
            }
        }
        let mut looked = units.len();
        let zones = self.nodes_of_zone.len();
        for z in 0..zones {
            let mut list = std::mem::take(&mut self.offers[i * zones + z]);
            list.clear();
            let mut held_by_all: Vec<u32> = Vec::new();
            for &u in &units {
                looked += 1;
                if zones > 1 && !self.zones_allow(u, i as u32, z as u32) {
                    continue;
                }
                let nodes = self.layout.nodes(self.instance, u as usize);
                let before = held_by_all.len();
                if list.is_empty() {
                    let here = |k: &u32| *k as usize != i && self.instance.zone[*k as usize] as usize == z;
                    held_by_all.extend(nodes.iter().copied().filter(here));
                } else {
                    held_by_all.retain(|k| nodes.contains(k));
                    if held_by_all.len() == before {
                        continue;
                    }
                }
                let original = self.is_original(u, i as u32);
                let bytes = if original { self.bytes_of(u) } else { 0 };
                list.push(Offer { unit: u, cost: Cost { imbalance: 0, copies: i64::from(original), bytes } });
                if held_by_all.is_empty() {
                    break;
                }
            }
            self.offers[i * zones + z] = list;
        }
        self.units[i] = units;
        self.spend(looked);
    }

    /// Squared distance of a load from the range of node `i`.
    fn penalty(&self, i: usize, load: i64) -> i64 {
        let below = (i64::from(self.shares.low[i]) - load).max(0);
        let above = (load - i64::from(self.shares.high[i])).max(0);
        let distance = (below + above).min(1 << 24);
        distance * distance
    }

    /// Cycles of negative cost that share no vertex; empty when there is none (or no step is left).
    fn negative_cycles(&mut self) -> Vec<Vec<(Arc, u32)>> {
        self.distance.fill(Cost::default());
        self.arc.fill(NO_ARC);
        for _ in 0..=self.distance.len() {
            let mut changed = false;
            for z in 0..self.nodes_of_zone.len() {
                changed |= self.relax_offers(z);
            }
            changed |= self.relax_returns();
            changed |= self.relax_pool();
            if !changed || self.steps_left == 0 {
                return Vec::new();
            }
            let cycles = self.cycles();
            if !cycles.is_empty() {
                return cycles;
            }
        }
        Vec::new()
    }

    fn reach(&mut self, to: u32, distance: Cost, arc: Arc) -> bool {
        let better = distance < self.distance[to as usize];
        if better {
            self.distance[to as usize] = distance;
            self.arc[to as usize] = arc;
        }
        better
    }

    /// All offers to zone `z`, cheapest first, each to the nodes that no cheaper one could reach.
    fn relax_offers(&mut self, z: usize) -> bool {
        let zones = self.nodes_of_zone.len();
        let mut ranked: Vec<(Cost, u32, u32)> = Vec::new();
        for i in (0..self.instance.usable.len()).filter(|&i| self.instance.usable[i]) {
            let distance = self.distance[i];
            ranked
                .extend(self.offers[i * zones + z].iter().map(|o| (distance.plus(o.cost), i as u32, o.unit)));
        }
        ranked.sort_unstable();
        let mut open = self.nodes_of_zone[z].clone();
        let mut changed = false;
        let mut looked = ranked.len() * 4;
        for (distance, from, unit) in ranked {
            looked += open.len();
            let mut rest = Vec::new();
            for &to in &open {
                if self.layout.nodes(self.instance, unit as usize).contains(&to) {
                    rest.push(to);
                } else {
                    changed |= self.reach(to, distance, Arc { from, unit });
                }
            }
            open = rest;
            if open.is_empty() {
                break;
            }
        }
        self.spend(looked);
        changed
    }

    /// Copies that go back to a node that gave theirs up.
    fn relax_returns(&mut self) -> bool {
        let returns = std::mem::take(&mut self.returns);
        let mut changed = false;
        for (&(from, to), units) in &returns {
            if let Some(&(cost, unit)) = units.first() {
                let distance = self.distance[from as usize].plus(cost);
                changed |= self.reach(to, distance, Arc { from, unit });
            }
        }
        self.spend(returns.len());
        self.returns = returns;
        changed
    }

    /// Notes (or forgets) the ways back that unit `u` has from where it is now.
    fn list_returns(&mut self, u: u32, note: bool) {
        let unit = u as usize;
        let nodes = self.layout.nodes(self.instance, unit);
        for &to in self.instance.held(unit) {
            if !self.instance.usable[to as usize] || nodes.contains(&to) {
                continue;
            }
            for &from in nodes {
                if !self.zones_allow(u, from, self.instance.zone[to as usize]) {
                    continue;
                }
                let saves = !self.is_original(u, from);
                let bytes = if saves { -self.bytes_of(u) } else { 0 };
                let entry = (Cost { imbalance: 0, copies: -i64::from(saves), bytes }, u);
                let units = self.returns.entry((from, to)).or_default();
                if note {
                    units.insert(entry);
                } else {
                    units.remove(&entry);
                }
            }
        }
    }

    /// What it costs when the load of a node changes by one.
    fn penalty_step(&self, i: usize, by: i64) -> Cost {
        let load = i64::from(self.layout.load[i]);
        Cost { imbalance: self.penalty(i, load + by) - self.penalty(i, load), ..Cost::default() }
    }

    /// Chains that end at a node (it keeps one more) and begin at another (it keeps one less).
    fn relax_pool(&mut self) -> bool {
        let n = self.instance.usable.len();
        let pool = n as u32;
        let mut changed = false;
        self.spend(2 * n);
        for i in (0..n).filter(|&i| self.instance.usable[i]) {
            let distance = self.distance[i].plus(self.penalty_step(i, 1));
            changed |= self.reach(pool, distance, Arc { from: i as u32, unit: POOL_STEP });
        }
        for i in 0..n {
            if !self.instance.usable[i] || self.layout.load[i] == 0 {
                continue;
            }
            let distance = self.distance[n].plus(self.penalty_step(i, -1));
            changed |= self.reach(i as u32, distance, Arc { from: pool, unit: POOL_STEP });
        }
        changed
    }

    /// The cycles in the parent pointers, each as (step, vertex reached).
    fn cycles(&mut self) -> Vec<Vec<(Arc, u32)>> {
        let count = self.arc.len();
        let mut seen_in = vec![u32::MAX; count];
        let mut cycles = Vec::new();
        for start in 0..count {
            let mut at = start;
            while seen_in[at] == u32::MAX && self.arc[at] != NO_ARC {
                seen_in[at] = start as u32;
                at = self.arc[at].from as usize;
            }
            if seen_in[at] != start as u32 || self.arc[at] == NO_ARC {
                seen_in[at] = seen_in[at].min(start as u32);
                continue;
            }
            let mut cycle = Vec::new();
            let first = at;
            loop {
                cycle.push((self.arc[at], at as u32));
                at = self.arc[at].from as usize;
                if at == first {
                    break;
                }
            }
            cycles.push(cycle);
        }
        self.spend(count);
        cycles
    }

    /// Carries a cycle out unless another one has taken its copies or it would break the rule of zones.
    fn apply(&mut self, cycle: &[(Arc, u32)]) -> bool {
        let steps: Vec<(u32, u32, u32)> = cycle
            .iter()
            .filter(|(arc, _)| arc.unit != POOL_STEP)
            .map(|&(arc, to)| (arc.unit, arc.from, to))
            .collect();
        let possible = steps.iter().all(|&(u, from, to)| {
            let nodes = self.layout.nodes(self.instance, u as usize);
            nodes.contains(&from) && !nodes.contains(&to)
        });
        let units: BTreeSet<u32> = steps.iter().map(|&(u, ..)| u).collect();
        if !possible {
            return false;
        }
        for &u in &units {
            self.list_returns(u, false);
        }
        for &(u, from, to) in &steps {
            self.layout.replace(self.instance, u as usize, from, to);
        }
        let holds = units.iter().all(|&u| self.zones_hold(u));
        if !holds {
            for &(u, from, to) in &steps {
                self.layout.replace(self.instance, u as usize, to, from);
            }
        }
        for &u in &units {
            self.list_returns(u, true);
        }
        if !holds {
            return false;
        }
        let mut touched = BTreeSet::new();
        for &(u, from, to) in &steps {
            self.units[from as usize].retain(|&other| other != u);
            self.units[to as usize].push(u);
            touched.extend(self.layout.nodes(self.instance, u as usize));
            touched.extend([from, to]);
        }
        for i in touched {
            self.list_offers(i as usize);
        }
        true
    }

    fn zones_hold(&self, u: u32) -> bool {
        !self.instance.zoned()
            || (0..self.nodes_of_zone.len() as u32).all(|z| {
                let (low, high) = self.instance.zone_range(self.instance.want[u as usize], z);
                (low..=high).contains(&self.in_zone(u, z))
            })
    }
}
