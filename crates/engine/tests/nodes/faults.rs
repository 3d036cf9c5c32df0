//! Seeded runs of whole engines: groups of two copies behind routing tables lose a member again and again, the proper
//! survivor is bootstrapped, the dead one comes back; whatever was acknowledged is there at the end, on all copies.

use crate::support::{Named, chance::Chance, machines::Nodes, seeds};
use engine::Timing;
use model::Millis;
use std::collections::BTreeMap;

const SHARDS: usize = 3;
const QUICK: &str = "'evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.keepalive_period=PT0.3S;\
                     evs.inactive_check_period=PT0.3S' as options";

fn address(at: usize) -> String {
    format!("127.0.0.1:{}312", at + 1)
}

/// The two nodes of a shard's group.
fn holders(shard: usize) -> [usize; 2] {
    [shard % 3, (shard + 1) % 3]
}

fn build(nodes: &mut Nodes) {
    let mut agents = String::new();
    for shard in 0..SHARDS {
        let [first, second] = holders(shard);
        for at in [first, second] {
            nodes.storage(at).make_directory(&format!("g{shard}")).expect("made");
        }
        nodes.ok(
            first,
            &[
                &format!("CREATE TABLE system.t_s{shard} (title text, v bigint)"),
                &format!("CREATE CLUSTER g{shard} 'g{shard}' as path, {QUICK}"),
                &format!("ALTER CLUSTER g{shard} ADD system.t_s{shard}"),
            ],
        );
        let (one, other) = (address(first), address(second));
        nodes.ok(second, &[&format!("JOIN CLUSTER g{shard} AT '{one}' 'g{shard}' as path, {QUICK}")]);
        let table = format!("system.t_s{shard}");
        agents += &format!(" agent='{one}:{table}|{other}:{table}[retry_count=3,ha_strategy=nodeads]'");
    }
    for at in 0..3 {
        nodes.ok(at, &[&format!("CREATE TABLE t (title text, v bigint) type='shard'{agents}")]);
    }
}

/// Writers' side: what was asked, and what was acknowledged.
#[derive(Default)]
struct Client {
    asked: Vec<(u64, i64, i64)>,
    acknowledged: BTreeMap<i64, i64>,
    next: i64,
}

impl Client {
    fn write(&mut self, nodes: &mut Nodes, at: usize) {
        self.next += 1;
        let (id, value) = (self.next, self.next * 7);
        let request = nodes.send(at, &format!("INSERT INTO t (id,title,v) VALUES ({id},'w{id}',{value})"));
        self.asked.push((request, id, value));
    }

    fn collect(&mut self, nodes: &Nodes) {
        self.asked.retain(|&(request, id, value)| match nodes.answered(request) {
            None => !nodes.is_orphan(request),
            Some(answer) => {
                if answer.is_ok() {
                    self.acknowledged.insert(id, value);
                }
                false
            }
        });
    }
}

/// What an operator does with a group that lost a member: the survivor, and it alone, is bootstrapped.
fn bootstrap_survivors(nodes: &mut Nodes, dead: usize) {
    for shard in (0..SHARDS).filter(|shard| holders(*shard).contains(&dead)) {
        let survivor = holders(shard).into_iter().find(|at| *at != dead).expect("one of two");
        let group = format!("g{shard}");
        nodes.until(5_000, "noticed", |nodes| nodes.status(survivor, &group, "status") == "non-primary");
        nodes.ok(survivor, &[&format!("SET CLUSTER {group} GLOBAL 'pc.bootstrap' = 1")]);
    }
}

fn run(seed: u64) {
    let _named = Named(seed);
    let mut chance = Chance::new(seed);
    let timing = Timing { join_delay: Millis(20), rejoin_delay: Millis(300), ..Timing::default() };
    let mut nodes = Nodes::with_timing(3, seed, &timing);
    build(&mut nodes);
    nodes.delay_max = 1 + chance.below(20);
    let mut client = Client::default();
    for _ in 0..4 {
        let write_some = |nodes: &mut Nodes, client: &mut Client, chance: &mut Chance| {
            for _ in 0..10 + chance.below(20) {
                let at = chance.below(3) as usize;
                if nodes.alive(at) {
                    client.write(nodes, at);
                }
                nodes.run(chance.below(30));
            }
            client.collect(nodes);
        };
        write_some(&mut nodes, &mut client, &mut chance);
        let dead = chance.below(3) as usize;
        if chance.percent(30) {
            nodes.stop(dead);
        } else {
            nodes.kill(dead);
            write_some(&mut nodes, &mut client, &mut chance);
            bootstrap_survivors(&mut nodes, dead);
        }
        write_some(&mut nodes, &mut client, &mut chance);
        nodes.start(dead);
        write_some(&mut nodes, &mut client, &mut chance);
        for shard in (0..SHARDS).filter(|shard| holders(*shard).contains(&dead)) {
            nodes.until(20_000, "back", |nodes| nodes.synced(dead, &format!("g{shard}")));
        }
    }
    nodes.run(25_000);
    client.collect(&nodes);
    assert!(client.asked.is_empty(), "statements without an answer");
    assert!(client.acknowledged.len() > 50, "{} writes were acknowledged", client.acknowledged.len());
    for shard in 0..SHARDS {
        let table = format!("system.t_s{shard}");
        let [one, other] = holders(shard).map(|at| nodes.storage(at).checksum(&table).expect("a table"));
        assert_eq!(one, other, "the copies of shard {shard} differ");
    }
    let rows = nodes.rows(0, "SELECT id, v FROM t LIMIT 100000 OPTION max_matches=100000");
    let number = |cell: &Option<String>| cell.as_deref().and_then(|text| text.parse::<i64>().ok());
    let found: BTreeMap<i64, i64> =
        rows.iter().filter_map(|row| Some((number(&row[0])?, number(&row[1])?))).collect();
    for (id, value) in &client.acknowledged {
        assert_eq!(found.get(id), Some(value), "an acknowledged document is lost");
    }
}

#[test]
fn acknowledged_documents_outlive_faults() {
    for seed in seeds(12) {
        run(seed);
    }
}
