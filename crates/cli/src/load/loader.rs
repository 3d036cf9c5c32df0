//! The first load: documents in batches, over several connections, with the rate seen.

use super::{Client, Endpoint, Fault};
use crate::documents::{DocumentsError, RowsStatement, SkipReason, Skipped, Source};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};

/// Rows of one `INSERT`: larger ones gain nothing, smaller ones pay the round trip.
const BATCH_ROWS_MAX: usize = 500;
/// A statement is sent when it has grown to this; nodes refuse packets above 8 MiB.
const BATCH_BYTES: usize = 512 << 10;
/// Batches made ahead of the connections that send them.
const BATCHES_AHEAD: usize = 4;
const CONNECTIONS_PER_NODE: usize = 2;
/// Skipped lines that are reported one by one; the rest is only counted.
const SKIPPED_SHOWN_MAX: usize = 20;

/// Loads a source into a table.
#[derive(Debug)]
pub struct Loader<'a> {
    pub source: &'a Source,
    pub table: &'a str,
    pub endpoints: &'a [Endpoint],
    /// Counts acknowledged documents while the load runs.
    pub acknowledged: Arc<AtomicU64>,
}

/// What a load did.
#[derive(Clone, Debug)]
pub struct LoadReport {
    pub documents: u64,
    /// The first of 2^43 ids in a row none of which was loaded.
    pub free_id: i64,
    pub took: Duration,
    pub skipped: BTreeMap<SkipReason, u64>,
    /// The first ones, by line.
    pub skipped_first: Vec<Skipped>,
}

impl LoadReport {
    pub fn per_second(&self) -> f64 {
        self.documents as f64 / self.took.as_secs_f64().max(0.001)
    }
}

/// Why a load ended early.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Documents(#[from] DocumentsError),
    #[error("the documents' ids leave no room for those of other writers: they use every range of 2^43 ids")]
    NoFreeIds,
    #[error("a batch was not taken: {0}")]
    Node(#[from] Fault),
    #[error("a batch of {sent} documents was answered as {taken} by {node}")]
    Short { sent: u64, taken: u64, node: model::NodeId },
    #[error("the load ended without a word ({0}): this is a fault of shardwright, report it")]
    Lost(String),
}

struct Batch {
    sql: String,
    rows: u64,
}

struct Read {
    free_id: i64,
    skipped: BTreeMap<SkipReason, u64>,
    skipped_first: Vec<Skipped>,
}

impl Loader<'_> {
    /// Loads everything; stops at the first batch that a node does not take.
    pub async fn run(&self) -> Result<LoadReport, LoadError> {
        let started = Instant::now();
        let (batches, queue) = mpsc::channel(BATCHES_AHEAD);
        let queue = Arc::new(Mutex::new(queue));
        let (source, table) = (self.source.clone(), self.table.to_owned());
        let reading = tokio::task::spawn_blocking(move || read(&source, &table, &batches));
        let mut senders = tokio::task::JoinSet::new();
        for endpoint in self.endpoints.iter().cycle().take(self.endpoints.len() * CONNECTIONS_PER_NODE) {
            let client = Client::new(endpoint.clone());
            senders.spawn(send(client, Arc::clone(&queue), Arc::clone(&self.acknowledged)));
        }
        // The reader stops when the last sender is gone.
        drop(queue);
        let mut documents = 0;
        while let Some(sent) = senders.join_next().await {
            documents += sent.map_err(|error| LoadError::Lost(error.to_string()))??;
        }
        let read = reading.await.map_err(|error| LoadError::Lost(error.to_string()))??;
        Ok(LoadReport {
            documents,
            free_id: read.free_id,
            took: started.elapsed(),
            skipped: read.skipped,
            skipped_first: read.skipped_first,
        })
    }
}

/// Reads the source into batches until it ends or nobody takes them.
fn read(source: &Source, table: &str, batches: &mpsc::Sender<Batch>) -> Result<Read, LoadError> {
    let shape = source.shape();
    let mut statement = RowsStatement::new("INSERT", table, shape);
    let flush = |statement: RowsStatement| {
        let rows = statement.rows() as u64;
        batches.blocking_send(Batch { sql: statement.into_sql(), rows }).is_ok()
    };
    let mut skipped = BTreeMap::new();
    let mut skipped_first = Vec::new();
    let mut used = UsedRanges::default();
    for item in source.open()? {
        match item? {
            Err(line) => {
                *skipped.entry(line.why).or_insert(0) += 1;
                if skipped_first.len() < SKIPPED_SHOWN_MAX {
                    skipped_first.push(line);
                }
            }
            Ok(document) => {
                used.insert(document.id);
                statement.push(&document);
                if statement.rows() == BATCH_ROWS_MAX || statement.len() >= BATCH_BYTES {
                    let full = std::mem::replace(&mut statement, RowsStatement::new("INSERT", table, shape));
                    if !flush(full) {
                        break;
                    }
                }
            }
        }
    }
    if !statement.is_empty() {
        flush(statement);
    }
    Ok(Read { free_id: used.free_id()?, skipped, skipped_first })
}

/// Which ranges of 2^43 ids have an id in use: one bit each, 128 KiB for all positive ids.
#[derive(Default)]
struct UsedRanges(Vec<u64>);

impl UsedRanges {
    const RANGE_BITS: u32 = 43;
    const RANGES: u64 = 1 << (63 - Self::RANGE_BITS);

    fn insert(&mut self, id: i64) {
        let range = id.unsigned_abs() >> Self::RANGE_BITS;
        let word = (range / 64) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (range % 64);
    }

    fn free_id(&self) -> Result<i64, LoadError> {
        // Id 0 means "make one up", so the first range counts as used.
        let used = |range: u64| {
            range == 0 || self.0.get((range / 64) as usize).is_some_and(|word| word >> (range % 64) & 1 == 1)
        };
        let free = (0..Self::RANGES).find(|range| !used(*range)).ok_or(LoadError::NoFreeIds)?;
        i64::try_from(free << Self::RANGE_BITS).map_err(|_| LoadError::NoFreeIds)
    }
}

/// Sends batches one after the other; gives how many documents were acknowledged.
async fn send(
    mut client: Client,
    queue: Arc<Mutex<mpsc::Receiver<Batch>>>,
    acknowledged: Arc<AtomicU64>,
) -> Result<u64, LoadError> {
    let mut documents = 0;
    loop {
        let next = queue.lock().await.recv().await;
        let Some(batch) = next else { break };
        let taken = client.execute(&batch.sql).await?;
        if taken != batch.rows {
            let node = client.endpoint().node.clone();
            return Err(LoadError::Short { sent: batch.rows, taken, node });
        }
        documents += taken;
        acknowledged.fetch_add(taken, Ordering::Relaxed);
    }
    client.close().await;
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ids_keep_clear_of_those_in_use() {
        let mut used = UsedRanges::default();
        used.insert(1);
        assert_eq!(used.free_id().expect("room"), 1 << 43);
        used.insert((1 << 43) + 5);
        used.insert(i64::MAX);
        assert_eq!(used.free_id().expect("room"), 2 << 43);
        for range in 0..1 << 20 {
            used.insert(range << 43);
        }
        assert!(used.free_id().is_err());
    }
}
