//! Connections' state: locks, open transactions, and what statements are under way.

use crate::{
    exec::WriteSet,
    io::{SessionId, SqlError},
};
use model::Millis;
use std::collections::BTreeMap;

/// Documents buffered by one transaction; it lives in memory until COMMIT.
const TRANSACTION_ROWS_MAX: usize = 200_000;

/// One client connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Open between BEGIN (or `autocommit=0`) and COMMIT or ROLLBACK.
    pub transaction: Option<Transaction>,
    /// `total_found` of the last SELECT, for SHOW META.
    pub found: u64,
    pub warning: String,
}

/// Writes to one table, kept back. A failing COMMIT throws them away.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub autocommit_off: bool,
    /// The cluster named with the table, and the writes.
    pub write: Option<(Option<String>, WriteSet)>,
}

impl Transaction {
    /// Adds a write, or refuses: a transaction works with one table.
    pub fn add(&mut self, cluster: Option<String>, write: WriteSet) -> Result<(), SqlError> {
        match &mut self.write {
            None => self.write = Some((cluster, write)),
            Some((_, kept)) if kept.table != write.table => {
                return Err(SqlError::new(format!(
                    "current txn is working with another table ('{}')",
                    kept.table
                )));
            }
            Some((_, kept)) if kept.ids().is_some_and(|ids| ids.len() >= TRANSACTION_ROWS_MAX) => {
                return Err(SqlError::new(format!(
                    "current txn has {TRANSACTION_ROWS_MAX} documents, COMMIT it first"
                )));
            }
            Some((_, kept)) => kept.append(write),
        }
        Ok(())
    }
}

/// Tables that connections have locked for reading. searchd takes `WRITE` without an error and locks nothing for it, lets
/// anybody drop a locked table, its holder write to it no more than others, and ends the lock when the table joins a
/// cluster.
#[derive(Debug, Default)]
pub(super) struct Locks(BTreeMap<String, Vec<SessionId>>);

impl Locks {
    pub fn lock(&mut self, session: SessionId, table: &str) {
        self.0.entry(table.to_owned()).or_default().push(session);
    }

    pub fn unlock_all(&mut self, session: SessionId) {
        for holders in self.0.values_mut() {
            holders.retain(|holder| *holder != session);
        }
        self.0.retain(|_, holders| !holders.is_empty());
    }

    /// Keeps the locks of these tables alone.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|table, _| keep(table));
    }

    pub fn is_locked(&self, table: &str) -> bool {
        self.0.contains_key(table)
    }

    /// The locked tables with the number of their locks.
    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(table, holders)| (table.as_str(), holders.len()))
    }
}

/// A statement that is not answered yet.
#[derive(Debug)]
pub(super) struct Running {
    pub session: SessionId,
    pub since: Millis,
    /// Its text, cut at [`TEXT_MAX`].
    pub sql: String,
}

/// What SHOW THREADS keeps of a statement.
const TEXT_MAX: usize = 512;

impl Running {
    pub fn new(session: SessionId, since: Millis, sql: &str) -> Self {
        let end = (0..=TEXT_MAX.min(sql.len())).rev().find(|&at| sql.is_char_boundary(at)).unwrap_or(0);
        Self { session, since, sql: sql[..end].to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lasts_until_its_last_holder_lets_go() {
        let mut locks = Locks::default();
        let (holder, other) = (SessionId(1), SessionId(2));
        locks.lock(holder, "t");
        locks.lock(other, "t");
        assert!(locks.is_locked("t") && !locks.is_locked("u"));
        assert_eq!(locks.counts().collect::<Vec<_>>(), [("t", 2)]);
        locks.unlock_all(holder);
        assert!(locks.is_locked("t"));
        locks.unlock_all(other);
        assert!(!locks.is_locked("t"));
        locks.lock(holder, "t");
        locks.retain(|table| table != "t");
        assert!(!locks.is_locked("t"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let running = Running::new(SessionId(1), Millis(0), &"é".repeat(400));
        assert_eq!(running.sql.len(), 512);
        assert_eq!(Running::new(SessionId(1), Millis(0), "SELECT 1").sql, "SELECT 1");
    }
}
