//! `GET /metrics`: the dashboard's figures and the meters. Names are fixed: alerts and dashboards depend on them.

use super::api::Shared;
use super::board::{self, Board};
use super::certificates;
use super::exposition::{Format, Kind, Page};
use super::problem::ApiError;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use model::api::Dashboard;
use std::collections::BTreeMap;

pub(super) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, ApiError> {
    let format = Format::wanted(&headers);
    let board = board::whole(&shared).await?;
    let mut page = text(&board, format);
    shared.watchers.meters.show(&mut page);
    let (lines, failures) = shared.audit.figures();
    page.single("audit_lines_total", Kind::Counter, "Lines of this controller's audit log, ever.", lines);
    let help = "Writes to the audit log that failed, since the start of this process.";
    page.single("audit_failures_total", Kind::Counter, help, failures);
    certificates::show(&shared.certificates, &mut page);
    let clients = "Clients of the event stream.";
    page.single("event_stream_clients", Kind::Gauge, clients, shared.events.clients());
    Ok(([(header::CONTENT_TYPE, format.content_type())], page.end()).into_response())
}

/// Everything that is read from the control state.
pub(super) fn text(board: &Board, format: Format) -> Page {
    let mut page = Page::new(format);
    status(&mut page, &board.dashboard);
    rebalancing(&mut page, &board.dashboard);
    let help = "Bytes of groups copied onto other nodes, since the start of this process.";
    page.single("transfer_bytes_total", Kind::Counter, help, board.transferred_bytes);
    queue(&mut page, &board.dashboard);
    cluster(&mut page, board);
    page
}

fn gauge(page: &mut Page, name: &str, help: &str, value: impl std::fmt::Display) {
    page.single(name, Kind::Gauge, help, value);
}

fn status(page: &mut Page, board: &Dashboard) {
    page.family("build_info", Kind::Gauge, "1, labelled with the version.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("status", Kind::Gauge, "1 for the overall status that holds, 0 for the others.");
    for status in ["healthy", "warning", "critical"] {
        page.sample("status", &[("status", status)], u8::from(board.overall_status == status));
    }
    page.family("alerts_firing", Kind::Gauge, "Alerts that fire now, silenced ones too.");
    let mut firing = BTreeMap::new();
    for alert in board.alerts.iter().filter(|alert| alert.state == "firing") {
        *firing.entry((alert.level.as_str(), alert.kind.as_str())).or_insert(0_u64) += 1;
    }
    for ((level, kind), count) in firing {
        page.sample("alerts_firing", &[("level", level), ("type", kind)], count);
    }
}

fn rebalancing(page: &mut Page, board: &Dashboard) {
    let figures = &board.rebalancing;
    gauge(page, "tables", "Sharded tables.", figures.total_tables);
    gauge(page, "tables_idle", "Sharded tables that no operation touches.", figures.idle_tables);
    gauge(page, "operations_running", "Operations under way.", figures.running_operations);
    let done = figures.completed_operations;
    page.single("operations_completed_total", Kind::Counter, "Operations done, ever.", done);
    let failed = figures.failed_operations;
    page.single("operations_failed_total", Kind::Counter, "Operations failed, ever.", failed);
    let help = "Average duration of finished operations in the retention window.";
    gauge(page, "operation_duration_average_seconds", help, figures.average_duration);
    let help = "Age of the oldest running operation, 0 when none runs.";
    gauge(page, "operation_longest_running_seconds", help, figures.longest_running);
    gauge(page, "rebalance_last_copies", "Units copied by the last rebalance.", figures.last_copies);
    let help = "The fewest units that could have been copied by it.";
    gauge(page, "rebalance_last_lower_bound", help, figures.last_lower_bound);
    let help = "Shard copies made by the last rebalance.";
    gauge(page, "rebalance_last_shard_copies", help, figures.last_shard_copies);
}

fn queue(page: &mut Page, board: &Dashboard) {
    let figures = &board.queue;
    gauge(page, "queue_depth", "Commands not finished.", figures.total_queue_depth);
    gauge(page, "queue_pending_commands", "Commands not finished.", figures.pending_commands);
    gauge(page, "queue_failed_commands", "Commands whose last try failed.", figures.failed_commands);
    let help = "Average age of pending commands.";
    gauge(page, "queue_wait_average_seconds", help, figures.average_wait_time);
    page.family("queue_node_depth", Kind::Gauge, "Commands not finished, by node.");
    for (node, depth) in &figures.queue_depth_by_node {
        page.sample("queue_node_depth", &[("node", node.as_str())], depth);
    }
    page.family("queue_commands", Kind::Gauge, "Commands not finished, by kind.");
    for (kind, count) in &figures.command_types {
        page.sample("queue_commands", &[("type", kind)], count);
    }
}

fn cluster(page: &mut Page, board: &Board) {
    let figures = &board.dashboard.cluster;
    gauge(page, "nodes", "Nodes known.", figures.total_nodes);
    gauge(page, "nodes_active", "Nodes that answer.", figures.active_nodes);
    gauge(page, "nodes_inactive", "Nodes that do not.", figures.inactive_nodes);
    let help = "Share of nodes that answer, 1 when there are none.";
    gauge(page, "cluster_health_ratio", help, figures.cluster_health_percentage / 100.0);
    let help = "Nodes that came or went within the last hour.";
    gauge(page, "topology_changes_last_hour", help, figures.topology_changes_last_hour);
    page.family(
        "master_info",
        Kind::Gauge,
        "1, labelled with the controller that leads and the hash of its nodes.",
    );
    if let Some(master) = &figures.master_node {
        page.sample("master_info", &[("node", master), ("cluster_hash", &figures.cluster_hash)], 1);
    }
    let help = "Live nodes whose sidecar does not answer: nothing can be changed on them.";
    gauge(page, "sidecars_away", help, board.sidecars_away);
    let help = "Connections from other users of a node's machine that its sidecar did not let in.";
    page.family("sidecar_connections_refused_total", Kind::Counter, help);
    for (node, count) in &board.connections_refused {
        page.sample("sidecar_connections_refused_total", &[("node", node.as_str())], count);
    }
    gauge(page, "moves_held", "1 while an operator holds moves back.", u8::from(board.moves_held));
    page.family(
        "shards",
        Kind::Gauge,
        "Shards by how many of their copies are whole: ok all, degraded some, broken none.",
    );
    let (ok, degraded, broken) = board.shards;
    for (status, count) in [("ok", ok), ("degraded", degraded), ("broken", broken)] {
        page.sample("shards", &[("rf_status", status)], count);
    }
    gauge(page, "leader_epoch", "Counts leaders, over all restarts.", board.epoch);
    gauge(page, "log_last_record", "The last record of the control log.", board.last);
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::NodeId;
    use model::api::{Alert, ClusterMetrics, QueueMetrics, RebalancingMetrics};
    use std::collections::BTreeSet;

    fn board() -> Board {
        let alert = Alert {
            level: "critical".into(),
            kind: "no_master".into(),
            message: String::new(),
            action: String::new(),
            since: 0,
            labels: BTreeMap::new(),
            state: "firing".into(),
            silenced_until: None,
        };
        let resolved = Alert { state: "resolved".into(), ..alert.clone() };
        let dashboard = Dashboard {
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
        };
        let connections_refused = [(NodeId::new("h:1").expect("valid"), 4)].into();
        Board { dashboard, shards: (5, 1, 0), connections_refused, ..Board::default() }
    }

    #[test]
    fn every_sample_stands_under_its_own_help_and_type() {
        let text = text(&board(), Format::Prometheus).end();
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
            "shardwright_sidecar_connections_refused_total{node=\"h:1\"} 4",
            "shardwright_alerts_firing{level=\"critical\",type=\"no_master\"} 1",
            "shardwright_operation_duration_average_seconds 1.5",
            "shardwright_queue_node_depth{node=\"h:1\"} 2",
            "shardwright_queue_commands{type=\"a\\\"\\\\\\n\"} 3",
            "shardwright_cluster_health_ratio 0.5",
            "shardwright_master_info{node=\"m:1\",cluster_hash=\"h\"} 1",
            "shardwright_shards{rf_status=\"degraded\"} 1",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} not in\n{text}");
        }
    }

    #[test]
    fn counters_are_described_without_their_suffix_in_openmetrics() {
        let text = text(&board(), Format::OpenMetrics).end();
        assert!(text.contains(
            "# TYPE shardwright_operations_failed counter\nshardwright_operations_failed_total 0\n"
        ));
        assert!(text.ends_with("# EOF\n"));
    }
}
