//! Three controllers on one log in a real etcd, with embedded nodes: the leader is killed, and frozen and thawed,
//! under writers. Another leads within ten seconds, goes on with what was begun, and nothing is lost.
// Tests run on the wall clock, with real processes.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured and skipped must be seen")]

mod common;
#[path = "../../store/tests/common/mod.rs"]
mod etcd;
mod kept;
mod net;
mod trio;

use cli::load::Holdings;
use common::{sql, wait_for};
use etcd::Etcd;
use kept::{Load, taken_over, whole};
use std::time::{Duration, Instant};
use trio::Trio;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_and_its_work_goes_on() {
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let mut trio = Trio::start(dir.path(), &etcd).await;
    let load = Load::start(&trio).await;
    let first = trio.leader().await.expect("a leader");
    let node = trio.endpoints()[0].clone();
    let creating = tokio::spawn(async move {
        sql(&node, "CREATE TABLE c:made (title text, v int) shards='24' rf='2' timeout='120'").await
    });
    trio.wait_until_running().await;
    let killed = Instant::now();
    trio.kill(first);
    let second = taken_over(&trio, first, killed).await;
    // Its client may not have been told, but what was begun is finished.
    println!("the client of the creation was told {:?}", creating.await.expect("it ends").map(drop));
    whole(&trio, "made", 24).await;
    trio.wait_until_calm().await;
    println!("the creation is finished {:.1} s after the kill", killed.elapsed().as_secs_f64());
    // The killed one comes back and follows.
    trio.start_controller(first);
    trio.wait_for_controller(first).await;
    assert_eq!(trio.leader().await, Some(second));
    sql(&trio.endpoints()[1], "DROP TABLE c:made").await.expect("the new leader answers statements");
    load.end(&trio).await;
    trio.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_that_thaws_does_no_harm() {
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let trio = Trio::start(dir.path(), &etcd).await;
    let load = Load::start(&trio).await;
    let first = trio.leader().await.expect("a leader");
    let node = trio.endpoints()[0].clone();
    let creating = tokio::spawn(async move {
        sql(&node, "CREATE TABLE c:made (title text, v int) shards='24' rf='2' timeout='120'").await
    });
    // Frozen with commands on their way and steps begun.
    trio.wait_until_running().await;
    let frozen = Instant::now();
    common::signal(trio.pid(first), "STOP");
    let second = taken_over(&trio, first, frozen).await;
    println!("the client of the creation was told {:?}", creating.await.expect("it ends").map(drop));
    whole(&trio, "made", 24).await;
    trio.wait_until_calm().await;
    sql(&trio.endpoints()[1], "DROP TABLE c:made").await.expect("dropped");
    let epoch = trio.show(second).await.expect("it answers").epoch;
    common::signal(trio.pid(first), "CONT");
    // It finds out by itself, and follows under the other's epoch.
    wait_for("the thawed one to follow", || async {
        let show = trio.show(first).await.ok_or("no answer")?;
        if show.able && !show.leads && show.epoch == epoch { Ok(()) } else { Err(format!("{show:?}")) }
    })
    .await;
    // What it had begun is not begun again by it, and not undone.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let show = trio.show(second).await.expect("it answers");
    assert!(show.leads && show.epoch == epoch, "{show:?}");
    let held = Holdings::look(&trio.endpoints(), "made").await.expect("looked");
    assert!(held.copies().is_empty(), "the table that was dropped is back");
    sql(&trio.endpoints()[2], "CREATE TABLE c:again (title text) shards='2' rf='2' timeout='60'")
        .await
        .expect("created");
    whole(&trio, "again", 2).await;
    load.end(&trio).await;
    trio.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_controller_may_be_asked() {
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let trio = Trio::start(dir.path(), &etcd).await;
    let leader = trio.leader().await.expect("a leader");
    let follower = (leader + 1) % 3;
    let created =
        trio.ask(follower, &["table", "create", "c:t", "--columns", "v int", "--shards", "2", "--rf", "2"]);
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    for controller in 0..3 {
        let tables = common::json(&trio.ask(controller, &["table", "list"]));
        assert_eq!(tables["tables"][0]["name"], "t", "controller {controller}: {tables}");
    }
    // A clean end of a follower changes nothing; one of the leader hands the lead on.
    let third = (leader + 2) % 3;
    common::signal(trio.pid(follower), "TERM");
    assert_eq!(trio.leader().await, Some(leader));
    let ended = Instant::now();
    common::signal(trio.pid(leader), "TERM");
    assert_eq!(taken_over(&trio, leader, ended).await, third);
    trio.end();
}

#[test]
fn a_log_that_cannot_be_used_is_refused_in_words() {
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let own = dir.path().display().to_string();
    let refusal = |store: &str| {
        let output = common::run(&["serve", "--dir", &own, "--api", "127.0.0.1:0", "--store", store]);
        assert_eq!(output.status.code(), Some(1), "{store}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // The keys `damaged/last` and `newer/format` in base64, and what they hold: "7" and {"control_log":2}.
    for (key, value) in [("ZGFtYWdlZC9sYXN0", "Nw=="), ("bmV3ZXIvZm9ybWF0", "eyJjb250cm9sX2xvZyI6Mn0=")] {
        let body = format!(r#"{{"key":"{key}","value":"{value}"}}"#);
        etcd.request("POST", "/v3/kv/put", &body).expect("put");
    }
    let said = refusal(&etcd.address("damaged"));
    assert!(said.contains("key damaged/format") && said.contains("To restore"), "{said}");
    let said = refusal(&etcd.address("newer"));
    assert!(
        said.contains("format version 2") && said.contains("start that version or a newer one"),
        "{said}"
    );
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let said = refusal(&format!("etcd://{gone}/p"));
    assert!(said.contains(&gone.to_string()) && said.contains("Check that etcd runs there"), "{said}");
}
