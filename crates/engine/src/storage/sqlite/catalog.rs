//! The list of tables and the caller's durable facts, in one small database.

use super::{Home, connect};
use crate::storage::{StorageError, TableSchema};
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Catalog {
    connection: Connection,
    /// A copy of the list in memory: it is asked for with every statement.
    tables: BTreeMap<String, Entry>,
    next_file: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub file: u64,
    pub schema: Arc<TableSchema>,
}

fn failed(error: rusqlite::Error) -> StorageError {
    StorageError::failed("use", "the catalog")(error)
}

impl Catalog {
    pub(super) fn open(home: &Home) -> Result<Self, StorageError> {
        let connection = connect::open(home.catalog_file().as_deref())?;
        connection
            .execute_batch(
                "BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS tables(name TEXT PRIMARY KEY, file INTEGER NOT NULL, schema TEXT NOT NULL);
                 CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS counter(next_file INTEGER NOT NULL);
                 INSERT INTO counter SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM counter);
                 COMMIT;",
            )
            .map_err(failed)?;
        let next_file =
            connection.query_row("SELECT next_file FROM counter", [], |row| row.get(0)).map_err(failed)?;
        let tables = read_tables(&connection)?;
        Ok(Self { connection, tables, next_file })
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.tables.get(name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    /// Whether `file` is the number of the table's file.
    pub(super) fn has(&self, table: &str, file: u64) -> bool {
        self.tables.get(table).is_some_and(|entry| entry.file == file)
    }

    /// A number that no file has had.
    pub(super) fn next_file(&mut self) -> Result<u64, StorageError> {
        let number = self.next_file;
        self.connection
            .prepare_cached("UPDATE counter SET next_file=?1")
            .and_then(|mut statement| statement.execute([number + 1]))
            .map_err(failed)?;
        self.next_file += 1;
        Ok(number)
    }

    pub(super) fn put(&mut self, name: &str, file: u64, schema: TableSchema) -> Result<(), StorageError> {
        let text = encode(&schema)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO tables(name, file, schema) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute((name, file, text)))
            .map_err(failed)?;
        self.tables.insert(name.to_owned(), Entry { file, schema: Arc::new(schema) });
        Ok(())
    }

    /// The number of the file that was the table's.
    pub(super) fn remove(&mut self, name: &str) -> Result<u64, StorageError> {
        let Some(file) = self.tables.get(name).map(|entry| entry.file) else {
            return Err(StorageError::NoTable(name.to_owned()));
        };
        self.connection
            .prepare_cached("DELETE FROM tables WHERE name=?1")
            .and_then(|mut statement| statement.execute([name]))
            .map_err(failed)?;
        self.tables.remove(name);
        Ok(file)
    }

    pub(super) fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.connection
            .prepare_cached("SELECT value FROM meta WHERE key=?1")
            .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
            .map_err(failed)
    }

    pub(super) fn meta_with_prefix(&mut self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
        self.connection
            .prepare_cached("SELECT key, value FROM meta WHERE substr(key, 1, length(?1))=?1 ORDER BY key")
            .and_then(|mut statement| {
                statement.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .map_err(failed)
    }

    pub(super) fn set_meta(&mut self, changes: &[(String, Option<Vec<u8>>)]) -> Result<(), StorageError> {
        let change = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            {
                let mut put =
                    transaction.prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)")?;
                let mut remove = transaction.prepare_cached("DELETE FROM meta WHERE key=?1")?;
                for (key, value) in changes {
                    match value {
                        Some(value) => put.execute((key, value))?,
                        None => remove.execute([key])?,
                    };
                }
            }
            transaction.commit()
        };
        change(&mut self.connection).map_err(failed)
    }
}

fn read_tables(connection: &Connection) -> Result<BTreeMap<String, Entry>, StorageError> {
    let rows: Vec<(String, u64, String)> = connection
        .prepare("SELECT name, file, schema FROM tables")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
        .map_err(failed)?;
    rows.into_iter()
        .map(|(name, file, text)| {
            let schema = Arc::new(decode(&name, &text)?);
            Ok((name, Entry { file, schema }))
        })
        .collect()
}

pub(super) fn encode(schema: &TableSchema) -> Result<String, StorageError> {
    serde_json::to_string(schema)
        .map_err(|error| StorageError::Refused(format!("cannot write the schema: {error}")))
}

pub(super) fn decode(table: &str, text: &str) -> Result<TableSchema, StorageError> {
    serde_json::from_str(text).map_err(|error| StorageError::Damaged {
        place: format!("the schema of table '{table}'"),
        detail: error.to_string(),
    })
}
