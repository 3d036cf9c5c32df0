//! What an operator orders of backups, and what is shown of them.

use super::Backup;
use crate::Controller;
use crate::catalogue;
use crate::operation::{Kind, NewGroup};
use crate::state::TableStatus;
use model::wire::StatementReply;
use model::{
    BackupCause, BackupId, BackupOrder, BackupState, GroupId, NodeId, OperationId, RestoreOrder, ShardRecord,
    TableName, TableSpec,
};
use std::collections::{BTreeMap, BTreeSet};

/// Backups and restores with documents under way: each reads and writes as fast as it may.
const COPYING_MAX: usize = 4;

type Refusal = String;

impl Controller {
    pub(crate) fn order_backup(&mut self, order: &BackupOrder) -> Result<StatementReply, Refusal> {
        let name = &order.name;
        match self.state.tables.get(name).map(|known| known.status) {
            None => return Err(no_table(name)),
            Some(TableStatus::Active) => {}
            Some(_) => {
                return Err(format!("table '{name}' is being created or dropped: retry when that is done"));
            }
        }
        if order.with_data.is_some() {
            self.check_room()?;
        }
        let (to, pace) = (order.with_data.as_deref(), order.mib_per_second);
        let backup = self.add_backup(name, to, order.checksums, pace, BackupCause::Order);
        let backup = backup.ok_or("the operation could not be made")?;
        Ok(self.begun("backup_id", backup.to_string()))
    }

    fn check_room(&self) -> Result<(), Refusal> {
        if self.copying() >= COPYING_MAX {
            return Err(format!(
                "{COPYING_MAX} backups and restores with documents are under way: retry when one is done"
            ));
        }
        Ok(())
    }

    /// The latest operation, beside what it is for.
    fn begun(&self, what: &str, value: String) -> StatementReply {
        let operation = self.state.operations.keys().next_back().map(ToString::to_string);
        StatementReply::Rows {
            columns: vec![what.to_owned(), "operation".to_owned()],
            rows: vec![vec![Some(value), operation]],
        }
    }

    /// A table that is not there is made where it was, as far as those nodes are there; one that is there is filled.
    pub(crate) fn order_restore(&mut self, order: &RestoreOrder) -> Result<StatementReply, Refusal> {
        let (data, name) = (&order.data, &order.data.table);
        self.check_room()?;
        if self.is_busy(|kind| matches!(kind, Kind::Restore { table, .. } if table == name)) {
            return Err(format!("table '{name}' is being restored already"));
        }
        let known =
            self.state.tables.get(name).map(|known| (known.status, known.spec.clone(), known.generation));
        let (create, generation) = match known {
            Some((TableStatus::Active, spec, generation)) => {
                check_same(&spec, order)?;
                (None, generation)
            }
            Some(_) => {
                return Err(format!("table '{name}' is being created or dropped: retry when that is done"));
            }
            None => {
                let cluster = data.cluster.as_ref().map(|recorded| self.cluster_for(recorded));
                let spec = TableSpec {
                    name: name.clone(),
                    cluster,
                    schema: data.schema.clone(),
                    shards: data.shards,
                    rf: order.rf.unwrap_or(data.rf),
                };
                let id = self.create_as_recorded(spec, &data.placement)?;
                (Some(id), self.state.generations.get(name).copied().unwrap_or_default())
            }
        };
        let kind = Kind::Restore {
            backup: data.backup_id.clone(),
            table: name.clone(),
            generation,
            create,
            from: order.from.clone(),
            overwrite: order.overwrite,
            mib_per_second: order.mib_per_second,
        };
        self.add(|_, id, unix| Some(catalogue::restore(id, kind, data.shards, unix)));
        Ok(self.begun("table", name.to_string()))
    }

    /// The cluster of this controller, whatever it was called where the backup was made.
    fn cluster_for(&self, recorded: &str) -> String {
        let own = self.state.cluster.clone().or_else(|| self.user_clusters().pop_first());
        own.map_or_else(|| recorded.to_owned(), Into::into)
    }

    /// The groups that held the shards, as they were: those that are still there, and new ones on the same nodes. `None`
    /// when a node of them is not there to take a copy, or the number of copies is another.
    pub(crate) fn groups_as_recorded(
        &mut self,
        spec: &TableSpec,
        placement: &[ShardRecord],
    ) -> Option<(Vec<NewGroup>, Vec<GroupId>)> {
        let placing: BTreeSet<NodeId> = self.state.placing_nodes().cloned().collect();
        let whole = |shard: &ShardRecord| {
            shard.nodes.len() == spec.rf as usize && shard.nodes.iter().all(|node| placing.contains(node))
        };
        if placement.len() != spec.shards as usize || !placement.iter().all(whole) {
            return None;
        }
        let mut made: BTreeMap<(Vec<NodeId>, u32), GroupId> = BTreeMap::new();
        let (mut new_groups, mut homes) = (Vec::new(), Vec::new());
        for shard in placement {
            let mut members = shard.nodes.clone();
            members.sort();
            let there = self.state.groups.iter().find(|(id, group)| {
                spec.rf > 1
                    && group.rf == spec.rf
                    && self.takes_shards(id)
                    && group.members.keys().eq(members.iter())
            });
            // With one copy every shard is a unit of its own.
            let own = if spec.rf == 1 { shard.shard } else { 0 };
            let home = match (there.map(|(id, _)| id.clone()), made.get(&(members.clone(), own))) {
                (Some(id), _) => id,
                (None, Some(id)) => id.clone(),
                (None, None) => {
                    let id = self.new_group_id();
                    new_groups.push(NewGroup { id: id.clone(), rf: spec.rf, members: members.clone() });
                    made.insert((members, own), id.clone());
                    id
                }
            };
            homes.push(home);
        }
        Some((new_groups, homes))
    }

    /// The shards of a table, with who serves them.
    pub fn sources_of(&self, table: &TableName) -> Result<Vec<super::Source>, String> {
        let known = self.state.tables.get(table).ok_or_else(|| no_table(table))?;
        self.sources(table, 0..known.spec.shards)
    }

    pub fn backups(&self) -> impl Iterator<Item = &Backup> {
        self.state.backups.values()
    }

    pub fn backup(&self, id: &BackupId) -> Option<&Backup> {
        self.state.backups.get(id)
    }

    /// How far the operation that makes or restores a backup is: its state, and steps done of all.
    pub fn copying_state(&self, id: OperationId) -> Option<(BackupState, u64, u64, Option<String>)> {
        let running = self.state.operations.get(&id);
        let known = running.or_else(|| self.state.finished.iter().rev().find(|known| known.id == id))?;
        let done = known.steps.iter().filter(|step| step.status.lets_go_on()).count() as u64;
        let state = match known.status {
            crate::operation::Status::Done => BackupState::Complete,
            crate::operation::Status::Failed | crate::operation::Status::Cancelled => BackupState::Failed,
            _ => BackupState::Running,
        };
        let waits = self.flights.waits.iter().find(|((operation, _), _)| *operation == id);
        let why = known.error.clone().or_else(|| waits.map(|(_, why)| why.clone()));
        Some((state, done, known.steps.len() as u64, why))
    }
}

/// A table that is there can be filled when its documents go to the same shards and have the same columns.
fn check_same(spec: &TableSpec, order: &RestoreOrder) -> Result<(), Refusal> {
    let (data, name) = (&order.data, &spec.name);
    if spec.shards != data.shards {
        return Err(format!(
            "table '{name}' has {} shards and the backup {}: drop it first if it is of no use",
            spec.shards, data.shards
        ));
    }
    let columns = |schema: &model::Schema| -> Vec<(String, String)> {
        let own = schema.columns.iter().filter(|column| !column.name.eq_ignore_ascii_case("id"));
        own.map(|column| (column.name.to_lowercase(), column.kind.clone())).collect()
    };
    if columns(&spec.schema) != columns(&data.schema) {
        return Err(format!(
            "table '{name}' has other columns than the backup: drop it first if it is of no use"
        ));
    }
    match order.rf {
        Some(rf) if rf != spec.rf => Err(format!(
            "table '{name}' is there, with rf {}: change that by ALTER TABLE {name} rf='{rf}'",
            spec.rf
        )),
        _ => Ok(()),
    }
}

fn no_table(name: &TableName) -> String {
    format!("table '{name}' is missing: there is no sharded table of this name")
}
