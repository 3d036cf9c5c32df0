//! What becomes of a client's statement that its node could not carry out: the node hands it to its sidecar, which may
//! run it again. The rules are those of the real sidecar (rules 1 and 11 of the safety rules), for the statements of our clients.

use crate::bugs::Bug;
use crate::play::schema;
use crate::say;
use crate::sidecar::Missing;
use crate::wire::{Answer, Ask, Wire};
use model::NodeId;

/// A statement is held no longer than this.
const HOLD: u64 = 10_000;
const AGAIN: u64 = 100;

/// Says `sql` to `node` and, where that is allowed, says it again.
pub async fn say(
    wire: &Wire,
    node: &NodeId,
    session: Option<u64>,
    sql: &str,
    table: &str,
    time_max: u64,
    bug: Option<Bug>,
) -> Answer {
    let begun = wire.now();
    let mut session = session;
    loop {
        let ask = Ask::Sql { to: node.clone(), session, sql: sql.to_owned(), time_max };
        let answer = wire.ask(ask).await;
        let Answer::Sql(Err(error)) = &answer else { return answer };
        if wire.now().since(begun).0 >= HOLD || !may_be_said_again(sql, &error.message, table, bug) {
            return answer;
        }
        let is_commit = sql == "COMMIT";
        match wire.ask(Ask::Missing { to: node.clone(), table: table.to_owned() }).await {
            Answer::Missing(Missing::Refused) if !is_commit => return answer,
            Answer::Missing(Missing::Upstream) if !is_commit => {
                return upstream(wire, node, sql, table).await;
            }
            _ => {}
        }
        // The sidecar has a connection of its own.
        session = None;
        wire.sleep(AGAIN).await;
    }
}

/// The stock sidecar makes the table that is missing, on its node, and runs the statement again.
async fn upstream(wire: &Wire, node: &NodeId, sql: &str, table: &str) -> Answer {
    let create = say::create_shard(table, &schema());
    let _there_already = wire.sql(node, create, HOLD).await;
    wire.sql(node, sql, HOLD).await
}

/// Only a single write that names our table, and only what the router itself refused because the table is not there.
fn may_be_said_again(sql: &str, error: &str, table: &str, bug: Option<Bug>) -> bool {
    if bug == Some(Bug::CommitAgain) && sql == "COMMIT" {
        return true;
    }
    let single = ["INSERT INTO ", "REPLACE INTO ", "DELETE FROM ", "UPDATE "];
    let names_it = single.iter().any(|start| sql.starts_with(&format!("{start}{table} ")));
    let of_the_router = [
        format!("table '{table}' absent"),
        format!("unknown table '{table}' in delete request"),
        format!("unknown table '{table}' in update request"),
    ];
    let refused = of_the_router.iter().any(|known| error.ends_with(known.as_str()));
    names_it && refused && !error.contains("remote table") && !error.contains("processed_ids")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_router_refused_is_said_again() {
        let again = |sql: &str, error: &str| may_be_said_again(sql, error, "t", None);
        let insert = "INSERT INTO t (id) VALUES (1)";
        assert!(again(insert, "table 't' absent"));
        for (sql, error) in [
            ("COMMIT", "table 't' absent"),
            (insert, "table 'system.t_s0' absent"),
            (insert, "remote table: table 't' absent"),
            (insert, "error at ToExecuteStart, code 3"),
            ("INSERT INTO other (id) VALUES (1)", "table 't' absent"),
        ] {
            assert!(!again(sql, error), "{sql}: {error}");
        }
    }
}
