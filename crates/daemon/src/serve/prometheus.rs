//! The dashboard's figures in the Prometheus text format. Names are fixed: alerts and dashboards depend on them.

use super::api::{Shared, look};
use super::problem::ApiError;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::api::Dashboard;
use std::fmt::{Display, Write as _};

/// What the format is called.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let board = look(&shared, |controller, _, unix| controller.dashboard(unix)).await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text(&board)).into_response())
}

/// One page of metrics.
fn text(board: &Dashboard) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    status(&mut page, board);
    rebalancing(&mut page, board);
    queue(&mut page, board);
    cluster(&mut page, board);
    page.0
}

fn status(page: &mut Page, board: &Dashboard) {
    page.head("status", "gauge", "1 for the overall status that holds, 0 for the others.");
    for status in ["healthy", "warning", "critical"] {
        page.value("status", &[("status", status)], u8::from(board.overall_status == status));
    }
    page.head("alerts_firing", "gauge", "Alerts that fire now.");
    let mut firing = std::collections::BTreeMap::new();
    for alert in board.alerts.iter().filter(|alert| alert.state == "firing") {
        *firing.entry((alert.level.as_str(), alert.kind.as_str())).or_insert(0_u64) += 1;
    }
    for ((level, kind), count) in firing {
        page.value("alerts_firing", &[("level", level), ("type", kind)], count);
    }
}

fn rebalancing(page: &mut Page, board: &Dashboard) {
    let figures = &board.rebalancing;
    page.single("tables", "gauge", "Sharded tables.", figures.total_tables);
    page.single("tables_idle", "gauge", "Sharded tables that no operation touches.", figures.idle_tables);
    page.single("operations_running", "gauge", "Operations under way.", figures.running_operations);
    page.single("operations_completed_total", "counter", "Operations done.", figures.completed_operations);
    page.single("operations_failed_total", "counter", "Operations failed.", figures.failed_operations);
    page.single(
        "operation_duration_average_seconds",
        "gauge",
        "Average duration of finished operations in the retention window.",
        figures.average_duration,
    );
    page.single(
        "operation_longest_running_seconds",
        "gauge",
        "Age of the oldest running operation, 0 when none runs.",
        figures.longest_running,
    );
    page.single("rebalance_last_copies", "gauge", "Units copied by the last rebalance.", figures.last_copies);
    page.single(
        "rebalance_last_lower_bound",
        "gauge",
        "The fewest units that could have been copied by it.",
        figures.last_lower_bound,
    );
    page.single(
        "rebalance_last_shard_copies",
        "gauge",
        "Shard copies made by the last rebalance.",
        figures.last_shard_copies,
    );
}

fn queue(page: &mut Page, board: &Dashboard) {
    let figures = &board.queue;
    page.single("queue_depth", "gauge", "Commands not finished.", figures.total_queue_depth);
    page.single("queue_pending_commands", "gauge", "Commands not yet begun.", figures.pending_commands);
    page.single("queue_failed_commands", "gauge", "Commands that failed.", figures.failed_commands);
    page.single(
        "queue_wait_average_seconds",
        "gauge",
        "Average age of pending commands.",
        figures.average_wait_time,
    );
    page.head("queue_node_depth", "gauge", "Commands not finished, by node.");
    for (node, depth) in &figures.queue_depth_by_node {
        page.value("queue_node_depth", &[("node", node.as_str())], depth);
    }
    page.head("queue_commands", "gauge", "Commands not finished, by kind.");
    for (kind, count) in &figures.command_types {
        page.value("queue_commands", &[("type", kind)], count);
    }
}

fn cluster(page: &mut Page, board: &Dashboard) {
    let figures = &board.cluster;
    page.single("nodes", "gauge", "Nodes known.", figures.total_nodes);
    page.single("nodes_active", "gauge", "Nodes that work.", figures.active_nodes);
    page.single("nodes_inactive", "gauge", "Nodes that do not.", figures.inactive_nodes);
    page.single(
        "cluster_health_ratio",
        "gauge",
        "Share of nodes that work, 1 when there are none.",
        figures.cluster_health_percentage / 100.0,
    );
    page.single(
        "topology_changes_last_hour",
        "gauge",
        "Nodes that came or went within the last hour.",
        figures.topology_changes_last_hour,
    );
    page.head(
        "master_info",
        "gauge",
        "1, labelled with the controller that leads and the hash of its nodes.",
    );
    if let Some(master) = &figures.master_node {
        page.value("master_info", &[("node", master), ("cluster_hash", &figures.cluster_hash)], 1);
    }
}

struct Page(String);

impl Page {
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.value(name, &[], value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP shardwright_{name} {help}\n# TYPE shardwright_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "shardwright_{name}");
        for (index, (key, text)) in labels.iter().enumerate() {
            let open = if index == 0 { "{" } else { "," };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{open}{key}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::NodeId;
    use model::api::{Alert, ClusterMetrics, QueueMetrics, RebalancingMetrics};
    use std::collections::{BTreeMap, BTreeSet};

    fn board() -> Dashboard {
        let alert = Alert {
            level: "critical".into(),
            kind: "no_master".into(),
            message: String::new(),
            action: String::new(),
            since: 0,
            labels: BTreeMap::new(),
            state: "firing".into(),
        };
        let resolved = Alert { state: "resolved".into(), ..alert.clone() };
        Dashboard {
            timestamp: 1,
            overall_status: "critical".into(),
            rebalancing: RebalancingMetrics { average_duration: 1.5, ..Default::default() },
            queue: QueueMetrics {
                queue_depth_by_node: [(NodeId::new("h:1").expect("valid"), 2)].into(),
                command_types: [("a\"\\\n".to_owned(), 3)].into(),
                ..Default::default()
            },
            cluster: ClusterMetrics {
                cluster_health_percentage: 50.0,
                master_node: Some("m:1".into()),
                cluster_hash: "h".into(),
                ..Default::default()
            },
            alerts: vec![alert, resolved],
        }
    }

    #[test]
    fn every_sample_stands_under_its_own_help_and_type() {
        let text = text(&board());
        let mut described = BTreeSet::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                current = rest.split(' ').next().expect("a name").to_owned();
                assert!(described.insert(current.clone()), "twice: {current}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(rest.starts_with(&format!("{current} ")), "{line}");
                assert_eq!(current.ends_with("_total"), rest.ends_with(" counter"), "{line}");
            } else {
                assert_eq!(line.split([' ', '{']).next(), Some(current.as_str()), "{line}");
            }
        }
        for sample in [
            "shardwright_status{status=\"critical\"} 1",
            "shardwright_status{status=\"healthy\"} 0",
            "shardwright_alerts_firing{level=\"critical\",type=\"no_master\"} 1",
            "shardwright_operation_duration_average_seconds 1.5",
            "shardwright_queue_node_depth{node=\"h:1\"} 2",
            "shardwright_queue_commands{type=\"a\\\"\\\\\\n\"} 3",
            "shardwright_cluster_health_ratio 0.5",
            "shardwright_master_info{node=\"m:1\",cluster_hash=\"h\"} 1",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} not in\n{text}");
        }
    }
}
