//! What a person, a script and a client on a node see of a cluster that is watched.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use cli::load::Endpoint;
use common::{Dev, first, json, refusal, sql, wait};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_watched_from_all_sides() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev =
        Dev::start_with(dir.path(), 3, &[("SHARDWRIGHT_LOG_FORMAT", "json"), ("SHARDWRIGHT_LOG", "debug")]);
    let nodes = dev.endpoints();
    sql(&nodes[1], "CREATE TABLE c:t (title text) shards='4' rf='2'").await.expect("created");
    the_control_state_is_readable_by_select(&nodes).await;
    figures_have_their_names(&dev);
    an_alert_begins_and_ends(&dev, &nodes[0]).await;
    every_line_of_an_operation_has_its_id(dir.path());
    dev.stop();
}

async fn the_control_state_is_readable_by_select(nodes: &[Endpoint]) {
    for node in nodes {
        let keys = first(sql(node, "SELECT key FROM system.sharding_state").await.expect("rows"));
        let kinds: BTreeSet<&str> = keys.iter().filter_map(|key| key.split(':').next()).collect();
        for kind in ["master", "cluster", "cluster_hash", "node", "table"] {
            assert!(kinds.contains(kind), "{}: {keys:?}", node.node);
        }
        let one =
            sql(node, "SELECT value FROM system.sharding_state WHERE key='cluster'").await.expect("rows");
        assert_eq!(one, [[Some("c".to_owned())]]);
        let all = sql(node, "SELECT * FROM system.sharding_table").await.expect("rows");
        assert!(all.iter().all(|row| row.len() == 4 && row[0].as_deref() == Some("c")), "{all:?}");
        let copies: usize = all.iter().filter_map(|row| Some(row[3].as_ref()?.split(',').count())).sum();
        assert_eq!(copies, 8, "{all:?}");
        let waiting = "SELECT COUNT(*) FROM system.sharding_queue WHERE tries >= 0";
        assert_eq!(sql(node, waiting).await.expect("a number").len(), 1);
        let message = refusal(node, "SELECT colour FROM system.sharding_queue").await;
        assert!(message.contains("unknown column: 'colour'; there are id, node, query"), "{message}");
    }
}

fn figures_have_their_names(dev: &Dev) {
    let metrics = json(&dev.ask(&["metrics"]));
    assert_eq!(metrics["rebalancing"]["total_tables"], 1);
    assert_eq!(metrics["cluster"]["cluster_health_percentage"], 100.0);
    assert!(metrics["queue"]["queue_depth_by_node"].is_object(), "{metrics}");
    assert_eq!(json(&dev.ask(&["alerts"]))["alerts"], Value::Array(Vec::new()));
    assert_eq!(json(&dev.ask(&["status"]))["overall_status"], "healthy");
}

async fn an_alert_begins_and_ends(dev: &Dev, node: &Endpoint) {
    assert!(dev.change(&["kill", "3"]).status.success());
    let of_nodes = |state: &'static str| {
        move || {
            let alerts = json(&dev.ask(&["alerts"]));
            let is_it = |alert: &&Value| alert["type"] == "degraded_cluster" && alert["state"] == state;
            alerts["alerts"]
                .as_array()
                .and_then(|all| all.iter().find(is_it).cloned())
                .ok_or(alerts.to_string())
        }
    };
    let began = wait("an alert for the node", of_nodes("firing"));
    assert!(began["message"].as_str().is_some_and(|text| text.starts_with("2/3 nodes answer")), "{began}");
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    assert_eq!(wait("the alert", of_nodes("firing"))["since"], began["since"], "it began once");
    let shown = sql(node, "SHOW SHARDING ALERTS").await.expect("rows");
    let since = began["since"].as_u64().map(|since| since.to_string());
    assert!(
        shown.iter().any(|row| row[1].as_deref() == Some("degraded_cluster") && row[4] == since),
        "{shown:?}"
    );
    let started = dev.change(&["start", "3"]);
    assert!(started.status.success(), "{}", json(&started));
    assert_eq!(wait("the end of the alert", of_nodes("resolved"))["since"], began["since"]);
}

/// Whatever says which step it is about says of which operation.
fn every_line_of_an_operation_has_its_id(dir: &Path) {
    let (mut lines, mut of_operations) = (0, 0);
    for entry in std::fs::read_dir(dir.join("logs")).expect("logs").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a log");
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let has = |name: &str| line.get(name).is_some() || line["span"].get(name).is_some();
            let belongs = has("step") || has("attempt") || line["message"] == "queued";
            assert!(!belongs || has("operation"), "{}: {line}", entry.path().display());
            lines += 1;
            of_operations += u32::from(belongs);
        }
    }
    assert!(lines > 20 && of_operations > 10, "{lines} lines, {of_operations} of operations");
}
