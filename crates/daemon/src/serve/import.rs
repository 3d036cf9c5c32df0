//! Import over HTTP: looks at everything that it is judged by, and hands that to the operator.

use super::api::{JsonBody, Shared, look};
use super::problem::{ApiError, Kind};
use super::sidecars::ask;
use axum::Json;
use axum::extract::State;
use futures_util::stream::{self, StreamExt as _};
use manticore::client::Client;
use manticore::statement::{ShardTable, StockTable};
use manticore::{CallError, columns, stock};
use model::operate::OrderReply;
use model::wire::{ShardingStatement, StatementReply};
use model::{Content, GroupId, ImportBody, ImportFacts, ImportReport, NodeId, Schema, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::Semaphore;

/// For one request to a node: counting a large shard reads its ids.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(20);
/// For the whole look: what was not seen by then is missing, and refused.
const LOOK_TIME_MAX: Duration = Duration::from_mins(5);
/// Shards measured at once.
const AT_ONCE: usize = 8;
/// Copies that are written to differ from look to look; so many in a row mean that they do.
const ROUNDS_MAX: u32 = 40;
const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// Each looks at every copy of every table.
static LOOKING: Semaphore = Semaphore::const_new(1);

pub(super) async fn import(
    State(shared): State<Shared>,
    JsonBody(ImportBody { dry_run }): JsonBody<ImportBody>,
) -> Result<Json<ImportReport>, ApiError> {
    let Ok(_place) = LOOKING.try_acquire() else {
        return Err(ApiError::busy("another import is looking at the nodes"));
    };
    let nodes = look(&shared, |controller, _, _| controller.reporting_nodes()).await?;
    let client = &shared.backups.client;
    let facts = tokio::time::timeout(LOOK_TIME_MAX, facts(client, nodes)).await.map_err(|_late| {
        let detail = format!("not all copies could be looked at within {} s", LOOK_TIME_MAX.as_secs());
        ApiError::new(Kind::Timeout, detail, "nothing was changed; try again when the nodes have less to do")
    })?;
    let report = match ask(&shared, statement(&facts, true)).await? {
        StatementReply::Object(object) => match *object {
            OrderReply::Import(report) => report,
            _ => return Err(ApiError::busy("an import was answered with something else")),
        },
        StatementReply::Error { message } => return Err(ApiError::of_statement(message)),
        StatementReply::Ok | StatementReply::Rows { .. } => {
            return Err(ApiError::busy("an import was answered without its report"));
        }
    };
    if dry_run || !report.success {
        return Ok(Json(ImportReport { dry_run, ..report }));
    }
    match ask(&shared, statement(&facts, false)).await? {
        StatementReply::Ok => Ok(Json(ImportReport { dry_run, ..report })),
        StatementReply::Object(object) => match *object {
            OrderReply::Import(report) => Ok(Json(report)),
            _ => Err(ApiError::busy("an import was answered with something else")),
        },
        StatementReply::Error { message } => Err(ApiError::of_statement(message)),
        StatementReply::Rows { .. } => Err(ApiError::busy("an import was answered with rows")),
    }
}

fn statement(facts: &ImportFacts, dry_run: bool) -> ShardingStatement {
    ShardingStatement::Import { facts: Box::new(facts.clone()), dry_run }
}

async fn facts(client: &Client, nodes: Vec<NodeId>) -> ImportFacts {
    let mut facts = ImportFacts::default();
    let seen = stream::iter(nodes).map(|node| async move {
        let status = client.tables(&node, REQUEST_TIME_MAX).await;
        (node, status)
    });
    for (node, status) in seen.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        match status {
            Ok(status) => drop(facts.nodes.insert(node, status)),
            Err(error) => facts.unreadable.push(format!("node {node} does not show its tables: {error}")),
        }
    }
    read_stock(client, &mut facts).await;
    declare(client, &mut facts).await;
    measure(client, &mut facts).await;
    facts
}

/// The stock sidecar's own tables, from the first node that has them: they are replicated.
async fn read_stock(client: &Client, facts: &mut ImportFacts) {
    for table in StockTable::ALL {
        let has = |status: &&model::NodeStatus| {
            status.tables.as_ref().is_some_and(|tables| tables.shards.contains(table.as_str()))
        };
        let Some((node, status)) = facts.nodes.iter().find(|(_, status)| has(status)) else { continue };
        let cluster: Option<GroupId> = status
            .clusters
            .iter()
            .find(|(_, cluster)| cluster.tables.contains(table.as_str()))
            .map(|(id, _)| id.clone());
        match client.stock(node, table, REQUEST_TIME_MAX).await {
            Ok((schema, rows)) => {
                facts.way_back.extend(stock::way_back(table, &schema, &rows, cluster.as_ref()));
                if table == StockTable::PLACEMENTS {
                    let (read, faults) = stock::placements(&rows);
                    facts.rows = read;
                    facts.unreadable.extend(faults);
                } else if table == StockTable::STATE {
                    match stock::last_sign(&rows) {
                        Ok(sign) => facts.last_sign = sign,
                        Err(why) => facts.unreadable.push(why),
                    }
                }
            }
            Err(error) => facts.unreadable.push(format!("{table} cannot be read on {node}: {error}")),
        }
    }
}

/// What the routing tables declare, and whether the copies have the same columns.
async fn declare(client: &Client, facts: &mut ImportFacts) {
    let names: BTreeSet<TableName> = facts.rows.iter().map(|row| row.table.clone()).collect();
    for name in names {
        for node in facts.nodes.keys() {
            if let Ok(Some(declared)) = client.declared(node, &name, REQUEST_TIME_MAX).await {
                facts.declared.insert(name.clone(), declared.schema);
                break;
            }
        }
    }
    let copies = copies(facts);
    let other = stream::iter(copies).map(|(table, number, nodes)| {
        let schema = facts.declared.get(&table).cloned();
        async move {
            let mut other = Vec::new();
            for node in nodes {
                if let Some(schema) = &schema {
                    other.extend(other_columns(client, &node, &table.shard_table(number), schema).await);
                }
            }
            other
        }
    });
    let other: Vec<Vec<String>> = other.buffer_unordered(AT_ONCE).collect().await;
    facts.other_columns = other.into_iter().flatten().collect();
    facts.other_columns.sort();
}

async fn other_columns(client: &Client, node: &NodeId, physical: &str, declared: &Schema) -> Option<String> {
    let shard = ShardTable::new(physical)?;
    let there = match client.describe(node, &shard, REQUEST_TIME_MAX).await {
        Ok(Some(there)) => there,
        Ok(None) => return Some(format!("{physical} on {node} shows no columns")),
        Err(error) => return Some(format!("the columns of {physical} on {node} cannot be read: {error}")),
    };
    let differs = columns::canonical(&there) != columns::canonical(declared);
    differs.then(|| format!("{physical} on {node} has other columns than its routing table"))
}

/// Each shard with its nodes, by the rows.
fn copies(facts: &ImportFacts) -> Vec<(TableName, u32, Vec<NodeId>)> {
    let mut copies: BTreeMap<(&TableName, u32), Vec<NodeId>> = BTreeMap::new();
    for row in &facts.rows {
        for shard in &row.shards {
            copies.entry((&row.table, *shard)).or_default().push(row.node.clone());
        }
    }
    copies.into_iter().map(|((table, number), nodes)| (table.clone(), number, nodes)).collect()
}

async fn measure(client: &Client, facts: &mut ImportFacts) {
    let measured = stream::iter(copies(facts)).map(|(table, number, nodes)| async move {
        let physical = table.shard_table(number);
        let contents = agreed(client, &physical, &nodes).await;
        (physical, contents)
    });
    facts.contents = measured.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect();
}

/// What the copies hold, measured until it is the same or was different too often.
async fn agreed(client: &Client, physical: &str, nodes: &[NodeId]) -> BTreeMap<NodeId, Content> {
    let mut contents = BTreeMap::new();
    for _ in 0..ROUNDS_MAX {
        contents.clear();
        let one = [physical.to_owned()];
        let looks = nodes.iter().map(|node| client.measure(node, &one, false, REQUEST_TIME_MAX));
        for (node, measured) in nodes.iter().zip(futures_util::future::join_all(looks).await) {
            let measured: Result<_, CallError> = measured;
            if let Some(content) = measured.ok().and_then(|measured| measured.contents.get(physical).copied())
            {
                contents.insert(node.clone(), content);
            }
        }
        let different: BTreeSet<&Content> = contents.values().collect();
        if different.len() <= 1 || contents.len() < nodes.len() {
            break;
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
    contents
}

#[cfg(test)]
mod tests;
