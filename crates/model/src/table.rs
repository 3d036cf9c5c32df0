//! What a user declares: columns, options, shards and copies; and where a routing table sends its rows.

use crate::{NodeId, TableName};
use serde::{Deserialize, Serialize};

/// A column as the user declared it. `kind` is the declared type with its properties in lower case
/// (`text indexed stored`, `uint`, `multi64`); checked for being words only when the statement was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ColumnSpec {
    pub name: String,
    pub kind: String,
}

/// The declaration of a table's content: the same on every shard and on the routing table.
/// No columns means `id bigint` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub columns: Vec<ColumnSpec>,
    /// `(key, value)` in the order declared, without `shards`, `rf` and `timeout`.
    pub options: Vec<(String, String)>,
}

/// A sharded table as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    pub name: TableName,
    /// The user's replication cluster; `None` for a local sharded table of a single node.
    pub cluster: Option<String>,
    pub schema: Schema,
    /// 1 to 3000.
    pub shards: u32,
    /// Copies of each shard.
    pub rf: u32,
}

/// The content of one routing table on one node: for every shard, in order, the nodes to name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    pub table: TableName,
    /// Index is the shard number; each list is sorted and not empty.
    pub shards: Vec<Vec<NodeId>>,
    /// RF=1 tables name the node's own shards as `local=`; others are agents throughout, the same on every node.
    pub own_as_local: bool,
}
