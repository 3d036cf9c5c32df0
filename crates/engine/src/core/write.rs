//! Writes to this node's own tables: checked, prepared, and then applied here or put in order by their cluster.

use super::{Asker, Engine, Waiting};
use crate::{
    cluster::{Payload, Ticket, Write},
    exec::{self, WriteSet},
    io::{Reply, SessionId, SqlError},
    sql::{Statement, ast::TableRef},
    storage::{Change, Storage},
};

/// How the table of a write was named.
pub(super) enum Named<'a> {
    /// By a client, with or without a cluster.
    AsWritten(&'a TableRef),
    /// By a routing table, which leaves the cluster to the node that has the shard.
    ByRoute(&'a str),
}

impl Named<'_> {
    fn table(&self) -> &str {
        match self {
            Self::AsWritten(table) => &table.name,
            Self::ByRoute(table) => table,
        }
    }
}

/// What a write is, for its errors: searchd words them by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// INSERT, REPLACE and COMMIT.
    Put,
    Update,
    Delete,
    Truncate,
}

impl Verb {
    pub fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Update(_) => Self::Update,
            Statement::Delete(_) => Self::Delete,
            Statement::Truncate(_) => Self::Truncate,
            _ => Self::Put,
        }
    }

    fn locked(self, named: &Named<'_>) -> SqlError {
        match (self, named) {
            (Self::Put, _) | (Self::Delete, Named::ByRoute(_)) => {
                SqlError::new(format!("table '{}' is locked", named.table()))
            }
            _ => SqlError::new("table is locked"),
        }
    }

    /// The table that stands before every error of an UPDATE or DELETE of a client.
    fn about(self, named: &Named<'_>) -> Option<String> {
        match (self, named) {
            (Self::Update | Self::Delete, Named::AsWritten(table)) => Some(table.name.clone()),
            _ => None,
        }
    }
}

/// `error` with the table that it is about, where it does not name that already.
pub(super) fn about(table: Option<&str>, error: SqlError) -> SqlError {
    let Some(table) = table else { return error };
    let before = format!("table {table}: ");
    let named = error.message.starts_with(&before) || error.message.starts_with("unknown table");
    if named { error } else { SqlError { message: format!("{before}{}", error.message), ..error } }
}

impl Engine {
    pub(super) fn cluster_of(&self, table: &str) -> Option<&str> {
        let found = self.clusters.iter().find(|(_, cluster)| cluster.tables().contains(table));
        found.map(|(name, _)| name.as_str())
    }

    /// The cluster that must order a write, `None` for a plain table; an error when it was named wrongly.
    fn writing_cluster(&self, named: &Named<'_>) -> Result<Option<String>, SqlError> {
        let table = named.table();
        let of = self.cluster_of(table);
        let Named::AsWritten(written) = named else { return Ok(of.map(str::to_owned)) };
        match (of, &written.cluster) {
            (Some(of), Some(written)) if of == written => Ok(Some(of.to_owned())),
            (Some(of), _) => {
                Err(SqlError::new(format!("table '{table}' is a part of cluster '{of}', use '{of}:{table}'")))
            }
            (None, Some(_)) if self.node.storage.schema(table).is_some() => {
                Err(SqlError::new(format!("table '{table}' is not in any cluster, use just '{table}'")))
            }
            (None, Some(cluster)) if !self.clusters.contains_key(cluster) => {
                Err(crate::cluster::errors::unknown(cluster))
            }
            (None, _) => Ok(None),
        }
    }

    /// INSERT, REPLACE, UPDATE, DELETE, TRUNCATE of a client.
    pub(super) fn write_statement(&mut self, asker: Asker, session: SessionId, statement: Statement) {
        let table = match &statement {
            Statement::Insert(insert) => insert.table.clone(),
            Statement::Update(update) => update.table.clone(),
            Statement::Delete(delete) => delete.table.clone(),
            Statement::Truncate(table) => table.clone(),
            _ => return,
        };
        if table.cluster.is_none() && self.routes.contains_key(&table.name) {
            match statement {
                Statement::Insert(insert) => return self.spread_put(asker, &insert),
                Statement::Update(update) => return self.spread_update(asker, &update),
                Statement::Delete(delete) => return self.spread_delete(asker, &delete),
                // A routing table cannot be emptied; the refusal is that of a table that is not there.
                _ => {}
            }
        }
        let in_transaction = self.session(session).transaction.is_some()
            && matches!(statement, Statement::Insert(_) | Statement::Delete(_));
        if in_transaction {
            let result = self.buffer(session, &table, &statement);
            self.answer(asker, result);
            return;
        }
        self.write(asker, Verb::of(&statement), &Named::AsWritten(&table), |storage, ids| {
            exec::prepare(&statement, storage, ids)
        });
    }

    /// Adds a write to the session's transaction.
    fn buffer(
        &mut self,
        session: SessionId,
        table: &TableRef,
        statement: &Statement,
    ) -> Result<Reply, SqlError> {
        self.writing_cluster(&Named::AsWritten(table))?;
        let node = &mut self.node;
        let mut ids = || node.ids.next();
        let write = exec::prepare(statement, &mut *node.storage, &mut ids)?;
        let affected = touched(&write);
        let transaction = self.session(session).transaction.get_or_insert_default();
        transaction.add(table.cluster.clone(), write)?;
        Ok(Reply::Done { affected })
    }

    /// COMMIT: the buffered writes at once, or, when that fails, never.
    pub(super) fn commit(&mut self, asker: Asker, session: SessionId) {
        let Some((cluster, write)) = self.end_transaction(session) else {
            self.answer(asker, Ok(Reply::Done { affected: 0 }));
            return;
        };
        let table = TableRef { cluster, name: write.table.clone() };
        self.write(asker, Verb::Put, &Named::AsWritten(&table), |_, _| Ok(write));
    }

    /// The way of every write to a table of this node.
    pub(super) fn write(
        &mut self,
        asker: Asker,
        verb: Verb,
        named: &Named<'_>,
        prepare: impl FnOnce(&mut dyn Storage, &mut dyn FnMut() -> i64) -> Result<WriteSet, SqlError>,
    ) {
        self.drop_stale_locks();
        let checked = self.writing_cluster(named).and_then(|cluster| {
            if self.locks.is_locked(named.table()) {
                return Err(verb.locked(named));
            }
            // A duplicate shows before the cluster's state does, as recorded.
            let node = &mut self.node;
            let mut ids = || node.ids.next();
            Ok((cluster, prepare(&mut *node.storage, &mut ids)?))
        });
        let of = verb.about(named);
        match checked {
            Err(error) => self.answer(asker, Err(about(of.as_deref(), error))),
            Ok((None, write)) => {
                let result = exec::apply(&write, &mut *self.node.storage, None);
                self.answer(asker, result.map(|affected| Reply::Done { affected }));
            }
            Ok((Some(cluster), write)) => self.replicate(asker, &cluster, &write, of),
        }
    }

    fn replicate(&mut self, asker: Asker, cluster: &str, write: &WriteSet, about: Option<String>) {
        let affected = touched(write);
        let keys = keys(write);
        let payload = Payload::from(postcard::to_stdvec(write).expect("plain data has bytes"));
        let number = self.number();
        self.waiting.insert(number, Waiting { asker, affected, about });
        let submitted = self.with_cluster(cluster, |cluster, host| {
            cluster.submit(host, Ticket(number), Write { keys, payload, blind: write.blind })
        });
        if let Some(Err(error)) = submitted {
            self.outcome(number, Err(error));
        }
        self.settle();
    }
}

/// How many documents the client is told of.
fn touched(write: &WriteSet) -> u64 {
    let ids = |change: &Change| match change {
        Change::Put(rows) => rows.len(),
        Change::Delete(ids) | Change::Update { ids, .. } => ids.len(),
        Change::Truncate => 0,
    };
    write.rows_named.unwrap_or_else(|| write.changes.iter().map(ids).sum::<usize>() as u64)
}

/// What two nodes must not write at once: each document, or the table as a whole.
fn keys(write: &WriteSet) -> Vec<u64> {
    let table = write.table.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let key = |id: i64| {
        let mixed = (table ^ id as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    };
    write.ids().map_or_else(|| vec![table], |ids| ids.into_iter().map(key).collect())
}
