//! The shard map: how many copies of each table each node holds, and how they are. Reads only.
//!
//! Copies of one group have their states in common, so this walks groups and members, not single copies: with 200
//! tables of 500 shards it is a matter of milliseconds.

use crate::Controller;
use model::api::{MapCell, MapRow, ShardMap};
use model::{NodeId, TableName};
use std::collections::BTreeMap;

impl Controller {
    /// Tables by name, nodes by name; a node that holds nothing of a table has no cell there.
    pub fn shard_map(&self) -> ShardMap {
        let nodes: Vec<NodeId> = self.state.nodes.keys().cloned().collect();
        let columns: BTreeMap<&NodeId, u32> = nodes.iter().zip(0..).collect();
        let mut cells: BTreeMap<&TableName, BTreeMap<u32, MapCell>> = BTreeMap::new();
        let mut worst: BTreeMap<&TableName, &'static str> = BTreeMap::new();
        for (id, group) in &self.state.groups {
            let rf_status = self.rf_status(id, group);
            let mut shards: BTreeMap<&TableName, u64> = BTreeMap::new();
            for shard in &group.shards {
                *shards.entry(&shard.table).or_default() += 1;
            }
            for (name, count) in shards {
                let Some(table) = self.state.tables.get(name) else { continue };
                let known = worst.entry(name).or_insert(rf_status);
                *known = worse(known, rf_status);
                for (node, member) in &group.members {
                    let Some(column) = columns.get(node) else { continue };
                    let cell = cells.entry(name).or_default().entry(*column).or_insert(MapCell {
                        node: *column,
                        active: 0,
                        pending: 0,
                        inactive: 0,
                    });
                    match self.copy_status(table, node, *member) {
                        "active" => cell.active += count,
                        "inactive" => cell.inactive += count,
                        _ => cell.pending += count,
                    }
                }
            }
        }
        let row = |(name, table): (&TableName, &crate::state::Table)| MapRow {
            name: name.clone(),
            cluster: table.spec.cluster.clone(),
            shards: table.spec.shards,
            rf: table.spec.rf,
            rf_status: worst.get(name).copied().unwrap_or("ok").to_owned(),
            cells: cells.get(name).map(|cells| cells.values().cloned().collect()).unwrap_or_default(),
        };
        ShardMap { tables: self.state.tables.iter().map(row).collect(), nodes }
    }
}

/// The worse of two of `ok`, `degraded`, `broken`.
fn worse(one: &'static str, other: &'static str) -> &'static str {
    let rank = |status: &str| ["ok", "degraded", "broken"].iter().position(|known| *known == status);
    if rank(one) >= rank(other) { one } else { other }
}
