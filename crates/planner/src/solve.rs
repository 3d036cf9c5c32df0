//! From problem to plan: places the units, then words the result.

use crate::{
    bound, explain,
    fill::{self, Layout},
    instance::Instance,
    outcome::{Move, Plan, Proof, Reason, Unplaceable},
    problem::{Limits, NodeState, Problem},
    schedule,
    search::{End, Search},
    share::{self, Shares},
    weigh,
};
use std::collections::BTreeMap;

/// Plans where every unit shall be. Total: any problem gets a plan (see [`Problem::check`] for what makes a
/// problem sensible; a weight that is not a positive number counts as 0, a replica on an unknown node as lost).
pub fn plan(problem: &Problem, limits: &Limits) -> Plan {
    let instance = Instance::new(problem);
    let solved =
        if instance.equal { solve_equal(&instance, limits) } else { solve_weighted(&instance, limits) };
    let mut words = Words::new(problem, &instance, &solved.layout);
    for u in 0..instance.units() {
        words.unit(u);
    }
    let Words { placement, moves, copies, bytes, unplaceable, load, .. } = words;
    let rounds = schedule::rounds(problem, &moves);
    let bound = if solved.end == End::Optimal { copies } else { solved.bound.min(copies) };
    let proof = match solved.end {
        _ if copies == solved.bound => Proof::Bound,
        End::Optimal => Proof::Search,
        End::Unknown => Proof::Gap,
    };
    Plan {
        placement,
        moves,
        copies,
        lower_bound: bound,
        bytes,
        load,
        unplaceable,
        rounds,
        proof,
        gap: copies - bound,
        loss_probability: BTreeMap::new(),
        facts: explain::Facts::new(problem),
        made_from: problem.fingerprint(),
    }
}

/// A placement, and what is known of the cheapest one.
struct Solved {
    layout: Layout,
    bound: u64,
    end: End,
}

/// Steps for saving bytes once the number of copies is the least: a tenth of a second at most, since nothing is
/// unsafe about a plan that copies a few bytes more.
const BYTES_STEPS: u64 = 30_000_000;

fn solve_equal(instance: &Instance, limits: &Limits) -> Solved {
    let shares = Shares::new(instance);
    let mut layout = fill::fill_equal(instance, &shares);
    let mut bound = bound::equal(instance, &shares);
    let even = |layout: &Layout| {
        (0..layout.load.len()).all(|i| (shares.low[i]..=shares.high[i]).contains(&layout.load[i]))
    };
    let (mut end, mut steps) = (End::Optimal, limits.search_steps);
    if !even(&layout) || layout.copies_made(instance) > bound {
        (end, steps) = Search::new(instance, &shares, &mut layout, false, steps).run();
    }
    if !even(&layout) {
        // The bound speaks of placements in which every node has its share.
        bound = bound::missing(instance);
    }
    let bytes_differ = instance.bytes.windows(2).any(|pair| pair[0] != pair[1]);
    if bytes_differ && end == End::Optimal && layout.copies_made(instance) > 0 {
        Search::new(instance, &shares, &mut layout, true, steps.min(BYTES_STEPS)).run();
    }
    layout.enforce_limit(instance);
    Solved { layout, bound, end }
}

fn solve_weighted(instance: &Instance, limits: &Limits) -> Solved {
    let share = share::exact(instance, |u| instance.weight[u]);
    let mut layout = fill::fill_weighted(instance, share.clone());
    if layout.load.iter().any(|&load| load > instance.node_limit) {
        Search::new(instance, &Shares::any(instance), &mut layout, false, limits.search_steps).run();
        layout.enforce_limit(instance);
    }
    weigh::even(instance, &share, &mut layout, limits.search_steps);
    let bound = bound::weighted(instance, &share, &layout);
    Solved { layout, bound, end: End::Unknown }
}

/// Turns a layout of numbers into names, moves and reasons.
struct Words<'a> {
    problem: &'a Problem,
    instance: &'a Instance,
    layout: &'a Layout,
    placement: BTreeMap<String, Vec<String>>,
    moves: Vec<Move>,
    copies: u64,
    bytes: u64,
    unplaceable: Vec<Unplaceable>,
    load: BTreeMap<String, f64>,
    /// Scratch: nodes that gain, nodes that shed.
    gain: Vec<u32>,
    shed: Vec<u32>,
}

impl<'a> Words<'a> {
    fn new(problem: &'a Problem, instance: &'a Instance, layout: &'a Layout) -> Self {
        let active = problem.nodes.iter().filter(|n| n.state == NodeState::Active);
        Self {
            problem,
            instance,
            layout,
            placement: BTreeMap::new(),
            moves: Vec::new(),
            copies: 0,
            bytes: 0,
            unplaceable: Vec::new(),
            load: active.map(|n| (n.id.clone(), 0.0)).collect(),
            gain: Vec::new(),
            shed: Vec::new(),
        }
    }

    fn unit(&mut self, u: usize) {
        let held = self.instance.held(u);
        let nodes = self.layout.nodes(self.instance, u);
        self.gain.clear();
        self.gain.extend(nodes.iter().filter(|i| !held.contains(i)));
        self.shed.clear();
        self.shed.extend(held.iter().filter(|i| !nodes.contains(i)));
        let name = |i: &u32| self.problem.nodes[*i as usize].id.clone();
        let mut names: Vec<String> = nodes.iter().map(name).collect();
        names.extend(self.retain(u, nodes.len()).iter().map(name));
        if names.len() < self.problem.units[u].rf as usize || names.len() > nodes.len() {
            self.report(u, nodes.len(), &names[nodes.len()..]);
        }
        self.moves_of(u);
        let weight = self.instance.weight[u];
        for name in &names {
            if let Some(load) = self.load.get_mut(name) {
                *load += weight;
            } else {
                self.load.insert(name.clone(), weight);
            }
        }
        self.placement.insert(self.problem.units[u].id.clone(), names);
    }

    /// Takes out of `shed` the copies that must stay because nothing replaces them, usable nodes first.
    fn retain(&mut self, u: usize, placed: usize) -> Vec<u32> {
        let rf = self.problem.units[u].rf as usize;
        let floor = rf.min(self.instance.held(u).len());
        let stay = floor.saturating_sub(placed);
        self.shed.sort_by_key(|&i| {
            let node = &self.problem.nodes[i as usize];
            (!self.instance.usable[i as usize], node.state == NodeState::Draining)
        });
        self.shed.drain(..stay.min(self.shed.len())).collect()
    }

    fn report(&mut self, u: usize, placed: usize, retained: &[String]) {
        let unit = &self.problem.units[u];
        let have = placed + retained.len();
        let room = if (self.instance.usable_count as usize) < unit.rf as usize {
            format!("{} active nodes take copies", self.instance.usable_count)
        } else {
            format!("max_units_per_node {} leaves no room", self.instance.node_limit)
        };
        let stays = if retained.is_empty() {
            String::new()
        } else {
            format!("; the copy on {} stays until there is a place for it", retained.join(", "))
        };
        let why = format!("rf {}: {have} copies, {room}{stays}", unit.rf);
        self.unplaceable.push(Unplaceable { unit: unit.id.clone(), why });
    }

    /// Pairs what is gained with what is shed, draining nodes first.
    fn moves_of(&mut self, u: usize) {
        let unit = &self.problem.units[u];
        let name = |i: u32| self.problem.nodes[i as usize].id.clone();
        self.shed.sort_by_key(|&i| (self.instance.usable[i as usize], i));
        let mut lost = unit
            .replicas
            .iter()
            .filter(|r| !self.instance.held(u).iter().any(|&i| self.problem.nodes[i as usize].id == **r));
        let mut moves = Vec::new();
        for (k, &to) in self.gain.iter().enumerate() {
            let from = self.shed.get(k).copied();
            let reason = match from {
                Some(from) => self.why_leave(u, from),
                None if unit.replicas.is_empty() => Reason::New,
                None => match lost.next().or(unit.replicas.last()) {
                    Some(node) if self.instance.held(u).is_empty() => {
                        Reason::NoCopyLeft { node: node.clone() }
                    }
                    Some(node) if unit.replicas.len() > self.instance.held(u).len() => {
                        Reason::CopyLost { node: node.clone() }
                    }
                    _ => Reason::TooFew { rf: unit.rf },
                },
            };
            moves.push(Move { unit: unit.id.clone(), to: Some(name(to)), from: from.map(name), reason });
        }
        for &from in self.shed.iter().skip(self.gain.len()) {
            let reason = Reason::TooMany { rf: unit.rf };
            moves.push(Move { unit: unit.id.clone(), to: None, from: Some(name(from)), reason });
        }
        self.copies += self.gain.len() as u64;
        self.bytes = self.bytes.saturating_add(unit.bytes.saturating_mul(self.gain.len() as u64));
        self.moves.append(&mut moves);
    }

    fn why_leave(&self, u: usize, from: u32) -> Reason {
        let node = &self.problem.nodes[from as usize];
        if node.state == NodeState::Draining {
            return Reason::Draining { node: node.id.clone() };
        }
        if !self.instance.usable[from as usize] {
            return Reason::NoCapacity { node: node.id.clone() };
        }
        let zone = self.instance.zone[from as usize];
        let held = self.instance.held(u);
        let there = held
            .iter()
            .filter(|&&i| self.instance.usable[i as usize] && self.instance.zone[i as usize] == zone);
        if self.instance.zoned()
            && there.count() as u32 > self.instance.zone_range(self.instance.want[u], zone).1
        {
            return Reason::Zone { zone: node.zone.clone().unwrap_or_else(|| "(none)".to_owned()) };
        }
        Reason::Balance
    }
}
