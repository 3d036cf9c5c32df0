//! What people and scripts see of the state: `SHOW SHARDING …`, lists and the dashboard. Reads only.

use crate::Controller;
use crate::alerts::overall_status;
use crate::operation::{Operation, Status};
use crate::rights::Sight;
use crate::state::{Group, Member, Table, TableStatus};
use model::api::{
    ClusterMetrics, CopyStatus, Dashboard, NodeList, NodeSummary, OperationList, OperationSummary,
    QueueMetrics, RebalancingMetrics, ShardPlacement, TableList, TableShow, TableSummary,
};
use model::wire::{ShardingStatement, StatementReply};
use model::{GroupId, NodeId, TableName};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) type Row = Vec<Option<String>>;

/// A failed operation makes the whole look unhealthy for a day.
const FAILED_SHOWN_SECONDS: u64 = 24 * 3600;

impl Controller {
    /// The answer to a statement that only looks.
    pub fn show(&self, statement: &ShardingStatement) -> StatementReply {
        self.show_to(statement, Sight::EVERYTHING)
    }

    pub(crate) fn show_to(&self, statement: &ShardingStatement, sight: Sight<'_>) -> StatementReply {
        match statement {
            ShardingStatement::ShowStatus { cluster, name } => {
                self.show_status(cluster.as_deref(), name.as_ref(), sight)
            }
            ShardingStatement::ShowMaster => {
                rows(&["node", "status"], vec![vec![self.state.leader.clone(), Some("active".to_owned())]])
            }
            ShardingStatement::ShowOperations => self.show_operations(sight),
            ShardingStatement::ShowQueue => self.show_queue(),
            ShardingStatement::ShowAlerts => rows(
                &["level", "type", "message", "action", "since", "state"],
                self.alerts(self.unix_now)
                    .into_iter()
                    .filter(|alert| self.alert_is_seen(alert, sight))
                    .map(|alert| {
                        [
                            alert.level,
                            alert.kind,
                            alert.message,
                            alert.action,
                            alert.since.to_string(),
                            alert.state,
                        ]
                        .map(Some)
                        .to_vec()
                    })
                    .collect(),
            ),
            other => StatementReply::Error { message: format!("{other:?} is not a question") },
        }
    }

    /// What a node that asks whether it may start has to wait for, a row each.
    fn show_status(
        &self,
        cluster: Option<&str>,
        name: Option<&TableName>,
        sight: Sight<'_>,
    ) -> StatementReply {
        if let Some(name) = name
            && !self
                .state
                .tables
                .get(name)
                .is_some_and(|table| cluster.is_none() || table.spec.cluster.as_deref() == cluster)
        {
            let message =
                format!("table '{name}' is missing: SHOW SHARDING STATUS failed: table '{name}' must exist");
            return StatementReply::Error { message };
        }
        let mut found: Vec<Row> = Vec::new();
        for (table_name, table) in &self.state.tables {
            if name.is_some_and(|name| name != table_name)
                || !sight.sees(table_name.as_str())
                || cluster.is_some_and(|cluster| table.spec.cluster.as_deref() != Some(cluster))
            {
                continue;
            }
            for (number, home) in table.homes.iter().enumerate() {
                let Some(group) = self.state.groups.get(home) else { continue };
                let rf_status = self.rf_status(home, group);
                for (node, member) in &group.members {
                    let row = [
                        table_name.to_string(),
                        number.to_string(),
                        node.to_string(),
                        self.copy_status(table, node, *member).to_owned(),
                        table.spec.cluster.clone().unwrap_or_default(),
                        if group.is_clustered() { home.to_string() } else { String::new() },
                        // Until its turn comes, a shard of a table that changes its rf has the old one.
                        group.rf.to_string(),
                        rf_status.to_owned(),
                    ];
                    found.push(row.map(Some).to_vec());
                }
            }
        }
        let columns =
            ["table", "shard", "node", "status", "cluster", "replication_cluster", "rf", "rf_status"];
        rows(&columns, found)
    }

    pub(crate) fn copy_status(&self, table: &Table, node: &NodeId, member: Member) -> &'static str {
        match member {
            _ if !self.state.is_live(node) => "inactive",
            Member::Serving if table.status == TableStatus::Active => "active",
            Member::Lost => "inactive",
            _ => "pending",
        }
    }

    /// `ok` with all copies whole, `degraded` with some, `broken` with none.
    pub(crate) fn rf_status(&self, id: &GroupId, group: &Group) -> &'static str {
        let usable = |node: &&NodeId| self.state.is_live(node) && !self.is_closed_on(id, node);
        match group.serving().filter(usable).count() {
            0 => "broken",
            _ if group.halt.is_some() => "broken",
            whole if whole < group.rf as usize => "degraded",
            _ => "ok",
        }
    }

    fn show_operations(&self, sight: Sight<'_>) -> StatementReply {
        let found = self
            .operations_in_order()
            .filter(|operation| self.operation_is_seen(operation, sight))
            .map(|operation| {
                let operation = summary_of(operation);
                vec![
                    Some(operation.id.to_string()),
                    Some(operation.kind),
                    Some(operation.subject),
                    Some(operation.status),
                    Some(format!("{}/{}", operation.steps_done, operation.steps_total)),
                    Some(operation.created_at.to_string()),
                    operation.finished_at.map(|at| at.to_string()),
                    operation.error,
                ]
            })
            .collect();
        let columns = ["id", "kind", "subject", "status", "steps", "created_at", "finished_at", "error"];
        rows(&columns, found)
    }

    fn show_queue(&self) -> StatementReply {
        let found = self
            .state
            .active()
            .flat_map(|operation| operation.numbered().map(move |(id, step)| (operation, id, step)))
            .filter(|(operation, _, step)| operation.is_open(step))
            .map(|(operation, id, step)| {
                vec![
                    Some(format!("{}.{id}", operation.id)),
                    step.node.as_ref().map(ToString::to_string),
                    Some(step.work.class().to_owned()),
                    Some(operation.name().to_owned()),
                    Some(format!("{:?}", step.status).to_lowercase()),
                    Some(step.attempts.to_string()),
                    self.flights.waits.get(&(operation.id, id)).cloned().or_else(|| step.error.clone()),
                ]
            })
            .collect();
        rows(&["id", "node", "command", "operation", "status", "tries", "waits_for_or_error"], found)
    }

    pub fn tables(&self) -> TableList {
        TableList { tables: self.state.tables.values().map(|table| self.summary(table)).collect() }
    }

    pub fn table(&self, name: &str) -> Option<TableShow> {
        let table = self.state.tables.get(&TableName::new(name).ok()?)?;
        let placement = table
            .homes
            .iter()
            .enumerate()
            .filter_map(|(number, home)| {
                let group = self.state.groups.get(home)?;
                let nodes = group
                    .members
                    .iter()
                    .map(|(node, member)| CopyStatus {
                        id: node.clone(),
                        status: self.copy_status(table, node, *member).to_owned(),
                    })
                    .collect();
                let group = group.is_clustered().then(|| home.to_string());
                Some(ShardPlacement { shard: number as u32, group, nodes })
            })
            .collect();
        Some(TableShow { summary: self.summary(table), placement })
    }

    fn summary(&self, table: &Table) -> TableSummary {
        TableSummary {
            name: table.spec.name.clone(),
            cluster: table.spec.cluster.clone(),
            shards: table.spec.shards,
            rf: table.spec.rf,
            status: self.table_state(table).to_owned(),
            documents: None,
        }
    }

    /// A table's state is that of the operations that touch it.
    pub(crate) fn table_state(&self, table: &Table) -> &'static str {
        match table.status {
            TableStatus::Creating => return "creating",
            TableStatus::Dropping => return "dropping",
            TableStatus::Active => {}
        }
        let mut queued = false;
        for operation in self.state.active() {
            let touches = operation.table() == Some(&table.spec.name)
                || operation.group().is_some_and(|group| table.homes.contains(group));
            match operation.status {
                _ if !touches => {}
                Status::Queued => queued = true,
                _ => return "running",
            }
        }
        if queued { "queued" } else { "idle" }
    }

    pub fn nodes(&self) -> NodeList {
        let nodes = self
            .members()
            .map(|(id, node)| {
                let held: Vec<&Group> =
                    self.state.groups.values().filter(|group| group.members.contains_key(id)).collect();
                NodeSummary {
                    id: id.clone(),
                    state: if node.lost {
                        "lost"
                    } else if node.draining && held.is_empty() {
                        "drained"
                    } else if node.draining {
                        "draining"
                    } else if self.sidecar_is_ours(id) {
                        "active"
                    } else {
                        "suspect"
                    }
                    .to_owned(),
                    zone: None,
                    capacity: 1.0,
                    copies: held.iter().map(|group| group.shards.len() as u64).sum(),
                    groups: held.iter().filter(|group| group.is_clustered()).count() as u64,
                }
            })
            .collect();
        NodeList { nodes }
    }

    pub fn operations(&self) -> OperationList {
        OperationList { operations: self.operations_in_order().map(summary_of).collect() }
    }

    /// Those under way first, then the finished ones, newest first.
    fn operations_in_order(&self) -> impl Iterator<Item = &Operation> {
        self.state.active().chain(self.state.finished.iter().rev())
    }

    pub fn dashboard(&self, unix_now: u64) -> Dashboard {
        let rebalancing = self.rebalancing(unix_now);
        let queue = self.queue(unix_now);
        let cluster = self.cluster_metrics(unix_now);
        let alerts = self.alerts(unix_now);
        let failed = self.failed_since_reset(unix_now).next().is_some();
        let overall_status = overall_status(&cluster, &rebalancing, &queue, failed, &alerts);
        Dashboard {
            timestamp: unix_now,
            overall_status: overall_status.to_owned(),
            rebalancing,
            queue,
            cluster,
            alerts,
        }
    }

    /// Operations that failed within the time that failures are kept in sight, and that no reset came after.
    pub(crate) fn failed_since_reset(&self, unix_now: u64) -> impl Iterator<Item = &Operation> {
        self.state.finished.iter().filter(move |operation| {
            operation.status == Status::Failed
                && operation.id >= self.state.failures_seen_before
                && operation.finished_at.is_some_and(|at| unix_now.saturating_sub(at) < FAILED_SHOWN_SECONDS)
        })
    }

    /// Tables that some operation touches.
    fn busy_tables(&self) -> BTreeSet<&TableName> {
        let mut busy = BTreeSet::new();
        for operation in self.state.active() {
            busy.extend(operation.table());
            if let Some(group) = operation.group().and_then(|group| self.state.groups.get(group)) {
                busy.extend(group.shards.iter().map(|shard| &shard.table));
            }
        }
        let changes = self.state.tables.iter().filter(|(_, table)| table.status != TableStatus::Active);
        busy.extend(changes.map(|(name, _)| name));
        busy
    }

    pub(crate) fn rebalancing(&self, unix_now: u64) -> RebalancingMetrics {
        let total = self.state.tables.len() as u64;
        let busy = self.busy_tables();
        let idle = self.state.tables.keys().filter(|name| !busy.contains(name)).count() as u64;
        let window = self.config.settings.metrics_retention_days * 24 * 3600;
        let durations: Vec<f64> = self
            .state
            .finished
            .iter()
            .filter(|operation| operation.finished_at.is_some_and(|at| unix_now.saturating_sub(at) <= window))
            .filter_map(|operation| Some(operation.finished_at?.saturating_sub(operation.started_at?) as f64))
            .collect();
        let average =
            if durations.is_empty() { 0.0 } else { durations.iter().sum::<f64>() / durations.len() as f64 };
        let running = || self.state.active().filter(|operation| operation.status != Status::Queued);
        let longest = running().filter_map(|o| o.started_at).map(|at| unix_now.saturating_sub(at)).max();
        let last = self.state.rebalance.as_ref();
        RebalancingMetrics {
            total_tables: total,
            idle_tables: idle,
            running_operations: running().count() as u64,
            completed_operations: self.state.operations_completed,
            failed_operations: self.state.operations_failed,
            average_duration: average,
            longest_running: longest.unwrap_or(0) as f64,
            last_copies: last.map_or(0, |last| last.copies),
            last_lower_bound: last.map_or(0, |last| last.lower_bound),
            last_shard_copies: last.map_or(0, |last| last.shard_copies),
        }
    }

    pub(crate) fn queue(&self, unix_now: u64) -> QueueMetrics {
        let mut metrics = QueueMetrics::default();
        let mut waited = 0;
        for operation in self.state.active() {
            for step in operation.steps.iter().filter(|step| operation.is_open(step)) {
                metrics.total_queue_depth += 1;
                metrics.pending_commands += 1;
                waited += unix_now.saturating_sub(operation.created_at);
                if step.error.is_some() {
                    metrics.failed_commands += 1;
                }
                if let Some(node) = &step.node {
                    *metrics.queue_depth_by_node.entry(node.clone()).or_default() += 1;
                }
                *metrics.command_types.entry(step.work.class().to_owned()).or_default() += 1;
            }
        }
        if metrics.pending_commands > 0 {
            metrics.average_wait_time = waited as f64 / metrics.pending_commands as f64;
        }
        metrics
    }

    /// Shards by how whole they are: (`ok`, `degraded`, `broken`). By group, as the shards of one share their fate.
    pub fn shards_by_rf_status(&self) -> (u64, u64, u64) {
        let mut counts = (0, 0, 0);
        for (id, group) in &self.state.groups {
            let shards = group.shards.len() as u64;
            match self.rf_status(id, group) {
                "ok" => counts.0 += shards,
                "degraded" => counts.1 += shards,
                _ => counts.2 += shards,
            }
        }
        counts
    }

    /// By live node: connections from other users of its machine that its sidecar did not let in since it started.
    pub fn connections_refused(&self) -> BTreeMap<NodeId, u64> {
        let refused = |node: &NodeId| Some((node.clone(), self.machine(node)?.connections_refused));
        self.state.live_nodes().filter_map(refused).collect()
    }

    /// Live nodes whose sidecar does not answer, or is another's.
    pub fn sidecars_away(&self) -> u64 {
        self.state.live_nodes().filter(|node| !self.sidecar_is_ours(node)).count() as u64
    }

    pub(crate) fn cluster_metrics(&self, unix_now: u64) -> ClusterMetrics {
        let total = self.state.nodes.len() as u64;
        let active = self.state.nodes.keys().filter(|node| self.answers(node)).count() as u64;
        let hour_ago = unix_now.saturating_sub(3600);
        ClusterMetrics {
            total_nodes: total,
            active_nodes: active,
            inactive_nodes: total - active,
            cluster_health_percentage: if total == 0 { 100.0 } else { active as f64 * 100.0 / total as f64 },
            master_node: self.state.leader.clone(),
            cluster_hash: crate::hash::cluster_hash(self.state.live_nodes()),
            topology_changes_last_hour: self
                .state
                .topology_changes
                .iter()
                .filter(|at| **at >= hour_ago)
                .count() as u64,
        }
    }
}

pub(crate) fn rows(columns: &[&str], rows: Vec<Row>) -> StatementReply {
    StatementReply::Rows { columns: columns.iter().map(|&column| column.to_owned()).collect(), rows }
}

fn summary_of(operation: &Operation) -> OperationSummary {
    OperationSummary {
        id: operation.id.0,
        kind: operation.name().to_owned(),
        subject: operation.subject(),
        status: operation.status.as_str().to_owned(),
        steps_done: operation.steps.iter().filter(|step| step.status.lets_go_on()).count() as u64,
        steps_total: operation.steps.len() as u64,
        created_at: operation.created_at,
        finished_at: operation.finished_at,
        error: operation.error.clone(),
    }
}
