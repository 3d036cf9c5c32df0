//! Finds out whether a write whose outcome is unknown was applied, by reading. It never repeats anything.
//!
//! Found with just these values on every copy that the new route names, the rows are what the client asked for,
//! and it may be told so. Not found proves nothing: they may have been applied and deleted since.

mod rows;

use super::Sidecar;
use super::peers::targets;
use manticore::{Reply, Statement, declared};
use model::sql::Ident;
use model::{NodeId, Route, TableName};
use rows::Written;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// For one look at a copy.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);
/// Between looks: a failover takes seconds, a replica is a moment behind.
const PAUSE: Duration = Duration::from_millis(100);
/// Looks at settled copies that do not have the rows, before they count as not found.
const MISSES_MAX: u32 = 3;

/// The number of rows that `sql` wrote, once all of them are seen on all copies of the shards that `error` names;
/// `None` when they are not, or not by `deadline`.
pub(super) async fn rows_applied(
    sidecar: &Sidecar,
    sql: &str,
    error: &str,
    deadline: Instant,
) -> Option<u64> {
    let written = rows::read(sql)?;
    let table = TableName::new(written.table.clone()).ok()?;
    let shards: BTreeSet<u32> = targets(error)
        .into_iter()
        .map(|(shard, _)| {
            model::parse_shard_table(&shard).filter(|(of, _)| *of == table).map(|(_, number)| number)
        })
        .collect::<Option<_>>()?;
    if shards.is_empty() {
        return None;
    }
    let mut misses = 0;
    while misses < MISSES_MAX && Instant::now() < deadline {
        match look(sidecar, &written, &table, &shards).await {
            Seen::All => return Some(written.ids().len() as u64),
            Seen::Other => return None,
            Seen::Missing => misses += 1,
            Seen::Unsettled => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

/// What one look at all copies showed.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Every row with its values, on every copy.
    All,
    /// Some copies do not have all rows.
    Missing,
    /// A row is there with other values.
    Other,
    /// There is no route, or a copy that it names is not in order.
    Unsettled,
}

async fn look(sidecar: &Sidecar, written: &Written, table: &TableName, shards: &BTreeSet<u32>) -> Seen {
    let Some(route) = route(sidecar, table).await else { return Seen::Unsettled };
    // Rows of the other shards met no error; those of these shards must all be found here.
    let mut found: BTreeSet<i64> = BTreeSet::new();
    for shard in shards {
        let Some(nodes) = route.shards.get(*shard as usize) else { return Seen::Unsettled };
        let mut of_shard: Option<BTreeSet<i64>> = None;
        for node in nodes {
            let shard = table.shard_table(*shard);
            if !is_settled(sidecar, node, &shard).await {
                return Seen::Unsettled;
            }
            let Some(rows) = read(sidecar, node, &shard, written).await else { return Seen::Unsettled };
            if rows.iter().any(|(id, values)| !written.has(*id, values)) {
                return Seen::Other;
            }
            let ids: BTreeSet<i64> = rows.into_keys().collect();
            match &of_shard {
                Some(before) if *before != ids => return Seen::Missing,
                _ => of_shard = Some(ids),
            }
        }
        found.extend(of_shard.unwrap_or_default());
    }
    if written.ids().all(|id| found.contains(&id)) { Seen::All } else { Seen::Missing }
}

/// The routing table of this node. Of RF=1 nothing is known while the only copy is away.
async fn route(sidecar: &Sidecar, table: &TableName) -> Option<Route> {
    let show = Statement::ShowRoute { table: table.clone() };
    match sidecar.client.execute(&sidecar.node, &show, LOOK_TIME_MAX).await {
        Ok(Reply::Rows(rows)) => {
            let route = declared::route(&rows, &sidecar.node).ok()?.route;
            (!route.own_as_local).then_some(route)
        }
        _ => None,
    }
}

/// Whether `node` is a synced member of a group with a primary view that has `shard`: what it shows is history.
async fn is_settled(sidecar: &Sidecar, node: &NodeId, shard: &str) -> bool {
    let (_, status) = sidecar.client.poll(node, false, LOOK_TIME_MAX).await;
    let mut clusters = status.into_iter().flat_map(|status| status.clusters.into_values());
    clusters.any(|cluster| cluster.is_synced() && cluster.tables.contains(shard))
}

/// The written columns of those rows that this copy has, by id.
async fn read(
    sidecar: &Sidecar,
    node: &NodeId,
    shard: &str,
    written: &Written,
) -> Option<BTreeMap<i64, BTreeMap<String, Value>>> {
    let columns: Vec<String> = written.columns.iter().map(|column| Ident(column).to_string()).collect();
    let mut sql = format!("SELECT {} FROM {shard} WHERE id IN (", columns.join(","));
    for (index, id) in written.ids().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(sql, "{}{id}", if index == 0 { "" } else { "," });
    }
    // The implicit limit is 20.
    let _ = write!(sql, ") LIMIT {}", written.ids().len());
    let (_, body) = sidecar.client.pass(node, &sql, None, LOOK_TIME_MAX).await.ok()?;
    let data = body.get(0)?.get("data")?.as_array()?;
    let row = |row: &Value| {
        let values: BTreeMap<String, Value> =
            row.as_object()?.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        Some((values.get("id")?.as_i64()?, values))
    };
    data.iter().map(row).collect()
}
