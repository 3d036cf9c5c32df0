//! How long until every shard takes writes: one write a shard, sent at once and, when refused, anew.

use super::{Client, Endpoint, Fault, Record, WriteOutcome, shard_of};
use crate::documents::{RowsStatement, Shape};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Between a refused write and the next one to the same shard.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections at a time; each holds one statement, so this bounds what a large table asks of the nodes.
const CONNECTIONS_MAX: usize = 128;

/// What the probes met.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport {
    /// From the start until each shard had taken a write; a shard that never did is absent.
    pub accepted_after: BTreeMap<u32, Duration>,
    /// Writes that were not acknowledged; each is an error that a client on a live node saw.
    pub failed: u64,
    pub first_faults: Vec<String>,
    /// The first id that was not used.
    pub next_id: i64,
}

impl ProbeReport {
    /// When the last shard took a write; `None` while one has not.
    pub fn all_after(&self, shards: u32) -> Option<Duration> {
        let all = self.accepted_after.len() == shards as usize;
        all.then(|| self.accepted_after.values().max().copied()).flatten()
    }
}

/// Writes to every shard through the live `endpoints` until each has taken one, or until `deadline`.
/// Ids are used from `first_id` on.
pub async fn probe_every_shard(
    endpoints: &[Endpoint],
    table: &str,
    shape: &Shape,
    shards: u32,
    first_id: i64,
    (started, deadline): (Instant, Instant),
    record: &Arc<Record>,
) -> ProbeReport {
    let mut report = ProbeReport { next_id: first_id, ..ProbeReport::default() };
    let mut waiting: Vec<u32> = (0..shards).rev().collect();
    let mut probes = JoinSet::new();
    loop {
        while probes.len() < CONNECTIONS_MAX {
            let Some(shard) = waiting.pop() else { break };
            let Some(id) = id_in_shard(report.next_id, shard, shards) else { continue };
            let endpoint = endpoints[shard as usize % endpoints.len()].clone();
            probes.spawn(probe(endpoint, table.to_owned(), shape.clone(), (shard, id), Arc::clone(record)));
            // Ids of one shard lie apart by about the number of shards; going on from here keeps them distinct.
            report.next_id = id + 1;
        }
        match probes.join_next().await {
            None => return report,
            Some(Ok((shard, Ok(())))) => {
                report.accepted_after.insert(shard, started.elapsed());
            }
            Some(Ok((shard, Err(fault)))) => {
                report.failed += 1;
                if report.first_faults.len() < super::traffic::FAULTS_SHOWN_MAX {
                    report.first_faults.push(format!("write to shard {shard}: {fault}"));
                }
                if Instant::now() < deadline {
                    tokio::time::sleep(PAUSE).await;
                    waiting.push(shard);
                }
            }
            // A probe that panicked leaves its shard out of the report, which then is not complete.
            Some(Err(_panicked)) => report.failed += 1,
        }
    }
}

/// An id at or after `from` that belongs to `shard`. Ids are spread evenly, so a thousand times the number of shards
/// holds one but for a chance of e⁻¹⁰⁰⁰.
fn id_in_shard(from: i64, shard: u32, shards: u32) -> Option<i64> {
    (from..from + i64::from(shards) * 1000).find(|id| shard_of(*id, shards) == shard)
}

async fn probe(
    endpoint: Endpoint,
    table: String,
    shape: Shape,
    (shard, id): (u32, i64),
    record: Arc<Record>,
) -> (u32, Result<(), Fault>) {
    let mut client = Client::new(endpoint);
    let document = shape.made_up(id, id.unsigned_abs());
    let mut statement = RowsStatement::new("REPLACE", &table, &shape);
    statement.push(&document);
    let outcome = client.execute(&statement.into_sql()).await;
    let seen = match &outcome {
        Ok(_) => WriteOutcome::Acknowledged,
        Err(fault) if fault.is_unknown() => WriteOutcome::Unknown,
        Err(_) => WriteOutcome::NotApplied,
    };
    record.wrote(document, seen, Instant::now());
    client.close().await;
    (shard, outcome.map(|_| ()))
}
