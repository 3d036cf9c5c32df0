//! The first placement: keep what may be kept, restore what is missing, move what is too much, each to the node
//! that lacks the most. Near the optimum and often on it; `search` does the rest.

use crate::{instance::Instance, share::Shares};
use std::{cmp::Ordering, collections::BinaryHeap};

/// A placement under construction: unit `u` is on `slots[slot_start[u]..][..len[u]]`.
pub(crate) struct Layout {
    pub slots: Vec<u32>,
    pub len: Vec<u32>,
    /// Copies per node.
    pub load: Vec<u32>,
    /// Weight per node; kept up to date only where weights differ.
    pub weight: Vec<f64>,
}

impl Layout {
    /// All copies that exist on usable nodes and that the unit may keep there.
    pub fn kept(instance: &Instance) -> Self {
        let nodes = instance.usable.len();
        let mut layout = Self {
            slots: vec![u32::MAX; instance.total() as usize],
            len: vec![0; instance.units()],
            load: vec![0; nodes],
            weight: vec![0.0; nodes],
        };
        for u in 0..instance.units() {
            for &i in instance.held(u).iter().filter(|&&i| instance.usable[i as usize]) {
                layout.load[i as usize] += 1;
                layout.weight[i as usize] += instance.weight[u];
            }
        }
        let mut keep = Vec::new();
        for u in 0..instance.units() {
            keep.clear();
            keep.extend(instance.held(u).iter().filter(|&&i| instance.usable[i as usize]));
            while let Some(drop) = one_too_many(instance, u, &keep, &layout) {
                let i = keep.swap_remove(drop) as usize;
                layout.load[i] -= 1;
                layout.weight[i] -= instance.weight[u];
            }
            let start = instance.slot_start[u] as usize;
            layout.slots[start..start + keep.len()].copy_from_slice(&keep);
            layout.len[u] = keep.len() as u32;
        }
        layout
    }

    pub fn nodes(&self, instance: &Instance, u: usize) -> &[u32] {
        let start = instance.slot_start[u] as usize;
        &self.slots[start..start + self.len[u] as usize]
    }

    /// What node `i` holds, in what balance evens: copies where all weigh the same, else weight.
    pub fn amount(&self, instance: &Instance, i: usize) -> f64 {
        if instance.equal { f64::from(self.load[i]) } else { self.weight[i] }
    }

    pub fn add(&mut self, instance: &Instance, u: usize, node: u32) {
        self.slots[(instance.slot_start[u] + self.len[u]) as usize] = node;
        self.len[u] += 1;
        self.load[node as usize] += 1;
        self.weight[node as usize] += instance.weight[u];
    }

    pub fn replace(&mut self, instance: &Instance, u: usize, from: u32, to: u32) {
        let start = instance.slot_start[u] as usize;
        let slots = &mut self.slots[start..start + self.len[u] as usize];
        if let Some(slot) = slots.iter_mut().find(|slot| **slot == from) {
            *slot = to;
            self.load[from as usize] -= 1;
            self.load[to as usize] += 1;
            self.weight[from as usize] -= instance.weight[u];
            self.weight[to as usize] += instance.weight[u];
        }
    }

    pub fn remove(&mut self, instance: &Instance, u: usize, node: u32) {
        let start = instance.slot_start[u] as usize;
        let slots = &mut self.slots[start..start + self.len[u] as usize];
        if let Some(at) = slots.iter().position(|&i| i == node) {
            slots[at..].rotate_left(1);
            self.len[u] -= 1;
            self.load[node as usize] -= 1;
            self.weight[node as usize] -= instance.weight[u];
        }
    }

    /// Copies that are not there yet.
    pub fn copies_made(&self, instance: &Instance) -> u64 {
        let new = |u: usize| {
            let held = instance.held(u);
            self.nodes(instance, u).iter().filter(|i| !held.contains(i)).count() as u64
        };
        (0..instance.units()).map(new).sum()
    }

    /// Takes copies off nodes beyond their limit, new ones first.
    pub fn enforce_limit(&mut self, instance: &Instance) {
        let beyond = |layout: &Self, i: u32| layout.load[i as usize] > instance.node_limit;
        if !(0..self.load.len() as u32).any(|i| beyond(self, i)) {
            return;
        }
        for new in [true, false] {
            for u in (0..instance.units()).rev() {
                for i in self.nodes(instance, u).to_vec() {
                    if beyond(self, i) && instance.held(u).contains(&i) != new {
                        self.remove(instance, u, i);
                    }
                }
            }
        }
    }

    /// Sums the weights anew, in the order of the units: a layout reached step by step and the same one read from a
    /// problem must not differ by rounding.
    pub fn sum_weights(&mut self, instance: &Instance) {
        self.weight.fill(0.0);
        for u in 0..instance.units() {
            let start = instance.slot_start[u] as usize;
            for &i in &self.slots[start..start + self.len[u] as usize] {
                self.weight[i as usize] += instance.weight[u];
            }
        }
    }
}

/// The copy to give up first while a unit has more than it shall have, or more than its zones may hold: the one on
/// the fullest node.
fn one_too_many(instance: &Instance, u: usize, keep: &[u32], layout: &Layout) -> Option<usize> {
    let want = instance.want[u];
    if !instance.zoned() && keep.len() as u32 <= want {
        return None;
    }
    let zone_of = |i: u32| instance.zone[i as usize];
    let there = |z: u32| keep.iter().filter(|&&i| zone_of(i) == z).count() as u32;
    let crowded = |i: u32| there(zone_of(i)) > instance.zone_range(want, zone_of(i)).1;
    let by_zone = instance.zoned() && keep.iter().any(|&i| crowded(i));
    if !by_zone && keep.len() as u32 + zones_short(instance, want, keep) <= want {
        return None;
    }
    let spare = |i: u32| {
        if by_zone { crowded(i) } else { there(zone_of(i)) > instance.zone_range(want, zone_of(i)).0 }
    };
    let fullness = |i: u32| layout.amount(instance, i as usize) / instance.capacity[i as usize];
    (0..keep.len())
        .filter(|&k| !instance.zoned() || spare(keep[k]))
        .max_by(|&a, &b| fullness(keep[a]).total_cmp(&fullness(keep[b])).then(keep[a].cmp(&keep[b])))
}

/// Copies that must still go to zones that hold fewer than their least number.
fn zones_short(instance: &Instance, want: u32, keep: &[u32]) -> u32 {
    if !instance.zoned() || instance.zone_quota[want as usize] <= 1 {
        return 0;
    }
    (0..instance.zone_nodes.len() as u32)
        .map(|z| {
            let there = keep.iter().filter(|&&i| instance.zone[i as usize] == z).count() as u32;
            instance.zone_range(want, z).0.saturating_sub(there)
        })
        .sum()
}

/// Whether zone `z` may take one more copy of a unit that is on `nodes`.
pub(crate) fn zone_open(instance: &Instance, want: u32, nodes: &[u32], z: u32) -> bool {
    if !instance.zoned() {
        return true;
    }
    let there = nodes.iter().filter(|&&i| instance.zone[i as usize] == z).count() as u32;
    let (low, high) = instance.zone_range(want, z);
    let short = zones_short(instance, want, nodes);
    there < high && (there < low || nodes.len() as u32 + short < want)
}

/// What a node lacks, for the heap.
#[derive(Clone, Copy, PartialEq)]
struct Entry {
    lack: f64,
    node: u32,
}

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.lack.total_cmp(&other.lack).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Nodes by what they lack, one heap a zone. Entries that are out of date are dropped when they surface.
struct Lacking {
    target: Vec<f64>,
    heaps: Vec<BinaryHeap<Entry>>,
    aside: Vec<Entry>,
}

impl Lacking {
    fn new(instance: &Instance, layout: &Layout, target: Vec<f64>) -> Self {
        let heaps = vec![BinaryHeap::new(); instance.zone_nodes.len()];
        let mut lacking = Self { target, heaps, aside: Vec::new() };
        for i in (0..instance.usable.len()).filter(|&i| instance.usable[i]) {
            lacking.changed(instance, layout, i as u32);
        }
        lacking
    }

    fn lack(&self, instance: &Instance, layout: &Layout, i: u32) -> f64 {
        self.target[i as usize] - layout.amount(instance, i as usize)
    }

    /// The node that lacks the most among those that unit `u` is not on, in zones that are open to it while it is
    /// on the nodes `on`.
    fn best(&mut self, instance: &Instance, layout: &Layout, u: usize, on: &[u32]) -> Option<Entry> {
        let want = instance.want[u];
        let taken = layout.nodes(instance, u);
        let mut best = None;
        for z in 0..self.heaps.len() {
            if !zone_open(instance, want, on, z as u32) {
                continue;
            }
            while let Some(&entry) = self.heaps[z].peek() {
                if entry.lack.total_cmp(&self.lack(instance, layout, entry.node)).is_ne() {
                    self.heaps[z].pop();
                } else if taken.contains(&entry.node) {
                    let entry = self.heaps[z].pop();
                    self.aside.extend(entry);
                } else {
                    best = best.max(Some(entry));
                    break;
                }
            }
            self.heaps[z].extend(self.aside.drain(..));
        }
        best
    }

    /// Notes that the load of node `i` has changed.
    fn changed(&mut self, instance: &Instance, layout: &Layout, i: u32) {
        let lack = self.lack(instance, layout, i);
        self.heaps[instance.zone[i as usize] as usize].push(Entry { lack, node: i });
    }
}

/// Places equal units: every unit gets what it shall have, every node comes as near to its share as it does
/// without moving a unit twice.
pub(crate) fn fill_equal(instance: &Instance, shares: &Shares) -> Layout {
    let mut layout = Layout::kept(instance);
    let target: Vec<f64> =
        shares.targets(&layout.load, instance.total()).into_iter().map(f64::from).collect();
    let mut lacking = Lacking::new(instance, &layout, target);
    restore(instance, &mut layout, &mut lacking, 0..instance.units());
    shift(instance, &mut layout, &mut lacking);
    layout
}

/// Places units of any weight: keeps what may be kept and restores what is missing, the heaviest first.
pub(crate) fn fill_weighted(instance: &Instance, share: Vec<f64>) -> Layout {
    let mut layout = Layout::kept(instance);
    layout.sum_weights(instance);
    let mut lacking = Lacking::new(instance, &layout, share);
    let mut order: Vec<usize> = (0..instance.units()).filter(|&u| layout.len[u] < instance.want[u]).collect();
    order.sort_by(|&a, &b| instance.weight[b].total_cmp(&instance.weight[a]));
    restore(instance, &mut layout, &mut lacking, order.into_iter());
    layout
}

/// Gives units their missing copies.
fn restore(
    instance: &Instance,
    layout: &mut Layout,
    lacking: &mut Lacking,
    units: impl Iterator<Item = usize>,
) {
    for u in units {
        while layout.len[u] < instance.want[u] {
            let Some(Entry { node, .. }) = lacking.best(instance, layout, u, layout.nodes(instance, u))
            else {
                break;
            };
            layout.add(instance, u, node);
            lacking.changed(instance, layout, node);
        }
    }
}

/// Moves copies of equal units from nodes above their target to nodes below, those with the fewest bytes first. Each
/// pass moves at most one copy of a unit: a node that shall get nearly all units could not be filled otherwise.
fn shift(instance: &Instance, layout: &mut Layout, lacking: &mut Lacking) {
    let mut order: Vec<u32> = (0..instance.units() as u32).collect();
    if instance.bytes.windows(2).any(|pair| pair[0] != pair[1]) {
        order.sort_by_key(|&u| instance.bytes[u as usize]);
    }
    let surplus = |layout: &Layout, lacking: &Lacking, i: u32| -lacking.lack(instance, layout, i);
    let mut left: f64 = (0..instance.usable.len() as u32).map(|i| surplus(layout, lacking, i).max(0.0)).sum();
    let mut rest = Vec::new();
    let mut moved = true;
    while moved && left > 0.0 {
        moved = false;
        for u in order.iter().map(|&u| u as usize) {
            let nodes = layout.nodes(instance, u);
            let fullest = nodes.iter().copied().max_by(|&a, &b| {
                surplus(layout, lacking, a).total_cmp(&surplus(layout, lacking, b)).then(b.cmp(&a))
            });
            let Some(from) = fullest.filter(|&i| surplus(layout, lacking, i) > 0.0) else { continue };
            rest.clear();
            rest.extend(nodes.iter().filter(|&&k| k != from));
            if let Some(Entry { lack, node }) = lacking.best(instance, layout, u, &rest)
                && lack > 0.0
            {
                layout.replace(instance, u, from, node);
                lacking.changed(instance, layout, from);
                lacking.changed(instance, layout, node);
                moved = true;
                left -= 1.0;
            }
            if left <= 0.0 {
                break;
            }
        }
    }
}
