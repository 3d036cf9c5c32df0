//! Continuous writers and readers, one of each per live node, at a bounded rate.

use super::{Client, Endpoint, Fault, Record, WriteOutcome};
use crate::documents::{RowsStatement, Shape};
use crate::random::Random;
use model::NodeId;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Faults kept in words; all are counted.
pub const FAULTS_SHOWN_MAX: usize = 20;
/// A writer overwrites one of its own documents every so many writes; the rest are new ones.
const OVERWRITE_EVERY: u64 = 5;
/// Ids a writer remembers for overwriting.
const OWN_IDS_MAX: usize = 10_000;

/// How often each client acts, per second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub writes_per_second: f64,
    pub reads_per_second: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { writes_per_second: 40.0, reads_per_second: 10.0 }
    }
}

/// What clients on live nodes met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficReport {
    pub reads: u64,
    pub failed_reads: u64,
    pub failed_writes: u64,
    /// Reads that counted fewer documents than were acknowledged three seconds before.
    pub read_regressions: u64,
    /// The first faults and regressions in words.
    pub first_faults: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    record: Arc<Record>,
    table: String,
    shape: Shape,
    rates: Rates,
    started: Instant,
    next_id: AtomicI64,
    stopping: AtomicBool,
    /// Nodes that were killed: what their clients meet does not count.
    killed: Mutex<BTreeSet<NodeId>>,
    reads: AtomicU64,
    failed_reads: AtomicU64,
    failed_writes: AtomicU64,
    read_regressions: AtomicU64,
    first_faults: Mutex<Vec<String>>,
}

/// Running clients.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    seeds: Random,
}

impl Traffic {
    /// New documents take ids from `first_id` on; `record` knows what was loaded before.
    pub fn start(
        endpoints: &[Endpoint],
        table: &str,
        shape: &Shape,
        (first_id, seed): (i64, u64),
        rates: Rates,
        record: Arc<Record>,
    ) -> Self {
        let shared = Shared {
            record,
            table: table.to_owned(),
            shape: shape.clone(),
            rates,
            started: Instant::now(),
            next_id: AtomicI64::new(first_id),
            stopping: AtomicBool::new(false),
            killed: Mutex::default(),
            reads: AtomicU64::new(0),
            failed_reads: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
            read_regressions: AtomicU64::new(0),
            first_faults: Mutex::default(),
        };
        let mut traffic =
            Self { shared: Arc::new(shared), clients: JoinSet::new(), seeds: Random::new(seed) };
        for endpoint in endpoints {
            traffic.add(endpoint.clone());
        }
        traffic
    }

    /// A writer and a reader more, at a node that joined or came back.
    pub fn add(&mut self, endpoint: Endpoint) {
        self.shared.killed.lock().unwrap_or_else(PoisonError::into_inner).remove(&endpoint.node);
        let random = Random::new(self.seeds.next_u64());
        self.clients.spawn(write(Client::new(endpoint.clone()), Arc::clone(&self.shared), random));
        self.clients.spawn(read(Client::new(endpoint), Arc::clone(&self.shared)));
    }

    /// Tells before a node is killed: from now on its clients' errors do not count, and they end.
    pub fn node_will_die(&self, node: &NodeId) {
        self.shared.killed.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone());
    }

    /// An id that no writer uses, nor any id of the `count` after it.
    pub fn reserve_ids(&self, count: i64) -> i64 {
        self.shared.next_id.fetch_add(count, Ordering::Relaxed)
    }

    /// What was met so far.
    pub fn report(&self) -> TrafficReport {
        let shared = &self.shared;
        TrafficReport {
            reads: shared.reads.load(Ordering::Relaxed),
            failed_reads: shared.failed_reads.load(Ordering::Relaxed),
            failed_writes: shared.failed_writes.load(Ordering::Relaxed),
            read_regressions: shared.read_regressions.load(Ordering::Relaxed),
            first_faults: shared.first_faults.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Lets every client finish its statement and end.
    pub async fn stop(mut self) -> TrafficReport {
        self.shared.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            if let Err(error) = ended {
                self.shared.fault(&self.shared.failed_writes, &format!("a client broke: {error}"));
            }
        }
        self.report()
    }
}

impl Shared {
    fn goes_on(&self, node: &NodeId) -> bool {
        !self.stopping.load(Ordering::Relaxed) && !self.is_killed(node)
    }

    fn is_killed(&self, node: &NodeId) -> bool {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).contains(node)
    }

    fn fault(&self, counter: &AtomicU64, text: &str) {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first_faults.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() < FAULTS_SHOWN_MAX {
            first.push(format!("{:.1} s: {text}", self.started.elapsed().as_secs_f64()));
        }
    }
}

fn interval(per_second: f64) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second.max(0.001)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn write(mut client: Client, shared: Arc<Shared>, mut random: Random) {
    let node = client.endpoint().node.clone();
    let mut pace = interval(shared.rates.writes_per_second);
    let mut own: Vec<i64> = Vec::new();
    let mut number = 0;
    while shared.goes_on(&node) {
        pace.tick().await;
        number += 1;
        let overwritten = (number % OVERWRITE_EVERY == 0 && !own.is_empty())
            .then(|| own.swap_remove(random.below(own.len() as u64) as usize));
        let (verb, id) = match overwritten {
            Some(id) => ("REPLACE", id),
            None => ("INSERT", shared.next_id.fetch_add(1, Ordering::Relaxed)),
        };
        let document = shared.shape.made_up(id, random.next_u64() >> 12);
        let mut statement = RowsStatement::new(verb, &shared.table, &shared.shape);
        statement.push(&document);
        let outcome = client.execute(&statement.into_sql()).await;
        let seen = match &outcome {
            Ok(_) => WriteOutcome::Acknowledged,
            Err(fault) if fault.is_unknown() => WriteOutcome::Unknown,
            Err(_) => WriteOutcome::NotApplied,
        };
        shared.record.wrote(document, seen, Instant::now());
        // A document whose last write is in doubt is left alone, so that its content can be judged at the end.
        if seen != WriteOutcome::Unknown
            && own.len() < OWN_IDS_MAX
            && (outcome.is_ok() || overwritten.is_some())
        {
            own.push(id);
        }
        if let Err(fault) = outcome
            && !shared.is_killed(&node)
        {
            shared.fault(&shared.failed_writes, &format!("{verb} of {id}: {fault}"));
        }
    }
    client.close().await;
}

async fn read(mut client: Client, shared: Arc<Shared>) {
    let node = client.endpoint().node.clone();
    let mut pace = interval(shared.rates.reads_per_second);
    let sql = format!("SELECT COUNT(*) FROM {}", model::sql::Ident(&shared.table));
    while shared.goes_on(&node) {
        pace.tick().await;
        let floor = shared.record.floor(Instant::now());
        let outcome: Result<u64, Fault> = client.number(&sql).await;
        if shared.is_killed(&node) {
            break;
        }
        shared.reads.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(count) if count < floor => {
                let text = format!("{node} counted {count}, {floor} were acknowledged 3 s before");
                shared.fault(&shared.read_regressions, &text);
            }
            Ok(_) => {}
            Err(fault) => shared.fault(&shared.failed_reads, &format!("{sql}: {fault}")),
        }
    }
    client.close().await;
}
