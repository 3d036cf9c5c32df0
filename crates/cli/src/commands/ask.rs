//! Commands that ask a controller: tables, nodes, status.

use crate::api::Api;
use crate::args::{Common, TableCommand};
use crate::output::{self, CommandError, TextTable};
use model::api::{CreateTableBody, Dashboard, NodeList, RfBody, TableList, TableShow, Told};
use model::operate::Health;
use serde_json::json;
use std::fmt::Write;

pub fn api(common: &Common) -> Result<Api, CommandError> {
    Api::find(common.url.as_deref(), common.token_file.as_deref(), &common.tls())
}

pub async fn nodes(common: &Common) -> Result<(), CommandError> {
    output::print(common.output, &api(common)?.nodes().await?, nodes_text)
}

pub async fn status(common: &Common) -> Result<(), CommandError> {
    output::print(common.output, &api(common)?.dashboard().await?, status_text)
}

pub async fn health(common: &Common) -> Result<(), CommandError> {
    output::print(common.output, &api(common)?.health().await?, health_text)
}

pub async fn table(common: &Common, command: TableCommand) -> Result<(), CommandError> {
    let api = api(common)?;
    match command {
        TableCommand::List => output::print(common.output, &api.tables().await?, tables_text),
        TableCommand::Explain { name, shard } => {
            output::print(common.output, &api.explain(&name, shard).await?, told_text)
        }
        TableCommand::Show { name } => output::print(common.output, &api.table(&name).await?, table_text),
        TableCommand::Create { name, columns, shards, rf, timeout, if_not_exists } => {
            let body = CreateTableBody { name, columns, shards, rf, if_not_exists, timeout_seconds: timeout };
            output::print(common.output, &api.create_table(&body).await?, table_text)
        }
        TableCommand::SetRf { name, rf } => {
            output::print(common.output, &api.set_rf(&name, RfBody { rf }).await?, told_text)
        }
        TableCommand::Drop { name } => {
            api.drop_table(&name).await?;
            output::print(common.output, &json!({ "dropped": name }), |_| format!("table {name} is dropped"))
        }
    }
}

/// Rows as a table.
pub fn told_text(told: &Told) -> String {
    let mut table = TextTable::of(&told.columns);
    for row in &told.rows {
        table.row_of(row.iter().map(|value| or_dash(value.clone())));
    }
    table.to_string()
}

pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn nodes_text(list: &NodeList) -> String {
    let mut table = TextTable::new(["node", "state", "zone", "capacity", "copies", "groups"]);
    for node in &list.nodes {
        table.row([
            node.id.to_string(),
            node.state.clone(),
            or_dash(node.zone.clone()),
            node.capacity.to_string(),
            node.copies.to_string(),
            node.groups.to_string(),
        ]);
    }
    table.to_string()
}

fn tables_text(list: &TableList) -> String {
    let mut table = TextTable::new(["table", "cluster", "shards", "rf", "status", "documents"]);
    for one in &list.tables {
        table.row([
            one.name.to_string(),
            or_dash(one.cluster.clone()),
            one.shards.to_string(),
            one.rf.to_string(),
            one.status.clone(),
            or_dash(one.documents),
        ]);
    }
    table.to_string()
}

fn table_text(show: &TableShow) -> String {
    let mut text = tables_text(&TableList { tables: vec![show.summary.clone()] });
    let mut table = TextTable::new(["shard", "copies", "group"]);
    for shard in &show.placement {
        let copies: Vec<String> = shard
            .nodes
            .iter()
            .map(|copy| match copy.status.as_str() {
                "active" => copy.id.to_string(),
                status => format!("{} ({status})", copy.id),
            })
            .collect();
        table.row([shard.shard.to_string(), copies.join(", "), or_dash(shard.group.clone())]);
    }
    let _ = write!(text, "\n{table}");
    text
}

fn status_text(board: &Dashboard) -> String {
    let cluster = &board.cluster;
    let rebalancing = &board.rebalancing;
    let mut table = TextTable::new(["", ""]);
    let mut line = |what: &str, value: String| table.row([what.to_owned(), value]);
    line("status", board.overall_status.clone());
    line("nodes", format!("{} active of {}", cluster.active_nodes, cluster.total_nodes));
    line("health", format!("{:.0} %", cluster.cluster_health_percentage));
    line("leader", or_dash(cluster.master_node.clone()));
    line("tables", format!("{}, {} idle", rebalancing.total_tables, rebalancing.idle_tables));
    line(
        "operations",
        format!(
            "{} running, {} completed, {} failed",
            rebalancing.running_operations, rebalancing.completed_operations, rebalancing.failed_operations
        ),
    );
    line("queue", format!("{} commands", board.queue.total_queue_depth));
    line(
        "last rebalance",
        format!("{} groups copied, {} are the fewest", rebalancing.last_copies, rebalancing.last_lower_bound),
    );
    let mut text = table.to_string().trim_start().to_owned();
    // What is over is in `alerts`.
    for alert in board.alerts.iter().filter(|alert| alert.state == "firing") {
        let _ = write!(text, "\n{} {}: {}\n  {}", alert.level, alert.kind, alert.message, alert.action);
    }
    text
}

fn health_text(health: &Health) -> String {
    let mut table = TextTable::new(["check", "status", "message"]);
    for (name, check) in &health.checks {
        table.row([name.clone(), check.status.clone(), check.message.clone()]);
    }
    let mut text = format!("{}\n\n{table}", health.overall_status);
    for (what, lines) in
        [("issue", &health.issues), ("warning", &health.warnings), ("do", &health.recommendations)]
    {
        for line in lines {
            let _ = write!(text, "\n{what}: {line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::api::{Alert, CopyStatus, ShardPlacement, TableSummary};
    use model::{NodeId, TableName};

    #[test]
    fn the_status_names_what_fires_and_not_what_is_over() {
        let alert = |kind: &str, state: &str| Alert {
            level: "critical".into(),
            kind: kind.into(),
            message: String::new(),
            action: String::new(),
            since: 1_000,
            labels: std::collections::BTreeMap::new(),
            state: state.into(),
            silenced_until: None,
        };
        let text = status_text(&Dashboard {
            timestamp: 2_000,
            overall_status: "critical".into(),
            rebalancing: model::api::RebalancingMetrics::default(),
            queue: model::api::QueueMetrics::default(),
            cluster: model::api::ClusterMetrics::default(),
            alerts: vec![alert("no_quorum", "resolved"), alert("disk_full", "firing")],
        });
        assert!(text.contains("disk_full") && !text.contains("no_quorum"), "{text}");
    }

    #[test]
    fn a_table_is_shown_with_its_copies() {
        let id = |port: u16| NodeId::new(format!("127.0.0.1:{port}")).expect("valid");
        let show = TableShow {
            summary: TableSummary {
                name: TableName::new("t").expect("valid"),
                cluster: Some("c".into()),
                shards: 1,
                rf: 2,
                status: "idle".into(),
                documents: None,
            },
            placement: vec![ShardPlacement {
                shard: 0,
                group: None,
                nodes: vec![
                    CopyStatus { id: id(1), status: "active".into() },
                    CopyStatus { id: id(2), status: "pending".into() },
                ],
            }],
        };
        let text = table_text(&show);
        assert!(text.contains("127.0.0.1:1, 127.0.0.1:2 (pending)"), "{text}");
        assert!(text.lines().nth(1).is_some_and(|line| line.ends_with('-')), "{text}");
    }
}
