//! The JSON that scripts read: shapes of `status`, `table list`, `node list` and their like.
//!
//! Field names are fixed; times are Unix seconds.

use crate::operate::{GateReply, Held};
use crate::wire::RebalanceOrder;
use crate::{
    BackupCause, BackupData, BackupId, BackupState, Content, GroupId, NodeId, Role, Schema, TableName,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableList {
    pub tables: Vec<TableSummary>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSummary {
    pub name: TableName,
    pub cluster: Option<String>,
    pub shards: u32,
    pub rf: u32,
    /// `idle`, `creating`, `dropping`, `queued`, `running`.
    pub status: String,
    /// Documents, as last counted; null while a shard cannot be counted.
    pub documents: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableShow {
    #[serde(flatten)]
    pub summary: TableSummary,
    pub placement: Vec<ShardPlacement>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardPlacement {
    pub shard: u32,
    /// Null for RF=1.
    pub group: Option<String>,
    pub nodes: Vec<CopyStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyStatus {
    pub id: NodeId,
    /// `active`, `inactive` or `pending`.
    pub status: String,
}

/// `GET /map`: how many copies of each table each node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMap {
    /// The columns, by name.
    pub nodes: Vec<NodeId>,
    /// The rows, by name.
    pub tables: Vec<MapRow>,
}

/// One table of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRow {
    pub name: TableName,
    pub cluster: Option<String>,
    pub shards: u32,
    pub rf: u32,
    /// That of its worst shard: `ok`, `degraded` or `broken`.
    pub rf_status: String,
    /// Only of nodes that hold copies.
    pub cells: Vec<MapCell>,
}

/// A table's copies on one node, counted by status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapCell {
    /// Position in `nodes`, from 0.
    pub node: u32,
    pub active: u64,
    pub pending: u64,
    pub inactive: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeList {
    pub nodes: Vec<NodeSummary>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSummary {
    pub id: NodeId,
    /// `active`, `suspect`, `lost`, `joining` or `draining`.
    pub state: String,
    pub zone: Option<String>,
    pub capacity: f64,
    /// Shard copies placed there.
    pub copies: u64,
    /// Replication groups it is a member of.
    pub groups: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationList {
    pub operations: Vec<OperationSummary>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationSummary {
    pub id: u64,
    pub kind: String,
    /// What it works on: a table, a group, a node.
    pub subject: String,
    /// `queued`, `running`, `unwinding`, `done`, `failed`.
    pub status: String,
    pub steps_done: u64,
    pub steps_total: u64,
    pub created_at: u64,
    pub finished_at: Option<u64>,
    pub error: Option<String>,
}

/// `status`: the dashboard object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dashboard {
    pub timestamp: u64,
    /// `healthy`, `warning` or `critical`.
    pub overall_status: String,
    pub rebalancing: RebalancingMetrics,
    pub queue: QueueMetrics,
    pub cluster: ClusterMetrics,
    pub alerts: Vec<Alert>,
}

/// `metrics`: the dashboard's figures alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub rebalancing: RebalancingMetrics,
    pub queue: QueueMetrics,
    pub cluster: ClusterMetrics,
}

/// `alerts`: those that fire, and those that were over within the cooldown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertList {
    pub alerts: Vec<Alert>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RebalancingMetrics {
    pub total_tables: u64,
    pub idle_tables: u64,
    pub running_operations: u64,
    pub completed_operations: u64,
    pub failed_operations: u64,
    /// Seconds, over finished operations in the retention window.
    pub average_duration: f64,
    /// Seconds, 0 when none runs.
    pub longest_running: f64,
    /// Units copied by the last rebalance (growth, repair), and the fewest that could have been.
    pub last_copies: u64,
    pub last_lower_bound: u64,
    pub last_shard_copies: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueMetrics {
    pub total_queue_depth: u64,
    pub pending_commands: u64,
    pub failed_commands: u64,
    /// Seconds, over pending commands.
    pub average_wait_time: f64,
    pub queue_depth_by_node: BTreeMap<NodeId, u64>,
    pub command_types: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterMetrics {
    pub total_nodes: u64,
    pub active_nodes: u64,
    pub inactive_nodes: u64,
    /// 100.0 when there are no nodes.
    pub cluster_health_percentage: f64,
    pub master_node: Option<String>,
    pub cluster_hash: String,
    pub topology_changes_last_hour: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub level: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    pub action: String,
    pub since: u64,
    pub labels: BTreeMap<String, String>,
    /// `firing` or `resolved`.
    pub state: String,
    /// Until then nobody is told of it; null when everybody is.
    #[serde(default)]
    pub silenced_until: Option<u64>,
}

/// Alerts that an operator does not want to hear of for a while. They are still shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// The type of alert; null for every type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Those that an alert must have; it may have others.
    pub labels: BTreeMap<String, String>,
    pub until: u64,
    pub comment: String,
    pub created_at: u64,
}

/// `POST /api/v1/alerts/silences`. A type, a label, or both; 0 seconds end the silence of the same type and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceBody {
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub seconds: u64,
    #[serde(default)]
    pub comment: String,
}

/// `GET /api/v1/alerts/silences`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceList {
    pub silences: Vec<Silence>,
}

/// `POST /tables/{t}/rebalance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebalanceBody {
    pub order: RebalanceOrder,
}

/// `POST /tables/{t}/move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    pub shard: u32,
    pub from: NodeId,
    pub to: NodeId,
    /// Takes the shard out of its group first, so that no other moves along.
    #[serde(default)]
    pub split: bool,
}

/// `POST /tables/{t}/rf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RfBody {
    pub rf: u32,
}

/// `POST /groups/{group}/recover`: after a total loss, from whose copy the group comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverBody {
    pub from: NodeId,
}

/// `POST /backups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupBody {
    /// `[cluster:]name`.
    pub table: String,
    /// An absolute path on the controller's machine, or `s3://BUCKET/PREFIX`: documents go there.
    #[serde(default)]
    pub with_data: Option<String>,
    /// Records a checksum of every shard's documents.
    #[serde(default)]
    pub checksums: bool,
    /// What copying may take of the network, 64 by default.
    #[serde(default)]
    pub mib_per_second: Option<u32>,
}

/// A backup that is recorded; its documents may still be on their way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReply {
    pub success: bool,
    pub backup_id: BackupId,
    pub backup_data: BackupData,
    pub operation: u64,
    pub state: BackupState,
}

/// `GET /backups`: the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupList {
    pub backups: Vec<BackupSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    pub backup_id: BackupId,
    pub timestamp: u64,
    pub table: TableName,
    pub cluster_hash: String,
    pub backup_path: String,
    /// That wrote it, by API address.
    pub controller: String,
    pub cause: BackupCause,
    pub state: BackupState,
    pub with_data: bool,
    pub shards: u32,
    pub rf: u32,
    /// Null when a shard could not be counted.
    pub rows: Option<u64>,
    /// Of its documents, compressed.
    pub bytes: u64,
    pub operation: u64,
    pub steps_done: u64,
    pub steps_total: u64,
    pub waits_for_or_error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupShow {
    #[serde(flatten)]
    pub summary: BackupSummary,
    pub backup_data: BackupData,
}

/// `POST /backups/{id}/verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyBody {
    /// Where its documents are, when the controller does not list it.
    #[serde(default)]
    pub from: Option<String>,
    /// Compares the table as it is now.
    #[serde(default)]
    pub live: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReply {
    pub ok: bool,
    pub backup_id: BackupId,
    /// Objects, documents and bytes that were read and found whole.
    pub parts: u64,
    pub rows: u64,
    pub bytes: u64,
    /// What is not as it should be.
    pub damaged: Vec<String>,
    /// Null when nobody asked.
    pub live_differs: Option<Vec<LiveShard>>,
}

/// A shard that is not what was backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveShard {
    pub shard: u32,
    pub recorded: Option<Content>,
    pub found: Option<Content>,
    pub why: String,
}

/// `POST /backups/{id}/restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreBody {
    #[serde(default)]
    pub from: Option<String>,
    /// Documents that differ become what they were.
    #[serde(default)]
    pub overwrite: bool,
    /// Another number of copies than recorded, for a table that is not there.
    #[serde(default)]
    pub rf: Option<u32>,
    #[serde(default)]
    pub mib_per_second: Option<u32>,
}

/// A restore that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReply {
    pub success: bool,
    pub table: TableName,
    pub restored_schema: Schema,
    pub operation: u64,
}

/// `GET /restores/{operation}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreShow {
    pub operation: u64,
    pub state: BackupState,
    pub steps_done: u64,
    pub steps_total: u64,
    pub waits_for_or_error: Option<String>,
    /// Shards that are not what was recorded; null until it is over.
    pub differing: Option<u64>,
    pub shards: Option<Vec<RestoredShard>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredShard {
    pub shard: u32,
    pub recorded: Option<Content>,
    pub found: Option<Content>,
    /// Documents that were missing and are back; null without documents.
    pub inserted: Option<u64>,
    /// Documents that differed and were put back.
    pub replaced: Option<u64>,
    /// What differs; null when nothing does.
    pub differs: Option<String>,
}

/// What an order is answered with: the rows that the same statement gives over SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
}

/// What a node is told at the gate: rows of what it waits for; without any it may start, when it has forgotten the groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateTold {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    /// A controller that does not know of it names none.
    #[serde(default)]
    pub forget: BTreeSet<GroupId>,
}

impl From<GateReply> for GateTold {
    fn from(GateReply { held, forget }: GateReply) -> Self {
        let row = |held: Held| vec![held.group.map(String::from), Some(held.waits_for)];
        let columns = ["group", "waits_for"].map(str::to_owned).to_vec();
        Self { columns, rows: held.into_iter().map(row).collect(), forget }
    }
}

/// `POST /api/v1/tables`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTableBody {
    /// `[cluster:]name`.
    pub name: String,
    /// Column declarations as in SQL: `title text, v int`.
    pub columns: String,
    pub shards: u32,
    pub rf: u32,
    #[serde(default)]
    pub if_not_exists: bool,
    pub timeout_seconds: Option<u64>,
}

/// RFC 9457 problem details, the body of every HTTP error of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What, where.
    pub detail: String,
    /// What to do.
    pub hint: String,
}

/// One controller's word about itself: its sign of life for the others. The HTTP header of a refusal by one that
/// does not lead is [`LEADER_HEADER`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerShow {
    /// `host:port` of its API, by which the others know it.
    pub name: String,
    pub log_id: String,
    /// Whether it leads and reaches its log. Never two under one epoch.
    pub leads: bool,
    /// Whether it follows, reaches the log and could lead.
    pub able: bool,
    /// The leader by the log; null before there ever was one.
    pub leader: Option<String>,
    pub epoch: u64,
    /// The last record it has read or written.
    pub last: u64,
}

/// In the answer of a controller that does not lead: the URL of the one that does, by the log.
pub const LEADER_HEADER: &str = "shardwright-leader";

/// `POST /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    pub name: String,
    pub role: Role,
    /// It expires after so many; without: only when it is revoked.
    #[serde(default)]
    pub days: Option<u64>,
}

/// A token, the one time that it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMade {
    pub name: String,
    pub token: String,
    /// Unix seconds.
    pub expires: Option<u64>,
}

impl std::fmt::Debug for TokenMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenMade").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `GET /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    pub tokens: Vec<TokenSummary>,
}

/// One token, without what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSummary {
    pub name: String,
    pub role: Role,
    /// Unix seconds.
    pub created: u64,
    pub expires: Option<u64>,
    pub expired: bool,
}
