//! What a statement asks of a user, where nodes have users: as searchd 29.0.2 asks it.

use super::ast::{ClusterAction, Statement};
use model::{UserAction, UserRights};

/// One thing that a user must be allowed. A statement can need several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// This action on what is named so.
    Right(UserAction, &'a str),
    /// This action on something, whatever it is.
    Some(UserAction),
    /// searchd lets nobody: `LOCK TABLES`, `UNLOCK TABLES` and `EXIT CLUSTER` under users of every kind.
    Nobody,
}

impl Need<'_> {
    pub fn is_met_by(&self, rights: &UserRights) -> bool {
        match self {
            Self::Right(action, target) => rights.may(*action, target),
            Self::Some(action) => rights.may_somewhere(*action),
            Self::Nobody => false,
        }
    }
}

/// What the statement needs; nothing for what tells nothing and changes nothing.
pub fn needs(statement: &Statement) -> Vec<Need<'_>> {
    use UserAction::{Read, Replication, Schema, Write};
    match statement {
        Statement::Select(select) if select.from.is_empty() => vec![Need::Some(Read)],
        // searchd asks for the first table alone.
        Statement::Select(select) => select.from.iter().map(|table| Need::Right(Read, table)).collect(),
        Statement::Describe { table } | Statement::ShowCreateTable { table, .. } => {
            vec![Need::Right(Read, table)]
        }
        Statement::ShowTables { .. } | Statement::ShowWarnings | Statement::ShowMeta { .. } => {
            vec![Need::Some(Read)]
        }
        Statement::Insert(insert) => vec![Need::Right(Write, &insert.table.name)],
        Statement::Update(update) => vec![Need::Right(Write, &update.table.name)],
        Statement::Delete(delete) => vec![Need::Right(Write, &delete.table.name)],
        Statement::Truncate(table) | Statement::FlushRamchunk(table) | Statement::Optimize { table, .. } => {
            vec![Need::Right(Write, &table.name)]
        }
        Statement::CreateTable(create) => vec![Need::Right(Schema, &create.table.name)],
        Statement::DropTable(drop) => vec![Need::Right(Schema, &drop.table.name)],
        Statement::AlterTable(alter) => vec![Need::Right(Schema, &alter.table.name)],
        Statement::ShowStatus { .. }
        | Statement::ShowSettings
        | Statement::ShowThreads
        | Statement::ShowLocks => {
            vec![Need::Some(Schema)]
        }
        Statement::Cluster(cluster) => match cluster.action {
            ClusterAction::Exit => vec![Need::Nobody],
            ClusterAction::Set { .. } => vec![Need::Right(Write, &cluster.name)],
            _ => vec![Need::Right(Replication, &cluster.name)],
        },
        Statement::LockTables(_) | Statement::UnlockTables => vec![Need::Nobody],
        Statement::ShowVariables { .. }
        | Statement::Set(_)
        | Statement::Begin
        | Statement::Commit
        | Statement::Rollback => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse;
    use model::UserRule;

    /// Who may what, as it was recorded with a user of 29.0.2 that had one right at a time on everything.
    #[test]
    fn each_statement_needs_what_searchd_asked_for_it() {
        for (sql, needed) in [
            ("SELECT * FROM t1", "read"),
            ("SELECT 1", "read"),
            ("SHOW TABLES", "read"),
            ("DESC t1", "read"),
            ("SHOW CREATE TABLE t1", "read"),
            ("SHOW META", "read"),
            ("INSERT INTO t1 (id,x) VALUES (1,2)", "write"),
            ("UPDATE t1 SET x=1 WHERE id=1", "write"),
            ("DELETE FROM t1 WHERE id=1", "write"),
            ("TRUNCATE TABLE t1", "write"),
            ("OPTIMIZE TABLE t1", "write"),
            ("FLUSH RAMCHUNK t1", "write"),
            ("SET CLUSTER cc GLOBAL 'pc.bootstrap'=1", "write"),
            ("CREATE TABLE q1 (x int)", "schema"),
            ("DROP TABLE q1", "schema"),
            ("ALTER TABLE q1 ADD COLUMN y int", "schema"),
            ("SHOW STATUS LIKE 'uptime'", "schema"),
            ("SHOW THREADS", "schema"),
            ("SHOW SETTINGS", "schema"),
            ("CREATE CLUSTER cc", "replication"),
            ("ALTER CLUSTER cc ADD t1", "replication"),
            ("DELETE CLUSTER cc", "replication"),
            ("LOCK TABLES t1 READ", "none"),
            ("UNLOCK TABLES", "none"),
            ("EXIT CLUSTER cc", "none"),
        ] {
            let statement = parse(sql).expect(sql);
            for action in UserAction::ALL {
                let rule = UserRule { action, target: "*".to_owned(), allow: true };
                let rights = UserRights { user: "u".to_owned(), rules: vec![rule] };
                let may = needs(&statement).iter().all(|need| need.is_met_by(&rights));
                assert_eq!(may, action.as_str() == needed, "{sql} with {action}");
            }
        }
        let of = |sql: &str, target: &str| {
            let rule = UserRule { action: UserAction::Read, target: target.to_owned(), allow: true };
            let rights = UserRights { user: "u".to_owned(), rules: vec![rule] };
            needs(&parse(sql).expect(sql)).iter().all(|need| need.is_met_by(&rights))
        };
        assert!(of("SELECT 1", "t*") && of("SELECT * FROM t1", "t*") && !of("SELECT * FROM z1", "t*"));
        assert!(!of("SELECT * FROM t1, z1", "t*"), "the second table counts, too");
    }
}
