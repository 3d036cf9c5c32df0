//! Work on one shard of a routing table, done where the shard is.

use super::{
    Asker, Engine,
    write::{Named, Verb},
};
use crate::{
    exec::{self, WriteSet},
    io::{Reply, SqlError},
    routing::Work,
    sql::Statement,
};

impl Engine {
    pub(super) fn work(&mut self, asker: Asker, work: Work) {
        match work {
            Work::Select(select) => {
                let result = exec::select(&select, &mut *self.node.storage);
                self.answer(asker, result.map(Reply::Rows));
            }
            Work::Put { table, replace, rows, token } => {
                self.write(asker, Verb::Put, &Named::ByRoute(&table), |storage, _| {
                    let write = exec::put_rows(&table, rows.decode()?, replace, storage)?;
                    Ok(WriteSet { token: Some(token), ..write })
                });
            }
            Work::PutAgain { put, lost, age } => self.put_again(asker, *put, lost, age),
            Work::Update(update) => {
                let table = update.table.name.clone();
                let statement = Statement::Update(update);
                self.work_statement(asker, &table, &statement);
            }
            Work::Delete(delete) => {
                let table = delete.table.name.clone();
                if self.node.storage.schema(&table).is_none() {
                    return self.answer(asker, Err(SqlError::new(format!("table '{table}' absent"))));
                }
                let statement = Statement::Delete(delete);
                self.work_statement(asker, &table, &statement);
            }
        }
    }

    fn work_statement(&mut self, asker: Asker, table: &str, statement: &Statement) {
        self.write(asker, Verb::of(statement), &Named::ByRoute(table), |storage, ids| {
            exec::prepare(statement, storage, ids)
        });
    }

    /// Routing tables cannot stand behind routing tables.
    pub(super) fn check_work(&self, work: &Work) -> Result<(), SqlError> {
        match work {
            Work::Put { table, .. } if self.routes.contains_key(table) => {
                Err(SqlError::new(format!("table '{table}' absent")))
            }
            Work::PutAgain { put, .. } => self.check_work(put),
            _ => Ok(()),
        }
    }
}
