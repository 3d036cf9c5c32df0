//! What engines say to each other, damaged: read or refused, and whatever is read is taken without a panic.
//!
//! Peers are trusted (TLS and loopback keep others out), so a lie that can be read may be believed; it must not end the node.

use crate::support::machines::Nodes;
use engine::routing::Work;
use engine::sql::Statement;
use engine::sql::ast::Select;
use engine::sql::expr::Expr;
use engine::{Input, PeerMessage};
use proptest::prelude::*;
use proptest::sample::Index;

const OPTIONS: &str = "evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S";

/// Two nodes with a cluster, a table in it, a routing table and documents, and all that they said meanwhile.
fn cluster() -> (Nodes, Vec<Vec<u8>>) {
    let mut nodes = Nodes::new(2, 7);
    nodes.heard = Some(Vec::new());
    nodes.run(2_000);
    let first = nodes.config(0).node.clone();
    for (at, sql) in [
        (0, format!("CREATE CLUSTER c '{OPTIONS}' AS options")),
        (0, "CREATE TABLE t_s0 (a int)".to_owned()),
        (0, "ALTER CLUSTER c ADD t_s0".to_owned()),
        (1, format!("JOIN CLUSTER c AT '{first}' '{OPTIONS}' AS options")),
        (0, "INSERT INTO c:t_s0 (id, a) VALUES (1, 1), (2, 2)".to_owned()),
        (1, "UPDATE c:t_s0 SET a = 5 WHERE id = 1".to_owned()),
        (1, format!("CREATE TABLE r (a int) type='shard' agent='{first}:t_s0'")),
        (1, "SELECT * FROM r".to_owned()),
        (1, "INSERT INTO r (id, a) VALUES (3, 3)".to_owned()),
    ] {
        nodes.ok(at, &[&sql]);
        nodes.run(500);
    }
    let heard = nodes.heard.take().unwrap_or_default();
    (nodes, heard)
}

fn changed(bytes: &[u8], changes: &[(Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte, how) in changes {
        let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match how {
            _ if bytes.is_empty() => bytes.push(*byte),
            0 => bytes[at] = *byte,
            1 => bytes[at] = bytes[at].wrapping_add(1),
            2 => bytes.insert(at, *byte),
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8), 0..4)
}

#[test]
fn hostile_messages_are_read_or_refused() {
    let (_, heard) = cluster();
    assert!(heard.len() > 50, "{}", heard.len());
    proptest!(|(which in any::<Index>(), changes in changes())| {
        let bytes = changed(which.get::<Vec<u8>>(&heard), &changes);
        if let Ok(message) = PeerMessage::decode(&bytes) {
            let again = message.encode();
            prop_assert_eq!(PeerMessage::decode(&again).expect("its own bytes").encode(), again);
        }
    });
}

/// Whether these bytes were refused for their depth; anything else that was wrong with them counts for nothing.
fn too_deep(bytes: &[u8]) -> bool {
    PeerMessage::decode(bytes).is_err_and(|error| error.reason.contains("deep"))
}

/// A message in which `bytes` ask to be read again and again where the needle stands.
fn deeper(message: &[u8], needle: &[u8], level: &[u8], levels: usize) -> Vec<u8> {
    let at = message.windows(needle.len()).position(|part| part == needle).expect("the needle");
    [&message[..at], &level.repeat(levels), &message[at..]].concat()
}

fn select(sql: &str) -> Select {
    match engine::sql::parse(sql) {
        Ok(Statement::Select(select)) => select,
        other => panic!("{sql}: {other:?}"),
    }
}

/// A select with `NOT NOT … needle` as its condition, so many times.
fn nested_select(levels: usize) -> Vec<u8> {
    let needle = Expr::Column("needle".to_owned());
    let filter = Some(Expr::Not(Box::new(needle.clone())));
    let work = Work::Select(Select { filter, ..select("SELECT a FROM t") });
    let message = PeerMessage::Work { call: 1, work: Box::new(work) }.encode();
    // How a column is written, from its kind on: and before it how NOT is.
    let column = [&[1, 6][..], b"needle"].concat();
    deeper(&message, &column, &[4], levels.saturating_sub(1))
}

#[test]
fn what_is_nested_without_end_is_refused_before_it_takes_the_stack() {
    // A put of a put of a put: each level is one byte.
    let endless = [vec![1, 1], vec![2; 4_000_000]].concat();
    assert!(too_deep(&endless));
    for levels in [749, 5_000, 1_000_000] {
        assert!(too_deep(&nested_select(levels)), "{levels}");
    }
    for levels in [1, 300, 748] {
        let read =
            PeerMessage::decode(&nested_select(levels)).unwrap_or_else(|error| panic!("{levels}: {error}"));
        assert_eq!(read.encode(), nested_select(levels));
    }
    // What was refused leaves nothing behind for what comes next.
    assert!(!too_deep(&[]));
    assert!(PeerMessage::decode(&nested_select(400)).is_ok());
}

/// The deepest that a statement can make: as many operators as there may be, in as many brackets.
#[test]
fn whatever_the_parser_takes_can_be_sent_to_a_shard() {
    let sums = vec!["a"; 301].join(" + ");
    let sql = format!("SELECT {}{sums}{} AS deep FROM t", "NOT -abs(".repeat(100), ") = 1".repeat(100));
    let message = PeerMessage::Work { call: 1, work: Box::new(Work::Select(select(&sql))) };
    let bytes = message.encode();
    assert_eq!(PeerMessage::decode(&bytes).expect("read").encode(), bytes);
}

#[test]
fn hostile_nesting_is_read_or_refused() {
    proptest!(|(levels in 0_usize..3_000, changes in changes())| {
        let bytes = changed(&nested_select(levels), &changes);
        if let Ok(message) = PeerMessage::decode(&bytes) {
            let again = message.encode();
            prop_assert_eq!(PeerMessage::decode(&again).expect("its own bytes").encode(), again);
        }
        prop_assert_eq!(too_deep(&nested_select(levels)), levels > 748, "{}", levels);
    });
}

#[test]
fn hostile_messages_end_no_node() {
    let (_, heard) = cluster();
    let said = prop::collection::vec((any::<Index>(), changes(), any::<bool>()), 1..8);
    proptest!(ProptestConfig::with_cases(24), |(said in said)| {
        let (mut nodes, _) = cluster();
        for (which, changes, to_second) in &said {
            let bytes = changed(which.get::<Vec<u8>>(&heard), changes);
            if let Ok(message) = PeerMessage::decode(&bytes) {
                let (from, to) = if *to_second { (0, 1) } else { (1, 0) };
                let from = nodes.config(from).node.clone();
                nodes.input(to, Input::Peer { from, message });
            }
            nodes.run(50);
        }
        nodes.run(3_000);
        // Both still answer somebody who asks nothing of the cluster.
        for at in 0..2 {
            prop_assert!(nodes.sql(at, "SHOW STATUS LIKE 'uptime'").is_ok());
        }
    });
}
