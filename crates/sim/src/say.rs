//! The statements that an action becomes, and what their answers mean: the same texts as the real sidecar's.

use crate::wire::Answer;
use model::sql::{Ident, Literal};
use model::{GroupId, NodeId, Outcome, Route, Schema};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const OPTIONS: &str = "evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.keepalive_period=PT0.3S;\
evs.inactive_check_period=PT0.3S";

/// Columns and options of a declaration.
fn columns(schema: &Schema) -> String {
    let columns: Vec<String> =
        schema.columns.iter().map(|column| format!("{} {}", Ident(&column.name), column.kind)).collect();
    let mut text = format!(" ({})", columns.join(", "));
    for (key, value) in &schema.options {
        let _infallible = write!(text, " {key}={}", Literal(value));
    }
    text
}

pub fn create_shard(table: &str, schema: &Schema) -> String {
    format!("CREATE TABLE {table}{}", columns(schema))
}

/// Every row, for a deep comparison.
pub fn all_rows(table: &str) -> String {
    format!("SELECT * FROM {table} ORDER BY id ASC LIMIT 100000 OPTION max_matches=100000")
}

pub fn drop_shard(table: &str) -> String {
    format!("DROP TABLE IF EXISTS {table}")
}

/// The routing table as `own` must have it.
pub fn create_route(route: &Route, schema: &Schema, own: &NodeId) -> String {
    let mut locals = String::new();
    let mut agents = String::new();
    for (number, nodes) in route.shards.iter().enumerate() {
        let table = route.table.shard_table(number as u32);
        if route.own_as_local && nodes.as_slice() == [own.clone()] {
            let _infallible = write!(locals, " local='{table}'");
            continue;
        }
        let mirrors: Vec<String> = nodes.iter().map(|node| format!("{node}:{table}")).collect();
        let retry = match (route.own_as_local, nodes.len()) {
            (true, 1) => "",
            (true, _) => "[ha_strategy=nodeads,retry_count=3]",
            (false, _) => "[retry_count=3,ha_strategy=nodeads]",
        };
        let _infallible = write!(agents, " agent='{}{retry}'", mirrors.join("|"));
    }
    format!("CREATE TABLE {}{} type='shard'{locals}{agents}", Ident(route.table.as_str()), columns(schema))
}

pub fn create_cluster(group: &GroupId) -> String {
    format!("CREATE CLUSTER {group} {}", path_and_options(group))
}

pub fn join_cluster(group: &GroupId, at: &NodeId) -> String {
    format!("JOIN CLUSTER {group} AT '{at}' {}", path_and_options(group))
}

fn path_and_options(group: &GroupId) -> String {
    if group.is_ours() {
        format!("'{group}' as path, 'gcache.size=8M;{OPTIONS}' as options")
    } else {
        format!("'{OPTIONS}' as options")
    }
}

pub fn content(table: &str) -> String {
    format!("SELECT COUNT(*), SUM(id), MIN(id), MAX(id) FROM {table}")
}

pub fn done() -> Outcome {
    Outcome::Done { contents: BTreeMap::new() }
}

pub fn refused(message: impl Into<String>) -> Outcome {
    Outcome::Refused { message: message.into() }
}

/// Words that leave the outcome open, whatever else the message says.
const MAYBE: [&str; 5] = ["PostRollback", "timed out", "timeout", "processed_ids", "connection"];

/// Words of refusals before anything was done.
const REFUSALS: [&str; 21] = [
    "syntax error",
    "already exists",
    "already part of cluster",
    "unknown cluster",
    "unknown table",
    "unknown or wrong type of table",
    "cannot access directory",
    "duplicate paths",
    "is not ready, not primary",
    "can not exit cluster",
    "unable to drop a cluster table",
    "because it contains system table",
    "failed to fetch donor user from any node",
    "no nodes available",
    "is locked",
    "is a part of cluster",
    "is not in any cluster",
    "requires an existing RT",
    "not suitable for lock",
    "error at ToExecuteStart, code 3",
    "absent",
];

/// Endings of refusals that say: it is so already. With the beginning of the statement they answer.
const ALREADY: [(&str, &str); 6] = [
    ("CREATE CLUSTER", "already exists"),
    ("JOIN CLUSTER", "already exists"),
    ("ALTER CLUSTER", "is already part of cluster"),
    ("ALTER CLUSTER", "is not in cluster"),
    ("EXIT CLUSTER", "unknown cluster"),
    ("DELETE CLUSTER", "unknown cluster"),
];

/// What the answer to `sql` means.
pub fn outcome(sql: &str, answer: &Answer) -> Outcome {
    let message = match answer {
        Answer::Sql(Ok(_)) => return done(),
        Answer::Sql(Err(error)) => error.message.clone(),
        Answer::Refused => return refused("the node refuses connections"),
        other => return Outcome::Unknown { message: format!("{other:?}: it may have been carried out") },
    };
    let already = ALREADY.iter().any(|(start, end)| sql.starts_with(start) && message.contains(end));
    if already || (sql.starts_with("DROP TABLE") && message.contains("unknown table")) {
        done()
    } else if MAYBE.iter().any(|word| message.contains(word)) {
        Outcome::Unknown { message }
    } else if REFUSALS.iter().any(|word| message.contains(word)) {
        Outcome::Refused { message }
    } else {
        Outcome::Unknown { message }
    }
}
