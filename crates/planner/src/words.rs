//! Turns a placement of numbers into names, moves and reasons; settles which copies must stay where they should not.

use crate::{
    fill::Layout,
    instance::Instance,
    loss,
    outcome::{Move, Reason, Unplaceable},
    problem::{NodeState, Problem},
    schedule::{NONE, Step},
};
use std::collections::BTreeMap;

/// A placement in names, with the moves that lead to it.
pub(crate) struct Worded {
    pub placement: BTreeMap<String, Vec<String>>,
    pub moves: Vec<Move>,
    /// The moves by number.
    pub steps: Vec<Step>,
    pub copies: u64,
    pub bytes: u64,
    pub unplaceable: Vec<Unplaceable>,
    pub load: BTreeMap<String, f64>,
    /// The nodes of unit `u` in the end are `finals[final_start[u]..final_start[u + 1]]`.
    finals: Vec<u32>,
    final_start: Vec<u32>,
}

impl Worded {
    /// See [`loss::probabilities`]; failures strike the nodes that are active or hold something.
    pub fn loss_probability(&self) -> BTreeMap<u32, f64> {
        let sets = self.final_start.windows(2).map(|pair| &self.finals[pair[0] as usize..pair[1] as usize]);
        loss::probabilities(self.load.len(), sets)
    }
}

/// Words a layout.
pub(crate) fn word(problem: &Problem, instance: &Instance, layout: &Layout) -> Worded {
    let mut words = Words::new(problem, instance, layout);
    for u in 0..instance.units() {
        words.unit(u);
    }
    let mut out = words.out;
    // Built at once from sorted pairs: a million single insertions would take several times as long.
    out.placement = words.placed.into_iter().collect();
    let loads = problem.nodes.iter().zip(words.node_load);
    out.load = loads.filter_map(|(node, load)| Some((node.id.clone(), load?))).collect();
    out
}

struct Words<'a> {
    problem: &'a Problem,
    instance: &'a Instance,
    layout: &'a Layout,
    out: Worded,
    placed: Vec<(String, Vec<String>)>,
    /// Per node; `None` for a node that is not active and holds nothing.
    node_load: Vec<Option<f64>>,
    /// Per node: copies before the plan.
    live: Vec<u32>,
    /// Scratch: nodes that gain, nodes that shed.
    gain: Vec<u32>,
    shed: Vec<u32>,
}

impl<'a> Words<'a> {
    fn new(problem: &'a Problem, instance: &'a Instance, layout: &'a Layout) -> Self {
        let mut live = vec![0; problem.nodes.len()];
        for &i in &instance.held {
            live[i as usize] += 1;
        }
        let out = Worded {
            placement: BTreeMap::new(),
            moves: Vec::new(),
            steps: Vec::new(),
            copies: 0,
            bytes: 0,
            unplaceable: Vec::new(),
            load: BTreeMap::new(),
            finals: Vec::with_capacity(instance.total() as usize),
            final_start: vec![0],
        };
        let active = |state| (state == NodeState::Active).then_some(0.0);
        Self {
            problem,
            instance,
            layout,
            out,
            placed: Vec::with_capacity(instance.units()),
            node_load: problem.nodes.iter().map(|n| active(n.state)).collect(),
            live,
            gain: Vec::new(),
            shed: Vec::new(),
        }
    }

    fn name(&self, node: u32) -> String {
        self.problem.nodes[node as usize].id.clone()
    }

    fn unit(&mut self, u: usize) {
        let unit = &self.problem.units[u];
        let held = self.instance.held(u);
        let nodes = self.layout.nodes(self.instance, u);
        self.gain.clear();
        self.gain.extend(nodes.iter().filter(|i| !held.contains(i)));
        self.shed.clear();
        self.shed.extend(held.iter().filter(|i| !nodes.contains(i)));
        let first = self.out.finals.len();
        self.out.finals.extend(nodes);
        self.retain(u, nodes.len());
        let finals = &self.out.finals[first..];
        for &i in finals {
            *self.node_load[i as usize].get_or_insert(0.0) += self.instance.weight[u];
        }
        let names: Vec<String> = finals.iter().map(|&i| self.name(i)).collect();
        if names.len() < unit.rf as usize || names.len() > nodes.len() {
            self.report(u, &names);
        }
        self.out.final_start.push(self.out.finals.len() as u32);
        self.placed.push((unit.id.clone(), names));
        self.moves_of(u);
    }

    /// Takes out of `shed` the copies that must stay because nothing replaces them, usable nodes first.
    fn retain(&mut self, u: usize, placed: usize) {
        let rf = self.problem.units[u].rf as usize;
        let floor = rf.min(self.instance.held(u).len());
        let stay = floor.saturating_sub(placed).min(self.shed.len());
        self.shed.sort_by_key(|&i| {
            let draining = self.problem.nodes[i as usize].state == NodeState::Draining;
            (!self.instance.usable[i as usize], draining)
        });
        self.out.finals.extend(self.shed.drain(..stay));
    }

    fn report(&mut self, u: usize, names: &[String]) {
        let unit = &self.problem.units[u];
        let room = if self.instance.usable_count < unit.rf {
            format!("only {} active nodes take copies", self.instance.usable_count)
        } else {
            format!("max_units_per_node {} leaves no room", self.instance.node_limit)
        };
        let finals = &self.out.finals[self.out.finals.len() - names.len()..];
        let closed = finals.iter().zip(names).filter(|(i, _)| !self.instance.usable[**i as usize]);
        let closed: Vec<&str> = closed.map(|(_, name)| name.as_str()).collect();
        let stays = if closed.is_empty() {
            String::new()
        } else {
            format!("; the copy on {} stays until there is a place for it", closed.join(", "))
        };
        let why = format!("rf {}, {} copies: {room}{stays}", unit.rf, names.len());
        self.out.unplaceable.push(Unplaceable { unit: unit.id.clone(), why });
    }

    /// Pairs what is gained with what is shed, draining nodes first.
    fn moves_of(&mut self, u: usize) {
        if self.gain.is_empty() && self.shed.is_empty() {
            return;
        }
        let mut shed = std::mem::take(&mut self.shed);
        let gain = std::mem::take(&mut self.gain);
        shed.sort_by_key(|&i| (self.instance.usable[i as usize], i));
        let rf = self.problem.units[u].rf;
        let have = self.instance.held(u).len() as u32;
        let lost = self.lost(u);
        for (k, &to) in gain.iter().enumerate() {
            let from = shed.get(k).copied();
            let restored = (k - shed.len().min(k)) as u32;
            let reason = match (from, lost.get(restored as usize)) {
                (Some(from), _) => self.why_leave(u, from),
                (None, Some(&node)) if have > 0 => Reason::CopyLost { node: node.to_owned() },
                (None, None) if have > 0 => Reason::TooFew { rf },
                (None, _) => match lost.last() {
                    Some(&node) => Reason::NoCopyLeft { node: node.to_owned() },
                    None => Reason::New,
                },
            };
            let left = if from.is_none() && have > 0 { have + restored } else { NONE };
            self.push(Step { unit: u as u32, to, from: from.unwrap_or(NONE), left }, reason);
        }
        for &from in shed.iter().skip(gain.len()) {
            self.push(Step { unit: u as u32, to: NONE, from, left: NONE }, Reason::TooMany { rf });
        }
        let copies = gain.len() as u64;
        self.out.copies += copies;
        self.out.bytes = self.out.bytes.saturating_add(self.problem.units[u].bytes.saturating_mul(copies));
        (self.shed, self.gain) = (shed, gain);
    }

    fn push(&mut self, step: Step, reason: Reason) {
        let named = |node: u32| (node != NONE).then(|| self.name(node));
        let unit = self.problem.units[step.unit as usize].id.clone();
        self.out.moves.push(Move { unit, to: named(step.to), from: named(step.from), reason });
        self.out.steps.push(step);
    }

    /// The nodes whose copies of unit `u` are lost.
    fn lost(&self, u: usize) -> Vec<&'a str> {
        let held = self.instance.held(u);
        let live = |name: &str| held.iter().any(|&i| self.problem.nodes[i as usize].id == name);
        self.problem.units[u].replicas.iter().map(String::as_str).filter(|name| !live(name)).collect()
    }

    fn why_leave(&self, u: usize, from: u32) -> Reason {
        let instance = self.instance;
        let node = &self.problem.nodes[from as usize];
        if node.state == NodeState::Draining {
            return Reason::Draining { node: node.id.clone() };
        }
        if !instance.usable[from as usize] {
            return Reason::NoCapacity { node: node.id.clone() };
        }
        let zone = instance.zone[from as usize];
        let here = |i: u32| instance.usable[i as usize] && instance.zone[i as usize] == zone;
        let there = instance.held(u).iter().filter(|&&i| here(i)).count() as u32;
        if instance.zoned() && there > instance.zone_range(instance.want[u], zone).1 {
            return Reason::Zone { zone: node.zone.clone().unwrap_or_else(|| "(none)".to_owned()) };
        }
        if self.live[from as usize] > instance.node_limit {
            return Reason::NodeLimit { node: node.id.clone() };
        }
        Reason::Balance
    }
}
