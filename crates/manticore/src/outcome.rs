//! What a node's answer to one of our statements means: done, certainly not done, or unknown.
//!
//! Only answers whose meaning was seen on real nodes are certain; every other is unknown, and observation decides.

use crate::{Reply, Statement};
use model::Outcome;
use std::collections::BTreeMap;

/// A statement that got no answer of searchd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("{node} refuses connections ({reason}): is searchd running there?")]
    Refused { node: String, reason: String },
    #[error("{node} did not answer in time; the statement may have been carried out")]
    Silent { node: String },
    #[error("the connection to {node} broke ({reason}); the statement may have been carried out")]
    Broken { node: String, reason: String },
    #[error("the reply of {node} is larger than {bytes_max} bytes")]
    TooLarge { node: String, bytes_max: usize },
    #[error("{node}: {reason}")]
    BadReply { node: String, reason: String },
    #[error("{0}")]
    NotSent(String),
}

impl CallError {
    /// Whether the statement certainly never reached the node.
    pub const fn never_arrived(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotSent(_))
    }
}

/// The meaning of the answer to `statement`.
pub fn outcome(statement: &Statement, answer: &Result<Reply, CallError>) -> Outcome {
    match answer {
        Ok(Reply::Done { .. } | Reply::Rows(_)) => done(),
        Ok(Reply::Error { message }) => of_error(statement, message),
        Err(error) if error.never_arrived() => Outcome::Refused { message: error.to_string() },
        Err(error) => Outcome::Unknown { message: error.to_string() },
    }
}

const fn done() -> Outcome {
    Outcome::Done { contents: BTreeMap::new() }
}

fn of_error(statement: &Statement, message: &str) -> Outcome {
    let message = message.to_owned();
    if already_so(statement, &message) {
        done()
    } else if MAYBE.iter().any(|part| message.contains(part)) {
        Outcome::Unknown { message }
    } else if statement.only_looks() || REFUSALS.iter().any(|part| message.contains(part)) {
        Outcome::Refused { message }
    } else {
        Outcome::Unknown { message }
    }
}

/// Whether the node says that what was asked for is already so. A table that exists is not among them: it may have
/// another schema, which the caller compares ([`crate::columns::canonical`]).
fn already_so(statement: &Statement, message: &str) -> bool {
    match statement {
        Statement::CreateCluster { group, .. } | Statement::JoinCluster { group, .. } => {
            message.ends_with(&format!("cluster '{group}' already exists"))
        }
        Statement::AddTables { group, tables } => {
            // With several tables, the others may not have been added.
            matches!(tables.as_slice(), [table]
                if message.ends_with(&format!("table '{table}' is already part of cluster '{group}'")))
        }
        Statement::RemoveTable { group, table } => {
            message.ends_with(&format!("table '{table}' is not in cluster '{group}'"))
        }
        Statement::ExitCluster { group } | Statement::DeleteCluster { group } => {
            message.ends_with(&format!("unknown cluster '{group}'"))
        }
        Statement::RemoveStock { cluster, table } => {
            message.ends_with(&format!("table '{table}' is not in cluster '{cluster}'"))
        }
        Statement::DropStock { table } => message.ends_with(&format!("unknown table '{table}'")),
        Statement::DropShard { table } => message.ends_with(&format!("unknown table '{table}'")),
        Statement::DropRoute { table } => message.ends_with(&format!("unknown table '{table}'")),
        _ => false,
    }
}

/// Words that leave the outcome open, whatever else the message says.
const MAYBE: [&str; 5] = ["PostRollback", "timed out", "timeout", "processed_ids", "connection"];

/// Words of refusals before anything was done, each recorded from or read in searchd.
const REFUSALS: [&str; 23] = [
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
    "only supported for local",
    "error at ToExecuteStart, code 3",
    "Permission denied",
    "absent",
];

/// Whether a refused CREATE TABLE met a table of that name.
pub fn is_already_exists(message: &str) -> bool {
    message.ends_with("already exists")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::ShardTable;
    use model::{GroupId, NodeId, TableName};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Is {
        Done,
        Refused,
        Unknown,
    }

    fn is(outcome: &Outcome) -> Is {
        match outcome {
            Outcome::Done { .. } => Is::Done,
            Outcome::Refused { .. } => Is::Refused,
            Outcome::Unknown { .. } => Is::Unknown,
        }
    }

    #[test]
    fn the_meaning_of_what_nodes_said() {
        let group = GroupId::new("g0").expect("valid");
        let table = ShardTable::new("system.t_s0").expect("valid");
        let at = NodeId::new("n:1").expect("valid");
        let create = Statement::CreateCluster { group: group.clone(), listen: None };
        let join = Statement::JoinCluster { group: group.clone(), at, listen: None };
        let add = |tables: &[&ShardTable]| Statement::AddTables {
            group: group.clone(),
            tables: tables.iter().map(|table| (*table).clone()).collect(),
        };
        let remove = Statement::RemoveTable { group: group.clone(), table: table.clone() };
        let exit = Statement::ExitCluster { group: group.clone() };
        let delete = Statement::DeleteCluster { group: group.clone() };
        let drop = Statement::DropShard { table: table.clone() };
        let drop_route = Statement::DropRoute { table: TableName::new("t").expect("valid") };
        let make = Statement::CreateShard { table: table.clone(), schema: model::Schema::default() };
        let count = Statement::Content { table: table.clone() };
        let lock = Statement::LockTables { tables: vec![table.clone()] };
        let optimize = Statement::Optimize { table: table.clone() };
        for (statement, message, meaning) in [
            (&create, "failed to create desc: cluster 'g0' already exists", Is::Done),
            (&create, "failed to create desc: cluster 'g01' already exists", Is::Refused),
            (
                &create,
                "failed to create desc: cluster 'g0', cannot access directory /d/g0, cannot access /d/g0",
                Is::Refused,
            ),
            (
                &create,
                "failed to create desc: duplicate paths, cluster 'g0' has the same path as 'c'",
                Is::Refused,
            ),
            (&join, "cluster 'g0' already exists", Is::Done),
            (&join, "cluster 'g0', failed to fetch donor user from any node", Is::Refused),
            (&join, "cluster 'g0', no nodes available(), error: retries limit exceeded", Is::Refused),
            (&join, "cluster 'g0', something nobody has seen", Is::Unknown),
            (&add(&[&table]), "table 'system.t_s0' is already part of cluster 'g0'", Is::Done),
            (&add(&[&table, &table]), "table 'system.t_s0' is already part of cluster 'g0'", Is::Refused),
            (&add(&[&table]), "unknown or wrong type of table 'system.t_s0'", Is::Refused),
            (&add(&[&table]), "error at ToExecuteStart, code 3 (transaction aborted), seqno -1", Is::Refused),
            (&add(&[&table]), "error at PostRollback, code 3 (transaction aborted)", Is::Unknown),
            (&remove, "table 'system.t_s0' is not in cluster 'g0'", Is::Done),
            (&remove, "cluster 'g0' is not ready, not primary state (synced)", Is::Refused),
            (&exit, "unknown cluster 'g0'", Is::Done),
            (&exit, "can not exit cluster 'g0': current state is joining", Is::Refused),
            (&delete, "unknown cluster 'g0'", Is::Done),
            (&drop, "DROP TABLE failed: unknown table 'system.t_s0'", Is::Done),
            (&drop, "DROP TABLE failed: unable to drop a cluster table 'system.t_s0'", Is::Refused),
            (&drop_route, "DROP TABLE failed: unknown table 't'", Is::Done),
            (
                &make,
                "table 'system.t_s0': CREATE TABLE failed: table 'system.t_s0' already exists",
                Is::Refused,
            ),
            (&make, "connect and query timed out", Is::Unknown),
            (&lock, "Table system.t_s0 is member of a cluster; not suitable for lock", Is::Refused),
            (&lock, "Table system.t_s0 absent, or not suitable for lock", Is::Refused),
            (&exit, "can not exit cluster 'g0': cluster is not primary", Is::Refused),
            (&optimize, "OPTIMIZE TABLE requires an existing RT, distributed, or shard table", Is::Refused),
            (&count, "whatever it says, it only looked", Is::Refused),
        ] {
            let answer = Ok(Reply::Error { message: message.into() });
            assert_eq!(is(&outcome(statement, &answer)), meaning, "{statement}: {message}");
        }
    }

    #[test]
    fn silence_is_unknown_and_a_closed_port_is_not() {
        let exit = Statement::ExitCluster { group: GroupId::new("g").expect("valid") };
        let node = || "n:1".to_owned();
        for (error, meaning) in [
            (CallError::Refused { node: node(), reason: "os".into() }, Is::Refused),
            (CallError::NotSent("none of the known ones".into()), Is::Refused),
            (CallError::Silent { node: node() }, Is::Unknown),
            (CallError::Broken { node: node(), reason: "reset".into() }, Is::Unknown),
            (CallError::BadReply { node: node(), reason: "no JSON".into() }, Is::Unknown),
        ] {
            assert_eq!(is(&outcome(&exit, &Err(error))), meaning);
        }
    }
}
