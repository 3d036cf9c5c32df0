//! What an import looks at, on one node whose answers are written here.

use super::*;
use axum::Router;
use axum::routing::post;
use manticore::{Logins, USER_AGENT, Way};
use serde_json::{Map, Value, json};

const DESCRIBED: [&str; 3] = ["Field", "Type", "Properties"];
const STATE: [&str; 3] = ["id", "key", "updated_at"];

fn rows(columns: &[&str], rows: &[&[&str]]) -> Value {
    let cells = |row: &&[&str]| -> Map<String, Value> {
        columns.iter().zip(*row).map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    };
    let data: Vec<_> = rows.iter().map(cells).collect();
    let named: Vec<Value> = columns.iter().map(|name| json!({ *name: { "type": "string" } })).collect();
    json!([{ "columns": named, "data": data, "total": rows.len(), "error": "", "warning": "" }])
}

/// A node with the table `t` of one shard, as the stock sidecar leaves it.
fn usual(sql: &str, own: &str) -> Value {
    let list = ["Table", "Type"];
    match sql {
        "SHOW STATUS LIKE 'cluster%'" => rows(&["Counter", "Value"], &[]),
        "SHOW TABLES FROM SYSTEM" => rows(
            &list,
            &[&["system.t_s0", "rt"], &["system.sharding_state", "rt"], &["system.sharding_table", "rt"]],
        ),
        "SHOW TABLES" => rows(&list, &[&["t", "shard"]]),
        "SHOW CREATE TABLE `t` OPTION force=1" => {
            let text = "CREATE TABLE t (v int) type='shard' local='system.t_s0'";
            rows(&["Table", "Create Table"], &[&["t", text]])
        }
        "DESC system.t_s0" => rows(&DESCRIBED, &[&["id", "bigint", ""], &["v", "uint", ""]]),
        "DESC system.sharding_state" => {
            rows(&DESCRIBED, &[&["key", "string", ""], &["updated_at", "timestamp", ""]])
        }
        "DESC system.sharding_table" => rows(&DESCRIBED, &[&["node", "string", ""]]),
        _ if sql.starts_with("SELECT * FROM system.sharding_state") => rows(&STATE, &[&["1", "master", "7"]]),
        _ if sql.starts_with("SELECT * FROM system.sharding_table") => {
            rows(&["id", "cluster", "node", "table", "shards"], &[&["1", "", own, "t", "0"]])
        }
        _ if sql.starts_with("SELECT COUNT(*), SUM(id)") => {
            rows(&["a", "b", "c", "d"], &[&["2", "3", "1", "2"]])
        }
        _ => json!({ "error": format!("not expected: {sql}") }),
    }
}

/// The facts of it, where `otherwise` may answer before it.
async fn seen(otherwise: fn(&str) -> Option<Value>) -> ImportFacts {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let node = NodeId::new(listener.local_addr().expect("an address").to_string()).expect("valid");
    let own = node.to_string();
    let answer = move |sql: String| {
        let answer = otherwise(&sql).unwrap_or_else(|| usual(&sql, &own));
        async move { Json(answer) }
    };
    let router = Router::new().route("/sql", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::new(USER_AGENT, Logins::default(), Way::plain()).expect("a client");
    facts(&client, vec![node]).await
}

#[tokio::test]
async fn what_the_stock_sidecar_left_is_read() {
    let facts = seen(|_| None).await;
    assert_eq!((&facts.unreadable, &facts.other_columns), (&Vec::new(), &Vec::new()));
    assert_eq!((facts.last_sign, facts.rows.len(), facts.declared.len()), (Some(7), 1, 1));
    let contents: Vec<u64> = facts.contents["system.t_s0"].values().map(|content| content.rows).collect();
    assert_eq!(contents, [2]);
}

/// It may be what stands against the import.
#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let facts = seen(|sql| {
        let state = sql.starts_with("SELECT * FROM system.sharding_state");
        state.then(|| rows(&STATE, &[&["1", "master", "7"], &["2", "cluster", "?"]]))
    });
    let facts = facts.await;
    let said = (&facts.unreadable[..], facts.last_sign);
    assert!(matches!(said, ([why], None) if why.contains("row 2 of system.sharding_state")), "{said:?}");

    let (none, odd, other) = (
        seen(|sql| (sql == "DESC system.t_s0").then(|| rows(&DESCRIBED, &[]))).await,
        seen(|sql| (sql == "DESC system.t_s0").then(|| rows(&["Field"], &[&["id"]]))).await,
        seen(|sql| (sql == "DESC system.t_s0").then(|| rows(&DESCRIBED, &[&["w", "uint", ""]]))).await,
    );
    for (facts, want) in [(none, "shows no columns"), (odd, "cannot be read"), (other, "has other columns")] {
        let said = &facts.other_columns[..];
        assert!(matches!(said, [why] if why.contains(want)), "'{want}' is not {said:?}");
    }
}
