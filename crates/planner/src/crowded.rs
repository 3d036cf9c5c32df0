//! Placement while more copies exist than the nodes may hold: nothing is balanced. What has no copy comes first,
//! then copies that must leave a node, then nodes beyond their limit, then copies that are missing; each takes the
//! emptiest place there is, and what finds none stays where it is.
//!
//! A place taken is never given back, so what found none finds none when the result is solved again.

use crate::{
    fill::{Layout, zone_open},
    instance::Instance,
};

pub(crate) fn settle(instance: &Instance) -> Layout {
    let mut layout = Layout::kept(instance);
    let mut places = Places::new(instance, &layout);
    let full = |u: usize| instance.want[u];
    let there = |u: usize| full(u).min(instance.held(u).len() as u32);
    let first = |u: usize| full(u).min(1);
    for wanted in [&first as &dyn Fn(usize) -> u32, &there] {
        places.fill(&mut layout, wanted);
    }
    places.relieve(&mut layout);
    places.fill(&mut layout, &full);
    layout.enforce_limit(instance);
    layout.sum_weights(instance);
    layout
}

/// The nodes that may take a copy more.
struct Places<'a> {
    instance: &'a Instance,
    open: Vec<u32>,
}

impl<'a> Places<'a> {
    fn new(instance: &'a Instance, layout: &Layout) -> Self {
        let open = |&i: &u32| instance.usable[i as usize] && layout.load[i as usize] < instance.node_limit;
        Self { instance, open: (0..instance.usable.len() as u32).filter(open).collect() }
    }

    /// The emptiest place for a copy of unit `u` while the unit is on the nodes `on`.
    fn best(&self, layout: &Layout, u: usize, on: &[u32]) -> Option<u32> {
        let free = |&&i: &&u32| {
            !layout.nodes(self.instance, u).contains(&i)
                && zone_open(self.instance, self.instance.want[u], on, self.instance.zone[i as usize])
        };
        self.open.iter().filter(free).min_by_key(|&&i| (layout.load[i as usize], i)).copied()
    }

    fn taken(&mut self, layout: &Layout, node: u32) {
        if layout.load[node as usize] >= self.instance.node_limit {
            self.open.retain(|&i| i != node);
        }
    }

    /// Gives every unit as many copies as `wanted` tells, as far as there are places.
    fn fill(&mut self, layout: &mut Layout, wanted: &dyn Fn(usize) -> u32) {
        for u in 0..self.instance.units() {
            while !self.open.is_empty() && layout.len[u] < wanted(u) {
                let Some(node) = self.best(layout, u, layout.nodes(self.instance, u)) else { break };
                layout.add(self.instance, u, node);
                self.taken(layout, node);
            }
        }
    }

    /// Moves copies off nodes that are beyond their limit.
    fn relieve(&mut self, layout: &mut Layout) {
        for u in 0..self.instance.units() {
            for from in layout.nodes(self.instance, u).to_vec() {
                if self.open.is_empty() || layout.load[from as usize] <= self.instance.node_limit {
                    continue;
                }
                let on: Vec<u32> =
                    layout.nodes(self.instance, u).iter().copied().filter(|&i| i != from).collect();
                if let Some(to) = self.best(layout, u, &on) {
                    layout.replace(self.instance, u, from, to);
                    self.taken(layout, to);
                }
            }
        }
    }
}
