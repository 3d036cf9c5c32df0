//! What nodes and clients really say, damaged: it is read or refused, without a panic and without a statement outside the closed
//! set. The corpus lies beside this file, one text a line.
//!
//! `PROPTEST_CASES=1000000 cargo nextest run -p manticore corpus` runs it for long.

use manticore::{Reply, closed_set, declared, documents, handover, names, reply, rerun, sharding, status};
use model::{NodeId, TableName};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;

const SQL: &str = include_str!("corpus/sql.txt");
const ERRORS: &str = include_str!("corpus/errors.txt");
const REQUESTS: &str = include_str!("corpus/requests.jsonl");
const REPLIES: &str = include_str!("corpus/replies.jsonl");

/// One change: a byte in the place of another, a byte more, a byte less, or a stretch of another text of the corpus.
type Change = (Index, u8, u8, Index, Index);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8, any::<Index>(), any::<Index>()), 0..6)
}

/// A line of the corpus with these changes.
fn changed(corpus: &str, which: Index, changes: &[Change]) -> Vec<u8> {
    let lines: Vec<&str> = corpus.lines().collect();
    let mut text = which.get(&lines).as_bytes().to_vec();
    for (at, byte, how, other, from) in changes {
        let at = at.index(text.len().max(1)).min(text.len().saturating_sub(1));
        match how {
            _ if text.is_empty() => text.push(*byte),
            0 => text[at] = *byte,
            1 => text.insert(at, *byte),
            2 => drop(text.remove(at)),
            _ => {
                let other = other.get(&lines).as_bytes();
                let from = from.index(other.len());
                let piece = other[from..].iter().take(usize::from(*byte)).copied();
                text.splice(at..at, piece);
            }
        }
    }
    text
}

fn ours() -> BTreeSet<TableName> {
    [TableName::new("t").expect("valid")].into()
}

/// Everything that is done with a statement of a client's, without a node.
fn take_sql(sql: &str, error: &str) -> Result<(), TestCaseError> {
    if let Some(Ok(statement)) = sharding::read(sql) {
        let text = serde_json::to_string(&statement).expect("JSON");
        prop_assert_eq!(serde_json::from_str(&text).ok(), Some(statement), "{}", sql);
    }
    let ours = ours();
    let _named = names::names_ours(sql, &ours);
    for stayed_primary in [false, true] {
        let decided = rerun::decide(sql, error, rerun::Facts { ours: &ours, stayed_primary });
        if matches!(decided, rerun::Decision::Rerun | rerun::Decision::RerunWithout { .. }) {
            prop_assert!(!names::names_ours(sql, &ours).is_empty(), "it names no table of ours: {}", sql);
        }
    }
    if closed_set::check(sql).is_ok() {
        prop_assert!(!sql.contains([';', '\0']) || sql.contains('\''), "{}", sql);
    }
    Ok(())
}

proptest! {
    #[test]
    fn corpus_of_statements(
        which in any::<Index>(), how in changes(), error in any::<Index>(), so in changes(),
    ) {
        let sql = String::from_utf8_lossy(&changed(SQL, which, &how)).into_owned();
        let error = String::from_utf8_lossy(&changed(ERRORS, error, &so)).into_owned();
        take_sql(&sql, &error)?;
    }

    #[test]
    fn corpus_of_requests(which in any::<Index>(), how in changes()) {
        let bytes = changed(REQUESTS, which, &how);
        if let Ok(request) = serde_json::from_slice::<handover::Request>(&bytes) {
            prop_assert!(request.acting_user() != Some(""));
            let (path, body) = (&request.message.path_query, &request.message.body);
            let _named = names::json_names_ours(path, body, &ours());
            if let Some(sql) = request.statement() {
                take_sql(&sql, &request.error.message)?;
            }
        }
    }

    #[test]
    fn corpus_of_replies(which in any::<Index>(), how in changes(), code in any::<u16>()) {
        let bytes = changed(REPLIES, which, &how);
        let own = NodeId::new("10.0.0.1:9312").expect("valid");
        for code in [200, code] {
            let _documents = documents::read(code, &bytes);
            let Ok(Reply::Rows(rows)) = reply::read(code, &bytes) else { continue };
            prop_assert!(rows.rows.iter().all(|row| row.len() == rows.columns.len()));
            let _read = (status::clusters(&rows), status::table_list(&rows), status::content(&rows));
            let _read = (status::replication_ports(&rows), status::node_settings(&rows, 4), status::query_p99_ms(&rows));
            let _read = (declared::route(&rows, &own), declared::described(&rows));
            // Never a rule of another user.
            if status::user_rules(&rows, "ann").is_ok() {
                prop_assert!((0..rows.rows.len()).all(|row| rows.value(row, "username") == Some("ann")));
            }
        }
    }
}

/// The corpus itself is understood: changes begin from what is right.
#[test]
fn corpus_is_read_as_it_is() {
    let read = SQL.lines().filter(|sql| matches!(sharding::read(sql), Some(Ok(_)))).count();
    assert!(read >= 13, "{read} statements of the sharding family");
    for line in REQUESTS.lines() {
        serde_json::from_str::<handover::Request>(line).expect(line);
    }
    for line in REPLIES.lines() {
        reply::read(200, line.as_bytes()).expect(line);
    }
}
