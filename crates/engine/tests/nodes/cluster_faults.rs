//! Seeded runs of one cluster under kills, partitions and lost messages: while a majority lives no acknowledged write is
//! lost, and at rest all members are equal.

use crate::support::{Named, chance::Chance, cluster_net::Net, seeds};
use std::collections::BTreeMap;

/// Writes under way, by node and ticket, and what was acknowledged.
#[derive(Default)]
struct Client {
    asked: Vec<(usize, u64, u64, u64)>,
    acknowledged: BTreeMap<u64, u64>,
    next: u64,
}

impl Client {
    /// A write of a document of its own, or of one that others write too.
    fn write(&mut self, net: &mut Net, at: usize, contended: bool, chance: &mut Chance) {
        self.next += 1;
        let key = if contended { chance.below(5) } else { 1_000 + self.next };
        if let Ok(ticket) = net.write(at, key, self.next) {
            self.asked.push((at, ticket.0, key, self.next));
        }
    }

    fn collect(&mut self, net: &Net) {
        for &(at, ticket, key, value) in &self.asked {
            if key >= 1_000 && matches!(net.nodes[at].finished.get(&ticket), Some(Ok(()))) {
                self.acknowledged.insert(key, value);
            }
        }
    }
}

/// Which nodes are out of order now, so that the rest stays a majority.
fn unwell(net: &Net, cut: &[usize]) -> Vec<usize> {
    let view = |at: usize| net.row(at, "conf_id").parse().unwrap_or(0);
    let newest: u64 = (0..net.nodes.len()).map(view).max().unwrap_or(0);
    let well = |at: usize| net.nodes[at].alive && net.synced(at) && view(at) == newest && !cut.contains(&at);
    (0..net.nodes.len()).filter(|&at| !well(at)).collect()
}

fn run(seed: u64) {
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
    net.until(60_000, "all synced", |net| (0..count).all(|at| net.synced(at)));
    net.run(5_000);
    client.collect(&net);
    let table = net.table(0);
    for at in 1..count {
        assert_eq!(net.table(at), table, "seed {seed}: node {at} differs\n{}", net.describe());
    }
    for (key, value) in &client.acknowledged {
        assert_eq!(
            table.get(key),
            Some(value),
            "seed {seed}: an acknowledged write is lost\n{}",
            net.describe()
        );
    }
    assert!(!client.acknowledged.is_empty(), "seed {seed}: nothing was ever acknowledged");
    net.written(0, 1, 1);
}

#[test]
fn acknowledged_writes_outlive_faults() {
    for seed in seeds(60) {
        run(seed);
    }
}
