//! Routing tables over several nodes: mirrors, retries, and what the client is told when something is missing.

use crate::support::machines::Nodes;
use engine::{Reply, Timing, io::Input, routing::shard_of};
use model::{Millis, NodeId};
use std::collections::BTreeSet;

const NODE: [&str; 3] = ["127.0.0.1:1312", "127.0.0.1:2312", "127.0.0.1:3312"];
const QUICK: &str = "'evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.keepalive_period=PT0.3S;\
                     evs.inactive_check_period=PT0.3S' as options";

/// Three nodes; `shards` shards of `t`, each on two of them in a group of its own; the same routing table everywhere.
fn replicated(shards: usize) -> Nodes {
    let timing = Timing { join_delay: Millis(20), rejoin_delay: Millis(500), ..Timing::default() };
    let mut nodes = Nodes::with_timing(3, 11, &timing);
    let mut agents = String::new();
    for shard in 0..shards {
        let (first, second) = (shard % 3, (shard + 1) % 3);
        for at in [first, second] {
            nodes.storage(at).make_directory(&format!("g{shard}")).expect("made");
        }
        nodes.ok(
            first,
            &[
                &format!("CREATE TABLE system.t_s{shard} (title text, v int)"),
                &format!("CREATE CLUSTER g{shard} 'g{shard}' as path, {QUICK}"),
                &format!("ALTER CLUSTER g{shard} ADD system.t_s{shard}"),
            ],
        );
        let join = format!("JOIN CLUSTER g{shard} AT '{}' 'g{shard}' as path, {QUICK}", NODE[first]);
        nodes.ok(second, &[&join]);
        agents += &format!(
            " agent='{}:system.t_s{shard}|{}:system.t_s{shard}[retry_count=3,ha_strategy=nodeads]'",
            NODE[first], NODE[second]
        );
    }
    for at in 0..3 {
        nodes.ok(at, &[&format!("CREATE TABLE t (title text, v int) type='shard'{agents}")]);
    }
    nodes
}

/// Ids of a shard of `shards`.
fn ids_of(shard: usize, shards: usize) -> impl Iterator<Item = i64> {
    (1..).filter(move |id| shard_of(*id, shards) == shard)
}

fn count(nodes: &mut Nodes, at: usize) -> String {
    nodes.value(at, "SELECT COUNT(*) FROM t")
}

#[test]
fn documents_find_their_shards_from_every_node() {
    let mut nodes = replicated(3);
    for at in 0..3 {
        let rows: Vec<String> =
            (1..=20).map(|id| format!("({},'w{id}',{at})", id + at as i64 * 20)).collect();
        nodes.ok(at, &[&format!("INSERT INTO t (id,title,v) VALUES {}", rows.join(","))]);
    }
    nodes.run(100);
    for at in 0..3 {
        assert_eq!(count(&mut nodes, at), "60");
        assert_eq!(nodes.rows(at, "SELECT v, COUNT(*) FROM t GROUP BY v ORDER BY v ASC").len(), 3);
        assert_eq!(nodes.rows(at, "SELECT id FROM t").len(), 20, "the implicit LIMIT");
    }
    assert_eq!(nodes.sql(1, "UPDATE t SET v=9 WHERE v=0"), Ok(Reply::Done { affected: 20 }));
    assert_eq!(nodes.sql(2, "DELETE FROM t WHERE id IN (1,2,3)"), Ok(Reply::Done { affected: 3 }));
    assert_eq!(nodes.sql(2, "DELETE FROM t WHERE v=9"), Ok(Reply::Done { affected: 17 }));
    nodes.run(100);
    assert_eq!(count(&mut nodes, 0), "40");
}

#[test]
fn no_id_or_zero_gets_one_that_any_node_finds() {
    let mut nodes = replicated(3);
    nodes.ok(
        0,
        &["INSERT INTO t (title,v) VALUES ('a',1),('b',2)", "INSERT INTO t (id,title,v) VALUES (0,'c',3)"],
    );
    nodes.ok(1, &["INSERT INTO t (title,v) VALUES ('d',4)"]);
    nodes.run(100);
    let ids: BTreeSet<_> = nodes.rows(2, "SELECT id FROM t").into_iter().collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn reads_outlive_a_dead_mirror_and_refused_writes_go_to_the_other() {
    let mut nodes = replicated(3);
    nodes.ok(0, &["INSERT INTO t (id,title,v) VALUES (1,'a',1),(2,'b',2),(5,'c',3),(6,'d',4)"]);
    nodes.run(100);
    nodes.kill(1);
    for _ in 0..6 {
        assert_eq!(count(&mut nodes, 0), "4");
        assert_eq!(count(&mut nodes, 2), "4");
    }
    nodes.until(4_000, "non-primary", |nodes| nodes.status(0, "g0", "status") == "non-primary");
    nodes.ok(0, &["SET CLUSTER g0 GLOBAL 'pc.bootstrap' = 1"]);
    let id = ids_of(0, 3).nth(30).expect("endless");
    for (number, at) in [(0, 0), (1, 2), (2, 2), (3, 2)] {
        nodes.ok(at, &[&format!("REPLACE INTO t (id,title,v) VALUES ({id},'x',{number})")]);
    }
    assert_eq!(nodes.value(0, &format!("SELECT v FROM t WHERE id={id}")), "3");
}

#[test]
fn how_soon_a_member_is_taken_for_lost_can_be_set_while_it_runs() {
    let mut nodes = replicated(3);
    let set = |value: &str| format!("SET CLUSTER g0 GLOBAL 'evs.suspect_timeout' = '{value}'");
    assert_eq!(
        nodes.error(0, &set("soon")),
        "cluster 'g0', option 'evs.suspect_timeout' has the bad duration 'soon'"
    );
    nodes.ok(0, &[&set("PT20S")]);
    nodes.kill(1);
    // Long enough for all others.
    nodes.run(10_000);
    assert_eq!(nodes.status(0, "g0", "status"), "primary");
    nodes.until(20_000, "non-primary", |nodes| nodes.status(0, "g0", "status") == "non-primary");
}

/// A danger of real nodes: whoever brings an old copy back has to be off the routes before it answers.
#[test]
fn a_mirror_that_comes_back_with_an_old_copy_is_read_again() {
    let mut nodes = replicated(3);
    nodes.run(1_000);
    let id = ids_of(0, 3).next().expect("endless");
    nodes.ok(0, &[&format!("INSERT INTO t (id,title,v) VALUES ({id},'a',1)")]);
    // It dies before it has applied the write, and lacks it when it is back: its group has no quorum to rejoin.
    nodes.kill(1);
    nodes.run(1_500);
    assert_eq!(count(&mut nodes, 2), "1");
    nodes.start(1);
    nodes.run(1_500);
    assert_eq!(nodes.value(1, "SELECT COUNT(*) FROM system.t_s0"), "0", "the copy is old");
    let counted: BTreeSet<String> = (0..20)
        .map(|_| {
            nodes.run(200);
            count(&mut nodes, 2)
        })
        .collect();
    assert_eq!(counted, ["0".to_owned(), "1".to_owned()].into());
}

#[test]
fn a_write_that_may_have_arrived_has_an_open_outcome() {
    let mut nodes = replicated(1);
    let id = ids_of(0, 1).next().expect("endless");
    let insert = format!("INSERT INTO t (id,title,v) VALUES ({id},'a',1)");
    let request = nodes.send(2, &insert);
    nodes.kill(0);
    nodes.kill(1);
    let error = nodes.wait(request, "write").expect_err("open").message;
    assert!(error.starts_with("remote table 'system.t_s0' at 127.0.0.1:"), "{error}");
    assert!(error.contains("connection closed"), "{error}");
}

#[test]
fn documents_given_to_a_mirror_that_dies_are_put_once_by_the_other() {
    for after in 0..12 {
        for verb in ["INSERT", "REPLACE"] {
            let mut nodes = replicated(1);
            nodes.run(2_000);
            let id = ids_of(0, 1).next().expect("endless");
            // Both mirrors are asked in turn, so one of the two requests is with the one that dies.
            let requests: Vec<u64> = (0..2)
                .map(|n| nodes.send(2, &format!("{verb} INTO t (id,title,v) VALUES ({},'a',{n})", id + n)))
                .collect();
            nodes.run(after);
            nodes.kill(0);
            // As the end of a process ends its connections.
            nodes.input(2, Input::PeerUnreachable(NodeId::new(NODE[0]).expect("valid")));
            nodes.until(4_000, "non-primary", |nodes| nodes.status(1, "g0", "status") == "non-primary");
            nodes.ok(1, &["SET CLUSTER g0 GLOBAL 'pc.bootstrap' = 1"]);
            let mut put = 0;
            for request in requests {
                match nodes.wait(request, "write") {
                    Ok(reply) => {
                        assert_eq!(reply, Reply::Done { affected: 1 });
                        put += 1;
                    }
                    // The survivor's own write that had not got its order when the quorum was lost: never applied.
                    Err(error) => assert!(error.message.ends_with("seqno -1"), "{verb} {after}: {error}"),
                }
            }
            let count = nodes.value(1, "SELECT COUNT(*) FROM system.t_s0");
            assert_eq!(count, put.to_string(), "{verb}, killed after {after} ms");
        }
    }
}

#[test]
fn silence_is_a_timeout() {
    let mut nodes = replicated(1);
    nodes.cut_off(2);
    let begun = nodes.now;
    let error = nodes.error(2, "INSERT INTO t (id,title,v) VALUES (1,'a',1)");
    assert!(error.ends_with("failed: connect and query timed out"), "{error}");
    assert_eq!(nodes.now - begun, nodes.config(2).timing.remote_write_timeout.0);
    let error = nodes.error(2, "SELECT COUNT(*) FROM t");
    assert!(error.contains("timed out"), "{error}");
}

#[test]
fn an_update_is_ok_although_its_shard_cannot_write() {
    let mut nodes = replicated(3);
    let id = ids_of(0, 3).next().expect("endless");
    nodes.ok(0, &[&format!("INSERT INTO t (id,title,v) VALUES ({id},'a',1)")]);
    nodes.run(100);
    nodes.kill(1);
    nodes.until(4_000, "non-primary", |nodes| nodes.status(0, "g0", "status") == "non-primary");
    assert!(nodes.sql(0, &format!("UPDATE t SET v=2 WHERE id={id}")).is_ok(), "the recorded lie");
    assert_eq!(nodes.value(0, &format!("SELECT v FROM t WHERE id={id}")), "1");
}

#[test]
fn an_insert_over_several_shards_is_not_atomic_and_says_what_is_done() {
    let mut nodes = replicated(3);
    nodes.kill(1);
    nodes.until(4_000, "non-primary", |nodes| nodes.status(0, "g0", "status") == "non-primary");
    let (lost, kept) = (ids_of(0, 3).next().expect("endless"), ids_of(2, 3).next().expect("endless"));
    let error = nodes.error(0, &format!("INSERT INTO t (id,title,v) VALUES ({lost},'a',1),({kept},'b',2)"));
    let refusal = "remote table 'system.t_s0' at 127.0.0.1:1312 failed: remote error: \
                   cluster 'g0' is not ready, not primary state (synced)";
    assert_eq!(error, format!("{refusal}; processed_ids={kept}"));
    assert_eq!(count(&mut nodes, 0), "1");
}

#[test]
fn an_absent_shard_is_left_out_of_counts_without_an_error() {
    let mut nodes = Nodes::new(2, 1);
    let agents = format!("local='system.t_s0' agent='{}:system.t_s1'", NODE[1]);
    nodes.ok(
        0,
        &["CREATE TABLE system.t_s0 (v int)", &format!("CREATE TABLE t (v int) type='shard' {agents}")],
    );
    nodes.ok(1, &["CREATE TABLE system.t_s1 (v int)"]);
    nodes.ok(0, &["INSERT INTO t (id,v) VALUES (1,1),(2,2),(3,3),(4,4)"]);
    assert_eq!(count(&mut nodes, 0), "4");
    nodes.ok(1, &["DROP TABLE system.t_s1"]);
    assert_eq!(count(&mut nodes, 0), "2");
    let id = ids_of(1, 2).next().expect("endless");
    assert_eq!(
        nodes.error(0, &format!("INSERT INTO t (id,v) VALUES ({id},1)")),
        format!("remote table 'system.t_s1' at {} failed: remote error: table 'system.t_s1' absent", NODE[1])
    );
}

#[test]
fn a_write_by_an_old_route_lands_in_whatever_has_the_name() {
    let mut nodes = replicated(1);
    nodes.ok(0, &["EXIT CLUSTER g0"]);
    nodes.ok(0, &["INSERT INTO t (id,title,v) VALUES (1,'stray',1)"]);
    assert_eq!(nodes.value(0, "SELECT COUNT(*) FROM system.t_s0"), "1", "acknowledged, in the detached copy");
    assert_eq!(nodes.value(1, "SELECT COUNT(*) FROM system.t_s0"), "0");
}
