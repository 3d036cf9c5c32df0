//! When each move runs: rounds in which no node receives or sends more copies than its limits.
//!
//! Senders and receivers form a bipartite multigraph, so the fewest rounds are the largest number of transfers at
//! one end divided by its limit, rounded up (D. König, 1916; with limits above 1, D. de Werra, 1971): that number is
//! always reached. Each move takes the first round with room at both ends, the most endangered units first; where
//! there is none, a chain of moves changes places between two rounds.
//!
//! A restored copy is sent by any node that keeps one, here the least busy; a copy that is only given up occupies its
//! node like one that is sent, because cluster commands on a node run one by one.

use crate::instance::Instance;
use std::collections::{BTreeMap, BTreeSet};

/// No node: nothing is sent, or nothing received.
pub(crate) const NONE: u32 = u32::MAX;

/// A move by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub unit: u32,
    pub to: u32,
    pub from: u32,
    /// Copies the unit has when this one is restored; `NONE` where it is not a restore. Fewer is more urgent.
    pub left: u32,
}

/// A common free round is looked for in so many rounds; after that a chain is shorter than looking on.
const WINDOW: u32 = 64;

/// Rounds of indices into `steps`.
pub(crate) fn rounds(instance: &Instance, limit_in: u32, limit_out: u32, steps: &[Step]) -> Vec<Vec<usize>> {
    let mut order: Vec<u32> = (0..steps.len() as u32).collect();
    order.sort_by_key(|&k| (steps[k as usize].left, k));
    let ends = ends(instance, steps, &order);
    let mut coloring = Coloring::new(&ends, instance.usable.len(), [limit_out.max(1), limit_in.max(1)]);
    let two_ended = |k: &&u32| ends[**k as usize].iter().all(|&end| end != NONE);
    for &k in order.iter().filter(two_ended) {
        coloring.place(k);
    }
    for &k in order.iter().filter(|k| !two_ended(k)) {
        coloring.place_one_ended(k);
    }
    let mut rounds = vec![Vec::new(); coloring.rounds as usize];
    for (k, &round) in coloring.round.iter().enumerate() {
        rounds[round as usize].push(k);
    }
    // Chains may have pushed an urgent move back; whole rounds change places freely.
    let urgency = |round: &Vec<usize>| {
        let mut left: Vec<u32> = round.iter().map(|&k| steps[k].left).filter(|&l| l != NONE).collect();
        left.sort_unstable();
        left.push(NONE);
        left
    };
    rounds.sort_by_cached_key(urgency);
    rounds
}

/// The sender and the receiver of every step. Restores are sent by the node with the least to send so far.
fn ends(instance: &Instance, steps: &[Step], order: &[u32]) -> Vec<[u32; 2]> {
    let mut sends = vec![0u32; instance.usable.len()];
    let mut leaving: BTreeSet<(u32, u32)> = BTreeSet::new();
    for step in steps.iter().filter(|s| s.from != NONE) {
        sends[step.from as usize] += 1;
        leaving.insert((step.unit, step.from));
    }
    let mut ends = vec![[NONE; 2]; steps.len()];
    for &k in order {
        let step = steps[k as usize];
        let mut from = step.from;
        if from == NONE {
            let held = instance.held(step.unit as usize).iter().copied();
            let donor = held.min_by_key(|&i| (leaving.contains(&(step.unit, i)), sends[i as usize]));
            if let Some(donor) = donor {
                sends[donor as usize] += 1;
                from = donor;
            }
        }
        ends[k as usize] = [from, step.to];
    }
    ends
}

/// The moves of one vertex by round.
enum Slots {
    /// `width` places for each round, filled from the left.
    Dense { places: Vec<u32>, width: usize },
    /// For vertices with few moves among many rounds.
    Sparse(BTreeMap<u32, Vec<u32>>),
}

impl Slots {
    /// In a chain, a round holds one move beyond the limit for a moment. Dense slots take at most eight times the
    /// memory of the moves themselves.
    fn new(degree: u32, limit: u32, rounds: u32) -> Self {
        if degree >= rounds / 8 {
            let width = limit.min(degree) as usize + 1;
            Self::Dense { places: vec![NONE; width * rounds as usize], width }
        } else {
            Self::Sparse(BTreeMap::new())
        }
    }

    fn moves(&self, round: u32) -> &[u32] {
        match self {
            Self::Dense { places, width } => {
                let at = round as usize * width;
                let places = &places[at..at + width];
                let used = places.iter().position(|&k| k == NONE).unwrap_or(*width);
                &places[..used]
            }
            Self::Sparse(rounds) => rounds.get(&round).map_or(&[], Vec::as_slice),
        }
    }

    fn push(&mut self, round: u32, k: u32) {
        let used = self.moves(round).len();
        match self {
            Self::Dense { places, width } => places[round as usize * *width + used] = k,
            Self::Sparse(rounds) => rounds.entry(round).or_default().push(k),
        }
    }

    fn remove(&mut self, round: u32, k: u32) {
        let used = self.moves(round).len();
        match self {
            Self::Dense { places, width } => {
                let at = round as usize * *width;
                let places = &mut places[at..at + used];
                if let Some(place) = places.iter().position(|&other| other == k) {
                    places[place..].rotate_left(1);
                    places[used - 1] = NONE;
                }
            }
            Self::Sparse(rounds) => {
                if let Some(moves) = rounds.get_mut(&round) {
                    moves.retain(|&other| other != k);
                }
            }
        }
    }
}

/// An assignment of moves to rounds; vertex `2 i` is node `i` as a sender, `2 i + 1` as a receiver.
struct Coloring<'a> {
    ends: &'a [[u32; 2]],
    limit: [u32; 2],
    rounds: u32,
    /// Per move, `NONE` before it is placed.
    round: Vec<u32>,
    /// Per vertex.
    at: Vec<Slots>,
    /// Per vertex: no earlier round has room.
    open: Vec<u32>,
}

impl<'a> Coloring<'a> {
    fn new(ends: &'a [[u32; 2]], nodes: usize, limit: [u32; 2]) -> Self {
        let mut degree = vec![0u32; 2 * nodes];
        for (side, &node) in ends.iter().flat_map(|ends| ends.iter().enumerate()) {
            if node != NONE {
                degree[2 * node as usize + side] += 1;
            }
        }
        let needed = degree.iter().enumerate().map(|(v, d)| d.div_ceil(limit[v % 2]));
        let rounds = needed.max().unwrap_or(0);
        let slots = |(v, &d): (usize, &u32)| Slots::new(d, limit[v % 2], if d > 0 { rounds } else { 0 });
        let at = degree.iter().enumerate().map(slots).collect();
        Self { ends, limit, rounds, round: vec![NONE; ends.len()], at, open: vec![0; 2 * nodes] }
    }

    fn vertex(&self, k: u32, side: usize) -> usize {
        2 * self.ends[k as usize][side] as usize + side
    }

    fn has_room(&self, vertex: usize, round: u32) -> bool {
        (self.at[vertex].moves(round).len() as u32) < self.limit[vertex % 2]
    }

    /// The first round with room at the vertex; there is one as long as not all its moves are placed.
    fn first_open(&mut self, vertex: usize) -> u32 {
        let mut round = self.open[vertex];
        while !self.has_room(vertex, round) {
            round += 1;
        }
        self.open[vertex] = round;
        round
    }

    fn set(&mut self, k: u32, round: u32) {
        self.round[k as usize] = round;
        for side in 0..2 {
            if self.ends[k as usize][side] != NONE {
                let vertex = self.vertex(k, side);
                self.at[vertex].push(round, k);
            }
        }
    }

    fn unset(&mut self, k: u32) {
        let round = std::mem::replace(&mut self.round[k as usize], NONE);
        for side in 0..2 {
            let vertex = self.vertex(k, side);
            self.at[vertex].remove(round, k);
            self.open[vertex] = self.open[vertex].min(round);
        }
    }

    fn place(&mut self, k: u32) {
        let (sender, receiver) = (self.vertex(k, 0), self.vertex(k, 1));
        let first = self.first_open(sender);
        let second = self.first_open(receiver);
        let start = first.max(second);
        let common = (start..self.rounds.min(start + WINDOW))
            .find(|&round| self.has_room(sender, round) && self.has_room(receiver, round));
        match common {
            Some(round) => self.set(k, round),
            None => self.chain(k, first, second),
        }
    }

    /// Places `k` into `first`, where its sender has room, and moves others between `first` and `second`, where its
    /// receiver has room, until nobody is beyond its limit. No move changes twice, so the chain ends.
    fn chain(&mut self, k: u32, first: u32, second: u32) {
        self.set(k, first);
        let mut changed = BTreeSet::from([k]);
        // The last move put into `into` may be one too many for its end on this side.
        let (mut last, mut side, mut into, mut other) = (k, 1, first, second);
        loop {
            let moves = self.at[self.vertex(last, side)].moves(into);
            if moves.len() as u32 <= self.limit[side] {
                return;
            }
            let Some(&next) = moves.iter().rev().find(|m| !changed.contains(m)) else { return };
            self.unset(next);
            self.set(next, other);
            changed.insert(next);
            last = next;
            side = 1 - side;
            std::mem::swap(&mut into, &mut other);
        }
    }

    fn place_one_ended(&mut self, k: u32) {
        let side = usize::from(self.ends[k as usize][0] == NONE);
        let vertex = self.vertex(k, side);
        let round = self.first_open(vertex);
        self.set(k, round);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Colours a graph of (sender, receiver) pairs and checks limits and the number of rounds.
    fn check(pairs: &[[u32; 2]], nodes: usize, limit: [u32; 2]) {
        let mut coloring = Coloring::new(pairs, nodes, limit);
        for k in 0..pairs.len() as u32 {
            if pairs[k as usize].contains(&NONE) { coloring.place_one_ended(k) } else { coloring.place(k) }
        }
        let mut used: BTreeMap<(usize, u32, u32), u32> = BTreeMap::new();
        for (ends, &round) in pairs.iter().zip(&coloring.round) {
            assert!(round < coloring.rounds);
            for side in (0..2).filter(|&side| ends[side] != NONE) {
                *used.entry((side, ends[side], round)).or_default() += 1;
            }
        }
        for ((side, node, round), count) in used {
            assert!(count <= limit[side], "side {side} of node {node} in round {round}: {count}");
        }
    }

    #[test]
    fn the_fewest_rounds_suffice_for_any_graph() {
        let mut seed = 1u64;
        let mut next = |below: u32| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u32 % below
        };
        for _ in 0..500 {
            let nodes = 2 + next(7);
            let pairs: Vec<[u32; 2]> = (0..next(200)).map(|_| [next(nodes), next(nodes)]).collect();
            let limit = [1 + next(3), 1 + next(3)];
            check(&pairs, nodes as usize, limit);
        }
    }

    #[test]
    fn one_ended_moves_fill_up() {
        check(&[[0, 1], [NONE, 1], [NONE, 1], [0, NONE], [0, NONE]], 2, [2, 2]);
    }
}
