//! What sidecars and the controller say to each other.
//!
//! A sidecar asks (`POST /api/v1/sidecar/poll`, held up to a second) and is answered; the controller never needs
//! to reach a sidecar's listener. A poll is registration, sign of life, report and request for orders in one.

use crate::operate::OrderReply;
use crate::{
    BackupOrder, Command, CommandId, CommandResult, Epoch, GroupId, ImportFacts, LogIndex, Machine, NodeId,
    Reach, RestoreOrder, TableName, TableSpec, UserRights,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of each node that answers the controller: under which `conf_id` its groups are primary there.
pub type Views = BTreeMap<NodeId, BTreeMap<GroupId, i64>>;

/// Which versions of the controller's lists a sidecar has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub names: u64,
    pub views: u64,
}

impl SidecarPoll {
    pub const fn versions(&self) -> Versions {
        Versions { names: self.names_version, views: self.views_version }
    }
}

/// From a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarPoll {
    /// The node it stands beside, from `--listen`.
    pub node: NodeId,
    /// The node's identity on disk: an address is used only while this stays the same.
    pub uuid: String,
    /// This run of the sidecar's process: what an earlier run had taken and not reported is known to nobody.
    pub run: String,
    /// The number of the latest command taken under `epoch`: those after it are handed over again.
    pub taken: u64,
    /// The control log it is bound to; `None` before the first order.
    pub log_id: Option<String>,
    /// The highest epoch it has seen, kept on disk.
    pub epoch: Epoch,
    /// The version of the name list it has stored durably.
    pub names_version: u64,
    /// The version of the views it knows; 0 for none.
    #[serde(default)]
    pub views_version: u64,
    /// How the suspects of the last orders answer, seen from here since they are suspects.
    pub peers: BTreeMap<NodeId, Reach>,
    /// Outcomes not yet taken; repeated until a poll that carried them is answered.
    pub results: Vec<CommandResult>,
    /// Commands taken whose outcome is still open. A new leader that finds an older leader's command neither here
    /// nor among the results knows that it will not be run any more.
    #[serde(default)]
    pub running: Vec<CommandId>,
    /// Of those that copy: how often each was seen to go on. It may take as long as it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub going_on: Vec<GoingOn>,
    /// What the node's machine has; with the first poll after a new look at it.
    #[serde(default)]
    pub machine: Option<Box<Machine>>,
}

/// A command that takes its time, and does not stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoingOn {
    pub id: CommandId,
    /// Rises each time that more of the copy was seen.
    pub times: u64,
}

/// To a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarOrders {
    pub log_id: String,
    pub epoch: Epoch,
    /// This leadership's own mark. Two marks under one epoch come of two copies of one log.
    pub lead: String,
    /// The last record of the log: a copy from before it is not obeyed.
    pub last: LogIndex,
    pub names_version: u64,
    /// The whole list when the sidecar's version is older. Store durably before the next poll says so.
    pub names: Option<Vec<TableNameEntry>>,
    #[serde(default)]
    pub views_version: u64,
    /// All of them when the sidecar's version is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<Views>,
    /// Cluster statements (`action.group()` is some, or a directory or copies of a group) are carried out one
    /// after the other in this order; what needs no lock ([`crate::Action::needs_no_lock`]) and all others likewise in
    /// lanes of their own, so that a long JOIN keeps no group from its quorum and no route from being written.
    pub commands: Vec<Order>,
    /// All nodes: to be looked at one each interval in turn while no controller is heard.
    pub peers: Vec<NodeId>,
    /// Nodes whose answers the controller misses: each is looked at every interval, and the polls tell how it answers.
    #[serde(default)]
    pub suspects: Vec<NodeId>,
    /// Seconds a failing statement may be held.
    pub hold_statements_seconds: u64,
    /// Tables of which a shard has no live copy, and why: their statements fail at once instead of being held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unserved: BTreeMap<TableName, String>,
}

/// A command on its way. It is handed over with every answer until a poll says that it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Rises within an epoch and a run of the sidecar; one that is not above the last taken is passed over.
    pub number: u64,
    pub command: Command,
}

/// A table of ours, as every sidecar knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableNameEntry {
    pub table: TableName,
    pub cluster: Option<String>,
    /// Counts tables that had this name.
    pub generation: u64,
}

impl ShardingStatement {
    /// Whether it can be typed over SQL. All others come over the API, with a role of their own.
    pub const fn is_sql(&self) -> bool {
        !matches!(
            self,
            Self::Silence { .. }
                | Self::RecoverGroup { .. }
                | Self::Gate { .. }
                | Self::Backup { .. }
                | Self::Restore { .. }
                | Self::Recover
                | Self::CleanUp
        )
    }

    /// Whether it asks for a change, and does not only look.
    pub const fn changes(&self) -> bool {
        match self {
            Self::ShowStatus { .. }
            | Self::ShowMaster
            | Self::ShowOperations
            | Self::ShowQueue
            | Self::ShowAlerts
            | Self::SelectView { .. }
            | Self::Gate { .. }
            | Self::ExplainShard { .. }
            | Self::Import { dry_run: true, .. } => false,
            Self::Rebalance { order, .. } => {
                !matches!(order, RebalanceOrder::DryRun | RebalanceOrder::Status)
            }
            Self::CreateTable { .. }
            | Self::DropTable { .. }
            | Self::Silence { .. }
            | Self::TruncateTable { .. }
            | Self::OptimizeTable { .. }
            | Self::FlushRamchunk { .. }
            | Self::DrainNode { .. }
            | Self::UndrainNode { .. }
            | Self::RemoveNode { .. }
            | Self::MoveShard { .. }
            | Self::SetRf { .. }
            | Self::RecoverGroup { .. }
            | Self::Backup { .. }
            | Self::Restore { .. }
            | Self::Import { .. }
            | Self::Recover
            | Self::CleanUp => true,
        }
    }
}

/// A statement that is the controller's to answer, as the sidecar read it
/// (`POST /api/v1/sidecar/statement`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRequest {
    pub node: NodeId,
    /// The user searchd named; `None` without authentication.
    pub user: Option<String>,
    /// What searchd lets that user do. A user without it is refused.
    #[serde(default)]
    pub rights: Option<UserRights>,
    pub statement: ShardingStatement,
}

/// The statements of `CREATE TABLE … shards=` and its family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "statement")]
pub enum ShardingStatement {
    CreateTable {
        spec: TableSpec,
        if_not_exists: bool,
        /// Seconds, at least 1.
        timeout_seconds: u64,
    },
    DropTable {
        name: TableName,
        cluster: Option<String>,
        if_exists: bool,
    },
    /// `SHOW SHARDING STATUS [[cluster:]t]`.
    ShowStatus {
        cluster: Option<String>,
        name: Option<TableName>,
    },
    /// `SHOW SHARDING MASTER`.
    ShowMaster,
    ShowOperations,
    ShowQueue,
    ShowAlerts,
    /// `SELECT … FROM system.sharding_state|queue|table`.
    SelectView {
        query: ViewQuery,
    },
    /// Alerts of a type, or with some labels, are not announced for a while.
    Silence {
        kind: Option<String>,
        labels: BTreeMap<String, String>,
        /// 0 ends a silence of the same type and labels.
        seconds: u64,
        comment: String,
    },
    TruncateTable {
        name: TableName,
    },
    OptimizeTable {
        name: TableName,
    },
    FlushRamchunk {
        name: TableName,
    },
    /// `DRAIN NODE 'host:port'`: its copies go elsewhere, and it is given no new ones.
    DrainNode {
        node: NodeId,
    },
    /// `UNDRAIN NODE 'host:port'`.
    UndrainNode {
        node: NodeId,
    },
    /// `REMOVE NODE 'host:port'`: a drained node leaves the user's cluster, a lost one is given up.
    RemoveNode {
        node: NodeId,
    },
    /// `MOVE SHARD t N FROM 'a' TO 'b' [SPLIT]`: the shard's whole group moves; with `split` the shard alone, in a group of
    /// its own from then on.
    MoveShard {
        name: TableName,
        shard: u32,
        from: NodeId,
        to: NodeId,
        #[serde(default)]
        split: bool,
    },
    /// `ALTER TABLE [c:]t rf='M'`.
    SetRf {
        name: TableName,
        cluster: Option<String>,
        rf: u32,
    },
    /// After a total loss: the group comes back from this node's copy, whatever others may hold.
    RecoverGroup {
        group: GroupId,
        from: NodeId,
    },
    /// Whether this node may start: rows of what it has to wait for, none when it may.
    Gate {
        node: NodeId,
    },
    /// `EXPLAIN SHARD t N`.
    ExplainShard {
        name: TableName,
        shard: u32,
    },
    /// A backup of a table, ordered over the API: it needs files of the controller.
    Backup {
        order: BackupOrder,
    },
    /// A table, and its documents, from a backup that the controller has read.
    Restore {
        order: Box<RestoreOrder>,
    },
    /// Tables that the stock sidecar sharded are adopted, all of them or none. Over HTTP alone: the controller has looked.
    Import {
        facts: Box<ImportFacts>,
        dry_run: bool,
    },
    /// Orphans removed, what is stuck reset, what failed tried again. Over HTTP alone.
    Recover,
    /// What is older than its retention is forgotten. Over HTTP alone.
    CleanUp,
    /// `REBALANCE TABLE t [DRY RUN | STATUS | PAUSE | RESUME | STOP [NOW] | RESET]`.
    Rebalance {
        name: TableName,
        order: RebalanceOrder,
    },
}

/// A table that is a view of the control state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// `system.sharding_state`.
    State,
    /// `system.sharding_queue`.
    Queue,
    /// `system.sharding_table`.
    Table,
}

/// A question to a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewQuery {
    pub view: View,
    pub select: Select,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// A column, and whether the largest come first.
    pub order: Option<(String, bool)>,
    pub limit: Option<u64>,
}

/// What of the rows is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    All,
    Columns(Vec<String>),
    /// `COUNT(*)`.
    Count,
}

/// `column op value`. Numbers are compared as numbers where both sides are some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub column: String,
    pub is: Comparison,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// With `%` and `_`.
    Like,
}

/// What is to happen with the moves of all tables that share the table's groups: groups move as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebalanceOrder {
    /// Plan and tell, do nothing.
    DryRun,
    /// Tell how far it is.
    Status,
    /// Plan and begin; ends a pause.
    Start,
    /// Moves under way go on to their end, no other begins. The queue stays.
    Pause,
    Resume,
    /// As `Pause`, and the queue is emptied.
    Stop,
    /// As `Stop`, and moves under way are taken back where their new copy is not routed yet.
    StopNow,
    /// Forgets the queue, failures and pauses, and plans anew.
    Reset,
}

/// The answer to a statement: rows (all values as text, `None` for NULL), or an error text for the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementReply {
    Ok,
    /// For clients of the HTTP API; those of SQL get [`StatementReply::for_sql`] of it.
    Object(Box<OrderReply>),
    Rows {
        columns: Vec<String>,
        rows: Vec<Vec<Option<String>>>,
    },
    Error {
        message: String,
    },
}

impl StatementReply {
    /// The same in rows or words.
    #[must_use]
    pub fn for_sql(self) -> Self {
        match self {
            Self::Object(object) => object.into_rows(),
            other => other,
        }
    }
}
