//! What engines say to each other, damaged: read or refused, and whatever is read is taken without a panic.
//!
//! Peers are trusted (TLS and loopback keep others out), so a lie that can be read may be believed; it must not end the node.

use crate::support::machines::Nodes;
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
