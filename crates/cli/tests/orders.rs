//! What operators order, through the binary and by statements: nodes drained and removed, moves held and made by hand.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use cli::load::{Endpoint, Holdings};
use common::{Dev, json, refusal, sql};
use serde_json::Value;

const DOCUMENTS: u32 = 200;

async fn fill(nodes: &[Endpoint]) {
    sql(&nodes[0], "CREATE TABLE c:t (title text, v int) shards='8' rf='2' timeout='120'")
        .await
        .expect("created");
    let values: Vec<String> = (1..=DOCUMENTS).map(|id| format!("({id},'document {id}',{id})")).collect();
    sql(&nodes[0], &format!("INSERT INTO t (id,title,v) VALUES {}", values.join(",")))
        .await
        .expect("written");
}

/// Every node counts every document, and every shard has both copies.
async fn whole(nodes: &[Endpoint]) {
    common::wait_for("a whole table", || async {
        let held = Holdings::look(nodes, "t").await.map_err(|fault| fault.to_string())?;
        if let Some(missing) = held.missing("t", 8, 2) {
            return Err(missing);
        }
        for node in nodes {
            let found = sql(node, "SELECT COUNT(*) FROM t").await.map_err(|fault| fault.to_string())?;
            if found != [[Some(DOCUMENTS.to_string())]] {
                return Err(format!("{} counts {found:?}", node.node));
            }
        }
        Ok(())
    })
    .await;
}

fn state_of(dev: &Dev, node: &str) -> String {
    let list = json(&dev.ask(&["node", "list"]));
    let nodes = list["nodes"].as_array().expect("a list").clone();
    nodes
        .iter()
        .find(|one| one["id"] == node)
        .map_or("none".to_owned(), |one| one["state"].as_str().expect("a state").to_owned())
}

fn status(dev: &Dev) -> Value {
    json(&dev.ask(&["rebalance", "status", "t"]))["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_and_removed_while_moves_are_held_and_let_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 4);
    let nodes = dev.endpoints();
    fill(&nodes).await;
    whole(&nodes).await;

    let leaving = nodes[3].node.to_string();
    let early = dev.ask(&["node", "remove", &leaving]);
    assert_eq!(early.status.code(), Some(3), "{}", json(&early));
    assert!(json(&early)["error"]["message"].as_str().is_some_and(|text| text.contains("DRAIN NODE")));
    assert_eq!(dev.ask(&["node", "drain", "127.0.0.1:1"]).status.code(), Some(3), "an unknown node");

    assert!(dev.ask(&["rebalance", "pause", "t"]).status.success());
    sql(&nodes[1], &format!("DRAIN NODE '{leaving}'")).await.expect("ordered");
    assert_eq!(state_of(&dev, &leaving), "draining");
    assert_eq!(status(&dev), "paused");
    let plan = json(&dev.ask(&["rebalance", "plan", "t"]));
    assert!(plan["moves"].as_array().is_some_and(|moves| !moves.is_empty()), "{plan}");

    assert!(dev.ask(&["rebalance", "resume", "t"]).status.success());
    common::wait("an empty node", || {
        let state = state_of(&dev, &leaving);
        if state == "drained" { Ok(()) } else { Err(state) }
    });
    assert!(dev.ask(&["node", "remove", &leaving]).status.success());
    assert_eq!(state_of(&dev, &leaving), "none");
    whole(&nodes[..3]).await;
    let gone = sql(&nodes[3], "SELECT COUNT(*) FROM t").await;
    assert!(gone.is_err(), "a removed node routes nothing: {gone:?}");
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_moved_by_hand_and_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 3);
    let nodes = dev.endpoints();
    fill(&nodes).await;
    whole(&nodes).await;
    let show = json(&dev.ask(&["table", "show", "t"]));
    let holders: Vec<String> = show["placement"][0]["nodes"]
        .as_array()
        .expect("copies")
        .iter()
        .map(|copy| copy["id"].as_str().expect("an id").to_owned())
        .collect();
    let free = nodes.iter().map(|node| node.node.to_string()).find(|node| !holders.contains(node));
    let free = free.expect("two of three hold it");
    let by_sql = format!("MOVE SHARD t 0 FROM '{}' TO '{free}'", holders[0]);
    let same = format!("MOVE SHARD t 0 FROM '{}' TO '{}'", holders[0], holders[1]);
    assert!(refusal(&nodes[2], &same).await.contains("already"));
    assert!(
        refusal(&nodes[2], "MOVE SHARD t 8 FROM '127.0.0.1:1' TO '127.0.0.1:2'").await.contains("0 to 7")
    );
    assert!(dev.ask(&["rebalance", "pause", "t"]).status.success());
    sql(&nodes[2], &by_sql).await.expect("ordered");
    assert!(dev.ask(&["rebalance", "resume", "t"]).status.success());
    let api = cli::api::Api::at(&dev.file().api, None, &daemon::tls::ClientTls::default()).expect("a URL");
    common::wait_for("the move", || async {
        let found = api.operations().await.map_err(|error| error.message)?.operations;
        let done = found.iter().any(|one| {
            (one.kind.as_str(), one.status.as_str()) == ("move", "done") && one.subject.ends_with(&free)
        });
        if done { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    whole(&nodes).await;
    let explained = json(&dev.ask(&["table", "explain", "t", "0"]));
    assert!(explained["rows"].as_array().is_some_and(|rows| rows.len() == 2), "{explained}");
    dev.stop();
}
