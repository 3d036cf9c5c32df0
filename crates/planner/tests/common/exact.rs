//! The optimum of the transport problem by successive shortest paths over an explicit network: slow, plain, and
//! with nothing in common with the planner's search.

use planner::{NodeState, Problem};
use std::collections::BTreeMap;

/// Worth more than all copies of a test together.
const RANGE: i64 = 1_000_000_000_000;
/// Worth more than all bytes of a test together.
const COPY: i64 = 1_000_000;

struct Edge {
    to: usize,
    room: i64,
    cost: i64,
}

#[derive(Default)]
struct Network {
    edges: Vec<Edge>,
    out: Vec<Vec<usize>>,
}

impl Network {
    fn vertex(&mut self) -> usize {
        self.out.push(Vec::new());
        self.out.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, room: i64, cost: i64) {
        self.out[from].push(self.edges.len());
        self.edges.push(Edge { to, room, cost });
        self.out[to].push(self.edges.len());
        self.edges.push(Edge { to: from, room: 0, cost: -cost });
    }

    /// Sends as much as possible from 0 to 1 and tells the flow and its cost.
    fn solve(&mut self) -> (i64, i64) {
        let (mut flow, mut cost) = (0, 0);
        loop {
            let mut distance = vec![i64::MAX; self.out.len()];
            let mut by = vec![usize::MAX; self.out.len()];
            distance[0] = 0;
            let mut changed = true;
            while changed {
                changed = false;
                for from in 0..self.out.len() {
                    if distance[from] == i64::MAX {
                        continue;
                    }
                    for &e in &self.out[from] {
                        let edge = &self.edges[e];
                        if edge.room > 0 && distance[from] + edge.cost < distance[edge.to] {
                            distance[edge.to] = distance[from] + edge.cost;
                            by[edge.to] = e;
                            changed = true;
                        }
                    }
                }
            }
            if distance[1] == i64::MAX {
                return (flow, cost);
            }
            let mut at = 1;
            while at != 0 {
                let e = by[at];
                self.edges[e].room -= 1;
                self.edges[e ^ 1].room += 1;
                at = self.edges[e ^ 1].to;
            }
            flow += 1;
            cost += distance[1];
        }
    }
}

/// The range of copies of each active node when all units weigh the same, all have the same rf or all nodes the
/// same capacity, and there are no zones: proportional to capacity, but no node can hold more copies than units.
pub fn ranges(problem: &Problem) -> Vec<(i64, i64)> {
    let active: Vec<usize> = active(problem);
    let total: u64 = problem.units.iter().map(|u| u64::from(u.rf).min(active.len() as u64)).sum();
    let mut share = vec![0.0; problem.nodes.len()];
    let mut open = active.clone();
    let mut left = total as f64;
    loop {
        let capacity: f64 = open.iter().map(|&i| problem.nodes[i].capacity).sum();
        let over: Vec<usize> = open
            .iter()
            .copied()
            .filter(|&i| left * problem.nodes[i].capacity / capacity > problem.units.len() as f64 + 1e-9)
            .collect();
        if over.is_empty() {
            for &i in &open {
                share[i] = left * problem.nodes[i].capacity / capacity;
            }
            break;
        }
        for i in over {
            share[i] = problem.units.len() as f64;
            left -= share[i];
            open.retain(|&k| k != i);
        }
    }
    share
        .iter()
        .map(|&s: &f64| {
            let whole = (s - s.round()).abs() < 1e-6;
            if whole { (s.round() as i64, s.round() as i64) } else { (s.floor() as i64, s.ceil() as i64) }
        })
        .collect()
}

pub fn active(problem: &Problem) -> Vec<usize> {
    (0..problem.nodes.len()).filter(|&i| problem.nodes[i].state == NodeState::Active).collect()
}

/// The fewest and the most copies each zone holds of a unit with `want` copies, by name: spread one by one to the
/// zone that has the fewest and a free node.
fn zone_ranges(problem: &Problem, want: i64) -> BTreeMap<Option<String>, (i64, i64)> {
    let mut nodes: BTreeMap<Option<String>, i64> = BTreeMap::new();
    for i in active(problem) {
        *nodes.entry(problem.nodes[i].zone.clone()).or_default() += 1;
    }
    let mut copies: BTreeMap<Option<String>, i64> = nodes.keys().map(|z| (z.clone(), 0)).collect();
    for _ in 0..want {
        let free = copies.iter().filter(|(zone, count)| **count < nodes[*zone]);
        let zone = free.min_by_key(|(_, count)| **count).expect("want is at most the nodes").0.clone();
        *copies.get_mut(&zone).expect("zone") += 1;
    }
    let most = copies.values().copied().max().unwrap_or(0);
    nodes.into_iter().map(|(zone, n)| (zone, (n.min((most - 1).max(0)), n.min(most)))).collect()
}

/// The fewest copies and then the fewest bytes, with every node within its range and the copies of a unit spread
/// over the zones; `None` when that is impossible.
pub fn optimum(problem: &Problem, ranges: &[(i64, i64)]) -> Option<(u64, u64)> {
    let active = active(problem);
    let mut network = Network::default();
    let (source, sink) = (network.vertex(), network.vertex());
    let node: Vec<usize> = problem.nodes.iter().map(|_| network.vertex()).collect();
    let (mut demand, mut least) = (0, 0);
    for unit in &problem.units {
        let vertex = network.vertex();
        let want = i64::from(unit.rf).min(active.len() as i64);
        demand += want;
        network.edge(source, vertex, want, 0);
        for (zone, (low, high)) in zone_ranges(problem, want) {
            let part = network.vertex();
            least += low;
            network.edge(vertex, part, low, -RANGE);
            network.edge(vertex, part, high - low, 0);
            for &i in active.iter().filter(|&&i| problem.nodes[i].zone == zone) {
                let kept = unit.replicas.contains(&problem.nodes[i].id);
                let cost = if kept { 0 } else { COPY + unit.bytes as i64 };
                network.edge(part, node[i], 1, cost);
            }
        }
    }
    for &i in &active {
        let (low, high) = ranges[i];
        least += low;
        network.edge(node[i], sink, low, -RANGE);
        network.edge(node[i], sink, high - low, 0);
    }
    let (flow, cost) = network.solve();
    let cost = cost + least * RANGE;
    (flow == demand && cost < RANGE).then_some(((cost / COPY) as u64, (cost % COPY) as u64))
}
