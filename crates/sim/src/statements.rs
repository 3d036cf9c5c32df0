//! What becomes of a client's statement that its node could not carry out: the node hands it to its sidecar, which may
//! run it again. The rule is that of the real sidecar (rule 1 of the safety rules), for the statements of our clients.

use crate::bugs::Bug;
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
        // The sidecar has a connection of its own.
        session = None;
        wire.sleep(AGAIN).await;
    }
}

/// Only a single write that names our table, and only what the router itself refused because the table is not there.
fn may_be_said_again(sql: &str, error: &str, table: &str, bug: Option<Bug>) -> bool {
    if bug == Some(Bug::CommitAgain) && sql == "COMMIT" {
        return true;
    }
    let single = ["INSERT INTO ", "REPLACE INTO ", "DELETE FROM "];
    let names_it = single.iter().any(|start| sql.starts_with(&format!("{start}{table} ")));
    let of_the_router =
        [format!("table '{table}' absent"), format!("unknown table '{table}' in delete request")];
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
