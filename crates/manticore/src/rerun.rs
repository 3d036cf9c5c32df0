//! What may be run again: the one decision about a statement that failed where it names a table of ours.
//!
//! Running again what was applied, or what belonged to something larger, loses other writes or answers OK for what
//! is gone. So only what is proven not to have happened is run again; the rule is rule 1 of the safety rules.

mod error;
mod statement;

use error::Failure;
use model::TableName;
use statement::{Kind, Single};
use std::collections::BTreeSet;

/// What is known besides the texts.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Our tables' names.
    pub ours: &'a BTreeSet<TableName>,
    /// Whether this node saw the table's groups primary, under the same `conf_id`, before and after the statement:
    /// in a minority a certification conflict may be shown for a write that the majority applied.
    pub stayed_primary: bool,
}

/// What to do with a statement that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Certainly not done: the same text again, once the table is back.
    Rerun,
    /// Done for some of its ids and certainly not for the others: this text does the others.
    RerunWithout { sql: String },
    /// The original error, unchanged.
    ReturnError,
    /// This text: the original error, and that the statement may have been applied.
    ReturnUnknown { message: String },
}

/// Decides about `sql`, which failed with `error`.
pub fn decide(sql: &str, error: &str, facts: Facts<'_>) -> Decision {
    let Some(statement) = Single::read(sql) else { return Decision::ReturnError };
    let named: Vec<TableName> =
        statement.tables.iter().filter_map(|table| TableName::new(table.name.clone()).ok()).collect();
    if named.is_empty() || !named.iter().any(|table| facts.ours.contains(table)) {
        return Decision::ReturnError;
    }
    let ours = |table: &TableName| facts.ours.contains(table) && named.contains(table);
    match error::read(error, &ours) {
        Failure::InTransaction | Failure::Plain => Decision::ReturnError,
        Failure::NoRoute => Decision::Rerun,
        Failure::Refused { processed } => again_without(sql, &statement, &processed, error),
        Failure::Conflict { processed } if facts.stayed_primary => {
            again_without(sql, &statement, &processed, error)
        }
        Failure::Conflict { .. } | Failure::Open => unknown(&statement, error),
    }
}

/// Whether `sql` is one statement that changes nothing: run again, it can do no harm.
pub fn only_reads(sql: &str) -> bool {
    Single::read(sql).is_some_and(|statement| statement.kind == Kind::Select)
}

/// A target refused before it replicated: what is left of the ids may be sent again, when the ids are known.
fn again_without(sql: &str, statement: &Single, processed: &BTreeSet<i64>, error: &str) -> Decision {
    let Some(ids) = &statement.ids else {
        return if processed.is_empty() { Decision::ReturnError } else { unknown(statement, error) };
    };
    if processed.is_empty() {
        return Decision::Rerun;
    }
    match ids.without(sql, processed) {
        Some(sql) => Decision::RerunWithout { sql },
        // Ids that were not in the statement, or none left: the message does not mean what it seems to.
        None => unknown(statement, error),
    }
}

fn unknown(statement: &Single, error: &str) -> Decision {
    if statement.kind == Kind::Select {
        return Decision::ReturnError;
    }
    let message =
        format!("{error} (the statement may have been applied, wholly or in part: look before repeating it)");
    Decision::ReturnUnknown { message }
}

#[cfg(test)]
mod tests;
