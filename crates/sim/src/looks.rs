//! What is asked of a node to see it: its clusters, its tables and routes, the content of copies. Scripts.

use crate::read;
use crate::say;
use crate::wire::{Answer, Finish, Wire};
use control::PollAnswer;
use engine::Reply;
use model::sql::Ident;
use model::{ClusterStatus, GroupId, Measurement, Millis, NodeId, NodeStatus, Reach, TablesStatus};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

pub const SHOW_CLUSTERS: &str = "SHOW STATUS LIKE 'cluster%'";

/// A reply, or how the node was out of reach.
async fn show(wire: &Wire, node: &NodeId, sql: String, until: Millis) -> Result<Reply, Reach> {
    let left = until.since(wire.now()).0;
    if left == 0 {
        return Err(Reach::Silent);
    }
    match wire.sql(node, sql, left).await {
        Answer::Sql(Ok(reply)) => Ok(reply),
        other => Err(out_of_reach(&other)),
    }
}

const fn out_of_reach(answer: &Answer) -> Reach {
    match answer {
        Answer::Refused => Reach::Refused,
        // What cannot be read counts as silence: nothing may be concluded from it.
        _ => Reach::Silent,
    }
}

pub async fn clusters(
    wire: &Wire,
    node: &NodeId,
    until: Millis,
) -> Result<BTreeMap<GroupId, ClusterStatus>, Reach> {
    let left = until.since(wire.now()).0;
    if left == 0 {
        return Err(Reach::Silent);
    }
    wire.clusters(node, left).await.map_err(|other| out_of_reach(&other))
}

/// One look, for the controller.
pub async fn poll(wire: Wire, node: NodeId, token: u64, tables: bool, time_max: u64) -> Finish {
    let until = wire.now() + Millis(time_max);
    let seen = status(&wire, &node, tables, until).await;
    let (reach, status) = match seen {
        Ok(status) => (Reach::Answered, Some(status)),
        Err(reach) => (reach, None),
    };
    Finish::Look(PollAnswer { node, token, reach, status })
}

async fn status(wire: &Wire, node: &NodeId, with_tables: bool, until: Millis) -> Result<NodeStatus, Reach> {
    let clusters = clusters(wire, node, until).await?;
    if !with_tables {
        return Ok(NodeStatus { clusters, tables: None });
    }
    let mut tables = TablesStatus::default();
    let system = show(wire, node, "SHOW TABLES FROM SYSTEM".to_owned(), until).await?;
    tables.shards = read::pairs(&system).map(|(name, _)| name.into_owned()).collect();
    let shown = show(wire, node, "SHOW TABLES".to_owned(), until).await?;
    for (name, kind) in read::pairs(&shown) {
        let route = if kind == "shard" { declared(wire, node, &name, until).await? } else { None };
        match route {
            Some(route) => {
                tables.routes.insert(name.into_owned(), Arc::new(route));
            }
            None => {
                tables.plain.insert(name.into_owned());
            }
        }
    }
    Ok(NodeStatus { clusters, tables: Some(tables) })
}

async fn declared(
    wire: &Wire,
    node: &NodeId,
    name: &str,
    until: Millis,
) -> Result<Option<model::Route>, Reach> {
    let left = until.since(wire.now()).0.max(1);
    let sql = format!("SHOW CREATE TABLE {} OPTION force=1", Ident(name));
    match wire.sql(node, sql, left).await {
        Answer::Sql(Ok(reply)) => {
            Ok(read::pairs(&reply).next().and_then(|(_, declaration)| read::route(&declaration, node)))
        }
        // Dropped between the list and this.
        Answer::Sql(Err(_)) => Ok(None),
        Answer::Refused => Err(Reach::Refused),
        _ => Err(Reach::Silent),
    }
}

/// Rows, sum and extremes of ids, with `deep` a digest of all rows, and how far each of the node's clusters was before; for the controller.
pub async fn measure(wire: Wire, node: NodeId, token: u64, tables: Vec<String>, deep: bool) -> Finish {
    let until = wire.now() + Millis(60_000);
    let measured = measured(&wire, &node, &tables, deep, until).await;
    Finish::Measured { node, token, measured }
}

pub async fn measured(
    wire: &Wire,
    node: &NodeId,
    tables: &[String],
    deep: bool,
    until: Millis,
) -> Result<Measurement, String> {
    let out_of_reach = |reach: Reach| format!("{reach:?}");
    let clusters = clusters(wire, node, until).await.map_err(out_of_reach)?;
    let last_committed = clusters.into_iter().map(|(group, status)| (group, status.last_committed)).collect();
    let mut measurement = Measurement { last_committed, ..Measurement::default() };
    for table in tables {
        let reply = show(wire, node, say::content(table), until).await.map_err(out_of_reach)?;
        let content =
            read::content(&reply).ok_or_else(|| format!("the content of {table} cannot be read"))?;
        measurement.contents.insert(table.clone(), content);
        if deep {
            let reply = show(wire, node, say::all_rows(table), until).await.map_err(out_of_reach)?;
            let rows = read::rows(&reply).ok_or_else(|| format!("the rows of {table} cannot be read"))?;
            let mut hasher = DefaultHasher::new();
            format!("{:?}", rows.rows).hash(&mut hasher);
            measurement.digests.insert(table.clone(), hasher.finish());
        }
    }
    Ok(measurement)
}
