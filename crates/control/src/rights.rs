//! What a user of searchd may ask for over SQL, by searchd's own rules for him, and what of a list he sees.
//!
//! A statement about a table needs what searchd would ask for the like of it. What moves other tables along needs what
//! searchd asks for changes of the cluster. What over the API is for cluster admins alone needs `admin`, as does a look at
//! the control state and its queue.

use crate::Controller;
use crate::operation::Operation;
use model::api::Alert;
use model::wire::{RebalanceOrder, ShardingStatement, View};
use model::{GroupId, OperationId, TableName, UserAction, UserRights};
use std::collections::BTreeSet;

/// Whose eyes see an answer: a user's, or those of somebody who was let through before and sees everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a>(pub(crate) Option<&'a UserRights>);

impl Sight<'_> {
    pub(crate) const EVERYTHING: Self = Self(None);

    pub(crate) fn sees(self, table: &str) -> bool {
        self.0.is_none_or(|rights| rights.may(UserAction::Read, table))
    }

    pub(crate) fn sees_all(self) -> bool {
        self.0.is_none_or(|rights| rights.may_to_all(UserAction::Read))
    }

    /// Whether all of `tables` may be seen; what is about none is for those who see all.
    fn sees_each(self, tables: &BTreeSet<TableName>) -> bool {
        self.sees_all() || !tables.is_empty() && tables.iter().all(|table| self.sees(table.as_str()))
    }
}

/// What a statement needs.
enum Need<'a> {
    /// Every user: what is answered is cut to what he sees.
    Sight,
    Table(UserAction, &'a TableName),
    /// To see every table.
    All,
    /// To change the cluster that all tables are in.
    Cluster,
    Admin,
    /// It is never typed.
    NoSql,
}

fn need(statement: &ShardingStatement) -> Need<'_> {
    use ShardingStatement as S;
    match statement {
        S::CreateTable { spec, .. } => Need::Table(UserAction::Schema, &spec.name),
        S::DropTable { name, .. } | S::SetRf { name, .. } => Need::Table(UserAction::Schema, name),
        S::TruncateTable { name } | S::OptimizeTable { name } | S::FlushRamchunk { name } => {
            Need::Table(UserAction::Write, name)
        }
        S::ShowStatus { name: Some(name), .. } | S::ExplainShard { name, .. } => {
            Need::Table(UserAction::Read, name)
        }
        S::ShowStatus { name: None, .. } | S::ShowMaster | S::ShowOperations | S::ShowAlerts => Need::Sight,
        S::SelectView { query } => match query.view {
            View::Table => Need::Sight,
            View::State | View::Queue => Need::Admin,
        },
        // They name the other tables that move along.
        S::Rebalance { order: RebalanceOrder::DryRun | RebalanceOrder::Status, .. } => Need::All,
        S::Rebalance { .. } | S::MoveShard { .. } | S::DrainNode { .. } | S::UndrainNode { .. } => {
            Need::Cluster
        }
        S::ShowQueue | S::RemoveNode { .. } => Need::Admin,
        S::Silence { .. }
        | S::RecoverGroup { .. }
        | S::Gate { .. }
        | S::Backup { .. }
        | S::Restore { .. }
        | S::Import { .. }
        | S::Recover
        | S::CleanUp => Need::NoSql,
    }
}

impl Controller {
    /// Why the user may not have this done, in searchd's words.
    pub(crate) fn permitted(&self, statement: &ShardingStatement, rights: &UserRights) -> Result<(), String> {
        let cluster = self.state.cluster.as_ref().map_or("", GroupId::as_str);
        let (may, action, on) = match need(statement) {
            Need::Sight => return Ok(()),
            Need::Table(action, name) => {
                (rights.may(action, name.as_str()), action, format!("table '{name}'"))
            }
            Need::All => (rights.may_to_all(UserAction::Read), UserAction::Read, "every table".to_owned()),
            Need::Cluster if cluster.is_empty() => {
                let action = UserAction::Replication;
                (rights.may_to_all(action), action, "every cluster".to_owned())
            }
            Need::Cluster => {
                let action = UserAction::Replication;
                (rights.may(action, cluster), action, format!("cluster '{cluster}'"))
            }
            Need::Admin => (rights.may_to_all(UserAction::Admin), UserAction::Admin, "everything".to_owned()),
            Need::NoSql => {
                return Err(format!(
                    "Permission denied for user '{}': this is not asked over SQL",
                    rights.user
                ));
            }
        };
        if may {
            return Ok(());
        }
        Err(format!("Permission denied for user '{}': requires {action} permission on {on}", rights.user))
    }

    pub(crate) fn operation_is_seen(&self, operation: &Operation, sight: Sight<'_>) -> bool {
        let mut tables = BTreeSet::new();
        tables.extend(operation.table().cloned());
        if let Some(group) = operation.group() {
            tables.extend(self.tables_in(group));
        }
        sight.sees_each(&tables)
    }

    pub(crate) fn alert_is_seen(&self, alert: &Alert, sight: Sight<'_>) -> bool {
        if sight.sees_all() {
            return true;
        }
        let label = |name: &str| alert.labels.get(name);
        if let Some(id) = label("operation").and_then(|id| id.parse().ok()) {
            let known = self.state.operations.get(&OperationId(id));
            return known.is_some_and(|operation| self.operation_is_seen(operation, sight));
        }
        let mut tables = BTreeSet::new();
        tables.extend(label("table").and_then(|name| TableName::new(name.as_str()).ok()));
        if let Some(group) = label("group").and_then(|id| GroupId::new(id.clone()).ok()) {
            tables.extend(self.tables_in(&group));
        }
        sight.sees_each(&tables)
    }

    fn tables_in(&self, group: &GroupId) -> BTreeSet<TableName> {
        self.state.groups.get(group).map(crate::state::Group::table_names).unwrap_or_default()
    }
}
