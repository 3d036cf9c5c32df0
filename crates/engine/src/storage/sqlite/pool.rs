//! The open tables: a bounded number of connections, the least recently used closed first.

use super::catalog::Entry;
use super::table::TableFile;
use super::{Home, connect};
use crate::storage::{StorageError, TableSchema};
use std::collections::BTreeMap;

/// Each open table costs two of the 1024 file handles that a process commonly has, and up to half a MiB; opening one
/// anew takes about a millisecond.
const OPEN_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Pool {
    home: Home,
    open: BTreeMap<u64, Open>,
    /// Counts uses; the smallest `used` is the least recent.
    clock: u64,
}

#[derive(Debug)]
struct Open {
    used: u64,
    table: TableFile,
}

impl Pool {
    pub(super) const fn new(home: Home) -> Self {
        Self { home, open: BTreeMap::new(), clock: 0 }
    }

    pub(super) fn table(&mut self, name: &str, entry: &Entry) -> Result<&mut TableFile, StorageError> {
        self.clock += 1;
        let number = entry.file;
        if !self.open.contains_key(&number) {
            let connection = connect::open(self.home.table_file(name, number).as_deref())?;
            let table = TableFile::open(name, connection, (*entry.schema).clone())?;
            self.attach(number, table);
        }
        match self.open.get_mut(&number) {
            Some(open) => {
                open.used = self.clock;
                Ok(&mut open.table)
            }
            None => Err(StorageError::NoTable(name.to_owned())),
        }
    }

    /// Takes an open table in.
    pub(super) fn attach(&mut self, number: u64, table: TableFile) {
        if matches!(self.home, Home::Directory(_)) && self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(number, _)| *number);
            oldest.and_then(|number| self.open.remove(&number));
        }
        self.open.insert(number, Open { used: self.clock, table });
    }

    /// A new, empty table in a file that nobody names yet.
    pub(super) fn detached(
        &self,
        name: &str,
        number: u64,
        schema: &TableSchema,
    ) -> Result<TableFile, StorageError> {
        let connection = connect::open_new(self.home.table_file(name, number).as_deref())?;
        TableFile::create(name, connection, schema)
    }

    pub(super) fn create(
        &mut self,
        name: &str,
        number: u64,
        schema: &TableSchema,
    ) -> Result<(), StorageError> {
        let table = self.detached(name, number, schema)?;
        self.attach(number, table);
        Ok(())
    }

    /// Closes the table and removes its file.
    pub(super) fn remove(&mut self, name: &str, number: u64) -> Result<(), StorageError> {
        self.open.remove(&number);
        match self.home.table_file(name, number) {
            Some(path) => connect::remove_file(&path),
            None => Ok(()),
        }
    }
}
