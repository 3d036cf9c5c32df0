//! Bringing a shard's documents back, through the table's routes, as a client would write them; but by a node's own
//! sidecar, so that what a leader sends that was frozen meanwhile, and is deposed, is refused.
//!
//! It looks before it writes: what is there and the same is passed over, what is missing is inserted, and what differs
//! is left, or with `overwrite` replaced. So a table that is used meanwhile loses nothing, and a fill that died is begun
//! again at no cost but reading. It never deletes.

use super::format::{self, ShardManifest};
use super::pace::Pace;
use super::read::{Columns, Copy, Pages};
use super::{Tools, Trouble, check, manifest_of};
use control::backup::{Done, Fill};
use manticore::documents::{cell, id_cell};
use model::{Action, Cell, OperationId, Outcome, Rows, StepId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Documents, and bytes of their values, in one statement.
const BATCH_ROWS: usize = 200;
const BATCH_BYTES: usize = 512 << 10;
/// Writes that fail are tried again for a minute: a route is written, a node was lost.
const TRIES_MAX: usize = 120;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// For one batch, until it is written.
const WRITE_TIME_MAX: Duration = Duration::from_secs(20);

/// What became of the documents of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filled {
    pub(crate) same: u64,
    pub(crate) inserted: u64,
    pub(crate) replaced: u64,
    /// There with another content, and left so.
    pub(crate) kept_other: u64,
}

pub(super) async fn fill(tools: &Tools, key: (OperationId, StepId), fill: &Fill) -> Result<Done, Trouble> {
    let place = tools.place(&fill.from)?;
    let manifest = manifest_of(&place, &fill.backup).await?;
    let manifest = manifest.ok_or_else(|| Trouble::Final("Backup not found".to_owned()))?;
    let shard = fill.source.shard;
    let list = manifest.shards.get(shard as usize);
    let list = list.ok_or_else(|| Trouble::Final(format!("the backup has no shard {shard}")))?;
    let mut limit = Pace::new(fill.mib_per_second);
    let mut filled = Filled::default();
    // A way that did not go is not the first for the next batch.
    let mut turn = 0;
    for part in &list.parts {
        let bytes = place.get(&part.name).await?;
        let bytes = bytes.ok_or_else(|| Trouble::Final(format!("{} is missing", part.name)))?;
        let lines = format::open_part(part, &bytes).map_err(Trouble::Final)?;
        for batch in batches(&lines) {
            limit.take(batch.iter().map(String::len).sum()).await;
            let wanted = batch.iter().map(|line| format::read_line(&list.columns, line));
            let wanted = wanted.collect::<Result<Vec<_>, _>>().map_err(Trouble::Final)?;
            Batch { tools, key, fill, list, wanted }.bring_back(&mut turn, &mut filled).await?;
        }
    }
    check::note_filled(&tools.restore_dir(fill.operation), shard, filled)?;
    Ok(Done { rows: Some(list.content.rows), ..Done::default() })
}

fn batches(lines: &[String]) -> impl Iterator<Item = &[String]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(BATCH_ROWS).take_while(|line| {
            bytes += line.len();
            bytes <= BATCH_BYTES
        });
        let count = fits.count().max(1).min(rest.len());
        let (batch, behind) = rest.split_at(count);
        rest = behind;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Some documents with neighbouring ids.
struct Batch<'a> {
    tools: &'a Tools,
    key: (OperationId, StepId),
    fill: &'a Fill,
    list: &'a ShardManifest,
    wanted: Vec<(i64, Vec<Value>)>,
}

impl Batch<'_> {
    async fn bring_back(&self, turn: &mut usize, filled: &mut Filled) -> Result<(), Trouble> {
        let mut why = String::new();
        // As it was before anything was written: what a try that failed half-way wrote is seen as there by the next.
        let mut at_first = None;
        for tries in 0..TRIES_MAX {
            if tries > 0 {
                *turn += 1;
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            match self.look_and_write(*turn).await {
                Ok((missing, other)) => {
                    let (missing, other_at_first) = at_first.unwrap_or((missing, other));
                    let replaced = if self.fill.overwrite { other_at_first } else { 0 };
                    let kept_other = if self.fill.overwrite { 0 } else { other };
                    filled.inserted += missing;
                    filled.replaced += replaced;
                    filled.kept_other += kept_other;
                    filled.same += (self.wanted.len() as u64).saturating_sub(missing + replaced + kept_other);
                    return Ok(());
                }
                Err((_, Trouble::Final(why))) => return Err(Trouble::Final(why)),
                Err((seen, trouble)) => {
                    at_first = at_first.or(seen);
                    why = trouble.to_string();
                }
            }
        }
        Err(Trouble::Again(format!("shard {}: {why}", self.fill.source.shard)))
    }

    /// One try, with another copy and another router each time: how many were missing, and how many are there with
    /// another content. With an error, what was seen before it.
    async fn look_and_write(&self, turn: usize) -> Result<(u64, u64), (Option<(u64, u64)>, Trouble)> {
        let there = self.there(turn).await.map_err(|trouble| (None, trouble))?;
        let missing: Vec<_> = self.wanted.iter().filter(|(id, _)| !there.contains_key(id)).collect();
        let differs = |(id, values): &&(i64, Vec<Value>)| there.get(id).is_some_and(|found| found != values);
        let other: Vec<_> = self.wanted.iter().filter(differs).collect();
        let seen = (missing.len() as u64, other.len() as u64);
        self.put(&missing, false, turn).await.map_err(|trouble| (Some(seen), trouble))?;
        if self.fill.overwrite {
            self.put(&other, true, turn).await.map_err(|trouble| (Some(seen), trouble))?;
        }
        Ok(seen)
    }

    /// Documents that a copy shows between the first and the last id of these.
    async fn there(&self, turn: usize) -> Result<BTreeMap<i64, Vec<Value>>, Trouble> {
        let (Some((first, _)), Some((last, _))) = (self.wanted.first(), self.wanted.last()) else {
            return Ok(BTreeMap::new());
        };
        let nodes = &self.fill.source.nodes;
        let node = nodes.get(turn % nodes.len().max(1));
        let node = node.ok_or_else(|| Trouble::Again("no live copy".to_owned()))?;
        let copy = Copy::new(&self.tools.client, node, &self.fill.source)?;
        let columns = Columns(self.list.columns.clone());
        let mut pages = Pages::new(first.checked_sub(1));
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next(&copy, &columns).await? {
            let beyond = page.last().is_some_and(|(id, _)| id > last);
            found.extend(page.into_iter().filter(|(id, _)| id <= last));
            if beyond {
                break;
            }
        }
        Ok(found)
    }

    async fn put(&self, documents: &[&(i64, Vec<Value>)], replace: bool, turn: usize) -> Result<(), Trouble> {
        if documents.is_empty() {
            return Ok(());
        }
        let rows = documents.iter().map(|(id, values)| self.cells(*id, values));
        let put = Action::PutDocuments {
            table: self.fill.table.clone(),
            replace,
            columns: self.list.columns.iter().map(|(name, _)| name.clone()).collect(),
            rows: Rows(rows.collect::<Result<_, _>>()?),
        };
        let routers = &self.fill.routers;
        let node = routers.get((self.fill.source.shard as usize + turn) % routers.len().max(1));
        let node = node.ok_or_else(|| Trouble::Again("no node routes the table".to_owned()))?;
        match self.tools.order(node, self.key, put, WRITE_TIME_MAX).await {
            Outcome::Done { .. } => Ok(()),
            Outcome::Refused { message } | Outcome::Unknown { message } => {
                Err(Trouble::Again(format!("{node}: {message}")))
            }
        }
    }

    fn cells(&self, id: i64, values: &[Value]) -> Result<Vec<Cell>, Trouble> {
        let one = |((name, kind), value): (&(String, String), &Value)| {
            if name == "id" {
                return Ok(id_cell(id));
            }
            cell(kind, value).map_err(|why| Trouble::Final(format!("document {id}, {name}: {why}")))
        };
        self.list.columns.iter().zip(values).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_leave_nothing_out() {
        let small: Vec<String> = (0..450).map(|n| n.to_string()).collect();
        let sizes: Vec<usize> = batches(&small).map(<[String]>::len).collect();
        assert_eq!(sizes, [200, 200, 50]);
        let large: Vec<String> = vec!["x".repeat(BATCH_BYTES - 1); 3];
        assert_eq!(batches(&large).count(), 3);
        let huge: Vec<String> = vec!["x".repeat(BATCH_BYTES * 2); 2];
        assert_eq!(batches(&huge).count(), 2, "one that is larger goes alone");
        assert_eq!(batches(&[]).count(), 0);
    }
}
