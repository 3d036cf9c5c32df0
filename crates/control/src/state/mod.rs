//! The durable state: a fold of records. Nothing else changes it, and nothing observed is kept in it.

mod fold;

pub use fold::Illegal;

use crate::alarm::Alarms;
use crate::backup::Backup;
use crate::operation::Operation;
use model::{
    AccessToken, AuditMark, BackupId, Epoch, GroupId, LogIndex, NodeId, OperationId, TableName, TableSpec,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Finished operations kept for reports: enough for a day of a busy cluster, under a few MiB.
pub const FINISHED_KEPT: usize = 500;

/// Everything the log says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The last record folded in.
    pub last: LogIndex,
    pub epoch: Epoch,
    pub leader: Option<String>,
    /// The highest version of records among the leaders so far; 0 in a snapshot of the first.
    #[serde(default)]
    pub format: u32,
    /// The user's own replication cluster.
    pub cluster: Option<GroupId>,
    pub nodes: BTreeMap<NodeId, Node>,
    /// Nodes that are removed, and were seen to leave the user's cluster: the others' lists of members may name them still.
    #[serde(default)]
    pub left: BTreeSet<NodeId>,
    pub groups: BTreeMap<GroupId, Group>,
    pub tables: BTreeMap<TableName, Table>,
    /// The last generation of every name ever used.
    pub generations: BTreeMap<TableName, u64>,
    /// Counts changes of the name list that sidecars keep.
    pub names_version: u64,
    /// Queued, running and unwinding ones.
    pub operations: BTreeMap<OperationId, Operation>,
    pub finished: VecDeque<Operation>,
    pub next_operation: OperationId,
    /// What nodes may still hold of ours.
    pub leftovers: BTreeMap<NodeId, BTreeSet<Leftover>>,
    pub rebalance: Option<Rebalance>,
    /// An operator's word on moves; `None`: they run as plans ask for them.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// The newest of each table, see [`crate::backup`].
    #[serde(default)]
    pub backups: BTreeMap<BackupId, Backup>,
    /// Unix seconds of the latest changes of membership, newest last; at most 1000.
    pub topology_changes: VecDeque<u64>,
    /// Moves of a group that failed in a row since the nodes last changed.
    #[serde(default)]
    pub move_failures: BTreeMap<GroupId, u32>,
    pub operations_completed: u64,
    pub operations_failed: u64,
    /// Failures of operations before this one have been seen by an operator.
    #[serde(default)]
    pub failures_seen_before: OperationId,
    #[serde(default)]
    pub alarms: Alarms,
    /// By name.
    #[serde(default)]
    pub tokens: BTreeMap<String, AccessToken>,
    /// How far each controller's audit log goes, by the audit log's id.
    #[serde(default)]
    pub audits: BTreeMap<String, AuditMark>,
}

/// A member of the user's cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub uuid: String,
    pub lost: bool,
    /// Its copies are to go elsewhere.
    #[serde(default)]
    pub draining: bool,
    /// Unix seconds of the last change of `lost`.
    pub since: u64,
}

/// Moves that an operator holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The queue waits.
    Paused,
    /// There is no queue, and none is made.
    Stopped,
}

impl Hold {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What is placed and moved as one: the shards whose copies live on the same nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub rf: u32,
    pub shards: BTreeSet<Shard>,
    pub members: BTreeMap<NodeId, Member>,
    /// The `state_uuid` of its history: a cluster that shows another one formed anew, around whatever copy.
    #[serde(default)]
    pub history: Option<String>,
    /// Whose copies may be the newest: those that served when it was last known to have a quorum, lost ones among them.
    #[serde(default)]
    pub newest: BTreeSet<NodeId>,
    /// An operator placed it: while all its copies are there no plan moves them.
    #[serde(default)]
    pub pinned: bool,
    /// Why no routing table is to name it.
    #[serde(default)]
    pub halt: Option<Halt>,
    /// Who was told to go on without the others, until it is seen what came of it (rule 5): nobody else is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<NodeId>,
}

/// What stopped a whole group, as seen on every member that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// Its members live and none has a quorum.
    NoQuorum,
    /// All were down: nobody goes on by itself.
    Stopped,
    /// All were down, and one made a new history of its copy, however old that is.
    Anew,
}

impl Halt {
    /// Whether only a copy that is chosen can bring it back.
    pub const fn is_total(self) -> bool {
        matches!(self, Self::Stopped | Self::Anew)
    }
}

/// One shard of one table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    pub table: TableName,
    pub number: u32,
}

impl Shard {
    /// The shard whose copies have this name on their nodes; `None` for any other table.
    pub fn of(physical: &str) -> Option<Self> {
        model::parse_shard_table(physical).map(|(table, number)| Self { table, number })
    }

    pub fn physical(&self) -> String {
        self.table.shard_table(self.number)
    }
}

/// What a group's copies on one node are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Member {
    /// Being filled: not routed.
    Joining,
    /// Whole, verified and routed.
    Serving,
    /// No longer routed, about to go.
    Leaving,
    /// Its node is proven gone.
    Lost,
    /// Its node is back; not routed until verified.
    Returning,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub spec: TableSpec,
    pub generation: u64,
    pub status: TableStatus,
    /// By shard number.
    pub homes: Vec<GroupId>,
    /// A hand-over holds its statements: no node is to route it.
    #[serde(default)]
    pub withheld: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableStatus {
    Creating,
    Active,
    Dropping,
}

/// Something of ours that a node may still hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftover {
    /// Its cluster, and these copies of it; without any the cluster alone is too much.
    Group {
        group: GroupId,
        tables: Vec<String>,
    },
    Tables {
        tables: Vec<String>,
    },
    Route {
        table: TableName,
    },
}

/// The last plan that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    pub reason: String,
    pub operations: Vec<OperationId>,
    pub copies: u64,
    pub lower_bound: u64,
    pub shard_copies: u64,
    pub unix: u64,
}

impl Group {
    pub const fn new(rf: u32, members: BTreeMap<NodeId, Member>) -> Self {
        Self {
            rf,
            shards: BTreeSet::new(),
            members,
            history: None,
            newest: BTreeSet::new(),
            pinned: false,
            halt: None,
            told: None,
        }
    }

    /// Whose copies may be the newest; in a log of an earlier version those that serve.
    pub fn newest_holders(&self) -> BTreeSet<NodeId> {
        let known: BTreeSet<NodeId> =
            self.newest.iter().filter(|node| self.members.contains_key(*node)).cloned().collect();
        let serving = || self.serving().cloned().collect::<BTreeSet<NodeId>>();
        let all = || self.members.keys().cloned().collect::<BTreeSet<NodeId>>();
        [known, serving(), all()].into_iter().find(|nodes| !nodes.is_empty()).unwrap_or_default()
    }

    /// Whether the copy on this member may lack what another one acknowledged alone: that one has been seen to go on without it,
    /// or was told to.
    pub fn may_lack(&self, node: &NodeId) -> bool {
        !self.newest_holders().contains(node) || self.told.as_ref().is_some_and(|told| told != node)
    }

    /// Whether a cluster with this `state_uuid` is the group itself. A node that shows none says nothing against it.
    pub fn is_history(&self, state_uuid: &str) -> bool {
        state_uuid.is_empty() || self.history.as_deref().is_none_or(|known| known == state_uuid)
    }

    /// A group of one copy has no replication cluster, except while it moves.
    pub const fn is_clustered(&self) -> bool {
        self.rf > 1
    }

    pub fn in_state(&self, wanted: Member) -> impl Iterator<Item = &NodeId> {
        self.members.iter().filter(move |(_, member)| **member == wanted).map(|(node, _)| node)
    }

    pub fn serving(&self) -> impl Iterator<Item = &NodeId> {
        self.in_state(Member::Serving)
    }

    /// Whose copies are the group's from here on: those that serve, or, when all of them were lost, those that came back and that
    /// nobody has gone on without.
    pub fn heirs(&self) -> impl Iterator<Item = &NodeId> {
        let none_serves = self.serving().next().is_none();
        self.members.iter().filter_map(move |(node, member)| {
            let came_back = none_serves && *member == Member::Returning && self.newest.contains(node);
            (*member == Member::Serving || came_back).then_some(node)
        })
    }

    /// Who may make the group primary again: its heirs, and with a shard of rf 1 that moves its source, too, until it has left: the
    /// new copy had no quorum without it.
    pub fn survivors(&self) -> impl Iterator<Item = &NodeId> {
        let source = self.in_state(Member::Leaving).filter(|_| !self.is_clustered());
        self.heirs().chain(source)
    }

    /// How many whole copies there must be without one that goes: the smaller of rf and what there is now.
    pub fn floor(&self) -> u32 {
        self.rf.min(self.serving().count() as u32)
    }

    pub fn tables(&self) -> Vec<String> {
        self.shards.iter().map(Shard::physical).collect()
    }

    /// Whether another node has, or may have, a copy: without one, what `node` holds is the data itself.
    pub fn has_copy_besides(&self, node: &NodeId) -> bool {
        self.members.iter().any(|(other, member)| other != node && *member != Member::Joining)
    }

    /// The users' tables with shards in it.
    pub fn table_names(&self) -> BTreeSet<TableName> {
        self.shards.iter().map(|shard| shard.table.clone()).collect()
    }
}

impl State {
    /// Nodes that are members and not proven gone.
    pub fn live_nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().filter(|(_, node)| !node.lost).map(|(id, _)| id)
    }

    /// Live nodes that are given copies.
    pub fn placing_nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().filter(|(_, node)| !node.lost && !node.draining).map(|(id, _)| id)
    }

    pub fn is_live(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|node| !node.lost)
    }

    /// Operations under way or waiting, in order.
    pub fn active(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values()
    }

    /// The operation that changes this group's members now, if any.
    pub fn group_operation(&self, group: &GroupId) -> Option<&Operation> {
        self.operations.values().find(|operation| operation.group() == Some(group))
    }

    /// Whether something of the group may be left on the node that is no copy of it any more.
    pub fn is_left_over(&self, group: &GroupId, node: &NodeId) -> bool {
        let mut left = self.leftovers.get(node).into_iter().flatten();
        left.any(|left| matches!(left, Leftover::Group { group: g, .. } if g == group))
    }

    /// Why a table's name cannot be used again on a node, if it cannot: something of it may be left there.
    pub fn node_holding_name(&self, table: &TableName) -> Option<&NodeId> {
        let names = |physical: &String| model::parse_shard_table(physical).is_some_and(|(t, _)| t == *table);
        self.leftovers.iter().find_map(|(node, left)| {
            left.iter()
                .any(|left| match left {
                    Leftover::Group { tables, .. } | Leftover::Tables { tables } => tables.iter().any(names),
                    Leftover::Route { table: left } => left == table,
                })
                .then_some(node)
        })
    }
}

#[cfg(test)]
mod tests;
