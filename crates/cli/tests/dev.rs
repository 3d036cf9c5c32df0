//! The life of a development cluster: ports and files, changes while it runs, and coming back after any end.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod common;

use cli::load::{Endpoint, Holdings};
use common::{Dev, first, json, sql};
use std::time::Duration;

async fn fill(nodes: &[Endpoint], documents: u32) {
    sql(&nodes[0], "CREATE TABLE c:t (title text, v int) shards='4' rf='2' timeout='120'")
        .await
        .expect("created");
    let values: Vec<String> = (1..=documents).map(|id| format!("({id},'document {id}',{id})")).collect();
    sql(&nodes[1], &format!("INSERT INTO t (id,title,v) VALUES {}", values.join(",")))
        .await
        .expect("written");
}

/// Every document in every copy, and the cluster as it must be.
async fn whole(nodes: &[Endpoint], documents: u32) {
    common::wait_for("a whole table", || async {
        let held = Holdings::look(nodes, "t").await.map_err(|fault| fault.to_string())?;
        if let Some(missing) = held.missing("t", 4, 2) {
            return Err(missing);
        }
        for node in nodes {
            let count =
                sql(node, "SELECT COUNT(*), SUM(v) FROM t").await.map_err(|fault| fault.to_string())?;
            let expected =
                [documents, documents * (documents + 1) / 2].map(|number| Some(number.to_string()));
            if count != [expected.clone()] {
                return Err(format!("{} counts {count:?}, not {expected:?}", node.node));
            }
        }
        for shard in 0..4 {
            let mut counts = Vec::new();
            for node in nodes.iter().filter(|node| held.holders(shard).contains(&node.node)) {
                let rows = sql(node, &format!("SELECT COUNT(*) FROM system.t_s{shard}")).await;
                counts.push(first(rows.map_err(|fault| fault.to_string())?));
            }
            if counts.windows(2).any(|pair| pair[0] != pair[1]) {
                return Err(format!("copies of shard {shard} count {counts:?}"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_go_and_die_under_one_hand() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 3);
    let file = dev.file();
    assert!(file.token_file.exists() && file.api.starts_with("http://127.0.0.1:"));
    assert_eq!(file.nodes.len(), 3);
    for node in &file.nodes {
        assert_eq!(node.id.as_str(), node.http);
        let alive = std::path::Path::new(&format!("/proc/{}", node.pid.expect("it runs"))).exists();
        assert!(alive, "{node:?}");
    }
    let second = common::run(&["--output", "json", "dev", "--dir", &dir.path().display().to_string()]);
    assert_eq!(second.status.code(), Some(3), "{}", json(&second));
    fill(&dev.endpoints(), 100).await;

    let added = dev.change(&["add"]);
    assert!(added.status.success(), "{}", json(&added));
    let fourth = json(&added)["node"].as_str().expect("an id").to_owned();
    assert_eq!(dev.endpoints().len(), 4);
    whole(&dev.endpoints(), 100).await;

    assert!(dev.change(&["kill", &fourth]).status.success());
    assert_eq!(dev.endpoints().len(), 3);
    assert_eq!(dev.file().nodes[3].pid, None);
    let again = dev.change(&["kill", "4"]);
    assert_eq!(again.status.code(), Some(3), "{}", json(&again));
    assert_eq!(dev.change(&["kill", "9"]).status.code(), Some(2));
    whole(&dev.endpoints(), 100).await;

    assert!(dev.change(&["start", "4"]).status.success());
    assert_eq!(dev.change(&["start", "4"]).status.code(), Some(3));
    whole(&dev.endpoints(), 100).await;

    // The gate needs the controller, and who waits at the gate starts it again.
    for _ in 0..3 {
        assert!(dev.change(&["stop", "2"]).status.success());
        whole(&dev.endpoints(), 100).await;
        dev.kill_controller();
        let started = dev.change(&["start", "2"]);
        assert!(started.status.success(), "{}", json(&started));
    }

    // Killed from outside: it is noticed and stays down until it is started by hand.
    let victim = dev.file().nodes[0].clone();
    common::signal(victim.pid.expect("it runs"), "KILL");
    common::wait("the loss to be noticed", || {
        let pid = dev.file().nodes[0].pid;
        if pid.is_none() { Ok(()) } else { Err(format!("{pid:?}")) }
    });
    whole(&dev.endpoints(), 100).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(dev.file().nodes[0].pid, None, "it came back by itself");
    assert!(dev.change(&["start", victim.id.as_str()]).status.success());
    whole(&dev.endpoints(), 100).await;
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_back_after_a_clean_stop_and_after_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 3);
    let first_start = dev.file();
    fill(&dev.endpoints(), 50).await;
    dev.stop();

    let dev = Dev::start(dir.path(), 3);
    let ids =
        |file: &cli::dev::ClusterFile| file.nodes.iter().map(|node| node.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&dev.file()), ids(&first_start));
    whole(&dev.endpoints(), 50).await;
    sql(&dev.endpoints()[2], "INSERT INTO t (id,title,v) VALUES (51,'after a stop',51)")
        .await
        .expect("written");
    whole(&dev.endpoints(), 51).await;

    // Everything at once, with no time to say goodbye.
    dev.kill();
    let dev = Dev::start(dir.path(), 3);
    whole(&dev.endpoints(), 51).await;
    sql(&dev.endpoints()[0], "INSERT INTO t (id,title,v) VALUES (52,'after a crash',52)")
        .await
        .expect("written");
    whole(&dev.endpoints(), 52).await;

    // A node that was stopped by hand stays down over a restart, and finds its way back.
    assert!(dev.change(&["stop", "1"]).status.success());
    whole(&dev.endpoints(), 52).await;
    dev.stop();
    let dev = Dev::start(dir.path(), 3);
    assert_eq!(dev.endpoints().len(), 2);
    whole(&dev.endpoints(), 52).await;
    assert!(dev.change(&["start", "1"]).status.success());
    whole(&dev.endpoints(), 52).await;
    dev.stop();
}

/// Every node killed one after the other under `dev`, and started: no group may begin by itself. Stopped cleanly like
/// that, the directory must still come up.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_groups_were_lost_as_a_whole_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 3);
    fill(&dev.endpoints(), 40).await;
    whole(&dev.endpoints(), 40).await;
    for node in ["1", "2", "3"] {
        assert!(dev.change(&["kill", node]).status.success());
    }
    for node in ["1", "2", "3"] {
        assert!(dev.change(&["start", node]).status.success());
    }
    dev.stop();
    let dev = Dev::start(dir.path(), 3);
    whole(&dev.endpoints(), 40).await;
    sql(&dev.endpoints()[0], "INSERT INTO t (id,title,v) VALUES (41,'after all that',41)")
        .await
        .expect("written");
    whole(&dev.endpoints(), 41).await;
    dev.stop();
}

#[test]
fn a_start_that_is_interrupted_leaves_nothing_running() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::begin(dir.path(), 3);
    common::wait("some process", || {
        let found = common::processes_of(dir.path());
        if found.len() > 2 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    dev.stop();
}
