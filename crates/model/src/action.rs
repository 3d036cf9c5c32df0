//! The closed set of things a controller may ask of a node, and what is known of their outcome.

use crate::{Epoch, GroupId, NodeId, OperationId, Route, Rows, Schema, StepId, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a node says of a table that [`Action::ReturnTables`] finds to hold something else than is given.
pub const WRITTEN_TO: &str = "was written to after it was taken out of";

/// One action on one node, carried out by the node's own sidecar. Every action can be repeated: what is already
/// so counts as done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Action {
    /// Makes the directory of a group under the node's data directory; searchd does not.
    MakeDirectory {
        group: GroupId,
    },
    /// Removes it, with what the dissolved cluster left inside. Refused while the node still has the cluster.
    RemoveDirectory {
        group: GroupId,
    },
    /// Creates physical shards. Refused when one exists with another schema or in a cluster.
    CreateTables {
        tables: Vec<String>,
        schema: Schema,
    },
    /// Drops empty or never routed physical shards of an operation that is undone, or of a dropped table.
    DropTables {
        tables: Vec<String>,
    },
    CreateCluster {
        group: GroupId,
    },
    JoinCluster {
        group: GroupId,
        at: NodeId,
    },
    /// `ALTER CLUSTER … ADD`: of empty tables, or in a group of one member (then under `LOCK TABLES`).
    AddTables {
        group: GroupId,
        tables: Vec<String>,
    },
    /// `ALTER CLUSTER … DROP`: the tables stay as plain tables on every member.
    RemoveTables {
        group: GroupId,
        tables: Vec<String>,
    },
    /// Puts plain copies back into the group that a hand-over took them out of, under `LOCK TABLES`: only while each is
    /// still what is given here, and while no node routes the table.
    ReturnTables {
        group: GroupId,
        copies: BTreeMap<String, Content>,
    },
    /// `ALTER CLUSTER … UPDATE nodes`: the persisted members become the live ones.
    UpdateNodes {
        group: GroupId,
    },
    /// `SET CLUSTER … 'pc.bootstrap' = 1`.
    Bootstrap {
        group: GroupId,
    },
    /// Waits until no statement on this node is older than the routes it has, then `EXIT CLUSTER`, if at least `floor`
    /// other members are in the node's view by then (0 where nothing is in the group any more). The outcome carries the
    /// content of each copy right after it became plain.
    ExitCluster {
        group: GroupId,
        tables: Vec<String>,
        /// Absent in logs and commands of before, which did not ask.
        #[serde(default)]
        floor: u32,
    },
    /// `DELETE CLUSTER`: only by a group's last member, on a `recovery-required` node, or where nobody has a quorum.
    DeleteCluster {
        group: GroupId,
        /// The group is to go everywhere: a member without a quorum need not ask who has one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        whole: bool,
    },
    /// Drops plain copies that left a group: each under `LOCK TABLES … READ`, and only while its content is still
    /// what it was when it left.
    DropCopies {
        copies: BTreeMap<String, Content>,
    },
    /// Writes routing tables (drop and create); statements that meet the gap are held by the sidecar.
    SetRoutes {
        routes: Vec<RouteSpec>,
    },
    /// Takes routing tables away; statements that name them are held while the sidecar knows the name.
    DropRoutes {
        tables: Vec<TableName>,
    },
    /// Waits until no statement on this node is older than the routes it has; those that the sidecar holds do not count.
    /// With `lock` it also sees to it that tables could be locked here.
    AwaitQuiet {
        lock: bool,
    },
    /// `TRUNCATE` of one shard, under its group's prefix where it has one. Never repeated by itself.
    Truncate {
        table: String,
        group: Option<GroupId>,
    },
    Optimize {
        table: String,
    },
    FlushRamchunk {
        table: String,
    },
    /// Ends what the stock sidecar knows ([`crate::STOCK_TABLES`]) on this node: its tables leave the user's cluster, where
    /// one is named, and are dropped.
    EndStock {
        cluster: Option<GroupId>,
    },
    /// Writes documents of a restore through this node's routing table, as a client would. Never a step: a restore asks for
    /// one batch after the other, and looks again after one whose end it does not know.
    PutDocuments {
        table: TableName,
        /// In place of those of the same ids; else an id that is there fails the whole batch.
        replace: bool,
        columns: Vec<String>,
        rows: Rows,
    },
}

/// A routing table to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    pub route: Route,
    pub schema: Schema,
}

impl Action {
    /// The command class, as shown in queues and metrics.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::MakeDirectory { .. } => "MAKE DIRECTORY",
            Self::RemoveDirectory { .. } => "REMOVE DIRECTORY",
            Self::CreateTables { .. } | Self::SetRoutes { .. } => "CREATE TABLE",
            Self::DropTables { .. }
            | Self::DropCopies { .. }
            | Self::DropRoutes { .. }
            | Self::EndStock { .. } => "DROP TABLE",
            Self::CreateCluster { .. } => "CREATE CLUSTER",
            Self::JoinCluster { .. } => "JOIN CLUSTER",
            Self::AddTables { .. }
            | Self::RemoveTables { .. }
            | Self::ReturnTables { .. }
            | Self::UpdateNodes { .. } => "ALTER CLUSTER",
            Self::Bootstrap { .. } => "SET CLUSTER",
            Self::ExitCluster { .. } => "EXIT CLUSTER",
            Self::DeleteCluster { .. } => "DELETE CLUSTER",
            Self::AwaitQuiet { .. } => "AWAIT QUIET",
            Self::Truncate { .. } => "TRUNCATE",
            Self::Optimize { .. } => "OPTIMIZE",
            Self::FlushRamchunk { .. } => "FLUSH RAMCHUNK",
            Self::PutDocuments { replace: false, .. } => "INSERT",
            Self::PutDocuments { replace: true, .. } => "REPLACE",
        }
    }

    /// The group that this action is about, when it is a cluster statement.
    pub const fn group(&self) -> Option<&GroupId> {
        match self {
            Self::CreateCluster { group }
            | Self::JoinCluster { group, .. }
            | Self::AddTables { group, .. }
            | Self::RemoveTables { group, .. }
            | Self::ReturnTables { group, .. }
            | Self::UpdateNodes { group }
            | Self::Bootstrap { group }
            | Self::ExitCluster { group, .. }
            | Self::DeleteCluster { group, .. } => Some(group),
            Self::EndStock { cluster } => cluster.as_ref(),
            _ => None,
        }
    }

    /// Whether searchd carries it out beside a JOIN or an EXIT under way on the node, as all other cluster statements wait for
    /// those (seen: `pc.bootstrap` takes 0.00 s beside a JOIN that stands, `UPDATE nodes` as long as the JOIN).
    pub const fn needs_no_lock(&self) -> bool {
        matches!(self, Self::Bootstrap { .. })
    }
}

/// A copy's content in four figures, cheap to compare: `COUNT(*)`, and sum and extremes of ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Content {
    pub rows: u64,
    /// Sum of ids modulo 2^64.
    pub id_sum: i64,
    pub id_min: i64,
    pub id_max: i64,
}

/// Which try of which step a command is; echoed with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommandId {
    pub operation: OperationId,
    pub step: StepId,
    /// Counts tries of the step and of its undo together, from 1.
    pub attempt: u32,
}

/// An action on its way to a node's sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub id: CommandId,
    pub epoch: Epoch,
    /// Milliseconds left; the sidecar counts them from when it sent the poll that this answers, so they can only
    /// be shorter than the leader meant. Of a JOIN they are also how long its copy may stand still: whenever more of it is
    /// seen, they begin anew.
    pub remaining_ms: u64,
    pub action: Action,
}

/// What is known after an action was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The node said so; completion is still decided by observation. `contents` is filled by `ExitCluster`.
    Done {
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        contents: BTreeMap<String, Content>,
    },
    /// Certainly not done; the node's own message.
    Refused { message: String },
    /// Done or not: only observation can tell.
    Unknown { message: String },
}

/// The outcome of one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    pub id: CommandId,
    /// Of the command.
    #[serde(default)]
    pub epoch: Epoch,
    pub outcome: Outcome,
}
