//! Which ids were seen already, exactly, for any number of them.
//!
//! Kept in a private SQLite file that vanishes with the value, so memory stays at its page cache.

use rusqlite::Connection;

/// Ids a transaction takes before it is committed; only to bound SQLite's journal of changed pages.
const IDS_PER_TRANSACTION: u32 = 200_000;

/// A set of ids on disk.
#[derive(Debug)]
pub struct IdSet {
    connection: Connection,
    in_transaction: u32,
}

impl IdSet {
    pub fn new() -> rusqlite::Result<Self> {
        // The empty name is SQLite's own temporary file, deleted when closed.
        let connection = Connection::open("")?;
        connection.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;
             CREATE TABLE ids (id INTEGER PRIMARY KEY); BEGIN;",
        )?;
        Ok(Self { connection, in_transaction: 0 })
    }

    /// Whether the id is new; it is in the set afterwards.
    pub fn insert(&mut self, id: i64) -> rusqlite::Result<bool> {
        self.in_transaction += 1;
        if self.in_transaction > IDS_PER_TRANSACTION {
            self.connection.execute_batch("COMMIT; BEGIN")?;
            self.in_transaction = 1;
        }
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO ids (id) VALUES (?1)")?;
        Ok(insert.execute([id])? == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once() {
        let mut ids = IdSet::new().expect("a temporary file");
        for id in [1, i64::MAX, 7] {
            assert!(ids.insert(id).expect("insert"), "{id}");
        }
        assert!(!ids.insert(1).expect("insert"));
        assert!(!ids.insert(i64::MAX).expect("insert"));
    }

    #[test]
    fn a_set_outlives_its_transactions() {
        let mut ids = IdSet::new().expect("a temporary file");
        let many = i64::from(IDS_PER_TRANSACTION) + 10;
        assert!((1..=many).all(|id| ids.insert(id).expect("insert")));
        assert!(!ids.insert(1).expect("insert"));
        assert!(!ids.insert(many).expect("insert"));
    }
}
