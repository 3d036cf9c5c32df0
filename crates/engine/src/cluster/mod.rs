//! Replication clusters: one state machine per cluster and node, virtual synchrony without I/O.

use serde::{Deserialize, Serialize};

/// What members of one cluster say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ClusterMessage {
    /// A sign of life.
    Alive,
}
