//! Whatever comes in, nothing but the closed set goes out, and no reader of outside texts falls over.
//!
//! `PROPTEST_CASES=1000000 cargo nextest run -p manticore hostile` runs it for long.

use manticore::{RenderContext, closed_set, handover, render, reply, rerun, sharding};
use model::sql::{TokenKind, tokenize};
use model::{Action, NodeId, TableName};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What attackers are made of, and what our own texts are made of.
const PIECES: &[&str] = &[
    "'",
    "\"",
    "`",
    "\\",
    "\\'",
    "\0",
    ";",
    "--",
    "/*",
    "*/",
    "#",
    "\n",
    "\r",
    "\t",
    " ",
    "(",
    ")",
    ",",
    "=",
    ":",
    ".",
    "@@",
    "；",
    "ʼ",
    "＇",
    "\u{202e}",
    "\u{feff}",
    "ü",
    "system.",
    "system.t_s0",
    "_s0",
    "_s99999999999999999999",
    "c:",
    "t",
    "DROP TABLE t",
    "OPTION force=1",
    "CREATE TABLE",
    "shards='2'",
    "rf='1'",
    "timeout='1'",
    "type='pq'",
    "local=",
    "agent=",
    "INSERT INTO",
    "VALUES",
    "(1)",
    "SELECT",
    "FROM",
    "WHERE id=1",
    "UPDATE",
    "SET",
    "DELETE",
    "0",
    "-1",
    "9223372036854775808",
    "127.0.0.1:9312",
    "text",
    "int",
    "bit(8)",
    "gcache.size=1",
    "ab000000000000000000000000000000",
];

fn text() -> impl Strategy<Value = String> {
    let pieces =
        proptest::collection::vec(proptest::sample::select(PIECES), 0..8).prop_map(|all| all.concat());
    prop_oneof![4 => pieces, 1 => ".{0,40}", 1 => "[a-z_]{1,10}", 1 => "[a-z]{300}"]
}

/// A name that is good as often as not, so that the rest of an action is reached.
fn shard() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z]{1,6}".prop_map(|name| format!("system.{name}_s3")), 1 => text()]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z][a-z0-9_]{0,6}", 1 => text()]
}

fn node() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just("10.0.0.1:9312".to_owned()), 1 => text()]
}

fn schema() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![3 => Just("text".to_owned()), 1 => Just("text engine='columnar'".to_owned()), 1 => text()];
    let column = (name(), kind).prop_map(|(name, kind)| json!({ "name": name, "kind": kind }));
    let key = prop_oneof![3 => Just("min_infix_len".to_owned()), 1 => text()];
    let option = (key, text()).prop_map(|(key, value)| json!([key, value]));
    let columns = proptest::collection::vec(column, 0..4);
    let options = proptest::collection::vec(option, 0..3);
    (columns, options).prop_map(|(columns, options)| json!({ "columns": columns, "options": options }))
}

/// Every kind of action as it would be read from a queue on disk.
fn action() -> impl Strategy<Value = Value> {
    let content = || json!({ "rows": 0, "id_sum": 0, "id_min": 0, "id_max": 0 });
    let tables = || proptest::collection::vec(shard(), 0..3);
    prop_oneof![
        (tables(), schema()).prop_map(|(tables, schema)| json!({ "do": "create_tables", "tables": tables, "schema": schema })),
        tables().prop_map(|tables| json!({ "do": "drop_tables", "tables": tables })),
        name().prop_map(|group| json!({ "do": "create_cluster", "group": group })),
        (name(), node()).prop_map(|(group, at)| json!({ "do": "join_cluster", "group": group, "at": at })),
        (name(), tables()).prop_map(|(group, tables)| json!({ "do": "add_tables", "group": group, "tables": tables })),
        (name(), tables()).prop_map(|(group, tables)| json!({ "do": "remove_tables", "group": group, "tables": tables })),
        name().prop_map(|group| json!({ "do": "update_nodes", "group": group })),
        name().prop_map(|group| json!({ "do": "bootstrap", "group": group })),
        (name(), tables()).prop_map(|(group, tables)| json!({ "do": "exit_cluster", "group": group, "tables": tables })),
        name().prop_map(|group| json!({ "do": "delete_cluster", "group": group })),
        shard().prop_map(move |table| json!({ "do": "drop_copies", "copies": { table: content() } })),
        (name(), node(), schema(), any::<bool>()).prop_map(|(table, node, schema, local)| json!({
            "do": "set_routes",
            "routes": [{ "route": { "table": table, "shards": [[node]], "own_as_local": local }, "schema": schema }],
        })),
        name().prop_map(|table| json!({ "do": "drop_routes", "tables": [table] })),
        (shard(), proptest::option::of(name()))
            .prop_map(|(table, group)| json!({ "do": "truncate", "table": table, "group": group })),
        shard().prop_map(|table| json!({ "do": "optimize", "table": table })),
        shard().prop_map(|table| json!({ "do": "flush_ramchunk", "table": table })),
        // Something else altogether.
        (text(), text()).prop_map(|(kind, more)| json!({ "do": kind, "sql": more })),
    ]
}

/// How every text that may leave begins, told once more and apart from the closed set itself.
const BEGINNINGS: &[&[&str]] = &[
    &["CREATE", "TABLE"],
    &["DROP", "TABLE"],
    &["CREATE", "CLUSTER"],
    &["JOIN", "CLUSTER"],
    &["ALTER", "CLUSTER"],
    &["SET", "CLUSTER"],
    &["EXIT", "CLUSTER"],
    &["DELETE", "CLUSTER"],
    &["LOCK", "TABLES"],
    &["UNLOCK", "TABLES"],
    &["SELECT"],
    &["INSERT", "INTO"],
    &["REPLACE", "INTO"],
    &["TRUNCATE", "TABLE"],
    &["OPTIMIZE", "TABLE"],
    &["FLUSH", "RAMCHUNK"],
    &["SHOW"],
    &["DESC"],
];

/// One statement of those, without anything behind it.
fn is_allowed(text: &str) -> Result<(), String> {
    closed_set::check(text).map_err(|error| error.to_string())?;
    let tokens = tokenize(text).map_err(|error| error.to_string())?;
    if tokens.iter().any(|token| token.is_symbol(";")) {
        return Err("a second statement".to_owned());
    }
    let begins = |words: &&[&str]| words.iter().zip(&tokens).all(|(word, token)| token.is(word));
    if !BEGINNINGS.iter().any(begins) {
        return Err("another beginning".to_owned());
    }
    // A NUL ends a text in C, wherever it stands.
    if text.contains('\0') { Err("a NUL".to_owned()) } else { Ok(()) }
}

proptest! {
    #[test]
    fn hostile_actions_make_no_statement_outside_the_set(action in action(), own in any::<bool>(), alone in any::<bool>()) {
        // A queue read back from disk is read by the same types.
        let Ok(action) = serde_json::from_value::<Action>(action) else { return Ok(()) };
        let own = NodeId::new(if own { "10.0.0.1:9312" } else { "10.0.0.2:9312" }).expect("valid");
        let context = RenderContext { own, galera_listen: None, only_member: alone };
        if let Ok(statements) = render(&action, &context) {
            for statement in statements {
                let text = statement.to_string();
                prop_assert_eq!(is_allowed(&text), Ok(()), "{}", text);
            }
        }
    }

    #[test]
    fn hostile_texts_that_pass_the_last_look_are_one_allowed_statement(text in text()) {
        if closed_set::check(&text).is_ok() {
            prop_assert_eq!(is_allowed(&text), Ok(()), "{}", text);
        }
    }

    #[test]
    fn hostile_sql_is_read_or_refused(sql in text(), error in text(), user in text()) {
        let _read = sharding::read(&sql);
        let ours: BTreeSet<TableName> = [TableName::new("t").expect("valid")].into();
        let facts = rerun::Facts { ours: &ours, stayed_primary: true };
        let decided = rerun::decide(&sql, &error, facts);
        // What is run again is the client's own text, or less of it.
        if let rerun::Decision::RerunWithout { sql: less } = decided {
            prop_assert!(less.len() <= sql.len() + 64, "{} from {}", less, sql);
            let tokens = tokenize(&less).expect("a statement");
            prop_assert!(!tokens.iter().any(|token| token.is_symbol(";")), "{}", less);
        }
        let body = json!({
            "type": "unknown sql request", "error": { "message": error, "body": { "error": error } },
            "message": { "path_query": "/sql?mode=raw", "http_method": "POST", "body": sql }, "version": 3, "user": user,
        });
        if let Ok(request) = serde_json::from_value::<handover::Request>(body) {
            let _statement = request.statement();
        }
        let _decoded = handover::form_decoded(&sql);
    }

    #[test]
    fn hostile_json_is_a_request_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), status in any::<u16>(), at in any::<prop::sample::Index>()) {
        let _request = serde_json::from_slice::<handover::Request>(&bytes);
        let _reply = reply::read(status, &bytes);
        let good = br#"{"type":"unknown sql request","error":{"message":"e","body":{"error":"e"}},"message":{"path_query":"/sql?mode=raw","http_method":"POST","body":"query=SELECT%201"},"version":3}"#;
        let mut changed = good.to_vec();
        changed.splice(at.index(good.len())..=at.index(good.len()), bytes);
        if let Ok(request) = serde_json::from_slice::<handover::Request>(&changed) {
            let _statement = request.statement();
        }
        let _reply = reply::read(200, &changed);
    }

    #[test]
    fn tokens_cover_what_they_are_cut_from(sql in text()) {
        if let Ok(tokens) = tokenize(&sql) {
            let mut end = 0;
            for token in &tokens {
                prop_assert!(token.start >= end && token.start <= sql.len(), "{:?}", token.kind);
                end = token.start;
                prop_assert!(!matches!(token.kind, TokenKind::Word("")), "{}", sql);
            }
        }
    }
}

/// The property above would hold of a generator that makes nothing that can be rendered.
#[test]
fn every_kind_of_statement_comes_out_of_the_generator() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..3_000 {
        let action = action().new_tree(&mut runner).expect("a value").current();
        let Ok(action) = serde_json::from_value::<Action>(action) else { continue };
        let own = NodeId::new("10.0.0.1:9312").expect("valid");
        let context = RenderContext { own, galera_listen: None, only_member: false };
        for statement in render(&action, &context).into_iter().flatten() {
            seen.insert(statement.to_string().split(' ').take(2).collect::<Vec<_>>().join(" "));
        }
    }
    for wanted in [
        "CREATE TABLE",
        "DROP TABLE",
        "CREATE CLUSTER",
        "JOIN CLUSTER",
        "ALTER CLUSTER",
        "SET CLUSTER",
        "EXIT CLUSTER",
        "DELETE CLUSTER",
        "TRUNCATE TABLE",
        "OPTIMIZE TABLE",
        "FLUSH RAMCHUNK",
    ] {
        assert!(seen.contains(wanted), "{wanted} is not in {seen:?}");
    }
}
