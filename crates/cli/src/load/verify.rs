//! The last word: every acknowledged document read back by id and content, through routing and from every copy.

use super::{Client, Endpoint, Fault, Holdings, Record, shard_of};
use crate::documents::{Document, DocumentsError, Shape, Source};
use model::NodeId;
use model::sql::Ident;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Documents compared at a time: bounds memory and the length of statements.
const CHUNK: usize = 2000;
const CHUNKS_AHEAD: usize = 2;
/// Copies apply a moment after the acknowledgement; how long they may take to show all of it once writers stopped.
const SETTLE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Lost documents that are named; all are counted.
const LOST_SHOWN_MAX: usize = 20;

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Documents compared.
    pub documents: u64,
    /// Acknowledged documents that are absent or different, through routing or in any copy.
    pub lost: u64,
    /// Rows of copies that nobody wrote.
    pub surplus: u64,
    pub copies: u64,
    /// Documents seen through routing at the end.
    pub documents_final: u64,
    pub first_faults: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Documents(#[from] DocumentsError),
    #[error("documents could not be read back: {0}")]
    Node(#[from] Fault),
    #[error("the comparison ended without a word ({0}): this is a fault of shardwright, report it")]
    Lost(String),
}

/// An acknowledged document with the contents it may have.
struct Expected {
    contents: Vec<Document>,
    may_be_absent: bool,
}

/// Compares what `source` loaded and what `record` saw acknowledged with what the nodes hold.
pub async fn verify(
    source: Option<&Source>,
    shape: &Shape,
    (table, shards): (&str, u32),
    record: &Record,
    endpoints: &[Endpoint],
) -> Result<Verification, VerifyError> {
    let holdings = Holdings::look(endpoints, table).await?;
    let mut verifier = Verifier {
        table,
        shape,
        shards,
        holders: (0..shards).map(|shard| holdings.holders(shard)).collect(),
        clients: endpoints.iter().map(|end| (end.node.clone(), Client::new(end.clone()))).collect(),
        per_shard: vec![(0, 0); shards as usize],
        found: Verification { copies: holdings.copies().len() as u64, ..Verification::default() },
        settled_by: Instant::now() + SETTLE,
    };
    let written = record.written();
    if let Some(source) = source {
        let (chunks, mut queue) = mpsc::channel(CHUNKS_AHEAD);
        let source = source.clone();
        let reading = tokio::task::spawn_blocking(move || read(&source, &chunks));
        while let Some(chunk) = queue.recv().await {
            verifier.compare(&chunk).await?;
        }
        reading.await.map_err(|error| VerifyError::Lost(error.to_string()))??;
    }
    let mut chunk = BTreeMap::new();
    for (id, written) in written {
        let may_be_absent = written.may_be_absent();
        let contents = written.acknowledged.into_iter().chain(written.possible).collect();
        chunk.insert(id, Expected { contents, may_be_absent });
        if chunk.len() == CHUNK {
            verifier.compare(&std::mem::take(&mut chunk)).await?;
        }
    }
    verifier.compare(&chunk).await?;
    verifier.count().await?;
    for client in verifier.clients.into_values() {
        client.close().await;
    }
    Ok(verifier.found)
}

fn read(source: &Source, chunks: &mpsc::Sender<BTreeMap<i64, Expected>>) -> Result<(), DocumentsError> {
    let mut chunk = BTreeMap::new();
    for item in source.open()? {
        let Ok(document) = item? else { continue };
        chunk.insert(document.id, Expected { contents: vec![document], may_be_absent: false });
        if chunk.len() == CHUNK && chunks.blocking_send(std::mem::take(&mut chunk)).is_err() {
            return Ok(());
        }
    }
    // The receiver only goes early when the comparison failed, which is then what is reported.
    let _gone = chunks.blocking_send(chunk);
    Ok(())
}

struct Verifier<'a> {
    table: &'a str,
    shape: &'a Shape,
    shards: u32,
    holders: Vec<BTreeSet<NodeId>>,
    clients: BTreeMap<NodeId, Client>,
    /// Documents that must be, and that may be, in each shard.
    per_shard: Vec<(u64, u64)>,
    found: Verification,
    /// A fault that is seen before may be a write that a copy has not applied yet.
    settled_by: Instant,
}

impl Verifier<'_> {
    async fn compare(&mut self, chunk: &BTreeMap<i64, Expected>) -> Result<(), VerifyError> {
        if chunk.is_empty() {
            return Ok(());
        }
        let mut by_shard: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
        for (id, expected) in chunk {
            let shard = shard_of(*id, self.shards);
            by_shard.entry(shard).or_default().push(*id);
            let counts = &mut self.per_shard[shard as usize];
            counts.0 += u64::from(!expected.may_be_absent);
            counts.1 += 1;
        }
        // Every node is asked for the copies it holds, and for the whole chunk through its routing table.
        let all: Vec<i64> = chunk.keys().copied().collect();
        let mut asks: BTreeMap<NodeId, Vec<(String, Vec<i64>)>> = BTreeMap::new();
        let routed = self.found.documents as usize / CHUNK % self.clients.len();
        if let Some(node) = self.clients.keys().nth(routed) {
            asks.entry(node.clone()).or_default().push((self.table.to_owned(), all));
        }
        for (shard, ids) in by_shard {
            if self.holders[shard as usize].is_empty() {
                self.note(format!("shard {shard} has no copy"));
                self.found.lost += ids.len() as u64;
            }
            for node in &self.holders[shard as usize] {
                let name = format!("system.{}_s{shard}", self.table);
                asks.entry(node.clone()).or_default().push((name, ids.clone()));
            }
        }
        let (lost, notes) = loop {
            let (lost, notes) = self.faults(chunk, &asks).await?;
            if lost.is_empty() || Instant::now() >= self.settled_by {
                break (lost, notes);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        self.found.lost += lost.len() as u64;
        self.found.documents += chunk.len() as u64;
        for note in notes {
            self.note(note);
        }
        Ok(())
    }

    /// The documents of a chunk that are not where they must be, each place in words. The nodes are asked at the
    /// same time.
    async fn faults(
        &mut self,
        chunk: &BTreeMap<i64, Expected>,
        asks: &BTreeMap<NodeId, Vec<(String, Vec<i64>)>>,
    ) -> Result<(BTreeSet<i64>, Vec<String>), VerifyError> {
        let mut lost = BTreeSet::new();
        let mut notes = Vec::new();
        let asking = self.clients.iter_mut().filter_map(|(node, client)| {
            let asks = asks.get(node)?;
            Some(ask(client, self.shape, asks))
        });
        for answers in join_all(asking).await {
            for (place, ids, rows) in answers? {
                for id in ids {
                    if let Some(why) = fault(&chunk[id], rows.get(id)) {
                        lost.insert(*id);
                        notes.push(format!("document {id} {why} in {place}"));
                    }
                }
            }
        }
        Ok((lost, notes))
    }

    /// Every copy counts what was acknowledged for its shard, and nothing else.
    async fn count(&mut self) -> Result<(), VerifyError> {
        for shard in 0..self.shards {
            let (at_least, at_most) = self.per_shard[shard as usize];
            let sql = format!("SELECT COUNT(*) FROM system.{}_s{shard}", self.table);
            for node in self.holders[shard as usize].clone() {
                let Some(client) = self.clients.get_mut(&node) else { continue };
                let counted = loop {
                    let counted = client.number(&sql).await?;
                    if counted >= at_least || Instant::now() >= self.settled_by {
                        break counted;
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                };
                if counted > at_most {
                    self.found.surplus += counted - at_most;
                    self.note(format!(
                        "shard {shard} on {node} has {counted} rows, at most {at_most} were written"
                    ));
                }
            }
        }
        if let Some(client) = self.clients.values_mut().next() {
            self.found.documents_final =
                client.number(&format!("SELECT COUNT(*) FROM {}", Ident(self.table))).await?;
        }
        Ok(())
    }

    fn note(&mut self, text: String) {
        if self.found.first_faults.len() < LOST_SHOWN_MAX {
            self.found.first_faults.push(text);
        }
    }
}

type Rows = BTreeMap<i64, Vec<Option<String>>>;

/// Reads documents by id from each named table of one node.
async fn ask<'a>(
    client: &mut Client,
    shape: &Shape,
    asks: &'a [(String, Vec<i64>)],
) -> Result<Vec<(String, &'a [i64], Rows)>, Fault> {
    let mut answers = Vec::with_capacity(asks.len());
    for (table, ids) in asks {
        let mut columns = vec!["id".to_owned()];
        columns.extend(shape.columns.iter().map(|column| Ident(&column.name).to_string()));
        let list: Vec<String> = ids.iter().map(i64::to_string).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE id IN ({}) LIMIT {count} OPTION max_matches={count}",
            columns.join(","),
            Ident(table),
            list.join(","),
            count = ids.len(),
        );
        let mut rows = Rows::new();
        for mut row in client.rows(&sql).await? {
            let cells = row.split_off(1.min(row.len()));
            if let Some(id) = row.first().and_then(Option::as_deref).and_then(|id| id.parse().ok()) {
                rows.insert(id, cells);
            }
        }
        answers.push((format!("{table} on {}", client.endpoint().node), ids.as_slice(), rows));
    }
    Ok(answers)
}

/// What is wrong with the row that was found for a document.
fn fault(expected: &Expected, row: Option<&Vec<Option<String>>>) -> Option<&'static str> {
    match row {
        None => (!expected.may_be_absent).then_some("is absent"),
        Some(row) => {
            let same = |document: &Document| {
                document.cells.len() == row.len()
                    && document.cells.iter().zip(row).all(|(cell, shown)| cell.is_shown_as(shown.as_deref()))
            };
            (!expected.contents.iter().any(same)).then_some("is different")
        }
    }
}

/// Drives futures at the same time and gives their results in order.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Cell;

    #[test]
    fn a_document_is_judged_by_presence_and_content() {
        let document = |value| Document { id: 1, cells: vec![Cell::Int(value)] };
        let sure = Expected { contents: vec![document(5)], may_be_absent: false };
        let row = |text: &str| vec![Some(text.to_owned())];
        assert_eq!(fault(&sure, Some(&row("5"))), None);
        assert_eq!(fault(&sure, Some(&row("6"))), Some("is different"));
        assert_eq!(fault(&sure, Some(&vec![])), Some("is different"));
        assert_eq!(fault(&sure, None), Some("is absent"));
        let unsure = Expected { contents: vec![document(5), document(6)], may_be_absent: true };
        assert_eq!(fault(&unsure, Some(&row("6"))), None);
        assert_eq!(fault(&unsure, Some(&row("7"))), Some("is different"));
        assert_eq!(fault(&unsure, None), None);
    }
}
