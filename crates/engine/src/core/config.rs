//! What a node is told when it is opened.

use model::{Millis, NodeId};

/// One node's identity and pace.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// `host:port` of the HTTP listener: the name peers and status rows use.
    pub node: NodeId,
    /// `host:port` of the peer listener as `cluster_*_nodes_view` shows it.
    pub replication_address: String,
    /// 32 hex digits, fixed for the node's life.
    pub uuid: String,
    /// Distinct on every node, 0–127: automatic ids carry it.
    pub server_id: u8,
    /// What `SELECT VERSION()` answers.
    pub version: String,
    /// The data directory as errors and `SHOW SETTINGS` show it.
    pub data_dir: String,
    pub timing: Timing,
}

/// How long things take. The defaults are those seen on real nodes; tests shorten them.
#[derive(Clone, Debug)]
pub struct Timing {
    /// From the start of a node that had died to its rejoining by itself.
    pub rejoin_delay: Millis,
    /// What JOIN CLUSTER takes beside the copy.
    pub join_delay: Millis,
    /// From a write's acknowledgement to its being seen on other members.
    pub apply_delay: Millis,
    /// How long a starting node waits for word from its clusters' members.
    pub discovery_timeout: Millis,
    /// How long a read waits for a remote shard before it tries the next mirror.
    pub remote_read_timeout: Millis,
    /// How long a write waits for a remote shard before its outcome is called unknown.
    pub remote_write_timeout: Millis,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            rejoin_delay: Millis(6_000),
            join_delay: Millis(1_000),
            apply_delay: Millis(20),
            discovery_timeout: Millis(1_000),
            remote_read_timeout: Millis(3_000),
            remote_write_timeout: Millis(20_000),
        }
    }
}
