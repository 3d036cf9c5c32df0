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
use std::io::Read as _;
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

/// Documents that a node counts in the table.
async fn counted(trio: &Trio, table: &str) -> u64 {
    let rows = sql(&trio.endpoints()[2], &format!("SELECT COUNT(*) FROM {table}")).await.expect("counted");
    rows[0][0].as_deref().and_then(|count| count.parse().ok()).expect("a number")
}

/// Until it counts so many: the other copy applies what was written a moment later.
async fn counts(trio: &Trio, table: &str, documents: u64) {
    wait_for("the other copies", || async {
        match counted(trio, table).await {
            found if found == documents => Ok(()),
            other => Err(format!("{other} documents")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_frozen_in_the_middle_of_a_restore_writes_nothing_once_it_thaws() {
    const DOCUMENTS: u64 = 5_000;
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let trio = Trio::start(dir.path(), &etcd).await;
    let node = trio.endpoints()[0].clone();
    sql(&node, "CREATE TABLE c:back (title text stored) shards='2' rf='2' timeout='120'")
        .await
        .expect("created");
    let title = "a title that is not short ".repeat(40);
    for from in (1..=DOCUMENTS).step_by(500) {
        let values: Vec<String> = (from..from + 500).map(|id| format!("({id},'{id} {title}')")).collect();
        let insert = format!("INSERT INTO back (id,title) VALUES {}", values.join(","));
        sql(&node, &insert).await.expect("written");
    }
    let first = trio.leader().await.expect("a leader");
    let place = dir.path().join("place");
    std::fs::create_dir_all(&place).expect("a directory");
    let place = place.display().to_string();
    let made = trio.ask(first, &["backup", "create", "c:back", "--with-data", &place]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let id = common::json(&made)["backup_id"].as_str().expect("an id").to_owned();
    sql(&node, "DELETE FROM back WHERE id>0").await.expect("deleted");
    counts(&trio, "back", 0).await;
    // Slowly, for some seconds.
    let restore = trio.ask(first, &["backup", "restore", &id, "--mib-per-second", "1", "--no-wait"]);
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    wait_for("the first documents", || async {
        if counted(&trio, "back").await > 0 { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    let frozen = Instant::now();
    common::signal(trio.pid(first), "STOP");
    assert!(counted(&trio, "back").await < DOCUMENTS, "the restore was over before its leader was frozen");
    taken_over(&trio, first, frozen).await;
    trio.wait_until_calm().await;
    // The new leader has gone on with it.
    counts(&trio, "back", DOCUMENTS).await;
    sql(&node, "DELETE FROM back WHERE id>0").await.expect("deleted");
    counts(&trio, "back", 0).await;
    // Thawed where it cannot hear that it is deposed, it would go on for as long as it believes that it leads.
    common::signal(etcd.pid(), "STOP");
    common::signal(trio.pid(first), "CONT");
    tokio::time::sleep(Duration::from_secs(4)).await;
    common::signal(etcd.pid(), "CONT");
    wait_for("the thawed one to follow", || async {
        let show = trio.show(first).await.ok_or("no answer")?;
        let leader = trio.leader().await;
        if show.able && leader.is_some() { Ok(()) } else { Err(format!("{leader:?} leads, {show:?}")) }
    })
    .await;
    assert_eq!(counted(&trio, "back").await, 0, "documents came back that were deleted after the restore");
    trio.end();
}

/// What a controller says of a backup: its record, or why not.
fn recorded(trio: &Trio, controller: usize, id: &str) -> Result<serde_json::Value, String> {
    let shown = trio.ask(controller, &["backup", "show", id]);
    if !shown.status.success() {
        return Err(format!(
            "{}{}",
            String::from_utf8_lossy(&shown.stdout),
            String::from_utf8_lossy(&shown.stderr)
        ));
    }
    Ok(common::json(&shown)["backup_data"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backup_recorded_outlives_the_controller_that_made_it() {
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let mut trio = Trio::start(dir.path(), &etcd).await;
    let nodes = trio.endpoints();
    sql(&nodes[0], "CREATE TABLE c:t (v int) shards='3' rf='2' timeout='120'").await.expect("created");
    sql(&nodes[0], "INSERT INTO t (id,v) VALUES (1,1),(2,2),(3,3)").await.expect("written");
    let first = trio.leader().await.expect("a leader");
    let made = trio.ask(first, &["backup", "create", "c:t"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = common::json(&made);
    let id = made["backup_id"].as_str().expect("an id").to_owned();
    let place = made["backup_data"]["backup_path"].as_str().expect("a place");
    assert!(place.starts_with("etcd:shardwright/backups/t_"), "{place}");
    let killed = Instant::now();
    trio.kill(first);
    let second = taken_over(&trio, first, killed).await;
    assert_eq!(recorded(&trio, second, &id).as_ref(), Ok(&made["backup_data"]));
    let rows: u64 =
        (0..3).filter_map(|shard| made["backup_data"]["placement"][shard]["content"]["rows"].as_u64()).sum();
    assert_eq!(rows, 3);
    let verified = trio.ask(second, &["backup", "verify", &id, "--live"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    sql(&nodes[1], "DROP TABLE c:t").await.expect("dropped");
    let restored = trio.ask(second, &["backup", "restore", &id]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    whole(&trio, "t", 3).await;

    // As a program left it that kept records in files of its own.
    let shared = store::etcd::Records::new(&etcd.address("shardwright").parse().expect("an address"));
    let names = shared.names().expect("listed");
    let name = names.iter().find(|name| name.starts_with("t_")).cloned().expect("its name");
    let mut text = String::new();
    let packed = shared.get(&name).expect("read").expect("there");
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).expect("unpacked");
    let own = dir.path().join(format!("controller{first}")).join("backups");
    std::fs::create_dir_all(&own).expect("a directory");
    let file = own.join(name.trim_end_matches(".gz"));
    std::fs::write(&file, text).expect("written");
    wait_for("its removal", || async {
        let show = trio.show(second).await.ok_or("no answer")?;
        let removed = shared
            .remove(std::slice::from_ref(&name), model::LogIndex(show.last))
            .map_err(|error| error.to_string())?;
        if removed { Ok(()) } else { Err("the log went on meanwhile".to_owned()) }
    })
    .await;
    let missing = recorded(&trio, second, &id).expect_err("it is in a file of the other");
    assert!(missing.contains("is in a file of controller"), "{missing}");
    trio.start_controller(first);
    trio.wait_for_controller(first).await;
    assert_eq!(recorded(&trio, second, &id).as_ref(), Ok(&made["backup_data"]));
    assert!(!file.exists(), "it has one home");
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
