//! Statements of one client after another: sessions, transactions, locks, restarts, and the dangerous habits that a
//! client can meet.

use crate::support::machines::Nodes;
use engine::{Reply, Timing};
use model::Millis;

const QUICK: &str = "'evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.keepalive_period=PT0.3S;\
                     evs.inactive_check_period=PT0.3S' as options";

fn quick() -> Timing {
    Timing { join_delay: Millis(50), rejoin_delay: Millis(500), ..Timing::default() }
}

/// A cluster `c` of all nodes with the table `t`.
fn clustered(count: usize) -> Nodes {
    let mut nodes = Nodes::with_timing(count, 3, &quick());
    let create = format!("CREATE CLUSTER c {QUICK}");
    nodes.ok(0, &["CREATE TABLE t (title text, v int)", &create, "ALTER CLUSTER c ADD t"]);
    for at in 1..count {
        nodes.ok(at, &[&format!("JOIN CLUSTER c AT '127.0.0.1:1312' {QUICK}")]);
    }
    nodes
}

fn count(nodes: &mut Nodes, at: usize) -> String {
    nodes.value(at, "SELECT COUNT(*) FROM t")
}

#[test]
fn a_transaction_is_kept_back_and_a_failing_commit_throws_it_away() {
    let mut nodes = clustered(1);
    nodes.ok(0, &["CREATE TABLE u (v int)"]);
    let on = |nodes: &mut Nodes, sql: &str| nodes.sql_on(0, 1, sql);
    for sql in ["BEGIN", "INSERT INTO u (id,v) VALUES (1,1)", "INSERT INTO u (id,v) VALUES (2,2)"] {
        on(&mut nodes, sql).expect(sql);
    }
    assert_eq!(nodes.value(0, "SELECT COUNT(*) FROM u"), "0");
    let error = on(&mut nodes, "INSERT INTO c:t (id,v) VALUES (1,1)").expect_err("another table").message;
    assert!(error.contains("current txn"), "{error}");
    assert_eq!(on(&mut nodes, "COMMIT"), Ok(Reply::Done { affected: 2 }));
    assert_eq!(nodes.value(0, "SELECT COUNT(*) FROM u"), "2");

    for sql in ["BEGIN", "INSERT INTO u (id,v) VALUES (3,3)", "ROLLBACK", "COMMIT"] {
        on(&mut nodes, sql).expect(sql);
    }
    assert_eq!(nodes.value(0, "SELECT COUNT(*) FROM u"), "2");

    for sql in ["BEGIN", "INSERT INTO u (id,v) VALUES (4,4)"] {
        on(&mut nodes, sql).expect(sql);
    }
    nodes.ok(0, &["DROP TABLE u"]);
    on(&mut nodes, "COMMIT").expect_err("the table is gone");
    assert_eq!(on(&mut nodes, "COMMIT"), Ok(Reply::Done { affected: 0 }), "and with it the documents");
}

#[test]
fn words_that_name_no_table_are_refused_in_backticks_too() {
    let mut nodes = Nodes::new(1, 1);
    for word in ["order", "select", "ORDER"] {
        let sql = format!("CREATE TABLE `{word}` (v int)");
        let error = nodes.sql_on(0, 1, &sql).expect_err(word).message;
        assert!(error.ends_with("is a reserved keyword"), "{error}");
    }
    nodes.ok(0, &["CREATE TABLE `cluster` (v int)", "INSERT INTO `cluster` (id, v) VALUES (1, 1)"]);
}

#[test]
fn what_drivers_ask_as_they_connect_is_answered() {
    let mut nodes = Nodes::new(1, 1);
    for (variable, value) in
        [("transaction_isolation", "READ-COMMITTED"), ("lower_case_table_names", "1"), ("autocommit", "1")]
    {
        assert_eq!(nodes.value(0, &format!("SELECT @@{variable}")), value);
        assert_eq!(nodes.rows(0, &format!("SHOW VARIABLES LIKE '{variable}'")).len(), 1);
    }
}

#[test]
fn a_lock_lasts_as_long_as_its_session() {
    let mut nodes = Nodes::new(1, 1);
    nodes.ok(0, &["CREATE TABLE t (v int)"]);
    nodes.sql_on(0, 5, "LOCK TABLES t READ").expect("locked");
    assert_eq!(nodes.error(0, "INSERT INTO t (id,v) VALUES (1,1)"), "table 't' is locked");
    assert_eq!(count(&mut nodes, 0), "0");
    nodes.input(0, engine::Input::SessionClosed(engine::SessionId(5)));
    nodes.ok(0, &["INSERT INTO t (id,v) VALUES (1,1)"]);
    nodes.sql_on(0, 6, "LOCK TABLES t READ").expect("locked");
    nodes.ok(0, &["DROP TABLE t", "CREATE TABLE t (v int)", "INSERT INTO t (id,v) VALUES (1,1)"]);
}

#[test]
fn what_is_acknowledged_outlives_a_kill() {
    let mut nodes = Nodes::new(1, 1);
    let create = "CREATE TABLE r (title text, v int) type='shard' agent='127.0.0.1:1312:system.r_s0'";
    nodes.ok(0, &["CREATE TABLE system.r_s0 (title text, v int)", create]);
    nodes.ok(0, &["INSERT INTO r (title,v) VALUES ('a',1),('b',2)", "UPDATE r SET v=5 WHERE v=1"]);
    nodes.kill(0);
    nodes.start(0);
    assert_eq!(nodes.value(0, "SELECT SUM(v) FROM r"), "7");
    nodes.ok(0, &["INSERT INTO r (title,v) VALUES ('c',3)"]);
    assert_eq!(nodes.value(0, "SELECT COUNT(*) FROM r"), "3", "automatic ids do not meet those of before");
    nodes.kill(0);
    nodes.start(0);
    assert_eq!(nodes.value(0, "SELECT COUNT(*) FROM system.r_s0"), "3");
}

#[test]
fn one_cluster_statement_at_a_time() {
    let mut nodes = clustered(2);
    nodes.storage(1).make_directory("g").expect("made");
    nodes.storage(0).make_directory("g").expect("made");
    nodes.ok(0, &["CREATE CLUSTER g 'g' as path"]);
    let join = nodes.send(1, "JOIN CLUSTER g AT '127.0.0.1:1312' 'g' as path");
    let exit = nodes.send(1, "EXIT CLUSTER c");
    nodes.run(30);
    assert!(
        nodes.answered(join).is_none() && nodes.answered(exit).is_none(),
        "JOIN holds the lock through its copy"
    );
    let threads = nodes.rows(1, "SHOW THREADS");
    let texts: Vec<&str> = threads.iter().filter_map(|row| row.last()?.as_deref()).collect();
    assert!(texts.iter().any(|text| text.starts_with("JOIN CLUSTER g")), "{texts:?}");
    assert!(texts.contains(&"EXIT CLUSTER c"), "{texts:?}");
    nodes.wait(join, "join").expect("joined");
    nodes.wait(exit, "exit").expect("out");
    assert_eq!(nodes.status(0, "c", "size"), "1");
    assert_eq!(nodes.status(0, "g", "size"), "2");
}

#[test]
fn writes_wait_for_the_view_and_go_on_with_a_majority() {
    let mut nodes = clustered(3);
    nodes.kill(2);
    let begun = nodes.now;
    nodes.ok(0, &["INSERT INTO c:t (id,title,v) VALUES (1,'x',1)"]);
    assert!((1_500..3_000).contains(&(nodes.now - begun)), "{}", nodes.now - begun);
    nodes.run(100);
    assert_eq!((count(&mut nodes, 0), count(&mut nodes, 1)), ("1".into(), "1".into()));
    nodes.start(2);
    nodes.until(5_000, "back", |nodes| nodes.synced(2, "c"));
    assert_eq!(count(&mut nodes, 2), "1");
}

#[test]
fn concurrent_writes_of_one_document_on_two_nodes_conflict() {
    let mut nodes = clustered(2);
    let first = nodes.send(0, "REPLACE INTO c:t (id,title,v) VALUES (1,'a',1)");
    let second = nodes.send(1, "REPLACE INTO c:t (id,title,v) VALUES (1,'b',2)");
    nodes.wait(first, "the sequencer's own").expect("first in order");
    let error = nodes.wait(second, "the other").expect_err("later in order").message;
    assert!(error.starts_with("error at PostRollback, code 3 (transaction aborted"), "{error}");
    nodes.run(100);
    assert_eq!(nodes.value(1, "SELECT v FROM t WHERE id=1"), "1");
}

#[test]
fn insert_is_no_compare_and_swap_on_one_node() {
    let mut nodes = clustered(2);
    let first = nodes.send(1, "INSERT INTO c:t (id,title,v) VALUES (1,'a',1)");
    let second = nodes.send(1, "INSERT INTO c:t (id,title,v) VALUES (1,'b',2)");
    nodes.wait(first, "first").expect("told OK");
    nodes.wait(second, "second").expect("told OK too");
    assert_eq!(nodes.value(1, "SELECT v FROM t WHERE id=1"), "2");
    assert_eq!(
        nodes.error(1, "INSERT INTO c:t (id,v) VALUES (1,3)"),
        "duplicate id '1'",
        "what is applied shows"
    );
}

#[test]
fn add_of_a_live_table_loses_the_writes_of_its_last_moments_unless_locked() {
    for locked in [false, true] {
        let mut nodes = clustered(3);
        nodes.ok(0, &["CREATE TABLE u (v int)", "INSERT INTO u (id,v) VALUES (1,1)"]);
        if locked {
            nodes.sql_on(0, 9, "LOCK TABLES u READ").expect("locked");
        }
        let add = nodes.send(0, "ALTER CLUSTER c ADD u");
        nodes.run(2);
        assert!(nodes.answered(add).is_none());
        let write = nodes.sql(0, "INSERT INTO u (id,v) VALUES (2,2)");
        assert_eq!(write.is_err(), locked, "{write:?}");
        nodes.wait(add, "add").expect("added");
        nodes.run(100);
        let counts = [0, 1, 2].map(|at| nodes.value(at, "SELECT COUNT(*) FROM u"));
        assert_eq!(counts, if locked { ["1", "1", "1"] } else { ["2", "1", "1"] });
    }
}

#[test]
fn join_overwrites_tables_of_the_same_name() {
    let mut nodes = Nodes::with_timing(2, 3, &quick());
    nodes.ok(0, &["CREATE TABLE t (title text, v int)", "CREATE CLUSTER c", "ALTER CLUSTER c ADD t"]);
    nodes.ok(1, &["CREATE TABLE t (v int, w int)", "INSERT INTO t (id,v) VALUES (1,1),(2,2)"]);
    nodes.ok(1, &["JOIN CLUSTER c AT '127.0.0.1:1312'"]);
    assert_eq!(count(&mut nodes, 1), "0");
    assert_eq!(nodes.rows(1, "DESC t"), nodes.rows(0, "DESC t"));
}

#[test]
fn a_large_table_joins_in_pieces_and_writes_wait_meanwhile() {
    let mut nodes = Nodes::with_timing(2, 3, &quick());
    nodes.ok(0, &["CREATE TABLE t (title text, v int)", "CREATE CLUSTER c", "ALTER CLUSTER c ADD t"]);
    let text = "x".repeat(1_000);
    for batch in 0..10 {
        let rows: Vec<String> = (1..=500).map(|id| format!("({},'{text}',{id})", batch * 500 + id)).collect();
        nodes.ok(0, &[&format!("INSERT INTO c:t (id,title,v) VALUES {}", rows.join(","))]);
    }
    nodes.delay_max = 20;
    let join = nodes.send(1, "JOIN CLUSTER c AT '127.0.0.1:1312'");
    nodes.run(100);
    assert_ne!(nodes.status(0, "c", "sst_stage"), "-", "the donor shows its copy");
    assert_eq!(nodes.status(0, "c", "node_state"), "donor");
    assert_eq!(nodes.status(1, "c", "node_state"), "joining");
    let write = nodes.send(0, "INSERT INTO c:t (id,title,v) VALUES (9999,'late',1)");
    nodes.wait(join, "join").expect("joined");
    nodes.wait(write, "write").expect("it waited");
    nodes.run(200);
    assert_eq!((count(&mut nodes, 0), count(&mut nodes, 1)), ("5001".into(), "5001".into()));
    let checksum = [0, 1].map(|at| nodes.storage(at).checksum("t").expect("a table"));
    assert_eq!(checksum[0], checksum[1]);
}

#[test]
fn a_clean_stop_lets_the_others_go_on_at_once() {
    let mut nodes = clustered(2);
    nodes.ok(0, &["INSERT INTO c:t (id,v) VALUES (1,1)"]);
    nodes.stop(0);
    assert_eq!(nodes.status(1, "c", "status"), "primary");
    nodes.ok(1, &["INSERT INTO c:t (id,v) VALUES (2,2)"]);
    nodes.start(0);
    nodes.until(3_000, "back", |nodes| nodes.synced(0, "c"));
    assert_eq!(count(&mut nodes, 0), "2");
}

#[test]
fn partitions_heal_by_themselves() {
    let mut nodes = clustered(3);
    nodes.cut_off(0);
    nodes.until(4_000, "alone", |nodes| nodes.status(0, "c", "status") == "non-primary");
    assert_eq!(
        nodes.error(0, "INSERT INTO c:t (id,v) VALUES (1,1)"),
        "cluster 'c' is not ready, not primary state (synced)"
    );
    nodes.ok(1, &["INSERT INTO c:t (id,v) VALUES (2,2)"]);
    assert_eq!(count(&mut nodes, 0), "0", "it serves what it has");
    nodes.cut.clear();
    nodes.until(5_000, "back", |nodes| nodes.synced(0, "c"));
    nodes.run(100);
    assert_eq!(count(&mut nodes, 0), "1");
}
