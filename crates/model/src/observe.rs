//! What a node shows of itself when it is asked.

use crate::{Content, GroupId, NodeId, Route};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One look at one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// From `SHOW STATUS LIKE 'cluster%'`.
    pub clusters: BTreeMap<GroupId, ClusterStatus>,
    /// Physical and plain tables; `None` when only the status was asked for.
    pub tables: Option<TablesStatus>,
}

/// Routing tables by name. Shared, since all nodes show the same ones.
pub type Routes = BTreeMap<String, Arc<Route>>;

/// The tables of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesStatus {
    /// `SHOW TABLES FROM SYSTEM`, by full name (`system.t_s0`).
    pub shards: BTreeSet<String>,
    /// `SHOW TABLES` of other types than `shard`, by name.
    pub plain: BTreeSet<String>,
    /// Every `type='shard'` table, read from `SHOW CREATE TABLE … OPTION force=1`.
    pub routes: Routes,
}

/// A replication cluster as one member sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub status: ClusterState,
    pub node_state: MemberState,
    pub size: u32,
    /// Persisted members; empty on a fresh cluster.
    pub nodes_set: BTreeSet<NodeId>,
    /// Live members; stale while non-primary.
    pub nodes_view: BTreeSet<NodeId>,
    /// Tables in the cluster, by full name.
    pub tables: BTreeSet<String>,
    pub state_uuid: String,
    pub conf_id: i64,
    /// −1 when not shown.
    pub last_committed: i64,
    pub recv_queue: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterState {
    Primary,
    NonPrimary,
    #[default]
    Disconnected,
    RecoveryRequired,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    Synced,
    Joining,
    Joined,
    Donor,
    #[default]
    Closed,
    Destroyed,
}

impl ClusterState {
    pub const ALL: [Self; 4] = [Self::Primary, Self::NonPrimary, Self::Disconnected, Self::RecoveryRequired];

    /// As a node shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::NonPrimary => "non-primary",
            Self::Disconnected => "disconnected",
            Self::RecoveryRequired => "recovery-required",
        }
    }

    pub fn read(shown: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == shown)
    }
}

impl MemberState {
    pub const ALL: [Self; 6] =
        [Self::Synced, Self::Joining, Self::Joined, Self::Donor, Self::Closed, Self::Destroyed];

    /// As a node shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Donor => "donor",
            Self::Closed => "closed",
            Self::Destroyed => "destroyed",
        }
    }

    pub fn read(shown: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == shown)
    }
}

impl ClusterStatus {
    /// Whether this member, cut off from its quorum, was synced until then and has applied all it received.
    pub fn is_whole_survivor(&self) -> bool {
        matches!(self.node_state, MemberState::Synced | MemberState::Donor) && self.recv_queue == 0
    }

    /// Whether replication has stopped here for good.
    pub fn is_stopped(&self) -> bool {
        self.status == ClusterState::RecoveryRequired
    }

    /// Whether this member takes writes and has all that was acknowledged before it joined.
    pub fn is_synced(&self) -> bool {
        self.status == ClusterState::Primary
            && matches!(self.node_state, MemberState::Synced | MemberState::Donor)
    }
}

/// What a node's machine has, as its sidecar sees it. `None`: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Of the file system with the node's data directory.
    pub disk_free_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
    /// How many ports the node's replication range has; `None` where it takes any.
    pub replication_ports: Option<u32>,
    /// Of the node's searches in the last minute.
    pub query_p99_ms: Option<u64>,
    /// On disk, by physical shard.
    pub shard_bytes: BTreeMap<String, u64>,
    /// Only of a real searchd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<NodeSettings>,
    /// The node was asked for its settings and did not tell them: `replication_ports` and `settings` are not known.
    #[serde(default)]
    pub settings_unread: bool,
    /// How far the clock was behind the node's latest start when it started, or is now; 0 where it is right.
    #[serde(default)]
    pub clock_behind_seconds: u64,
    /// Connections to the sidecar that came from other users of its machine and were not let in, since it started.
    #[serde(default)]
    pub connections_refused: u64,
}

/// What a searchd's configuration says that bears on safety (rule 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSettings {
    /// Worker threads: as configured, else one for each processor.
    pub threads: u32,
    /// `None`: searchd makes one up, the same for all nodes of a machine.
    pub server_id: Option<u32>,
    /// Whether there is a binlog.
    pub binlog: bool,
    /// `binlog_flush`: 1 writes to disk with every commit, 2 (searchd's default) every second, 0 when the system likes.
    pub binlog_flush: u32,
    /// Connections that may wait to be taken, of each listener; searchd's default is 5.
    #[serde(default = "listen_backlog_default")]
    pub listen_backlog: u32,
    /// The machine's `net.ipv4.tcp_fastopen`, as the sidecar reads it; `None` where there is none.
    #[serde(default)]
    pub tcp_fastopen: Option<u32>,
}

/// What searchd takes where its configuration does not say.
pub const LISTEN_BACKLOG_DEFAULT: u32 = 5;

const fn listen_backlog_default() -> u32 {
    LISTEN_BACKLOG_DEFAULT
}

/// How a node answered a look from one vantage point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    Answered,
    /// Connection refused by its listeners: no process is there.
    Refused,
    /// No answer in time: it may be gone, frozen or cut off.
    Silent,
}

/// The content of some of a node's copies at one moment, with how far its clusters were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    pub contents: BTreeMap<String, Content>,
    /// Every row by id and content, in one number a table; only where the measurement was to be deep. To compare copies
    /// measured by one process, nothing else.
    #[serde(default)]
    pub digests: BTreeMap<String, u64>,
    pub last_committed: BTreeMap<GroupId, i64>,
}
