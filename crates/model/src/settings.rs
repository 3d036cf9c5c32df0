//! The settings of a controller with their defaults; where a value came from is the shell's matter.

use serde::{Deserialize, Serialize};

/// Figures that decisions depend on, production defaults. Units are last in the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own, by its own name")]
pub struct Settings {
    pub max_concurrent_rebalances: u64,
    pub rebalance_timeout_seconds: u64,
    pub queue_processing_interval_seconds: u64,
    /// Whether a person (or the development profile) chose the interval above; else the number of nodes does.
    pub queue_interval_is_chosen: bool,
    pub health_check_interval_seconds: u64,
    pub metrics_retention_days: u64,
    pub alert_cooldown_seconds: u64,
    pub auto_recovery_enabled: bool,
    pub max_auto_recovery_attempts: u64,
    pub recovery_backoff_seconds: u64,
    pub max_queue_depth: u64,
    pub max_operation_duration_seconds: u64,
    pub temp_cluster_cleanup_interval_seconds: u64,
    pub audit_retention_days: u64,
    /// Nothing is changed while the audit log cannot be written.
    pub audit_failure_stops_changes: bool,
    /// Records of operations and their steps go to the audit log.
    pub log_all_rebalancing_operations: bool,
    /// Every other record of the control log does.
    pub log_state_changes: bool,
    /// Nodes are asked over TLS, and never in plain text.
    pub require_tls_for_cluster_communication: bool,
    /// A certificate that ends within so many days is an alert.
    pub certificate_warning_days: u64,
    pub node_poll_interval_ms: u64,
    pub silent_node_seconds: u64,
    pub node_loss_grace_seconds: u64,
    pub replication_groups_per_node: u32,
    pub transfers_in_per_node: u32,
    pub transfers_out_per_node: u32,
    /// New transfers wait while the cluster's query p99 is above it; `None` is off.
    pub query_p99_budget_ms: Option<u64>,
    pub hold_statements_seconds: u64,
    pub leader_timeout_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_concurrent_rebalances: 2,
            rebalance_timeout_seconds: 3600,
            queue_processing_interval_seconds: 2,
            queue_interval_is_chosen: false,
            health_check_interval_seconds: 30,
            metrics_retention_days: 7,
            alert_cooldown_seconds: 300,
            auto_recovery_enabled: true,
            max_auto_recovery_attempts: 3,
            recovery_backoff_seconds: 60,
            max_queue_depth: 1000,
            max_operation_duration_seconds: 7200,
            temp_cluster_cleanup_interval_seconds: 3600,
            audit_retention_days: 90,
            audit_failure_stops_changes: true,
            log_all_rebalancing_operations: true,
            log_state_changes: true,
            require_tls_for_cluster_communication: false,
            certificate_warning_days: 21,
            node_poll_interval_ms: 500,
            silent_node_seconds: 5,
            node_loss_grace_seconds: 30,
            replication_groups_per_node: 8,
            transfers_in_per_node: 2,
            transfers_out_per_node: 2,
            query_p99_budget_ms: None,
            hold_statements_seconds: 10,
            leader_timeout_seconds: 5,
        }
    }
}

impl Settings {
    /// The profile of `demo` and `dev`: everything as in production except what only costs patience there.
    pub fn development() -> Self {
        Self {
            rebalance_timeout_seconds: 600,
            queue_processing_interval_seconds: 1,
            queue_interval_is_chosen: true,
            health_check_interval_seconds: 10,
            node_loss_grace_seconds: 3,
            ..Self::default()
        }
    }

    /// The profile that shows what production would do, and leaves recovery to people.
    pub fn staging() -> Self {
        Self { max_concurrent_rebalances: 1, auto_recovery_enabled: false, ..Self::default() }
    }
}
