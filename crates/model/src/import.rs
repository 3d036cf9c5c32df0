//! Tables that the stock sidecar sharded: what is seen of them, and what an import comes to.

use crate::{Content, NodeId, NodeStatus, Schema, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the stock sidecar keeps what it knows: `system.sharding_state`, `…_queue` and `…_table`.
pub const STOCK_TABLES: [&str; 3] =
    ["system.sharding_state", "system.sharding_queue", "system.sharding_table"];

/// A row of the stock sidecar's `system.sharding_table`: which shards of a table a node holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StockRow {
    /// The user's cluster; empty for a local sharded table.
    pub cluster: String,
    pub node: NodeId,
    pub table: TableName,
    pub shards: Vec<u32>,
}

/// Everything that an import is judged by, seen within a few seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportFacts {
    pub rows: Vec<StockRow>,
    /// What of the stock sidecar's tables could not be read, each as a sentence.
    pub unreadable: Vec<String>,
    /// Unix seconds of its last sign of life: the newest `updated_at` of `system.sharding_state`.
    pub last_sign: Option<u64>,
    /// Nodes with a sidecar of ours, with their tables; those that did not answer are missing.
    pub nodes: BTreeMap<NodeId, NodeStatus>,
    /// What the routing tables declare; tables without a readable one are missing.
    pub declared: BTreeMap<TableName, Schema>,
    /// By physical table and node, as far as the rows name them. Copies that are written to are measured again and again
    /// until they agree, a bounded number of times.
    pub contents: BTreeMap<String, BTreeMap<NodeId, Content>>,
    /// Copies whose columns are not those of their routing table, each as a sentence.
    pub other_columns: Vec<String>,
    /// Statements that give the stock sidecar its tables back as they were read.
    pub way_back: Vec<String>,
}

/// What an import is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// Look and tell, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an import found, and what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Of a dry run: whether all of it can be adopted. Else: whether all of it was.
    pub success: bool,
    pub dry_run: bool,
    pub tables: Vec<ImportedTable>,
    /// Replication clusters that become groups under the names that they have.
    pub groups: Vec<ImportedGroup>,
    /// What cannot be adopted, and what to do about it. One is enough that nothing is changed.
    pub refusals: Vec<String>,
    /// What is left as it is, and what else is good to know.
    pub notes: Vec<String>,
    /// Statements that give the stock sidecar its tables back, to be kept.
    pub way_back: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedTable {
    pub name: TableName,
    /// Null for a local sharded table.
    pub cluster: Option<String>,
    pub shards: u32,
    pub rf: u32,
    pub rows: u64,
    /// For each shard, in order, the nodes that hold it.
    pub placement: Vec<Vec<NodeId>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedGroup {
    pub name: String,
    pub nodes: Vec<NodeId>,
    pub shards: u64,
}
