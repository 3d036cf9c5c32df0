//! Work on one shard of a routing table, done where the shard is.

use super::{Asker, Engine, write::Named};
use crate::{
    exec,
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
            Work::Put { table, replace, rows } => {
                self.write(asker, None, &Named::ByRoute(&table), |storage, _| {
                    exec::put_rows(&table, rows.decode()?, replace, storage)
                });
            }
            Work::Update(update) => {
                let table = update.table.name.clone();
                let statement = Statement::Update(update);
                self.work_statement(asker, &table, &statement);
            }
            Work::Delete(delete) => {
                let table = delete.table.name.clone();
                let statement = Statement::Delete(delete);
                self.work_statement(asker, &table, &statement);
            }
        }
    }

    fn work_statement(&mut self, asker: Asker, table: &str, statement: &Statement) {
        self.write(asker, None, &Named::ByRoute(table), |storage, ids| {
            exec::prepare(statement, storage, ids)
        });
    }

    /// Routing tables cannot stand behind routing tables.
    pub(super) fn check_work(&self, work: &Work) -> Result<(), SqlError> {
        match work {
            Work::Put { table, .. } if self.routes.contains_key(table) => {
                Err(SqlError::new(format!("table '{table}' absent")))
            }
            _ => Ok(()),
        }
    }
}
