//! The controller and then an engine killed with -9 at random moments of a creation, a failover and a growth, under
//! writers: nothing acknowledged is lost, and nothing half-made stays.
//!
//! And an engine stands still, and goes on when one that went on without it dies.
//!
//! `SHARDWRIGHT_CHAOS_ROUNDS` sets how often in all (default 4, one of each), `SHARDWRIGHT_CHAOS_SEED` where the
//! moments come from; a failure names the round's own seed.
// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use cli::documents::{Catalogue, Source};
use cli::load::{Endpoint, Holdings, Loader, Rates, Record, Traffic, verify};
use cli::random::Random;
use common::{Dev, sql, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const TABLE: &str = "kept";
const SHARDS: u32 = 4;
const DOCUMENTS: u64 = 400;
/// Each acts for some seconds; kills fall anywhere in the first part of that.
const MOMENT_MS: u64 = 4000;

#[derive(Clone, Copy, Debug)]
enum Act {
    Create,
    Failover,
    Growth,
    Thaw,
}

#[tokio::test(flavor = "multi_thread")]
async fn creation_survives_kills() {
    rounds(Act::Create, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_survives_kills() {
    rounds(Act::Failover, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_survives_kills() {
    rounds(Act::Growth, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_acknowledged_alone_survives_its_death() {
    rounds(Act::Thaw, 3).await;
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// This test's share of the rounds.
async fn rounds(act: Act, place: u64) {
    let all = number("SHARDWRIGHT_CHAOS_ROUNDS", 4);
    let seed = number("SHARDWRIGHT_CHAOS_SEED", 1);
    for round in (0..all).filter(|round| round % 4 == place) {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(round);
        println!("{act:?}, round {round} of {all}, seed {seed}");
        Round::new(seed).await.play(act).await;
    }
}

struct Round {
    // Dropped before the directory, so that nothing writes there any more.
    dev: Dev,
    _dir: tempfile::TempDir,
    random: Random,
    source: Source,
    record: Arc<Record>,
    traffic: Traffic,
}

impl Round {
    /// Three nodes with a table, documents, readers and writers.
    async fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let dev = Dev::start(dir.path(), 3);
        let nodes = dev.endpoints();
        let source = Source::Catalogue(Catalogue::new(seed, DOCUMENTS));
        let columns = source.shape().declaration();
        let create = format!("CREATE TABLE c:{TABLE} ({columns}) shards='{SHARDS}' rf='2' timeout='120'");
        sql(&nodes[0], &create).await.expect("created");
        let acknowledged = Arc::default();
        let into = Loader { source: &source, table: TABLE, endpoints: &nodes, acknowledged };
        let loaded = into.run().await.expect("loaded");
        let record = Arc::new(Record::default());
        record.loaded(loaded.documents, std::time::Instant::now());
        let rates = Rates { writes_per_second: 20.0, reads_per_second: 5.0 };
        let ids = (loaded.free_id, seed);
        let traffic = Traffic::start(&nodes, TABLE, source.shape(), ids, rates, Arc::clone(&record));
        Self { dev, _dir: dir, random: Random::new(seed), source, record, traffic }
    }

    async fn play(mut self, act: Act) {
        match act {
            Act::Create => self.create().await,
            Act::Failover => self.failover().await,
            Act::Growth => self.growth().await,
            Act::Thaw => self.thaw().await,
        }
        self.settle().await;
        let Self { dev, source, record, traffic, .. } = self;
        let met = traffic.stop().await;
        println!(
            "  {} writes acknowledged, clients met {} write and {} read errors",
            record.acknowledged_writes(),
            met.failed_writes,
            met.failed_reads
        );
        let table = (TABLE, SHARDS);
        let found =
            verify(Some(&source), source.shape(), table, &record, &dev.endpoints()).await.expect("read back");
        assert_eq!((found.lost, found.surplus), (0, 0), "{:?}", found.first_faults);
        // What a node that stands still would have answered is left out until it is taken for lost.
        if !matches!(act, Act::Thaw) {
            assert_eq!(met.read_regressions, 0, "{:?}", met.first_faults);
        }
        assert!(found.documents_final >= record.documents(), "{found:?}");
        dev.stop();
    }

    /// A table is created meanwhile: whole or not there at the end, whatever its client was told.
    async fn create(&mut self) {
        let nodes = self.dev.endpoints();
        let at = self.random.pick(&nodes).clone();
        let asked = at.clone();
        let creating = tokio::spawn(async move {
            sql(&asked, "CREATE TABLE c:made (title text, v int) shards='6' rf='2' timeout='60'").await
        });
        self.moment().await;
        self.dev.kill_controller();
        self.moment().await;
        let victim = self.random.pick(&nodes).clone();
        self.kill(&victim);
        let told = creating.await.expect("it ends");
        println!("  asked {}, killed {}: {:?}", at.node, victim.node, told.as_ref().map(|_| "created"));
        self.moment().await;
        self.start(&victim);
        self.calm().await;
        let nodes = self.dev.endpoints();
        let made = wait_for("a look at what was made", || async {
            let held = Holdings::look(&nodes, "made").await.map_err(|fault| fault.to_string())?;
            let routes = held.0.values().filter(|one| one.route.is_some()).count();
            match (held.copies().len(), routes) {
                (0, 0) => Ok(false),
                _ => held.missing("made", 6, 2).map_or(Ok(true), Err),
            }
        })
        .await;
        assert!(made || told.is_err(), "the client was told that a table was created, and it is not there");
        if made {
            sql(&nodes[0], "DROP TABLE c:made").await.expect("dropped");
        }
    }

    /// An engine dies; the controller dies while it deals with that; the engine comes back and dies again.
    async fn failover(&mut self) {
        let nodes = self.dev.endpoints();
        let victim = self.random.pick(&nodes).clone();
        self.kill(&victim);
        self.moment().await;
        self.dev.kill_controller();
        self.moment().await;
        self.start(&victim);
        self.moment().await;
        self.kill(&victim);
        self.moment().await;
        self.start(&victim);
    }

    /// A node joins; the controller and one of the four engines die while it is filled.
    async fn growth(&mut self) {
        let added = self.dev.change(&["add"]);
        assert!(added.status.success(), "{}", common::json(&added));
        self.moment().await;
        self.dev.kill_controller();
        self.moment().await;
        let victim = self.random.pick(&self.dev.endpoints()).clone();
        self.kill(&victim);
        self.moment().await;
        self.start(&victim);
    }

    /// An engine stands still for so long that the others go on without it. When it goes on it is behind, and one of those
    /// others dies: what they share must not go on from the older copy once that one starts again.
    async fn thaw(&mut self) {
        let nodes = self.dev.endpoints();
        let at = self.random.below(nodes.len() as u64) as usize;
        let (frozen, victim) = (&nodes[at], &nodes[(at + 1) % nodes.len()]);
        self.traffic.node_will_die(&frozen.node);
        let pid = self.pid(frozen);
        common::signal(pid, "STOP");
        wait_for("the others to go on", || async {
            let board = common::json(&self.dev.ask(&["status"]));
            let (away, running) =
                (&board["cluster"]["inactive_nodes"], &board["rebalancing"]["running_operations"]);
            if *away == 1 && *running == 0 { Ok(()) } else { Err(board.to_string()) }
        })
        .await;
        let written = self.record.acknowledged_writes();
        wait_for("writes without it", || async {
            let more = self.record.acknowledged_writes() - written;
            if more >= 40 { Ok(()) } else { Err(format!("{more} writes")) }
        })
        .await;
        common::signal(pid, "CONT");
        self.kill(victim);
        self.moment().await;
        self.start(victim);
    }

    /// Waits, and restarts the nodes that alerts say are to be restarted, as an operator does: a real node waits for ever for
    /// members that were restarted meanwhile, and for a copy whose donor died while it gave it.
    async fn until(&mut self, what: &str, over: impl AsyncFn(&Self) -> Result<(), String>) {
        let alerts = |it: &Self| named_by_alerts(&common::json(&it.dev.ask(&["status"])));
        loop {
            let named = wait_for(what, async || {
                let named = alerts(self);
                if named.is_empty() { over(self).await.map(|()| named) } else { Ok(named) }
            })
            .await;
            if named.is_empty() {
                return;
            }
            for node in self.dev.endpoints().iter().filter(|it| named.contains(&it.node.to_string())) {
                println!("  an alert names {}, and it is restarted", node.node);
                self.kill(node);
                self.start(node);
            }
            wait_for("the alert to be over", async || {
                let named = alerts(self);
                if named.is_empty() { Ok(()) } else { Err(named.join(", ")) }
            })
            .await;
        }
    }

    async fn moment(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.random.below(MOMENT_MS))).await;
    }

    fn kill(&mut self, victim: &Endpoint) {
        self.traffic.node_will_die(&victim.node);
        common::signal(self.pid(victim), "KILL");
        common::wait("the loss to be noticed", || {
            let up = self.dev.endpoints().contains(victim);
            if up { Err("it is still listed".to_owned()) } else { Ok(()) }
        });
    }

    fn pid(&self, of: &Endpoint) -> u32 {
        let file = self.dev.file();
        let pid = file.nodes.iter().find(|node| node.id == of.node).and_then(|node| node.pid);
        pid.expect("it runs")
    }

    fn start(&mut self, node: &Endpoint) {
        let mut started = self.dev.change(&["start", node.node.as_str()]);
        if !started.status.success()
            && let Some(binlog) = self.binlog_not_made(node)
        {
            println!("  {} was killed before it had made {}", node.node, binlog.display());
            std::fs::write(&binlog, []).expect("an empty binlog");
            started = self.dev.change(&["start", node.node.as_str()]);
        }
        assert!(started.status.success(), "{}", common::json(&started));
    }

    /// The binlog that searchd says is missing. See the runbook `node-lost.md`.
    fn binlog_not_made(&self, node: &Endpoint) -> Option<PathBuf> {
        let at = self.dev.file().nodes.iter().position(|it| it.id == node.node)? + 1;
        let log = std::fs::read_to_string(self.dev.dir.join(format!("logs/node{at}.log"))).ok()?;
        let said = log.lines().rfind(|line| line.contains("FATAL"))?;
        let (_, path) = said.split_once("binlog: log open error: failed to open ")?;
        let path = PathBuf::from(path.split_once(": No such file")?.0.trim_matches('\''));
        (!path.exists()).then_some(path)
    }

    /// Until the controller has nothing left to do.
    async fn calm(&mut self) {
        self.until("calm", async |it| {
            let output = it.dev.ask(&["status"]);
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let board = common::json(&output);
            let (running, queued) =
                (&board["rebalancing"]["running_operations"], &board["queue"]["total_queue_depth"]);
            if running == 0 && queued == 0 { Ok(()) } else { Err(board.to_string()) }
        })
        .await;
    }

    /// Until every node runs, the table is whole, and nothing is anywhere that should not be.
    async fn settle(&mut self) {
        self.until("a whole table and nothing beside it", Self::whole).await;
        self.calm().await;
    }

    async fn whole(&self) -> Result<(), String> {
        let held = Holdings::look(&self.dev.endpoints(), TABLE).await.map_err(|fault| fault.to_string())?;
        if let Some(missing) = held.missing(TABLE, SHARDS, 2) {
            return Err(missing);
        }
        let file = self.dev.file();
        for (at, node) in file.nodes.iter().enumerate() {
            let Some(one) = held.0.get(&node.id) else { return Err(format!("{} does not run", node.id)) };
            let data = self.dev.dir.join(format!("node{}/data", at + 1));
            if let Some(left) = leftover(one, &data) {
                return Err(format!("{}: {left}", node.id));
            }
        }
        Ok(())
    }
}

/// Nodes that are to be restarted, by what alerts say.
fn named_by_alerts(board: &Value) -> Vec<String> {
    let firing = board["alerts"].as_array().into_iter().flatten().filter(|it| it["state"] == "firing");
    let restart = |it: &&Value| {
        let asks = |part: &str| it["action"].as_str().is_some_and(|action| action.contains(part));
        it["type"] == "left_behind" || (it["type"] == "standing_step" && asks("restart searchd on the node"))
    };
    let named = firing.filter(restart).filter_map(|it| it["labels"]["node"].as_str());
    named.map(str::to_owned).collect()
}

/// What a node has beside the table's own shards, their groups and the cluster `c`.
fn leftover(held: &cli::load::NodeHoldings, data: &Path) -> Option<String> {
    let in_clusters: BTreeSet<&String> = held.clusters.values().flat_map(|cluster| &cluster.tables).collect();
    let table = |name: &&String| model::parse_shard_table(name).is_some_and(|(of, _)| of.as_str() == TABLE);
    if let Some(name) = held.all_shards.iter().find(|name| !table(name) || !in_clusters.contains(name)) {
        return Some(format!("table {name} is left"));
    }
    let empty = |(name, cluster): &(&String, &cli::load::ClusterSeen)| {
        *name != cli::dev::CLUSTER && cluster.tables.is_empty()
    };
    if let Some((name, _)) = held.clusters.iter().find(empty) {
        return Some(format!("cluster {name} is left"));
    }
    let directories = std::fs::read_dir(data).into_iter().flatten().flatten();
    let mut names = directories
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    names.find(|name| !held.clusters.contains_key(name)).map(|name| format!("directory {name} is left"))
}
