//! Seeded runs of one cluster under faults: no acknowledged write is lost and no two acknowledged writes of one document
//! saw the same state, while a majority lives; at rest all members are equal.

use crate::support::{Named, chance::Chance, cluster_net::Net, seeds};
use std::collections::BTreeMap;

/// Documents that all nodes write; the others belong to one write each.
const CONTENDED: u64 = 5;

struct Asked {
    at: usize,
    ticket: u64,
    key: u64,
    value: u64,
    /// What the writer's node held before.
    base: Option<u64>,
}

#[derive(Default)]
struct Client {
    asked: Vec<Asked>,
    acknowledged: BTreeMap<u64, u64>,
    /// Acknowledged writes of contended documents, by what they saw.
    bases: BTreeMap<(u64, Option<u64>), u64>,
    next: u64,
}

impl Client {
    fn write(&mut self, net: &mut Net, at: usize, contended: bool, chance: &mut Chance) {
        // Two writers on one node do not collide, so each node has one such write under way at most.
        let busy = self.asked.iter().any(|it| it.at == at && it.key < CONTENDED);
        self.next += 1;
        let key = if contended && !busy { chance.below(CONTENDED) } else { 1_000 + self.next };
        let (value, base) = (self.next, net.table(at).get(&key).copied());
        if let Ok(ticket) = net.write(at, key, value) {
            self.asked.push(Asked { at, ticket: ticket.0, key, value, base });
        }
    }

    fn collect(&mut self, net: &Net) {
        for it in std::mem::take(&mut self.asked) {
            match net.nodes[it.at].finished.get(&it.ticket) {
                None => self.asked.push(it),
                Some(Ok(())) if it.key < CONTENDED => {
                    let before = self.bases.insert((it.key, it.base), it.value);
                    assert_eq!(before, None, "two acknowledged writes of {} saw the same", it.key);
                }
                Some(Ok(())) => {
                    self.acknowledged.insert(it.key, it.value);
                }
                Some(Err(_)) => {}
            }
        }
        self.asked.retain(|it| net.nodes[it.at].alive);
    }

    /// All members are equal and have every acknowledged document.
    fn judge(&mut self, net: &mut Net) {
        let place = |net: &Net, at: usize| (net.row(at, "conf_id"), net.row(at, "last_committed"));
        // One that does not know yet that it is outside shows as synced too.
        net.run(5_000);
        net.until(60_000, "all in one view and at one place", |net| {
            (0..net.nodes.len()).all(|at| net.synced(at) && place(net, at) == place(net, 0))
        });
        self.collect(net);
        let table = net.table(0);
        for at in 1..net.nodes.len() {
            assert_eq!(net.table(at), table, "node {at} differs\n{}", net.describe());
        }
        for (key, value) in &self.acknowledged {
            assert_eq!(table.get(key), Some(value), "an acknowledged write is lost\n{}", net.describe());
        }
        assert!(!self.acknowledged.is_empty(), "nothing was ever acknowledged");
        net.written(0, 1, 1);
    }
}

/// Which nodes are out of order now, so that the rest stays a majority.
fn unwell(net: &Net, cut: &[usize]) -> Vec<usize> {
    let view = |at: usize| net.row(at, "conf_id").parse().unwrap_or(0);
    let newest: u64 = (0..net.nodes.len()).map(view).max().unwrap_or(0);
    let well = |at: usize| net.nodes[at].alive && net.synced(at) && view(at) == newest && !cut.contains(&at);
    (0..net.nodes.len()).filter(|&at| !well(at)).collect()
}

/// Kills, restarts and nodes cut off, never so many that no majority is left: a dead process forgets.
fn kills(seed: u64) {
    let _named = Named(seed);
    let mut chance = Chance::new(seed);
    let count = 3 + chance.below(3) as usize;
    let mut net = Net::cluster(count, seed);
    net.delay_max = 1 + chance.below(40);
    net.breaks = chance.below(3);
    let mut client = Client::default();
    let mut cut: Vec<usize> = Vec::new();
    for _ in 0..300 {
        let at = chance.below(count as u64) as usize;
        let spare = unwell(&net, &cut).len() < (count - 1) / 2;
        match chance.below(100) {
            0..3 if spare && net.nodes[at].alive && net.synced(at) => net.kill(at),
            3..5 if spare && net.nodes[at].alive && net.synced(at) => net.stop(at),
            // Started alone a node would give up for good: see the dangerous habits.
            5..15 if !net.nodes[at].alive && cut.is_empty() => net.start(at),
            // Cut off while it looks around, a starting node would give up too.
            15..18 if spare && (0..count).all(|at| net.status(at) != "disconnected") => {
                net.cut_off(at);
                cut.push(at);
            }
            18..24 => {
                net.cut.clear();
                cut.clear();
            }
            24..30 => net.run(chance.below(3_000)),
            30..50 => client.write(&mut net, at, true, &mut chance),
            _ => client.write(&mut net, at, false, &mut chance),
        }
        net.run(chance.below(60));
        client.collect(&net);
    }
    net.cut.clear();
    net.breaks = 0;
    for at in 0..count {
        if !net.nodes[at].alive {
            net.start(at);
        }
    }
    client.judge(&mut net);
}

/// Links that fail in any pattern, one way too, and processes that stand still; nobody dies.
fn partitions(seed: u64) {
    let _named = Named(seed);
    let mut chance = Chance::new(seed);
    let count = 2 + chance.below(4) as usize;
    let mut net = Net::cluster(count, seed);
    net.delay_max = 1 + chance.below(100);
    net.breaks = chance.below(10);
    let mut client = Client::default();
    for _ in 0..300 {
        let at = chance.below(count as u64) as usize;
        let other = chance.below(count as u64) as usize;
        match chance.below(100) {
            0..3 if at != other => {
                net.cut.insert((at.min(other), at.max(other)));
            }
            3..6 if at != other => {
                net.deaf.insert((at, other));
            }
            6..8 => net.cut_off(at),
            8..11 => {
                net.paused.insert(at, net.now + chance.below(4_000));
            }
            11..17 => {
                net.cut.clear();
                net.deaf.clear();
            }
            17..30 => net.run(chance.below(1_500)),
            30..60 if net.paused.get(&at).is_none_or(|until| *until <= net.now) => {
                client.write(&mut net, at, true, &mut chance);
            }
            _ if net.paused.get(&at).is_none_or(|until| *until <= net.now) => {
                client.write(&mut net, at, false, &mut chance);
            }
            _ => {}
        }
        net.run(chance.below(60));
        client.collect(&net);
    }
    net.cut.clear();
    net.deaf.clear();
    net.paused.clear();
    net.breaks = 0;
    client.judge(&mut net);
}

#[test]
fn acknowledged_writes_outlive_kills() {
    for seed in seeds(60) {
        kills(seed);
    }
}

#[test]
fn acknowledged_writes_outlive_partitions() {
    for seed in seeds(60) {
        partitions(seed);
    }
}
