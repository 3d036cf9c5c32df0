//! The acts of the demo, in order.

use super::report::Report;
use crate::args::DemoArgs;
use crate::dev::{CLUSTER, Cluster, ClusterOptions};
use crate::documents::Source;
use crate::load::{
    Client, Endpoint, Holdings, Loader, ProbeReport, Rates, Record, Traffic, probe_every_shard, verify,
};
use crate::output::CommandError;
use crate::random::Random;
use crate::story::{Step, Story};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TABLE: &str = "products";
/// Traffic before anything happens, to show that it goes well then.
const CALM: Duration = Duration::from_secs(2);
/// Beyond these something is broken, and waiting longer would not tell more.
const FAILOVER_TIMEOUT: Duration = Duration::from_mins(1);
const COPIES_TIMEOUT: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Many groups on a slow machine; a table that is not made by then is undone.
const CREATE_TIMEOUT: Duration = Duration::from_mins(2);
/// Probes may need several writes a shard while some are refused.
const PROBE_IDS: i64 = 1 << 32;

struct Play<'a> {
    args: &'a DemoArgs,
    source: &'a Source,
    story: &'a Story,
    record: Arc<Record>,
    random: Random,
    killed: Option<Instant>,
    report: Report,
}

/// Plays all acts. The cluster is left in `stage`, for the caller to end.
pub async fn play(
    args: &DemoArgs,
    config: Option<PathBuf>,
    source: &Source,
    dir: &Path,
    stage: &mut Option<Cluster>,
    story: &Story,
) -> Result<Report, CommandError> {
    let report = Report { nodes: args.nodes, shards: args.shards, rf: args.rf, ..Report::default() };
    let record = Arc::new(Record::default());
    let mut play = Play { args, source, story, record, random: Random::new(args.seed), killed: None, report };
    let started = Instant::now();
    let options = ClusterOptions { nodes: args.nodes, config, ..ClusterOptions::default() };
    let cluster = stage.insert(Cluster::open(dir, options)?);
    cluster.start(story).await?;
    play.took("start", started);
    play.create(&cluster.endpoints()).await?;
    let free_id = play.load(&cluster.endpoints()).await?;
    let shape = source.shape();
    let seed = play.random.next_u64();
    let record = Arc::clone(&play.record);
    let mut traffic =
        Traffic::start(&cluster.endpoints(), TABLE, shape, (free_id, seed), Rates::default(), record);
    tokio::time::sleep(CALM).await;
    play.lose_a_node(cluster, &mut traffic).await?;
    play.grow(cluster, &mut traffic).await?;
    play.finish(cluster, traffic).await?;
    Ok(play.report)
}

impl Play<'_> {
    fn took(&mut self, phase: &'static str, since: Instant) {
        self.report.phases.insert(phase, since.elapsed().as_secs_f64());
    }

    async fn create(&mut self, endpoints: &[Endpoint]) -> Result<(), CommandError> {
        let (shards, rf) = (self.args.shards, self.args.rf);
        let at = self.random.pick(endpoints).clone();
        let step =
            self.story.step(&format!("creating {CLUSTER}:{TABLE} with {shards} shards, {rf} copies each"));
        let started = Instant::now();
        let columns = self.source.shape().declaration();
        let sql = format!(
            "CREATE TABLE {CLUSTER}:{TABLE} ({columns}) shards='{shards}' rf='{rf}' timeout='{}'",
            CREATE_TIMEOUT.as_secs()
        );
        let mut client = Client::new(at).with_patience(CREATE_TIMEOUT * 2);
        client.execute(&sql).await.map_err(|fault| {
            CommandError::failed(
                format!("the table could not be created: {fault}"),
                "the controller's log says more",
            )
        })?;
        client.close().await;
        step.done(&format!("table {TABLE} created: {shards} shards, {rf} copies each"));
        self.took("create", started);
        Ok(())
    }

    /// Loads the documents; gives the first id that is free for writers.
    async fn load(&mut self, endpoints: &[Endpoint]) -> Result<i64, CommandError> {
        let step = self.story.step("loading documents");
        step.measure(self.source.expected());
        let started = Instant::now();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let load =
            Loader { source: self.source, table: TABLE, endpoints, acknowledged: Arc::clone(&acknowledged) };
        let mut loading = std::pin::pin!(load.run());
        let mut look = tokio::time::interval(LOOK_EVERY);
        let outcome = loop {
            tokio::select! {
                ended = &mut loading => break ended,
                _ = look.tick() => step.position(acknowledged.load(Ordering::Relaxed)),
            }
        };
        let loaded = outcome.map_err(|error| {
            CommandError::failed(
                format!("the documents could not be loaded: {error}"),
                "the nodes' logs say more",
            )
        })?;
        step.done(&format!("{} documents loaded, {:.0} a second", loaded.documents, loaded.per_second()));
        for line in &loaded.skipped_first {
            self.story.say(&format!("  line {} skipped: {}", line.line, line.message));
        }
        let skipped: u64 = loaded.skipped.values().sum();
        if skipped > loaded.skipped_first.len() as u64 {
            self.story.say(&format!("  {skipped} lines skipped in all"));
        }
        self.took("load", started);
        self.record.loaded(loaded.documents, Instant::now());
        self.report.documents_loaded = loaded.documents;
        self.report.load_documents_per_second = loaded.per_second();
        self.report.skipped = loaded.skipped;
        self.report.skipped_first = loaded.skipped_first;
        Ok(loaded.free_id)
    }

    async fn lose_a_node(
        &mut self,
        cluster: &mut Cluster,
        traffic: &mut Traffic,
    ) -> Result<(), CommandError> {
        let victim = self.random.pick(&cluster.endpoints()).clone();
        let live: Vec<Endpoint> = cluster.endpoints().into_iter().filter(|end| *end != victim).collect();
        let step = self.story.step(&format!("node {} is killed with -9 under reads and writes", victim.node));
        let first_id = traffic.reserve_ids(PROBE_IDS);
        traffic.node_will_die(&victim.node);
        let killed = Instant::now();
        self.killed = Some(killed);
        cluster.kill(victim.node.as_str()).await?;
        self.report.killed = victim.node.to_string();
        let shards = self.args.shards;
        let deadline = killed + FAILOVER_TIMEOUT;
        let probes = probe_every_shard(
            &live,
            TABLE,
            self.source.shape(),
            shards,
            first_id,
            (killed, deadline),
            &self.record,
        )
        .await;
        self.failed_over(step, &probes, &victim);
        self.took("failover", killed);
        // With too few nodes left the copies come back when the new node has joined.
        if self.args.rf as usize <= live.len() {
            let step = self.story.step("making every copy whole again");
            if self.wait_for_copies(&live, killed, &step).await? {
                step.done(&format!("every shard has its {} copies again", self.args.rf));
            } else {
                step.failed("copies are missing");
            }
            self.took("full_rf", killed);
        }
        Ok(())
    }

    fn failed_over(&mut self, step: Step, probes: &ProbeReport, victim: &Endpoint) {
        self.report.failed_writes += probes.failed;
        self.report.first_faults.extend(probes.first_faults.iter().cloned());
        if let Some(after) = probes.all_after(self.args.shards) {
            self.report.failover_seconds = Some(after.as_secs_f64());
            step.done(&format!(
                "node {} was killed with -9; every shard took writes again after {:.1} s",
                victim.node,
                after.as_secs_f64()
            ));
        } else {
            let missing = self.args.shards as usize - probes.accepted_after.len();
            self.report.problems.push(format!("{missing} shards took no write after the kill"));
            step.failed(&format!("node {} was killed with -9; {missing} shards take no writes", victim.node));
        }
    }

    /// Until every shard has all its copies on `live` and every node routes to just those.
    async fn wait_for_copies(
        &mut self,
        live: &[Endpoint],
        killed: Instant,
        step: &Step,
    ) -> Result<bool, CommandError> {
        loop {
            match look(live).await?.missing(TABLE, self.args.shards, self.args.rf) {
                None => {
                    self.report.full_rf_seconds = Some(killed.elapsed().as_secs_f64());
                    return Ok(true);
                }
                Some(missing) if killed.elapsed() > COPIES_TIMEOUT => {
                    self.report.problems.push(format!("full replication did not come back: {missing}"));
                    return Ok(false);
                }
                Some(missing) => step.say(&format!("making every copy whole again: {missing}")),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn grow(&mut self, cluster: &mut Cluster, traffic: &mut Traffic) -> Result<(), CommandError> {
        let before = look(&cluster.endpoints()).await?;
        let step = self.story.step("a new node joins");
        let started = Instant::now();
        let joined = cluster.add().await?;
        self.report.joined = joined.node.to_string();
        let live = cluster.endpoints();
        self.report.rebalance_lower_bound = lower_bound(&before, live.len(), self.args.rf as usize);
        let (memberships, copies) = (before.memberships(), before.copies());
        let (mut gained, mut gained_shards) = (BTreeSet::new(), BTreeSet::new());
        let mut serves = false;
        loop {
            let now = look(&live).await?;
            gained.extend(now.memberships().difference(&memberships).cloned());
            gained_shards.extend(now.copies().difference(&copies).cloned());
            if !serves && now.0.get(&joined.node).is_some_and(|held| held.route.is_some()) {
                serves = true;
                traffic.add(joined.clone());
            }
            let missing = now.missing(TABLE, self.args.shards, self.args.rf);
            let calm = self.is_calm(cluster).await?;
            if missing.is_none() && calm && gained.len() as u64 >= self.report.rebalance_lower_bound {
                break;
            }
            if started.elapsed() > COPIES_TIMEOUT {
                let what = missing.unwrap_or_else(|| "operations still run".to_owned());
                self.report.problems.push(format!("the new node was not filled: {what}"));
                break;
            }
            step.say(&format!(
                "node {} joined and is filled: {} shard copies made",
                joined.node,
                gained_shards.len()
            ));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let since = self.killed.unwrap_or(started);
        self.report.full_rf_seconds.get_or_insert_with(|| since.elapsed().as_secs_f64());
        self.report.rebalance_copies = gained.len() as u64;
        self.report.rebalance_shard_copies = gained_shards.len() as u64;
        step.done(&format!(
            "node {} joined and was filled: {} groups copied, {} are the fewest",
            joined.node,
            gained.len(),
            self.report.rebalance_lower_bound
        ));
        self.took("rebalance", started);
        Ok(())
    }

    async fn is_calm(&self, cluster: &Cluster) -> Result<bool, CommandError> {
        let board = cluster.api().dashboard().await?;
        Ok(board.rebalancing.running_operations == 0 && board.queue.total_queue_depth == 0)
    }

    async fn finish(&mut self, cluster: &Cluster, traffic: Traffic) -> Result<(), CommandError> {
        let step = self.story.step("stopping readers and writers");
        let started = Instant::now();
        let seen = traffic.stop().await;
        step.say("reading every acknowledged document back from every copy");
        let shape = self.source.shape();
        let table = (TABLE, self.args.shards);
        let found = verify(Some(self.source), shape, table, &self.record, &cluster.endpoints()).await;
        let found =
            found.map_err(|error| CommandError::failed(error.to_string(), "the nodes' logs say more"))?;
        let report = &mut self.report;
        report.reads = seen.reads;
        report.failed_reads = seen.failed_reads;
        report.failed_writes += seen.failed_writes;
        report.read_regressions = seen.read_regressions;
        report.first_faults.extend(seen.first_faults);
        report.first_faults.extend(found.first_faults);
        report.lost = found.lost;
        report.surplus = found.surplus;
        report.documents_final = found.documents_final;
        report.acknowledged_writes = self.record.acknowledged_writes();
        report.unknown_writes = self.record.unknown_writes();
        if found.documents_final < self.record.documents() {
            report.problems.push(format!(
                "{} documents count through routing, {} were acknowledged",
                found.documents_final,
                self.record.documents()
            ));
        }
        report.judge();
        let text = format!(
            "{} documents compared by id and content with {} shard copies",
            found.documents, found.copies
        );
        if report.lost == 0 {
            step.done(&text)
        } else {
            step.failed(&format!("{text}: {} lost", report.lost))
        };
        self.took("verify", started);
        Ok(())
    }
}

async fn look(endpoints: &[Endpoint]) -> Result<Holdings, CommandError> {
    Holdings::look(endpoints, TABLE).await.map_err(|fault| {
        CommandError::failed(format!("a node does not say what it holds: {fault}"), "its log says more")
    })
}

/// The fewest groups that must be copied so that each has `rf` members, evenly on `nodes` nodes: what is missing
/// altogether, and what lies on nodes above their share. Reckoned here, not asked of the planner.
fn lower_bound(before: &Holdings, nodes: usize, rf: usize) -> u64 {
    let memberships = before.memberships();
    let groups: BTreeSet<&String> = memberships.iter().map(|(group, _)| group).collect();
    let total = groups.len() * rf.min(nodes);
    let mut loads: Vec<usize> =
        before.0.keys().map(|node| memberships.iter().filter(|(_, member)| member == node).count()).collect();
    loads.resize(nodes, 0);
    loads.sort_unstable_by(|a, b| b.cmp(a));
    let (floor, ceilings) = (total / nodes, total % nodes);
    let kept: usize = loads
        .iter()
        .enumerate()
        .map(|(at, load)| (*load).min(if at < ceilings { floor + 1 } else { floor }))
        .sum();
    (total - kept) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{ClusterSeen, NodeHoldings};
    use model::NodeId;
    use std::collections::BTreeMap;

    #[test]
    fn the_fewest_copies_are_reckoned_from_what_nodes_hold() {
        let holdings = |groups: &[&[u32]]| {
            let node = |(at, held): (usize, &&[u32])| {
                let cluster = |group: &u32| {
                    let tables = BTreeSet::from([format!("system.t_s{group}")]);
                    (format!("g{group}"), ClusterSeen { tables, ..ClusterSeen::default() })
                };
                let clusters: BTreeMap<String, ClusterSeen> = held.iter().map(cluster).collect();
                let id = NodeId::new(format!("127.0.0.1:{}", at + 1)).expect("valid");
                (id, NodeHoldings { clusters, ..NodeHoldings::default() })
            };
            Holdings(groups.iter().enumerate().map(node).collect())
        };
        // Two nodes with six groups each, a third joins: it gets four.
        let two = holdings(&[&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5, 6]]);
        assert_eq!(lower_bound(&two, 3, 2), 4);
        // Even already.
        assert_eq!(lower_bound(&holdings(&[&[1, 2], &[2, 3], &[3, 1]]), 3, 2), 0);
        // One copy of two is gone with its node.
        assert_eq!(lower_bound(&holdings(&[&[1, 2, 3]]), 2, 2), 3);
    }
}
