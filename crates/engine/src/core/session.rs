//! Connections' state: locks, open transactions, and what statements are under way.

use crate::{
    exec::WriteSet,
    io::{SessionId, SqlError},
    sql::ast::LockMode,
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

/// Tables that connections have locked.
#[derive(Debug, Default)]
pub(super) struct Locks(BTreeMap<String, Vec<(SessionId, LockMode)>>);

impl Locks {
    pub fn lock(&mut self, session: SessionId, table: &str, mode: LockMode) {
        self.0.entry(table.to_owned()).or_default().push((session, mode));
    }

    pub fn unlock_all(&mut self, session: SessionId) {
        for holders in self.0.values_mut() {
            holders.retain(|(holder, _)| *holder != session);
        }
        self.0.retain(|_, holders| !holders.is_empty());
    }

    /// Refuses a write to a table that another session has locked, or that this one has locked for reading.
    pub fn check_write(&self, table: &str, session: Option<SessionId>) -> Result<(), SqlError> {
        let free = |holder: SessionId, mode: LockMode| Some(holder) == session && mode == LockMode::Write;
        self.check(table, free)
    }

    /// Refuses to drop or change a table that another session has locked.
    pub fn check_change(&self, table: &str, session: Option<SessionId>) -> Result<(), SqlError> {
        self.check(table, |holder, _| Some(holder) == session)
    }

    fn check(&self, table: &str, free: impl Fn(SessionId, LockMode) -> bool) -> Result<(), SqlError> {
        let holders = self.0.get(table).map_or(&[][..], Vec::as_slice);
        if holders.iter().all(|(holder, mode)| free(*holder, *mode)) {
            return Ok(());
        }
        Err(SqlError::new(format!("table '{table}' is locked")))
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
    fn a_read_lock_stops_all_writes_and_only_its_holder_may_drop() {
        let mut locks = Locks::default();
        let (holder, other) = (SessionId(1), SessionId(2));
        locks.lock(holder, "t", LockMode::Read);
        let error = locks.check_write("t", Some(other)).expect_err("locked").message;
        assert_eq!(error, "table 't' is locked");
        assert!(locks.check_write("t", Some(holder)).is_err() && locks.check_write("t", None).is_err());
        assert!(
            locks.check_change("t", Some(holder)).is_ok() && locks.check_change("t", Some(other)).is_err()
        );
        assert!(locks.check_write("u", Some(other)).is_ok());
        locks.unlock_all(holder);
        assert!(locks.check_write("t", Some(other)).is_ok());
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let running = Running::new(SessionId(1), Millis(0), &"é".repeat(400));
        assert_eq!(running.sql.len(), 512);
        assert_eq!(Running::new(SessionId(1), Millis(0), "SELECT 1").sql, "SELECT 1");
    }
}
