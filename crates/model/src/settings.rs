//! The settings of a controller with their defaults; where a value came from is the shell's matter.

use serde::{Deserialize, Serialize};

/// Figures that decisions depend on, production defaults. Units are last in the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub rebalance_timeout_seconds: u64,
    pub max_queue_depth: u64,
    pub max_operation_duration_seconds: u64,
    pub node_poll_interval_ms: u64,
    pub silent_node_seconds: u64,
    pub node_loss_grace_seconds: u64,
    pub replication_groups_per_node: u32,
    pub transfers_in_per_node: u32,
    pub transfers_out_per_node: u32,
    pub hold_statements_seconds: u64,
    pub leader_timeout_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rebalance_timeout_seconds: 3600,
            max_queue_depth: 1000,
            max_operation_duration_seconds: 7200,
            node_poll_interval_ms: 500,
            silent_node_seconds: 5,
            node_loss_grace_seconds: 30,
            replication_groups_per_node: 8,
            transfers_in_per_node: 2,
            transfers_out_per_node: 2,
            hold_statements_seconds: 10,
            leader_timeout_seconds: 5,
        }
    }
}

impl Settings {
    /// The profile of `demo` and `dev`: everything as in production except what only costs patience there.
    pub fn development() -> Self {
        Self { rebalance_timeout_seconds: 600, node_loss_grace_seconds: 3, ..Self::default() }
    }
}
