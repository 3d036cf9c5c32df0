//! What operators are answered: objects of starting, progress and recovery (`operations.md`, sections 5 to 7).
//!
//! Field names are fixed; times are Unix seconds. A client of SQL gets the same as rows.

use crate::api::GateTold;
use crate::wire::StatementReply;
use crate::{GroupId, ImportReport, NodeId, TableName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An object that an order is answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OrderReply {
    Rebalance(RebalanceReply),
    Plan(RebalancePlan),
    Progress(RebalanceProgress),
    Recovery(RecoveryReport),
    CleanUp(CleanUpReport),
    Import(ImportReport),
    Gate(GateReply),
}

/// Whether a node may start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReply {
    /// What it must wait for, by group where it is one; none: it may start now.
    pub held: Vec<Held>,
    /// When it may start: groups that have gone on without it, and that it is to forget before. It would go back into them
    /// by itself, and be sent copies for nothing while writes wait.
    pub forget: BTreeSet<GroupId>,
}

/// One thing that a node waits for at the gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub group: Option<GroupId>,
    pub waits_for: String,
}

/// What came of starting, holding or resetting a table's moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RebalanceReply {
    Done {
        /// True.
        success: bool,
        message: String,
        /// The first operation of those that move; null when nothing moves.
        operation: Option<u64>,
        /// Of the table, as [`RebalanceProgress::status`].
        status: String,
    },
    Refused {
        /// False.
        success: bool,
        #[serde(flatten)]
        reason: Refused,
    },
}

/// Why a rebalance was not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Refused {
    PreflightFailed { details: Preflight },
    AlreadyRunning { status: String },
    Exception { error: String },
}

/// The checks before a rebalance; all are made even when one fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    pub can_proceed: bool,
    /// `table_exists`, `cluster_healthy`, `sufficient_resources`, `no_conflicting_operations`,
    /// `node_settings`.
    pub checks: BTreeMap<String, bool>,
    /// Of each check that failed: what stands against it, and what to do. Of one that passed: what is advised.
    pub reasons: BTreeMap<String, String>,
}

/// A plan that is not carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebalancePlan {
    pub table: TableName,
    pub moves: Vec<PlannedMove>,
    /// Tables whose shards are in the groups that move.
    pub tables: Vec<TableName>,
    /// Groups that get another copy, and the fewest that could be.
    pub copies: u64,
    pub lower_bound: u64,
    pub shard_copies: u64,
    /// To be copied, as far as nodes have said how large their copies are.
    pub bytes: u64,
    pub groups: u64,
    /// For how long a write meets a route that is being written, by the routes written before; null while none was.
    pub expected_write_stall_ms: Option<u64>,
    /// Seconds, by measured rates and within the limits.
    pub eta_seconds: u64,
    pub preflight: Preflight,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMove {
    pub group: String,
    pub tables: Vec<TableName>,
    pub shards: u64,
    pub bytes: u64,
    pub from: Option<NodeId>,
    pub to: Option<NodeId>,
    pub reason: String,
}

/// How far a table's moves are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebalanceProgress {
    pub table: TableName,
    /// `idle`, `queued`, `running`, `paused`, `completed` or `failed`.
    pub status: String,
    pub queue_items_pending: u64,
    pub transfers_total: u64,
    pub transfers_done: u64,
    pub bytes_total: u64,
    pub bytes_done: u64,
    pub progress_percentage: f64,
    /// Null when nothing is pending.
    pub estimated_completion: Option<u64>,
    /// Null when there was none.
    pub last_activity: Option<u64>,
    /// What an operator ordered for the whole cluster: `paused`, `stopped` or null.
    pub held: Option<String>,
    /// Why the next move has to wait, if it has.
    pub waits_for: Option<String>,
}

/// `recover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    pub timestamp: u64,
    pub actions_taken: Vec<String>,
    /// Whose operations were reset or are tried again.
    pub tables_recovered: Vec<TableName>,
    pub issues_remaining: Vec<String>,
}

/// `cleanup`: how many of each were forgotten or are being removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanUpReport {
    pub timestamp: u64,
    /// Seen by nobody's order for more than an hour.
    pub orphaned_temporary_clusters: u64,
    /// Older than 24 hours.
    pub failed_operation_groups: u64,
    /// Older than 7 days.
    pub finished_queue_items: u64,
    /// Older than 30 days.
    pub stale_state: u64,
    pub actions_taken: Vec<String>,
}

/// `health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `healthy`, `warning` or `critical`, as on the dashboard.
    pub overall_status: String,
    pub timestamp: u64,
    pub checks: BTreeMap<String, HealthCheck>,
    /// What is critical.
    pub issues: Vec<String>,
    pub warnings: Vec<String>,
    /// What to do next; those that are commands stand as they are to be typed, between backticks.
    pub recommendations: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// `ok`, `warning` or `critical`.
    pub status: String,
    pub message: String,
}

impl RebalanceReply {
    pub fn done(message: impl Into<String>, operation: Option<u64>, status: impl Into<String>) -> Self {
        Self::Done { success: true, message: message.into(), operation, status: status.into() }
    }

    pub const fn refused(reason: Refused) -> Self {
        Self::Refused { success: false, reason }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PreflightFailed { details } => {
                let failed = |check: &String| details.checks.get(check) == Some(&false);
                let reasons: Vec<String> = details
                    .reasons
                    .iter()
                    .filter(|(check, _)| failed(check))
                    .map(|(check, why)| format!("{check}: {why}"))
                    .collect();
                write!(f, "preflight failed: {}", reasons.join("; "))
            }
            Self::AlreadyRunning { status } => write!(f, "a rebalance of this table is {status} already"),
            Self::Exception { error } => f.write_str(error),
        }
    }
}

type Row = Vec<Option<String>>;

fn text<T: ToString>(value: &T) -> String {
    value.to_string()
}

fn or_null<T: ToString>(value: Option<&T>) -> Option<String> {
    value.map(ToString::to_string)
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Columns and rows.
fn one_row(fields: Vec<(&str, Option<String>)>) -> (Vec<String>, Vec<Row>) {
    let (columns, row) = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).unzip();
    (columns, vec![row])
}

impl OrderReply {
    /// The same for a client of SQL.
    pub fn into_rows(self) -> StatementReply {
        let (columns, rows) = match self {
            Self::Rebalance(RebalanceReply::Refused { reason, .. }) => {
                return StatementReply::Error { message: reason.to_string() };
            }
            Self::Rebalance(RebalanceReply::Done { message, operation, status, .. }) => one_row(vec![
                ("operation", or_null(operation.as_ref())),
                ("status", Some(status)),
                ("message", Some(message)),
            ]),
            Self::Gate(gate) => {
                let told = GateTold::from(gate);
                (told.columns, told.rows)
            }
            Self::Plan(plan) => {
                let columns = ["group", "tables", "from", "to", "reason", "shards", "bytes"];
                let row = |one: &PlannedMove| {
                    vec![
                        Some(one.group.clone()),
                        Some(list(&one.tables)),
                        or_null(one.from.as_ref()),
                        or_null(one.to.as_ref()),
                        Some(one.reason.clone()),
                        Some(text(&one.shards)),
                        Some(text(&one.bytes)),
                    ]
                };
                let mut rows: Vec<Row> = plan.moves.iter().map(row).collect();
                if rows.is_empty() {
                    // No row at all would look like no answer.
                    let mut none = vec![None; columns.len()];
                    none[4] = Some("nothing would move: every node has its share".to_owned());
                    rows.push(none);
                }
                (columns.map(str::to_owned).to_vec(), rows)
            }
            Self::Progress(progress) => one_row(vec![
                ("table", Some(text(&progress.table))),
                ("status", Some(progress.status)),
                ("queue_items_pending", Some(text(&progress.queue_items_pending))),
                ("transfers_total", Some(text(&progress.transfers_total))),
                ("transfers_done", Some(text(&progress.transfers_done))),
                ("bytes_total", Some(text(&progress.bytes_total))),
                ("bytes_done", Some(text(&progress.bytes_done))),
                ("progress_percentage", Some(text(&progress.progress_percentage))),
                ("estimated_completion", or_null(progress.estimated_completion.as_ref())),
                ("last_activity", or_null(progress.last_activity.as_ref())),
                ("held", progress.held),
                ("waits_for", progress.waits_for),
            ]),
            Self::Recovery(report) => one_row(vec![
                ("timestamp", Some(text(&report.timestamp))),
                ("actions_taken", Some(list(&report.actions_taken))),
                ("tables_recovered", Some(list(&report.tables_recovered))),
                ("issues_remaining", Some(list(&report.issues_remaining))),
            ]),
            Self::CleanUp(report) => one_row(vec![
                ("timestamp", Some(text(&report.timestamp))),
                ("orphaned_temporary_clusters", Some(text(&report.orphaned_temporary_clusters))),
                ("failed_operation_groups", Some(text(&report.failed_operation_groups))),
                ("finished_queue_items", Some(text(&report.finished_queue_items))),
                ("stale_state", Some(text(&report.stale_state))),
            ]),
            Self::Import(report) => one_row(vec![
                ("success", Some(text(&report.success))),
                ("tables", Some(text(&report.tables.len()))),
                ("groups", Some(text(&report.groups.len()))),
                ("refusals", Some(list(&report.refusals))),
            ]),
        };
        StatementReply::Rows { columns, rows }
    }
}
