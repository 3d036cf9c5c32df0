//! The first placement: keep what may be kept, restore what is missing, move what is too much, each to the node
//! that lacks the most. Near the optimum and often on it; `search` does the rest.

use crate::{instance::Instance, share::Shares};
use std::{cmp::Reverse, collections::BinaryHeap};

/// A placement under construction: unit `u` is on `slots[slot_start[u]..][..len[u]]`.
pub(crate) struct Layout {
    pub slots: Vec<u32>,
    pub len: Vec<u32>,
    /// Copies per node.
    pub load: Vec<u32>,
}

impl Layout {
    /// All copies that exist on usable nodes and that the unit may keep there.
    pub fn kept(instance: &Instance) -> Self {
        let mut layout = Self {
            slots: vec![u32::MAX; instance.total() as usize],
            len: vec![0; instance.units()],
            load: vec![0; instance.usable.len()],
        };
        for &i in &instance.held {
            layout.load[i as usize] += u32::from(instance.usable[i as usize]);
        }
        let mut keep = Vec::new();
        for u in 0..instance.units() {
            keep.clear();
            keep.extend(instance.held(u).iter().filter(|&&i| instance.usable[i as usize]));
            while let Some(drop) = one_too_many(instance, u, &keep, &layout.load) {
                layout.load[keep.swap_remove(drop) as usize] -= 1;
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

    pub fn add(&mut self, instance: &Instance, u: usize, node: u32) {
        self.slots[(instance.slot_start[u] + self.len[u]) as usize] = node;
        self.len[u] += 1;
        self.load[node as usize] += 1;
    }

    pub fn replace(&mut self, instance: &Instance, u: usize, from: u32, to: u32) {
        let start = instance.slot_start[u] as usize;
        let slots = &mut self.slots[start..start + self.len[u] as usize];
        if let Some(slot) = slots.iter_mut().find(|slot| **slot == from) {
            *slot = to;
            self.load[from as usize] -= 1;
            self.load[to as usize] += 1;
        }
    }
}

/// The copy to give up first while a unit has more than it shall have, or more than its zones may hold: the one on
/// the fullest node.
fn one_too_many(instance: &Instance, u: usize, keep: &[u32], load: &[u32]) -> Option<usize> {
    let want = instance.want[u];
    let crowded = |z: u32| {
        let there = keep.iter().filter(|&&i| instance.zone[i as usize] == z).count() as u32;
        there > instance.zone_range(want, z).1
    };
    let zone_of = |i: u32| instance.zone[i as usize];
    let by_zone = instance.zoned() && keep.iter().any(|&i| crowded(zone_of(i)));
    if !by_zone && keep.len() as u32 + zones_short(instance, want, keep) <= want {
        return None;
    }
    let fullness = |i: u32| f64::from(load[i as usize]) / instance.capacity[i as usize];
    let spare = |i: u32| {
        if by_zone {
            return crowded(zone_of(i));
        }
        let there = keep.iter().filter(|&&k| zone_of(k) == zone_of(i)).count() as u32;
        !instance.zoned() || there > instance.zone_range(want, zone_of(i)).0
    };
    (0..keep.len())
        .filter(|&k| spare(keep[k]))
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

/// Nodes by what they lack, one heap a zone. Entries that are out of date are dropped when they surface.
struct Lacking {
    target: Vec<u32>,
    heaps: Vec<BinaryHeap<(i64, Reverse<u32>)>>,
    aside: Vec<(i64, Reverse<u32>)>,
}

impl Lacking {
    fn new(instance: &Instance, layout: &Layout, target: Vec<u32>) -> Self {
        let mut heaps = vec![BinaryHeap::new(); instance.zone_nodes.len()];
        for i in (0..target.len()).filter(|&i| instance.usable[i]) {
            let lack = i64::from(target[i]) - i64::from(layout.load[i]);
            heaps[instance.zone[i] as usize].push((lack, Reverse(i as u32)));
        }
        Self { target, heaps, aside: Vec::new() }
    }

    fn lack(&self, layout: &Layout, i: u32) -> i64 {
        i64::from(self.target[i as usize]) - i64::from(layout.load[i as usize])
    }

    /// The node that lacks the most among those in open zones that are not in `taken`.
    fn best(
        &mut self,
        instance: &Instance,
        layout: &Layout,
        u: usize,
        taken: &[u32],
        without: &[u32],
    ) -> Option<(i64, u32)> {
        let want = instance.want[u];
        let mut best: Option<(i64, Reverse<u32>)> = None;
        for z in 0..self.heaps.len() {
            if !zone_open(instance, want, without, z as u32) {
                continue;
            }
            while let Some(&(lack, Reverse(i))) = self.heaps[z].peek() {
                if lack != self.lack(layout, i) {
                    self.heaps[z].pop();
                } else if taken.contains(&i) {
                    let entry = self.heaps[z].pop();
                    self.aside.extend(entry);
                } else {
                    best = best.max(Some((lack, Reverse(i))));
                    break;
                }
            }
            let heap = &mut self.heaps[z];
            heap.extend(self.aside.drain(..));
        }
        best.map(|(lack, Reverse(i))| (lack, i))
    }

    /// Notes that the load of node `i` has changed.
    fn changed(&mut self, instance: &Instance, layout: &Layout, i: u32) {
        let lack = self.lack(layout, i);
        self.heaps[instance.zone[i as usize] as usize].push((lack, Reverse(i)));
    }
}

/// Places equal units: every unit gets what it shall have, every node comes as near to its share as it does
/// without moving a unit twice.
pub(crate) fn fill(instance: &Instance, shares: &Shares) -> Layout {
    let mut layout = Layout::kept(instance);
    let target = shares.targets(&layout.load, instance.total());
    let mut lacking = Lacking::new(instance, &layout, target);
    restore(instance, &mut layout, &mut lacking);
    shift(instance, &mut layout, &mut lacking);
    layout
}

/// Gives every unit its missing copies.
fn restore(instance: &Instance, layout: &mut Layout, lacking: &mut Lacking) {
    for u in 0..instance.units() {
        while layout.len[u] < instance.want[u] {
            let nodes = layout.nodes(instance, u);
            let Some((_, to)) = lacking.best(instance, layout, u, nodes, nodes) else { break };
            layout.add(instance, u, to);
            lacking.changed(instance, layout, to);
        }
    }
}

/// Moves copies from nodes above their target to nodes below, smallest units first.
fn shift(instance: &Instance, layout: &mut Layout, lacking: &mut Lacking) {
    let over: Vec<bool> = (0..lacking.target.len()).map(|i| layout.load[i] > lacking.target[i]).collect();
    if !over.contains(&true) {
        return;
    }
    let (start, mut units) = units_by_node(instance, layout, &over);
    let mut rest = Vec::new();
    for i in (0..over.len()).filter(|&i| over[i]) {
        let here = &mut units[start[i] as usize..start[i + 1] as usize];
        here.sort_by_key(|&u| instance.bytes[u as usize]);
        for &u in &*here {
            if layout.load[i] <= lacking.target[i] {
                break;
            }
            let u = u as usize;
            let nodes = layout.nodes(instance, u);
            rest.clear();
            rest.extend(nodes.iter().filter(|&&k| k as usize != i));
            match lacking.best(instance, layout, u, nodes, &rest) {
                Some((lack, to)) if lack > 0 => {
                    layout.replace(instance, u, i as u32, to);
                    lacking.changed(instance, layout, i as u32);
                    lacking.changed(instance, layout, to);
                }
                _ => {}
            }
        }
    }
}

/// The units on each node that is `chosen`: those of node `i` are `units[start[i]..start[i + 1]]`, in order.
pub(crate) fn units_by_node(instance: &Instance, layout: &Layout, chosen: &[bool]) -> (Vec<u32>, Vec<u32>) {
    let mut start = vec![0u32; chosen.len() + 1];
    for i in 0..chosen.len() {
        start[i + 1] = start[i] + if chosen[i] { layout.load[i] } else { 0 };
    }
    let mut next = start.clone();
    let mut units = vec![0; start[chosen.len()] as usize];
    for u in 0..instance.units() {
        for &i in layout.nodes(instance, u) {
            if chosen[i as usize] {
                units[next[i as usize] as usize] = u as u32;
                next[i as usize] += 1;
            }
        }
    }
    (start, units)
}
