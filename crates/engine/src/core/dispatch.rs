//! From a statement's text to the one who does it.

use super::{
    Asker, Engine, RUNNING_MAX,
    session::{Running, Session, Transaction},
};
use crate::{
    exec,
    io::{Reply, RequestId, SessionId, SqlError, Value},
    sql::{
        self, Statement,
        ast::{LockMode, Select, Set, TableRef},
        expr::Literal,
    },
};

const DONE: Result<Reply, SqlError> = Ok(Reply::Done { affected: 0 });

impl Engine {
    pub(super) fn statement(&mut self, request: RequestId, session: SessionId, text: &str) {
        self.statements += 1;
        self.sessions.entry(session).or_default();
        let full = self.running.len() >= RUNNING_MAX;
        self.running.insert(request, Running::new(session, self.node.now, text));
        let asker = Asker::Client(request);
        if full {
            let text = format!("{RUNNING_MAX} statements are under way on this node: try again later");
            self.answer(asker, Err(SqlError::new(text)));
            return;
        }
        match sql::parse(text) {
            Ok(statement) => self.dispatch(asker, session, statement),
            Err(error) => self.answer(asker, Err(error)),
        }
    }

    /// Answers, or sees to it that an answer comes.
    fn dispatch(&mut self, asker: Asker, session: SessionId, statement: Statement) {
        let result = match statement {
            Statement::Select(select) => return self.select(asker, session, select),
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Truncate(_) => {
                return self.write_statement(asker, session, statement);
            }
            Statement::Commit => return self.commit(asker, session),
            Statement::Cluster(statement) => return self.cluster_statement(asker, statement),
            Statement::CreateTable(create) => self.create_table(&create),
            Statement::DropTable(drop) => self.drop_table(&drop),
            Statement::AlterTable(alter) => self.alter_table(&alter),
            Statement::ShowTables { system, like } => Ok(self.show_tables(system, like.as_deref())),
            Statement::Describe { table } => self.describe(&table),
            Statement::ShowCreateTable { table, force } => self.show_create_table(&table, force),
            Statement::ShowStatus { like } => Ok(self.show_status(like.as_deref())),
            Statement::ShowVariables { like } => Ok(self.show_variables(like.as_deref())),
            Statement::ShowSettings => Ok(self.show_settings()),
            Statement::ShowThreads => Ok(self.show_threads()),
            Statement::ShowWarnings => Ok(self.show_warnings(session)),
            Statement::ShowMeta { like } => Ok(self.show_meta(session, like.as_deref())),
            Statement::Set(set) => {
                self.set(session, &set);
                DONE
            }
            Statement::Begin => {
                self.session(session).transaction.get_or_insert_default();
                DONE
            }
            Statement::Rollback => {
                self.end_transaction(session);
                DONE
            }
            Statement::ShowLocks => Ok(self.show_locks()),
            Statement::LockTables(tables) => self.lock_tables(session, &tables),
            Statement::UnlockTables => {
                self.locks.unlock_all(session);
                DONE
            }
            Statement::FlushRamchunk(table) => self.touch_table(&table, "FLUSH RAMCHUNK", "RT table"),
            Statement::Optimize { table, .. } if self.routes.contains_key(&table.name) => {
                Err(SqlError::new("OPTIMIZE TABLE requires an existing RT table"))
            }
            Statement::Optimize { table, .. } => {
                self.touch_table(&table, "OPTIMIZE TABLE", "RT, distributed, or shard table")
            }
        };
        self.answer(asker, result);
    }

    pub(super) fn session(&mut self, session: SessionId) -> &mut Session {
        self.sessions.entry(session).or_default()
    }

    pub(super) fn close_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.locks.unlock_all(session);
        self.running.retain(|_, running| running.session != session);
    }

    /// Keeps what SHOW META and SHOW WARNINGS tell of the last statement.
    pub(super) fn note_result(&mut self, session: SessionId, result: &Result<Reply, SqlError>) {
        if let Some(session) = self.sessions.get_mut(&session)
            && let Ok(Reply::Rows(rows)) = result
        {
            session.found = rows.total;
            session.warning.clone_from(&rows.warning);
        }
    }

    fn select(&mut self, asker: Asker, session: SessionId, select: Select) {
        if select.from.iter().any(|table| self.routes.contains_key(table)) {
            self.spread_select(asker, select);
            return;
        }
        let result = if select.from.is_empty() {
            let variable = |name: &str| self.variable(name);
            let constants =
                exec::Session { version: &self.config.version, connection: session.0, variable: &variable };
            exec::select_constants(&select, &constants)
        } else {
            exec::select(&select, &mut *self.node.storage)
        };
        self.answer(asker, result.map(Reply::Rows));
    }

    /// Variables are for drivers that ask; what is set is not kept, but for `autocommit`.
    fn set(&mut self, session: SessionId, set: &Set) {
        if !set.name.eq_ignore_ascii_case("autocommit") {
            return;
        }
        let off = match &set.value {
            Literal::Int(value) => *value == 0,
            Literal::Text(text) => text.eq_ignore_ascii_case("off"),
            _ => false,
        };
        let session = self.session(session);
        if off {
            session.transaction.get_or_insert_default().autocommit_off = true;
        } else if let Some(transaction) = &mut session.transaction {
            transaction.autocommit_off = false;
        }
    }

    /// Throws the open writes away. With autocommit off the next transaction is open at once.
    pub(super) fn end_transaction(&mut self, session: SessionId) -> Option<(Option<String>, exec::WriteSet)> {
        let session = self.session(session);
        let transaction = session.transaction.take()?;
        if transaction.autocommit_off {
            session.transaction = Some(Transaction { autocommit_off: true, write: None });
        }
        transaction.write
    }

    /// A statement that has nothing to do here but to find its table.
    fn touch_table(&mut self, table: &TableRef, what: &str, kind: &str) -> Result<Reply, SqlError> {
        if self.node.storage.schema(&table.name).is_some() {
            return DONE;
        }
        Err(SqlError::new(format!("{what} requires an existing {kind}")))
    }

    /// LOCK TABLES. As in MySQL it lets go of the session's old locks; of its tables those before a refused one stay
    /// locked.
    fn lock_tables(
        &mut self,
        session: SessionId,
        tables: &[(TableRef, LockMode)],
    ) -> Result<Reply, SqlError> {
        self.locks.unlock_all(session);
        for (TableRef { name, .. }, mode) in tables {
            if self.node.storage.schema(name).is_none() {
                return Err(SqlError::new(format!("Table {name} absent, or not suitable for lock")));
            }
            if self.cluster_of(name).is_some() {
                return Err(SqlError::new(format!(
                    "Table {name} is member of a cluster; not suitable for lock"
                )));
            }
            if *mode == LockMode::Read {
                self.locks.lock(session, name);
            }
        }
        DONE
    }

    /// Ends the locks of tables that have gone or have joined a cluster.
    pub(super) fn drop_stale_locks(&mut self) {
        let clusters = &self.clusters;
        let storage = &self.node.storage;
        self.locks.retain(|table| {
            storage.schema(table).is_some()
                && !clusters.values().any(|cluster| cluster.tables().contains(table))
        });
    }

    /// What `@@name` and SHOW VARIABLES say.
    pub(super) fn variable(&self, name: &str) -> Option<Value> {
        let (_, value) = self.variables().into_iter().find(|(known, _)| *known == name)?;
        Some(value.parse().map_or(Value::Text(value), Value::Int))
    }
}
