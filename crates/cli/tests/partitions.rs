//! Three controllers on one etcd and three embedded nodes, each on a host of its own in a network of its own. Links are
//! cut under writers: of a node, between two nodes, of the leading controller. Nothing that was acknowledged is lost,
//! and when the links are back everything becomes whole.
// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured and skipped must be seen")]

mod common;
#[path = "../../store/tests/common/mod.rs"]
mod etcd;
mod kept;
mod net;
mod trio;

use common::{sql, wait_for};
use etcd::Etcd;
use kept::{Load, taken_over, whole};
use std::time::{Duration, Instant};
use trio::Trio;

/// Longer than silence takes to prove a loss, and than a node may be away in development.
const CUT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_from_all_is_done_without_and_comes_back() {
    let Some(net) = net::own("a_node_that_is_cut_off_from_all_is_done_without_and_comes_back") else {
        return;
    };
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let trio = Trio::start_on(dir.path(), &etcd, Some(net)).await;
    let load = Load::start(&trio).await;
    let before = load.acknowledged();
    trio.net().cut_off(trio::host_of_node(0));
    // The others go on without it.
    let cut = Instant::now();
    wait_for("writes without the node", || async {
        let after = load.acknowledged();
        let enough = cut.elapsed() > CUT && after > before + 20;
        if enough { Ok(()) } else { Err(format!("{after} acknowledged, {before} before")) }
    })
    .await;
    trio.net().reconnect(trio::host_of_node(0));
    trio.wait_until_calm().await;
    whole(&trio, "kept", kept::SHARDS).await;
    load.end_with_faults(&trio).await;
    trio.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_do_not_hear_each_other_lose_nothing() {
    let Some(net) = net::own("two_nodes_that_do_not_hear_each_other_lose_nothing") else { return };
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let trio = Trio::start_on(dir.path(), &etcd, Some(net)).await;
    let load = Load::start(&trio).await;
    trio.net().cut_between(trio::host_of_node(0), trio::host_of_node(1));
    tokio::time::sleep(CUT).await;
    trio.net().mend_between(trio::host_of_node(0), trio::host_of_node(1));
    trio.wait_until_calm().await;
    whole(&trio, "kept", kept::SHARDS).await;
    load.end_with_faults(&trio).await;
    trio.end();
}

/// The controllers hear it as before, so that they have to ask whom the others reach. Its name is the lowest.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_only_controllers_reach_is_given_no_group_of_the_others() {
    let Some(net) = net::own("a_node_that_only_controllers_reach_is_given_no_group_of_the_others") else {
        return;
    };
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let trio = Trio::start_on(dir.path(), &etcd, Some(net)).await;
    let load = Load::start(&trio).await;
    let nodes = trio.endpoints();
    let create = "CREATE TABLE c:others (title text) shards='4' rf='2' timeout='120'";
    sql(&nodes[0], create).await.expect("created");
    let alone = (0..nodes.len()).min_by_key(|at| nodes[*at].node.clone()).expect("nodes");
    let others: Vec<usize> = (0..nodes.len()).filter(|at| *at != alone).collect();
    for other in &others {
        trio.net().cut_between(trio::host_of_node(alone), trio::host_of_node(*other));
    }
    let cut = Instant::now();
    wait_for("an alert", || async {
        let leader = trio.leader().await.ok_or("nobody leads")?;
        let shown = String::from_utf8_lossy(&trio.ask(leader, &["alerts"]).stdout).into_owned();
        if shown.contains("node_cut_off") { Ok(()) } else { Err(shown) }
    })
    .await;
    println!("the alert fires {:.1} s after the cut", cut.elapsed().as_secs_f64());
    // Of 40 documents each shard has some.
    let rows: Vec<String> = (1..=40).map(|n| format!("({n}, 'by another')")).collect();
    wait_for("writes to every shard by the others", || async {
        let write = format!("REPLACE INTO others (id, title) VALUES {}", rows.join(","));
        sql(&nodes[others[0]], &write).await.map(drop).map_err(|fault| fault.to_string())
    })
    .await;
    println!("every shard takes writes {:.1} s after the cut", cut.elapsed().as_secs_f64());
    for other in &others {
        trio.net().mend_between(trio::host_of_node(alone), trio::host_of_node(*other));
    }
    trio.wait_until_calm().await;
    whole(&trio, "kept", kept::SHARDS).await;
    load.end_with_faults(&trio).await;
    trio.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced_and_follows_when_it_is_back() {
    let Some(net) = net::own("a_leader_that_is_cut_off_is_replaced_and_follows_when_it_is_back") else {
        return;
    };
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let trio = Trio::start_on(dir.path(), &etcd, Some(net)).await;
    let load = Load::start(&trio).await;
    let first = trio.leader().await.expect("a leader");
    let node = trio.endpoints()[0].clone();
    let creating = tokio::spawn(async move {
        sql(&node, "CREATE TABLE c:made (title text, v int) shards='12' rf='2' timeout='120'").await
    });
    trio.wait_until_running().await;
    let cut = Instant::now();
    trio.net().cut_off(trio::host_of_controller(first));
    let second = taken_over(&trio, first, cut).await;
    println!("the client of the creation was told {:?}", creating.await.expect("it ends").map(drop));
    whole(&trio, "made", 12).await;
    trio.wait_until_calm().await;
    let epoch = trio.show(second).await.expect("it answers").epoch;
    trio.net().reconnect(trio::host_of_controller(first));
    wait_for("the one that was cut off to follow", || async {
        let show = trio.show(first).await.ok_or("no answer")?;
        if show.able && !show.leads && show.epoch == epoch { Ok(()) } else { Err(format!("{show:?}")) }
    })
    .await;
    load.end(&trio).await;
    trio.end();
}
