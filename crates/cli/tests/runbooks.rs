//! An operator's walk through the runbooks (a node lost, a node added, an operation that does not go on), with nothing
//! but the binary: what `health` says to type is typed, word for word.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use common::{Dev, json, sql, wait};
use serde_json::Value;

const DOCUMENTS: u32 = 300;

/// Standard output of a command that must be done.
fn done(dev: &Dev, arguments: &[&str]) -> Value {
    let output = dev.ask(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", json(&output));
    json(&output)
}

fn health(dev: &Dev) -> Value {
    done(dev, &["health"])
}

/// The commands among the recommendations, without the program's name.
fn commands(health: &Value) -> Vec<Vec<String>> {
    let texts = health["recommendations"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let quoted = texts.flat_map(|text| text.split('`').skip(1).step_by(2));
    let ours = quoted.filter_map(|command| command.strip_prefix("shardwright "));
    ours.map(|command| command.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Types what `health` recommends and begins with `words`, as soon as it does.
fn type_recommended(dev: &Dev, words: &[&str]) {
    let command = wait("the recommendation", || {
        let seen = health(dev);
        let found = commands(&seen)
            .into_iter()
            .find(|command| words.iter().zip(command).all(|(word, typed)| *word == typed.as_str()));
        found.ok_or_else(|| seen.to_string())
    });
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    done(dev, &command);
}

fn node_state(dev: &Dev, node: &str) -> Option<Value> {
    let list = done(dev, &["node", "list"]);
    list["nodes"].as_array().expect("a list").iter().find(|one| one["id"] == node).cloned()
}

fn whole(dev: &Dev) {
    wait("a healthy table", || {
        let seen = health(dev);
        let copies = &seen["checks"]["copies"]["status"];
        let table = done(dev, &["table", "show", "t"]);
        let pending = table["status"] != "idle";
        if copies == "ok" && !pending { Ok(()) } else { Err(format!("{seen} {table}")) }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runbooks_of_lost_and_added_nodes_and_stuck_operations_lead_back_to_health() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 3);
    let nodes = dev.endpoints();
    sql(&nodes[0], "CREATE TABLE c:t (title text, v int) shards='6' rf='2' timeout='120'")
        .await
        .expect("created");
    let values: Vec<String> = (1..=DOCUMENTS).map(|id| format!("({id},'document {id}',{id})")).collect();
    sql(&nodes[0], &format!("INSERT INTO t (id,title,v) VALUES {}", values.join(",")))
        .await
        .expect("written");
    whole(&dev);
    let calm = health(&dev);
    assert_eq!(calm["overall_status"], "healthy", "{calm}");
    assert_eq!((calm["issues"].as_array().map(Vec::len), commands(&calm).len()), (Some(0), 0), "{calm}");
    // What sidecars see of their machines reaches the plans.
    wait("sizes and disks", || {
        let plan = done(&dev, &["rebalance", "plan", "t"]);
        let disks = &health(&dev)["checks"]["disks"];
        let known = plan["preflight"]["can_proceed"] == true && disks["status"] == "ok";
        if known { Ok(()) } else { Err(format!("{plan} {disks}")) }
    });

    // A node is lost, and will not be back.
    let lost = nodes[2].node.to_string();
    assert!(dev.change(&["kill", &lost]).status.success());
    wait("the loss", || match node_state(&dev, &lost) {
        Some(node) if node["state"] == "lost" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Alerts are looked at once a second.
    wait("the alert", || {
        let seen = health(&dev);
        if seen["overall_status"] == "healthy" { Err(seen.to_string()) } else { Ok(()) }
    });
    wait("copies elsewhere", || {
        let copies = health(&dev)["checks"]["copies"].clone();
        if copies["status"] == "ok" { Ok(()) } else { Err(copies.to_string()) }
    });
    type_recommended(&dev, &["node", "remove", &lost]);
    assert!(node_state(&dev, &lost).is_none(), "it is no member any more");

    // A node is added; moves are held, so nothing goes on.
    assert_eq!(done(&dev, &["rebalance", "pause", "t"])["status"], "paused");
    let added = json(&dev.change(&["add"]));
    let added = added["node"].as_str().expect("an id").to_owned();
    wait("the new node", || match node_state(&dev, &added) {
        Some(node) if node["state"] == "active" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let plan = wait("a plan with sizes", || {
        let plan = done(&dev, &["rebalance", "plan", "t"]);
        let all = plan["bytes"].as_u64() > Some(0) && plan["preflight"]["can_proceed"] == true;
        if all { Ok(plan) } else { Err(plan.to_string()) }
    });
    assert!(plan["groups"].as_u64() > Some(0) && plan["tables"] == serde_json::json!(["t"]), "{plan}");
    assert!(plan["expected_write_stall_ms"].is_u64() && plan["eta_seconds"].is_u64(), "{plan}");
    assert_eq!(done(&dev, &["rebalance", "status", "t"])["status"], "paused");
    type_recommended(&dev, &["rebalance", "resume", "t"]);
    let progress = wait("the moves", || {
        let progress = done(&dev, &["rebalance", "status", "t"]);
        let filled = node_state(&dev, &added).is_some_and(|node| node["copies"].as_u64() > Some(0));
        if filled && progress["status"] == "completed" { Ok(progress) } else { Err(progress.to_string()) }
    });
    assert_eq!(progress["transfers_done"], progress["transfers_total"], "{progress}");
    assert_eq!(
        (&progress["progress_percentage"], &progress["estimated_completion"]),
        (&100.0.into(), &Value::Null)
    );
    whole(&dev);

    // Refusals, and the orders for what is stuck.
    let refused = dev.ask(&["rebalance", "start", "unknown"]);
    let told = json(&refused);
    assert_eq!((refused.status.code(), &told["reason"]), (Some(3), &"preflight_failed".into()), "{told}");
    assert_eq!(told["details"]["checks"].as_object().map(serde_json::Map::len), Some(5), "{told}");
    assert_eq!(told["details"]["checks"]["table_exists"], false);
    let started = done(&dev, &["rebalance", "start", "t"]);
    assert_eq!((&started["success"], &started["operation"]), (&true.into(), &Value::Null), "{started}");
    assert_eq!(done(&dev, &["rebalance", "reset", "t"])["success"], true);
    let report = done(&dev, &["recover"]);
    // What real nodes are advised to set is no issue of this cluster's.
    let issues: Vec<String> =
        serde_json::from_value(report["issues_remaining"].clone()).unwrap_or_else(|_| panic!("{report}"));
    assert!(issues.iter().all(|issue| issue.starts_with("node_settings: ")), "{report}");
    for field in ["timestamp", "actions_taken", "tables_recovered"] {
        assert!(!report[field].is_null(), "{report}");
    }
    assert_eq!(done(&dev, &["cleanup"])["failed_operation_groups"], 0);

    // The same over SQL, and nothing was lost on the way.
    let nodes = dev.endpoints();
    let rows = sql(&nodes[0], "REBALANCE TABLE t STATUS").await.expect("told");
    assert_eq!(rows[0][1].as_deref(), Some("completed"), "{rows:?}");
    for node in &nodes {
        let found = sql(node, "SELECT COUNT(*) FROM t").await.expect("counted");
        assert_eq!(found, [[Some(DOCUMENTS.to_string())]], "{}", node.node);
    }
    dev.stop();
}
